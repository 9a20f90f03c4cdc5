# SPDX-License-Identifier: BSD-3-Clause
"""Guests that grow, hundreds that come at once, and one that comes and goes for ever.

PATCHBAY_CYCLES=1000 makes the last one as long as it is by hand (CI: 100).
"""
from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

from guests import QUIET, Guest, Nic, ping_all, resumes, wait_all
from pace import slowness
from patchbay import ROOT, SANITIZED, SLOW, Case, Daemon, check_sums, drops, leg, say, to, wait_for, witness

sys.path.append(str(ROOT / "tests" / "vhost"))
from frontend import EVENT_IDX, PROTOCOL_FEATURES, RING_PACKED, TRANSMIT, USUAL, FrontEnd  # noqa: E402
from support import frame, number  # noqa: E402

MB = 1 << 20


class HotPlug(Case):
    """Memory is plugged into a guest while it receives and sends."""

    def test_memory_is_plugged(self) -> None:
        daemon = Daemon(self)
        paths = {name: daemon.plug(name, "vhost-server") for name in ("a", "b")}
        daemon.wire("w1", "a", "b", stall_ms=60000)
        # What the kernel takes for itself, buffers of the NIC too, it takes from the highest memory first: the new one.
        a = Guest("a", [Nic(paths["a"], ip="10.9.2.1/24")], memory_mb=192, extra_args=["-m", "192,slots=4,maxmem=1G"],
                  append=f"{QUIET} memhp_default_state=online_kernel swiotlb=noforce")
        b = Guest("b", [Nic(paths["b"], ip="10.9.2.2/24")], append=QUIET, memory_mb=192)
        for guest in (a, b):
            self.addCleanup(guest.close)
            witness(self, guest.console_tail)
        wait_all([a, b])
        resumes(b, "10.9.2.1")
        total = int(a.check("awk '/MemTotal/{print $2}' /proc/meminfo"))
        before = daemon.settled("w1")
        b.check("dd if=/dev/urandom of=/tmp/sent bs=1M count=32 2>/dev/null")
        a.check("mkdir /tmp/new; mount -t tmpfs -o size=100m none /tmp/new; mkfifo /tmp/open; "
                "(nc -l -p 9000 <>/tmp/open >/tmp/new/received 2>/tmp/nc.err &)")
        a.wait_until("netstat -ltn | grep -q :9000")
        # With pauses, so that it takes longer than the plugging: 6 seconds at least, and until the memory is there.
        b.check("mkfifo /tmp/sum; (md5sum </tmp/sum >/tmp/md5 &)")
        sending = b.spawn("i=0; until test $i -ge 64 -a -e /tmp/plugged -o $i -ge 180; do "
                          "dd if=/tmp/sent bs=512k count=1 skip=$((i % 64)) 2>/dev/null; "
                          "test $i -lt 64 && usleep 100000 || sleep 1; i=$((i + 1)); done | tee /tmp/sum | nc 10.9.2.1 9000")
        pinging = a.spawn("ping -i 0.02 -W 10 10.9.2.2")
        paused: list[int] = []
        for count in range(2):
            a.wait_until(f"test $(stat -c %s /tmp/new/received) -gt {(1 + 5 * count) * MB}")
            pauses = daemon.vif_stats("a")["pauses"]
            a.qmp("object-add", qom_type="memory-backend-memfd", id=f"more{count}", size=128 * MB, share=True)
            a.qmp("device_add", driver="pc-dimm", id=f"dimm{count}", memdev=f"more{count}")
            least = total + (count + 1) * 120 * 1024
            a.wait_until(f"test $(awk '/MemTotal/{{print $2}}' /proc/meminfo) -gt {least}")
            # The daemon gets the new memory by a message, for whose length the vif is `paused`: frames wait.
            paused.append(daemon.vif_stats("a")["pauses"] - pauses)
            self.assertGreater(paused[-1], 0)
            self.assertEqual(daemon.vif_state("a")["state"], "up")
        self.assertTrue(sending.running(), "all was there before the memory was: the test is too short")
        b.check("touch /tmp/plugged")
        self.assertEqual(sending.wait(120), 0, a.run("cat /tmp/nc.err; free; dmesg | tail -5")[1])
        self.assertGreaterEqual(int(a.check("stat -c %s /tmp/new/received")), 32 * MB)
        b.wait_until("test -s /tmp/md5")
        wanted = b.check("cat /tmp/md5")
        a.wait_until(f"test \"$(md5sum </tmp/new/received)\" = \"{wanted.strip()}\"")
        pinging.stop()
        ping_all(a, "10.9.2.2")
        normal = a.check("awk '/^Node/{zone=$4} zone==\"Normal\"&&$1==\"pages\"{free=$3} "
                         "zone==\"Normal\"&&$1==\"managed\"{print $2-free}' /proc/zoneinfo").split()
        used = max(int(pages) for pages in normal) * 4096 // MB
        self.assertGreater(used, 10, "the guest hasn't taken its new memory into use")
        self.assertEqual(a.check("dmesg | grep -E 'BUG:|Oops|virtio.*(error|broken|fail)' || true").strip(), "")

        # Not one frame was lost by it, in either direction.
        after = daemon.settled("w1")
        for way, source, sink in (("a_to_b", "a", "b"), ("b_to_a", "b", "a")):
            self.assertEqual(drops(after[way]), drops(before[way]), way)
            sent = leg(after, way, source)["received"]["frames"] - leg(before, way, source)["received"]["frames"]
            came = to(after, way, source, sink) - to(before, way, source, sink)
            self.assertEqual(came, sent, way)
        say(f"memory hot-plug: 2 × 128 MB while 32 MB came in over TCP, {sent} frames, none lost in {paused} pauses; "
            f"{used} MB of the new memory in use")


