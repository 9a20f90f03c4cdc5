#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every route and its answers: statuses, codes, fields, ETags, lists, detach."""

import json
import time

from harness import DaemonTest, main, wait_for

NET = "/v1/networks/default"


class Routes(DaemonTest):
    def test_every_route(self) -> None:
        d = self.d
        self.check(d.get("/v1/version"), 200)
        self.check(d.get("/v1/stats"), 200)
        self.check(d.get("/v1/audit?limit=1"), 200)
        self.check(d.get("/metrics"), 200)
        self.check(d.ask("HEAD", "/v1/events"), 200)
        self.check(d.put("/v1/networks/n", {"labels": {"a": "b"}}), 201)
        d.plug("a", "b", "t", "in", "out")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        self.check(d.put(f"{NET}/wires/w/tees/t", {"port": "t"}), 201)
        for path in ("/v1/vifs", "/v1/vifs/a", "/v1/vifs/a/stats", "/v1/networks", "/v1/networks/n", f"{NET}/ports",
                     f"{NET}/ports/a", f"{NET}/wires", f"{NET}/wires/w", f"{NET}/wires/w/stats", f"{NET}/wires/w/tees",
                     f"{NET}/wires/w/tees/t", "/v1/config"):
            with self.subTest(path=path):
                got = self.check(d.get(path), 200)
                self.assertEqual(got.headers["Content-Type"], "application/json")
                head = self.check(d.ask("HEAD", path), 200)
                self.assertEqual(head.body, b"")
                if "Content-Length" in got.headers:
                    self.assertEqual(head.headers["Content-Length"], got.headers["Content-Length"])
        for path in ("/v1/vifs/a", "/v1/networks/n", f"{NET}/ports/a", f"{NET}/wires/w", f"{NET}/wires/w/tees/t"):
            with self.subTest(path=path):
                self.check(d.patch(path, {"labels": {"k": "v"}}), 200)
                self.assertEqual(d.get(path).json["labels"], {"k": "v"} if path != "/v1/networks/n" else
                                 {"a": "b", "k": "v"})
        config = self.check(d.get("/v1/config"), 200).json
        config["wires"][0]["b"] = None
        self.check(d.put("/v1/config?dry_run=1", config), 200)
        self.check(d.put("/v1/config", config), 428, "PreconditionRequired")
        self.check(d.put("/v1/config?force=1", config), 200)
        operations = [{"method": "PATCH", "path": f"{NET}/wires/w", "body": {"b": "b"}},
                      {"method": "DELETE", "path": f"{NET}/ports/b"}]
        self.check(d.ask("POST", "/v1/transactions", {"operations": operations}), 409, "InUse")
        self.check(d.ask("POST", "/v1/transactions", {"operations": operations[:1]}), 200)
        for path in (f"{NET}/wires/w/tees/t", f"{NET}/wires/w", f"{NET}/ports/a", "/v1/vifs/a", "/v1/networks/n"):
            with self.subTest(path=path):
                before = d.get(path).json
                gone = self.check(d.delete(path), 200).json
                self.assertEqual(gone["uid"], before["uid"])
                self.check(d.get(path), 404, "NotFound")
                self.check(d.delete(path), 404, "NotFound")
                self.check(d.patch(path, {}), 404, "NotFound")

    def test_what_is_not_there(self) -> None:
        for path in ("/v1/vifs/x", "/v1/vifs/x/stats", "/v1/networks/x", "/v1/networks/x/ports", "/v1/networks/x/wires",
                     f"{NET}/ports/x", f"{NET}/wires/x", f"{NET}/wires/x/stats", f"{NET}/wires/x/tees", f"{NET}/wires/x/tees/t"):
            with self.subTest(path=path):
                self.check(self.d.get(path), 404, "NotFound")
        for path in ("/v1/networks/x", "/v1/vifs/x"):
            self.check(self.d.put(path, {"colour": 1}), 400, "UnknownField")
        self.check(self.d.put(f"{NET}/wires/x/tees/t", {}), 404, "NotFound")

    def test_no_such_path(self) -> None:
        for path, nearest in (("/v1/vif", "/v1/vifs"), ("/v1/networks/default/wire/w", "/wires/{wire}"), ("/", "/v1/"),
                              ("/v2/vifs", "/v1/vifs"), ("/v1/vifs/", "/v1/vifs"), ("/v1/vifs/a/stat", "/stats"),
                              ("/v1" + "/x" * 50, "/v1/"), ("/v1/vifs/a%2Fstats", "/v1/vifs/{vif}")):
            with self.subTest(path=path):
                answer = self.d.get(path)
                if "%2F" in path:
                    self.check(answer, 400, "BadValue")
                    continue
                self.check(answer, 404, "NoSuchPath")
                self.assertIn(nearest, answer.json["error"]["message"])

    def test_methods(self) -> None:
        for method, path, allow in (("POST", "/v1/vifs", "GET, HEAD"), ("DELETE", "/v1/version", "GET, HEAD"),
                                    ("POST", "/v1/vifs/a", "GET, HEAD, PUT, PATCH, DELETE"),
                                    ("PUT", f"{NET}/wires/w/stats", "GET, HEAD"), ("BREW", "/v1/stats", "GET, HEAD")):
            with self.subTest(method=method, path=path):
                answer = self.check(self.d.ask(method, path), 405, "MethodNotAllowed")
                self.assertEqual(answer.headers["Allow"], allow)
                hint = "PUT /v1/vifs/{vif} makes one" if path == "/v1/vifs" else "makes one"
                self.assertEqual(hint in answer.json["error"]["message"], path == "/v1/vifs")

    def test_names(self) -> None:
        for name in ("a%00b", "%2e%2e", "-x", "x" * 64, "a%20b", "%C3%A4", "a%zz", "a%"):
            with self.subTest(name=name):
                self.check(self.d.put(f"/v1/vifs/{name}", {"kind": "none"}), 400, "BadValue")
        self.check(self.d.put("/v1/vifs/vm%31", {"kind": "none"}), 201)
        self.check(self.d.get("/v1/vifs/vm1"), 200)
        # The rest of a name behind a zero byte must not be lost.
        self.check(self.d.delete("/v1/vifs/vm1%00x"), 400)
        self.check(self.d.get("/v1/vifs/vm1"), 200)

    def test_parameters(self) -> None:
        d = self.d
        for path, code in (("/v1/vifs?colour=red", "UnknownField"), ("/v1/vifs?detach=1", "UnknownField"),
                           ("/v1/vifs?limit=0", "BadValue"), ("/v1/vifs?limit=1001", "BadValue"),
                           ("/v1/vifs?limit=%2b5", "BadValue"), ("/v1/vifs?limit=5&limit=6", "BadValue"),
                           ("/v1/vifs?limit", "BadValue"), ("/v1/vifs?after=..", "BadValue"),
                           ("/v1/version?x", "UnknownField")):
            with self.subTest(path=path):
                self.check(d.get(path), 400, code)
        self.check(d.delete("/v1/vifs/a?detach=yes"), 400, "BadValue")
        self.check(d.put("/v1/vifs/a?force=1", {"kind": "none"}), 400, "UnknownField")
        self.assertIn("detach", d.delete("/v1/vifs/a?force=1").json["error"]["message"])

    def test_bodies(self) -> None:
        d = self.d
        self.check(d.ask("PUT", "/v1/vifs/a"), 400, "Malformed")
        self.check(d.put("/v1/vifs/a", "[]"), 400, "Malformed")
        self.check(d.put("/v1/vifs/a", '{"kind":"none",}'), 400, "Malformed")
        self.check(d.put("/v1/vifs/a", '{"kind":"none","kind":"none"}'), 400, "Malformed")
        self.check(d.put("/v1/vifs/a", b'{"kind":"\xff"}'), 400, "Malformed")
        self.check(d.get("/v1/vifs", body="{}"), 400, "Malformed")
        self.check(d.ask("DELETE", "/v1/vifs/a", "{}"), 400, "Malformed")
        deep = '{"labels":' + "[" * 50 + "]" * 50 + "}"
        self.check(d.put("/v1/vifs/a", deep), 413, "TooLarge")
        error = self.check(d.put("/v1/vifs/a", {"kind": "none", "colour": 1}), 400, "UnknownField").json["error"]
        self.assertEqual((error["field"], error["details"]), ("colour", None))
        self.check(d.put("/v1/vifs/a", {"kind": "none", "name": "b"}), 400, "BadValue")
        self.check(d.put("/v1/vifs/a", {}), 400)
        self.check(d.put("/v1/vifs/a", {"kind": "tap"}), 400, "BadValue")
        self.assertEqual(d.generation(), 0)


