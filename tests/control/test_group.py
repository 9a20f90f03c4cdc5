#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Groups, devices that fail, restarts: what is acknowledged stays, what is refused leaves nothing."""

import json
import os
import random
import re
import resource
import signal
import threading
import time
import unittest

from harness import Daemon, DaemonTest, ask, crowd, expect, main, wait_for

NET = "/v1/networks/default"


class Group(DaemonTest):
    args = ("--log-level", "debug")

    def test_requests_that_queue_up_are_one_group(self) -> None:
        self.d.fake("publish-wait 50000")  # so that they do queue up
        self.d.plug("x")

        def work(i: int) -> None:
            client = self.d.connect(60)
            self.check(ask(client, "PUT", f"{NET}/ports/p{i}", {"vif": None}), 201)
            self.check(ask(client, "PUT", f"{NET}/wires/w{i}", {"a": f"p{i}"}), 201)
            client.close()

        crowd(60, work)
        groups = self.d.log().count("wires looked at")
        self.assertEqual(self.d.get("/v1/stats").json["objects"]["wires"], 60)
        self.assertLess(groups, 60, "one table for several requests")

    def test_one_that_is_refused_takes_nobody_along(self) -> None:
        self.d.fake("publish-wait 20000")
        self.d.plug("a", "b", "c")
        statuses = []

        def work(i: int) -> None:
            client = self.d.connect(60)
            body = {"a": "a", "b": "b"} if i % 2 == 0 else {"a": "c", "b": "nope"}
            statuses.append(ask(client, "PUT", f"{NET}/wires/w{i}", body).status)
            client.close()

        crowd(40, work)
        self.assertEqual((statuses.count(201), statuses.count(409)), (1, 39))

    def test_a_device_that_fails_leaves_nothing(self) -> None:
        before = self.d.table()
        for kind, field, target, status, code in (
                ("dev", "devargs", "fail:1", 409, "DeviceFailed"), ("dev", "devargs", "nodev:1", 409, "DeviceFailed"),
                ("vhost", "path", "/run/notsock:1", 409, "NotASocket"),
                ("vhost-server", "path", "/run/inuse:1", 409, "PathInUse")):
            with self.subTest(target=target):
                answer = self.check(self.d.put("/v1/vifs/v", {"kind": kind, field: target}), status, code)
                self.assertEqual(answer.json["error"]["field"], field)
                self.assertGreater(len(answer.json["error"]["message"]), 15)
                self.check(self.d.get("/v1/vifs/v"), 404)
        self.assertEqual(self.d.generation(), 0)
        wait_for(lambda: self.d.table() == before, "nothing is left")
        # The slots came back: as many as there are can be made.
        self.check(self.d.put("/v1/vifs/v", {"kind": "none"}), 201)

    def test_others_go_on_while_a_device_is_made(self) -> None:
        self.d.plug("a", "b")
        slow = self.d.connect(60)
        began = time.monotonic()
        slow.request("PUT", "/v1/vifs/slow", '{"kind":"dev","devargs":"slow:6000"}')
        wait_for(lambda: "slow" in self.d.fake("making"), "it is being made")
        self.check(self.d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        self.check(self.d.get("/v1/vifs/slow"), 404)
        self.assertIn("slow", self.d.fake("making"))  # all that while it was being made
        self.assertEqual(slow.getresponse().status, 201)
        self.assertGreater(time.monotonic() - began, 5.9)
        slow.close()

    def test_the_same_new_vif_twice(self) -> None:
        statuses = []

        def work(i: int) -> None:
            client = self.d.connect(60)
            statuses.append(ask(client, "PUT", "/v1/vifs/v", {"kind": "dev", "devargs": "slow:200"}).status)
            client.close()

        crowd(10, work)
        self.assertEqual(sorted(statuses), [200] * 9 + [201])
        self.assertEqual((self.d.table()["vifs"], self.d.generation()), (1, 1))

    def test_a_path_changes_hands(self) -> None:
        path = self.d.dir + "/x.sock"
        for i in range(10):
            self.check(self.d.put(f"/v1/vifs/v{i}", {"kind": "vhost", "path": path}), 201)
            self.check(self.d.put("/v1/vifs/other", {"kind": "vhost-server", "path": path}), 409, "TargetInUse")
            self.check(self.d.delete(f"/v1/vifs/v{i}"), 200)

    def test_everybody_changes_everything(self) -> None:
        """The test double aborts at the first breach of the dataplane's contract; here is much to breach."""
        names = ["a", "b", "c", "m", "i1", "o1", "i2", "o2"]
        self.d.plug(*names)

        def work(seed: int) -> None:
            generator = random.Random(seed)
            client = self.d.connect(60)
            for _ in range(60):
                wire = f"{NET}/wires/w{generator.randrange(3)}"
                name = generator.choice(names)
                method, path, body = generator.choice([
                    ("PUT", wire, {"a": generator.choice("abc"), "b": generator.choice("abc")}),
                    ("PATCH", wire, {"b": generator.choice(["a", "b", "c", None])}),
                    ("PATCH", wire, {"admin": generator.choice(["up", "down"])}),
                    ("DELETE", wire, None),
                    ("PUT", f"{wire}/tees/m", {"port": "m"}),
                    ("PUT", f"{wire}/tees/t1?force=1&drain_ms={generator.choice([0, 5, 30])}",
                     {"port": "i1", "out_port": "o1", "mode": generator.choice(["bump", "tap", "off"])}),
                    ("PUT", f"{wire}/tees/t2?force=1&quiet_ms=1",
                     {"port": "i2", "out_port": "o2", "mode": generator.choice(["bump", "tap"]),
                      "on_failure": generator.choice(["open", "closed"])}),
                    ("PATCH", f"{wire}/tees/t1", {"before": "t2"}),
                    ("DELETE", f"{wire}/tees/t{generator.randrange(1, 3)}?drain_ms={generator.choice([0, 20])}", None),
                    ("DELETE", f"/v1/vifs/{name}?detach=1", None),
                    ("PUT", f"/v1/vifs/{name}", {"kind": "none"}),
                    ("PATCH", f"{NET}/ports/{name}", {"vif": generator.choice([name, None])}),
                    ("DELETE", f"{NET}/ports/{name}?detach=1", None),
                    ("PUT", f"{NET}/ports/{name}", {"vif": name}),
                    ("GET", f"{wire}/stats", None), ("GET", "/v1/vifs", None)])
                answer = ask(client, method, path, body)
                self.assertIn(answer.status, (200, 201, 404, 409), (method, path, body, answer.body))
            client.close()

        def traffic() -> None:
            while not done.is_set():
                for name in names:
                    self.d.fake(f"send {name} 0 3 100")

        done = threading.Event()
        sender = threading.Thread(target=traffic)
        sender.start()
        try:
            crowd(8, work)
        finally:
            done.set()
            sender.join()
        for i in range(3):
            answer = self.d.get(f"{NET}/wires/w{i}/stats")
            if answer.status == 404:
                continue
            for direction in (answer.json["a_to_b"], answer.json["b_to_a"]):
                for leg in direction["legs"]:
                    self.assertEqual(leg["received"]["frames"], leg["delivered"]["frames"] + leg["dropped"]["total"])
        self.d.restart()


class FullDisk(unittest.TestCase):
    def test_nothing_changes_when_the_disk_is_full(self) -> None:
        # A limit of the file's size is as good as a full disk, and needs no rights.
        daemon = Daemon("--log-level", "error", start=False)
        self.addCleanup(daemon.close)
        spawn = daemon.spawn
        daemon.spawn = lambda **kwargs: spawn(
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400000, 400000)), **kwargs)
        daemon.start()
        made = 0
        labels = {f"k{i}": "x" * 255 for i in range(32)}
        while (answer := daemon.put(f"/v1/vifs/v{made}", {"kind": "none", "labels": labels})).status == 201:
            made += 1
            self.assertLess(made, 1000)
        expect(answer, 507, "StorageFull")
        self.assertGreater(made, 3)
        self.assertEqual(daemon.generation(), made)
        expect(daemon.get(f"/v1/vifs/v{made}"), 404)
        expect(daemon.delete("/v1/vifs/v0"), 507, "StorageFull")
        expect(daemon.get("/v1/vifs/v0"), 200)
        wait_for(lambda: daemon.table()["vifs"] == made, "the refused device is gone")
        daemon.spawn = spawn
        daemon.restart(signal.SIGKILL)
        self.assertEqual(daemon.get("/v1/stats").json["objects"]["vifs"], made)
        expect(daemon.delete("/v1/vifs/v0"), 200)


    def test_what_waits_and_what_is_logged(self) -> None:
        """While the disk is full the log isn't filled, too; and what Patchbay wants itself it wants until it is done."""
        daemon = Daemon("--log-level", "notice")
        self.addCleanup(daemon.close)
        daemon.plug("a", "b", "in", "out")
        daemon.fake("link in down booting")
        wait_for(lambda: daemon.get("/v1/vifs/in").json["status"]["state"] == "down", "down")
        tee = {"name": "fw", "port": "in", "out_port": "out", "mode": "bump"}
        expect(daemon.put(f"{NET}/wires/w?when_ready=1", {"a": "a", "b": "b", "tees": [tee]}), 201)
        assert daemon.process is not None
        log = os.stat(daemon.state + "-wal").st_size
        self.assertGreater(log, os.stat(daemon.log_path).st_size + 10000)  # of SQLite; ours must have room
        began = time.monotonic()
        unlimited = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (log, resource.RLIM_INFINITY))
        daemon.fake("link in up")
        for _ in range(200):
            expect(daemon.put(f"{NET}/ports/p", {}), 507, "StorageFull")
        self.assertEqual(daemon.get(f"{NET}/wires/w/tees/fw").json["mode"], "off")
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, unlimited)
        wait_for(lambda: daemon.get(f"{NET}/wires/w/tees/fw").json["mode"] == "bump", "promoted", daemon.log)
        self.assertLessEqual(daemon.log().count("could not be written"), 2 + (time.monotonic() - began) / 10)
        attempts = re.search(r"the state is written again, after (\d+) attempts that failed", daemon.log())
        assert attempts is not None, daemon.log()
        # One of its own may have been written together with one of ours.
        self.assertGreaterEqual(int(attempts[1]), 200)


