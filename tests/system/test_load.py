# SPDX-License-Identifier: BSD-3-Clause
"""64 clients read and change all the time while a wire runs that waits when its receiver is full: no frame lost or doubled.

    generator ─a─ wire w1, on_full: wait ─b─ generator        64 clients ══ socket ══ the control thread
"""
from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

from patchbay import SANITIZED, Case, Daemon, _UnixConnection, say
from test_virtio_user import PATIENT
from traffic import Traffic, check_lossless, port

SECONDS = float(os.environ.get("PATCHBAY_LOAD_SECONDS", "60"))
CLIENTS = 64
NET = "/v1/networks/default"


class Hammer(threading.Thread):
    """One client with objects of its own, and one that all share: w1's labels, its tap, its stall_ms."""

    def __init__(self, daemon: Daemon, number: int, end: float) -> None:
        super().__init__()
        self.name = f"h{number}"
        self.number = number
        self.end = end
        self.connection = _UnixConnection(daemon.socket, 60)
        self.counts: dict[int, int] = {}
        self.changes = 0
        self.slowest = 0.0
        self.failure: BaseException | None = None

    def ask(self, method: str, path: str, body: Any = None, *statuses: int) -> Any:
        began = time.monotonic()
        self.connection.request(method, path, None if body is None else json.dumps(body))
        reply = self.connection.getresponse()
        data = reply.read()
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.counts[reply.status] = self.counts.get(reply.status, 0) + 1
        assert reply.status in (statuses or (200,)), (method, path, reply.status, data)
        self.changes += method != "GET"
        return json.loads(data)

    def turn(self, i: int) -> None:
        own = f"/v1/vifs/{self.name}"
        self.ask("PUT", own, {"kind": "none", "owner": str(i)}, 200, 201)
        self.ask("PUT", f"{NET}/ports/{self.name}", {"vif": self.name}, 200, 201)
        assert self.ask("GET", own)["owner"] == str(i)
        self.ask("GET", f"{NET}/wires/w1/stats")
        if self.number % 8 == 0:
            # The wire that runs: every one of these is a new table for the worker that moves its frames.
            self.ask("PATCH", f"{NET}/wires/w1", {"stall_ms": 59000 + i % 100, "labels": {self.name: str(i)}}, 200)
            self.ask("PUT", f"{NET}/wires/w1/tees/{self.name}", {"port": self.name, "mode": "tap" if i % 2 else "off"}, 200, 201)
            if i % 5 == 4:
                self.ask("DELETE", f"{NET}/wires/w1/tees/{self.name}")
        if i % 10 == 9:
            self.ask("GET", f"{NET}/ports?limit=100")
            self.ask("DELETE", f"{NET}/ports/{self.name}?detach=1")
            self.ask("DELETE", own)

    def run(self) -> None:
        i = 0
        try:
            while time.monotonic() < self.end:
                self.turn(i)
                i += 1
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = failure
        finally:
            self.connection.close()


class Load(Case):
    def test_64_clients_beside_a_wire(self) -> None:
        daemon = Daemon(self)
        daemon.plug("a")
        daemon.plug("b")
        daemon.wire("w1", "a", "b", on_full="wait", **PATIENT)
        traffic = Traffic(self, daemon, ["a", "b"], ["a>b", "b>a"], settle=4.0)
        before = daemon.get("/v1/stats")["generation"]
        began = time.monotonic()
        hammers = [Hammer(daemon, number, began + SECONDS) for number in range(CLIENTS)]
        for hammer in hammers:
            hammer.start()
        for hammer in hammers:
            hammer.join()
        seconds = time.monotonic() - began
        self.assertEqual([str(hammer.failure) for hammer in hammers if hammer.failure is not None], [])
        moved = traffic.progress()["received"]
        result = traffic.stop()
        changes = sum(hammer.changes for hammer in hammers)
        asked = sum(count for hammer in hammers for count in hammer.counts.values())
        generations = daemon.get("/v1/stats")["generation"] - before
        say(f"64 clients, {seconds:.0f} s: {asked / seconds:,.0f} requests/s of which {changes / seconds:,.0f} changes, slowest "
            f"{max(h.slowest for h in hammers) * 1e3:.0f} ms; {generations:,} generations, {moved:,} frames beside them")
        self.assertGreater(generations, 100)
        self.assertGreater(moved, 1000 if SANITIZED else 100000)
        check_lossless(result)
        # And the daemon's sums say the same.
        stats = daemon.settled("w1")
        for way, source, sink in (("a_to_b", "a", "b"), ("b_to_a", "b", "a")):
            self.assertEqual(stats[way]["dropped"], {"total": 0})
            self.assertEqual(stats[way]["received"]["frames"], port(result, source)["tx_frames"])
            self.assertEqual(stats[way]["delivered"]["frames"], port(result, sink)["rx_frames"])
