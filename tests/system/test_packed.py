# SPDX-License-Identifier: BSD-3-Clause
"""Packed rings of a real driver, DPDK's virtio-user: numbered frames between all kinds of rings, none lost, doubled or
out of order, through a tap and a bump, and a restart of the daemon.

    generator ─a─[ T … T ]─b─ generator      ring by ring, plain and mergeable, in order and not
"""
from __future__ import annotations

import unittest
from typing import Any

from patchbay import MANY, Case, Daemon, drops, say, tee_stats
from traffic import Traffic, check_lossless, port, rate_text

PATIENT: dict[str, Any] = {"stall_ms": 60000}
COUNT = MANY // 20

SPLIT = "mrg=1"
IN_ORDER = "in_order=1,mrg=0"
PACKED = "packed=1,mrg=1"
PACKED_PLAIN = "packed=1,mrg=0"
PACKED_IN_ORDER = "packed=1,in_order=1,mrg=0"
# The driver's vector path, which takes eight packed descriptors at a time.
PACKED_VECTOR = "packed=1,in_order=1,mrg=0,vectorized=1"
PACKED_ODD = "packed=1,in_order=1,mrg=1,queue_size=1024"


class Packed(Case):
    def setUp(self) -> None:
        self.daemon = Daemon(self)
        for name in ("a", "b", "m", "n"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)

    def shown(self, options: dict[str, str], **states: str) -> None:
        """The status names the rings while the driver is there."""
        for name, option in options.items():
            self.assertEqual(self.daemon.wait_vif(name)["ring"], "packed" if "packed=1" in option else "split", name)

    def test_wire(self) -> None:
        for a, b in ((PACKED, PACKED), (PACKED_PLAIN, PACKED_IN_ORDER), (PACKED_IN_ORDER, SPLIT), (SPLIT, PACKED),
                     (IN_ORDER, PACKED_PLAIN), (PACKED_VECTOR, PACKED_ODD)):
            with self.subTest(a=a, b=b):
                before = self.daemon.settled("w1")
                traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"], count=COUNT,
                                  options={"a": a, "b": b})
                self.shown({"a": a, "b": b})
                result = traffic.wait()
                check_lossless(result, COUNT)
                say(f"{a} and {b}: {rate_text(result)}")
                stats = self.daemon.settled("w1")
                for way in ("a_to_b", "b_to_a"):
                    self.assertEqual(stats[way]["delivered"]["frames"] - before[way]["delivered"]["frames"], COUNT)
                    self.assertEqual(drops(stats[way]), {}, way)

    def test_tap(self) -> None:
        """A monitor of the other kind than the receiver gets the same frames in the same pass."""
        self.daemon.tee("w1", "ids", port="m")
        for receiver, monitor in ((SPLIT, PACKED), (PACKED, SPLIT), (PACKED_IN_ORDER, PACKED_IN_ORDER)):
            with self.subTest(receiver=receiver, monitor=monitor):
                before = tee_stats(self.daemon.settled("w1"), "ids")
                result = Traffic(self, self.daemon, ["m", "a", "b"], ["a>b", "b>a"], monitors=["m"], count=COUNT,
                                 options={"a": receiver, "b": receiver, "m": monitor}).wait()
                check_lossless(result, COUNT)
                tap = tee_stats(self.daemon.settled("w1"), "ids")
                copies = [one["monitors"][0] for one in result["streams"]]
                self.assertEqual(tap["offered"] - before["offered"], 2 * COUNT)
                self.assertEqual(tap["copied"]["frames"] - before["copied"]["frames"],
                                 sum(one["unique"] for one in copies))
                self.assertGreater(sum(one["unique"] for one in copies), COUNT // 10)

    def test_bump(self) -> None:
        """Through an appliance with packed rings, between two ends of which one has split ones."""
        self.daemon.tee("w1", "fw", "?force=1", port="m", out_port="n", mode="bump", **PATIENT)
        result = Traffic(self, self.daemon, ["m", "n", "a", "b"], ["a>b", "b>a"], reflect=["m:n"], count=COUNT,
                         options={"a": PACKED_IN_ORDER, "b": SPLIT, "m": PACKED, "n": PACKED_IN_ORDER}).wait()
        check_lossless(result, COUNT)
        bump = tee_stats(self.daemon.settled("w1"), "fw")
        self.assertEqual((bump["into"]["frames"], bump["out"]["frames"]), (2 * COUNT, 2 * COUNT))
        self.assertEqual(port(result, "b")["rx_frames"], COUNT)


if __name__ == "__main__":
    unittest.main()
