#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Capabilities: every key of every kind of entity; `test_conf.py --update` writes docs/conf.md's tables anew."""

import json
import pathlib
import re
import subprocess
import sys
import unittest
from typing import Any

from harness import BINARY, DaemonTest, main, wait_for
from test_server import unread

NET = "/v1/networks/default"
DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "conf.md"
MARK = "<!-- generated: tests/control/test_conf.py --update -->\n"
KINDS = ("vhost", "vhost-server", "dev", "kernel-new", "none")


def dump() -> str:
    return subprocess.run([BINARY, "--dump-conf"], check=True, capture_output=True, text=True).stdout


def with_tables(page: str) -> str:
    return page[:page.index(MARK) + len(MARK)] + dump()


def documented() -> dict[str, dict[str, list[str]]]:
    """Section → key → access, by kind of vif or once."""
    tables: dict[str, dict[str, list[str]]] = {}
    for section in dump().split("\n## ")[1:]:
        name = section.split("\n")[0].lower()
        rows = re.findall(r"^\| `([a-z0-9_-]+)` \| [^|]*\| [^|]*\|((?: (?:rw|r|472) \|)+)", section, re.M)
        tables[name] = {key: re.findall(r"rw|r|472", access) for key, access in rows}
    return tables


class Document(unittest.TestCase):
    maxDiff = None

    def test_the_tables_are_what_the_daemon_says(self) -> None:
        page = DOCUMENT.read_text()
        self.assertEqual(with_tables(page), page, "run: PATCHBAYD=… tests/control/test_conf.py --update")
        self.assertEqual({"host", "network", "port", "vif", "wire"}, set(documented()))


