#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Wires and their Ts: what reaches the dataplane, drains, promotion, counters that add up."""

import json
import signal
import threading
import time

from harness import DaemonTest, main, wait_for

NET = "/v1/networks/default"
WIRE = f"{NET}/wires/w"


class WireTest(DaemonTest):
    def setUp(self) -> None:
        super().setUp()
        self.d.plug("a", "b", "c", "ids", "in", "out")
        self.check(self.d.put(WIRE, {"a": "a", "b": "b"}), 201)

    def bump(self, **options):
        body = {"port": "in", "out_port": "out", "mode": "bump", **options}
        return self.check(self.d.put(f"{WIRE}/tees/fw", body), 201)

    def tap(self, **options):
        return self.check(self.d.put(f"{WIRE}/tees/ids", {"port": "ids", **options}), 201)

    def send(self, vif: str, frames: int, vlan: int = 0, length: int = 100) -> str:
        return self.d.fake(f"send {vif} {vlan} {frames} {length}")

    def received(self, vif: str) -> int:
        return self.d.get(f"/v1/vifs/{vif}/stats").json["transmitted"]["frames"]

    def stats(self):
        return self.d.get(f"{WIRE}/stats").json

    def check_sums(self) -> dict:
        """received = delivered + dropped for every leg, totals are their sums, offered = copied + dropped."""
        stats = self.stats()
        for direction in (stats["a_to_b"], stats["b_to_a"]):
            for item in direction["legs"] + [direction]:
                dropped = sum(count for reason, count in item["dropped"].items() if reason != "total")
                self.assertEqual(dropped, item["dropped"]["total"])
                self.assertEqual(item["received"]["frames"], item["delivered"]["frames"] + dropped, stats)
            for leg in direction["legs"]:
                self.assertEqual(sum(to["frames"] for to in leg["to"]), leg["delivered"]["frames"])
            for key in ("received", "delivered"):
                self.assertEqual(sum(leg[key]["frames"] for leg in direction["legs"]), direction[key]["frames"])
        for tee in stats["tees"]:
            if tee["mode"] == "tap":
                self.assertEqual(tee["offered"], tee["copied"]["frames"] + tee["dropped"]["total"])
        return stats