class Manners(DaemonTest):
    def test_put_is_idempotent(self) -> None:
        d = self.d
        first = self.check(d.put("/v1/vifs/a", {"kind": "none", "owner": "x"}), 201)
        self.assertEqual(first.etag, '"1"')
        again = self.check(d.put("/v1/vifs/a", {"kind": "none", "owner": "x"}), 200)
        self.assertEqual((again.etag, d.generation()), ('"1"', 1))
        whole = d.get("/v1/vifs/a").json
        self.check(d.put("/v1/vifs/a", whole), 200)
        self.assertEqual(d.generation(), 1)
        changed = self.check(d.put("/v1/vifs/a", {"kind": "none", "owner": "y"}), 200)
        self.assertEqual((changed.etag, changed.json["uid"]), ('"2"', first.json["uid"]))
        self.check(d.patch("/v1/vifs/a", {"owner": "y"}), 200)
        self.assertEqual(d.generation(), 2)
        self.assertIsNone(self.check(d.patch("/v1/vifs/a", {"owner": None}), 200).json["owner"])

    def test_preconditions(self) -> None:
        d = self.d
        d.plug("a", "b")
        self.check(d.put("/v1/vifs/a", {"kind": "none"}, headers={"If-None-Match": "*"}), 412, "Exists")
        self.check(d.put("/v1/vifs/c", {"kind": "none"}, headers={"If-None-Match": "*"}), 201)
        self.check(d.patch("/v1/vifs/a", {"owner": "z"}, headers={"If-Match": '"99"'}), 412, "Stale")
        tag = d.get("/v1/vifs/a").etag
        self.check(d.patch("/v1/vifs/a", {"owner": "z"}, headers={"If-Match": tag}), 200)
        self.check(d.patch("/v1/vifs/a", {"owner": "y"}, headers={"If-Match": tag}), 412, "Stale")
        self.check(d.delete("/v1/vifs/c", headers={"If-Match": '"99"'}), 412, "Stale")
        self.check(d.delete("/v1/vifs/c", headers={"If-Match": "*"}), 200)
        self.check(d.put("/v1/vifs/c", {"kind": "none"}, headers={"If-Match": "*"}), 412, "Stale")
        # A wire's tag covers its Ts.
        wire = self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201).etag
        d.plug("t")
        tee = self.check(d.put(f"{NET}/wires/w/tees/t", {"port": "t"}), 201).etag
        self.assertNotEqual(wire, d.get(f"{NET}/wires/w").etag)
        self.assertEqual(tee, d.get(f"{NET}/wires/w").etag)
        refused = self.check(d.put(f"{NET}/wires/w/tees/t", {"port": "t"}, headers={"If-None-Match": "*"}), 412, "Exists")
        self.assertIn('wire "w" has a T "t" already', refused.json["error"]["message"])

    def test_conditions_of_reads(self) -> None:
        """304 to who has this version of the configuration, whatever the status is by now."""
        d = self.d
        d.plug("a", "b", "t")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "tees": [{"name": "t", "port": "t"}]}), 201)
        for path in ("/v1/vifs/a", "/v1/networks/default", f"{NET}/ports/a", f"{NET}/wires/w", f"{NET}/wires/w/tees",
                     f"{NET}/wires/w/tees/t", f"{NET}/wires/w/conf/stall_ms", "/v1/config"):
            with self.subTest(path=path):
                whole = self.check(d.get(path), 200)
                self.assertEqual(whole.headers["Cache-Control"], "no-store")
                for tags in (whole.etag, f'"x", {whole.etag}', f"W/{whole.etag}", "*"):
                    for method in ("GET", "HEAD"):
                        answer = self.check(d.ask(method, path, headers={"If-None-Match": tags}), 304)
                        self.assertEqual((answer.etag, answer.body), (whole.etag, b""))
                self.assertEqual(self.check(d.get(path, headers={"If-None-Match": '"99"'}), 200).body, whole.body)
                self.check(d.get(path, headers={"If-None-Match": "99"}), 400, "Malformed")
                self.check(d.get(path, headers={"If-Match": whole.etag}), 200)
                for tags in ('"99"', f"W/{whole.etag}"):
                    self.check(d.get(path, headers={"If-Match": tags}), 412, "Stale")
        tag = d.get(f"{NET}/wires/w").etag
        self.check(d.patch(f"{NET}/wires/w/tees/t", {"direction": "a-to-b"}), 200)
        self.check(d.get(f"{NET}/wires/w", headers={"If-None-Match": tag}), 200)
        # Neither a status nor a key that tells one is known by the tag; lists and counters have none.
        for path in ("/v1/vifs/a/conf/link", "/v1/vifs/a/conf", "/v1/vifs", f"{NET}/wires/w/stats", "/v1/stats", "/v1/version"):
            self.check(d.get(path, headers={"If-None-Match": "*"}), 200)
        self.check(d.get("/v1/vifs/nobody", headers={"If-None-Match": "*"}), 404)
        # Of a change a weak tag names what it names; `*` only creates.
        tag = d.get("/v1/vifs/a").etag
        for tags in (f"W/{tag}", f'"x", {tag}'):
            refused = self.check(d.put("/v1/vifs/a", {"kind": "none"}, headers={"If-None-Match": tags}), 412, "Exists")
            self.assertIn("which If-None-Match excludes", refused.json["error"]["message"])
        self.check(d.put("/v1/vifs/a", {"kind": "none"}, headers={"If-None-Match": '"99"'}), 200)

    def test_generation_0_is_a_tag_too(self) -> None:
        """What nobody has changed yet can be put with If-Match."""
        d = self.d
        config = self.check(d.get("/v1/config"), 200)
        self.assertEqual((config.etag, d.get("/v1/networks/default").etag), ('"0"', '"0"'))
        for path in ("version", "stats", "audit", "conf", "conf/workers", "vifs", "networks", "networks/default/wires"):
            self.assertIsNone(d.get("/v1/" + path).etag, path)
        wanted = config.json
        wanted["networks"].append({"name": "n"})
        self.check(d.put("/v1/config", wanted, headers={"If-Match": config.etag}), 200)
        self.check(d.put("/v1/config", wanted, headers={"If-Match": config.etag}), 412, "Stale")

    def test_lists(self) -> None:
        d = self.d
        for i in range(25):
            self.check(d.put(f"/v1/vifs/v{i:02}", {"kind": "none"}), 201)
        page = d.get("/v1/vifs?limit=10").json
        self.assertEqual([item["name"] for item in page["items"]], [f"v{i:02}" for i in range(10)])
        self.assertEqual((page["next"], page["generation"]), ("v09", 25))
        names, after = [], ""
        while True:
            page = d.get(f"/v1/vifs?limit=7{after}").json
            names += [item["name"] for item in page["items"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        self.assertEqual(names, [f"v{i:02}" for i in range(25)])
        self.assertEqual(len(d.get("/v1/vifs").json["items"]), 25)
        self.assertIsNone(d.get("/v1/vifs?limit=25").json["next"])
        self.assertEqual(d.get("/v1/vifs?after=v24").json["items"], [])
        self.check(d.get("/v1/networks/nope/ports"), 404, "NotFound")
        self.assertEqual([n["name"] for n in d.get("/v1/networks").json["items"]], ["default"])

    def test_words_in_capitals(self) -> None:
        refused = self.check(self.d.put("/v1/vifs/a", {"kind": "None"}), 400, "BadValue")
        self.assertIn('write "none", in small letters', refused.json["error"]["message"])

    def test_conflicts(self) -> None:
        d = self.d
        d.plug("a", "b", "c")
        self.check(d.put(f"{NET}/ports/p", {"vif": "nope"}), 409, "NoSuchReference")
        self.check(d.put("/v1/networks/nope/ports/p", {}), 404, "NotFound")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "a"}), 409, "SamePort")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        used = self.check(d.put(f"{NET}/wires/v", {"a": "a", "b": "c"}), 409, "PortInUse").json["error"]
        self.assertEqual(used["field"], "a")
        self.assertEqual(used["details"]["used_by"][0]["wire"], "w")
        self.check(d.put(f"{NET}/ports/a2", {"vif": "a"}), 409, "VlanTaken")
        self.check(d.patch("/v1/vifs/a", {"kind": "vhost", "path": "/x"}), 409, "Immutable")
        self.check(d.put(f"{NET}/wires/w/tees/t", {"port": "c", "mode": "bump"}), 409, "BumpNeedsOut")
        self.check(d.delete("/v1/networks/default"), 409)

    def test_detach(self) -> None:
        d = self.d
        d.plug("a", "b", "t")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        self.check(d.put(f"{NET}/wires/w/tees/t", {"port": "t"}), 201)
        error = self.check(d.delete("/v1/vifs/a"), 409, "InUse").json["error"]
        self.assertEqual(error["details"]["used_by"], [{"kind": "port", "network": "default", "port": "a"}])
        error = self.check(d.delete(f"{NET}/ports/t"), 409, "InUse").json["error"]
        self.assertEqual(error["details"]["used_by"],
                         [{"kind": "tee", "network": "default", "wire": "w", "tee": "t", "as": "port"}])
        self.check(d.delete("/v1/vifs/a?detach=1"), 200)
        self.assertIsNone(d.get(f"{NET}/ports/a").json["vif"])
        self.assertEqual(d.get(f"{NET}/wires/w").json["status"]["reason"], "port a: no vif")
        self.check(d.delete(f"{NET}/ports/a?detach=1"), 200)
        self.check(d.delete(f"{NET}/ports/t?detach=1"), 200)
        wire = d.get(f"{NET}/wires/w").json
        self.assertEqual((wire["a"], wire["b"], wire["tees"][0]["mode"]), (None, "b", "off"))
        self.assertEqual(wire["status"]["state"], "down")
        self.assertEqual(wire["status"]["reason"], "end a is unplugged")

    def test_delete_and_make_again(self) -> None:
        d = self.d
        d.plug("a", "b")
        uids = set()
        for _ in range(20):
            uids.add(self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201).json["uid"])
            self.check(d.delete(f"{NET}/wires/w"), 200)
        self.assertEqual(len(uids), 20)
        for _ in range(20):
            self.check(d.delete("/v1/vifs/a?detach=1"), 200)
            self.check(d.put("/v1/vifs/a", {"kind": "none"}), 201)
        self.assertEqual(d.table()["vifs"], 2)

    def test_relative_paths_are_under_the_vhost_dir(self) -> None:
        d = self.d
        self.assertEqual(self.check(d.put("/v1/vifs/a", {"kind": "vhost", "path": "a.sock"}), 201).json["path"],
                         d.dir + "/vhost/a.sock")
        self.check(d.put("/v1/vifs/a", {"kind": "vhost", "path": "a.sock"}), 200)
        self.assertEqual(d.generation(), 1)
        self.check(d.put("/v1/vifs/b", {"kind": "vhost", "path": d.dir + "/vhost/a.sock"}), 409, "TargetInUse")
        self.check(d.put("/v1/vifs/b", {"kind": "vhost", "path": "x" * 107}), 400, "BadValue")

    def test_status_follows_the_vif(self) -> None:
        d = self.d
        d.plug("vm1", kind="vhost")
        d.plug("vm2")
        wire = self.check(d.put(f"{NET}/wires/w", {"a": "vm1", "b": "vm2"}), 201).json
        self.assertEqual(wire["status"]["state"], "down")
        self.assertTrue(wire["status"]["reason"].startswith("port vm1: vif vm1: waiting for its socket"))
        time.sleep(0.005)  # so that the two times differ
        d.fake("link vm1 up")
        up = wait_for(lambda: d.get(f"{NET}/wires/w").json["status"]["state"] == "up" and d.get(f"{NET}/wires/w").json,
                      "up")
        self.assertGreater(up["status"]["since"], wire["status"]["since"])
        self.assertEqual(d.get(f"{NET}/ports/vm1").json["status"]["state"], "up")
        d.fake("link vm1 broken the ring can't be true")
        vif = wait_for(lambda: d.get("/v1/vifs/vm1").json["status"]["state"] == "failed" and d.get("/v1/vifs/vm1").json,
                       "failed")
        self.assertEqual(vif["status"]["reason"], "the ring can't be true")
        self.check(d.patch(f"{NET}/wires/w", {"admin": "down"}), 200)
        self.assertEqual(d.get(f"{NET}/wires/w").json["status"]["reason"], "admin is down")

    def test_utf8_and_big_labels(self) -> None:
        labels = {f"k{i}": "ä€😀" * 20 for i in range(32)}
        self.check(self.d.put("/v1/vifs/a", {"kind": "none", "labels": labels}), 201)
        self.assertEqual(self.d.get("/v1/vifs/a").json["labels"], labels)
        self.assertEqual(json.loads(self.d.get("/v1/vifs").body)["items"][0]["labels"], labels)


if __name__ == "__main__":
    main()