class Conf(DaemonTest):
    def make_all(self) -> list[tuple[str, str, str]]:
        """One entity of every kind and state: (section, kind of vif or "", path)."""
        d = self.d
        targets = {"vhost": {"path": f"{d.dir}/v.sock"}, "vhost-server": {"path": f"{d.dir}/s.sock"},
                   "dev": {"devargs": "net_null0"}, "kernel-new": {"interface": "pb0"}, "none": {}}
        found = [("host", "", "/v1"), ("network", "", NET)]
        for kind in KINDS:
            for state in ("idle", "up"):
                name = f"{kind}-{state}"
                body = {"kind": kind, **{key: value + state for key, value in targets[kind].items()}}
                self.check(d.put(f"/v1/vifs/{name}", body), 201)
                self.check(d.put(f"{NET}/ports/{name}", {"vif": name}), 201)
                if state == "up":
                    d.fake(f"features {name} {'0x510008883' if kind.startswith('vhost') else '0'}")
                    d.fake(f"link {name} up")
                found += [("vif", kind, f"/v1/vifs/{name}"), ("vif", kind, f"{NET}/ports/{name}/vif"),
                          ("vif", kind, f"{NET}/ports/{name}/VIF"), ("port", "", f"{NET}/ports/{name}")]
        self.check(d.put(f"{NET}/ports/empty", {}), 201)
        self.check(d.put("/v1/vifs/nic", {"kind": "none"}), 201)
        self.check(d.put(f"{NET}/ports/tagged", {"vif": "nic", "vlan": 7}), 201)
        self.check(d.put(f"{NET}/wires/w", {"a": "none-up", "b": "dev-up"}), 201)
        self.check(d.put(f"{NET}/wires/w/tees/t", {"port": "kernel-new-up"}), 201)
        self.check(d.put(f"{NET}/wires/unplugged", {"a": None, "b": None}), 201)
        return [*found, ("port", "", f"{NET}/ports/empty"), ("port", "", f"{NET}/ports/tagged"),
                ("wire", "", f"{NET}/wires/w"), ("wire", "", f"{NET}/wires/unplugged")]

    def test_the_list_is_what_works(self) -> None:
        """For every entity and every key that any entity has: listed if and only if GET isn't 472."""
        d = self.d
        tables = documented()
        every = sorted({key for keys in tables.values() for key in keys} | {"nope", "x-nope", "MTU", "%20", "a" * 200})
        checked = 0
        for section, kind, path in self.make_all():
            keys = self.check(d.get(f"{path}/conf"), 200).json["keys"]
            self.assertEqual(keys, sorted(set(keys)), path)
            self.assertEqual(self.check(d.get(f"{path}/conf/"), 200).json["keys"], keys)
            self.assertEqual(self.check(d.get(f"{path}/conf/{keys[0]}/"), 200).json["key"], keys[0])
            self.assertLessEqual(set(keys), set(tables[section]), path)
            for key in every:
                answer = d.get(f"{path}/conf/{key}")
                access = tables[section].get(key, ["472"])
                granted = access[KINDS.index(kind) if kind else 0] if len(access) > 1 or not kind else access[0]
                self.assertEqual(answer.status, 200 if key in keys else 472, f"{path} {key}: {answer.body!r}")
                checked += 1
                if answer.status == 472:
                    self.assertEqual(answer.code, "CapNotSupported")
                    self.assertGreater(len(answer.json["error"]["message"]), 25)
                    for method in ("PUT", "DELETE"):
                        body = {"value": 1} if method == "PUT" else None
                        self.check(d.ask(method, f"{path}/conf/{key}", body), 472, "CapNotSupported")
                    continue
                self.assertNotEqual(granted, "472", f"{path} {key} works and is documented as 472")
                self.check_key(path, key, answer.json, granted == "rw")
        self.assertGreater(checked, 1000)

    def check_key(self, path: str, key: str, shown: Any, writable: bool) -> None:
        types = {"integer": int, "string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
        self.assertEqual(set(shown), {"key", "value", "type", "unit", "writable", "standard", "description"})
        self.assertEqual((shown["key"], shown["writable"], shown["standard"]), (key, writable, not key.startswith("x-")))
        self.assertIn(type(shown["value"]), [types[word] for word in shown["type"].split("|")], f"{path} {key}")
        url = f"{path}/conf/{key}"
        if not writable:
            for method, body in (("PUT", {"value": shown["value"]}), ("DELETE", None)):
                answer = self.check(self.d.ask(method, url, body), 405, "CapReadOnly")
                self.assertEqual(answer.headers["Allow"], "GET, HEAD")
            return
        generation = self.d.generation()
        again = self.check(self.d.put(url, shown), 200)  # GET | jq | PUT
        self.assertEqual(again.json, shown)
        self.assertEqual(self.d.generation(), generation, f"{path} {key}: an identical PUT made a generation")

    def test_writing_is_patching(self) -> None:
        d = self.d
        d.plug("a", "b", "c")
        wire = f"{NET}/wires/w"
        self.check(d.put(wire, {"a": "a", "b": "b", "labels": {"k": "v"}}), 201)
        etag = d.get(wire).etag
        key = f"{wire}/conf/stall_ms"
        self.assertEqual(d.get(key).etag, etag)
        answer = self.check(d.put(key, {"value": 250}, headers={"If-Match": etag}), 200)
        self.assertEqual((answer.json["value"], answer.json["unit"]), (250, "ms"))
        self.assertNotEqual(answer.etag, etag)
        self.assertEqual(answer.etag, d.get(wire).etag)
        self.assertEqual((d.get(wire).json["stall_ms"], d.get(wire).json["labels"]), (250, {"k": "v"}))
        self.check(d.put(key, {"value": 300}, headers={"If-Match": etag}), 412, "Stale")
        self.check(d.put(key, {"value": 0}), 400, "BadValue")
        self.check(d.put(key, {"value": "300"}), 400, "BadValue")
        self.check(d.put(key, {"Value": 300}), 400, "UnknownField")
        self.check(d.put(key, {}), 400, "BadValue")
        self.check(d.put(key, {"key": "on_full", "value": 300}), 400, "BadValue")
        self.check(d.put(key, b"[300]"), 400)
        self.check(d.delete(key, headers={"If-Match": etag}), 412, "Stale")
        self.assertEqual(self.check(d.delete(key), 200).json["value"], 100)
        self.assertEqual(d.get(wire).json["stall_ms"], 100)
        # The checks are those of the object.
        self.check(d.put(f"{wire}/conf/b", {"value": "a"}), 409, "SamePort")
        self.check(d.put(f"{wire}/conf/b", {"value": "nope"}), 409, "NoSuchReference")
        self.assertEqual(self.check(d.put(f"{wire}/conf/b", {"value": "c"}), 200).json["value"], "c")
        self.assertEqual(d.get(wire).json["b"], "c")
        self.assertIsNone(self.check(d.delete(f"{wire}/conf/b"), 200).json["value"])
        self.assertEqual(self.check(d.put(f"{wire}/conf/admin", {"value": "down"}), 200).json["value"], "down")
        self.assertEqual(d.get(f"{wire}/conf/link").json["value"], "down")
        self.check(d.get(f"{NET}/wires/nope/conf"), 404, "NotFound")
        self.check(d.put(f"{NET}/wires/nope/conf/admin", {"value": "up"}), 404, "NotFound")
        self.check(d.ask("PATCH", key, {"value": 1}), 405, "MethodNotAllowed")
        for path, name, value in ((f"{NET}/ports/c", "vlan", 9), ("/v1/vifs/a", "owner", "me"), (f"{NET}/ports/a/vif", "owner", "me")):
            self.assertEqual(self.check(d.put(f"{path}/conf/{name}", {"value": value}), 200).json["value"], value)
            self.assertIsNone(self.check(d.delete(f"{path}/conf/{name}"), 200).json["value"])
        # What was set is kept.
        self.check(d.put(f"{NET}/ports/c/vif/conf/owner", {"value": "vm-1"}), 200)
        d.restart()
        self.assertEqual(d.get("/v1/vifs/c/conf/owner").json["value"], "vm-1")

    def test_the_last_word_counts(self) -> None:
        """Of two that wait for their turn together, also if the later one asks for what there was when it came."""
        d = self.d
        d.plug("a", "b")
        wire = f"{NET}/wires/w"
        self.check(d.put(wire, {"a": "a", "b": "b"}), 201)
        self.check(d.put(f"{NET}/wires/v", {}), 201)
        d.fake("publish-wait 1000000")
        clients = [d.connect() for _ in range(3)]
        generation = d.generation()
        clients[0].request("PUT", f"{NET}/wires/v/conf/stall_ms", '{"value": 7}')
        wait_for(lambda: d.generation() > generation, "its table is on its way")
        for client, value in ((clients[1], 7), (clients[2], 100)):
            client.request("PUT", f"{wire}/conf/stall_ms", json.dumps({"value": value}))
            wait_for(lambda c=client: unread(c.sock) == 0, "the daemon has read it")
        self.assertEqual([json.loads(client.getresponse().read())["value"] for client in clients], [7, 7, 100])
        d.fake("publish-wait 0")
        self.assertEqual(d.get(wire).json["stall_ms"], 100)
        for client in clients:
            client.close()

    def test_reasons(self) -> None:
        d = self.d
        d.plug("g", kind="vhost")
        self.check(d.put(f"{NET}/ports/empty", {}), 201)
        for path, words in (("/v1/vifs/g/conf/mac", "where the VM is"), ("/v1/vifs/g/conf/ring", "driver"),
                            ("/v1/vifs/g/conf/rign", 'did you mean "ring"'),
                            (f"{NET}/ports/empty/conf/shared", "has no vif"),
                            ("/v1/conf/frobnicate", "docs/conf.md")):
            error = self.check(d.get(path), 472, "CapNotSupported").json["error"]
            self.assertIn(words, error["message"])
            self.assertEqual(error["field"], "key")
        self.check(d.get(f"{NET}/ports/empty/vif/conf"), 404, "NotFound")
        self.check(d.get(f"{NET}/ports/nope/VIF/conf/"), 404, "NotFound")
        self.check(d.get("/v1/vifs/g/"), 404, "NoSuchPath")
        for path in ("/v1/networks/nope", f"{NET}/ports/nope", "/v1/vifs/nope", f"{NET}/wires/nope", "/v1/networks/nope/wires/w"):
            for method, tail in (("GET", "/conf"), ("GET", "/conf/link"), ("PUT", "/conf/admin"), ("DELETE", "/conf/admin")):
                self.check(d.ask(method, path + tail, {"value": "up"} if method == "PUT" else None), 404, "NotFound")
        # It appears with the driver and goes with it.
        d.fake("features g 0x400000003")
        d.fake("link g up")
        self.assertEqual(wait_for(lambda: d.get("/v1/vifs/g/conf/ring").json.get("value"), "a ring"), "packed")
        self.assertEqual(d.get("/v1/vifs/g/conf/offloads").json["value"], ["csum", "guest_csum"])
        # What is left undone for it, or is done in software.
        self.assertIs(d.get("/v1/vifs/g/conf/csum").json["value"], True)
        for features, words in (("0x400000003", "guest_tso4"), ("0x400000083", "guest_tso4"), ("0x400000183", None),
                                ("0x400000180", "guest_tso4")):
            d.fake(f"features g {features}")
            answer = d.get("/v1/vifs/g/conf/tso")
            if words is None:
                self.assertIs(answer.json["value"], True, features)
            else:
                self.assertIn(words, self.check(answer, 472, "CapNotSupported").json["error"]["message"])
        d.fake("features g 0")
        self.check(d.get("/v1/vifs/g/conf/ring"), 472)
        self.check(d.put("/v1/vifs/plain", {"kind": "dev", "devargs": "net_a"}), 201)
        self.check(d.put("/v1/vifs/cuts", {"kind": "dev", "devargs": "tso:1"}), 201)
        for key, word in (("tso", "TSO"), ("csum", "checksum")):
            refused = self.check(d.get(f"/v1/vifs/plain/conf/{key}"), 472, "CapNotSupported").json["error"]["message"]
            self.assertRegex(refused, f"in software; .*{word}")
            self.assertIs(d.get(f"/v1/vifs/cuts/conf/{key}").json["value"], True)


class Admin(DaemonTest):
    """What is told to be down gives and takes no frames, and every one is counted."""

    def stats(self, wire: str = "w") -> Any:
        return self.d.get(f"{NET}/wires/{wire}/stats").json

    def send(self, vif: str) -> tuple[dict[str, int], dict[str, int]]:
        """Ten frames from a vif: what the wire's two directions have dropped of them."""
        def dropped() -> list[dict[str, int]]:
            shown = self.stats()
            return [dict(shown[way]["dropped"], delivered=shown[way]["delivered"]["frames"]) for way in ("a_to_b", "b_to_a")]

        before = dropped()
        self.d.fake(f"send {vif} 0 10 100")
        return tuple({reason: count - was.get(reason, 0) for reason, count in now.items() if count != was.get(reason, 0)}
                     for was, now in zip(before, dropped()))

    def test_frames(self) -> None:
        d = self.d
        d.plug("a", "b", "m")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "tees": [{"name": "m", "port": "m"}]}), 201)
        gone = {"total": 10, "admin_down": 10}
        for path in ("/v1/vifs/b/conf/admin", f"{NET}/ports/b/conf/admin"):
            copied = self.stats()["tees"][0]["copied"]["frames"]
            self.assertEqual(self.send("a"), ({"delivered": 10}, {}))
            self.check(d.put(path, {"value": "down"}), 200)
            self.assertEqual(self.send("a"), (gone, {}))  # the tap sees what left a …
            self.assertEqual(self.stats()["tees"][0]["copied"]["frames"], copied + 20)
            self.assertEqual(self.send("b"), ({}, gone))  # … and nothing of b
            self.assertEqual(self.stats()["tees"][0]["copied"]["frames"], copied + 20)
            self.assertEqual(self.check(d.delete(path), 200).json["value"], "up")
            self.assertEqual(self.send("b"), ({}, {"delivered": 10}))
        before = self.stats()["tees"][0]
        self.check(d.put("/v1/vifs/m/conf/admin", {"value": "down"}), 200)
        self.assertEqual(self.send("a"), ({"delivered": 10}, {}))
        tap = self.stats()["tees"][0]
        self.assertEqual((tap["copied"], tap["dropped"]), (before["copied"], {"total": 10, "down": 10}))

    def test_bump(self) -> None:
        """A bump whose arm is down has failed: closed it cuts the wire, open it is passed by; none goes in."""
        d = self.d
        d.plug("a", "b", "i", "o")
        bump = {"name": "fw", "port": "i", "out_port": "o", "mode": "bump"}
        self.check(d.put(f"{NET}/ports/o/conf/admin", {"value": "down"}), 200)
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        message = self.check(d.put(f"{NET}/wires/w/tees/fw", bump), 409, "BumpDown").json["error"]["message"]
        self.assertIn("is administratively down", message)
        self.check(d.put(f"{NET}/wires/w/tees/fw?when_ready=1", bump), 201)
        self.check(d.delete(f"{NET}/ports/o/conf/admin"), 200)
        wait_for(lambda: d.get(f"{NET}/wires/w/tees/fw").json["mode"] == "bump", "the T goes in with its arm")
        self.check(d.put("/v1/vifs/i/conf/admin", {"value": "down"}), 200)
        status = d.get(f"{NET}/wires/w").json["status"]
        self.assertEqual((status["state"], status["reason"]), ("down", "bump fw: port i: vif i: admin is down"))
        self.assertEqual(self.send("a"), ({"total": 10, "bump_down": 10}, {}))
        self.assertEqual(self.send("i"), ({}, {"total": 10, "admin_down": 10}))
        self.check(d.patch(f"{NET}/wires/w/tees/fw", {"on_failure": "open"}), 200)
        self.assertEqual(self.send("a"), ({"delivered": 10}, {}))

    def test_state(self) -> None:
        """Status and its time, events, restart, a whole configuration."""
        d = self.d
        d.plug("a", "b")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        config = d.get("/v1/config").json
        since = d.get("/v1/vifs/a").json["status"]["since"]
        for _ in range(2):
            last = since
            self.check(d.put("/v1/vifs/a/conf/admin", {"value": "down"}), 200)
            for path, reason in (("/v1/vifs/a", "admin is down"), (f"{NET}/ports/a", "vif a: admin is down"),
                                 (f"{NET}/wires/w", "port a: vif a: admin is down")):
                status = d.get(path).json["status"]
                self.assertEqual((status["state"], status["reason"]), ("down", reason))
            since = d.get("/v1/vifs/a").json["status"]["since"]
            self.assertGreaterEqual(since, last)
            d.restart()
            self.assertEqual(d.get("/v1/vifs/a/conf/admin").json["value"], "down")
            self.assertEqual(wait_for(lambda: d.get("/v1/vifs/a").json["status"]["reason"], "a reason"), "admin is down")
            # Replugged, it is as down as it was.
            self.check(d.patch(f"{NET}/wires/w", {"a": None}), 200)
            self.check(d.patch(f"{NET}/wires/w", {"a": "a"}), 200)
            self.assertEqual(self.send("a"), ({"total": 10, "admin_down": 10}, {}))
            plan = self.check(d.put("/v1/config?force=1", config), 200).json["changes"]
            self.assertEqual([(step["kind"], step["fields"]) for step in plan],
                             [("vif", [{"field": "admin", "from": "down", "to": "up"}])])
            status = d.get(f"{NET}/wires/w").json["status"]
            self.assertEqual((status["state"], self.send("a")), ("up", ({"delivered": 10}, {})))


