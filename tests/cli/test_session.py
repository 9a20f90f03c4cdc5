# SPDX-License-Identifier: BSD-3-Clause
"""The first session, as the README shows it: each line as it is printed."""

import unittest

from support import CliCase


class Session(CliCase):
    def test_first_session(self) -> None:
        """vm1 ── vm2, then a tap, a bump, the bump as a tap, another machine at end b."""
        waiting = ("{0} waiting: no socket there yet; start QEMU with server=on (patchbay plug --qemu {0} prints the "
                   "options)\n")
        path = f"vhost:{self.folder}/"
        self.assertEqual(waiting.format("vm1"), self.ok("plug", "vm1", f"{path}vm1.sock"))
        self.assertEqual(waiting.format("vm2"), self.ok("plug", "vm2", f"{path}vm2.sock"))
        self.assertIn(",share=on\n", self.ok("plug", "--qemu", "vm1"))
        self.model.vif_states.update({name: ("up", "") for name in ("vm1", "vm2", "vm3")})
        self.assertEqual("w1  vm1 ── vm2  up\n", self.ok("wire", "add", "w1", "vm1", "vm2"))
        self.assertEqual("ids up\n", self.ok("plug", "ids", "kernel-new:ids0"))
        self.assertEqual("w1  vm1 ─[tap ids]─ vm2  up\n", self.ok("tap", "add", "w1", "ids"))
        self.plug("fw-in", "fw-out", "vm3")
        self.assertEqual("w1  vm1 ─[bump fw]─[tap ids]─ vm2  up\n",
                         self.ok("bump", "add", "w1", "fw-in", "fw-out", "--before", "ids"))
        self.assertEqual("w1  vm1 ─[tap fw]─[tap ids]─ vm2  up   (0 late, 0 unreturned)\n",
                         self.ok("tee", "set", "w1", "fw", "mode=tap"))
        self.assertEqual("w1  vm1 ─[tap fw]─[tap ids]─ vm3  up\n", self.ok("wire", "replug", "w1", "b", "vm3"))

    def test_a_wire_that_is_down_says_why(self) -> None:
        self.plug("vm1")
        self.ok("plug", "vm2", "vhost:/nowhere/vm2.sock")
        self.assertEqual("w1  vm1 ── vm2  down: port vm2: vif vm2: waiting for its socket /nowhere/vm2.sock\n",
                         self.ok("wire", "add", "w1", "vm1", "vm2"))

    def test_drawn_in_ascii_where_lines_cannot_be(self) -> None:
        self.wire()
        self.plug("ids")
        self.assertEqual("w1  vm1 -[tap ids]- vm2  up\n", self.ok("tap", "add", "w1", "ids", env={"LC_ALL": "C"}))
        self.assertEqual("w1  vm1 -- vm2  up\n", self.ok("tap", "rm", "w1", "ids", env={"LC_ALL": "C"}))


if __name__ == "__main__":
    unittest.main()
