# SPDX-License-Identifier: BSD-3-Clause
"""Numbered frames of virtio-user peers through wires, taps, bumps and changes: none lost, doubled or out of order.

    generator ─a─[ T … T ]─b─ generator      all ends, monitors and appliances are ports of one patchbay-traffic
"""
from __future__ import annotations

import json
import statistics
import time
import unittest
from typing import Any

from patchbay import MANY, SANITIZED, SLOW, Case, Daemon, drops, leg, say, tee_stats, to, wait_for
from scraped import check_scraped
from traffic import Traffic, check_lossless, port, rate_text, stream

# However long the scheduler keeps the generator from its core, frames wait for it.
PATIENT: dict[str, Any] = {"stall_ms": 60000}
# And an appliance that is asked to give everything back has the time to, also where the scheduler is busy.
DRAIN = "?quiet_ms=1000&drain_ms=10000&wait=60"
HALF = MANY // 2


class Lossless(Case):
    """Nothing changes while the frames flow."""

    def setUp(self) -> None:
        self.daemon = Daemon(self)

    def account(self, result: Any, a: str = "a", b: str = "b") -> Any:
        """What the daemon counted at the ends of w1 is what the generator counted."""
        stats = self.daemon.settled("w1")
        for way, source, sink in (("a_to_b", a, b), ("b_to_a", b, a)):
            sent, got = port(result, source)["tx_frames"], port(result, sink)
            own = leg(stats, way, "a" if way == "a_to_b" else "b")
            self.assertEqual(own["received"]["frames"], sent, way)
            self.assertEqual(self.daemon.vif_stats(source)["received"]["frames"], sent, source)
            self.assertEqual(self.daemon.vif_stats(sink)["transmitted"], {"frames": got["rx_frames"],
                                                                          "bytes": got["rx_bytes"]}, sink)
            self.assertEqual(sum(t["frames"] for one in stats[way]["legs"] for t in one["to"]
                                 if t["to"] == ("b" if way == "a_to_b" else "a")), got["rx_frames"], way)
            self.assertEqual(drops(stats[way]), {}, way)
        return stats

    def test_wire_of_both_vhost_kinds(self) -> None:
        self.daemon.plug("a", "vhost-server")
        self.daemon.plug("b", "vhost")
        self.daemon.wire("w1", "a", "b", **PATIENT)
        result = Traffic(self, self.daemon, ["a", "b"], ["a>b", "b>a"], count=HALF).wait()
        say(f"wire: {rate_text(result)}")
        check_lossless(result, HALF)
        stats = self.account(result)
        self.assertEqual(stats["a_to_b"]["delivered"]["bytes"], port(result, "b")["rx_bytes"])
        self.assertEqual(self.daemon.wire_state("w1")["path"], ["a", "b"])

    def test_cycles(self) -> None:
        """The stages that the daemon measures add up to what it is busy, a frame; the CLI shows them."""
        for name in ("a", "b", "mon"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "ids", port="mon")
        traffic = Traffic(self, self.daemon, ["mon", "a", "b"], ["a>b"], monitors=["mon"])

        def worker() -> Any:
            return json.loads(self.daemon.cli("stats", "--cycles", "--json", check=True).out)["workers"][0]

        def interval() -> tuple[float, float]:
            before = worker()
            # Enough of them that one loop in which the worker lost its core is no great part.
            after = wait_for("1,000 loops are measured", lambda: (now := worker())["sampled"]["loops"] >=
                             before["sampled"]["loops"] + 1000 and now, 60)
            grown = {key: after[key] - before[key] for key in ("frames", "busy_cycles")}
            stages = sum(after["stages"][name]["cycles"] - before["stages"][name]["cycles"] for name in after["stages"])
            return (grown["busy_cycles"] / grown["frames"],
                    stages / (after["sampled"]["frames"] - before["sampled"]["frames"]))

        def alike() -> tuple[float, float]:
            busy, stages = interval()
            assert 0.75 < stages / busy < 1.33, f"the stages add up to {stages:.1f} cycles a frame of {busy:.1f}"
            return busy, stages

        # Other programs disturb both: a quiet interval must come.
        busy, stages = wait_for("the stages add up", alike, 120)
        say(f"busy {busy:.1f} cycles a frame, the stages' sum {stages:.1f}")
        lines = self.daemon.cli("stats", "--cycles", "--watch", "0.5", "--count", "2", check=True).out.splitlines()
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertRegex(line, r"worker 0  [\d.]+ \w?fps, [\d.]+ cycles a frame: (poll [\d.]+, )?receive [\d.]+, lookup .*"
                                   r"copy_tapped [\d.]+.*complete [\d.]+, housekeeping [\d.]+; busy [\d.]+ %, empty polls")
        table = self.daemon.cli("stats", "--cycles", check=True).out
        self.assertRegex(table, r"(?m)^all +[\d.]+ +100\.0 %$")
        check_lossless(traffic.stop())

        def at_rest() -> Any:
            before, after = worker(), worker()
            self.assertEqual(before, {**after, **{key: before[key] for key in ("cycles", "empty_cycles", "loops", "sleeps")}})
            return after

        # At rest nothing moves any more, and every frame that was measured passed these.
        last = wait_for("nothing moves", at_rest)
        for name in ("receive", "lookup", "complete", "housekeeping"):
            self.assertGreaterEqual(last["stages"][name]["frames"], last["sampled"]["frames"], name)

    def test_tap(self) -> None:
        for name in ("a", "b", "mon"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "ids", port="mon")
        result = Traffic(self, self.daemon, ["mon", "a", "b"], ["a>b", "b>a"], monitors=["mon"], count=HALF).wait()
        say(f"wire and tap: {rate_text(result)}")
        check_lossless(result, HALF)
        tap = tee_stats(self.account(result), "ids")
        self.assertEqual(tap["offered"], 2 * HALF)
        copies = [one["monitors"][0] for one in result["streams"]]
        self.assertEqual(tap["copied"]["frames"], sum(one["unique"] for one in copies))
        self.assertEqual(tap["dropped"]["total"], sum(one["missing"] for one in copies))
        self.assertEqual(set(drops(tap)) - {"ring_full"}, set())
        self.assertGreater(tap["copied"]["frames"], HALF // 10)
        say(f"the tap copied {tap['copied']['frames']} of {tap['offered']}")
        check_scraped(self, self.daemon)

    def test_taps_by_direction(self) -> None:
        """a ─[both: m0]─[a-to-b: m1]─[b-to-a: m2]─[split: m3 │ m4]─ b"""
        names = ["a", "b", "m0", "m1", "m2", "m3", "m4"]
        for name in names:
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "t0", port="m0")
        self.daemon.tee("w1", "t1", port="m1", direction="a-to-b")
        self.daemon.tee("w1", "t2", port="m2", direction="b-to-a")
        self.daemon.tee("w1", "t3", port="m3", out_port="m4")
        count = MANY // 20
        result = Traffic(self, self.daemon, names[2:] + names[:2], ["a>b", "b>a"], monitors=names[2:], count=count,
                         settle=2).wait()
        check_lossless(result, count)
        stats = self.account(result)
        seen = {name: {s["stream"]: next(m for m in s["monitors"] if m["port"] == name) for s in result["streams"]}
                for name in names[2:]}
        want = {"t0": ("m0", "m0"), "t1": ("m1", None), "t2": (None, "m2"), "t3": ("m3", "m4")}
        for tee, (forth, back) in want.items():
            tap = tee_stats(stats, tee)
            self.assertEqual(tap["offered"], count * ((forth is not None) + (back is not None)), tee)
            unique = sum(seen[name][way]["unique"] for name, way in ((forth, "a>b"), (back, "b>a")) if name)
            self.assertEqual(tap["copied"]["frames"], unique, tee)
            self.assertGreater(unique, 0, tee)
        for name, way in (("m1", "b>a"), ("m2", "a>b"), ("m3", "b>a"), ("m4", "a>b")):
            self.assertEqual(seen[name][way]["unique"], 0, f"{name} saw {way}")

    def test_bump(self) -> None:
        for name in ("a", "b", "fw-in", "fw-out"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)
        self.daemon.tee("w1", "fw", "?force=1", port="fw-in", out_port="fw-out", mode="bump", **PATIENT)
        result = Traffic(self, self.daemon, ["fw-in", "fw-out", "a", "b"], ["a>b", "b>a"], reflect=["fw-in:fw-out"],
                         count=HALF).wait()
        say(f"wire through a bump: {rate_text(result)}")
        check_lossless(result, HALF)
        stats = self.account(result)
        bump = tee_stats(stats, "fw")
        self.assertEqual((bump["into"]["frames"], bump["out"]["frames"], bump["late"]), (2 * HALF, 2 * HALF, 0))
        self.assertEqual((result["reflect"][0]["in_to_out"], result["reflect"][0]["out_to_in"]), (HALF, HALF))
        self.assertEqual(to(stats, "a_to_b", "a", "fw.port"), HALF)
        self.assertEqual(to(stats, "a_to_b", "fw.out_port", "b"), HALF)
        self.assertEqual(to(stats, "b_to_a", "b", "fw.out_port"), HALF)
        self.assertEqual(to(stats, "b_to_a", "fw.port", "a"), HALF)

    def test_bumps_in_series_with_taps_between(self) -> None:
        """a ─[tap t0]─[bump f1]─[tap t1]─[bump f2]─[bump f3]─[tap t2]─ b"""
        arms = [f"f{i}{arm}" for i in (1, 2, 3) for arm in ("-in", "-out")]
        for name in ["a", "b", "m0", "m1", "m2", *arms]:
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)
        for tee in ("t0", "f1", "t1", "f2", "f3", "t2"):
            if tee[0] == "t":
                self.daemon.tee("w1", tee, port=f"m{tee[1]}")
            else:
                self.daemon.tee("w1", tee, "?force=1", port=f"{tee}-in", out_port=f"{tee}-out", mode="bump", **PATIENT)
        count = HALF // 10
        result = Traffic(self, self.daemon, [*arms, "m0", "m1", "m2", "a", "b"], ["a>b", "b>a"],
                         monitors=["m0", "m1", "m2"], reflect=[f"f{i}-in:f{i}-out" for i in (1, 2, 3)],
                         count=count).wait()
        say(f"three bumps and three taps: {rate_text(result)}")
        check_lossless(result, count)
        stats = self.account(result)
        for tee in ("f1", "f2", "f3"):
            bump = tee_stats(stats, tee)
            self.assertEqual((bump["into"]["frames"], bump["out"]["frames"]), (2 * count, 2 * count), tee)
        for index, tee in enumerate(("t0", "t1", "t2")):
            tap = tee_stats(stats, tee)
            self.assertEqual(tap["offered"], 2 * count, tee)
            self.assertEqual(tap["copied"]["frames"], sum(s["monitors"][index]["unique"] for s in result["streams"]))
        for each in (to(stats, "a_to_b", "f1.out_port", "f2.port"), to(stats, "a_to_b", "f2.out_port", "f3.port"),
                     to(stats, "b_to_a", "f3.port", "f2.out_port"), to(stats, "b_to_a", "f2.port", "f1.out_port")):
            self.assertEqual(each, count)
        self.assertEqual(self.daemon.wire_state("w1")["path"],
                         ["a", "tap t0", "bump f1", "tap t1", "bump f2", "bump f3", "tap t2", "b"])

    def test_descriptor_layouts(self) -> None:
        """Drivers differ in what their rings look like; frames come out the same."""
        shapes = [("mrg=0", "", "1514"), ("", "mrg=0", "1514"), ("in_order=1", "in_order=1", "1514"),
                  ("vectorized=0", "vectorized=0", "9212"), ("segs=5", "mrg=1", "9212"),
                  ("segs=8,mrg=0", "mrg=1,buf=512", "9212"), ("queue_size=1024", "queue_size=64", "1514"),
                  ("queue_size=32", "queue_size=1024", "1514")]
        count = MANY // 100
        for number, (of_a, of_b, largest) in enumerate(shapes):
            a, b, wire = f"a{number}", f"b{number}", f"s{number}"
            self.daemon.plug(a, "vhost" if number % 2 else "vhost-server")
            self.daemon.plug(b)
            self.daemon.wire(wire, a, b, **PATIENT)
            result = Traffic(self, self.daemon, [a, b], [f"{a}>{b}", f"{b}>{a}"], count=count,
                             size=f"random:{largest}", options={a: of_a, b: of_b}).wait()
            check_lossless(result, count)
            stats = self.daemon.settled(wire)
            self.assertEqual((stats["a_to_b"]["delivered"]["frames"], stats["b_to_a"]["delivered"]["frames"]),
                             (count, count), shapes[number])
            self.assertEqual(stats["a_to_b"]["delivered"]["bytes"], port(result, b)["rx_bytes"], shapes[number])


