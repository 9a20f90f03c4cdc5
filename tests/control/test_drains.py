#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Drains of changes that are made together. What one drain does stands in test_wires.py."""

import json
import time

from harness import main, wait_for
from test_wires import NET, WIRE, WireTest


class Together(WireTest):
    """In a transaction, or as single requests in one group."""

    def second(self) -> None:
        self.d.plug("c2", "in2", "out2")
        self.check(self.d.put(f"{NET}/wires/v", {"a": "c", "b": "c2"}), 201)
        self.check(self.d.put(f"{NET}/wires/v/tees/fw", {"port": "in2", "out_port": "out2", "mode": "bump"}), 201)

    def transaction(self, *operations, query: str = ""):
        body = {"operations": [dict(zip(("method", "path", "body"), one)) for one in operations]}
        return self.d.ask("POST", "/v1/transactions" + query, body)

    def state(self, wire: str = "w") -> str:
        return self.d.get(f"{NET}/wires/{wire}").json["status"]["state"]

    def test_each_operation_says_how(self) -> None:
        self.bump()
        self.second()
        self.send("a", 5)
        self.send("c", 5)
        self.check(self.transaction(("DELETE", f"{NET}/wires/v/tees/fw?drain_ms=0"), ("DELETE", f"{WIRE}/tees/fw"),
                                    query="?quiet_ms=8000&drain_ms=10000"), 200)
        self.assertEqual((self.state("v"), self.state()), ("up", "draining"))
        self.assertEqual(self.d.get(f"{NET}/wires/v").json["status"]["drain"], {"late": 0, "unreturned": 5})
        error = self.check(self.transaction(("PATCH", f"{WIRE}?drain_ms=10001", {})), 400, "BadValue").json["error"]
        self.assertEqual((error["index"], error["field"]), (0, "drain_ms"))

    def test_the_last_word_counts(self) -> None:
        self.bump()
        self.send("a", 5)
        self.check(self.transaction(("PATCH", f"{WIRE}/tees/fw?drain_ms=0", {"mode": "off"}),
                                    ("PATCH", WIRE, {"stall_ms": 7}),
                                    ("DELETE", f"{WIRE}/tees/fw?quiet_ms=8000&drain_ms=10000")), 200)
        # The bump was out after the first.
        self.assertEqual(self.state(), "up")

    def test_waiting_for_all(self) -> None:
        self.bump()
        self.second()
        began = time.monotonic()
        self.check(self.transaction(("DELETE", f"{WIRE}/tees/fw?quiet_ms=300&drain_ms=5000&wait=30"),
                                    ("DELETE", f"{NET}/wires/v/tees/fw?quiet_ms=600&drain_ms=5000&wait=40")), 200)
        self.assertGreater(time.monotonic() - began, 0.55)
        self.assertEqual((self.state("v"), self.state()), ("up", "up"))
        self.bump()
        began = time.monotonic()
        self.check(self.transaction(("DELETE", f"{WIRE}/tees/fw"), query="?quiet_ms=9000&drain_ms=10000&wait=1"), 200)
        self.assertGreater(time.monotonic() - began, 0.95)
        self.assertEqual(self.state(), "draining")

    def test_a_new_wire_says_how_its_bump_enters(self) -> None:
        """Its arms were monitors a moment ago: it waits until they are silent, unless told not to."""
        d = self.d
        tap = {"port": "in", "out_port": "out", "mode": "tap"}
        bump = {"a": "c", "tees": [dict(tap, name="fw", mode="bump")]}
        for send, state in ((lambda: d.put(f"{NET}/wires/v?quiet_ms=9000&drain_ms=10000", bump), "draining"),
                            (lambda: d.put(f"{NET}/wires/v?drain_ms=0", bump), "up"),
                            (lambda: self.transaction(("PUT", f"{NET}/wires/v?drain_ms=0", bump)), "up"),
                            (lambda: self.transaction(("PUT", f"{NET}/wires/v", bump), query="?drain_ms=0"), "up")):
            while True:
                began = time.monotonic()
                self.check(d.put(f"{WIRE}/tees/t", tap), 201)
                self.check(d.delete(f"{WIRE}/tees/t"), 200)
                self.assertIn(send().status, (200, 201))
                if time.monotonic() - began < 0.9:  # or they were monitors too long ago to wait for
                    break
                wait_for(lambda: self.state("v") != "draining", "it is over")
                self.check(d.delete(f"{NET}/wires/v"), 200)
            status = d.get(f"{NET}/wires/v").json["status"]
            self.assertEqual(status["state"] == "draining", state == "draining", status)
            if state == "draining":
                wait_for(lambda: self.state("v") != "draining", "it is over")
            self.check(d.delete(f"{NET}/wires/v"), 200)

    def test_a_place_that_a_drain_of_the_same_group_has(self) -> None:
        """Two requests that come together are as two that come one after the other: the second waits for the drain, so
        that what the appliance gives back meanwhile is forwarded."""
        d = self.d
        self.bump()
        self.check(d.put(f"{NET}/wires/v", {"a": "c"}), 201)
        self.send("a", 5)
        tables = d.table()["generation"]
        d.fake("publish-wait 500000")
        clients = [d.connect(60) for _ in range(4)]
        clients[0].request("PATCH", WIRE, json.dumps({"stall_ms": 9}))  # in whose time the others queue up
        wait_for(lambda: d.table()["generation"] > tables, "its table")
        clients[1].request("DELETE", f"{WIRE}/tees/fw?quiet_ms=4000&drain_ms=10000")
        for _ in range(3):
            d.get("/v1/version")
        clients[2].request("PATCH", f"{NET}/wires/v", json.dumps({"b": "out"}))
        clients[3].request("DELETE", "/v1/vifs/in?detach=1")
        for client in clients[:2]:
            self.assertEqual(client.getresponse().status, 200)
        d.fake("publish-wait 1000")
        self.assertEqual(self.state(), "draining")
        self.assertEqual((d.get(f"{NET}/wires/v").json["b"], d.get("/v1/vifs/in").status), (None, 200))
        self.send("out", 5)
        self.assertEqual(self.received("b"), 5)
        for client in clients[2:]:
            self.assertEqual(client.getresponse().status, 200)
        self.assertEqual(d.get(WIRE).json["status"]["drain"], {"late": 0, "unreturned": 0})
        self.assertEqual(d.get(f"{NET}/wires/v").json["b"], "out")
        for client in clients:
            client.close()


if __name__ == "__main__":
    main()
