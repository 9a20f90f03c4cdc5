# SPDX-License-Identifier: BSD-3-Clause
"""A guest that moves from one QEMU to another, both over Patchbay, while traffic goes on.

    here ┄┄┐
           ├──w1──[tap mon]── peer      `here` until the guest has moved, then `there`
    there ─┘
"""
from __future__ import annotations

import struct
import sys
import threading
import time
import unittest
from typing import Any

from guests import QUIET, Guest, Nic, ping_all, resumes, wait_all
from patchbay import ROOT, Case, Daemon, check_sums, drops, register, say, tee_stats, wait_for, wire_path, witness

sys.path.append(str(ROOT / "tests" / "vhost"))
from frontend import FrontEnd  # noqa: E402

MOVING, PEER = "10.9.1.1", "10.9.1.2"
MAC = "52:54:00:00:77:01"
LONGEST_GAP_S = 5.0
BANDWIDTH = 40 << 20  # of guest memory; some seconds under way, so that much is received meanwhile


class Monitor:
    """The tap's end: has all frames that were copied. Its ring has room for the whole file in segments: however slow this
    reader is, a tap that finds no room isn't what is tested here."""

    def __init__(self, owner: Any, path: str) -> None:
        self.frames: list[bytes] = []
        self.end = FrontEnd(path, features=0x1_7000_8000, ring_size=32768, memory_size=160 << 20)
        self.stop = threading.Event()
        self.end.connect()
        self.end.start()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        register(owner, self.close)

    def _run(self) -> None:
        while not self.stop.is_set():
            self.frames += self.end.received() or (time.sleep(0.001) or [])

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.end.close()


def sent_to(tap: Any) -> int:
    """The frames that a monitor gets which takes no offloads: of a copy that is to be segmented, its segments."""
    return tap["copied"]["frames"] - tap["segmented"]["frames"] + tap["segmented"]["segments"]


def segments(frames: list[bytes], last: int = 20) -> str:
    """What went over TCP port 9000 in the end, and every reset: who sent it, and what it said."""
    lines = []
    for number, frame in enumerate(frames):
        if frame[12:14] != b"\x08\x00" or frame[23] != 6 or len(frame) < 54:
            continue
        at = 14 + 4 * (frame[14] & 15)
        source, sink, seq, ack, offset, flags, window = struct.unpack_from(">HHIIBBH", frame, at)
        if 9000 in (source, sink):
            size = struct.unpack_from(">H", frame, 16)[0] - (at - 14) - 4 * (offset >> 4)
            names = "".join(name for bit, name in enumerate("FSRPAU") if flags >> bit & 1)
            lines.append(f"frame {number}: {frame[26 + 3]} > {frame[30 + 3]} {names} seq {seq} ack {ack} "
                         f"window {window} size {size}")
    resets = [line for line in lines if "R" in line.split()[5]]
    return "\n".join(["resets:", *resets[-10:], "the last ones:", *lines[-last:]])


