# SPDX-License-Identifier: BSD-3-Clause
"""The first session that the README shows: each command, and each line that it prints, with real guests behind."""
from __future__ import annotations

import re
import shlex
import subprocess
import unittest

from guests import QUIET, Guest, ping_all, resumes, wait_all
from namespace import Namespace, interface_name
from patchbay import Case, Daemon, register, wait_for, witness


class FirstSession(Case):
    def setUp(self) -> None:
        self.daemon = Daemon(self)

    def type(self, line: str, *printed: str) -> None:
        """Runs a command line of the README, which must print just these lines."""
        words = shlex.split(line)
        self.assertEqual(words[0], "patchbay")
        said = self.daemon.cli(*words[1:])
        self.assertEqual((said.rc, said.out.splitlines(), said.err), (0, list(printed), ""), line)

    def boot(self, *names: str) -> list[Guest]:
        guests = []
        for name in names:
            options = self.daemon.cli("plug", "--qemu", name, "--memory", "none", "--no-kvm", check=True).out.split()
            address = f"10.9.1.{name[2:]}/24"
            guest = Guest(name, extra_args=options, append=QUIET,
                          setup=f"ip link set eth0 up && ip addr replace {address} dev eth0")
            register(self, guest.close)
            witness(self, guest.console_tail)
            guests.append(guest)
        wait_all(guests)
        for name in names:
            self.daemon.wait_vif(name)
        return guests

    def test_the_readme(self) -> None:
        directory = self.daemon.vhost_dir
        for name in ("vm1", "vm2"):
            self.type(f"patchbay plug {name} vhost:{directory}/{name}.sock",
                      f"{name} waiting: no socket there yet; start QEMU with server=on "
                      f"(patchbay plug --qemu {name} prints the options)")
        vm1, vm2 = self.boot("vm1", "vm2")
        self.type("patchbay wire add w1 vm1 vm2", "w1  vm1 ── vm2  up")
        resumes(vm1, "10.9.1.2")

        ids = interface_name("ids")
        self.type(f"patchbay plug ids kernel-new:{ids}", "ids up")
        self.type("patchbay tap add w1 ids", "w1  vm1 ─[tap ids]─ vm2  up")
        watching = subprocess.Popen(["tcpdump", "-lni", ids, "-c", "10", "icmp"], stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True)
        register(self, lambda: (watching.kill(), watching.communicate()))
        self.assertIn("verbose", watching.stderr.readline())
        self.assertIn("listening", watching.stderr.readline())
        ping_all(vm1, "10.9.1.2", 5)
        seen = watching.communicate(timeout=240)[0]
        self.assertEqual((seen.count("ICMP echo request"), seen.count("ICMP echo reply")), (5, 5), seen)

        bridge = Namespace(self, "fw")
        arms = [bridge.plug(self.daemon, name) for name in ("fw-in", "fw-out")]
        bridge.ip("link", "add", "br0", "type", "bridge", "forward_delay", "0")
        for arm in arms:
            bridge.ip("link", "set", arm, "master", "br0")
        bridge.ip("link", "set", "br0", "up")
        self.type("patchbay bump add w1 fw-in fw-out --before ids", "w1  vm1 ─[bump fw]─[tap ids]─ vm2  up")
        before = bridge.counters(arms[0])["tx"]["packets"] + bridge.counters(arms[0])["rx"]["packets"]
        ping_all(vm1, "10.9.1.2", 5)
        after = bridge.counters(arms[0])["tx"]["packets"] + bridge.counters(arms[0])["rx"]["packets"]
        self.assertGreaterEqual(after - before, 10)
        self.type("patchbay tee set w1 fw mode=tap",
                  "w1  vm1 ─[tap fw]─[tap ids]─ vm2  up   (0 late, 0 unreturned)")
        ping_all(vm1, "10.9.1.2", 5)

        # vm3 takes vm2's place at the wire.
        self.type(f"patchbay plug vm3 vhost:{directory}/vm3.sock",
                  "vm3 waiting: no socket there yet; start QEMU with server=on "
                  "(patchbay plug --qemu vm3 prints the options)")
        self.boot("vm3")
        self.type("patchbay wire replug w1 b vm3", "w1  vm1 ─[tap fw]─[tap ids]─ vm3  up")
        resumes(vm1, "10.9.1.3")

        said = self.daemon.cli("stats", "w1", "--watch", "0.3", "--count", "2", check=True)
        self.assertNotEqual(said.out, "")
        curl = subprocess.run(["curl", "-sf", "--unix-socket", str(self.daemon.socket),
                               "http://localhost/v1/networks/default/wires/w1"], capture_output=True, text=True)
        self.assertEqual(curl.returncode, 0)
        self.assertRegex(curl.stdout, r'"b": ?"vm3"')
        self.assertEqual(re.findall(r'"mode": ?"(\w+)"', curl.stdout), ["tap", "tap"])

    def test_errors_worth_their_words(self) -> None:
        """Each says what to do."""
        self.daemon.plug("vm1", "none")
        for line, code, words in (
                ("wire add w1 vm1 vm9", 1, "vm9"),
                ("wire add w1 vm1 vm1", 1, "vm1"),
                ("wire ad w1 vm1 vm1", 2, "wire add"),
                ("plug x vhos:/tmp/x", 2, "did you mean"),
                ("plug x kernel-new", 2, "interface"),
                ("show nothing", 1, "nothing"),
                ("vif rm vm1", 1, "vm1")):
            said = self.daemon.cli(*line.split())
            self.assertEqual(said.rc, code, f"{line}: {said}")
            self.assertIn(words, said.err, line)
            self.assertEqual(said.out, "", line)
        wait_for("nothing was changed", lambda: self.daemon.get("/v1/stats")["objects"]["wires"] == 0)


if __name__ == "__main__":
    unittest.main()
