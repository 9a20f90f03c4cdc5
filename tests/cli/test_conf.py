# SPDX-License-Identifier: BSD-3-Clause
"""patchbay conf against the control plane: what is listed, set, put back, refused; exit 4 for what can't be."""

from __future__ import annotations

import unittest

from test_daemon import DaemonCase


class Conf(DaemonCase):
    def test_conf(self) -> None:
        self.wire()
        self.ok("plug", "vm3", f"vhost:{self.folder}/vm3.sock")
        self.assertEqual("100\n", self.ok("conf", "get", "wire:w1", "stall_ms"))
        self.assertEqual("wire:w1 stall_ms = 2000 ms\n", self.ok("conf", "set", "wire:w1", "stall_ms=2k"))
        self.assertEqual("2000\n", self.ok("conf", "get", "wire:w1", "stall_ms"))
        self.assertEqual("wire:w1 stall_ms = 100 ms\n", self.ok("conf", "unset", "wire:w1", "stall_ms"))
        self.assertEqual("wire:w1 on_full = drop\n", self.ok("conf", "set", "wire:w1", "on_full=drop"))
        self.assertEqual("wire:w1 on_full = wait\n", self.ok("conf", "set", "wire:w1", "on_full="))
        self.assertEqual("vif:vm1 owner = vm-4711\n", self.ok("conf", "set", "vif:vm1", "owner=vm-4711"))
        self.assertEqual("vif:vm1 owner = -\n", self.ok("conf", "unset", "vif:vm1", "owner"))
        self.assertIn("vhost vhost-server dev", self.ok("conf", "get", "host", "vif_kinds"))
        self.assertEqual("3\n", self.ok("conf", "get", "network:default", "ports"))
        table = self.ok("conf", "list", "wire:w1")
        self.assertRegex(table, r"(?m)^KEY +VALUE +UNIT +WHAT$")
        self.assertRegex(table, r"(?m)^stall_ms +100 +ms +rw +how long")
        keys = self.ok("conf", "list", "wire:w1", "--names").split()
        self.assertEqual(keys, self.json("conf", "list", "wire:w1")["keys"])
        self.assertIn("on_full", keys)
        shown = self.json("conf", "get", "vif:vm3", "kind")
        self.assertEqual(("vhost", False, True), (shown["value"], shown["writable"], shown["standard"]))
        self.assertEqual("drop", self.json("conf", "set", "wire:w1", "on_full=drop")["value"])
        self.ok("network", "add", "red")
        self.ok("--network", "red", "port", "add", "p")
        self.assertEqual("port:p vlan = 7\n", self.ok("conf", "set", "--network", "red", "port:p", "vlan=7"))
        # As other commands name it, too.
        self.assertEqual("7\n", self.ok("conf", "get", "port:red/p", "vlan"))
        self.assertEqual("port:red/p vlan = 9\n", self.ok("conf", "set", "port:red/p", "vlan=9"))
        self.assertEqual("100\n", self.ok("conf", "get", "wire:default/w1", "stall_ms"))
        self.assertIn("egress_bps", self.ok("conf", "list", "port:red/p", "--names"))

    def test_refusals(self) -> None:
        self.wire()
        self.ok("plug", "vm3", f"vhost:{self.folder}/vm3.sock")
        self.assertIn("where the VM is", self.refused(4, "conf", "get", "vif:vm3", "mac"))
        self.assertIn("where the VM is", self.refused(4, "conf", "set", "vif:vm3", "mac=02:00:00:00:00:01"))
        self.assertIn('did you mean "stall_ms"', self.refused(4, "conf", "unset", "wire:w1", "stal_ms"))
        result = self.run_cli("conf", "get", "vif:vm3", "mac", "--json")
        self.assertEqual(4, result.code)
        self.assertIn('"CapNotSupported"', result.out)
        self.assertIn("only read", self.refused(1, "conf", "set", "wire:w1", "tees_max=3"))
        self.refused(1, "conf", "set", "wire:w1", "stall_ms=0")
        self.assertIn("is a number", self.refused(2, "conf", "set", "wire:w1", "stall_ms=soon"))
        self.assertIn("is a number", self.refused(2, "conf", "set", "wire:w1", "stall_ms=99999999999999G"))
        for entity in ("w1", "wires:w1", "wire:", "vi:vm1", "", "wire:/w1", "wire:default/", "port:/"):
            self.assertIn("is none of host", self.refused(2, "conf", "list", entity))
        self.assertIn("KEY=VALUE", self.refused(2, "conf", "set", "wire:w1", "stall_ms"))
        self.refused(1, "conf", "list", "wire:nope")
        self.assertIn("is --network red and the name w1", self.refused(2, "wire", "show", "red/w1"))


if __name__ == "__main__":
    unittest.main()
