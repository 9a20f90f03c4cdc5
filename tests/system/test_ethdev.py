# SPDX-License-Identifier: BSD-3-Clause
"""Wires between kernel TAP interfaces, whose other ends are real kernel stacks in network namespaces; a "NIC" shared by
VLANs; devices that come and go."""
from __future__ import annotations

import json
import os
import struct
import subprocess
import time
import unittest
from pathlib import Path
from typing import Any

from namespace import Namespace, frame, interface_name, iperf, padded, transfer
from pace import best
from patchbay import MANY, SANITIZED, Case, Daemon, _UnixConnection, check_sums, drops, leg, say, tee_stats, wait_for
from traffic import Traffic, port, rate_text

SIZES = (60, 61, 64, 128, 1000, 1513, 1514)


def tagged(data: bytes, tag: int) -> bytes:
    """The frame with an outer VLAN tag (priority and number), or as it is for 0."""
    return data[:12] + struct.pack("!HH", 0x8100, tag) + data[12:] if tag else data


def quiet_daemon(owner: Case) -> Daemon:
    """In a namespace without IPv6, or the kernel has something to say on a new TAP before its machine takes it."""
    return Daemon(owner, namespace=Namespace(owner, "host").name)


class Machines(Case):
    """a, b, c: a namespace each, behind a TAP."""

    def setUp(self) -> None:
        self.daemon = quiet_daemon(self)
        self.machines = {name: Namespace(self, name) for name in ("a", "b", "c")}
        self.interfaces = {name: machine.plug(self.daemon, name, f"10.77.0.{number}/24")
                           for number, (name, machine) in enumerate(self.machines.items(), 1)}
        self.a, self.b, self.c = self.machines.values()

    def reach(self, machine: Namespace, address: str) -> None:
        wait_for(f"{machine.name} reaches {address}", lambda: machine.ping(address, wait=1.0))

    def test_ping_tcp_and_a_checked_transfer(self) -> None:
        self.daemon.wire("w1", "a", "b", stall_ms=1000)
        self.daemon.wait_wire("w1")
        self.reach(self.a, "10.77.0.2")
        self.assertTrue(self.a.ping("10.77.0.2", 20))
        self.assertTrue(self.b.ping("10.77.0.1", 20))
        # Up to the largest frame, and fragments.
        self.a.run("ping", "-q", "-c", "3", "-i", "0.02", "-s", "1472", "-M", "do", "10.77.0.2")
        self.a.run("ping", "-q", "-c", "3", "-i", "0.02", "-s", "20000", "10.77.0.2")
        size = (2 if SANITIZED else 64) << 20
        forth, back = transfer(self.a, self.b, "10.77.0.2", size), transfer(self.b, self.a, "10.77.0.1", size)
        result = iperf(self.a, self.b, "10.77.0.2")
        say(f"TCP over TAPs: {forth:.0f} and {back:.0f} Mbit/s with checksums, iperf3 "
            f"{result['end']['sum_received']['bits_per_second'] / 1e6:.0f} Mbit/s, "
            f"{result['end']['sum_sent']['retransmits']} retransmits")
        self.assertGreater(result["end"]["sum_received"]["bytes"], 1 << 20)
        self.daemon.settled("w1")

    def test_exact_frames(self) -> None:
        """Each frame arrives as it was sent, in order; short ones are padded; kernel, vif and wire count alike."""
        self.daemon.wire("w1", "a", "b")
        self.daemon.tee("w1", "ids", port="c")
        self.daemon.wait_wire("w1")
        raws = {name: machine.raw(self.interfaces[name]) for name, machine in self.machines.items()}
        base = self.daemon.settled("w1")
        vifs = {name: self.daemon.vif_stats(name) for name in "ab"}
        sizes = (14, 15, 42, 59, *SIZES) * 5
        forth = [frame(number, size) for number, size in enumerate(sizes)]
        back = [frame(1000 + number, size) for number, size in enumerate(SIZES)]
        raws["a"].send(*forth)
        self.assertEqual(raws["b"].collect(len(forth)), [padded(one) for one in forth])
        raws["b"].send(*back)
        self.assertEqual(raws["a"].collect(len(back)), [padded(one) for one in back])
        copies = raws["c"].collect(len(forth) + len(back))
        self.assertEqual(copies, [padded(one) for one in forth + back])
        stats = self.daemon.settled("w1")
        for way, frames, source, sink in (("a_to_b", forth, "a", "b"), ("b_to_a", back, "b", "a")):
            size = sum(len(one) for one in frames)
            for what in ("received", "delivered"):
                self.assertEqual(stats[way][what]["frames"] - base[way][what]["frames"], len(frames), (way, what))
            self.assertEqual(stats[way]["received"]["bytes"] - base[way]["received"]["bytes"], size, way)
            for vif, what in ((source, "received"), (sink, "transmitted")):
                now = self.daemon.vif_stats(vif)[what]["frames"]
                self.assertEqual(now - vifs[vif][what]["frames"], len(frames), (vif, what))
        tap, before = tee_stats(stats, "ids"), tee_stats(base, "ids")
        self.assertEqual(tap["copied"]["frames"] - before["copied"]["frames"], len(copies))
        self.assertEqual(tap["dropped"]["total"], before["dropped"]["total"])

    def test_tags_of_an_untagged_port_pass(self) -> None:
        """A port without vlan carries every frame, tags and all EtherTypes included."""
        self.daemon.wire("w1", "a", "b")
        self.daemon.wait_wire("w1")
        a, b = self.a.raw(self.interfaces["a"]), self.b.raw(self.interfaces["b"])
        frames = [frame(1, 60, tag=10), frame(2, 1514, tag=4094), frame(3, 60, tag=0x6001), frame(4, 60, tag=0),
                  frame(5, 64, ethertype=0x88cc), frame(6, 64, ethertype=0x88f7), frame(7, 60, ethertype=0x0026)]
        # Addresses that a bridge would keep to itself.
        frames += [bytes.fromhex(f"0180c20000{last:02x}") + frame(8)[6:] for last in (0, 2, 3, 0xe)]
        for one in frames:
            a.send(one)
        self.assertEqual(b.collect(len(frames)), frames)

    def test_bump_of_a_bridging_namespace(self) -> None:
        """a ─[bump: a namespace that bridges]─ b; with its bridge down nothing passes."""
        self.daemon.wire("w1", "a", "b", stall_ms=1000)
        self.reach(self.a, "10.77.0.2")
        bridge = Namespace(self, "bridge")
        arms = [bridge.plug(self.daemon, name) for name in ("fw-in", "fw-out")]
        try:
            bridge.ip("link", "add", "br0", "type", "bridge", "forward_delay", "0")
        except AssertionError as error:
            self.skipTest(f"this kernel has no bridge: {error}")
        for arm in arms:
            bridge.ip("link", "set", arm, "master", "br0")
        bridge.ip("link", "set", "br0", "up")
        answered = self.a.answered()
        pinging = self.a.spawn("ping", "-q", "-i", "0.01", "-c", "200", "10.77.0.2", stdout=subprocess.PIPE, text=True)
        self.daemon.tee("w1", "fw", port="fw-in", out_port="fw-out", mode="bump", stall_ms=1000)
        self.assertIn("200 packets transmitted", pinging.communicate(timeout=240)[0])
        wait_for("all 200 pings are answered", lambda: self.a.answered() == answered + 200)
        before = tee_stats(self.daemon.settled("w1"), "fw")["into"]["frames"]
        self.assertTrue(self.a.ping("10.77.0.2", 5))
        wait_for("they pass the bump", lambda: tee_stats(self.daemon.stats("w1"), "fw")["into"]["frames"] >= before + 10)
        bridge.ip("link", "set", "br0", "down")
        self.assertFalse(self.a.ping("10.77.0.2", wait=0.5))
        self.daemon.set_tee("w1", "fw", "?wait=10", mode="off")
        self.assertTrue(self.a.ping("10.77.0.2", 5))

    def test_replug_to_another_machine(self) -> None:
        self.daemon.wire("w1", "a", "b")
        self.reach(self.a, "10.77.0.2")
        for _ in range(3):
            self.daemon.set_wire("w1", b="c")
            self.reach(self.a, "10.77.0.3")
            self.assertFalse(self.a.ping("10.77.0.2", wait=0.3))
            self.daemon.set_wire("w1", b="b")
            self.reach(self.a, "10.77.0.2")
            self.assertFalse(self.a.ping("10.77.0.3", wait=0.3))
        self.daemon.set_wire("w1", b=None)
        self.assertFalse(self.a.ping("10.77.0.2", wait=0.3))
        self.assertEqual(self.daemon.wire_state("w1")["state"], "down")

    def test_an_interface_that_somebody_deletes(self) -> None:
        """The daemon says so, and serves the others."""
        self.daemon.wire("w1", "a", "b")
        self.reach(self.a, "10.77.0.2")
        other = [Namespace(self, name) for name in ("d", "e")]
        for number, (name, machine) in enumerate(zip("de", other), 1):
            machine.plug(self.daemon, name, f"10.78.0.{number}/24")
        self.daemon.wire("w2", "d", "e")
        self.reach(other[0], "10.78.0.2")
        self.b.ip("link", "del", self.interfaces["b"])

        def said() -> str:
            status = self.daemon.vif_state("b")
            return status["reason"] if status["state"] != "up" else ""
        reason = wait_for("vif b isn't up", said)
        say(f"a deleted TAP: {reason}")
        self.assertIn("deleted", reason)
        self.assertEqual(self.daemon.wait_wire("w1", "down")["state"], "down")
        self.assertFalse(self.a.ping("10.77.0.2", wait=0.3))
        self.assertTrue(other[0].ping("10.78.0.2", 5))
        # A whole namespace goes with what is in it.
        self.c.close()
        wait_for("vif c isn't up", lambda: self.daemon.vif_state("c")["state"] != "up")
        # Made anew it works again.
        for path in ("/v1/networks/default/wires/w1", "/v1/networks/default/ports/b", "/v1/vifs/b"):
            self.daemon.do("DELETE", path)
        self.b.plug(self.daemon, "b", "10.77.0.2/24")
        self.daemon.wire("w1", "a", "b")
        self.a.ip("neigh", "flush", "all")  # the new interface has another address
        self.reach(self.a, "10.77.0.2")

    def test_link_down_and_up(self) -> None:
        """An interface that its machine sets down is down, with its wire."""
        self.daemon.wire("w1", "a", "b")
        self.reach(self.a, "10.77.0.2")
        self.b.ip("link", "set", self.interfaces["b"], "down")
        self.assertFalse(self.a.ping("10.77.0.2", wait=0.3))
        self.b.ip("link", "set", self.interfaces["b"], "up")
        self.reach(self.a, "10.77.0.2")

    def test_a_short_outage_is_told(self) -> None:
        """Of an interface that is down for less than the second in which links are asked."""
        since = self.daemon.wait_vif("b")["since"]
        stream = _UnixConnection(self.daemon.socket, 120)
        self.addCleanup(stream.close)
        stream.request("GET", "/v1/events?since=0")
        lines = stream.getresponse()

        def told() -> Any:
            while (event := json.loads(lines.readline()))["type"] != "vif_link" or event["vif"] != "b":
                pass
            return event

        # How it came up is told as well, and perhaps a moment later.
        while (event := told())["state"] != "up" or event["time"] < since:
            pass

        def outage() -> float:
            """Five of them, each until it was told; the longest."""
            times = []
            for _ in range(5):
                begin = time.monotonic()
                self.b.ip("link", "set", self.interfaces["b"], "down")
                self.assertEqual(told()["state"], "down")
                times.append(time.monotonic() - begin)
                self.b.ip("link", "set", self.interfaces["b"], "up")
                self.assertEqual(told()["state"], "up")
            return max(times)
        # Who only asked once a second would hardly be so quick five times.
        best("five outages are told", 0.3, outage)


