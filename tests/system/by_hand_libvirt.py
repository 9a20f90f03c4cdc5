# SPDX-License-Identifier: BSD-3-Clause
"""Guests of a running libvirt, by the XML and the commands of docs/libvirt.md as they stand there. By hand, as root, one to two minutes:

    cd tests/system && PATCHBAY_BUILD=/path/to/build python3 -m unittest -v by_hand_libvirt

    vm1 ══ w1, w1b ══ vm2          libvirtd and patchbayd: services of a live systemd (live_systemd.py)

libvirt comes from Debian's archive and is installed inside of that systemd's root alone. The domains are emulated, without KVM;
libvirt confines them by users and groups, without AppArmor or SELinux.
"""
from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from guests import QUIET, Guest, resumes
from guest_machine import build  # guests has the way to it
from live_systemd import UNIT, Machine, Service, why_not
from patchbay import ROOT, Case, register, say, wait_for, witness

PACKAGES = ("libvirt-daemon-system", "libvirt-clients", "apparmor")
DOCUMENT = (ROOT / "docs" / "libvirt.md").read_text(encoding="utf-8")
QEMU_XML = "http://libvirt.org/schemas/domain/qemu/1.0"
IMAGES = Path("/var/lib/libvirt/images")
# A libvirt of its own, of an ordinary user: stands for another host.
OTHER, OTHER_RUN = "other-host", Path("/run/user/5000")
OTHER_URI = f"qemu+unix:///session?socket={OTHER_RUN}/libvirt/libvirt-sock"
PINGED_S = 60.0


def documented(word: str) -> str:
    """The one block of the document that has the word."""
    found = [block for block in re.findall(r"^```\w*\n(.*?)^```", DOCUMENT, re.M | re.S) if word in block]
    assert len(found) == 1, f"{len(found)} blocks of docs/libvirt.md have {word}"
    return found[0]


class Domain(Guest):
    """A guest that libvirt runs; what tests say to it goes over the agent's channel as ever."""

    def __init__(self, machine: Machine, name: str, number: int) -> None:
        super().__init__(name)
        self.machine, self.number = machine, number
        self.uri, self.agent = "qemu:///system", f"/var/lib/libvirt/qemu/agent-{name}"
        self.console_log = machine.path(f"/var/log/libvirt/qemu/{name}.console")

    def virsh(self, *words: Any, **options: Any) -> str:
        return self.machine.run("virsh", "-q", "-c", self.uri, *words, **options)

    def define(self, vcpus: int = 1, driver: str = "") -> None:
        """The document's domain, with what a guest for tests needs besides: a kernel, the agent's channel, a console; emulation,
        in which QEMU 7.2 can't have MSI-X with vhost-user."""
        ElementTree.register_namespace("qemu", QEMU_XML)
        root = ElementTree.fromstring(documented("<domain").replace("vm1", self.name).replace(":12:34:", f":12:{self.number:02x}:"))
        root.set("type", "qemu")
        root.append(ElementTree.fromstring("<features><acpi/></features>"))
        root.append(ElementTree.fromstring(f"<vcpu>{vcpus}</vcpu>"))
        for tag, text in (("kernel", IMAGES / "vmlinuz"), ("initrd", IMAGES / "initrd.gz"),
                          ("cmdline", f"console=ttyS0 quiet panic=0 mitigations=off {QUIET}"
                           f" patchbay.ip=eth0,10.9.1.{self.number}/24 patchbay.ip=eth1,10.9.2.{self.number}/24")):
            ElementTree.SubElement(root.find("os"), tag).text = str(text)  # type: ignore[arg-type]
        devices = root.find("devices")
        assert devices is not None
        if driver:
            for nic in devices.findall("interface"):
                nic.append(ElementTree.fromstring(driver))
        for text in ("<controller type='usb' model='none'/>", f"<serial type='file'><source path='/var/log/libvirt/qemu/{self.name}.console'/></serial>",
                     f"<channel type='unix'><source mode='bind' path='{self.agent}'/><target type='virtio' name='patchbay.agent'/></channel>"):
            devices.append(ElementTree.fromstring(text))
        vectors = f"<qemu:{{}} xmlns:qemu='{QEMU_XML}'>{{}}</qemu:{{}}>"
        nic = "<qemu:device alias='net{}'><qemu:frontend><qemu:property name='vectors' type='unsigned' value='0'/></qemu:frontend></qemu:device>"
        root.append(ElementTree.fromstring(vectors.format("commandline", "<qemu:arg value='-global'/><qemu:arg value='virtio-net-pci.vectors=0'/>",
                                                          "commandline")))  # of what is plugged in later
        root.append(ElementTree.fromstring(vectors.format("override", nic.format(0) + nic.format(1), "override")))
        self.put("domain.xml", ElementTree.tostring(root, encoding="unicode"))
        self.virsh("define", "--validate", "/root/domain.xml")

    def put(self, name: str, text: str) -> None:
        self.machine.path(f"/root/{name}").write_text(text, encoding="utf-8")

    def start(self) -> "Domain":
        self._forget()
        self.virsh("start", self.name)
        self._started = time.monotonic()
        return self

    def alive(self) -> bool:
        return self.virsh("domstate", self.name, check=False) == "running"

    def kill(self) -> None:
        self.virsh("destroy", self.name, check=False)
        self._forget()

    def moved(self, uri: str, agent: str) -> None:
        """To another libvirt."""
        self.uri, self.agent = uri, agent
        self._forget()

    def again(self, *words: Any) -> None:
        """A command of virsh after which the guest begins anew, or elsewhere."""
        self.virsh(*words)
        self._forget()
        self.wait_ready(120)

    def _agent_path(self) -> str:
        return str(self.machine.path(self.agent))


