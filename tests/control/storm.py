# SPDX-License-Identifier: BSD-3-Clause
"""A storm of changes, and what a daemon that was killed in it must still know.

Each client owns names of its own and has at most one request in flight. Of what it was told, everything must be there
after the kill; of what it wasn't, all or nothing. What can't be told from the answers is told by the audit trail: a row
of it is in the transaction of its change, so the state must be the one that the rows lead to, no step more or less.

    requests of a client:   acknowledged … acknowledged   in flight
                                                       ▲       └── there or not, as the trail says
                                                       └── must be there, and so must its row
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Callable

NET = "/v1/networks/default"
WIRES = 4   # a client, on a monitor that all of them tap: detaching it is one change of many objects


@dataclass
class Request:
    method: str
    path: str
    body: Any = None
    status: int | None = None  # None: no answer came

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path.partition("?")[0]


@dataclass
class Client:
    """What one client did, in order. Only the last request may be without an answer."""
    number: int
    done: list[Request] = field(default_factory=list)
    wrong: str | None = None


class Expected:
    """The state as one client's requests make it: path -> the fields that it set. It knows just what this storm does."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}

    def apply(self, request: Request) -> None:
        path = request.path.partition("?")[0]
        if request.method == "PUT":
            self.objects[path] = dict(request.body)
        elif request.method == "PATCH":
            self.objects[path].update(request.body)
        else:
            del self.objects[path]
            if "detach=1" in request.path:
                name = path.rsplit("/", 1)[1]
                for wire in self.objects.values():
                    for tee in wire.get("tees", []):
                        if tee["port"] == name:
                            tee.update(port=None, mode="off")

    def copy(self) -> Expected:
        other = Expected()
        other.objects = json.loads(json.dumps(self.objects))
        return other


def requests_of(number: int, state: Expected, choose: random.Random) -> Request:
    """The next request of a client: of one object, or of many at once."""
    n = f"c{number}"
    wires = [path for path in state.objects if "/wires/" in path]
    monitor = f"{NET}/ports/{n}-mon"
    if monitor not in state.objects:
        return Request("PUT", monitor, {"vif": None})
    kind = choose.random()
    if len(wires) < WIRES or kind < 0.15:
        i = choose.randrange(WIRES)
        path = f"{NET}/wires/{n}-w{i}"
        for end in "ab":
            port = f"{NET}/ports/{n}-{end}{i}"
            if port not in state.objects:
                return Request("PUT", port, {"vif": None})
        tees = [{"name": "m", "port": f"{n}-mon", "mode": "tap"}]
        # The serial number: a PUT that changes nothing would leave no row in the trail.
        return Request("PUT", path, {"a": f"{n}-a{i}", "b": f"{n}-b{i}", "stall_ms": choose.randrange(1, 60000),
                                     "labels": {"serial": str(choose.randrange(1 << 40))}, "tees": tees})
    if kind < 0.25:
        return Request("DELETE", choose.choice(wires))
    if kind < 0.35:
        return Request("DELETE", monitor + "?detach=1")  # touches all wires
    return Request("PATCH", choose.choice(wires), {"stall_ms": choose.randrange(1, 60000),
                                                   "labels": {"serial": str(choose.randrange(1 << 40))}})


def run_client(client: Client, state: Expected, connect: Callable[[], http.client.HTTPConnection],
               choose: random.Random) -> None:
    """Makes changes until the connection breaks. `state` becomes what was acknowledged."""
    connection = connect()
    try:
        while True:
            request = requests_of(client.number, state, choose)
            client.done.append(request)
            connection.request(request.method, request.path,
                               None if request.method == "DELETE" else json.dumps(request.body))
            response = connection.getresponse()
            response.read()
            request.status = response.status
            if response.status not in (200, 201):
                client.wrong = f"{request} was refused"
                return
            state.apply(request)
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()


def same(wanted: dict[str, Any], shown: dict[str, Any]) -> str | None:
    """What is there otherwise than it was set; None: all is as wanted."""
    for key, value in wanted.items():
        if key == "tees":
            tees = [{name: tee[name] for name in ("name", "port", "mode")} for tee in shown["tees"]]
            if tees != value:
                return f"tees {tees}, not {value}"
        elif shown[key] != value:
            return f"{key} {shown[key]!r}, not {value!r}"
    return None