class Dataplane(WireTest):
    def test_frames_go_the_way_that_status_shows(self) -> None:
        d = self.d
        self.tap()
        self.bump(before="ids")
        self.assertEqual(d.get(WIRE).json["status"]["path"], ["a", "bump fw", "tap ids", "b"])
        self.send("a", 10)
        self.assertEqual([self.received(v) for v in ("in", "ids", "b")], [10, 0, 0])
        self.send("out", 10)
        self.assertEqual([self.received(v) for v in ("in", "ids", "b")], [10, 10, 10])
        self.send("b", 5)
        self.assertEqual([self.received(v) for v in ("out", "ids", "a")], [5, 15, 0])
        self.send("in", 5)
        self.assertEqual(self.received("a"), 5)
        self.check(d.patch(f"{WIRE}/tees/ids", {"before": "fw"}), 200)
        self.assertEqual(d.get(WIRE).json["status"]["path"], ["a", "tap ids", "bump fw", "b"])
        self.send("a", 1)
        self.assertEqual(self.received("ids"), 16)
        stats = self.check_sums()
        self.assertEqual(stats["tees"][1]["into"]["frames"], 16)
        self.assertEqual(stats["tees"][1]["out"]["frames"], 15)

    def test_replug_keeps_counters_and_tees(self) -> None:
        d = self.d
        self.tap()
        uid = d.get(WIRE).json["uid"]
        for i in range(30):
            end = "c" if i % 2 == 0 else "b"
            self.send("a", 1)
            self.check(d.patch(WIRE, {"b": end}), 200)
            self.send(end, 2)
        stats = self.check_sums()
        self.assertEqual(stats["uid"], uid)
        self.assertEqual(stats["a_to_b"]["received"]["frames"], 30)
        self.assertEqual(stats["b_to_a"]["received"]["frames"], 60)
        self.assertEqual(stats["tees"][0]["offered"], 90)
        self.assertEqual(d.table()["legs"], 2)

    def test_unplugged_and_admin_down(self) -> None:
        d = self.d
        self.check(d.patch(WIRE, {"b": None}), 200)
        self.send("a", 3)
        self.check(d.patch(WIRE, {"b": "b", "admin": "down"}), 200)
        self.send("a", 4)
        dropped = self.check_sums()["a_to_b"]["dropped"]
        self.assertEqual((dropped["unplugged"], dropped["admin_down"]), (3, 4))

    def test_monitor_without_vif(self) -> None:
        self.tap()
        self.check(self.d.patch(f"{NET}/ports/ids", {"vif": None}), 200)
        self.send("a", 7)
        tee = self.check_sums()["tees"][0]
        self.assertEqual((tee["offered"], tee["dropped"]), (7, {"total": 7, "down": 7}))
        self.assertEqual(self.received("b"), 7)
        self.check(self.d.patch(f"{NET}/ports/ids", {"vif": "ids"}), 200)
        self.send("a", 1)
        self.assertEqual(self.check_sums()["tees"][0]["copied"]["frames"], 1)

    def test_monitor_without_vif_behind_a_bump(self) -> None:
        """Offered is what came by: all of it once the bump has failed and is open, nothing while it takes the frames."""
        d = self.d
        self.check(d.put(f"{WIRE}/tees/fw", {"port": "in", "out_port": "out", "mode": "bump", "on_failure": "open"}), 201)
        self.tap()
        self.check(d.patch(f"{NET}/ports/ids", {"vif": None}), 200)
        self.send("a", 5)
        tee = self.check_sums()["tees"][1]
        self.assertEqual((tee["name"], tee["offered"]), ("ids", 0))
        self.send("out", 3)
        self.assertEqual(self.check_sums()["tees"][1]["dropped"], {"total": 3, "down": 3})
        d.fake("link in down no driver")
        wait_for(lambda: d.get("/v1/vifs/in").json["status"]["state"] == "down", "down")
        self.send("a", 4)
        self.assertEqual(self.received("b"), 7)
        tee = self.check_sums()["tees"][1]
        self.assertEqual((tee["offered"], tee["copied"]["frames"], tee["dropped"]), (7, 0, {"total": 7, "down": 7}))

    def test_one_monitor_for_many(self) -> None:
        d = self.d
        d.plug("e", "f")
        self.check(d.put(f"{NET}/wires/v", {"a": "e", "b": "f"}), 201)
        self.tap()
        for i in range(3):
            self.check(d.put(f"{NET}/wires/v/tees/t{i}", {"port": "ids"}), 201)
        self.assertEqual(d.table()["monitors"], 1)
        self.send("e", 2)
        self.assertEqual(self.received("ids"), 6)
        self.send("ids", 9)
        self.assertEqual(d.get("/v1/vifs/ids/stats").json["discarded"], {"total": 9, "monitor": 9})

    def test_vlans_of_one_vif(self) -> None:
        d = self.d
        self.check(d.put("/v1/vifs/nic", {"kind": "dev", "devargs": "0000:03:00.0"}), 201)
        for tag in (None, 10, 20):
            self.check(d.put(f"{NET}/ports/nic{tag}", {"vif": "nic", "vlan": tag}), 201)
        d.plug("x", "y")
        self.check(d.patch(WIRE, {"b": "nic10"}), 200)
        self.check(d.put(f"{NET}/wires/v", {"a": "x", "b": "nic20"}), 201)
        self.send("nic", 4, vlan=10)
        self.send("nic", 5, vlan=20)
        self.send("nic", 6, vlan=30)
        self.assertEqual((self.received("a"), self.received("x")), (4, 5))
        self.assertEqual(d.get("/v1/vifs/nic/stats").json["discarded"], {"total": 6, "unknown_vlan": 6})

    def test_unchanged_wires_keep_their_legs(self) -> None:
        d = self.d
        d.plug("e", "f")
        self.check(d.put(f"{NET}/wires/v", {"a": "e", "b": "f"}), 201)
        before = d.table()
        generation = d.generation()
        self.check(d.patch(WIRE, {"labels": {"x": "y"}}), 200)
        self.assertEqual(d.table(), before)  # a label is no new table
        self.assertEqual(d.generation(), generation + 1)

    def test_a_wire_with_its_tees_is_one_generation(self) -> None:
        before = self.d.generation()
        tees = [{"name": "ids", "port": "ids"}, {"name": "fw", "port": "in", "out_port": "out", "mode": "bump"}]
        self.check(self.d.put(WIRE, {"a": "a", "b": "c", "stall_ms": 7, "tees": tees}), 200)
        self.assertEqual(self.d.generation(), before + 1)
        self.assertEqual(self.d.get(f"{WIRE}/tees").etag, f'"{before + 1}"')
        self.check(self.d.put(f"{NET}/wires/v", {"b": "b", "tees": [{"name": "t", "port": "ids"}]}), 201)
        self.assertEqual(self.d.generation(), before + 2)

    def test_tees_of_another_network(self) -> None:
        d = self.d
        self.check(d.put("/v1/networks/ops", {}), 201)
        self.check(d.put("/v1/vifs/probe", {"kind": "none"}), 201)
        self.check(d.put("/v1/networks/ops/ports/probe", {"vif": "probe"}), 201)
        tee = self.check(d.put(f"{WIRE}/tees/t", {"port": "ops/probe"}), 201).json
        self.assertEqual(tee["port"], "ops/probe")
        self.send("a", 2)
        self.assertEqual(self.received("probe"), 2)


