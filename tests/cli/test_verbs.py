# SPDX-License-Identifier: BSD-3-Clause
"""Each verb and its opposite: what is sent, and what is printed."""

import shlex
import socket
import json
import unittest

from support import CliCase


class Plug(CliCase):
    def test_plug_and_unplug(self) -> None:
        self.assertEqual("nic up\n", self.ok("plug", "nic", "dev:0000:03:00.0", "--owner", "op", "--label", "rack=a3",
                                             "--label", "x=y=z", "--port", "lan", "--vlan", "10"))
        self.assertEqual({"kind": "dev", "devargs": "0000:03:00.0", "owner": "op",
                          "labels": {"rack": "a3", "x": "y=z"}}, self.model.vifs["nic"])
        self.assertEqual({"vif": "nic", "vlan": 10, "labels": {}}, self.model.ports[("default", "lan")])
        self.assertEqual({"If-None-Match": "*"}, {key: value for key, value in self.daemon.requests[0][2].items()
                                                  if key == "If-None-Match"})
        self.assertEqual("lan unplugged\n", self.ok("unplug", "lan"))
        self.assertEqual(({}, {}), (self.model.vifs, self.model.ports))

    def test_every_kind(self) -> None:
        for kind, field, target in (("vhost", "path", "/a:b/c"), ("vhost-server", "path", "/x"),
                                    ("kernel-new", "interface", "tap0")):
            self.ok("plug", kind, f"{kind}:{target}")
            self.assertEqual(target, self.model.vifs[kind][field])

    def test_a_vif_that_exists_is_used(self) -> None:
        self.ok("plug", "nic", "dev:x", "--owner", "op", "--port", "lan1", "--vlan", "1")
        self.ok("plug", "nic", "dev:x", "--port", "lan2", "--vlan", "2")
        self.assertEqual("op", self.model.vifs["nic"]["owner"])
        self.assertIn("can't change", self.refused(1, "plug", "nic", "dev:y", "--port", "lan3", "--vlan", "3"))
        self.assertEqual("vif nic stays: port lan2 shares it\nlan1 unplugged\n", self.ok("unplug", "lan1"))
        self.assertEqual("lan2 unplugged\n", self.ok("unplug", "lan2"))
        self.assertEqual({}, self.model.vifs)

    def test_a_refused_port_takes_its_new_vif_along(self) -> None:
        self.ok("port", "add", "vm1")
        self.assertIn("exists already", self.refused(1, "plug", "vm1", "none"))
        self.assertEqual({}, self.model.vifs)
        self.ok("vif", "add", "vm1", "none")
        self.refused(1, "plug", "vm1", "none")
        self.assertIn("vm1", self.model.vifs)

    def test_wrong_options_make_nothing(self) -> None:
        for wrong in (["--vlan", "0"], ["--vlan", "4095"], ["--vlan", "+1"], ["--vlan", "1x"], ["--label", "x"],
                      ["--port", "a/b"], ["--port", ".x"], ["--label", "=x"]):
            self.refused(2, "plug", "vm1", "none", *wrong)
        self.assertEqual([], self.daemon.requests)

    def test_waiting_for_a_guest(self) -> None:
        server = self.ok("plug", "s", "vhost-server:/run/s.sock")
        self.assertEqual("s waiting: it listens at /run/s.sock; start QEMU with reconnect=1 (patchbay plug --qemu s "
                         "prints the options)\n", server)
        # A socket that is there is not said to be missing.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{self.folder}/vm1.sock")
            self.assertEqual(f"vm1 down: waiting for its socket {self.folder}/vm1.sock\n",
                             self.ok("plug", "vm1", f"vhost:{self.folder}/vm1.sock"))

    def test_a_link_that_comes_up_late(self) -> None:
        states = iter([("down", "no link"), ("down", "no link"), ("up", "")])
        self.ok("vif", "add", "nic", "none")
        shown = self.model.show_vif("nic")

        def answer() -> dict:
            shown["status"]["state"], shown["status"]["reason"] = next(states)
            return shown

        self.daemon.overrides["GET /v1/vifs/nic"] = answer
        self.daemon.overrides["PUT /v1/vifs/nic"] = lambda: (201, self.model.show_vif("nic"))
        self.assertEqual("nic up\n", self.ok("plug", "nic", "none"))

    def test_unplug_detaches_when_told_to(self) -> None:
        self.wire()
        self.plug("ids")
        self.ok("tap", "add", "w1", "ids")
        error = self.refused(1, "unplug", "vm2")
        self.assertIn("used by wire w1 as end b\n", error)
        self.assertIn("--detach", error)
        self.assertEqual("vm2 unplugged\nw1  vm1 ─[tap ids]─ (unplugged)  down: end b is unplugged\n",
                         self.ok("unplug", "vm2", "--detach"))
        self.assertIn("used by T ids of wire w1 as port", self.refused(1, "unplug", "ids"))
        self.assertEqual("ids unplugged\nw1  vm1 ─[off ids]─ (unplugged)  down: end b is unplugged\n",
                         self.ok("unplug", "ids", "--detach"))
        self.assertIn("there is no port", self.refused(1, "unplug", "vm9"))


