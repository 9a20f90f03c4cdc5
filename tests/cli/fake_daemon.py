# SPDX-License-Identifier: BSD-3-Clause
"""A stand-in for patchbayd that keeps the model of docs/api.md in memory.

It shows the command line what a real daemon can't be made to say at will:
states of guests, drains, counters, refusals, older versions, garbage.
"""

from __future__ import annotations

import copy
import http.server
import json
import re
import socketserver
import threading
import urllib.parse
from typing import Any, Callable

Json = dict[str, Any]
SINCE = "2026-01-01T12:00:00.123Z"
TARGETS = {"vhost": "path", "vhost-server": "path", "dev": "devargs", "kernel-new": "interface", "none": None}
TEE_DEFAULTS: Json = {"port": None, "out_port": None, "mode": "tap", "direction": "both", "on_failure": "closed",
                      "stall_ms": 10, "labels": {}}
WIRE_DEFAULTS: Json = {"a": None, "b": None, "admin": "up", "on_full": "wait", "stall_ms": 100, "labels": {}}


class Refusal(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None, details: Any = None):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message, "field": field, "details": details}}


class Model:
    """The objects, and what tests set about their states."""

    def __init__(self) -> None:
        self.vifs: dict[str, Json] = {}
        self.networks: dict[str, Json] = {"default": {"labels": {}}}
        self.ports: dict[tuple[str, str], Json] = {}
        self.wires: dict[tuple[str, str], Json] = {}
        self.vif_states: dict[str, tuple[str, str]] = {}
        self.tee_states: dict[str, tuple[str, str]] = {}
        self.drains: dict[str, Json] = {}
        self.draining: dict[str, int] = {}  # wire: how often it is still shown as draining
        self.wire_stats: dict[str, Json] = {}
        self.vif_stats: dict[str, Json] = {}
        self.workers: list[Json] = []
        self.api = "1.0"
        self.audit_rows = 0

    # ---- representations ----

    def vif_state(self, name: str) -> tuple[str, str]:
        if name in self.vif_states:
            return self.vif_states[name]
        vif = self.vifs[name]
        if vif["kind"] == "vhost":
            return "down", f"waiting for its socket {vif['path']}"
        if vif["kind"] == "vhost-server":
            return "down", "waiting for a front end"
        return "up", ""

    def port_state(self, key: tuple[str, str]) -> tuple[str, str]:
        vif = self.ports[key]["vif"]
        if vif is None:
            return "down", "no vif"
        state, reason = self.vif_state(vif)
        return ("up", "") if state == "up" else ("down", f"vif {vif}: {reason}")

    def tee_state(self, net: str, tee: Json) -> tuple[str, str]:
        if tee["name"] in self.tee_states:
            return self.tee_states[tee["name"]]
        if tee["mode"] == "off":
            return "off", ""
        for field in ("port", "out_port"):
            if tee[field] is not None:
                state, reason = self.port_state(self.resolve(net, tee[field]))
                if state != "up":
                    return "down", f"port {tee[field]}: {reason}"
        return "up", ""

    def wire_state(self, key: tuple[str, str]) -> tuple[str, str]:
        wire = self.wires[key]
        if self.draining.get(key[1], 0) > 0:
            self.draining[key[1]] -= 1
            return "draining", ""
        if wire["admin"] != "up":
            return "down", "admin down"
        for end in ("a", "b"):
            if wire[end] is None:
                return "down", f"end {end} is unplugged"
            state, reason = self.port_state((key[0], wire[end]))
            if state != "up":
                return "down", f"port {wire[end]}: {reason}"
        for tee in wire["tees"]:
            state, reason = self.tee_state(key[0], tee)
            if tee["mode"] == "bump" and tee["on_failure"] == "closed" and state != "up":
                return "down", f"bump {tee['name']}: {reason}"
        return "up", ""

    def resolve(self, net: str, ref: str) -> tuple[str, str]:
        other, slash, port = ref.partition("/")
        return (other, port) if slash else (net, ref)

    def port_users(self, key: tuple[str, str]) -> list[Json]:
        users: list[Json] = []
        for (net, name), wire in sorted(self.wires.items()):
            users += [{"kind": "wire", "network": net, "wire": name, "as": end}
                      for end in ("a", "b") if wire[end] is not None and (net, wire[end]) == key]
            users += [{"kind": "tee", "network": net, "wire": name, "tee": tee["name"], "as": field}
                      for tee in wire["tees"] for field in ("port", "out_port")
                      if tee[field] is not None and self.resolve(net, tee[field]) == key]
        return users

    def show_vif(self, name: str) -> Json:
        state, reason = self.vif_state(name)
        users = [{"kind": "port", "network": net, "port": port}
                 for (net, port), body in sorted(self.ports.items()) if body["vif"] == name]
        return {"name": name, **self.vifs[name], "uid": f"uid-{name}",
                "status": {"state": state, "reason": reason, "since": SINCE, "worker": 0, "queue_pairs": 1,
                           "rx_ring_size": 256, "tx_ring_size": 256, "ring": "split", "virtio_features": "0x110008000", "mtu": None,
                           "mac": None, "used_by": users}}

    def show_port(self, key: tuple[str, str]) -> Json:
        state, reason = self.port_state(key)
        return {"name": key[1], **self.ports[key], "uid": f"uid-{key[1]}",
                "status": {"state": state, "reason": reason, "since": SINCE, "used_by": self.port_users(key)}}

    def show_wire(self, key: tuple[str, str]) -> Json:
        wire = copy.deepcopy(self.wires[key])
        for position, tee in enumerate(wire["tees"]):
            state, reason = self.tee_state(key[0], tee)
            tee["status"] = {"state": state, "reason": reason, "since": SINCE, "position": position}
        state, reason = self.wire_state(key)
        path = [wire["a"], *[f"{tee['mode']} {tee['name']}" for tee in wire["tees"]], wire["b"]]
        return {"name": key[1], **wire, "uid": f"uid-{key[1]}",
                "status": {"state": state, "reason": reason, "since": SINCE, "path": path,
                           "drain": self.drains.get(key[1])}}

    def show_network(self, name: str) -> Json:
        return {"name": name, **self.networks[name], "uid": f"uid-{name}",
                "status": {"ports": sum(key[0] == name for key in self.ports),
                           "wires": sum(key[0] == name for key in self.wires)}}