class Mtu(DaemonTest):
    def mtus(self, name: str = "nic") -> tuple[Any, Any, Any]:
        """Configured, the device's, the key's."""
        shown = self.d.get(f"/v1/vifs/{name}").json
        return shown["mtu"], shown["status"]["mtu"], self.d.get(f"/v1/vifs/{name}/conf/mtu").json["value"]

    def test_of_a_device(self) -> None:
        d = self.d
        self.check(d.put("/v1/vifs/nic", {"kind": "dev", "devargs": "net_a"}), 201)
        key = "/v1/vifs/nic/conf/mtu"
        self.assertEqual(self.mtus(), (None, 9000, 9000))
        self.assertEqual(self.check(d.put(key, {"value": 1400}), 200).json["value"], 1400)
        self.assertEqual(self.mtus(), (1400, 1400, 1400))
        d.restart()
        self.assertEqual(self.mtus(), (1400, 1400, 1400))
        # What is refused, whoever refuses it, changes nothing.
        for value, status in ((67, 400), (9199, 400), (9100, 400), ("1400", 400)):
            self.assertEqual(self.check(d.put(key, {"value": value}), status, "BadValue").json["error"]["field"], "mtu")
        self.assertEqual(self.mtus(), (1400, 1400, 1400))
        self.assertEqual(self.check(d.delete(key), 200).json["value"], 9000)
        self.assertEqual(self.mtus(), (None, 9000, 9000))
        # When it is made; and what can't do it says so.
        self.check(d.put("/v1/vifs/tap", {"kind": "kernel-new", "interface": "pb0", "mtu": 1280}), 201)
        self.assertEqual(self.mtus("tap"), (1280, 1280, 1280))
        error = self.check(d.put("/v1/vifs/x", {"kind": "dev", "devargs": "net_b", "mtu": 9100}), 400, "BadValue").json["error"]
        self.assertEqual(error["field"], "mtu")
        self.check(d.put("/v1/vifs/fix", {"kind": "dev", "devargs": "nomtu:1"}), 201)
        for name, words in (("fix", "driver can't set"), ("g", "host_mtu"), ("n", "every length")):
            if name != "fix":
                self.check(d.put(f"/v1/vifs/{name}", {"kind": "vhost", "path": d.dir + "/g"} if name == "g" else {"kind": "none"}), 201)
            error = self.check(d.patch(f"/v1/vifs/{name}", {"mtu": 1400}), 472, "CapNotSupported").json["error"]
            self.assertEqual(error["field"], "mtu")
            self.assertIn(words, error["message"])

    def test_all_or_nothing(self) -> None:
        """Several devices in one transaction: if one refuses, or another operation does, or the disk, all keep theirs."""
        d = self.d
        for name, target in (("nic", "net_a"), ("two", "net_b"), ("fix", "nomtu:1")):
            self.check(d.put(f"/v1/vifs/{name}", {"kind": "dev", "devargs": target}), 201)
        put = lambda name, value: {"method": "PUT", "path": f"/v1/vifs/{name}/conf/mtu", "body": {"value": value}}
        transaction = lambda *operations: d.ask("POST", "/v1/transactions", {"operations": list(operations)})
        error = self.check(transaction(put("nic", 1300), put("nic", 1400), put("two", 1500), put("fix", 1400)), 472).json["error"]
        self.assertEqual((error["index"], error["field"]), (3, "mtu"))
        self.check(transaction(put("nic", 1300), {"method": "DELETE", "path": "/v1/vifs/nope"}), 404)
        self.assertEqual((self.mtus(), self.mtus("two")), ((None, 9000, 9000),) * 2)
        self.check(transaction(put("nic", 1300), put("nic", 1400), put("two", 1500)), 200)
        self.assertEqual((self.mtus(), self.mtus("two")), ((1400,) * 3, (1500,) * 3))
        config = d.get("/v1/config").json
        for vif in config["vifs"]:
            vif["mtu"] = {"nic": 1600, "two": None, "fix": 1400}[vif["name"]]
        error = self.check(d.put("/v1/config?force=1", config), 472).json["error"]
        self.assertEqual(error["field"], f"vifs[{[v['name'] for v in config['vifs']].index('fix')}].mtu")
        self.assertEqual((self.mtus(), self.mtus("two")), ((1400,) * 3, (1500,) * 3))
        next(vif for vif in config["vifs"] if vif["name"] == "fix")["mtu"] = None
        self.check(d.put("/v1/config?force=1", config), 200)
        self.assertEqual((self.mtus(), self.mtus("two")), ((1600,) * 3, (None, 9000, 9000)))
        # A device that changes hands.
        self.check(transaction({"method": "DELETE", "path": "/v1/vifs/nic"},
                               {"method": "PUT", "path": "/v1/vifs/new", "body": {"kind": "dev", "devargs": "net_a", "mtu": 1234}}), 200)
        self.assertEqual(self.mtus("new"), (1234,) * 3)


class Worker(DaemonTest):
    args = ("--workers", "1,2")

    def test_the_key_pins(self) -> None:
        d = self.d
        d.plug("g", kind="vhost")
        key = "/v1/vifs/g/conf/worker"
        self.assertIsNone(d.get(key).json["value"])
        self.assertEqual(self.check(d.put(key, {"value": 1}), 200).json["value"], 1)
        self.assertEqual(d.get("/v1/vifs/g/conf/workers").json["value"], [1])
        self.check(d.put(key, {"value": 2}), 400, "BadValue")
        d.restart()
        self.assertEqual((d.get(key).json["value"], d.get("/v1/vifs/g/conf/workers").json["value"]), (1, [1]))
        self.assertIsNone(self.check(d.delete(key), 200).json["value"])
        self.assertIsNone(d.get("/v1/vifs/g").json["worker"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--update"]:
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    else:
        main()