class Qemu(CliCase):
    def test_options(self) -> None:
        self.ok("plug", "vm1", f"vhost:{self.folder}/a,b.sock")
        self.ok("plug", "vm2", "vhost-server:/run/vm2.sock")
        words = shlex.split(self.ok("plug", "--qemu", "vm1", "vm2", "--memory", "1G"))
        self.assertEqual([
            "-m", "1G", "-object", "memory-backend-memfd,id=patchbay-memory,size=1G,share=on",
            "-machine", "memory-backend=patchbay-memory",
            "-chardev", f"socket,id=patchbay-vm1-socket,path={self.folder}/a,,b.sock,server=on",
            "-netdev", "vhost-user,id=patchbay-vm1,chardev=patchbay-vm1-socket",
            "-device", "virtio-net-pci,netdev=patchbay-vm1,mac=52:54:51:1c:93:a7",
            "-chardev", "socket,id=patchbay-vm2-socket,path=/run/vm2.sock,reconnect=1",
            "-netdev", "vhost-user,id=patchbay-vm2,chardev=patchbay-vm2-socket",
            "-device", "virtio-net-pci,netdev=patchbay-vm2,mac=52:54:52:1c:95:3a"], words)
        self.assertEqual(words, self.json("plug", "--qemu", "vm1", "vm2", "--memory", "1G"))

    def test_variants(self) -> None:
        self.ok("plug", "vm1", "vhost:/run/vm1.sock")
        self.assertIn("size=512M", self.ok("plug", "vm1", "--qemu"))
        self.assertNotIn("memory", self.ok("plug", "--qemu", "vm1", "--memory=none"))
        self.assertIn(",vectors=0", self.ok("plug", "--qemu", "vm1", "--no-kvm"))
        for wrong in ("0", "12T", "-1M", "x", "", "1Mx"):
            self.refused(2, "plug", "--qemu", "vm1", "--memory", wrong)

    def test_what_cannot_be_a_guests(self) -> None:
        self.plug("nic")
        self.assertIn("kind none", self.refused(1, "plug", "--qemu", "nic"))
        self.ok("plug", "odd", "vhost:/run/a b.sock")
        self.assertIn("shell", self.refused(1, "plug", "--qemu", "odd"))
        self.assertIn("there is no vif", self.refused(1, "plug", "--qemu", "vm9"))