def footprint(daemon: Daemon) -> dict[str, int]:
    """What a leak would make larger."""
    process = Path(f"/proc/{daemon.pid}")
    status = (process / "status").read_text()
    maps = (process / "maps").read_text()
    return {"descriptors": len(os.listdir(process / "fd")), "threads": len(os.listdir(process / "task")),
            "guest mappings": maps.count("memfd:vhost-test"), "mappings": maps.count("\n"),
            "kB": int(status.split("VmRSS:")[1].split()[0])}


class Many(Case):
    """500 vifs, half of which listen, half connect; all front ends come at once."""
    COUNT = 500
    FRAMES = 8

    def test_500_at_once(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        daemon = Daemon(self)
        names = [f"v{i}" for i in range(self.COUNT)]
        paths = [daemon.plug(name, "vhost" if i % 2 else "vhost-server") for i, name in enumerate(names)]
        for i in range(0, self.COUNT, 2):
            daemon.wire(f"w{i}", names[i], names[i + 1], stall_ms=60000)
        alone = footprint(daemon)
        pool = ThreadPoolExecutor(50)
        self.addCleanup(pool.shutdown)
        ends: list[FrontEnd] = []
        self.addCleanup(lambda: [end.close() for end in ends])
        for i, path in enumerate(paths):
            ends.append(FrontEnd(path, listen=bool(i % 2), ring_size=16, memory_size=0x60000, timeout=120))
        took = self.all_start(daemon, pool, ends)
        say(f"{self.COUNT} vifs at once: all up after {took:.1f} s")
        self.assertLess(took, 30 * SLOW * slowness())
        up = footprint(daemon)
        self.each_wire(ends)

        # They vanish at once, too, and nothing of them stays.
        begin = time.monotonic()
        for end in ends:
            end.disconnect()
        self.all_are(daemon, "down")
        say(f"{self.COUNT} vifs gone at once: all down after {time.monotonic() - begin:.1f} s; "
            f"{(up['kB'] - alone['kB']) / self.COUNT:.1f} kB each while they were up")
        # (Those that listen are still there: the daemon has connected again.)
        expected = alone["descriptors"] + self.COUNT // 2
        wait_for("their descriptors are closed", lambda: footprint(daemon)["descriptors"] == expected)
        self.assertEqual(footprint(daemon)["guest mappings"], 0)
        self.assertEqual(footprint(daemon)["threads"], alone["threads"])
        self.all_start(daemon, pool, ends)
        self.each_wire(ends)

        # The daemon dies under them.
        daemon.kill9()
        daemon.start()
        took = self.all_start(daemon, pool, ends)
        say(f"daemon killed with {self.COUNT} vifs: answers after {daemon.started_s:.1f} s, all up {took:.1f} s later")
        self.each_wire(ends)
        self.assertEqual(footprint(daemon)["guest mappings"], self.COUNT)

    def all_start(self, daemon: Daemon, pool: ThreadPoolExecutor, ends: list[FrontEnd]) -> float:
        def start(end: FrontEnd) -> None:
            end.connect()
            end.start()

        begin = time.monotonic()
        list(pool.map(start, ends))
        self.all_are(daemon, "up")
        return time.monotonic() - begin

    def all_are(self, daemon: Daemon, state: str) -> None:
        def all_of_them() -> bool:
            found = [vif["status"]["state"] for vif in daemon.items("/v1/vifs?limit=1000")]
            assert found.count(state) == self.COUNT, {each: found.count(each) for each in set(found)}
            return True

        wait_for(f"all vifs are {state}", all_of_them, 60, 0.05)

    def each_wire(self, ends: list[FrontEnd]) -> None:
        """Numbered frames over each wire, both ways: all, once, in order, and no other's."""
        numbers = [range(self.FRAMES * i, self.FRAMES * (i + 1)) for i in range(self.COUNT)]
        for end, own in zip(ends, numbers):
            self.assertEqual(end.transmit([frame(i) for i in own]), self.FRAMES)
        for i, end in enumerate(ends):
            self.assertEqual([number(data) for data in end.receive_frames(self.FRAMES, 30)], list(numbers[i ^ 1]))
        for end in ends:
            wait_for("what was sent is given back",
                     lambda: (end.reclaim(), len(end.rings[TRANSMIT].free))[1] == end.rings[TRANSMIT].size)


class Cycles(Case):
    """Two guests and a monitor that connect, send and are killed, in each state that they may be in."""
    CYCLES = int(os.environ.get("PATCHBAY_CYCLES", "100"))
    WARM = 20  # what is allocated once is allocated by then

    def test_no_leak(self) -> None:
        self.daemon = daemon = Daemon(self)
        self.paths = {name: daemon.plug(name, kind)
                      for name, kind in (("a", "vhost-server"), ("b", "vhost-server"), ("mon", "vhost"))}
        daemon.wire("w1", "a", "b", stall_ms=50)
        daemon.tee("w1", "ids", port="mon")
        begin = time.monotonic()
        first, sizes = {}, []
        for cycle in range(self.CYCLES + self.WARM):
            self.cycle(cycle)
            now = footprint(daemon)
            if cycle == self.WARM - 1:
                first, begin = now, time.monotonic()
            sizes.append(now["kB"])
        took = time.monotonic() - begin
        wait_for("what the last ones had is closed",
                 lambda: footprint(daemon)["descriptors"] <= first["descriptors"])
        last = footprint(daemon)
        check_sums(daemon.settled("w1"))
        slope = (last["kB"] - first["kB"]) / self.CYCLES
        say(f"{self.CYCLES} cycles of three front ends in {took:.0f} s: {first} → {last}, {slope:.2f} kB a cycle")
        self.assertEqual(last["threads"], first["threads"])
        self.assertEqual(last["guest mappings"], 0)
        # The allocator may keep some more; a leaked mapping a cycle would be a hundred.
        self.assertLessEqual(last["mappings"], first["mappings"] + self.CYCLES // 10)
        if not SANITIZED:  # whose allocator keeps what was freed
            self.assertLess(slope, 8.0)

    def cycle(self, cycle: int) -> None:
        features = (USUAL, USUAL & ~EVENT_IDX, USUAL | RING_PACKED, USUAL & ~PROTOCOL_FEATURES)[cycle % 4]
        monitored = cycle % 4 == 1
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                child = os.fork()
                if child == 0:
                    try:
                        ours.close()
                        self.guest(theirs, cycle, features, monitored)
                    except BaseException as error:
                        theirs.send(repr(error).encode())
                    finally:
                        os._exit(1)
            try:
                ours.settimeout(240)
                said = ours.recv(4000)
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        if monitored:
            os.unlink(self.paths["mon"])
        self.assertEqual(said, b"kill me", f"cycle {cycle}")
        for name in ("a", "b", "mon"):
            self.daemon.wait_vif(name, "down")

    def guest(self, parent: socket.socket, cycle: int, features: int, monitored: bool) -> None:
        """In a process of its own, which says when it is to be killed and goes on with what it does."""
        ends = [FrontEnd(self.paths[name], features=features, timeout=120) for name in ("a", "b")]
        monitor = FrontEnd(self.paths["mon"], features=features, listen=True, timeout=120) if monitored else None
        for end in [*ends, *([monitor] if monitor else [])]:
            end.connect()
            end.start()
        for name in ("a", "b", *(["mon"] if monitored else [])):
            self.daemon.wait_vif(name)
        for sender, receiver in (ends, ends[::-1]):
            sender.transmit([frame(i) for i in range(50)])
            if [number(data) for data in receiver.receive_frames(50)] != list(range(50)):
                raise AssertionError("frames are missing, doubled or out of order")
        last: Callable[[], Any]
        if cycle % 3 == 0:  # in the middle of its frames
            def last() -> None:
                for end in ends:
                    end.transmit([frame(i, 1500) for i in range(64)])
                    end.received()
        elif cycle % 3 == 1:  # in the middle of its messages
            def last() -> None:
                for end in ends:
                    end.enable(False)
                    end.set_memory()
                    end.enable()
        else:  # at rest
            def last() -> None:
                time.sleep(0.01)
        last()
        parent.send(b"kill me")
        while True:
            last()


if __name__ == "__main__":
    unittest.main()
