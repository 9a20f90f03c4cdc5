# SPDX-License-Identifier: BSD-3-Clause
"""Vifs with many queues, and workers that take them from each other: by hand, by load, and as a guest switches them.

    generator ─a═══w1═══b─ generator      four queues each way, two workers
    guest ─a═══w1═══b─ guest              ethtool -L under traffic
"""
from __future__ import annotations

import json
import statistics
import subprocess
import time
import unittest
from typing import Any

from guests import QUIET, Guest, Nic, begin_tcp, checked_transfer, finish_tcp, interface_frames, resumes, wait_all
from patchbay import (CPUS, MANY, SANITIZED, Case, Daemon, check_sums, drops, leg, register, say, spawn, wait_for,
                      witness)
from traffic import PROGRAM, Traffic, check_lossless, port, rate_text

QUEUES = 4
PATIENT: dict[str, Any] = {"stall_ms": 60000}
A, B = "10.9.0.1", "10.9.0.2"


# Two workers need a CPU each, and one is for the others. Where there are but two, one worker shares its CPU with them
# and with the generator; that takes EAL's own option.
if len(CPUS) > 2:
    WORKERS = ["--workers", ",".join(str(cpu) for cpu in CPUS[-2:])]
else:
    WORKERS = ["--", f"--lcores=0@{CPUS[0]},1@{CPUS[0]},2@{CPUS[-1]}"]


