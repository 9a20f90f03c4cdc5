# SPDX-License-Identifier: BSD-3-Clause
"""Appliances that die and come back, and a daemon that does: who loses what, to the frame.

    main generator ─a─[bump fw]─b─ main generator        fw-in, fw-out: a second process, so that it can be killed
"""
from __future__ import annotations

import signal
import time
import unittest
from typing import Any

from pace import slowness
from patchbay import SANITIZED, SLOW, Case, Daemon, drops, leg, say, tee_stats, to, wait_for
from scraped import check_scraped
from traffic import Traffic, check_lossless, rate_text, stream

PATIENT: dict[str, Any] = {"stall_ms": 60000}
BURST = 64  # what one queue may double when the daemon is killed
RATE = 20000 if SANITIZED else 200000


class Failover(Case):
    def setUp(self) -> None:
        self.daemon = Daemon(self)
        for name in ("a", "b", "fw-in", "fw-out"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)

    def appliance(self) -> Traffic:
        return Traffic(self, self.daemon, ["fw-in", "fw-out"], reflect=["fw-in:fw-out"])

    def goes_through(self, traffic: Traffic) -> None:
        before = tee_stats(self.daemon.stats("w1"), "fw")["out"]["frames"]
        wait_for("traffic goes through the appliance",
                 lambda: tee_stats(self.daemon.stats("w1"), "fw")["out"]["frames"] > before + 1000)
        traffic.wait_received(1000)

    def account(self, result: Any) -> Any:
        """What was lost is what the wire dropped and what the appliance kept; nothing came twice."""
        stats = self.daemon.settled("w1")
        bump = tee_stats(stats, "fw")
        kept = bump["into"]["frames"] - bump["out"]["frames"]
        dropped = stats["a_to_b"]["dropped"]["total"] + stats["b_to_a"]["dropped"]["total"]
        self.assertEqual(sum(one["lost"] for one in result["streams"]), kept + dropped + bump["late"])
        for one in result["streams"]:
            self.assertEqual((one["duplicate"], one["reordered"]), (0, 0), one)
        self.assertEqual(leg(stats, "a_to_b", "a")["received"]["frames"], stream(result, "a>b")["sent"])
        self.assertEqual(leg(stats, "b_to_a", "b")["received"]["frames"], stream(result, "b>a")["sent"])
        return stats, kept

    def test_fail_open(self) -> None:
        appliance = self.appliance()
        self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="bump", on_failure="open", **PATIENT)
        traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"], rate=RATE)
        self.goes_through(traffic)
        rounds, gaps = 3, []
        for _ in range(rounds):
            longest = 0.0
            bypassed = to(self.daemon.stats("w1"), "a_to_b", "a", "b")
            begin = last = time.monotonic()
            before = traffic.progress()["received"]
            appliance.kill9()
            for _ in range(100):  # about half a second: how long does nothing arrive?
                now = traffic.progress()["received"]
                if now > before:
                    longest, last, before = max(longest, time.monotonic() - last), time.monotonic(), now
                if time.monotonic() - begin > 0.5 * SLOW:
                    break
            gaps.append(longest)
            traffic.wait_received(1000)
            wait_for("traffic bypasses it", lambda: to(self.daemon.stats("w1"), "a_to_b", "a", "b") > bypassed + 1000)
            wire = self.daemon.get("/v1/networks/default/wires/w1")
            self.assertEqual(wire["status"]["state"], "up")
            self.assertNotEqual(wire["tees"][0]["status"]["state"], "up")
            self.assertNotEqual(wire["tees"][0]["status"]["reason"], "")
            appliance = self.appliance()
            self.goes_through(traffic)
            self.assertEqual(self.daemon.get("/v1/networks/default/wires/w1/tees/fw")["status"]["state"], "up")
        result = traffic.stop()
        stats, kept = self.account(result)
        say(f"fail open: {rounds} kills, nothing arrived for at most {max(gaps) * 1e3:.0f} ms, "
            f"{kept} frames died with the appliances, {rate_text(result)}")
        # Two rings of 256 and two bursts, each way, each time.
        self.assertLessEqual(kept, rounds * 2 * (2 * 256 + 2 * BURST))
        self.assertEqual(drops(stats["a_to_b"]), {})
        # A generator that was off its CPU has seen nothing either; not each time.
        self.assertLess(sorted(gaps)[rounds // 2], 1.0 * SLOW * slowness(), gaps)

    def test_fail_closed(self) -> None:
        appliance = self.appliance()
        self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="bump", **PATIENT)
        traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"], rate=RATE)
        self.goes_through(traffic)
        for _ in range(3):
            appliance.kill9()
            before = drops(self.daemon.stats("w1")["a_to_b"]).get("bump_down", 0)
            wait_for("frames are dropped as bump_down",
                     lambda: drops(self.daemon.stats("w1")["a_to_b"]).get("bump_down", 0) > before + 1000)
            arrived = traffic.progress()["received"]
            wait_for("more are", lambda: drops(self.daemon.stats("w1")["a_to_b"]).get("bump_down", 0) > before + 3000)
            self.assertEqual(traffic.progress()["received"], arrived, "frames pass by a closed bump")
            status = self.daemon.wire_state("w1")
            self.assertEqual(status["state"], "down")
            self.assertIn("fw", status["reason"])
            appliance = self.appliance()
            self.daemon.wait_wire("w1")
            self.goes_through(traffic)
        result = traffic.stop()
        stats, kept = self.account(result)
        say(f"fail closed: {drops(stats['a_to_b'])}, {kept} frames died with the appliances")
        # A burst that was on its way into the arm when that went is counted as down.
        reasons = drops(stats["a_to_b"])
        self.assertEqual(set(reasons) - {"down"}, {"bump_down"})
        self.assertLessEqual(reasons.get("down", 0), 3 * BURST)
        self.assertEqual(to(stats, "a_to_b", "a", "b"), 0)
        check_scraped(self, self.daemon)

    def test_an_appliance_that_stands_still(self) -> None:
        """It is there, so it isn't failed over; after its stall_ms frames are dropped until it goes on."""
        appliance = self.appliance()
        self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="bump", on_failure="open", stall_ms=50)
        traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"], rate=RATE)
        self.goes_through(traffic)
        appliance.pause()
        wait_for("frames are stalled", lambda: drops(self.daemon.stats("w1")["a_to_b"]).get("stalled", 0) > 1000)
        appliance.go_on()
        self.goes_through(traffic)
        result = traffic.stop()
        stats, kept = self.account(result)
        self.assertEqual(kept, 0)
        self.assertEqual(set(drops(stats["a_to_b"])), {"stalled"})

    def test_insertion_of_a_bump_that_is_down(self) -> None:
        traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"], rate=RATE)
        traffic.wait_received(1000)
        path = "/v1/networks/default/wires/w1/tees/fw"
        body = {"port": "fw-in", "out_port": "fw-out", "mode": "bump", **PATIENT}
        reply = self.daemon.refused("PUT", path, body)
        self.assertEqual((reply.status, reply.code), (409, "BumpDown"))
        self.assertEqual(self.daemon.get("/v1/networks/default/wires/w1")["tees"], [])
        self.assertEqual(self.daemon.do("PUT", f"{path}?when_ready=1", body)["mode"], "off")
        traffic.wait_received(1000)
        self.appliance()
        wait_for("it is promoted", lambda: self.daemon.get(path)["mode"] == "bump")
        self.goes_through(traffic)
        check_lossless(traffic.stop())

    def test_forced_insertion_cuts_the_wire(self) -> None:
        traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"], rate=RATE)
        traffic.wait_received(1000)
        self.daemon.tee("w1", "fw", "?force=1", port="fw-in", out_port="fw-out", mode="bump", **PATIENT)
        self.assertEqual(self.daemon.wire_state("w1")["state"], "down")
        wait_for("frames are dropped as bump_down",
                 lambda: drops(self.daemon.stats("w1")["a_to_b"]).get("bump_down", 0) > 1000)
        self.daemon.remove_tee("w1", "fw", "?wait=10")
        traffic.wait_received(1000)
        result = traffic.stop()
        stats = self.daemon.settled("w1")
        for name, way in (("a>b", "a_to_b"), ("b>a", "b_to_a")):
            own = stream(result, name)
            self.assertEqual(drops(stats[way]), {"bump_down": own["lost"]})
            self.assertEqual((own["duplicate"], own["reordered"]), (0, 0))