class Wires(CliCase):
    def test_add_and_rm(self) -> None:
        self.plug("vm1", "vm2")
        self.assertEqual("w1  vm1 ── vm2  down: admin down\n",
                         self.ok("wire", "add", "w1", "vm1", "vm2", "--on-full", "drop", "--stall-ms=7", "--admin", "down",
                                 "--label", "k=v"))
        self.assertEqual({"a": "vm1", "b": "vm2", "on_full": "drop", "stall_ms": 7, "admin": "down",
                          "labels": {"k": "v"}}, self.sent("PUT")[1])
        self.assertIn("exists already\n  `patchbay wire set` changes it\n",
                      self.refused(1, "wire", "add", "w1", "vm1", "vm2"))
        self.assertEqual("w1 removed\n", self.ok("wire", "rm", "w1"))
        self.assertEqual({}, self.model.wires)
        self.assertIn('there is no wire "w1"', self.refused(1, "wire", "rm", "w1"))

    def test_replug_and_unplug(self) -> None:
        self.wire()
        self.plug("vm3")
        self.assertEqual("w1  vm3 ── vm2  up\n", self.ok("wire", "replug", "w1", "a", "vm3"))
        self.assertEqual({"a": "vm3"}, self.sent("PATCH")[1])
        self.assertEqual("w1  vm3 ── (unplugged)  down: end b is unplugged\n", self.ok("wire", "unplug", "w1", "b"))
        self.assertEqual({"b": None}, self.sent("PATCH")[1])
        self.assertEqual("w2  (unplugged) ── vm1  down: end a is unplugged\n", self.ok("wire", "add", "w2", "-", "vm1"))

    def test_up_and_down(self) -> None:
        self.wire()
        self.assertEqual("w1  vm1 ── vm2  down: admin down\n", self.ok("wire", "down", "w1"))
        self.assertEqual("w1  vm1 ── vm2  up\n", self.ok("wire", "up", "w1"))

    def test_set(self) -> None:
        self.wire()
        self.ok("wire", "set", "w1", "on-full=drop", "stall_ms=5", "label.a=b", "label.c=")
        self.assertEqual({"on_full": "drop", "stall_ms": 5, "labels": {"a": "b", "c": None}}, self.sent("PATCH")[1])
        self.ok("wire", "set", "w1", "on_full=")
        self.assertEqual("wait", self.model.wires[("default", "w1")]["on_full"])
        self.assertIn('did you mean "stall_ms"', self.refused(2, "wire", "set", "w1", "stal_ms=5"))
        for wrong in ("on_full=maybe", "stall_ms=x", "stall_ms=-1", "stall_ms=60001", "stall_ms", "=5"):
            self.refused(2, "wire", "set", "w1", wrong)
        self.refused(2, "wire", "set", "w1", "admin=up", "admin=down")

    def test_a_drain_is_awaited(self) -> None:
        self.wire()
        self.model.draining["w1"] = 3
        self.assertEqual("w1  vm1 ── vm2  up\n", self.ok("wire", "set", "w1", "stall_ms=5"))
        self.assertIn("wait=", self.sent("PATCH")[0])


