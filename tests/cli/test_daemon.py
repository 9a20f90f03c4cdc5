# SPDX-License-Identifier: BSD-3-Clause
"""The command line against the control plane itself, over a dataplane that only counts (tests/fake_dataplane)."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import time
import unittest

from support import BUILD, CliCase

NAME = "patchbayd-control-only"
DAEMON = next(iter(sorted(BUILD.glob(f"**/{NAME}"))), None) if "PATCHBAY_DAEMON" not in os.environ \
    else pathlib.Path(os.environ["PATCHBAY_DAEMON"])


class DaemonCase(CliCase):
    def start_daemon(self) -> None:
        if DAEMON is None:
            self.fail(f"{NAME} was not built in {BUILD}")
        self.log = open(f"{self.folder}/log", "w+", encoding="utf-8")
        self.addCleanup(self.log.close)
        self.fake_path = f"{self.folder}/fake.sock"
        self.process = subprocess.Popen(
            [DAEMON, "--socket", self.socket, "--state", f"{self.folder}/state.db", "--vhost-dir", self.folder,
             "--pidfile", f"{self.folder}/pid"], stdout=self.log, stderr=self.log,
            env={**os.environ, "PATCHBAY_FAKE": self.fake_path})
        self.addCleanup(self.stop)
        deadline = time.monotonic() + 120
        while self.run_cli("version").code != 0:
            self.assertIsNone(self.process.poll(), self.logged())
            self.assertLess(time.monotonic(), deadline, self.logged())
            time.sleep(0.02)

    def logged(self) -> str:
        return pathlib.Path(self.log.name).read_text(encoding="utf-8")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.assertEqual(0, self.process.returncode, self.logged())

    def dataplane(self, command: str) -> str:
        """One command to the dataplane that only counts."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(self.fake_path)
            peer.sendall(command.encode() + b"\n")
            return peer.makefile().readline().strip()

    def link(self, *vifs: str, state: str = "up") -> None:
        for vif in vifs:
            self.assertEqual("ok", self.dataplane(f"link {vif} {state}"))

    def until(self, expected: str, *arguments: str) -> None:
        """Runs a command until it prints this: the news of a link takes a moment."""
        deadline = time.monotonic() + 120
        while (out := self.ok(*arguments)) != expected:
            self.assertLess(time.monotonic(), deadline, f"{arguments} prints\n{out}, not\n{expected}")
            time.sleep(0.02)


class Session(DaemonCase):
    def test_first_session(self) -> None:
        """The README's, line by line."""
        waiting = ("{0} waiting: no socket there yet; start QEMU with server=on (patchbay plug --qemu {0} prints the "
                   "options)\n")
        for name in ("vm1", "vm2", "vm3"):
            self.assertEqual(waiting.format(name), self.ok("plug", name, f"vhost:{self.folder}/{name}.sock"))
        self.assertIn(f"path={self.folder}/vm1.sock,server=on\n", self.ok("plug", "--qemu", "vm1"))
        self.link("vm1", "vm2", "vm3")
        self.until("w1  vm1 ── vm2  up\n", "wire", "add", "w1", "vm1", "vm2")
        self.assertEqual("ids up\n", self.ok("plug", "ids", "kernel-new:ids0"))
        self.assertEqual("w1  vm1 ─[tap ids]─ vm2  up\n", self.ok("tap", "add", "w1", "ids"))
        self.plug("fw-in", "fw-out")
        self.assertEqual("w1  vm1 ─[bump fw]─[tap ids]─ vm2  up\n",
                         self.ok("bump", "add", "w1", "fw-in", "fw-out", "--before", "ids"))
        self.assertEqual("w1  vm1 ─[tap fw]─[tap ids]─ vm2  up   (0 late, 0 unreturned)\n",
                         self.ok("tee", "set", "w1", "fw", "mode=tap"))
        self.assertEqual("w1  vm1 ─[tap fw]─[tap ids]─ vm3  up\n", self.ok("wire", "replug", "w1", "b", "vm3"))
        self.assertEqual(1000, self.counted(1000)["a_to_b"]["delivered"]["frames"])
        self.assertRegex(self.ok("stats", "w1"), r"\ntap ids +1,000 +1,000 +98.0 kB +0\n")

    def counted(self, frames: int) -> dict:
        self.assertEqual("ok", self.dataplane(f"send vm1 0 {frames} 98"))
        return self.json("stats", "w1")


