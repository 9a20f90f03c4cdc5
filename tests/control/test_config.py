#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""GET and PUT of /v1/config: the whole state, made so with the least changes, and the plan of it."""

import copy
import json
import os
import random
import threading

from harness import Daemon, DaemonTest, ask, main, wait_for

NET = "/v1/networks/default"
KINDS = ("networks", "vifs", "ports", "wires")


def plain(config):
    """Without what belongs to the incarnation."""
    def strip(item):
        item.pop("uid", None)
        return item
    shown = json.loads(json.dumps(config), object_hook=strip)
    return {kind: shown[kind] for kind in KINDS}


class Config(DaemonTest):
    def config(self):
        return self.check(self.d.get("/v1/config"), 200).json

    def apply(self, config, query="?force=1", headers=None):
        return self.d.put("/v1/config" + query, config, headers=headers)

    def lines(self, answer):
        return [(c["action"], c["kind"], c["name"]) for c in answer.json["changes"]]

    def make_some(self):
        self.d.plug("a", "b", "c", "m", "i", "o")
        self.check(self.d.put("/v1/networks/t", {"labels": {"x": "y"}}), 201)
        self.check(self.d.put("/v1/networks/t/ports/p", {"vif": "c", "vlan": 7}), 201)
        self.check(self.d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "tees": [
            {"name": "m", "port": "m"}, {"name": "fw", "port": "i", "out_port": "o", "mode": "bump"}]}), 201)
        self.check(self.d.put("/v1/networks/t/wires/w", {"a": "p"}), 201)

    def test_what_it_shows(self):
        self.make_some()
        answer = self.d.get("/v1/config")
        config = answer.json
        self.assertEqual(list(config), ["generation", "instance", "seq", *KINDS])
        self.assertEqual(answer.etag, f'"{self.d.generation()}"')
        self.assertEqual(config["instance"], self.d.get("/v1/version").json["instance"])
        self.assertEqual([(p["network"], p["name"]) for p in config["ports"]],
                         [("default", n) for n in "abcimo"] + [("t", "p")])
        shown = self.d.get(f"{NET}/wires/w").json
        wire = dict(config["wires"][0])
        self.assertEqual(wire.pop("network"), "default")
        del shown["status"]
        for tee in shown["tees"]:
            del tee["status"]
        self.assertEqual(wire, shown)
        self.assertEqual(self.d.ask("HEAD", "/v1/config").etag, answer.etag)

    def test_putting_it_back_changes_nothing(self):
        self.make_some()
        config, before, table = self.config(), self.d.generation(), self.d.table()
        answer = self.check(self.apply(config, "", {"If-Match": self.d.get("/v1/config").etag}), 200)
        self.assertEqual((answer.json["changes"], answer.json["same"], answer.json["generation"]),
                         ([], sum(len(config[k]) for k in KINDS), before))
        self.assertEqual((self.config(), self.d.table()), (config, table))

    def test_it_wants_a_precondition(self):
        self.make_some()
        config, tag = self.config(), self.d.get("/v1/config").etag
        self.check(self.apply(config, ""), 428, "PreconditionRequired")
        self.check(self.d.patch(f"{NET}/wires/w", {"stall_ms": 9}), 200)
        self.check(self.apply(config, "", {"If-Match": tag}), 412, "Stale")
        self.assertEqual(self.d.get(f"{NET}/wires/w").json["stall_ms"], 9)
        # A plan may be asked for without: it touches nothing.
        self.check(self.apply(config, "?dry_run=1"), 200)
        self.check(self.apply(config, "?force=1"), 200)
        self.assertEqual(self.d.get(f"{NET}/wires/w").json["stall_ms"], 100)

    def test_only_what_differs(self):
        d = self.d
        self.make_some()
        d.fake("send a 0 5 100")
        before = {n: (d.get(f"/v1/vifs/{n}").json, d.get(f"/v1/vifs/{n}").etag) for n in "abcmio"}
        uid = d.get(f"{NET}/wires/w").json["uid"]
        config = self.config()
        generation = d.generation()
        wire = config["wires"][0]
        wire["b"] = "c"
        wire["labels"] = {"k": "v"}
        wire["tees"] = [wire["tees"][1], wire["tees"][0], {"name": "new", "port": "m"}]
        wire["tees"][1]["direction"] = "a-to-b"
        config["ports"] = [p for p in config["ports"] if p["name"] != "p"] + [{"name": "d", "vif": "d"}]
        config["vifs"] = config["vifs"][::-1] + [{"name": "d", "kind": "none"}]
        config["networks"] = []
        config["wires"] = [wire]
        plan = self.check(self.apply(config, "?dry_run=1"), 200)
        self.assertEqual((d.generation(), d.get(f"{NET}/wires/w").json["b"]), (generation, "b"))
        self.assertEqual(self.lines(plan), [("delete", "wire", "w"), ("delete", "port", "p"), ("delete", "network", "t"),
                                            ("create", "vif", "d"), ("create", "port", "d"), ("change", "wire", "w")])
        fields = {f["field"]: (f["from"], f["to"]) for f in plan.json["changes"][-1]["fields"]}
        self.assertEqual(set(fields), {"b", "labels", "tees", "tees.m.direction", "tees.new"})
        self.assertEqual(fields["b"], ("b", "c"))
        self.assertEqual(fields["tees"], (["m", "fw"], ["fw", "m"]))
        self.assertEqual(fields["tees.new"][1]["port"], "m")
        self.assertEqual(plan.json["changes"][3]["object"]["kind"], "none")
        answer = self.check(self.apply(config, "?drain_ms=0", {"If-Match": plan.etag}), 200)
        self.assertEqual(self.lines(answer), self.lines(plan))
        self.assertEqual((answer.json["generation"], d.generation()), (generation + 1,) * 2)
        for name, (vif, etag) in before.items():
            now = d.get(f"/v1/vifs/{name}")
            self.assertEqual((now.json["uid"], now.json["status"]["since"], now.etag),
                             (vif["uid"], vif["status"]["since"], etag), "the vif is as it was")
        self.assertEqual(d.get("/v1/vifs/i/stats").json["transmitted"]["frames"], 5, "and so is its device")
        self.assertEqual((d.get(f"{NET}/wires/w").json["uid"], d.get(f"{NET}/wires/w").etag),
                         (uid, f'"{generation + 1}"'))
        self.check(d.get("/v1/networks/t"), 404)
        self.check(d.get("/v1/networks/default"), 200)

    def test_ends_are_exchanged(self):
        """No order of single changes would do this: each port is taken until the other lets go."""
        d = self.d
        d.plug("a", "b", "c", "d")
        self.check(d.put(f"{NET}/wires/v", {"a": "a", "b": "b"}), 201)
        self.check(d.put(f"{NET}/wires/w", {"a": "c", "b": "d"}), 201)
        config = self.config()
        one, other = config["wires"]
        one["a"], other["a"] = other["a"], one["a"]
        self.check(self.apply(config), 200)
        self.assertEqual([(w["a"], w["b"]) for w in self.config()["wires"]], [("c", "b"), ("a", "d")])
        d.fake("send c 0 2 100")
        self.assertEqual(d.get("/v1/vifs/b/stats").json["transmitted"]["frames"], 2)

    def test_a_vif_that_becomes_another(self):
        d = self.d
        path = d.dir + "/s"
        self.check(d.put("/v1/vifs/v", {"kind": "vhost", "path": path + "1"}), 201)
        self.check(d.put(f"{NET}/ports/v", {"vif": "v"}), 201)
        self.check(d.put(f"{NET}/wires/w", {"a": "v"}), 201)
        config = self.config()
        uid = config["vifs"][0]["uid"]
        config["vifs"][0]["path"] = path + "2"
        plan = self.check(self.apply(config, "?dry_run=1"), 200)
        self.assertEqual(self.lines(plan), [("replace", "vif", "v")])
        self.check(self.apply(config), 200)
        vif = d.get("/v1/vifs/v").json
        self.assertNotEqual(vif["uid"], uid)
        self.assertEqual(vif["path"], path + "2")
        wait_for(lambda: d.table()["vifs"] == 1, "the old device is gone")
        self.assertEqual(d.table()["legs"], 1)

    def test_refusals(self):
        d = self.d
        self.make_some()
        config, table, generation = self.config(), d.table(), d.generation()

        def refused(change, status, code, field):
            other = copy.deepcopy(config)
            change(other)
            with self.subTest(code=code, field=field):
                error = self.check(self.apply(other), status, code).json["error"]
                self.assertEqual(error["field"], field)
                # What can't be seen without the device is no part of a plan.
                by_device = code in ("DeviceFailed", "PathInUse")
                self.check(self.apply(other, "?dry_run=1"), 200 if by_device else status, None if by_device else code)
                self.assertEqual(self.config(), config)
                wait_for(lambda: d.table() == table, "nothing is left")

        refused(lambda c: c.pop("wires"), 400, "BadValue", "wires")
        refused(lambda c: c.update(wires={}), 400, "BadValue", "wires")
        refused(lambda c: c.update(wire=[]), 400, "UnknownField", "wire")
        refused(lambda c: c["wires"][0].update(nope=1), 400, "UnknownField", "wires[0].nope")
        refused(lambda c: c["wires"][0].update(a=5), 400, "BadValue", "wires[0].a")
        refused(lambda c: c["wires"][1].pop("name"), 400, "BadValue", "wires[1].name")
        refused(lambda c: c["wires"][1].update(name="x y"), 400, "BadValue", "wires[1].name")
        refused(lambda c: c["wires"].append(c["wires"][0]), 400, "BadValue", "wires[2].name")
        refused(lambda c: c["wires"][0].update(network="gone"), 409, "NoSuchReference", "wires[0].network")
        refused(lambda c: c["wires"][0].update(network=7), 400, "BadValue", "wires[0].network")
        refused(lambda c: c["wires"][0]["tees"][1].update(port="b"), 409, "PortInUse", "wires[0].tees[1].port")
        refused(lambda c: c["ports"].pop(0), 409, "NoSuchReference", "wires[0].a")
        refused(lambda c: c["vifs"].pop(0), 409, "NoSuchReference", "ports[0].vif")
        refused(lambda c: c["networks"].pop(1), 409, "NoSuchReference", "ports[6].network")
        refused(lambda c: c["ports"][0].update(vif="b"), 409, "VlanTaken", "ports[0].vlan")
        refused(lambda c: c["vifs"].append({"name": "z", "kind": "dev", "devargs": "fail:1"}), 409, "DeviceFailed",
                f"vifs[{len(config['vifs'])}].devargs")
        refused(lambda c: c["vifs"].append({"name": "z", "kind": "vhost", "path": "/run/inuse:1"}), 409, "PathInUse",
                f"vifs[{len(config['vifs'])}].path")
        self.check(d.get("/v1/config", body={}), 400, "Malformed")
        self.assertEqual(d.generation(), generation)

    def test_a_bump_whose_arm_is_down(self):
        d = self.d
        d.plug("a", "b")
        d.plug("i", "o", kind="vhost")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        config, tag = self.config(), self.d.get("/v1/config").etag
        config["wires"][0]["tees"] = [{"name": "fw", "port": "i", "out_port": "o", "mode": "bump"}]
        error = self.check(self.apply(config, "", {"If-Match": tag}), 409, "BumpDown").json["error"]
        self.assertEqual(error["field"], "wires[0].tees[0].port")
        answer = self.check(self.apply(config, "?when_ready=1", {"If-Match": tag}), 200)
        self.assertEqual(d.get(f"{NET}/wires/w").json["tees"][0]["mode"], "off")
        for name in "io":
            d.fake(f"link {name} up")
        wait_for(lambda: d.get(f"{NET}/wires/w").json["tees"][0]["mode"] == "bump", "promoted")
        self.assertEqual(answer.json["changed"], 1)

    def test_one_moment_is_shown(self):
        """Many changes while the answer is on its way: it is the state of one generation all the same."""
        d = self.d
        count = 1500
        operations = [{"method": "PUT", "path": f"{NET}/ports/p{i:04}", "body": {"labels": {"n": "0"}}} for i in range(count)]
        self.check(d.ask("POST", "/v1/transactions", {"operations": operations}), 200)
        stop = threading.Event()

        def change():
            client = d.connect(60)
            n = 0
            while not stop.is_set():
                n += 1
                # All at once, so that in each generation all have one label.
                body = {"operations": [{"method": "PATCH", "path": f"{NET}/ports/p{i:04}", "body": {"labels": {"n": str(n)}}}
                                       for i in range(0, count, 10)]}
                self.assertEqual(ask(client, "POST", "/v1/transactions", body).status, 200)
            client.close()

        thread = threading.Thread(target=change)
        thread.start()
        try:
            seen = set()
            for _ in range(20):
                config = d.get("/v1/config").json
                labels = {p["labels"]["n"] for p in config["ports"][::10]}
                self.assertEqual(len(labels), 1, "of one generation")
                self.assertEqual(len(config["ports"]), count)
                seen |= labels
        finally:
            stop.set()
            thread.join()
        self.assertGreater(len(seen), 1)

    def test_random_states_round_trip(self):
        """From any state to any other and back, by what GET showed of it."""
        seed = int(os.environ.get("PATCHBAY_SEED", random.randrange(1 << 30)))
        generator = random.Random(seed)
        fresh = Daemon()
        self.addCleanup(fresh.close)
        for turn in range(60):
            wanted = random_config(generator)
            answer = self.apply(wanted)
            self.assertEqual(answer.status, 200, (seed, turn, answer.body, wanted))
            shown = self.config()
            # What was asked for is what there is, but for defaults that were left out.
            for kind in KINDS:
                have = {(i.get("network", ""), i["name"]): i for i in plain(shown)[kind]}
                want = {(i.get("network", ""), i["name"]): i for i in wanted[kind]}
                self.assertEqual(set(have) - {("", "default")}, set(want) - {("", "default")}, seed)
                for key, item in want.items():
                    for field, value in item.items():
                        if field != "tees":
                            self.assertEqual(have[key][field], value, (seed, key))
            generation = self.d.generation()
            self.assertEqual(self.apply(shown).json["changes"], [], seed)
            self.assertEqual(self.d.generation(), generation)
            self.assertEqual(fresh.put("/v1/config?force=1", shown).status, 200, seed)
            self.assertEqual(plain(fresh.get("/v1/config").json), plain(shown), seed)
        # Devices and legs go a moment after the answer.
        for daemon in self.d, fresh:
            wait_for(lambda: daemon.table()["vifs"] == len(self.config()["vifs"]), "no device is left over")
        wait_for(lambda: self.d.table()["legs"] == fresh.table()["legs"], f"both have the same legs (seed {seed})")
        before = plain(self.config())
        self.d.restart()
        self.assertEqual(plain(self.config()), before)