class FakeDaemon(socketserver.ThreadingUnixStreamServer):
    """Serves a Model on a Unix socket.

    requests has what was asked: (method, path with query, headers, body).
    overrides has answers by "METHOD path": raw bytes of a body, (status, body),
    or a function that answers with one of these.
    """

    daemon_threads = True

    def __init__(self, path: str):
        self.model = Model()
        self.requests: list[tuple[str, str, Json, Any]] = []
        self.overrides: dict[str, Any] = {}
        self.lock = threading.Lock()
        super().__init__(path, Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeDaemon

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return "local"

    def answer(self) -> None:
        split = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        body = json.loads(text) if text else None
        query = dict(urllib.parse.parse_qsl(split.query))
        status: int = 200
        with self.server.lock:
            self.server.requests.append((self.command, self.path, dict(self.headers), copy.deepcopy(body)))
            override = self.server.overrides.get(f"{self.command} {split.path}")
            if callable(override):
                override = override()
            if override is not None:
                status, out = override if isinstance(override, tuple) else (200, override)
            else:
                try:
                    status, out = Api(self.server.model, query, self.headers).route(self.command, split.path, body)
                except Refusal as refusal:
                    status, out = refusal.status, refusal.body
        if out is None:  # hang up
            self.close_connection = True
            return
        data = out if isinstance(out, bytes) else json.dumps(out).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_PATCH = do_DELETE = answer


class Api:
    """One request, answered from the model."""

    def __init__(self, model: Model, query: dict[str, str], headers: Any):
        self.model = model
        self.query = query
        self.create_only = headers.get("If-None-Match") == "*"

    def route(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        segments = [urllib.parse.unquote(segment) for segment in path.split("/")[1:]]
        self.check_query(method, segments)
        routes: list[tuple[str, Callable[..., tuple[int, Any]]]] = [
            (r"v1/version", self.version), (r"v1/audit", self.audit), (r"v1/stats", self.stats),
            (r"v1/vifs", self.list_vifs), (r"v1/vifs/([^/]+)", self.vif), (r"v1/vifs/([^/]+)/stats", self.vif_stats),
            (r"v1/networks", self.list_networks), (r"v1/networks/([^/]+)", self.network),
            (r"v1/networks/([^/]+)/ports", self.list_ports), (r"v1/networks/([^/]+)/ports/([^/]+)", self.port),
            (r"v1/networks/([^/]+)/wires", self.list_wires), (r"v1/networks/([^/]+)/wires/([^/]+)", self.wire),
            (r"v1/networks/([^/]+)/wires/([^/]+)/stats", self.wire_stats),
            (r"v1/networks/([^/]+)/wires/([^/]+)/tees", self.list_tees),
            (r"v1/networks/([^/]+)/wires/([^/]+)/tees/([^/]+)", self.tee)]
        for pattern, handler in routes:
            match = re.fullmatch(pattern, "/".join(segments))
            if match:
                if len(match.groups()) and segments[1] == "networks" and match.group(1) not in self.model.networks \
                        and handler != self.network:
                    raise Refusal(404, "NotFound", f'there is no network "{match.group(1)}"')
                return handler(method, *match.groups(), body)
        raise Refusal(404, "NoSuchPath", f"There is no path {path}. The nearest is /v1/version.")

    def check_query(self, method: str, segments: list[str]) -> None:
        """Requests take these parameters and no others."""
        kind = segments[-2] if len(segments) % 2 else segments[-1]
        drain, insert = {"quiet_ms", "drain_ms", "wait"}, {"force", "when_ready"}
        known = {("GET", True): {"limit", "after"} if kind != "tees" else set(), ("DELETE", "vifs"): {"detach"},
                 ("DELETE", "ports"): {"detach"} | drain, ("DELETE", "tees"): drain}
        known |= {(change, kind): drain | insert for change in ("PUT", "PATCH") for kind in ("ports", "wires", "tees")}
        is_list = len(segments) % 2 == 0 and segments[-1] != "stats"
        for name in set(self.query) - known.get((method, is_list or kind), set()):
            raise Refusal(400, "UnknownField", f'This request has no parameter "{name}".', name)

    def version(self, method: str, body: Any) -> tuple[int, Any]:
        return 200, {"daemon": "0.1.0", "api": self.model.api, "dpdk": "DPDK 22.11.11", "state_schema": 1, "pid": 4711,
                     "instance": "i"}

    def audit(self, method: str, body: Any) -> tuple[int, Any]:
        rows = [{"seq": i, "time": SINCE, "uid": 0, "gid": 7, "pid": 40 + i, "client": "orch", "method": "PUT",
                 "path": f"/v1/vifs/v{i}", "generation": i, "status": 201, "change_count": i,
                 "changes": [{"op": "create", "kind": "wire", "network": "n", "name": f"w{k}"} for k in range(min(i, 8))]} for i in range(1, self.model.audit_rows + 1)]
        items = rows[int(self.query.get("after", 0)):][:int(self.query.get("limit", 1000))]
        return 200, {"items": items, "next": None, "generation": 17, "first": rows[0]["seq"] if rows else 0,
                     "last": len(rows), "refused": 0}

    def stats(self, method: str, body: Any) -> tuple[int, Any]:
        return 200, {"generation": 1, "objects": {}, "tsc_hz": 1, "workers": self.model.workers}

    def page(self, items: list[Json]) -> tuple[int, Any]:
        items = sorted((item for item in items if item["name"] > self.query.get("after", "")),
                       key=lambda item: item["name"])
        limit = int(self.query.get("limit", 1000))
        return 200, {"items": items[:limit], "next": items[limit - 1]["name"] if len(items) > limit else None,
                     "generation": 17}

    def list_vifs(self, method: str, body: Any) -> tuple[int, Any]:
        return self.page([self.model.show_vif(name) for name in self.model.vifs])

    def list_networks(self, method: str, body: Any) -> tuple[int, Any]:
        return self.page([self.model.show_network(name) for name in self.model.networks])

    def list_ports(self, method: str, net: str, body: Any) -> tuple[int, Any]:
        return self.page([self.model.show_port(key) for key in self.model.ports if key[0] == net])

    def list_wires(self, method: str, net: str, body: Any) -> tuple[int, Any]:
        return self.page([self.model.show_wire(key) for key in self.model.wires if key[0] == net])

    def list_tees(self, method: str, net: str, wire: str, body: Any) -> tuple[int, Any]:
        tees = self.model.show_wire(self.find_wire(net, wire))["tees"]
        return 200, {"items": tees, "next": None, "generation": 17}

    # ---- objects ----

    def merge(self, method: str, old: Json | None, body: Any, defaults: Json, what: str, name: str) -> tuple[int, Json]:
        """What the object becomes, and the status of the answer."""
        if method == "PATCH":
            if old is None:
                raise self.unknown(what, name)
            body = {**old, **body}
        elif self.create_only and old is not None:
            raise Refusal(412, "Exists", f'{what} "{name}" exists already')
        body = {key: value for key, value in body.items() if key not in ("name", "uid", "status")}
        for key in body:
            if key not in defaults:
                raise Refusal(400, "UnknownField", f'{what} has no field "{key}"', key)
        return 200 if old is not None else 201, \
            {key: default if body.get(key) is None else body[key] for key, default in copy.deepcopy(defaults).items()}

    def unknown(self, what: str, name: str) -> Refusal:
        return Refusal(404, "NotFound", f'there is no {what} "{name}"')

    def delete_checked(self, what: str, name: str, users: list[Json]) -> None:
        if users and self.query.get("detach") != "1":
            raise Refusal(409, "InUse", f'{what} "{name}" is in use', None, {"used_by": users})

    def vif(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        vifs = self.model.vifs
        if method in ("PUT", "PATCH"):
            old = vifs.get(name)
            target = TARGETS[body["kind"] if method == "PUT" else old["kind"] if old else "none"]
            defaults = {"kind": None, "owner": None, "labels": {}, **({target: None} if target else {})}
            status, new = self.merge(method, old, body, defaults, "vif", name)
            if old is not None and any(old.get(key) != new.get(key) for key in ("kind", *filter(None, TARGETS.values()))):
                raise Refusal(409, "Immutable", f'kind and target of vif "{name}" can\'t change', "kind")
            vifs[name] = new
            return status, self.model.show_vif(name)
        if name not in vifs:
            raise self.unknown("vif", name)
        shown = self.model.show_vif(name)
        if method == "DELETE":
            self.delete_checked("vif", name, shown["status"]["used_by"])
            for port in self.model.ports.values():
                port["vif"] = None if port["vif"] == name else port["vif"]
            del vifs[name]
        return 200, shown

    def vif_stats(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        if name not in self.model.vifs:
            raise self.unknown("vif", name)
        return 200, self.model.vif_stats.get(name, {"vif": name, "uid": f"uid-{name}"})

    def network(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        networks = self.model.networks
        if method in ("PUT", "PATCH"):
            status, networks[name] = self.merge(method, networks.get(name), body, {"labels": {}}, "network", name)
            return status, self.model.show_network(name)
        if name not in networks:
            raise self.unknown("network", name)
        shown = self.model.show_network(name)
        if method == "DELETE":
            if shown["status"]["ports"] or shown["status"]["wires"]:
                raise Refusal(409, "InUse", f'network "{name}" is not empty')
            del networks[name]
        return 200, shown

    def port(self, method: str, net: str, name: str, body: Any) -> tuple[int, Any]:
        ports, key = self.model.ports, (net, name)
        if method in ("PUT", "PATCH"):
            status, new = self.merge(method, ports.get(key), body, {"vif": None, "vlan": None, "labels": {}}, "port",
                                     name)
            if new["vif"] is not None and new["vif"] not in self.model.vifs:
                raise Refusal(409, "NoSuchReference", f'there is no vif "{new["vif"]}"', "vif")
            if any(other != key and port["vif"] == new["vif"] is not None and port["vlan"] == new["vlan"]
                   for other, port in ports.items()):
                raise Refusal(409, "VlanTaken", f'another port of vif "{new["vif"]}" has this tag', "vlan")
            ports[key] = new
            return status, self.model.show_port(key)
        if key not in ports:
            raise self.unknown("port", name)
        shown = self.model.show_port(key)
        if method == "DELETE":
            self.delete_checked("port", name, shown["status"]["used_by"])
            for (wire_net, _), wire in self.model.wires.items():
                for end in ("a", "b"):
                    wire[end] = None if wire[end] == name and wire_net == net else wire[end]
                for tee in wire["tees"]:
                    for field in ("port", "out_port"):
                        if tee[field] is not None and self.model.resolve(wire_net, tee[field]) == key:
                            tee["mode"], tee[field] = "off", None
            del ports[key]
        return 200, shown

    def find_wire(self, net: str, name: str) -> tuple[str, str]:
        if (net, name) not in self.model.wires:
            raise self.unknown("wire", name)
        return net, name

    def check_port(self, net: str, ref: str | None, field: str) -> None:
        if ref is not None and self.model.resolve(net, ref) not in self.model.ports:
            raise Refusal(409, "NoSuchReference", f'there is no port "{ref}"', field)

    def wire(self, method: str, net: str, name: str, body: Any) -> tuple[int, Any]:
        wires, key = self.model.wires, (net, name)
        if method in ("PUT", "PATCH"):
            old = wires.get(key)
            status, new = self.merge(method, old, body, {**WIRE_DEFAULTS, "tees": []}, "wire", name)
            for end in ("a", "b"):
                self.check_port(net, new[end], end)
            if new["a"] is not None and new["a"] == new["b"]:
                raise Refusal(409, "SamePort", "the two ends are the same port", "b")
            wires[key] = new
            return status, self.model.show_wire(key)
        shown = self.model.show_wire(self.find_wire(net, name))
        if method == "DELETE":
            del wires[key]
        return 200, shown

    def wire_stats(self, method: str, net: str, name: str, body: Any) -> tuple[int, Any]:
        self.find_wire(net, name)
        return 200, self.model.wire_stats.get(name, {"wire": name, "network": net, "uid": f"uid-{name}"})

    def tee(self, method: str, net: str, wire: str, name: str, body: Any) -> tuple[int, Any]:
        key = self.find_wire(net, wire)
        tees = self.model.wires[key]["tees"]
        at = next((i for i, tee in enumerate(tees) if tee["name"] == name), None)
        old = None if at is None else {k: v for k, v in tees[at].items() if k != "name"}
        was_bump = old is not None and old["mode"] == "bump"
        if method in ("PUT", "PATCH"):
            places = {side: body.pop(side) for side in ("before", "after") if side in body}
            status, new = self.merge(method, old, body, TEE_DEFAULTS, "T", name)
            for field in ("port", "out_port"):
                self.check_port(net, new[field], field)
            if new["mode"] == "bump" and new["out_port"] is None:
                raise Refusal(409, "BumpNeedsOut", "mode bump needs an out_port", "out_port")
            entry = {"name": name, **new}
            if new["mode"] == "bump" and not was_bump and new["on_failure"] == "closed" \
                    and self.model.tee_state(net, entry)[0] != "up":
                if self.query.get("when_ready") == "1":
                    entry["mode"] = "off"
                elif self.query.get("force") != "1":
                    raise Refusal(409, "BumpDown", "inserting it would cut the wire: an arm is down", "mode")
            if at is not None:
                del tees[at]
            at = len(tees) if at is None else at
            for side, other in places.items():
                found = next((i for i, tee in enumerate(tees) if tee["name"] == other), None)
                if found is None:
                    raise Refusal(409, "NoSuchReference", f'wire "{wire}" has no T "{other}"', side)
                at = found + (side == "after")
            tees.insert(at, entry)
            self.drain(wire, was_bump and entry["mode"] != "bump")
            return status, self.model.show_wire(key)["tees"][at]
        if at is None:
            raise self.unknown("T", name)
        shown = self.model.show_wire(key)["tees"][at]
        if method == "DELETE":
            del tees[at]
            self.drain(wire, was_bump)
        return 200, shown

    def drain(self, wire: str, drains: bool) -> None:
        if drains:
            self.model.drains.setdefault(wire, {"late": 0, "unreturned": 0})