class Restart(DaemonTest):
    def test_killed_daemon_has_all_that_was_acknowledged(self) -> None:
        acknowledged: dict[str, int] = {}
        killed = threading.Event()

        def work(i: int) -> None:
            try:
                client = self.d.connect(60)
                for n in range(100000):
                    answer = ask(client, "PUT", f"/v1/vifs/v{i}", {"kind": "none", "owner": str(n)})
                    self.assertIn(answer.status, (200, 201))
                    acknowledged[f"v{i}"] = n
            except (OSError, ConnectionError):
                self.assertTrue(killed.is_set())
            except Exception as error:  # http.client has many names for an end
                self.assertTrue(killed.is_set(), error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        wait_for(lambda: len(acknowledged) == 8, "each has been answered")
        killed.set()
        self.d.process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
        self.d.stop()
        self.d.start()
        self.assertGreater(len(acknowledged), 0)
        for name, owner in acknowledged.items():
            self.assertIn(int(self.d.get(f"/v1/vifs/{name}").json["owner"]), (owner, owner + 1))

    def test_all_is_as_before(self) -> None:
        d = self.d
        d.plug("a", "b", "m", "i", "o")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "stall_ms": 7, "labels": {"x": "y"}}), 201)
        self.check(d.put(f"{NET}/wires/w/tees/m", {"port": "m"}), 201)
        self.check(d.put(f"{NET}/wires/w/tees/fw", {"port": "i", "out_port": "o", "mode": "bump", "before": "m"}), 201)

        def state():
            wire = d.get(f"{NET}/wires/w")
            shown = wire.json
            for item in [shown] + shown["tees"]:
                del item["status"]["since"]
            return wire.etag, shown, d.generation()

        before = state()
        for how in (signal.SIGTERM, signal.SIGKILL):
            d.restart(how)
            wait_for(lambda: d.table()["legs"] == 4, "the legs")
            self.assertEqual(state(), before)
            d.fake("send a 0 1 100")
            self.assertEqual(d.get("/v1/vifs/i/stats").json["transmitted"]["frames"], 1)

    def test_queues_that_come(self) -> None:
        d = self.d
        d.plug("a", "b")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        self.assertEqual(d.get("/v1/vifs/a").json["status"]["workers"], [0])
        generation = d.generation()
        d.fake("publish-wait 20000")
        for queues in (2, 4, 16):
            d.fake(f"grow a {queues}")
            wait_for(lambda: f"queues={queues}" in d.fake("vif a"), "a table polls them")
            self.assertEqual(d.get("/v1/vifs/a").json["status"]["workers"], [0] * queues)
            self.check(d.patch(f"{NET}/wires/w", {"labels": {"n": str(queues)}}), 200)
        self.assertEqual(d.generation(), generation + 3)  # the changes' own
        shown = d.get("/v1/vifs/a/stats").json["queues"]
        self.assertEqual([queue["queue"] for queue in shown], list(range(16)))
        self.assertEqual(shown[3], {"queue": 3, "worker": 0, "received": {"frames": 0, "bytes": 0},
                                    "transmitted": {"frames": 0, "bytes": 0}, "notified": 0, "busy_cycles": 0})

    def test_a_vif_that_fails_at_start(self) -> None:
        d = self.d
        d.plug("a", "b", "c", "m")
        d.fake("fail off")
        self.check(d.put("/v1/vifs/bad", {"kind": "dev", "devargs": "fail:x"}), 201)
        self.check(d.put(f"{NET}/ports/bad", {"vif": "bad"}), 201)
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "bad"}), 201)
        self.check(d.put(f"{NET}/wires/v", {"a": "b", "b": "c"}), 201)
        self.check(d.put(f"{NET}/wires/v/tees/m", {"port": "m"}), 201)
        d.restart()
        vif = d.get("/v1/vifs/bad").json
        self.assertEqual(vif["status"]["state"], "failed")
        self.assertIn("told to fail", vif["status"]["reason"])
        self.assertIsNone(vif["status"]["worker"])
        wire = d.get(f"{NET}/wires/w").json["status"]
        self.assertEqual(wire["state"], "down")
        self.assertTrue(wire["reason"].startswith("port bad: vif bad: The device"))
        self.assertEqual(d.get(f"{NET}/wires/v").json["status"]["state"], "up")
        d.fake("send a 0 5 100")
        self.assertEqual(d.get(f"{NET}/wires/w/stats").json["a_to_b"]["dropped"], {"total": 5, "down": 5})
        d.fake("fail off")
        wait_for(lambda: d.get(f"{NET}/wires/w").json["status"]["state"] == "up", "tried again")
        d.fake("send a 0 5 100")
        wait_for(lambda: d.fake("send bad 0 1 100") == "ok" and
                 d.get("/v1/vifs/a/stats").json["transmitted"]["frames"] > 0, "both ways")
        self.assertEqual(d.get("/v1/vifs/bad/stats").json["transmitted"]["frames"], 5)

    def test_a_failed_vif_can_be_deleted(self) -> None:
        d = self.d
        d.fake("fail off")
        self.check(d.put("/v1/vifs/bad", {"kind": "dev", "devargs": "fail:x"}), 201)
        self.check(d.put(f"{NET}/ports/bad", {"vif": "bad"}), 201)
        self.check(d.put(f"{NET}/wires/w", {"a": "bad"}), 201)
        d.restart()
        self.check(d.delete("/v1/vifs/bad?detach=1"), 200)
        d.fake("fail off")
        self.check(d.put("/v1/vifs/bad", {"kind": "dev", "devargs": "fail:x"}), 201)
        self.assertEqual(d.table()["vifs"], 1)

    def test_a_slow_device_at_start_keeps_nobody(self) -> None:
        d = self.d
        d.plug("a", "b")
        self.check(d.put(f"{NET}/wires/v", {"a": "a", "b": "b"}), 201)
        slow = d.connect(60)
        self.check(ask(slow, "PUT", "/v1/vifs/zslow", {"kind": "dev", "devargs": "slow:8000"}), 201)
        slow.close()
        self.check(d.put(f"{NET}/ports/slow", {"vif": "zslow"}), 201)
        self.check(d.put(f"{NET}/wires/w", {"a": "slow"}), 201)
        d.stop()
        d.start()
        self.assertEqual(d.get(f"{NET}/wires/v").json["status"]["state"], "up")
        # It answers, and serves others, while that one isn't there.
        self.assertEqual(d.get("/v1/vifs/zslow").json["status"]["reason"], "its device is being made")
        wait_for(lambda: d.get("/v1/vifs/zslow").json["status"]["state"] == "up", "made")
        wait_for(lambda: d.table()["legs"] == 3, "its wire has a leg")


if __name__ == "__main__":
    main()
