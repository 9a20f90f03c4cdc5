#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Who changed what: the audit trail, and the log's one line a second about changes."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import unittest

from harness import DaemonTest, ask, main, wait_for

NET = "/v1/networks/default"
LIMIT_ROWS = 10000


class Trail(DaemonTest):
    def rows(self, query: str = "") -> list[dict]:
        return self.check(self.d.get("/v1/audit" + query), 200).json["items"]

    def test_rows_say_who_when_what(self) -> None:
        empty = self.d.get("/v1/audit").json
        self.assertEqual((empty["items"], empty["next"], empty["first"], empty["last"]), ([], None, 0, 0))
        began = time.time()
        self.d.plug("a")
        self.check(self.d.patch("/v1/vifs/a", {"owner": "vm"}), 200)
        self.check(self.d.delete(f"{NET}/ports/a"), 200)
        rows = self.rows()
        self.assertEqual([(row["method"], row["path"], row["status"], row["generation"]) for row in rows], [
            ("PUT", "/v1/vifs/a", 201, 1), ("PUT", f"{NET}/ports/a", 201, 2), ("PATCH", "/v1/vifs/a", 200, 3),
            ("DELETE", f"{NET}/ports/a", 200, 4)])
        self.assertEqual([row["seq"] for row in rows], [1, 2, 3, 4])
        vif, port = {"kind": "vif", "name": "a"}, {"kind": "port", "network": "default", "name": "a"}
        self.assertEqual([row["changes"] for row in rows], [[{"op": "create", **vif}], [{"op": "create", **port}],
                                                            [{"op": "change", **vif}], [{"op": "delete", **port}]])
        self.assertEqual([row["change_count"] for row in rows], [1] * 4)
        with open("/proc/self/comm", encoding="utf-8") as comm:
            command = comm.read().strip()
        for row in rows:
            self.assertEqual((row["uid"], row["gid"], row["pid"]), (os.getuid(), os.getgid(), os.getpid()))
            self.assertEqual(row["client"], command)
            self.assertRegex(row["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            told = time.mktime(time.strptime(row["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
            self.assertLess(abs(told - began), 120)

    def test_what_changed_nothing_has_no_row(self) -> None:
        self.d.plug("a")
        self.check(self.d.put("/v1/vifs/a", {"kind": "none"}), 200)              # identical
        self.check(self.d.put(f"{NET}/ports/x", {"vif": "nobody"}), 409)
        self.check(self.d.delete("/v1/vifs/a"), 409)
        self.check(self.d.put(f"{NET}/ports/a", {"vif": "a", "colour": 1}), 400)
        self.check(self.d.put(f"{NET}/ports/a", "no json"), 400)
        answer = self.d.get("/v1/audit").json
        self.assertEqual(len(answer["items"]), 2)
        self.assertEqual(answer["refused"], 4)

    def test_batches_and_keys(self) -> None:
        """A transaction or a whole configuration is one row, with the generation that all of it has; a key's is its own."""
        d = self.d
        vif, port = "/v1/vifs/a", f"{NET}/ports/a"
        plug = [{"method": "PUT", "path": vif, "body": {"kind": "none"}}, {"method": "PUT", "path": port, "body": {"vif": "a"}}]
        transaction = lambda operations, query="": d.ask("POST", "/v1/transactions" + query, {"operations": operations})
        expected, refused = [], 0
        self.check(transaction(plug, "?dry_run=1"), 200)
        self.check(transaction([*plug, {"method": "DELETE", "path": "/v1/vifs/b"}]), 404)
        self.check(transaction([*plug, {"method": "PUT", "path": "/v1/vifs/b", "body": {"kind": "dev", "devargs": "fail:1"}}]), 409)
        self.check(d.ask("POST", "/v1/transactions", "no json"), 400)
        refused += 3
        self.check(transaction(plug), 200)
        expected.append(("POST", "/v1/transactions", 200, 1))
        self.check(transaction(plug), 200)  # nothing new: no row
        self.check(d.put(f"{port}/conf/vlan", {"value": 7}), 200)
        expected.append(("PUT", f"{port}/conf/vlan", 200, 2))
        self.check(d.delete(f"{port}/conf/vlan"), 200)
        expected.append(("DELETE", f"{port}/conf/vlan", 200, 3))
        self.check(d.delete(f"{port}/conf/vlan"), 200)  # it is the default already: no row
        for path, body, status in ((f"{port}/conf/vlan", {"value": 5000}, 400), (f"{port}/conf/nope", {"value": 1}, 472),
                                   (f"{port}/conf/link", {"value": 1}, 405), (f"{port}/conf/vlan", {}, 400),
                                   (f"{NET}/ports/x/conf/vlan", {"value": 1}, 404)):
            self.check(d.put(path, body), status)
            refused += 1
        config = d.get("/v1/config").json
        self.check(d.put("/v1/config?force=1", config), 200)  # as it is: no row
        config["vifs"].append({"name": "b", "kind": "none"})
        self.check(d.put("/v1/config", config), 428)
        self.check(d.put("/v1/config?dry_run=1", config), 200)
        self.check(d.put("/v1/config?force=1", dict(config, ports=None)), 400)
        refused += 2
        self.check(d.put("/v1/config?force=1", config), 200)
        expected.append(("PUT", "/v1/config", 200, 4))
        answer = d.get("/v1/audit").json
        self.assertEqual([(row["method"], row["path"], row["status"], row["generation"]) for row in answer["items"]], expected)
        self.assertEqual({(row["uid"], row["pid"]) for row in answer["items"]}, {(os.getuid(), os.getpid())})
        self.assertEqual([[f"{change['op']} {change['kind']} {change['name']}" for change in row["changes"]]
                          for row in answer["items"]],
                         [["create vif a", "create port a"], ["change port a"], ["change port a"], ["create vif b"]])
        self.assertEqual(answer["refused"], refused)
        d.restart(signal.SIGKILL)
        self.assertEqual([row["path"] for row in self.rows()], [row[1] for row in expected])

    def test_a_long_change(self) -> None:
        """The first eight objects are named, all are counted."""
        self.d.put("/v1/vifs/a", {"kind": "none"})
        operations = [{"method": "PUT", "path": f"{NET}/ports/p{i}", "body": {}} for i in range(20)]
        self.check(self.d.ask("POST", "/v1/transactions", {"operations": operations}), 200)
        row = self.rows()[-1]
        self.assertEqual(([change["name"] for change in row["changes"]], row["change_count"]), ([f"p{i}" for i in range(8)], 20))

    def test_the_trail_survives_a_kill_and_goes_on(self) -> None:
        self.d.plug("a")
        self.d.restart(signal.SIGKILL)
        self.d.plug("b")
        self.assertEqual([row["seq"] for row in self.rows()], [1, 2, 3, 4])
        self.assertEqual(len({row["pid"] for row in self.rows()}), 1)

    def test_promotion_is_the_daemons_own(self) -> None:
        self.d.plug("a", "b")
        self.d.plug("in", "out", kind="vhost")
        self.check(self.d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        self.check(self.d.put(f"{NET}/wires/w/tees/fw?when_ready=1",
                              {"mode": "bump", "port": "in", "out_port": "out"}), 201)
        self.d.fake("link in up")
        self.d.fake("link out up")
        row = wait_for(lambda: next((r for r in self.rows() if r["method"] == "PROMOTE"), None), "the promotion", self.d.log)
        self.assertEqual((row["path"], row["client"], row["pid"]),
                         (f"{NET}/wires/w/tees/fw", "patchbayd", self.d.process.pid))

    def test_pages(self) -> None:
        for i in range(25):
            self.check(self.d.put(f"{NET}/ports/p{i}", {}), 201)
        seen, query = [], "?limit=10"
        for _ in range(3):
            page = self.d.get("/v1/audit" + query).json
            seen += [row["seq"] for row in page["items"]]
            self.assertEqual((page["first"], page["last"]), (1, 25))
            query = f"?limit=10&after={page['next']}"
        self.assertIsNone(page["next"])
        self.assertEqual(seen, list(range(1, 26)))
        self.assertEqual(self.rows("?after=25"), [])
        self.assertEqual(self.rows("?after=18446744073709551615"), [])
        for bad in ("x", "-1", "1.5", "99999999999999999999", "1x"):
            self.check(self.d.get(f"/v1/audit?after={bad}"), 400, "BadValue")
        self.check(self.d.get("/v1/audit?limit=0"), 400, "BadValue")
        self.check(self.d.ask("DELETE", "/v1/audit"), 405)

    def test_bounded(self) -> None:
        self.d.put(f"{NET}/ports/p", {})
        self.d.stop()
        with sqlite3.connect(self.d.state) as db:
            db.execute("WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
                       "INSERT INTO audit SELECT i, time_ms, uid, gid, pid, client, method, path, generation, status,"
                       " changes, change_count FROM n, audit", (LIMIT_ROWS + 50,))
        db.close()
        self.d.start()
        for i in range(3):
            self.check(self.d.put(f"{NET}/ports/q{i}", {}), 201)
        page = self.d.get("/v1/audit?limit=2").json
        self.assertEqual((page["first"], page["last"]), (54, LIMIT_ROWS + 53))
        self.assertEqual([row["seq"] for row in page["items"]], [54, 55])
        self.assertEqual([row["path"] for row in self.rows(f"?after={LIMIT_ROWS + 50}")],
                         [f"{NET}/ports/q{i}" for i in range(3)])
        self.d.stop()
        db = sqlite3.connect(self.d.state)
        self.assertEqual(db.execute("SELECT count(*) FROM audit").fetchone()[0], LIMIT_ROWS)
        db.close()
        self.d.start()

    def test_a_name_that_is_odd(self) -> None:
        """Whatever a process calls itself, the trail stays text and the log a line."""
        code = ("import ctypes, sys; sys.path.insert(0, sys.argv[2]); from harness import UnixConnection, ask;"
                "ctypes.CDLL(None).prctl(15, b'ev\\nil\\xff\"\\x1b', 0, 0, 0);"
                "print(ask(UnixConnection(sys.argv[1]), 'PUT', '/v1/vifs/a', '{\"kind\":\"none\"}').status)")
        done = subprocess.run([sys.executable, "-c", code, self.d.socket, os.path.dirname(os.path.abspath(__file__))],
                              capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(done.stdout.strip(), "201")
        self.assertEqual(self.rows()[0]["client"], 'ev?il?"?')


class Lines(DaemonTest):
    args = ("--log-level", "info")

    def lines(self) -> list[str]:
        return [line for line in self.d.log().splitlines() if " apply: " in line]

    def test_one_line_a_second(self) -> None:
        connection = self.d.connect()
        began = time.monotonic()
        count = refused = 0
        while time.monotonic() - began < 3.2:
            self.check(ask(connection, "PUT", f"{NET}/ports/p{count}", "{}"), 201)
            count += 1
            if count % 10 == 0:
                self.check(ask(connection, "PUT", f"{NET}/ports/x", '{"vif":"nobody"}'), 409)
                refused += 1
        connection.close()
        self.d.stop()
        took = time.monotonic() - began
        lines = self.lines()
        self.assertLessEqual(len(lines), took + 2, lines)
        self.assertGreaterEqual(len(lines), 3)
        # The first is told at once and by itself; all others are in the sums.
        self.assertRegex(lines[0], rf"PUT {NET}/ports/p0: 201, generation 1, by pid {os.getpid()} uid {os.getuid()} \(")
        sums = [re.search(r"(\d+) changes, (\d+) refused, now generation (\d+); the last: (PUT|DELETE)", line)
                for line in lines[1:]]
        self.assertNotIn(None, sums, lines)
        self.assertEqual(sum(int(m[1]) for m in sums) + 1, count)
        self.assertEqual(sum(int(m[2]) for m in sums), refused)
        self.assertEqual(int(sums[-1][3]), count)

    def test_a_refusal_alone_is_told(self) -> None:
        self.check(self.d.delete("/v1/vifs/nobody"), 404)
        self.assertIn("DELETE /v1/vifs/nobody: refused, NotFound", self.lines()[0])


if __name__ == "__main__":
    main()
