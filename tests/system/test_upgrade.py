# SPDX-License-Identifier: BSD-3-Clause
"""What docs/upgrade.md promises, as two stock Linux guests see it: the gap, what goes on, what begins anew.

    a ──w1── b          the daemon is ended and started under pings, 100 a second
"""
from __future__ import annotations

import hashlib
import re
import subprocess
import time
import unittest
from typing import Any, Callable

from guests import QUIET, Guest, Nic, ping_all, resumes, silent, wait_all
from pace import best
from patchbay import PATCHBAYD, SLOW, Case, Daemon, drops, leg, register, say, to, wait_for, wire_path, witness

A, B = "10.9.3.1", "10.9.3.2"
PINGS = 800
GAP_S, OWN_S = 3.0 * SLOW, 2.0 * SLOW


def longest_gap(output: str) -> tuple[float, int]:
    """Of pings at a fixed interval, between two readings of /proc/uptime: the longest time without an answer, in seconds
    by the guest's clock, that at the end included, and how many had none."""
    ends = [float(line.split()[0]) for line in output.splitlines() if re.fullmatch(r"[\d.]+ [\d.]+", line.strip())]
    count = int(re.search(r"(\d+) packets transmitted", output)[1])
    interval = (ends[1] - ends[0]) / count
    answers = sorted(int(seq) * interval + float(ms) / 1000
                     for seq, ms in re.findall(r"seq=(\d+) .*time=([\d.]+) ms", output))
    times = [0.0, *answers, max(ends[1] - ends[0], answers[-1] if answers else 0.0)]
    return max(later - sooner for sooner, later in zip(times, times[1:])), count - len(answers)


class Upgrade(Case):
    daemon: Daemon
    a: Guest
    b: Guest

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon(cls)
        paths = {name: cls.daemon.plug(name, "vhost" if name == "b" else "vhost-server")
                 for name in ("a", "b", "fw-in", "fw-out")}
        cls.daemon.wire("w1", "a", "b")
        cls.a = cls.guest("a", Nic(paths["a"], ip=f"{A}/24"))
        cls.b = cls.guest("b", Nic(paths["b"], ip=f"{B}/24", server=True))
        wait_all([cls.a, cls.b], 120)

    @classmethod
    def guest(cls, name: str, nic: Nic) -> Guest:
        made = Guest(name, [nic], append=QUIET)
        register(cls, made.close)
        witness(cls, made.console_tail)
        return made

    def setUp(self) -> None:
        self.daemon.do("PUT", wire_path("w1"), {"a": "a", "b": "b", "tees": []})
        self.daemon.wait_wire("w1")
        resumes(self.a, B)

    def restart(self, end: Callable[[], Any]) -> tuple[float, float, int]:
        """The longest time without an answer, how much of it the daemon itself took, the pings that were lost."""
        pings = self.a.spawn(f"cat /proc/uptime; ping -i 0.01 -c {PINGS} {B}; cat /proc/uptime")
        self.a.wait_until(f"grep -q seq=50 {pings.base}.out", 60)
        begin = time.monotonic()
        end()
        self.daemon.start()
        own = time.monotonic() - begin
        pings.wait(120)
        gap, lost = longest_gap(pings.output())
        return gap, own, lost

    def test_gap_of_a_restart(self) -> None:
        for how, end in (("SIGTERM", self.daemon.stop), ("kill -9", self.daemon.kill9)):
            seen = []

            def measure() -> float:
                """The longer of the two, in parts of what it may be."""
                seen.append(self.restart(end))
                self.assertGreater(seen[-1][2], 0, f"{how}: nothing was interrupted, so nothing was measured")
                resumes(self.a, B)
                return max(seen[-1][0] / GAP_S, seen[-1][1] / OWN_S)

            best(f"{how}, of {GAP_S:g} s of silence and {OWN_S:g} s until the daemon answers", 1.0, measure)
            gap, own, lost = seen[-1]
            say(f"restart after {how}: {gap:.2f} s without an answer, {own:.2f} s of them until the daemon answers, "
                f"{lost} of {PINGS} pings lost{f'; best of {len(seen)}' if len(seen) > 1 else ''}")

    def test_the_steps_in_their_order(self) -> None:
        """--check beside the running daemon, the copy, the restart; what has begun anew and what goes on."""
        daemon = self.daemon
        ping_all(self.a, B, 10)

        def digest() -> str:
            return "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(daemon.directory.glob("state.db*")))
        before = digest()
        checked = subprocess.run([PATCHBAYD, "--check", "--state", daemon.state], capture_output=True, text=True, timeout=60,
                                 stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertIn("has it locked", checked.stdout)
        for word in ("vif a ", "vif b ", "wire default/w1 ", "no problems"):
            self.assertIn(word, checked.stdout)
        self.assertEqual(digest(), before, "--check wrote to the state")

        wait_for("the export is fresh", lambda: f'"generation":{daemon.get("/v1/stats")["generation"]},' in
                 daemon.state.with_suffix(".json").read_text(encoding="utf-8"))
        config = daemon.get("/v1/config")
        instance = daemon.get("/v1/version")["instance"]
        last = daemon.get("/v1/audit?limit=1")["last"]
        counted = leg(daemon.settled("w1"), "a_to_b", "a")["received"]["frames"]
        self.assertGreaterEqual(counted, 10)
        daemon.restart()
        shown = daemon.cli("show", check=True).out
        self.assertIn("w1", shown)
        resumes(self.a, B)
        now = daemon.get("/v1/config")
        for key in ("networks", "vifs", "ports", "wires", "generation"):
            self.assertEqual(now[key], config[key], key)  # with their uids
        self.assertNotEqual(daemon.get("/v1/version")["instance"], instance)
        self.assertLess(leg(daemon.settled("w1"), "a_to_b", "a")["received"]["frames"], counted)
        daemon.set_wire("w1", stall_ms=99)
        entries = daemon.get(f"/v1/audit?after={last}")["items"]
        self.assertEqual([(entry["seq"], entry["path"]) for entry in entries], [(last + 1, wire_path("w1"))])

    def test_what_open_cannot_cover(self) -> None:
        """Open or closed, there is nobody to move a frame while the daemon is away. Then an open bump whose appliance isn't
        there is passed by at once, a closed one is not."""
        daemon = self.daemon
        for on_failure in ("open", "closed"):
            daemon.tee("w1", "fw", "?force=1", port="fw-in", out_port="fw-out", mode="bump", on_failure=on_failure)
            if on_failure == "open":
                resumes(self.a, B)
            daemon.stop()
            silent(self.a, B)
            daemon.start()
            daemon.wait_vif("a")
            daemon.wait_vif("b")
            if on_failure == "open":
                took = resumes(self.a, B)
                say(f"restart with an open bump and no appliance: passed by {took:.2f} s after both ends are up")
                self.assertGreater(to(daemon.settled("w1"), "a_to_b", "a", "b"), 0)
            else:
                silent(self.a, B)
                stats = daemon.settled("w1")
                self.assertEqual(stats["a_to_b"]["delivered"]["frames"], 0)
                self.assertGreater(drops(stats["a_to_b"])["bump_down"], 0)


if __name__ == "__main__":
    unittest.main()
