# SPDX-License-Identifier: BSD-3-Clause
"""Rates of ports, as they are measured from outside, set and taken away while frames flow.

    generator ─a─ wire ─b─ generator       four times what may pass is offered; every frame is delivered or counted
"""
from __future__ import annotations

import time
import unittest

from patchbay import Case, Daemon, drops, say, wait_for
from traffic import Traffic, stream

MBIT = 1_000_000
WINDOW = 2.0  # seconds
# A tenth of a second at the rate: so long the scheduler may keep a worker from its core.
BURST = 2_500_000


class Rates(Case):
    def delivered(self) -> tuple[float, float, int]:
        """Not before when, not after when, bits that b got."""
        before = time.monotonic()
        stats = self.daemon.stats("w1")
        return before, time.monotonic(), 8 * stats["a_to_b"]["delivered"]["bytes"]

    def check_rate(self, wanted: int) -> None:
        # What the bucket held is gone, and the next is measured.
        bits = self.delivered()[2]
        wait_for("the bucket is empty", lambda: self.delivered()[2] >= bits + 2 * 8 * BURST, 30)

        def measure() -> float:
            first, start, before = self.delivered()
            time.sleep(WINDOW)
            end, last, after = self.delivered()
            # Never more, however the machine is: than so long at the rate, and what a full bucket holds.
            most = wanted * (last - first) * 1.001 + 8 * BURST
            if after - before > most:
                raise RuntimeError(f"{after - before} bits passed in {last - first:.3f} s, more than {most:.0f}")
            # And once nobody takes a worker from its core for longer than a bucket lasts, just the rate.
            ratio = 2 * (after - before) / (last + end - first - start) / wanted
            assert 0.97 < ratio < 1.03, f"{ratio:.4f} of the rate passes"
            return ratio

        say(f"rate {wanted // MBIT} Mbit/s: {100 * wait_for('the rate is reached', measure, 30):.2f} % of it measured")

    def test_rates(self) -> None:
        self.daemon = Daemon(self)
        for name in ("a", "b"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", stall_ms=60000)
        traffic = Traffic(self, self.daemon, ["b", "a"], ["a>b"], size="1000", rate=100_000, settle=1)
        self.daemon.cli("conf", "set", "port:b", f"egress_burst={BURST}", check=True)
        self.daemon.cli("conf", "set", "port:b", "egress_bps=200M", check=True)
        self.check_rate(200 * MBIT)
        self.daemon.cli("conf", "set", "port:a", f"ingress_burst={BURST}", check=True)
        self.daemon.cli("conf", "set", "port:a", "ingress_bps=100M", check=True)
        self.check_rate(100 * MBIT)
        self.daemon.cli("conf", "unset", "port:a", "ingress_bps", check=True)
        self.daemon.cli("conf", "unset", "port:b", "egress_bps", check=True)
        # Without rates nothing is dropped any more.
        dropped = drops(self.daemon.stats("w1")["a_to_b"])
        traffic.wait_received(50_000)
        self.assertEqual(drops(self.daemon.stats("w1")["a_to_b"]), dropped)
        own = stream(traffic.stop(), "a>b")
        stats = self.daemon.settled("w1")["a_to_b"]
        self.assertEqual(stats["received"]["frames"], own["sent"])
        self.assertEqual(stats["delivered"]["frames"], own["received"])
        self.assertEqual((own["duplicate"], own["reordered"]), (0, 0))
        self.assertEqual(drops(stats), {"rate_limited": own["lost"]})
        self.assertEqual(drops(stats), dropped)
        self.assertGreater(own["lost"], 0)


if __name__ == "__main__":
    unittest.main()