def judge(clients: list[Client], before: dict[int, Expected], rows: list[dict[str, Any]], shown: dict[str, dict[str, Any]],
          generation: int) -> tuple[dict[int, Expected], dict[str, int]]:
    """Compares what was promised with what is there after the restart. `before` is each client's state when the storm
    began, rows are the trail's since then, shown is path -> object. Returns the new state of each client, and how many
    requests were in flight and of these how many had taken effect. Raises AssertionError with what is wrong."""
    counts = {"acknowledged": 0, "in flight": 0, "of these stored": 0}
    by_client: dict[int, list[dict[str, Any]]] = {client.number: [] for client in clients}
    generations = [row["generation"] for row in rows]
    assert generations == sorted(generations), f"the trail isn't in order: {generations}"
    assert len(set(generations)) == len(generations), f"two changes have one generation: {generations}"
    assert not rows or rows[-1]["generation"] == generation, \
        f"the trail ends with generation {rows[-1]['generation']}, the state has {generation}"
    for row in rows:
        by_client[int(row["path"].rsplit("/", 1)[1].partition("-")[0][1:])].append(row)
    after = {}
    for client in clients:
        assert client.wrong is None, client.wrong
        state = before[client.number].copy()
        acknowledged = [request for request in client.done if request.status is not None]
        in_flight = client.done[len(acknowledged):]
        assert len(in_flight) <= 1, f"client {client.number} went on after a request without an answer"
        trail = by_client[client.number]
        told = [request.key for request in client.done[:len(trail)]]
        assert [(row["method"], row["path"]) for row in trail] == told, \
            f"client {client.number}: the trail has {trail[-2:]}, it sent {told[-2:]}"
        assert len(trail) >= len(acknowledged), \
            f"client {client.number}: {len(acknowledged)} changes were acknowledged, the trail has {len(trail)}; " \
            f"lost: {client.done[len(trail)]}"
        for request in client.done[:len(trail)]:
            state.apply(request)
        prefix = f"c{client.number}-"
        there = {path for path in shown if path.rsplit("/", 1)[1].startswith(prefix)}
        assert there == set(state.objects), \
            f"client {client.number}: objects {sorted(there ^ set(state.objects))} are there or missing"
        for path, wanted in state.objects.items():
            wrong = same(wanted, shown[path])
            assert wrong is None, f"client {client.number}: {path}: {wrong}"
        counts["acknowledged"] += len(acknowledged)
        counts["in flight"] += len(in_flight)
        counts["of these stored"] += len(trail) - len(acknowledged)
        after[client.number] = state
    return after, counts


class Storm:
    """Storms on one state file, one after the other. ask(path) is GET, connect makes a connection, kill(after) kills
    the daemon so many seconds from now, restart starts the next."""

    def __init__(self, ask: Callable[[str], Any], connect: Callable[[], http.client.HTTPConnection],
                 clients: int, seed: int) -> None:
        self.ask, self.connect = ask, connect
        self.choose = random.Random(seed)
        self.states = {number: Expected() for number in range(clients)}
        self.seen = 0  # rows of the trail
        self.totals: dict[str, int] = {}
        self.spans: set[int] = set()

    def rage(self, kill: Callable[[], None], seconds: float) -> list[Client]:
        """Lets the clients change things until the daemon is killed. Returns what they did."""
        clients = [Client(number) for number in self.states]
        acknowledged = {number: state.copy() for number, state in self.states.items()}
        threads = [threading.Thread(target=run_client, args=(client, acknowledged[client.number], self.connect,
                                                             random.Random(self.choose.random())))
                   for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        kill()
        for thread in threads:
            thread.join()
        return clients

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after: int | None = self.seen
        while after is not None:
            page = self.ask(f"/v1/audit?after={after}")
            rows += page["items"]
            after = int(page["next"]) if page["next"] is not None else None
        return rows

    def shown(self) -> dict[str, dict[str, Any]]:
        found = {}
        for kind in ("ports", "wires"):
            after = ""
            while after is not None:
                page = self.ask(f"{NET}/{kind}?limit=1000" + (f"&after={urllib.parse.quote(after)}" if after else ""))
                found.update({f"{NET}/{kind}/{item['name']}": item for item in page["items"]})
                after = page["next"]
        return found

    def check(self, clients: list[Client]) -> None:
        """The daemon runs again: what does it know?"""
        rows = self.rows()
        self.states, counts = judge(clients, self.states, rows, self.shown(), self.ask("/v1/stats")["generation"])
        self.seen += len(rows)
        for name, count in counts.items():
            self.totals[name] = self.totals.get(name, 0) + count