class Verbs(DaemonCase):
    def test_each_verb_and_its_opposite(self) -> None:
        steps = """
            plug vm1 none                            | vm1 up
            plug vm2 none --owner o --label a=b      | vm2 up
            plug ids none                            | ids up
            plug fw-in none                          | fw-in up
            plug fw-out none                         | fw-out up
            wire add w1 vm1 vm2 --stall-ms 5         | w1  vm1 ── vm2  up
            wire down w1                             | w1  vm1 ── vm2  down: admin is down
            wire up w1                               | w1  vm1 ── vm2  up
            wire set w1 on_full=drop label.a=b       | w1  vm1 ── vm2  up
            wire set w1 on_full= stall_ms= label.a=  | w1  vm1 ── vm2  up
            tap add w1 ids --direction a-to-b        | w1  vm1 ─[tap ids]─ vm2  up
            bump add w1 fw-in fw-out --before ids    | w1  vm1 ─[bump fw]─[tap ids]─ vm2  up
            tee move w1 fw --after ids               | w1  vm1 ─[tap ids]─[bump fw]─ vm2  up
            tee move w1 fw --before ids              | w1  vm1 ─[bump fw]─[tap ids]─ vm2  up
            tee set w1 fw on_failure=open            | w1  vm1 ─[bump fw]─[tap ids]─ vm2  up
            tee set w1 fw mode=off                   | w1  vm1 ─[off fw]─[tap ids]─ vm2  up   (0 late, 0 unreturned)
            tee set w1 fw mode=bump --force          | w1  vm1 ─[bump fw]─[tap ids]─ vm2  up
            bump rm w1 fw --drain-ms 0               | w1  vm1 ─[tap ids]─ vm2  up   (0 late, 0 unreturned)
            bump add w1 fw-in fw-out x --on-failure open | w1  vm1 ─[tap ids]─[bump x]─ vm2  up
            bump rm w1 x --quiet-ms 1                | w1  vm1 ─[tap ids]─ vm2  up   (0 late, 0 unreturned)
            tap rm w1 ids                            | w1  vm1 ── vm2  up
            wire unplug w1 b                         | w1  vm1 ── (unplugged)  down: end b is unplugged
            wire replug w1 b ids                     | w1  vm1 ── ids  up
            unplug ids --detach                      | ids unplugged/w1  vm1 ── (unplugged)  down: end b is unplugged
            wire rm w1                               | w1 removed
            unplug vm1                               | vm1 unplugged
            vif set vm2 owner= label.a=              | vm2 up
            port add p --vif fw-in --vlan 7          | p up
            port set p vif= vlan=                    | p down: no vif
            port rm p                                | p removed
            vif add v none                           | v up
            vif rm v                                 | v removed
            network add red --label a=b              | red made
            network rm red                           | red removed
        """
        for step in filter(None, map(str.strip, steps.splitlines())):
            command, expected = (part.strip() for part in step.split(" | "))
            self.assertEqual(expected.replace("/", "\n") + "\n", self.ok(*command.split()), command)

    def test_plug_is_undone_when_the_port_is_refused(self) -> None:
        self.ok("port", "add", "vm1")
        self.refused(1, "plug", "vm1", "none")
        self.assertEqual("", self.ok("vif", "ls", "--names"))

    def test_a_shared_vif(self) -> None:
        self.ok("plug", "nic", "dev:net_null0", "--port", "red", "--vlan", "10")
        self.ok("plug", "nic", "dev:net_null0", "--port", "blue", "--vlan", "20")
        self.assertIn("nic", self.refused(1, "plug", "nic", "dev:net_null1", "--port", "x", "--vlan", "30"))
        self.refused(1, "plug", "nic", "dev:net_null0", "--port", "x", "--vlan", "20")
        self.assertEqual("vif nic stays: port blue shares it\nred unplugged\n", self.ok("unplug", "red"))
        self.assertEqual("blue unplugged\n", self.ok("unplug", "blue"))
        self.assertEqual("", self.ok("vif", "ls", "--names"))

    def test_a_bump_that_waits_for_its_arms(self) -> None:
        self.wire()
        self.plug("fw-in")
        self.ok("plug", "fw-out", f"vhost:{self.folder}/fw-out.sock")
        self.assertIn("--when-ready", self.refused(1, "bump", "add", "w1", "fw-in", "fw-out"))
        self.assertEqual("w1  vm1 ─[off fw]─ vm2  up\n    off fw  off: becomes a bump when both its arms are up\n",
                         self.ok("bump", "add", "w1", "fw-in", "fw-out", "--when-ready"))
        self.link("fw-out")
        self.until("w1  vm1 ─[bump fw]─ vm2  up\n", "wire", "up", "w1")

    def test_a_monitor_of_another_network(self) -> None:
        self.wire()
        self.ok("network", "add", "ops")
        self.ok("--network", "ops", "plug", "eye", "none")
        self.assertEqual("w1  vm1 ─[tap eye]─ vm2  up\n", self.ok("tap", "add", "w1", "ops/eye"))
        self.assertIn("port ops/eye", self.ok("show", "w1"))
        self.assertEqual("eye unplugged\ndefault/w1  vm1 ─[off eye]─ vm2  up\n",
                         self.ok("--network", "ops", "unplug", "eye", "--detach"))