class SharedNic(Case):
    """One "NIC" serves three wires: VLAN 10, VLAN 20 and untagged.

        nic ─┬─ nic10 (vlan 10) ─w10─ m10
             ├─ nic20 (vlan 20) ─w20─ m20
             └─ nic0  (untagged) ─w0─ m0
    """

    def setUp(self) -> None:
        self.daemon = quiet_daemon(self)
        self.out = Namespace(self, "outside")
        self.nic = self.out.raw(self.out.plug(self.daemon, "nic"))
        self.daemon.do("DELETE", "/v1/networks/default/ports/nic")
        self.machines = {}
        for tag in (10, 20, 0):
            machine = Namespace(self, f"m{tag}")
            self.machines[tag] = machine.raw(machine.plug(self.daemon, f"m{tag}"))
            self.daemon.do("PUT", f"/v1/networks/default/ports/nic{tag}", {"vif": "nic", "vlan": tag or None})
            self.daemon.wire(f"w{tag}", f"nic{tag}", f"m{tag}")
            self.daemon.wait_wire(f"w{tag}")

    def silent(self, *tags: int) -> None:
        for tag in tags:
            self.assertIsNone(self.machines[tag].receive(0.2), f"m{tag} got something")

    def test_tags_are_popped_and_pushed(self) -> None:
        number = 0
        for tag in (10, 20, 0):
            frames, answers = [], []
            for size in (60, 64, 1000, 1514):
                number += 1
                frames.append(frame(number, size))
                answers.append(frame(1000 + number, size))
            self.nic.send(*[tagged(one, tag) for one in frames])
            self.assertEqual(self.machines[tag].collect(len(frames)), frames, f"towards m{tag}")
            self.silent(*[other for other in (10, 20, 0) if other != tag])
            self.machines[tag].send(*answers)
            self.assertEqual(self.nic.collect(len(answers)),
                             [tagged(one, tag) for one in answers], f"from m{tag}")
            stats = self.daemon.settled(f"w{tag}")
            for way in ("a_to_b", "b_to_a"):
                self.assertEqual(stats[way]["delivered"]["frames"], len(frames), (tag, way))
                # A wire counts frames as they are on it, without the tag of its port.
                self.assertEqual(stats[way]["received"]["bytes"], sum(map(len, frames)), (tag, way))

    def test_short_tagged_frames(self) -> None:
        """A 60-byte frame with a tag is 56 without; it gets to the machine padded, with the same bytes."""
        body = frame(7, 60)
        self.nic.send(tagged(body[:56], 10))
        self.assertEqual(self.machines[10].collect(1), [padded(body[:56])])

    def test_inner_tags_and_priorities(self) -> None:
        """Only the outer tag is the port's; a priority goes with it; a frame of tag 0 is untagged (802.1Q)."""
        inner = frame(1, 100, tag=77)
        self.nic.send(tagged(inner, 0xa00a))
        self.assertEqual(self.machines[10].collect(1), [inner])
        self.machines[20].send(inner)
        self.assertEqual(self.nic.collect(1), [tagged(inner, 20)])
        self.silent(20, 0)

    def test_unknown_tags_are_counted(self) -> None:
        before = self.daemon.vif_stats("nic")["discarded"]
        self.nic.send(*[frame(number, 100, tag=30) for number in range(25)])
        wait_for("they are counted", lambda: self.daemon.vif_stats("nic")["discarded"].get("unknown_vlan", 0)
                 == before.get("unknown_vlan", 0) + 25)
        self.silent(10, 20, 0)

    def test_patch_of_a_tag_and_replug(self) -> None:
        self.daemon.do("PATCH", "/v1/networks/default/ports/nic10", {"vlan": 30})
        self.nic.send(frame(1, 100, tag=30), frame(2, 100, tag=10))
        self.assertEqual(self.machines[10].collect(1), [frame(1, 100)])
        reply = self.daemon.refused("PATCH", "/v1/networks/default/ports/nic10", {"vlan": 20})
        self.assertEqual((reply.status, reply.code), (409, "VlanTaken"))
        reply = self.daemon.refused("PATCH", "/v1/networks/default/ports/nic10", {"vlan": None})
        self.assertEqual((reply.status, reply.code), (409, "VlanTaken"))
        # w20 moves over to tag 30, w10 to tag 20.
        for wire in ("w10", "w20"):
            self.daemon.set_wire(wire, a=None)
        self.daemon.set_wire("w20", a="nic10")
        self.daemon.set_wire("w10", a="nic20")
        for wire in ("w10", "w20"):
            self.daemon.wait_wire(wire)
        self.nic.send(frame(3, 100, tag=30), frame(4, 100, tag=20))
        self.assertEqual(self.machines[20].collect(1), [frame(3, 100)])
        self.assertEqual(self.machines[10].collect(1), [frame(4, 100)])
        self.machines[20].send(frame(5, 100))
        self.assertEqual(self.nic.collect(1), [frame(5, 100, tag=30)])

    def test_a_blocked_wire_blocks_no_other(self) -> None:
        """m10's machine sets its interface down: w10's frames are dropped, the NIC's others go on."""
        self.daemon.do("PATCH", "/v1/networks/default/wires/w10", {"admin": "down"})
        self.nic.send(*[frame(number, 100, tag=10) for number in range(50)])
        self.nic.send(*[frame(number, 100, tag=20) for number in range(50)])
        self.assertEqual(self.machines[20].collect(50), [frame(number, 100) for number in range(50)])
        stats = self.daemon.settled("w10")
        self.assertEqual(drops(stats["a_to_b"]), {"admin_down": 50})
        self.silent(10)