class Bumps(WireTest):
    def test_insert_publishes_return_legs_first(self) -> None:
        self.d.fake("publish-wait 3000000")
        done = threading.Event()

        def insert() -> None:
            connection = self.d.connect()
            connection.request("PUT", f"{WIRE}/tees/fw",
                               json.dumps({"port": "in", "out_port": "out", "mode": "bump"}))
            self.assertEqual(connection.getresponse().status, 201)
            connection.close()
            done.set()

        thread = threading.Thread(target=insert)
        thread.start()
        # First table: the arms are sources, frames still go straight through.
        wait_for(lambda: self.d.table()["entries"] == 4, "the return legs")
        self.send("a", 3)
        self.send("out", 2)
        self.assertEqual((self.received("b"), self.received("in")), (5, 0))
        self.assertFalse(done.is_set())
        self.d.get("/v1/vifs")  # reads go on
        self.d.fake("publish-wait 1000")
        thread.join()
        self.send("a", 3)
        self.assertEqual(self.received("in"), 3)
        self.check_sums()

    def test_bump_down(self) -> None:
        d = self.d
        body = {"port": "in", "out_port": "out", "mode": "bump"}
        d.fake("link out down no driver")
        wait_for(lambda: d.get("/v1/vifs/out").json["status"]["state"] == "down", "down")
        self.check(d.put(f"{WIRE}/tees/fw", body), 409, "BumpDown")
        self.check(d.put(f"{WIRE}/tees/fw?force=1", body), 201)
        self.send("a", 2)
        self.assertEqual(self.check_sums()["a_to_b"]["dropped"], {"total": 2, "bump_down": 2})
        status = d.get(WIRE).json["status"]
        self.assertEqual((status["state"], status["reason"]),
                         ("down", "bump fw: port out: vif out: no driver"))
        self.check(d.delete(f"{WIRE}/tees/fw?wait=5"), 200)
        self.check(d.put(f"{WIRE}/tees/fw", {**body, "on_failure": "open"}), 201)
        self.send("a", 2)
        self.assertEqual(self.received("b"), 2)
        self.assertEqual(d.get(WIRE).json["status"]["state"], "up")

    def test_when_ready_is_promoted(self) -> None:
        d = self.d
        d.fake("link in down booting")
        wait_for(lambda: d.get("/v1/vifs/in").json["status"]["state"] == "down", "down")
        tee = self.check(d.put(f"{WIRE}/tees/fw?when_ready=1", {"port": "in", "out_port": "out", "mode": "bump"}),
                         201).json
        self.assertEqual((tee["mode"], tee["status"]["state"]), ("off", "off"))
        self.send("a", 1)
        self.assertEqual(self.received("b"), 1)
        d.restart()
        wait_for(lambda: d.get(f"{WIRE}/tees/fw").json["mode"] == "bump", "promoted: at start all are up")
        # A reader may see the change before the workers do.
        wait_for(lambda: self.send("a", 1) == "ok" and self.received("in") > 0, "frames go through it")

    def test_when_ready_by_event(self) -> None:
        d = self.d
        d.fake("link in down booting")
        wait_for(lambda: d.get("/v1/vifs/in").json["status"]["state"] == "down", "down")
        self.check(d.put(f"{WIRE}/tees/fw?when_ready=1", {"port": "in", "out_port": "out", "mode": "bump"}), 201)
        before = d.generation()
        d.fake("link in up")
        wait_for(lambda: d.get(f"{WIRE}/tees/fw").json["mode"] == "bump", "promoted")
        self.assertEqual(d.generation(), before + 1)

    def test_when_ready_looks_again(self) -> None:
        """Arms that were up, and are down again when it is the promotion's turn, must not cut the wire."""
        d = self.d
        d.plug("i2", "o2")
        self.bump()
        d.fake("link i2 down booting")
        wait_for(lambda: d.get("/v1/vifs/i2").json["status"]["state"] == "down", "down")
        self.check(d.put(f"{WIRE}/tees/fw2?when_ready=1", {"port": "i2", "out_port": "o2", "mode": "bump"}), 201)
        self.check(d.patch(f"{WIRE}/tees/fw?quiet_ms=3000&drain_ms=3000", {"mode": "off"}), 200)
        for state in ("up", "down"):
            d.fake(f"link i2 {state}")
            wait_for(lambda s=state: d.get("/v1/vifs/i2").json["status"]["state"] == s, state)
        self.assertEqual(d.get(WIRE).json["status"]["state"], "draining")
        status = wait_for(lambda: (s := d.get(WIRE).json["status"])["state"] != "draining" and s, "drained")
        self.assertEqual((status["state"], d.get(f"{WIRE}/tees/fw2").json["mode"]), ("up", "off"))
        d.fake("link i2 up")
        wait_for(lambda: d.get(f"{WIRE}/tees/fw2").json["mode"] == "bump", "promoted")

    def test_drain_waits_for_silence(self) -> None:
        # Times are long against what a busy machine may sleep away.
        d = self.d
        self.bump()
        self.send("a", 10)
        answer = self.check(d.patch(f"{WIRE}/tees/fw?quiet_ms=3000&drain_ms=10000", {"mode": "off"}), 200)
        self.assertEqual(answer.json["mode"], "off")
        # Answered at once.
        self.assertEqual(d.get(WIRE).json["status"]["state"], "draining")
        # The ends are held, what comes back is forwarded.
        self.assertEqual(self.send("a", 1), "held")
        self.assertEqual(d.table()["held"], 2)
        for _ in range(4):
            time.sleep(0.4)
            last = time.monotonic()
            self.send("out", 2)
        self.assertEqual(self.received("b"), 8)
        status = wait_for(lambda: d.get(WIRE).json["status"]["state"] == "up" and d.get(WIRE).json["status"], "drained")
        self.assertGreater(time.monotonic() - last, 2.9)
        self.assertEqual(status["drain"], {"late": 0, "unreturned": 2})
        # What comes after the swap is late, and in the books. (Who is late may be late himself: nobody listens for
        # more than a second, then it is the vif that counts.)
        self.send("out", 2)
        late = d.get(WIRE).json["status"]["drain"]["late"]
        discarded = d.get("/v1/vifs/out/stats").json["discarded"]["total"]
        self.assertEqual(late + discarded, 2)
        self.send("a", 1)
        self.assertEqual(self.received("b"), 9)
        self.check_sums()
        wait_for(lambda: d.table()["legs"] == 2, "late legs are gone")
        self.check_sums()
        self.assertEqual(d.get(WIRE).json["status"]["drain"], {"late": late, "unreturned": 2})

    def test_silence_that_nobody_listens_to(self) -> None:
        """A daemon, or a whole machine, that stands still for longer than quiet_ms: what the appliance had is still
        waited for."""
        d = self.d
        self.bump()
        self.send("a", 10)
        self.check(d.patch(f"{WIRE}/tees/fw?quiet_ms=3000&drain_ms=10000", {"mode": "off"}), 200)
        d.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(3.3)
        finally:
            d.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)  # it has looked meanwhile
        self.assertEqual(d.get(WIRE).json["status"]["state"], "draining")
        self.send("out", 10)
        status = wait_for(lambda: d.get(WIRE).json["status"]["state"] == "up" and d.get(WIRE).json["status"], "drained")
        self.assertEqual(status["drain"], {"late": 0, "unreturned": 0})
        self.assertEqual(self.received("b"), 10)

    def test_drain_has_an_end(self) -> None:
        d = self.d
        self.bump()
        stop = threading.Event()

        def chatter() -> None:
            while not stop.is_set():
                self.send("out", 1)
                time.sleep(0.002)

        thread = threading.Thread(target=chatter)
        thread.start()
        try:
            began = time.monotonic()
            connection = d.connect()
            connection.request("DELETE", f"{WIRE}/tees/fw?quiet_ms=3000&drain_ms=3500&wait=30")
            self.assertEqual(connection.getresponse().status, 200)
            self.assertGreater(time.monotonic() - began, 3.4)
            connection.close()
        finally:
            stop.set()
            thread.join()
        self.check_sums()

    def test_wait_has_an_end(self) -> None:
        self.bump()
        answer = self.check(self.d.delete(f"{WIRE}/tees/fw?quiet_ms=4000&drain_ms=10000&wait=1"), 200)
        self.assertEqual(answer.json["name"], "fw")
        self.assertEqual(self.d.get(WIRE).json["status"]["state"], "draining")

    def test_drain_at_once(self) -> None:
        d = self.d
        self.bump()
        self.send("a", 5)
        self.check(d.patch(f"{WIRE}/tees/fw?drain_ms=0", {"mode": "tap"}), 200)
        self.send("out", 5)  # within the second in which somebody listens
        status = d.get(WIRE).json["status"]
        self.send("a", 1)
        discarded = d.get("/v1/vifs/out/stats").json["discarded"]["total"]
        self.assertEqual((status["state"], status["drain"]), ("up", {"late": 5 - discarded, "unreturned": 5}))
        self.assertEqual((self.received("b"), self.received("in")), (1, 6))
        self.check_sums()

    def test_changes_to_a_draining_wire_wait(self) -> None:
        d = self.d
        self.bump()
        d.plug("e", "f")
        self.check(d.put(f"{NET}/wires/v", {"a": "e", "b": "f"}), 201)
        began = time.monotonic()
        self.check(d.delete(f"{WIRE}/tees/fw?quiet_ms=4000&drain_ms=10000"), 200)
        results = {}

        def change(name: str, method: str, path: str, body) -> None:
            connection = d.connect()
            connection.request(method, path, body)
            results[name] = (connection.getresponse().status, time.monotonic())
            connection.close()

        threads = [threading.Thread(target=change, args=args) for args in (
            ("wire", "PATCH", WIRE, '{"b":"c"}'),
            ("arm", "PUT", f"{NET}/wires/x", '{"a":"in"}'),  # the place in the table is still taken
            ("vif", "DELETE", "/v1/vifs/out?detach=1", None),  # still named by the held legs
            ("other", "PATCH", f"{NET}/wires/v", '{"b":null}'))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([results[name][0] for name in ("wire", "arm", "vif", "other")], [200, 201, 200, 200])
        for name in ("wire", "arm", "vif"):
            self.assertGreater(results[name][1] - began, 3.5, name)
            self.assertGreater(results[name][1], results["other"][1], name)
        self.send("a", 1)
        self.assertEqual(self.received("c"), 1)
        self.check_sums()

    def test_stay_counts_alone(self) -> None:
        # unreturned is about this stay of the bump, not about those before.
        d = self.d
        self.bump()
        self.send("a", 5)
        self.check(d.patch(f"{WIRE}/tees/fw?drain_ms=0", {"mode": "off"}), 200)
        self.check(d.patch(f"{WIRE}/tees/fw?wait=5", {"mode": "bump"}), 200)
        # Waiting for the five isn't a drain: what that one found is still told.
        self.assertEqual(d.get(WIRE).json["status"]["drain"], {"late": 0, "unreturned": 5})
        self.send("a", 3)
        self.send("out", 2)
        self.check(d.patch(f"{WIRE}/tees/fw?wait=5", {"mode": "off"}), 200)
        self.assertEqual(d.get(WIRE).json["status"]["drain"], {"late": 0, "unreturned": 1})

    def test_deleting_an_arms_vif_swaps_at_once(self) -> None:
        d = self.d
        self.bump()
        self.send("a", 5)
        self.check(d.delete("/v1/vifs/out?detach=1"), 200)
        status = d.get(WIRE).json["status"]
        self.assertEqual(status["state"], "down")
        self.check(d.put("/v1/vifs/new", {"kind": "none"}), 201)
        self.check_sums()

    def test_sixteen_bumps(self) -> None:
        d = self.d
        for i in range(16):
            d.plug(f"i{i}", f"o{i}")
            self.check(d.put(f"{WIRE}/tees/t{i}", {"port": f"i{i}", "out_port": f"o{i}", "mode": "bump"}), 201)
        self.check(d.put(f"{WIRE}/tees/t16", {"port": "ids"}), 409, "LimitReached")
        self.send("a", 1)
        for i in range(16):
            self.assertEqual(self.received(f"i{i}"), 1)
            self.send(f"o{i}", 1)
        self.assertEqual(self.received("b"), 1)
        wire = d.get(WIRE).json
        wire["tees"].reverse()
        self.check(d.put(f"{WIRE}?wait=5", wire), 200)
        self.send("a", 1)
        self.assertEqual(self.received("i15"), 2)
        self.check(d.patch(f"{WIRE}?wait=5", {"tees": []}), 200)
        self.send("a", 1)
        self.assertEqual(self.received("b"), 2)
        self.check_sums()
        wait_for(lambda: d.table()["legs"] == 2, "only the wire's own legs")

    def test_churn_of_tees_stays_small(self) -> None:
        d = self.d
        for i in range(100):
            self.check(d.put(f"{WIRE}/tees/t{i}", {"port": "in", "out_port": "out", "mode": "bump"}), 201)
            self.send("a", 1)
            self.send("out", 1)
            self.check(d.delete(f"{WIRE}/tees/t{i}?quiet_ms=0&wait=5"), 200)
        stats = self.check_sums()
        self.assertEqual(stats["a_to_b"]["received"]["frames"], 200)
        self.assertLess(len(stats["a_to_b"]["legs"]), 80)
        self.assertLess(len(stats["a_to_b"]["legs"][0]["to"]), 80)


if __name__ == "__main__":
    main()