class Tees(CliCase):
    def setUp(self) -> None:
        super().setUp()
        self.wire()
        self.plug("ids", "fw-in", "fw-out", "mon", "in")

    def test_tap(self) -> None:
        self.assertEqual("w1  vm1 ─[tap ids]─ vm2  up\n",
                         self.ok("tap", "add", "w1", "ids", "--out", "mon", "--direction", "a-to-b", "--label", "a=b"))
        path, body = self.sent("PUT")
        self.assertTrue(path.startswith("/v1/networks/default/wires/w1/tees/ids?"), path)
        self.assertEqual({"mode": "tap", "port": "ids", "out_port": "mon", "direction": "a-to-b", "labels": {"a": "b"}},
                         body)
        self.ok("tap", "add", "w1", "mon", "second", "--before", "ids")
        self.assertEqual("w1  vm1 ─[tap second]─[tap fw]─[tap ids]─ vm2  up\n",
                         self.ok("tap", "add", "w1", "fw-in", "--after", "second"))
        self.assertIn("there is no T", self.refused(1, "tap", "rm", "w1", "idx"))
        self.assertEqual("w1  vm1 ─[tap second]─[tap fw]─ vm2  up\n", self.ok("tap", "rm", "w1", "ids"))

    def test_names_follow_ports(self) -> None:
        self.ok("network", "add", "ops")
        self.ok("--network", "ops", "plug", "eye-in", "none")
        self.ok("tap", "add", "w1", "ops/eye-in")
        self.ok("tap", "add", "w1", "in")
        self.assertEqual(["eye", "in"], self.ok("tee", "ls", "w1", "--names").split())

    def test_bump(self) -> None:
        self.ok("tap", "add", "w1", "ids")
        self.assertEqual("w1  vm1 ─[bump fw]─[tap ids]─ vm2  up\n",
                         self.ok("bump", "add", "w1", "fw-in", "fw-out", "--before", "ids", "--on-failure", "open",
                                 "--stall-ms", "3"))
        self.assertEqual({"mode": "bump", "port": "fw-in", "out_port": "fw-out", "on_failure": "open", "stall_ms": 3,
                          "before": "ids"}, self.sent("PUT")[1])
        self.assertIn("`patchbay bump rm w1 fw`", self.refused(1, "tap", "rm", "w1", "fw"))
        self.assertIn("`patchbay tap rm w1 ids`", self.refused(1, "bump", "rm", "w1", "ids"))
        self.model.drains["w1"] = {"late": 1, "unreturned": 2}
        self.assertEqual("w1  vm1 ─[tap ids]─ vm2  up   (1 late, 2 unreturned)\n",
                         self.ok("bump", "rm", "w1", "fw", "--quiet-ms", "5", "--drain-ms", "0"))
        path, _ = self.sent("DELETE")
        self.assertIn("quiet_ms=5&drain_ms=0&wait=", path)
        # The drain is over and done with: later changes don't tell of it again.
        self.assertEqual("w1  vm1 ─[tap ids]─ vm2  up\n", self.ok("wire", "up", "w1"))

    def test_a_bump_whose_arm_is_down(self) -> None:
        self.model.vif_states["fw-out"] = ("down", "no driver")
        error = self.refused(1, "bump", "add", "w1", "fw-in", "fw-out")
        self.assertIn("--when-ready", error)
        self.assertEqual("w1  vm1 ─[off fw]─ vm2  up\n", self.ok("bump", "add", "w1", "fw-in", "fw-out", "--when-ready"))
        self.ok("tap", "rm", "w1", "fw")
        self.assertEqual("w1  vm1 ─[bump fw]─ vm2  down: bump fw: port fw-out: vif fw-out: no driver\n"
                         "    bump fw  down: port fw-out: vif fw-out: no driver\n",
                         self.ok("bump", "add", "w1", "fw-in", "fw-out", "--force"))
        self.assertIn("exclude", self.refused(2, "bump", "add", "w1", "fw-in", "fw-out", "--force", "--when-ready"))

    def test_a_tap_that_is_down_says_why(self) -> None:
        self.model.vif_states["ids"] = ("down", "no link")
        self.assertEqual("w1  vm1 ─[tap ids]─ vm2  up\n    tap ids  down: port ids: vif ids: no link\n",
                         self.ok("tap", "add", "w1", "ids"))

    def test_set_and_move(self) -> None:
        self.ok("tap", "add", "w1", "ids")
        self.ok("tap", "add", "w1", "mon")
        self.assertEqual("w1  vm1 ─[tap mon]─[tap ids]─ vm2  up\n", self.ok("tee", "move", "w1", "mon", "--before", "ids"))
        self.assertEqual("w1  vm1 ─[tap ids]─[tap mon]─ vm2  up\n", self.ok("tee", "move", "w1", "mon", "--after", "ids"))
        self.refused(2, "tee", "move", "w1", "mon")
        self.refused(2, "tee", "move", "w1", "mon", "--before", "ids", "--after", "ids")
        self.assertEqual("w1  vm1 ─[off ids]─[tap mon]─ vm2  up\n", self.ok("tee", "set", "w1", "ids", "mode=off"))
        self.ok("tee", "set", "w1", "ids", "mode=tap", "direction=b-to-a", "out_port=mon", "stall_ms=")
        self.assertEqual({"mode": "tap", "direction": "b-to-a", "out_port": "mon", "stall_ms": None},
                         self.sent("PATCH")[1])
        self.refused(2, "tee", "set", "w1", "ids", "mode=bumps")
        self.refused(2, "tee", "set", "w1", "ids")