class Restarts(Case):
    """The generator listens and the daemon connects, again after each of its lives."""

    def setUp(self) -> None:
        self.daemon = Daemon(self)
        for name in ("a", "b", "mon", "fw-in", "fw-out"):
            self.daemon.plug(name, "vhost")

    def again(self, traffic: Traffic, times: int, kill: bool, closed: bool = False) -> list[float]:
        """The daemon goes and comes; returns how long it took from its end to traffic. Counters begin anew with each
        life: `down` adds them up. closed: there is a closed bump, by which not one frame may go."""
        gaps = []
        self.down = {"a_to_b": 0, "b_to_a": 0}
        for number in range(times + 1):
            traffic.wait_received(20000 // SLOW)
            stats = self.daemon.stats("w1")
            for way in self.down:
                # Until the other end was there again, too: then this count stands still.
                self.assertEqual(set(drops(stats[way])) - {"down", "bump_down"}, set())
                self.down[way] += stats[way]["dropped"]["total"]
                if closed:
                    self.assertEqual(to(stats, way, way[0], way[-1]), 0, "frames go by a closed bump")
            if number == times:
                break
            begin = time.monotonic()
            if kill:
                self.daemon.kill9()
            else:
                self.daemon.stop()
            self.daemon.start()
            for name in ("a", "b"):
                self.daemon.wait_vif(name)
            traffic.wait_received(1000)
            gaps.append(time.monotonic() - begin)
        return gaps

    def account(self, result: Any, doubled: int) -> None:
        """None is lost but those that came when the other end wasn't back yet, which were counted; none is out of
        order, and at most `doubled` came twice."""
        for name, way in (("a>b", "a_to_b"), ("b>a", "b_to_a")):
            own = stream(result, name)
            self.assertEqual((own["lost"], own["reordered"]), (self.down[way], 0), own)
            self.assertLessEqual(own["duplicate"], doubled, own)

    def test_daemon_killed(self) -> None:
        """At most one burst a queue comes twice."""
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "ids", port="mon")
        before = self.daemon.get("/v1/networks/default/wires/w1")
        traffic = Traffic(self, self.daemon, ["b", "mon", "a"], ["a>b", "b>a"], monitors=["mon"])
        kills = 5
        gaps = self.again(traffic, kills, True)
        after = self.daemon.get("/v1/networks/default/wires/w1")
        self.assertEqual(after["uid"], before["uid"])
        self.assertEqual([tee["uid"] for tee in after["tees"]], [tee["uid"] for tee in before["tees"]])
        result = traffic.stop()
        say(f"daemon killed {kills} times: from kill to traffic at most {max(gaps):.2f} s, "
            f"doubled {[one['duplicate'] for one in result['streams']]}, dropped as down {self.down}")
        self.account(result, kills * BURST)
        self.assertLess(sorted(gaps)[kills // 2], 3.0 * SLOW * slowness(), gaps)

    def test_daemon_killed_with_a_bump(self) -> None:
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "fw", "?force=1", port="fw-in", out_port="fw-out", mode="bump", **PATIENT)
        traffic = Traffic(self, self.daemon, ["fw-in", "fw-out", "a", "b"], ["a>b", "b>a"], reflect=["fw-in:fw-out"])
        kills = 3
        gaps = self.again(traffic, kills, True, closed=True)
        before = traffic.progress()["reflected"]
        wait_for("traffic goes through the bump", lambda: traffic.progress()["reflected"] > before + 1000)
        result = traffic.stop()
        say(f"daemon killed {kills} times, with a bump: at most {max(gaps):.2f} s, "
            f"doubled {[one['duplicate'] for one in result['streams']]}, dropped as down {self.down}")
        self.account(result, kills * 2 * BURST)

    def test_daemon_stopped_and_started(self) -> None:
        """An orderly end doubles nothing and loses nothing."""
        self.daemon.wire("w1", "a", "b", **PATIENT)
        traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"])
        gaps = self.again(traffic, 3, False)
        result = traffic.stop()
        say(f"daemon stopped and started: from SIGTERM to traffic at most {max(gaps):.2f} s, "
            f"dropped as down {self.down}")
        self.account(result, 0)

    def test_guests_killed(self) -> None:
        """A peer that is killed leaves its socket behind; the next one at that path is served."""
        self.daemon.wire("w1", "a", "b", **PATIENT)
        for _ in range(3):
            traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"])
            traffic.wait_received(1000)
            traffic.kill9()
            for name in ("a", "b"):
                self.assertNotEqual(self.daemon.wait_vif(name, "down")["reason"], "")
        self.assertEqual(traffic.process.returncode, -signal.SIGKILL)
        traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"], count=10000)
        check_lossless(traffic.wait(), 10000)
        self.assertGreaterEqual(self.daemon.vif_stats("a")["reconnects"], 3)


if __name__ == "__main__":
    unittest.main()
