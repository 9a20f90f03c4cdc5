# SPDX-License-Identifier: BSD-3-Clause
"""What happens to frames that nobody takes: they wait, or each is counted under its reason. Every count is compared
with what the generator saw from outside."""
from __future__ import annotations

import time
import unittest
from statistics import median
from typing import Any

from patchbay import MANY, SANITIZED, Case, Daemon, drops, say, tee_stats, wait_for
from traffic import Traffic, check_lossless, port, rate_text, stream

PATIENT: dict[str, Any] = {"stall_ms": 60000}


class Drops(Case):
    def setUp(self) -> None:
        self.daemon = Daemon(self)

    def plug(self, *names: str) -> None:
        for name in names:
            self.daemon.plug(name)

    def check_drops(self, result: Any, way: str = "a_to_b", name: str = "a>b", wire: str = "w1") -> dict[str, int]:
        """What a stream lost is what the wire dropped; returns the reasons."""
        stats = self.daemon.settled(wire)
        own = stream(result, name)
        self.assertEqual(stats[way]["received"]["frames"], own["sent"])
        self.assertEqual(stats[way]["delivered"]["frames"], own["received"])
        self.assertEqual(stats[way]["dropped"]["total"], own["lost"])
        self.assertEqual((own["duplicate"], own["reordered"]), (0, 0))
        return drops(stats[way])

    def test_on_full_drop(self) -> None:
        self.plug("a", "b")
        self.daemon.wire("w1", "a", "b", on_full="drop")
        result = Traffic(self, self.daemon, ["b", "a"], ["a>b"], count=MANY // 5, size="64", settle=1,
                         options={"a": "queue_size=1024", "b": "queue_size=32"}).wait()
        reasons = self.check_drops(result)
        say(f"on_full drop, a ring of 32 behind one of 1024: {reasons} of {MANY // 5}")
        self.assertEqual(set(reasons), {"full"})
        self.assertGreater(stream(result, "a>b")["received"], 0)

    def test_on_full_wait_with_the_same_rings(self) -> None:
        self.plug("a", "b")
        self.daemon.wire("w1", "a", "b", **PATIENT)
        result = Traffic(self, self.daemon, ["b", "a"], ["a>b"], count=MANY // 5, size="64",
                         options={"a": "queue_size=1024", "b": "queue_size=32"}).wait()
        check_lossless(result, MANY // 5)
        self.assertEqual(self.check_drops(result), {})

    def test_too_big_for_the_buffers(self) -> None:
        """b's buffers hold 2048 bytes and it can't merge them."""
        self.plug("a", "b")
        self.daemon.wire("w1", "a", "b", **PATIENT)
        traffic = Traffic(self, self.daemon, ["b", "a"], ["a>b"], count=MANY // 50, size="random:9212", settle=1,
                          options={"b": "mrg=0,buf=2048"})
        result = traffic.wait()
        self.assertEqual(set(self.check_drops(result)), {"too_big"})
        self.assertGreater(stream(result, "a>b")["received"], MANY // 50 // 20)

    def relayed(self, stall_ms: int) -> tuple[Traffic, Traffic]:
        """a ─w1─ r1 (relay) r2 ─w2─ b: the relay is a process that can stand still while the generator goes on."""
        self.plug("a", "b", "r1", "r2")
        self.daemon.wire("w1", "a", "r1", stall_ms=stall_ms)
        self.daemon.wire("w2", "r2", "b", **PATIENT)
        relay = Traffic(self, self.daemon, ["r1", "r2"], reflect=["r1:r2"])
        traffic = Traffic(self, self.daemon, ["b", "a"], ["a>b"])
        traffic.wait_received(1000)
        return relay, traffic

    def test_a_receiver_that_stands_still(self) -> None:
        """Frames wait for it, nothing is lost, and all goes on when it does."""
        relay, traffic = self.relayed(60000)
        for _ in range(5):
            relay.pause()

            def stands() -> bool:
                before = traffic.progress()
                time.sleep(0.3)
                after = traffic.progress()
                return (before["sent"], before["received"]) == (after["sent"], after["received"])
            wait_for("the sender waits", stands)
            relay.go_on()
            traffic.wait_received(10000)
        result = traffic.stop()
        check_lossless(result)
        for wire in ("w1", "w2"):
            stats = self.daemon.settled(wire)
            self.assertEqual(stats["a_to_b"]["delivered"]["frames"], stream(result, "a>b")["sent"], wire)

    def test_stall_ms(self) -> None:
        """A head frame that has waited for stall_ms is dropped, and those behind it until there is room."""
        relay, traffic = self.relayed(200)
        relay.pause()
        begin = time.monotonic()
        wait_for("frames are stalled", lambda: drops(self.daemon.stats("w1")["a_to_b"]).get("stalled", 0) > 0)
        waited = time.monotonic() - begin
        enough = 2000 if SANITIZED else 100000
        wait_for("the sender isn't blocked any more",
                 lambda: drops(self.daemon.stats("w1")["a_to_b"]).get("stalled", 0) > enough)
        relay.go_on()
        traffic.wait_received(10000)
        result = traffic.stop()
        say(f"stall_ms 200: the first drop was seen after {waited * 1e3:.0f} ms")
        self.assertGreaterEqual(waited, 0.15)
        own = stream(result, "a>b")
        stats = self.daemon.settled("w1")
        self.assertEqual(drops(stats["a_to_b"]), {"stalled": own["lost"]})
        self.assertEqual(stats["a_to_b"]["received"]["frames"], own["sent"])
        self.assertEqual(self.daemon.settled("w2")["a_to_b"]["delivered"]["frames"], own["received"])
        self.assertEqual((own["duplicate"], own["reordered"]), (0, 0))

    def test_one_blocked_wire_leaves_others_alone(self) -> None:
        """While w1's receiver stands still for good, w3 has its frames as if nothing were."""
        relay, traffic = self.relayed(60000)
        self.plug("c", "d")
        self.daemon.wire("w3", "c", "d", **PATIENT)
        relay.pause()
        result = Traffic(self, self.daemon, ["d", "c"], ["c>d"], count=MANY // 50).wait()
        check_lossless(result, MANY // 50)
        relay.go_on()
        traffic.wait_received(1000)
        check_lossless(traffic.stop())

    def test_down_and_unplugged(self) -> None:
        """Each has its reason, each frame is counted, and sender and Ts don't mind."""
        self.plug("a", "b", "c", "mon")
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "ids", port="mon")
        traffic = Traffic(self, self.daemon, ["b", "mon", "a"], ["a>b"], monitors=["mon"], rate=200000)
        traffic.wait_received(1000)
        self.interrupt(traffic, [("unplugged", {"b": None}, {"b": "b"}), ("down", {"b": "c"}, {"b": "b"})])
        result = traffic.stop()
        self.assertEqual(set(self.check_drops(result)), {"unplugged", "down"})
        self.check_tap(result)

    def test_admin_down(self) -> None:
        self.plug("a", "b", "mon")
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "ids", port="mon")
        traffic = Traffic(self, self.daemon, ["b", "mon", "a"], ["a>b"], monitors=["mon"], rate=200000)
        traffic.wait_received(1000)
        self.interrupt(traffic, [("admin_down", {"admin": "down"}, {"admin": "up"})])
        result = traffic.stop()
        self.assertEqual(set(self.check_drops(result)), {"admin_down"})
        off = drops(self.daemon.stats("w1")["a_to_b"])["admin_down"]
        self.check_tap(result, unseen=off)

    def check_tap(self, result: Any, unseen: int = 0) -> None:
        """A tap sees what leaves the source's ring, also what is dropped then, but nothing of a wire that is off."""
        tap = tee_stats(self.daemon.stats("w1"), "ids")
        self.assertEqual(tap["offered"], stream(result, "a>b")["sent"] - unseen)
        self.assertEqual(tap["copied"]["frames"], stream(result, "a>b")["monitors"][0]["unique"])

    def interrupt(self, traffic: Traffic, ways: list[tuple[str, Any, Any]]) -> None:
        """Breaks the wire in each way until frames are dropped for its reason, and makes it whole again."""
        for reason, broken, whole in ways:
            self.daemon.set_wire("w1", **broken)
            status = self.daemon.wire_state("w1")
            self.assertEqual(status["state"], "down")
            self.assertNotEqual(status["reason"], "")
            wait_for(f"frames are dropped as {reason}",
                     lambda: drops(self.daemon.stats("w1")["a_to_b"]).get(reason, 0) > 1000)
            self.daemon.set_wire("w1", **whole)
            self.daemon.wait_wire("w1")
            traffic.wait_received(1000)

    def test_frames_of_nobodys_wire(self) -> None:
        """A vif on no wire is drained, and what a monitor sends goes nowhere; both are counted."""
        self.plug("a", "b", "mon", "x")
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "ids", port="mon")
        count = MANY // 100
        result = Traffic(self, self.daemon, ["b", "a", "mon", "x"], ["mon>b", "x>b"], count=count, settle=1).wait()
        self.assertEqual([own["received"] for own in result["streams"]], [0, 0])
        self.assertEqual(self.daemon.vif_stats("mon")["discarded"], {"total": count, "monitor": count})
        self.assertEqual(self.daemon.vif_stats("x")["discarded"], {"total": count, "unwired": count})
        self.assertEqual(self.daemon.settled("w1")["a_to_b"]["received"]["frames"], 0)


class Monitors(Case):
    """A monitor that is slow, stopped or gone costs the wire no more than a healthy one, and never a frame."""

    def setUp(self) -> None:
        self.daemon = Daemon(self)
        for name in ("a", "b", "mon"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "ids", port="mon")

    def test_a_monitor_that_stands_still(self) -> None:
        monitor = Traffic(self, self.daemon, ["mon"], monitors=["mon"])
        traffic = Traffic(self, self.daemon, ["b", "a"], ["a>b"], size="512")
        traffic.wait_received(10000)
        rates: dict[bool, list[float]] = {True: [], False: []}
        # Other programs on our CPUs disturb both, so it may take more turns than a few.
        while len(rates[True]) < 4 or len(rates[True]) < 16 and median(rates[False]) < 0.6 * median(rates[True]):
            rates[True].append(traffic.rate(0.7))
            monitor.pause()
            before = tee_stats(self.daemon.stats("w1"), "ids")["copied"]["frames"]
            rates[False].append(traffic.rate(0.7))
            after = tee_stats(self.daemon.stats("w1"), "ids")["copied"]["frames"]
            self.assertLess(after - before, 2000, "copies are made for a monitor that doesn't take them")
            monitor.go_on()
        result = traffic.stop()
        check_lossless(result)
        healthy, stopped = median(rates[True]), median(rates[False])
        say(f"wire with a healthy monitor {healthy / 1e6:.2f} Mpps, with one that stands still {stopped / 1e6:.2f}")
        self.assertGreater(stopped, healthy * 0.6)
        seen = monitor.stop()
        tap = tee_stats(self.daemon.settled("w1"), "ids")
        self.assertEqual(tap["offered"], stream(result, "a>b")["sent"])
        self.assertEqual(tap["copied"]["frames"], port(seen, "mon")["rx_frames"])
        self.assertEqual(set(drops(tap)), {"ring_full"})

    def test_a_monitor_that_dies_and_comes_back(self) -> None:
        traffic = Traffic(self, self.daemon, ["b", "a"], ["a>b"])
        traffic.wait_received(1000)
        for _ in range(3):
            monitor = Traffic(self, self.daemon, ["mon"], monitors=["mon"])
            before = tee_stats(self.daemon.stats("w1"), "ids")["copied"]["frames"]
            wait_for("it gets copies", lambda: tee_stats(self.daemon.stats("w1"), "ids")["copied"]["frames"] > before)
            monitor.kill9()
            self.daemon.wait_vif("mon", "down")
            before = drops(tee_stats(self.daemon.stats("w1"), "ids")).get("down", 0)
            traffic.wait_received(1000)
            wait_for("copies are dropped as down",
                     lambda: drops(tee_stats(self.daemon.stats("w1"), "ids")).get("down", 0) > before)
            self.assertEqual(self.daemon.wire_state("w1")["state"], "up")
        result = traffic.stop()
        say(f"a monitor killed three times: {rate_text(result)}")
        check_lossless(result)
        self.assertEqual(tee_stats(self.daemon.settled("w1"), "ids")["offered"], stream(result, "a>b")["sent"])

    def test_one_monitor_for_many_wires(self) -> None:
        """Three wires and four Ts share one monitor port."""
        for name in ("c", "d", "e", "f"):
            self.daemon.plug(name)
        self.daemon.wire("w2", "c", "d", **PATIENT)
        self.daemon.wire("w3", "e", "f", **PATIENT)
        self.daemon.tee("w2", "ids", port="mon", direction="a-to-b")
        self.daemon.tee("w3", "ids", port="mon")
        count = MANY // 50
        result = Traffic(self, self.daemon, ["mon", "b", "d", "f", "a", "c", "e"], ["a>b", "c>d", "e>f"],
                         monitors=["mon"], count=count).wait()
        check_lossless(result, count)
        copied = 0
        for wire, name in (("w1", "a>b"), ("w2", "c>d"), ("w3", "e>f")):
            tap = tee_stats(self.daemon.settled(wire), "ids")
            self.assertEqual(tap["offered"], count)
            self.assertEqual(tap["copied"]["frames"], stream(result, name)["monitors"][0]["unique"])
            copied += tap["copied"]["frames"]
        self.assertEqual(port(result, "mon")["rx_frames"], copied)


if __name__ == "__main__":
    unittest.main()
