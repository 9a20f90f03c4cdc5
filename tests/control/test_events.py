#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""GET /v1/events: what is told, from where on, to how many, and to whom it isn't any more."""

import json
import os
import threading
import time
from typing import Any, Callable

from harness import SLOW, Answer, Daemon, DaemonTest, ask, crowd, main, wait_for

NET = "/v1/networks/default"
RING = 32768  # LIMIT_EVENTS
STREAMS = 16  # LIMIT_STREAMS


Key = tuple[str, str, str]  # kind, network, name


def listed(config: Any) -> dict[Key, str]:
    """Which objects there are, and which incarnations."""
    return {(kind, item.get("network", ""), item["name"]): item["uid"]
            for kind in ("network", "vif", "port", "wire") for item in config[kind + "s"]}


class Stream:
    """A client of the stream; reads only when asked to."""

    def __init__(self, d: Any, query: str = "") -> None:
        self.connection = d.connect(30 * SLOW)
        self.connection.request("GET", "/v1/events" + query)
        self.response = self.connection.getresponse()
        if self.response.status != 200:
            answer = Answer(self.response.status, self.response.headers, self.response.read())
            self.connection.close()
            raise AssertionError(f"{answer.status} {answer.body!r}")
        self.first = self.line()

    def line(self) -> Any:
        text = self.response.readline()
        return json.loads(text) if text else None

    def next(self) -> Any:
        """The next line that is no heartbeat."""
        while (line := self.line()) is not None and line["type"] == "heartbeat":
            pass
        return line

    def until(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """All events up to the first that is wanted."""
        seen = []
        while True:
            line = self.next()
            assert line is not None, seen
            seen.append(line)
            if wanted(line):
                return seen

    def close(self) -> None:
        self.connection.close()


class Events(DaemonTest):
    def stream(self, query: str = "") -> Stream:
        stream = Stream(self.d, query)
        self.addCleanup(stream.close)
        return stream

    def seq(self) -> int:
        stream = Stream(self.d)
        stream.close()
        return stream.first["seq"]

    def wire_with_tap(self) -> None:
        self.d.plug("a", "b", "m")
        self.check(self.d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "tees": [{"name": "t", "port": "m"}]}), 201)

    def test_what_is_told_to_be_down(self) -> None:
        """The change, then what follows from it: of the vif, of the bump that it is an arm of, of the wire; and back. So
        for one that took another's device over."""
        d = self.d
        d.plug("a", "b", "i", "o")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        self.check(d.put(f"{NET}/wires/w/tees/fw", {"port": "i", "out_port": "o", "mode": "bump"}), 201)
        stream = self.stream()
        for value, word in (("down", "bump_failed"), ("up", "bump_recovered")):
            self.check(d.put("/v1/vifs/i/conf/admin", {"value": value}), 200)
            seen = stream.until(lambda line: line["type"] == "wire_state")
            self.assertEqual([line["type"] for line in seen], ["config", "vif_link", word, "wire_state"])
            self.assertEqual((seen[1]["vif"], seen[1]["state"], seen[-1]["state"]), ("i", value, value))
        vif = {"kind": "vhost", "path": d.dir + "/s"}
        self.check(d.put("/v1/vifs/v", vif), 201)
        d.fake("link v up")
        stream.until(lambda line: line["type"] == "vif_link" and line["state"] == "up")
        self.check(d.ask("POST", "/v1/transactions", {"operations": [
            {"method": "DELETE", "path": "/v1/vifs/v"}, {"method": "PUT", "path": "/v1/vifs/u", "body": vif}]}), 200)
        seen = stream.until(lambda line: line["type"] == "vif_link")
        self.assertEqual([(line["type"], line.get("op")) for line in seen],
                         [("config", "delete"), ("config", "create"), ("vif_link", None)])
        self.assertEqual((seen[-1]["vif"], seen[-1]["state"], seen[-1]["uid"]), ("u", "up", d.get("/v1/vifs/u").json["uid"]))

    def test_greeting(self) -> None:
        stream = self.stream()
        self.assertEqual(stream.response.headers["Content-Type"], "application/x-ndjson")
        self.assertEqual(stream.first["type"], "heartbeat")
        self.assertEqual(stream.first["instance"], self.d.get("/v1/version").json["instance"])

    def test_configuration_and_who_changed_it(self) -> None:
        stream = self.stream()
        self.d.plug("a")
        generation = self.d.generation()
        seen = stream.until(lambda e: e["type"] == "config" and e["kind"] == "port")
        config = [e for e in seen if e["type"] == "config"]
        vif, port = (self.d.get(path).json for path in ("/v1/vifs/a", f"{NET}/ports/a"))
        self.assertEqual([(e["op"], e["kind"], e["name"], e["uid"]) for e in config],
                         [("create", "vif", "a", vif["uid"]), ("create", "port", "a", port["uid"])])
        self.assertEqual([e["generation"] for e in config], [generation - 1, generation])
        self.assertEqual(config[1]["by"], {"uid": os.geteuid(), "pid": os.getpid()})
        self.assertEqual(config[1]["request"], f"PUT {NET}/ports/a")
        self.assertEqual(config[1]["network"], "default")
        self.assertNotIn("network", config[0])
        self.assertEqual([e["seq"] for e in seen], list(range(stream.first["seq"] + 1, seen[-1]["seq"] + 1)))
        self.check(self.d.patch("/v1/vifs/a", {"owner": "x"}), 200)
        self.check(self.d.patch("/v1/vifs/a", {"owner": "x"}), 200)  # changes nothing: no event
        self.check(self.d.delete("/v1/vifs/a?detach=1"), 200)
        seen = stream.until(lambda e: e["type"] == "config" and e["op"] == "delete")
        config = [e for e in seen if e["type"] == "config"]
        self.assertEqual([(e["op"], e["kind"]) for e in config],
                         [("change", "vif"), ("change", "port"), ("delete", "vif")])
        self.assertEqual([e["generation"] for e in config], [generation + 1, generation + 2, generation + 2])

    def test_links_wires_and_bumps(self) -> None:
        d = self.d
        d.plug("a", "b", "in", "out")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "tees": [
            {"name": "fw", "port": "in", "out_port": "out", "mode": "bump"}]}), 201)
        wire = d.get(f"{NET}/wires/w").json
        self.assertEqual(wire["status"]["state"], "up")
        stream = self.stream()
        d.fake("link in down its appliance has died")
        seen = stream.until(lambda e: e["type"] == "wire_state")
        self.assertEqual([e["type"] for e in seen], ["vif_link", "bump_failed", "wire_state"])
        link, bump, state = seen
        self.assertEqual((link["vif"], link["state"], link["reason"], link["uid"]),
                         ("in", "down", "its appliance has died", d.get("/v1/vifs/in").json["uid"]))
        self.assertEqual((bump["network"], bump["wire"], bump["tee"], bump["on_failure"], bump["uid"]),
                         ("default", "w", "fw", "closed", wire["tees"][0]["uid"]))
        self.assertEqual((state["wire"], state["state"], state["uid"]), ("w", "down", wire["uid"]))
        self.assertIn("its appliance has died", state["reason"])
        d.fake("link in up")
        seen = stream.until(lambda e: e["type"] == "wire_state")
        self.assertEqual([e["type"] for e in seen], ["vif_link", "bump_recovered", "wire_state"])
        self.check(d.patch(f"{NET}/wires/w", {"admin": "down"}), 200)
        seen = stream.until(lambda e: e["type"] == "wire_state")
        self.assertEqual([e["type"] for e in seen], ["config", "wire_state"])
        self.assertEqual(seen[-1]["reason"], "admin is down")

    def test_an_overloaded_tap(self) -> None:
        d = self.d
        self.wire_with_tap()
        uid = d.get(f"{NET}/wires/w").json["tees"][0]["uid"]
        stream = self.stream()
        d.fake("full m on")
        d.fake("send a 0 7 100")
        begin = stream.until(lambda e: e["type"] == "tap_overloaded")[-1]
        self.assertEqual((begin["phase"], begin["lost"], begin["wire"], begin["tee"], begin["uid"]),
                         ("begin", 7, "w", "t", uid))
        d.fake("send b 0 5 100")
        d.fake("full m off")
        d.fake("send a 0 3 100")
        end = stream.until(lambda e: e["type"] == "tap_overloaded")[-1]
        self.assertEqual((end["phase"], end["lost"], end["uid"]), ("end", 12, uid))

    def test_reasons_are_escaped(self) -> None:
        self.d.plug("a")
        stream = self.stream()
        self.d.fake('link a down "quoted\\" and \u00e9\u20ac')
        event = stream.until(lambda e: e["type"] == "vif_link")[-1]
        self.assertEqual(event["reason"], '"quoted\\" and \u00e9\u20ac')

    def test_a_drain_is_told(self) -> None:
        """Its beginning and its end."""
        d = self.d
        d.plug("a", "b", "i", "o")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "tees": [
            {"name": "fw", "port": "i", "out_port": "o", "mode": "bump"}]}), 201)
        stream = self.stream()
        self.check(d.delete(f"{NET}/wires/w/tees/fw?quiet_ms=300&drain_ms=300"), 200)
        seen = [e for e in stream.until(lambda e: e["type"] == "wire_state" and e["state"] == "up") if e["type"] != "config"]
        self.assertEqual([(e["type"], e["state"]) for e in seen], [("wire_state", "draining"), ("wire_state", "up")])

    def test_a_reason_that_is_cut(self) -> None:
        """Wherever it is cut, it is text: names as long as they may be, and letters of several bytes."""
        d = self.d
        names = [letter * 63 for letter in "abio"]
        d.plug(*names)
        a, b, arm, out = names
        self.check(d.put(f"{NET}/wires/w", {"a": a, "b": b, "tees": [
            {"name": "t" * 63, "port": arm, "out_port": out, "mode": "bump"}]}), 201)
        stream = self.stream()
        for length in range(4):
            reason = "x" * length + "\u20ac" * 80
            d.fake(f"link {arm} down {reason}")
            seen = stream.until(lambda e: e["type"] == "wire_state" and e["state"] == "down")
            self.assertTrue(all(e["reason"] for e in seen))
            d.fake(f"link {a} down {reason}")
            stream.until(lambda e: e["type"] == "wire_state" and e["state"] == "down")
            for path in (f"/v1/vifs/{arm}", f"{NET}/ports/{arm}", f"{NET}/wires/w", f"{NET}/wires/w/tees/{'t' * 63}"):
                told = self.check(d.get(path), 200).json["status"]["reason"]
                self.assertIn("\u20ac", told)
                self.assertLessEqual(len(told.encode()), 255)
            d.fake(f"link {arm} up")
            d.fake(f"link {a} up")
            stream.until(lambda e: e["type"] == "wire_state" and e["state"] == "up")

    def test_a_flapping_guest_is_not_told_of_each_time(self) -> None:
        d = self.d
        d.plug("a", "b")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        stream = self.stream()
        began, flaps = time.monotonic(), 0
        while time.monotonic() - began < 1 or flaps <= 60:
            d.fake(f"link a {'down' if flaps % 2 == 0 else 'up'}")
            # Each is noticed by itself.
            d.get("/v1/version")
            flaps += 1
        d.fake("link a down the end")
        took = time.monotonic() - began
        # Each is told after its own pause.
        ends = {"vif_link", "wire_state"}
        seen = stream.until(lambda e: "the end" in e["reason"] and (ends.discard(e["type"]) or not ends))
        links = [e for e in seen if e["type"] == "vif_link"]
        self.assertEqual(links[-1]["reason"], "the end")
        self.assertGreater(flaps, 30)
        self.assertLessEqual(len(links), 10 * took + 3)
        self.assertGreaterEqual(sum(e["skipped"] for e in links), 10)

    def test_since(self) -> None:
        d = self.d
        d.plug("a", "b", "c")
        last = self.seq()
        whole = self.stream("?since=0")
        self.assertEqual((whole.first["type"], whole.first["seq"]), ("heartbeat", 0))
        seen = whole.until(lambda e: e["seq"] == last)
        self.assertEqual([e["seq"] for e in seen], list(range(1, last + 1)))
        instance = seen[0]["instance"]
        part = self.stream(f"?since={last - 2}&instance={instance}")
        self.assertEqual(part.next(), seen[-2])
        self.assertEqual(part.next(), seen[-1])
        d.plug("d")
        self.assertEqual(part.next()["seq"], last + 1)
        for query in (f"?since={last + 1000}", f"?since={last}&instance={'0' * 8}-0000-0000-0000-000000000000",
                      f"?instance={'0' * 8}-0000-0000-0000-000000000000"):
            gap = self.stream(query)
            self.assertEqual(gap.first["type"], "gap", query)
            self.assertEqual(gap.first["seq"], self.seq())
            self.check(d.patch("/v1/vifs/a", {"owner": query}), 200)
            self.assertEqual(gap.next()["type"], "config")
        for query in ("?since=", "?since=-1", "?since=1e3", "?since=9999999999999999999", "?instance=x", "?since=1&since=2"):
            self.check(d.get("/v1/events" + query), 400)
        self.check(d.get("/v1/events?limit=1"), 400, "UnknownField")

    def test_list_then_watch(self) -> None:
        d = self.d
        d.plug("a", "b")
        config = self.check(d.get("/v1/config"), 200).json
        self.check(d.ask("POST", "/v1/transactions", {"operations": [
            {"method": "PUT", "path": f"{NET}/wires/{name}", "body": {"a": "a", "b": "b"} if name == "w" else {}}
            for name in ("w", "x")]}), 200)
        stream = self.stream(f"?since={config['seq']}&instance={config['instance']}")
        made = [e for e in stream.until(lambda e: e["type"] == "config" and e["name"] == "x") if e["type"] == "config"]
        self.assertEqual([(e["name"], e["generation"], e["request"]) for e in made],
                         [(name, config["generation"] + 1, "POST /v1/transactions") for name in ("w", "x")])

    def test_restart_is_a_gap(self) -> None:
        self.d.plug("a")
        stream = self.stream()
        before = stream.first
        code = self.d.stop()
        self.assertEqual(code, 0)
        end = stream.next()
        self.assertEqual((end["type"], end["reason"]), ("end", "stopping"))
        self.assertIsNone(stream.line())
        self.d.start()
        after = self.stream(f"?since={before['seq']}&instance={before['instance']}")
        self.assertEqual(after.first["type"], "gap")
        self.assertNotEqual(after.first["instance"], before["instance"])

    def test_overrun_cuts_the_slow_and_nobody_else(self) -> None:
        # In memory: it isn't about the disk.
        d = self.d = Daemon(state=":memory:")
        self.addCleanup(d.close)
        self.check(d.put("/v1/vifs/a", {"kind": "none"}), 201)
        first = self.seq()
        slow, fast = self.stream(), self.stream()
        counted: list[int] = []

        def follow() -> None:
            while (line := fast.next()) is not None and line["seq"] < first + RING + 1900:
                counted.append(line["seq"])

        def change(worker: int) -> None:
            client = d.connect(60)
            for i in range(worker, RING + 2000, 8):
                self.check(ask(client, "PATCH", "/v1/vifs/a", {"owner": f"{i:0>200}"}), 200)
            client.close()

        # What the socket of the slow one takes is far less than what is said above the ring's size.
        threads = [threading.Thread(target=follow)] + [threading.Thread(target=change, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # No assertEqual: to print how two such lists differ takes minutes.
        self.assertTrue(counted == list(range(first + 1, first + RING + 1900)), (counted[:3], counted[-3:]))
        lines = []
        while (line := slow.line()) is not None:
            self.assertNotEqual(line["type"], "heartbeat", "it has caught up")
            lines.append(line)
        lines = [slow.first, *lines]
        self.assertEqual((lines[-1]["type"], lines[-1]["reason"]), ("end", "slow"))
        self.assertEqual(lines[-1]["seq"], lines[-2]["seq"])  # where it can go on, if it is quick
        told = [line["seq"] for line in lines if line["type"] == "config"]
        self.assertTrue(told == list(range(told[0], told[0] + len(told))), told[:10])
        self.assertLess(len(told), RING)
        late = self.stream("?since=1")
        self.assertEqual(late.first["type"], "gap")

    def test_a_vif_that_is_up_at_once(self) -> None:
        d = self.d
        stream = self.stream()
        d.plug("a")
        self.check(d.ask("POST", "/v1/transactions", {"operations": [
            {"method": "PUT", "path": "/v1/vifs/b", "body": {"kind": "none"}},
            {"method": "PUT", "path": "/v1/vifs/gone", "body": {"kind": "none"}},
            {"method": "DELETE", "path": "/v1/vifs/gone"}]}), 200)
        d.plug("z")
        seen = stream.until(lambda e: e["type"] == "vif_link" and e["vif"] == "z")
        told = [(e["vif"], e["state"], e["uid"]) for e in seen if e["type"] == "vif_link"]
        self.assertEqual(told, [(name, "up", d.get(f"/v1/vifs/{name}").json["uid"]) for name in ("a", "b", "z")])
        for name in ("a", "b", "z"):
            order = [e["type"] for e in seen if name in (e.get("vif"), e.get("name")) and e.get("kind") != "port"]
            self.assertEqual(order, ["config", "vif_link"])

    def test_a_change_larger_than_the_ring(self) -> None:
        """Nobody misses it without being told so: those that watch are cut, those that come back get a gap."""
        d = self.d = Daemon(state=":memory:")
        self.addCleanup(d.close)
        d.plug("a")
        before = d.get("/v1/config").json
        watching, late = self.stream(), f"?since={before['seq']}&instance={before['instance']}"
        before["ports"] += [{"name": f"p{i}"} for i in range(RING + 100)]
        self.check(d.ask("PUT", "/v1/config?force=1", before), 200)
        last = watching.next()
        self.assertEqual((last["type"], last["reason"], last["seq"]), ("end", "slow", watching.first["seq"]))
        self.assertIsNone(watching.line())
        gap = self.stream(late)
        self.assertEqual(gap.first["type"], "gap")
        after = self.check(d.get("/v1/config"), 200).json
        self.assertEqual(len(after["ports"]), RING + 101)
        self.assertEqual(gap.first["seq"], after["seq"])
        again = self.stream(f"?since={after['seq']}&instance={after['instance']}")
        self.check(d.delete("/v1/vifs/a?detach=1"), 200)
        for stream in (gap, again):
            self.assertEqual((stream.next()["name"], stream.next()["op"]), ("a", "delete"))

    def storm(self, worker: int, changes: list[int]) -> None:
        """Makes, plugs and deletes a few objects again and again, one by one and in transactions."""
        client, net = self.d.connect(60 * SLOW), f"/v1/networks/n{worker}"
        names = [f"{worker}-{i}" for i in range(6)]
        self.check(ask(client, "PUT", net, {}), 201)
        for i in range(60):
            name, other = names[i * 5 % 6], names[i % 6]
            ask(client, "PUT", f"/v1/vifs/{name}", {"kind": "none"})
            self.check(ask(client, "POST", "/v1/transactions", {"operations": [
                {"method": "PUT", "path": f"{net}/ports/{name}", "body": {"vif": name}},
                {"method": "PUT", "path": f"{net}/wires/{name}", "body": {"a": name, "labels": {"i": str(i)}}},
                *([{"method": "DELETE", "path": f"/v1/vifs/{name}?detach=1"}] if i % 3 == 0 else [])]}), 200)
            if i % 4 == 0:
                ask(client, "DELETE", f"{net}/wires/{other}")
                ask(client, "DELETE", f"{net}/ports/{other}?detach=1")
            changes.append(i)
        client.close()

    def follow(self, watching: list[Any]) -> tuple[dict[Key, str], dict[str, str]]:
        """Lists, then watches until the vif `end` goes: which objects there are by then, and what their vifs' links are."""
        client = self.d.connect()
        config = self.check(ask(client, "GET", "/v1/config"), 200).json
        client.close()
        stream = self.stream(f"?since={config['seq']}&instance={config['instance']}")
        self.assertEqual((stream.first["type"], stream.first["seq"]), ("heartbeat", config["seq"]))
        watching.append(stream)
        state, links, seq = listed(config), {}, config["seq"]
        while True:
            event, seq = stream.next(), seq + 1
            self.assertEqual(event["seq"], seq)
            if event["type"] == "vif_link":
                links[event["uid"]] = event["state"]
            if event["type"] != "config":
                continue
            key = (event["kind"], event.get("network", ""), event["name"])
            self.assertEqual(event["op"] == "create", key not in state, event)
            self.assertIn(state.get(key), (None, event["uid"]), event)
            state[key] = event["uid"]
            if event["op"] == "delete":
                del state[key]
                if key == ("vif", "", "end"):
                    return state, links

    def test_list_then_watch_under_a_storm(self) -> None:
        """What is listed at any moment of a storm, and the events from there on, are the state in which it ends."""
        d = self.d
        d.plug("end")
        storms, watchers = 4, 8
        changes, watching, ended, results = [], [], [], []  # type: ignore[var-annotated]

        def work(worker: int) -> None:
            if worker < storms:
                try:
                    self.storm(worker, changes)
                finally:
                    ended.append(worker)
            elif worker < storms + watchers:
                # One after the other, spread over the storm.
                wait_for(lambda: len(changes) >= 25 * (worker - storms) or len(ended) == storms, "the storm goes on")
                results.append(self.follow(watching))
            else:
                wait_for(lambda: len(ended) == storms and len(watching) == watchers, "the storm's end", seconds=60)
                self.check(d.delete("/v1/vifs/end?detach=1"), 200)

        crowd(storms + watchers + 1, work)
        state = listed(d.get("/v1/config").json)
        vifs = {vif["uid"]: vif["status"]["state"] for vif in d.get("/v1/vifs").json["items"]}
        self.assertEqual(len(results), watchers)
        self.assertGreater(len(state), 20)
        for seen, links in results:
            self.assertEqual(seen, state)
            self.assertEqual({uid: link for uid, link in links.items() if uid in vifs},
                             {uid: link for uid, link in vifs.items() if uid in links})
        # The first has seen nearly all of them come.
        self.assertGreater(max(len(links) for _, links in results), 20)

    def test_quota_of_its_own(self) -> None:
        d = self.d
        d.forget_connections()
        streams = [self.stream() for _ in range(STREAMS)]
        clients = [d.connect() for _ in range(63)]
        for client in clients:
            self.check(ask(client, "GET", "/v1/version"), 200)
        one_more = d.connect()
        self.check(ask(one_more, "GET", "/v1/events"), 503, "Unavailable")
        one_more.close()
        streams[3].close()
        # A client that is gone is noticed by a heartbeat.
        wait_for(lambda: ask(clients[0], "GET", "/v1/events?since=x").status == 400 and self.can_stream(), "a place")
        for client in clients:
            self.check(ask(client, "GET", "/v1/version"), 200)
            client.close()

    def can_stream(self) -> bool:
        try:
            Stream(self.d).close()
        except AssertionError:
            return False
        return True

    def test_head_and_methods(self) -> None:
        answer = self.d.ask("HEAD", "/v1/events")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.check(self.d.get("/v1/version"), 200)
        self.check(self.d.put("/v1/events"), 405)


if __name__ == "__main__":
    main()