def end_process(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


class Moves(Case):
    """Numbered frames; each stream keeps to one queue of its sender and must come out whole and in order."""

    def setUp(self) -> None:
        self.daemon = Daemon(self, "--log-level", "debug", *WORKERS)
        for name in ("a", "b"):
            self.daemon.plug(name)
        self.daemon.wire("w1", "a", "b", **PATIENT)

    def workers(self, vif: str) -> list[Any]:
        return self.daemon.vif_state(vif)["workers"]

    def traffic(self, rate: int | None = None) -> Traffic:
        traffic = Traffic(self, self.daemon, ["a", "b"], ["a>b"] * QUEUES + ["b>a"] * QUEUES, rate=rate,
                          options={"a": f"queues={QUEUES}", "b": f"queues={QUEUES}"})
        traffic.wait_received(1000)
        for name in ("a", "b"):
            wait_for(f"{name} has its queues", lambda: self.daemon.vif_state(name)["queue_pairs"] == QUEUES)
        return traffic

    def account(self, result: Any) -> None:
        """What the daemon counted, queue by queue, is what the generator did."""
        check_lossless(result)
        stats = self.daemon.settled("w1")
        for way, source, sink in (("a_to_b", "a", "b"), ("b_to_a", "b", "a")):
            sent, got = port(result, source)["tx_frames"], port(result, sink)["rx_frames"]
            self.assertEqual((leg(stats, way, source)["received"]["frames"], drops(stats[way])), (sent, {}), way)
            queues = self.daemon.vif_stats(source)["queues"]
            streams = [one["sent"] for one in result["streams"] if one["stream"] == f"{source}>{sink}"]
            self.assertEqual([queue["received"]["frames"] for queue in queues], streams, source)
            into = self.daemon.vif_stats(sink)["queues"]
            self.assertEqual([queue["transmitted"]["frames"] for queue in into], streams, sink)
            self.assertEqual(sum(streams), got)

    def test_1000_moves(self) -> None:
        traffic = self.traffic()
        moves = 100 if SANITIZED else 1000
        times, seen = [], [0, 0]
        for number in range(moves):
            vif, worker = "ab"[number // 2 % 2], number % 2
            begin = time.monotonic()
            self.daemon.do("PATCH", f"/v1/vifs/{vif}", {"worker": worker})
            times.append(time.monotonic() - begin)
            if number % 50 == 0:
                self.assertEqual(self.workers(vif), [worker] * QUEUES)
                before = self.daemon.stats("w1")["a_to_b"]["delivered"]["frames"]
                wait_for("frames go on", lambda: self.daemon.stats("w1")["a_to_b"]["delivered"]["frames"] > before, 60)
            seen[worker] += 1
        wait_for(f"{MANY // 10} frames are sent", lambda: traffic.progress()["sent"] >= MANY // 10, 120, 0.1)
        table = self.daemon.cli("stats", "--queues", check=True).out
        self.assertRegex(table, r"(?m)^a +[0-3] +[01] +[\d.]+ %")
        queues = json.loads(self.daemon.cli("stats", "--queues", "--json", check=True).out)["queues"]
        self.assertEqual([(queue["vif"], queue["queue"]) for queue in queues][:2 * QUEUES],
                         [(vif, queue) for vif in "ab" for queue in range(QUEUES)])
        result = traffic.stop()
        moved = self.daemon.log.read_text().count(" moved from worker ")
        say(f"{moves} changes of a worker, {moved} moves of a queue in {sum(times):.1f} s, median "
            f"{statistics.median(times) * 1e3:.2f} ms, longest {max(times) * 1e3:.1f} ms; {rate_text(result)}")
        self.account(result)
        self.assertGreaterEqual(moved, moves)

    def test_load_is_spread(self) -> None:
        """All queues are on one worker, and are more than it can do; once nothing holds them there some move by their
        load, under frames without end, and under numbered ones that stay whole."""
        heavy, every = "cdef", "abcdef"
        for name in heavy:
            self.daemon.plug(name)
        self.daemon.wire("w2", "c", "d")
        self.daemon.wire("w3", "e", "f")
        for name in every:
            self.daemon.do("PATCH", f"/v1/vifs/{name}", {"worker": 1})
        traffic = self.traffic(2000)
        # Where generators share a CPU, long rings keep the worker busy while they wait for it.
        ports = [word for name in heavy
                 for word in ("--port", f"{name}={self.daemon.get(f'/v1/vifs/{name}')['path']},queue_size=4096")]
        options = "--size 9216 --pool 8192 --huge off --wait 30 --seconds 600 --stream c>d --stream e>f --core"
        load = spawn([PROGRAM, "rate", *ports, *options.split(), str(CPUS[0])], stdout=subprocess.DEVNULL)
        register(self, end_process, load)
        for wire in ("w2", "w3"):
            wait_for(f"{wire} carries frames", lambda: self.carried(wire) > 100000, 60)
        self.assertEqual(self.of_all(every), [1] * (2 * QUEUES + 4))
        busy = self.busy_share(1, 2)
        for name in every:
            self.daemon.do("PATCH", f"/v1/vifs/{name}", {"worker": None})
        begin = time.monotonic()
        wait_for("a queue leaves the busy worker", lambda: 0 in self.of_all(every), 120)
        took = time.monotonic() - begin
        for wire in ("w2", "w3"):
            before = self.carried(wire)
            wait_for(f"{wire} goes on", lambda: self.carried(wire) > before + 100000, 60)
        traffic.wait_received(10000)
        result = traffic.stop()
        end_process(load)
        say(f"worker busy to {busy:.0%}, the first queue moved by its load after {took:.1f} s; at the end: "
            f"{', '.join(f'{name} {self.workers(name)}' for name in every)}; {rate_text(result)}")
        self.account(result)
        for wire in ("w2", "w3"):
            check_sums(self.daemon.settled(wire))

    def of_all(self, vifs: str) -> list[Any]:
        return [worker for vif in vifs for worker in self.workers(vif)]

    def busy_share(self, worker: int, seconds: float) -> float:
        before = self.daemon.get("/v1/stats")["workers"][worker]
        time.sleep(seconds)
        after = self.daemon.get("/v1/stats")["workers"][worker]
        return (after["busy_cycles"] - before["busy_cycles"]) / (after["cycles"] - before["cycles"])

    def carried(self, wire: str) -> int:
        return self.daemon.stats(wire)["a_to_b"]["delivered"]["frames"]


class Channels(Case):
    """ethtool -L in Linux guests."""

    daemon: Daemon
    a: Guest
    b: Guest

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon(cls, *WORKERS)
        cls.daemon.plug("a")
        cls.daemon.plug("b", "vhost")
        cls.daemon.wire("w1", "a", "b", **PATIENT)
        paths = {name: cls.daemon.get(f"/v1/vifs/{name}")["path"] for name in ("a", "b")}
        cls.a = cls.guest("a", Nic(paths["a"], ip=f"{A}/24", queues=QUEUES))
        cls.b = cls.guest("b", Nic(paths["b"], ip=f"{B}/24", queues=QUEUES, server=True))
        wait_all([cls.a, cls.b], 120)

    @classmethod
    def guest(cls, name: str, nic: Nic) -> Guest:
        made = Guest(name, [nic], append=QUIET)
        register(cls, made.close)
        witness(cls, made.console_tail)
        return made

    def channels(self, guest: Guest, count: int) -> None:
        guest.check(f"ethtool -L eth0 combined {count}")
        wait_for(f"{guest.name} has {count}", lambda: self.daemon.vif_state(guest.name)["queue_pairs"] == count)

    def test_channels_under_traffic(self) -> None:
        resumes(self.a, B)
        for guest in (self.a, self.b):
            self.channels(guest, QUEUES)
            self.assertEqual(len(self.daemon.vif_state(guest.name)["workers"]), QUEUES)
        before = {guest.name: (interface_frames(guest, "eth0"),
                               self.daemon.vif_stats(guest.name)["transmitted"]["frames"])
                  for guest in (self.a, self.b)}
        sending, listening = begin_tcp(self.a, self.b, B, 12, "-P", "8")
        changes = 0
        begin = time.monotonic()
        while time.monotonic() - begin < 10:
            for count in (4, 1, 2):
                for guest in (self.a, self.b):
                    self.channels(guest, count)
                    changes += 1
        rate = finish_tcp(sending, listening, 120)
        say(f"{changes} changes of channels under {rate:.0f} Mbit/s of TCP in 8 flows")
        checked_transfer(self.a, self.b, B)
        for guest in (self.a, self.b):
            self.channels(guest, QUEUES)
        checked_transfer(self.b, self.a, A)
        stats = self.daemon.settled("w1")
        check_sums(stats)
        for guest in (self.a, self.b):
            counts = self.daemon.vif_stats(guest.name)
            used = [queue["received"]["frames"] for queue in counts["queues"]]
            self.assertEqual(sum(used), counts["received"]["frames"], guest.name)
            self.assertGreater(sum(1 for frames in used if frames > 0), 1, used)
            # All that was given to the guest its driver has seen.
            frames, given = before[guest.name]
            grown = counts["transmitted"]["frames"] - given
            wait_for(f"{guest.name} has seen {grown} frames",
                     lambda: interface_frames(guest, "eth0") - frames == grown, 20)
        # Who leaves a queue loses nothing in it.
        self.assertEqual({key: count for way in ("a_to_b", "b_to_a") for key, count in drops(stats[way]).items()}, {})


if __name__ == "__main__":
    unittest.main()
