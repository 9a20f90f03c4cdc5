#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Transactions and whole configurations under real frames: numbered, none lost, none doubled, none out of order.

    namespace a ─ TAP ─ w1 ─ TAP ─ namespace b      c: a TAP that is a monitor, again and again
"""
from __future__ import annotations

import copy
import io
import os
import sys
import threading
import time
import unittest

from namespace import Namespace, frame
from patchbay import BUILD, CPUS, OTHER_CPUS, ROOT, Case, Daemon, say, wait_for
from traffic import Traffic, check_lossless

sys.path.insert(0, str(ROOT / "tools" / "bench"))
import bench_control  # noqa: E402

NET = "/v1/networks/default"
FRAMES = 6000
CHANGES = 50
LOAD_SECONDS = int(os.environ.get("PATCHBAY_LOAD_SECONDS", "8"))


class Transactions(Case):
    def test_numbered_frames_over_taps(self) -> None:
        daemon = Daemon(self, namespace=Namespace(self, "host").name)
        machines = {name: Namespace(self, name) for name in "abc"}
        interfaces = {name: machine.plug(daemon, name) for name, machine in machines.items()}
        daemon.wire("w1", "a", "b", stall_ms=50000)
        daemon.wait_wire("w1")
        raws = {name: machine.raw(interfaces[name]) for name, machine in machines.items()}
        uids = {name: daemon.get(f"/v1/vifs/{name}")["uid"] for name in "abc"}
        done, failures, changes = threading.Event(), [], 0

        def change() -> None:
            """Others' wires come and go with the tap of ours: each request is one table."""
            nonlocal changes
            try:
                while not done.is_set():
                    on = changes % 2 == 0
                    wanted = [{"method": "PUT", "path": f"{NET}/wires/w1/tees/c", "body": {"port": "c"}} if on else
                              {"method": "DELETE", "path": f"{NET}/wires/w1/tees/c"}]
                    for n in range(20):
                        wire = f"{NET}/wires/other{n}"
                        wanted.append({"method": "PUT", "path": wire, "body": {"stall_ms": 1 + changes % 50}} if on else
                                      {"method": "DELETE", "path": wire})
                    daemon.do("POST", "/v1/transactions", {"operations": wanted})
                    config = daemon.get("/v1/config")
                    next(w for w in config["wires"] if w["name"] == "w1")["stall_ms"] = 50000 + changes % 7
                    daemon.do("PUT", "/v1/config?force=1", config)
                    changes += 1
            except Exception as error:  # shown by the test, not lost in a thread
                failures.append(error)

        changer = threading.Thread(target=change)
        changer.start()
        sent, got = [], []
        try:
            # In portions that the kernel's queues hold: what they drop nobody else can count.
            while (len(sent) < FRAMES or changes < CHANGES) and changer.is_alive():
                portion = [frame(number, 60 + number % 1000) for number in range(len(sent), len(sent) + 100)]
                raws["a"].send(*portion)
                sent += portion
                got += raws["b"].collect(100, quiet=0)
        finally:
            done.set()
            changer.join()
        self.assertEqual(failures, [])
        self.assertIsNone(raws["b"].receive(0.3), "none is doubled")
        self.assertEqual([g[:60] for g in got], [s[:60] for s in sent])
        self.assertEqual(got, sent)
        self.assertEqual({name: daemon.get(f"/v1/vifs/{name}")["uid"] for name in "abc"}, uids)
        stats = daemon.settled("w1")
        self.assertGreaterEqual(stats["a_to_b"]["delivered"]["frames"], len(sent))
        self.assertEqual(stats["a_to_b"]["dropped"]["total"], 0)
        # Told to be down it gets nothing and gives nothing; each frame is counted.
        def dropped() -> list[int]:
            counted = daemon.settled("w1")
            return [counted[way]["dropped"].get("admin_down", 0) for way in ("a_to_b", "b_to_a")]

        for path in ("/v1/vifs/b/conf/admin", f"{NET}/ports/b/conf/admin"):
            before = dropped()
            daemon.do("PUT", path, {"value": "down"})
            raws["a"].send(*sent[:50])
            raws["b"].send(*sent[:30])
            wait_for("all of them are dropped", lambda: dropped() == [before[0] + 50, before[1] + 30])
            self.assertIsNone(raws["b"].receive(0.2))
            daemon.do("DELETE", path)
            raws["a"].send(*sent[:10])
            self.assertEqual(raws["b"].collect(10), sent[:10])
        say(f"{len(sent)} numbered frames over TAPs during {2 * changes} transactions and configurations")

    def test_a_guest_stays_connected(self) -> None:
        """A configuration that changes wires and other vifs leaves this guest's connection and rings alone."""
        daemon = Daemon(self)
        for name in ("a", "b"):
            daemon.plug(name)
        daemon.wire("w1", "a", "b", stall_ms=60000)
        traffic = Traffic(self, daemon, ["a", "b"], ["a>b"], size="64", rate=20000)
        daemon.wait_wire("w1")
        before = {name: (daemon.get(f"/v1/vifs/{name}"), daemon.vif_stats(name)["reconnects"]) for name in "ab"}
        began, turns = time.monotonic(), 0
        while time.monotonic() - began < 3:
            config = daemon.get("/v1/config")
            other = copy.deepcopy(config)
            other["vifs"] = [v for v in other["vifs"] if v["name"] != "n"] + \
                ([{"name": "n", "kind": "none"}] if turns % 2 == 0 else [])
            other["wires"][0]["stall_ms"] = 59000 + turns
            other["vifs"].reverse()
            daemon.do("PUT", "/v1/config?force=1", other)
            turns += 1
        # From hand to hand: another vif takes the device over, and nobody at the other end notices.
        hands = ["b", "b2"]
        for _ in range(20):
            vif = {"kind": before["b"][0]["kind"], "path": before["b"][0]["path"]}
            daemon.do("POST", "/v1/transactions", {"operations": [
                {"method": "DELETE", "path": f"/v1/vifs/{hands[0]}?detach=1"},
                {"method": "PUT", "path": f"/v1/vifs/{hands[1]}", "body": vif},
                {"method": "PATCH", "path": f"{NET}/ports/b", "body": {"vif": hands[1]}}]})
            hands.reverse()
        before["b"][0]["uid"] = daemon.get("/v1/vifs/b")["uid"]
        for name, (vif, reconnects) in before.items():
            now = daemon.get(f"/v1/vifs/{name}")
            self.assertEqual((now["uid"], now["status"]["state"], now["status"]["since"]),
                             (vif["uid"], "up", vif["status"]["since"]))
            self.assertEqual(daemon.vif_stats(name)["reconnects"], reconnects)
        check_lossless(traffic.stop())
        self.assertGreater(turns, 5)
        say(f"{turns} configurations under a guest at 20,000 frames a second: and 20 hands that its receiver went through: none lost")


class Load(Case):
    def test_64_clients_hammer(self) -> None:
        """tools/bench --control for some seconds: as many clients as there may be change wires as fast as they can, and our
        frames don't notice. How many changes a second it comes to is for the whole run to judge, on a machine of its own."""
        lines = io.StringIO()
        programs = [str(BUILD / path) for path in ("control/patchbayd", "tools/bench/patchbay-traffic",
                                                   "tools/bench/patchbay-control-load")]
        result = bench_control.measure(*programs, (CPUS[-1], OTHER_CPUS[0]), LOAD_SECONDS, lines)
        bench_control.tell(result, lines)
        for line in lines.getvalue().splitlines():
            say(line)
        self.assertEqual([wrong for wrong in bench_control.judge(result) if "changes a second" not in wrong], [])
        self.assertRegex(lines.getvalue(), r"s of \d+: [\d,]+ changes/s, [\d,]+ frames delivered, 0 dropped")


if __name__ == "__main__":
    unittest.main(verbosity=2)