def random_config(generator):
    networks = ["default"] + [n for n in ("t1", "t2") if generator.random() < 0.6]
    vifs = [{"name": f"v{i}", "kind": "none", "owner": generator.choice([None, "x"])} if generator.random() < 0.8 else
            {"name": f"v{i}", "kind": "dev", "devargs": f"dev{i}x{generator.randrange(1000000)}"}
            for i in range(12) if generator.random() < 0.7]
    for vif in vifs:
        if vif.get("owner", 1) is None:
            del vif["owner"]
    ports, wires = [], []
    free = [v["name"] for v in vifs]
    for network in networks:
        mine = []
        for i in range(8):
            if generator.random() < 0.8:
                vif = free.pop(generator.randrange(len(free))) if free and generator.random() < 0.7 else None
                ports.append({"network": network, "name": f"p{i}", "vif": vif,
                              "labels": {"k": "v"} if generator.random() < 0.2 else {}})
                mine.append(f"p{i}")
        generator.shuffle(mine)
        monitor = mine.pop() if mine else None
        for i in range(3):
            if generator.random() < 0.8:
                tees = []
                if monitor and generator.random() < 0.6:
                    tees.append({"name": "m", "port": monitor, "direction": generator.choice(["both", "a-to-b"])})
                if len(mine) > 1 and generator.random() < 0.5:
                    tees.append({"name": "fw", "port": mine.pop(), "out_port": mine.pop(),
                                 "mode": generator.choice(["bump", "off"]), "on_failure": "open"})
                generator.shuffle(tees)
                wires.append({"network": network, "name": f"w{i}", "a": mine.pop() if mine else None,
                              "b": mine.pop() if mine and generator.random() < 0.8 else None,
                              "admin": generator.choice(["up", "down"]), "stall_ms": generator.randrange(1, 50),
                              "tees": tees})
    for items in (vifs, ports, wires):
        generator.shuffle(items)
    return {"networks": [{"name": n} for n in networks], "vifs": vifs, "ports": ports, "wires": wires}


if __name__ == "__main__":
    main()