class Answers(DaemonCase):
    def test_refusals(self) -> None:
        self.wire()
        self.plug("monitor")
        for words, *arguments in (
                (("monitro", "monitor"), "vif", "show", "monitro"),
                (("exists",), "wire", "add", "w1", "vm1", "vm2"),
                (("w1",), "wire", "add", "w2", "vm1", "-"),
                (("used by wire w1 as end a", "--detach"), "unplug", "vm1"),
                (("used by port vm1", "--detach"), "vif", "rm", "vm1"),
                (("out_port",), "tee", "set", "w1", "t", "mode=bump"),
                (("nowhere",), "tap", "add", "w1", "nowhere"),
                (("default",), "network", "rm", "default")):
            if "t" in arguments:
                self.ok("tap", "add", "w1", "monitor", "t")
            error = self.refused(1, *arguments)
            for word in words:
                self.assertIn(word, error)

    def test_show_and_json(self) -> None:
        self.wire()
        self.ok("plug", "vm3", f"vhost:{self.folder}/vm3.sock")
        self.ok("wire", "add", "w0", "vm3", "-")
        lines = self.ok("show").splitlines()
        self.assertEqual(["w0", "w1"], [line.split()[0] for line in lines[:2]])
        self.assertIn("waiting for its socket", lines[0])
        raw = subprocess.run(["curl", "-s", "--unix-socket", self.socket,
                              "http://localhost/v1/networks/default/wires/w1"], check=True, capture_output=True).stdout \
            if os.access("/usr/bin/curl", os.X_OK) else None
        if raw is not None:
            self.assertEqual(raw.decode().strip(), self.ok("show", "w1", "--json").strip())
        self.assertEqual(3, len(self.json("vif", "ls")["items"]))
        self.assertIn("down", self.ok("port", "show", "vm3"))

    def test_stats(self) -> None:
        self.wire()
        self.ok("wire", "add", "w2", "-", "-")
        self.assertEqual("ok", self.dataplane("send vm1 0 1234 98"))
        self.assertRegex(self.ok("stats", "w1"), r"\na→b +1,234 +121 kB +1,234 +121 kB +0\n")
        self.assertRegex(self.ok("stats"), r"\nw1 a→b +1,234 ")
        self.assertRegex(self.ok("stats", "--vif", "vm2"), r"\nvif vm2 +0 +0 B +1,234 ")
        self.assertIn("a→b  in 0 fps", self.ok("stats", "w1", "--watch", "0.1", "--count", "1"))
        self.ok("wire", "unplug", "w1", "b")
        self.assertEqual("ok", self.dataplane("send vm1 0 10 98"))
        self.assertIn("10 unplugged", self.ok("stats", "w1"))

    def test_long_lists(self) -> None:
        for i in range(12):
            self.ok("wire", "add", f"w{i:02}", "-", "-")
        self.assertEqual(12, len(self.ok("wire", "ls", "--names").split()))


if __name__ == "__main__":
    unittest.main()