class Libvirt(Case):
    machine: Machine
    missing = why_not()

    @classmethod
    def setUpClass(cls) -> None:
        if cls.missing:
            raise unittest.SkipTest(cls.missing)
        cls.machine = Machine(cls)
        debs = Path(tempfile.mkdtemp(prefix="pb-debs-"))
        register(cls, shutil.rmtree, debs, True)
        (debs / "partial").mkdir()
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", "--download-only",
                        "-o", f"Dir::Cache::archives={debs}", *PACKAGES], check=True, timeout=300)
        shutil.copytree(debs, cls.machine.path("/root/debs"))
        cls.machine.run("rm", "-f", "/usr/sbin/policy-rc.d")
        cls.machine.run("sh", "-c", "DEBIAN_FRONTEND=noninteractive dpkg -i /root/debs/*.deb", timeout=300)
        cls.machine.path(IMAGES).mkdir(parents=True, exist_ok=True)
        folder = build()
        for name in ("vmlinuz", "initrd.gz"):
            shutil.copy(folder / name, cls.machine.path(IMAGES))

    def patchbay(self, *words: str) -> str:
        return self.machine.run("patchbay", *words)

    def type(self, word: str) -> str:
        """The commands of the document's block with that word, as root."""
        return self.machine.run("bash", "-ec", documented(word).replace("sudo ", ""))

    def reach(self, what: str) -> None:
        """Both wires carry frames; says after how long."""
        begin = time.monotonic()
        for net in (1, 2):
            resumes(self.vm1, f"10.9.{net}.2", PINGED_S)
        say(f"{what}: both wires carry frames after {time.monotonic() - begin:.1f} s")

    def groups(self, path: str) -> tuple[str, str, str]:
        return tuple(self.machine.run("stat", "-c", "%U %G %a", path).split())  # type: ignore[return-value]

    def test_the_document(self) -> None:
        machine, service = self.machine, Service(self.machine)
        machine.run("systemctl", "enable", "--now", UNIT)
        self.vm1, vm2 = Domain(machine, "vm1", 1), Domain(machine, "vm2", 2)
        for domain in (self.vm1, vm2):
            register(self, domain.close)
            witness(self, domain.console_tail)
            domain.define()
        say(machine.run("virsh", "version").replace("\n", "; "))

        # Without the group QEMU has no way to the sockets; the command of the document opens it, for the next start on.
        self.assertIn("Permission denied", machine.run("virsh", "start", "vm1", check=False))
        self.type("usermod")
        # Started before its sockets are there: it waits, and can be given up.
        waiting = subprocess.Popen(["nsenter", "-t", str(machine.pid), "-m", "-p", "-r", "--", "virsh", "start", "vm1"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("QEMU listens", machine.path("/run/patchbay-vhost/vm1.sock").is_socket)
        self.assertEqual(machine.run("virsh", "domstate", "vm1"), "paused")
        machine.run("virsh", "destroy", "vm1")
        self.assertNotEqual(waiting.wait(30), 0)

        self.type("patchbay plug vm1 ")
        for name, kind in (("vm2", "vhost"), ("vm2b", "vhost-server")):
            self.patchbay("plug", name, f"{kind}:/run/patchbay-vhost/{name}.sock")
        self.patchbay("wire", "add", "w1", "vm1", "vm2")
        self.patchbay("wire", "add", "w1b", "vm1b", "vm2b")
        for domain in (self.vm1, vm2):
            domain.start()
        for domain in (self.vm1, vm2):
            domain.wait_ready(120)
        self.reach("started")
        self.assertEqual([self.groups(f"/run/patchbay-vhost{name}") for name in ("", "/vm1.sock", "/vm1b.sock")], [
            ("patchbay", "patchbay-vhost", "2770"), ("libvirt-qemu", "patchbay-vhost", "775"), ("patchbay", "patchbay-vhost", "660")])

        machine.run("systemctl", "restart", UNIT)
        self.reach("systemctl restart patchbayd")
        machine.run("systemctl", "kill", "-s", "KILL", UNIT)
        wait_for("it is back", lambda: machine.show("NRestarts") == "1" and service.alive())
        self.reach("kill -9 of patchbayd")
        machine.run("systemctl", "restart", "libvirtd")
        self.reach("systemctl restart libvirtd")
        vm2.again("reset", "vm2")
        self.reach("virsh reset, and the guest up")
        vm2.kill()
        vm2.start().wait_ready(120)
        self.reach("virsh destroy, start, and the guest up")
        vm2.virsh("save", "vm2", IMAGES / "vm2.save")
        vm2.again("restore", IMAGES / "vm2.save")
        self.reach("virsh save, restore")

        self.plugged_in_later(vm2, service)
        self.migrated(vm2)

        # Queues, packed rings and their size, as the document has them.
        vm2.kill()
        vm2.virsh("undefine", "vm2")
        vm2.define(2, documented("<driver"))
        self.patchbay("wire", "replug", "w1", "b", "vm2")
        self.patchbay("wire", "replug", "w1b", "b", "vm2b")
        vm2.start().wait_ready(120)
        self.reach("queues and packed rings")
        status = json.loads(self.patchbay("vif", "show", "vm2", "--json"))["status"]
        self.assertEqual((status["queue_pairs"], status["ring"], status["rx_ring_size"], status["tx_ring_size"]), (2, "packed", 1024, 1024))
        machine.run("systemctl", "restart", UNIT)
        self.reach("systemctl restart patchbayd, packed rings")

    def plugged_in_later(self, vm2: Domain, service: Service) -> None:
        """The document's interfaces once more, into the running guest and out again."""
        for nic in ElementTree.fromstring(documented("<domain")).iter("interface"):
            source = nic.find("source")
            assert source is not None
            kind = "vhost" if source.get("mode") == "server" else "vhost-server"
            source.set("path", "/run/patchbay-vhost/late.sock")
            for given in nic.findall("mac"):
                nic.remove(given)
            nic.append(ElementTree.fromstring("<mac address='52:54:00:12:34:99'/>"))  # by which it is found again
            vm2.put("nic.xml", ElementTree.tostring(nic, encoding="unicode"))
            self.patchbay("plug", "late", f"{kind}:/run/patchbay-vhost/late.sock")
            vm2.virsh("attach-device", "vm2", "/root/nic.xml")
            vm2.wait_until("ip link set eth2 up", 30)
            service.wait_vif("late")
            vm2.virsh("detach-device", "vm2", "/root/nic.xml")
            service.wait_vif("late", "down")
            vm2.wait_until("! test -e /sys/class/net/eth2", 30)
            self.patchbay("unplug", "late")

    def migrated(self, vm2: Domain) -> None:
        """To a libvirt of an ordinary user, who has other sockets since it is the same host after all."""
        run = self.machine.run
        run("bash", "-ec", f"""useradd -m {OTHER} && usermod -aG patchbay-vhost,kvm {OTHER} && mkdir -p {OTHER_RUN} ~{OTHER}/.config/libvirt
            echo 'host_uuid = "11111111-2222-3333-4444-555555555555"' >~{OTHER}/.config/libvirt/libvirtd.conf
            chown -R {OTHER}: {OTHER_RUN} ~{OTHER}
            setpriv --reuid={OTHER} --regid={OTHER} --init-groups env HOME=/home/{OTHER} XDG_RUNTIME_DIR={OTHER_RUN} libvirtd -d""")
        wait_for("the other libvirt runs", lambda: run("virsh", "-c", OTHER_URI, "list", check=False).startswith("Id"))
        register(self, run, "sh", "-c", f"kill $(cat {OTHER_RUN}/libvirt/libvirtd.pid)")
        for name, kind in (("new", "vhost"), ("newb", "vhost-server")):
            self.patchbay("plug", name, f"{kind}:/run/patchbay-vhost/{name}.sock")
        here, there = (vm2.uri, vm2.agent), (OTHER_URI, f"{OTHER_RUN}/agent")
        vm2.put("there.xml", vm2.virsh("dumpxml", "--migratable", "vm2").replace("vm2.sock", "new.sock").replace("vm2b.sock", "newb.sock")
                .replace(vm2.agent, there[1]).replace("/var/log/libvirt/qemu/vm2.console", f"/home/{OTHER}/vm2.console"))
        vm2.check("echo stays >/tmp/mark")
        begin = time.monotonic()
        vm2.virsh("migrate", "--live", "vm2", OTHER_URI, "--migrateuri", f"unix://{OTHER_RUN}/migration", "--xml", "/root/there.xml")
        say(f"virsh migrate --live took {time.monotonic() - begin:.1f} s")
        self.patchbay("wire", "replug", "w1", "b", "new")
        self.patchbay("wire", "replug", "w1b", "b", "newb")
        self.reach("migrated")
        vm2.moved(*there)
        self.assertEqual(vm2.wait_ready().check("cat /tmp/mark"), "stays\n")
        vm2.kill()
        vm2.moved(*here)


if __name__ == "__main__":
    unittest.main()