class Changes(Case):
    """The wire is changed again and again under load."""

    def setUp(self) -> None:
        self.daemon = Daemon(self)
        for name in ("a", "b", "c", "mon", "mon2", "fw-in", "fw-out"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)

    def test_1000_replugs(self) -> None:
        """End b goes to and fro between two receivers; their union has every frame, each of them in order."""
        self.daemon.tee("w1", "ids", port="mon")
        traffic = Traffic(self, self.daemon, ["b", "c", "mon", "a"], ["a>b,c"], monitors=["mon"])
        traffic.wait_received(1000)
        replugs = 100 if SANITIZED else 1000
        times = []
        # As long as there are frames to come, or one of the two would have few of them where replugs are fast and frames slow.
        while len(times) < replugs or traffic.progress()["sent"] < MANY:
            begin = time.monotonic()
            self.daemon.set_wire("w1", b="cb"[len(times) % 2])
            times.append(time.monotonic() - begin)
            self.assertLess(sum(times), 600 * SLOW, "the frames take too long")
        result = traffic.stop()
        say(f"{len(times)} replugs in {sum(times):.1f} s, median {statistics.median(times) * 1e3:.2f} ms, "
            f"longest {max(times) * 1e3:.1f} ms; {rate_text(result)}")
        check_lossless(result)
        sent = stream(result, "a>b,c")
        self.assertGreaterEqual(sent["sent"], MANY)
        for receiver in sent["receivers"]:
            self.assertGreater(receiver["frames"], sent["sent"] // 20, receiver)
        stats = self.daemon.settled("w1")
        self.assertEqual(stats["a_to_b"]["received"]["frames"], sent["sent"])
        self.assertEqual(stats["a_to_b"]["delivered"]["frames"], sent["sent"])
        self.assertEqual(tee_stats(stats, "ids")["offered"], sent["sent"])
        self.assertEqual(tee_stats(stats, "ids")["copied"]["frames"], sent["monitors"][0]["unique"])

    def test_replug_of_the_sending_end(self) -> None:
        """Who isn't plugged in is drained and counted: what a and c sent has arrived at b or is `unwired`."""
        traffic = Traffic(self, self.daemon, ["b", "a", "c"], ["a>b", "c>b"])
        traffic.wait_received(1000)
        for number in range(100):
            self.daemon.set_wire("w1", a="ca"[number % 2])
            traffic.wait_received(1000)
        result = traffic.stop()
        stats = self.daemon.settled("w1")
        total = 0
        for name in ("a", "c"):
            own = stream(result, f"{name}>b")
            counts = self.daemon.vif_stats(name)
            self.assertEqual(counts["received"]["frames"], own["sent"])
            self.assertEqual(counts["discarded"].get("unwired", 0), own["lost"], name)
            self.assertGreater(own["received"], 1000)
            self.assertGreater(own["lost"], 0)
            self.assertEqual((own["duplicate"], own["reordered"]), (0, 0))
            total += own["received"]
        self.assertEqual(stats["a_to_b"]["received"]["frames"], total)
        self.assertEqual(stats["a_to_b"]["delivered"]["frames"], total)

    def test_taps_come_go_and_move(self) -> None:
        traffic = Traffic(self, self.daemon, ["mon", "mon2", "a", "b"], ["a>b", "b>a"], monitors=["mon", "mon2"])
        traffic.wait_received(1000)
        rounds = 10 if SANITIZED else 100
        for number in range(rounds):
            self.daemon.tee("w1", "t1", port="mon")
            self.daemon.tee("w1", "t2", port="mon2", before="t1", direction=("both", "a-to-b", "b-to-a")[number % 3])
            path = self.daemon.wire_state("w1")["path"]
            self.assertEqual(path, ["a", "tap t2", "tap t1", "b"])
            self.daemon.set_tee("w1", "t1", before="t2")
            self.assertEqual(self.daemon.wire_state("w1")["path"], ["a", "tap t1", "tap t2", "b"])
            traffic.wait_received(100)
            self.daemon.set_tee("w1", "t2", mode="off")
            self.daemon.set_tee("w1", "t2", mode="tap", direction="both")
            self.daemon.remove_tee("w1", "t1")
            self.daemon.remove_tee("w1", "t2")
        result = traffic.stop()
        say(f"{rounds} rounds of seven changes of taps; {rate_text(result)}")
        check_lossless(result)
        for own in result["streams"]:
            for monitor in own["monitors"]:
                self.assertGreater(monitor["unique"], 0, monitor)
        stats = self.daemon.settled("w1")
        self.assertEqual([drops(stats[way]) for way in ("a_to_b", "b_to_a")], [{}, {}])

    def test_bump_in_and_out(self) -> None:
        """Inserted and drained again and again: nothing is late, nothing stays in the appliance."""
        self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="off", **PATIENT)
        traffic = Traffic(self, self.daemon, ["fw-in", "fw-out", "a", "b"], ["a>b", "b>a"], reflect=["fw-in:fw-out"])
        traffic.wait_received(1000)
        rounds = 5 if SANITIZED else 10
        drained = []
        for number in range(rounds):
            self.daemon.set_tee("w1", "fw", mode="bump")
            before = traffic.progress()["reflected"]
            wait_for("traffic goes through the bump", lambda: traffic.progress()["reflected"] > before + 1000)
            begin = time.monotonic()
            if number % 2:
                self.daemon.set_tee("w1", "fw", DRAIN, mode="off")
            else:
                self.daemon.remove_tee("w1", "fw", DRAIN)
            drained.append(time.monotonic() - begin)
            status = self.daemon.wire_state("w1")
            self.assertEqual((status["state"], status["drain"]), ("up", {"late": 0, "unreturned": 0}))
            reflected = traffic.progress()["reflected"]
            traffic.wait_received(1000)
            self.assertEqual(traffic.progress()["reflected"], reflected, "frames still go into the appliance")
            if not number % 2:
                self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="off", **PATIENT)
        result = traffic.stop()
        say(f"{rounds} bumps inserted and drained, drain with quiet_ms=1000 took {statistics.median(drained):.3f} s, "
            f"longest {max(drained):.3f} s; {rate_text(result)}")
        check_lossless(result)
        self.assertEqual(self.daemon.vif_stats("fw-out")["discarded"]["total"], 0)

    def test_tap_bump_and_off(self) -> None:
        """A T goes round its modes; as a tap its appliance gets copies and what it sends is nobody's."""
        self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="off", **PATIENT)
        traffic = Traffic(self, self.daemon, ["fw-in", "fw-out", "a", "b"], ["a>b", "b>a"], reflect=["fw-in:fw-out"])
        traffic.wait_received(1000)
        rounds = 3 if SANITIZED else 5
        for _ in range(rounds):
            for mode in ("bump", "tap", "off", "bump", "off", "tap", "off"):
                self.daemon.set_tee("w1", "fw", DRAIN, mode=mode)
                traffic.wait_received(1000)
                self.assertEqual(self.daemon.wire_state("w1")["state"], "up")
                if mode == "off":
                    self.wait_empty(traffic)
        result = traffic.stop()
        say(f"{rounds} rounds of seven changes of mode; {rate_text(result)}")
        check_lossless(result)

    def test_nothing_is_late_when_a_bump_becomes_a_tap(self) -> None:
        """What comes back then are copies, which were never the wire's frames."""
        traffic = Traffic(self, self.daemon, ["fw-in", "fw-out", "a", "b"], ["a>b", "b>a"], reflect=["fw-in:fw-out"])
        self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="bump", **PATIENT)
        for _ in range(5):
            traffic.wait_received(1000)
            self.daemon.set_tee("w1", "fw", DRAIN, mode="tap")
            self.assertEqual(self.daemon.wire_state("w1")["drain"], {"late": 0, "unreturned": 0})
            traffic.wait_received(10000)
            self.assertEqual(self.daemon.wire_state("w1")["drain"], {"late": 0, "unreturned": 0})
            self.daemon.set_tee("w1", "fw", mode="off")
            self.wait_empty(traffic)
            self.daemon.set_tee("w1", "fw", mode="bump")
        check_lossless(traffic.stop())

    def test_a_tap_becomes_a_bump(self) -> None:
        """The copies that are still in an appliance which forwards them must not get onto the wire."""
        traffic = Traffic(self, self.daemon, ["fw-in", "fw-out", "a", "b"], ["a>b", "b>a"], reflect=["fw-in:fw-out"])
        self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="tap", **PATIENT)
        for _ in range(5):
            traffic.wait_received(1000)
            self.daemon.set_tee("w1", "fw", DRAIN, mode="bump")
            traffic.wait_received(1000)
            self.daemon.set_tee("w1", "fw", DRAIN, mode="tap")
        check_lossless(traffic.stop())

    def wait_empty(self, traffic: Traffic) -> None:
        """A T that is off gets nothing; until all that its appliance got has come back from it."""
        def back() -> bool:
            stats = [self.daemon.vif_stats(name) for name in ("fw-in", "fw-out")]
            got, gave = (sum(one[what]["frames"] for one in stats) for what in ("transmitted", "received"))
            assert got == gave, f"the appliance got {got} frames and gave back {gave}"
            return True
        wait_for("the appliance is empty", back, 60)
        traffic.progress()


if __name__ == "__main__":
    unittest.main()