class Devices(Case):
    def resident_kb(self) -> int:
        return int(Path(f"/proc/{self.daemon.pid}/status").read_text().split("VmRSS:")[1].split()[0])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    def quiet_descriptors(self) -> int:
        before = self.descriptors()
        time.sleep(0.2)
        return before if before == self.descriptors() else 0

    def test_devices_come_and_go(self) -> None:
        """A hundred times; nothing of them stays: no descriptor, no memory, no port of DPDK."""
        self.daemon = quiet_daemon(self)
        self.daemon.plug("sink", "none")
        rounds = 20 if SANITIZED else 100
        for kind, target in (("dev", "net_null7,no-rx=1"), ("dev", "net_ring7"), ("kernel-new", interface_name("x"))):
            before: tuple[int, int] | None = None
            base = wait_for("the descriptors stand still", self.quiet_descriptors)
            begin = time.monotonic()
            for number in range(rounds):
                self.daemon.plug("x", kind, target)
                self.daemon.wire("w", "x", "sink")
                self.daemon.wait_vif("x")
                for path in ("/v1/networks/default/wires/w", "/v1/networks/default/ports/x", "/v1/vifs/x"):
                    self.daemon.do("DELETE", path)
                if number == rounds // 4:
                    before = base, self.resident_kb()
            took = time.monotonic() - begin
            assert before is not None
            # Connections of ours that were just closed take it a moment.
            wait_for("no descriptor stays", lambda: before and self.descriptors() <= before[0], 5)
            after = self.descriptors(), self.resident_kb()
            say(f"{target} {rounds} times: {took / rounds * 1e3:.1f} ms each, descriptors {before[0]} → {after[0]}, "
                f"resident {before[1]} → {after[1]} kB")
            if not SANITIZED:
                self.assertLess(after[1] - before[1], 2048, target)
        self.assertEqual(self.daemon.get("/v1/stats")["objects"]["vifs"], 1)

    def test_a_null_nic_through_a_wire(self) -> None:
        """net_null sends without end: every frame of it is on the wire's books."""
        self.daemon = quiet_daemon(self)
        self.daemon.plug("nic", "dev", "net_null0,size=256")
        self.daemon.plug("sink", "none")
        self.daemon.plug("mon", "none")
        self.daemon.wire("w1", "nic", "sink", tees=[{"name": "ids", "port": "mon"}])

        def enough() -> bool:
            stats = self.daemon.stats("w1")
            return stats["a_to_b"]["delivered"]["frames"] > 1000000 / (20 if SANITIZED else 1)
        wait_for("a million frames", enough)
        self.daemon.do("PATCH", "/v1/networks/default/ports/nic", {"vif": None})
        stats = self.daemon.settled("w1")
        check_sums(stats)
        total = leg(stats, "a_to_b", "a")
        self.assertEqual(total["received"]["bytes"], 256 * total["received"]["frames"])
        self.assertEqual(self.daemon.vif_stats("sink")["transmitted"]["frames"], total["delivered"]["frames"])
        tap = tee_stats(stats, "ids")
        self.assertEqual((tap["offered"], tap["copied"]["frames"]), (total["received"]["frames"],) * 2)

    def test_vhost_to_ethdev_and_back(self) -> None:
        """a ─w1─ a DPDK ring that gives back what it is sent: each frame comes home, in order, jumbo frames too.

        A vhost monitor gets copies of both ways, and so does a kernel TAP.
        """
        self.daemon = quiet_daemon(self)
        watcher = Namespace(self, "watcher")
        self.daemon.plug("a")
        self.daemon.plug("mon")
        self.daemon.plug("ring", "dev", "net_ring1")
        interface = watcher.plug(self.daemon, "tap")
        watcher.ip("link", "set", interface, "mtu", "9198")
        base = watcher.counters(interface)["rx"]
        self.daemon.wire("w1", "a", "ring", stall_ms=10000,
                         tees=[{"name": "ids", "port": "mon"}, {"name": "kernel", "port": "tap"}])
        self.daemon.wait_vif("ring")
        count = MANY // 20
        result = Traffic(self, self.daemon, ["mon", "a"], ["a>a"], monitors=["mon"], count=count, size="random").wait()
        say(f"vhost to a ring of DPDK and back, two taps: {rate_text(result)}")
        # Both ways of a frame are copied to the monitor: it has all of them twice, if it has room.
        self.assertEqual([p for p in result["problems"] if "monitor" not in p], [])
        own = result["streams"][0]
        self.assertEqual((own["sent"], own["received"], own["lost"], own["duplicate"]), (count, count, 0, 0))
        self.assertEqual(own["receivers"][0]["reordered"], 0)
        stats = self.daemon.settled("w1")
        for way in ("a_to_b", "b_to_a"):
            self.assertEqual(stats[way]["delivered"], stats["a_to_b"]["received"], way)
            self.assertEqual(drops(stats[way]), {}, way)
        self.assertEqual(stats["a_to_b"]["received"]["frames"], count)
        self.assertEqual(stats["b_to_a"]["delivered"]["bytes"], port(result, "a")["rx_bytes"])
        for name in ("ids", "kernel"):
            self.assertEqual(tee_stats(stats, name)["offered"], 2 * count)
        self.assertEqual(tee_stats(stats, "ids")["copied"]["frames"], port(result, "mon")["rx_frames"])
        seen = watcher.counters(interface)["rx"]
        self.assertEqual(tee_stats(stats, "kernel")["copied"]["frames"],
                         seen["packets"] - base["packets"] + seen["dropped"] - base["dropped"])

    def test_devices_that_cannot_be_made(self) -> None:
        """Refused whole, with the reason; nothing of it stays."""
        self.daemon = quiet_daemon(self)
        for body, code in (({"kind": "dev", "devargs": "net_nosuch0"}, "DeviceFailed"),
                           ({"kind": "dev", "devargs": "0000:ff:1e.7"}, "DeviceFailed"),
                           ({"kind": "kernel-new", "interface": "lo"}, None)):
            reply = self.daemon.refused("PUT", "/v1/vifs/x", body)
            self.assertEqual(reply.status, 409, reply.body)
            if code:
                self.assertEqual(reply.code, code, reply.body)
            self.assertEqual(self.daemon.api("GET", "/v1/vifs/x").status, 404)
        self.daemon.plug("one", "dev", "net_null3,no-rx=1", port=False)
        reply = self.daemon.refused("PUT", "/v1/vifs/two", {"kind": "dev", "devargs": "net_null3"})
        self.assertEqual((reply.status, reply.code), (409, "TargetInUse"))


if __name__ == "__main__":
    unittest.main()