class Gap:
    """Looks for the longest time without a frame of the moving guest's."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon, self.longest, self.stop = daemon, 0.0, threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        last, since = -1, time.monotonic()
        while not self.stop.is_set():
            count = sum(one["received"]["frames"] for one in self.daemon.stats("w1")["a_to_b"]["legs"])
            now = time.monotonic()
            self.longest = max(self.longest, now - since)
            if count != last:
                last, since = count, now
            time.sleep(0.01)

    def finish(self) -> float:
        self.stop.set()
        self.thread.join()
        return self.longest


class Migration(Case):
    def guest(self, name: str, path: str, ip: str | None, **nic: Any) -> Guest:
        made = Guest(name, [Nic(path, ip=ip, **nic)], append=QUIET, memory_mb=224)
        self.addCleanup(made.close)
        witness(self, made.console_tail)
        return made

    def test_under_traffic(self) -> None:
        daemon = Daemon(self)
        paths = {name: daemon.plug(name, "vhost-server") for name in ("here", "there", "peer", "mon")}
        daemon.wire("w1", "here", "peer")
        daemon.tee("w1", "ids", port="mon")
        monitor = Monitor(self, paths["mon"])
        here = self.guest("here", paths["here"], f"{MOVING}/24", mac=MAC)
        there = self.guest("there", paths["there"], None, mac=MAC)
        peer = self.guest("peer", paths["peer"], f"{PEER}/24")
        wait_all([here, peer])
        there.incoming()
        resumes(peer, MOVING)
        tap_before = tee_stats(daemon.settled("w1"), "ids")

        # A pattern that nobody touches, a file that comes in over TCP all the while, and pings.
        pattern = here.check("dd if=/dev/urandom of=/tmp/pattern bs=1M count=12 2>/dev/null; md5sum </tmp/pattern")
        peer.check("dd if=/dev/urandom of=/tmp/sent bs=1M count=24 2>/dev/null")
        here.check("mkfifo /tmp/open; (nc -l -p 9000 <>/tmp/open >/tmp/received 2>/tmp/nc.err &)")
        here.wait_until("netstat -ltn | grep -q :9000")
        rarps = peer.capture("eth0", "rarp")
        sending = peer.spawn(f"nc {MOVING} 9000 </tmp/sent")
        pinging = peer.spawn(f"ping -i 0.05 -W 10 {MOVING}")
        gap = Gap(daemon)
        self.addCleanup(gap.finish)
        took = here.migrate(there, bandwidth=BANDWIDTH, on_switch=lambda: daemon.set_wire("w1", a="there"))
        there.wait_ready()
        code = sending.wait(60)
        said = there.run("cat /tmp/nc.err; ls -l /tmp; free; md5sum </tmp/pattern; dmesg | tail -5")[1]
        self.assertEqual(code, 0, f"{sending.output()}\nthe guest that moved: {said}\nthe pattern was {pattern}\n"
                         f"{segments(monitor.frames)}")
        ping_all(peer, MOVING)
        longest = gap.finish()
        pinging.stop()
        self.assertEqual(there.check("md5sum </tmp/pattern"), pattern, "the guest's memory")
        self.assertEqual(there.check("md5sum </tmp/received"), peer.check("md5sum </tmp/sent"), "what was received")
        said = there.check("dmesg | grep -E 'BUG:|Oops|virtio.*(error|broken|fail)|id .* out of range' || true")
        self.assertEqual(said.strip(), "", "the guest's kernel complains")
        say(f"migration: {took:.1f} s in all, longest time without a frame of the guest's {longest:.2f} s")
        self.assertLessEqual(longest, LONGEST_GAP_S)

        # The wire and its T are what they were.
        wire = daemon.get(wire_path("w1"))
        self.assertEqual((wire["status"]["state"], [tee["name"] for tee in wire["tees"]]), ("up", ["ids"]))
        stats = daemon.settled("w1")
        check_sums(stats)
        tap = tee_stats(stats, "ids")
        self.assertEqual(drops(tap), drops(tap_before))
        daemon.wait_vif("here", "down")
        ping_all(there, PEER)

        # Announced, once for each time that QEMU asked, seen by the peer and by the tap. How often and when it asks is
        # its own choice; once it is gone the counts stand still.
        there.kill()
        daemon.wait_vif("there", "down")
        wait_for("the monitor has all copies", lambda: len(monitor.frames) == sent_to(tee_stats(daemon.settled("w1"), "ids")))
        announced = daemon.vif_stats("there")["announced"]
        self.assertGreaterEqual(announced, 1)
        self.assertEqual(daemon.vif_stats("here")["announced"], 0)
        address = bytes.fromhex(MAC.replace(":", ""))
        seen = [frame for frame in rarps.finish() if frame[6:12] == address]
        copies = [frame for frame in monitor.frames if frame[12:14] == b"\x80\x35" and frame[6:12] == address]
        self.assertEqual(len(seen), len(copies))
        # Those that came before the wire was plugged in anew went nowhere, as whatever else the guest sent by then.
        unwired = daemon.vif_stats("there")["discarded"].get("unwired", 0)
        self.assertIn(announced - len(seen), range(unwired + 1))
        self.assertGreaterEqual(len(seen), 1)
        say(f"migration: announced {announced} times, {len(seen)} of them on the wire")


if __name__ == "__main__":
    unittest.main()