class Objects(CliCase):
    def test_vif(self) -> None:
        self.assertEqual("x up\n", self.ok("vif", "add", "x", "none", "--owner", "me", "--label", "a=b"))
        self.assertIn("exists already", self.refused(1, "vif", "add", "x", "none"))
        self.ok("vif", "set", "x", "owner=you", "label.a=")
        self.assertEqual({"owner": "you", "labels": {"a": None}}, self.sent("PATCH")[1])
        self.assertEqual("x\n", self.ok("vif", "ls", "--names"))
        self.assertIn("owner            you\n", self.ok("vif", "show", "x"))
        self.assertEqual("x removed\n", self.ok("vif", "rm", "x"))

    def test_vif_rm_detaches_when_told_to(self) -> None:
        self.wire()
        self.assertIn("used by port vm1", self.refused(1, "vif", "rm", "vm1"))
        self.assertEqual("vm1 removed\nw1  vm1 ── vm2  down: port vm1: no vif\n", self.ok("vif", "rm", "vm1", "--detach"))

    def test_port(self) -> None:
        self.ok("vif", "add", "x", "none")
        self.assertEqual("p up\n", self.ok("port", "add", "p", "--vif", "x", "--vlan", "5", "--label", "a=b"))
        self.assertEqual({"vif": "x", "vlan": 5, "labels": {"a": "b"}}, self.sent("PUT")[1])
        self.assertEqual("p down: no vif\n", self.ok("port", "set", "p", "vif=", "vlan="))
        self.assertEqual("p\n", self.ok("port", "ls", "--names"))
        self.assertIn("state   down\n", self.ok("port", "show", "p"))
        self.assertEqual("p removed\n", self.ok("port", "rm", "p"))

    def test_port_shows_its_wires(self) -> None:
        self.wire()
        self.ok("vif", "add", "x", "none")
        self.assertEqual("vm1 up\nw1  vm1 ── vm2  up\n", self.ok("port", "set", "vm1", "vif=x"))
        self.assertIn("used by wire w1", self.refused(1, "port", "rm", "vm1"))
        self.assertEqual("vm1 removed\nw1  (unplugged) ── vm2  down: end a is unplugged\n",
                         self.ok("port", "rm", "vm1", "--detach"))

    def test_network(self) -> None:
        self.assertEqual("red made\n", self.ok("network", "add", "red", "--label", "a=b"))
        self.ok("--network", "red", "plug", "vm1", "none")
        self.assertIn(("red", "vm1"), self.model.ports)
        self.assertEqual("default\nred\n", self.ok("network", "ls", "--names"))
        self.assertEqual("red changed\n", self.ok("network", "set", "red", "label.c=d", "label.a="))
        self.assertEqual(("/v1/networks/red", {"labels": {"c": "d", "a": None}}), self.sent("PATCH"))
        self.assertRegex(self.ok("network", "show", "red"), r"^network +red\nports +1\nwires +0\nlabels ")
        self.assertIn("label.KEY", self.refused(2, "network", "set", "red", "colour=red"))
        error = self.refused(1, "network", "rm", "red")
        self.assertNotIn("--detach", error)
        self.ok("unplug", "vm1", "--network=red")
        self.assertEqual("red removed\n", self.ok("network", "rm", "red"))

    def test_long_lists_come_in_pages(self) -> None:
        for i in range(2500):
            self.model.vifs[f"v{i:04}"] = {"kind": "none", "owner": None, "labels": {}}
        self.assertEqual(2500, len(self.ok("vif", "ls", "--names").split()))
        self.assertEqual(3, sum(path.startswith("/v1/vifs") for _, path, _, _ in self.daemon.requests))
        self.assertEqual(2500, len(self.json("vif", "ls")["items"]))

    def test_audit(self) -> None:
        self.assertEqual("no changes\n", self.run_cli("audit").err)
        self.model.audit_rows = 30
        lines = self.ok("audit").splitlines()
        self.assertEqual(["ROW", "TIME", "UID", "GID", "BY", "METHOD", "PATH", "STATUS", "GENERATION", "CHANGED"],
                         lines[0].split())
        self.assertEqual([str(i) for i in range(11, 31)], [line.split()[0] for line in lines[1:]])
        self.assertIn("orch[70]", lines[-1])
        self.assertTrue(lines[-1].endswith("wire n/w0, wire n/w1, wire n/w2 and 27 more"), lines[-1])
        rows = json.loads(self.ok("--json", "audit", "--after", "2", "--limit", "3"))["items"]
        self.assertEqual([3, 4, 5], [row["seq"] for row in rows])
        for wrong in (["--limit", "0"], ["--limit", "1001"], ["--after", "x"]):
            self.assertEqual(2, self.run_cli("audit", *wrong).code)

    def test_version(self) -> None:
        self.assertRegex(self.ok("version"), r"^patchbay \S+ \(API 1\.0\)\npatchbayd 0\.1\.0 \(API 1\.0\), DPDK 22\.11\.11, "
                                             r"state schema 1, pid 4711\n$")


if __name__ == "__main__":
    unittest.main()
