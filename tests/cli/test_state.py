# SPDX-License-Identifier: BSD-3-Clause
"""export, apply and -f, against the control plane itself."""

from __future__ import annotations

import json
import pathlib
import subprocess

from support import PATCHBAY
from test_daemon import DaemonCase


class State(DaemonCase):
    def make_some(self) -> None:
        for name in ("vm1", "vm2", "vm3", "ids"):
            self.ok("plug", name, "none")
        self.ok("wire", "add", "w1", "vm1", "vm2")
        self.ok("tap", "add", "w1", "ids")

    def write(self, text: str | object) -> str:
        path = f"{self.folder}/file"
        pathlib.Path(path).write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
        return path

    def generation(self) -> int:
        return self.json("stats")["generation"] if "generation" in self.json("stats") else json.loads(self.ok("export"))["generation"]

    def test_export_and_apply_do_nothing(self) -> None:
        self.make_some()
        path = f"{self.folder}/state"
        self.assertEqual("", self.ok("export", path))
        before = self.ok("export")
        self.assertEqual(before, pathlib.Path(path).read_text(encoding="utf-8"))
        self.assertEqual("nothing to do: 0 created, 0 changed, 0 deleted, 10 as they were; generation 10\n",
                         self.ok("apply", "-f", path))
        piped = subprocess.run(f"'{PATCHBAY}' export | '{PATCHBAY}' apply -f -", shell=True, env=self.environment(),
                               capture_output=True, text=True, check=True).stdout
        self.assertTrue(piped.startswith("nothing to do"), piped)
        self.assertEqual(before, self.ok("export"))

    def test_a_plan_and_what_it_does(self) -> None:
        self.make_some()
        state = json.loads(self.ok("export"))
        wire = state["wires"][0]
        wire["b"] = "vm3"
        wire["tees"][0]["direction"] = "a-to-b"
        wire["tees"].append({"name": "t2", "port": "ids"})
        state["ports"] = [p for p in state["ports"] if p["name"] != "vm2"] + [{"name": "vm4", "vif": "vm4"}]
        state["vifs"].append({"name": "vm4", "kind": "none", "owner": "me"})
        path = self.write(state)
        plan = self.ok("apply", "-f", path, "--dry-run")
        self.assertEqual(plan, "- port default/vm2\n"
                               "+ vif vm4  kind: none, owner: me\n"
                               "+ port default/vm4  vif: vm4\n"
                               "~ wire default/w1\n"
                               "    b: vm2 → vm3\n"
                               "    tees.ids.direction: both → a-to-b\n"
                               "    + tees.t2  port: ids, mode: tap, direction: both, on_failure: closed, stall_ms: 10\n"
                               "planned: 2 created, 1 changed, 1 deleted, 8 as they were; generation 10\n")
        self.assertEqual(json.loads(self.ok("export"))["generation"], 10)
        done = self.ok("apply", "-f", path)
        self.assertEqual(done, plan.replace("planned", "done").replace("generation 10", "generation 11"))
        self.assertIn("vm1 ─[tap ids]─[tap t2]─ vm3", self.ok("show"))
        # The same again is nothing, although the file says generation 10; something else is refused, or forced.
        self.assertTrue(self.ok("apply", "-f", path).startswith("nothing to do"))
        wire["stall_ms"] = 5
        said = self.refused(1, "apply", "-f", self.write(state))
        self.assertIn("generation 10", said)
        self.assertIn("--force", said)
        self.assertIn("stall_ms: 100 → 5", self.ok("apply", "-f", path, "--force"))
        del state["generation"]
        wire["stall_ms"] = 6
        answer = json.loads(self.ok("apply", "-f", self.write(state), "--json"))
        self.assertEqual((answer["changed"], answer["dry_run"]), (1, False))

    def test_what_cannot_be_applied(self) -> None:
        self.make_some()
        before = self.ok("export")
        state = json.loads(before)
        state["wires"][0]["a"] = "nope"
        said = self.refused(1, "apply", "-f", self.write(state))
        self.assertIn("nope", said)
        self.assertIn(f'  at wires[0].a, in "{state["wires"][0]["name"]}"\n', said)
        self.assertIn("line 1", self.refused(2, "apply", "-f", self.write("{")))
        self.assertIn("{...}", self.refused(2, "apply", "-f", self.write("[]")))
        self.refused(2, "apply", "-f", self.folder + "/none")
        self.assertIn("Is a directory", self.refused(2, "apply", "-f", self.folder))
        self.refused(2, "apply")
        self.refused(1, "export", self.folder + "/none/x")
        self.assertEqual(before, self.ok("export"))

    def test_batch(self) -> None:
        path = self.write("# a first session\n"
                          "plug vm1 none --label 'rack=a 3'\n"
                          "plug vm2 none\n\n"
                          "plug ids none # a monitor\n"
                          "wire add w1 vm1 vm2\n"
                          "  tap add w1 ids\n"
                          "tee set w1 ids direction=a-to-b\n"
                          "conf set wire:w1 stall_ms=2k\n"
                          "conf set port:vm2 admin=down\n"
                          "conf set port:vm2 vlan=7\n"
                          "conf unset port:vm2 admin\n"
                          "wire replug w1 b ids2\n")
        said = self.refused(1, "-f", path)
        self.assertIn("ids2", said)
        self.assertIn(f"{path}, line 13; nothing was changed", said)
        self.assertEqual("", self.ok("vif", "ls", "--names"))
        text = pathlib.Path(path).read_text(encoding="utf-8").replace("ids2", "vm3").replace("plug ids", "plug vm3 none\nplug ids")
        self.assertEqual("10 created, 6 changed, 0 deleted, 0 as they were: generation 1\n", self.ok("-f", self.write(text)))
        self.assertIn("vm1 ─[tap ids]─ vm3", self.ok("show"))
        self.assertEqual(self.json("vif", "show", "vm1")["labels"], {"rack": "a 3"})
        self.assertEqual("2000\n", self.ok("conf", "get", "wire:w1", "stall_ms"))
        port = self.json("port", "show", "vm2")
        self.assertEqual((port["vlan"], port["admin"]), (7, "up"))
        piped = subprocess.run([PATCHBAY, "-f", "-", "--json"], input="tap rm w1 ids\nwire rm w1\nunplug vm3\n", text=True,
                               env=self.environment(), capture_output=True, check=True)
        self.assertEqual(json.loads(piped.stdout)["results"], ["deleted"] * 4)
        self.assertEqual("ids\nvm1\nvm2\n", self.ok("vif", "ls", "--names"))

    def test_what_is_no_batch(self) -> None:
        for line, words in (("show", "of changes"), ("patchbay plug a none", "without"), ("plug 'a none", "not closed"),
                            ("plug a", "missing"), ("wire upp w", "did you mean"), ("plug a none --json", "before all lines"),
                            ("-f x", "not in one")):
            with self.subTest(line=line):
                said = self.refused(2, "-f", self.write("plug x none\n" + line + "\nplug y none\n"))
                self.assertIn(words, said)
                self.assertIn("line 2", said)
        self.assertEqual("", self.ok("vif", "ls", "--names"))
        self.refused(2, "-f", self.folder + "/none")
        self.refused(2, "-f", self.write(""), "show")
        # What can't be read to its end is no batch, however much of it there is.
        self.assertIn("Is a directory; nothing was changed", self.refused(2, "-f", self.folder))
