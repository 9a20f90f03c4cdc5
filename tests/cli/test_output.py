# SPDX-License-Identifier: BSD-3-Clause
"""show, stats, tables and JSON, on a terminal and without."""

import json
import os
import pty
import re
import select
import subprocess
import time
import unittest
from typing import Any

from support import PATCHBAY, CliCase


def frames(count: int) -> dict[str, int]:
    return {"frames": count, "bytes": count * 98}


def leg(source: str, target: str, count: int, full: int) -> dict[str, Any]:
    dropped = {"total": full, "full": full} if full else {"total": 0}
    return {"from": source, "received": frames(count), "delivered": frames(count - full), "dropped": dropped,
            "to": [{"to": target, **frames(count - full)}]}


def wire_stats(count: int) -> dict[str, Any]:
    """A wire with a bump fw and a tap ids, whose first leg has dropped 3 frames."""
    return {"wire": "w1", "network": "default", "uid": "u",
            "a_to_b": {"received": frames(2 * count), "delivered": frames(2 * count - 3),
                       "dropped": {"total": 3, "full": 3},
                       "legs": [leg("a", "fw.port", count, 3), leg("fw.out_port", "b", count, 0)]},
            "b_to_a": {"received": frames(0), "delivered": frames(0), "dropped": {"total": 0},
                       "legs": [leg("b", "a", 0, 0)]},
            "tees": [{"name": "fw", "uid": "f", "mode": "bump", "into": frames(count), "out": frames(count), "late": 2},
                     {"name": "ids", "uid": "i", "mode": "tap", "offered": count, "copied": frames(count - 1),
                      "dropped": {"total": 1, "ring_full": 1}}]}


class Terminal(CliCase):
    """With a helper to run patchbay on a terminal."""

    def on_terminal(self, *arguments: str, until: str | None = None, **env: str) -> str:
        """What is written to a terminal, until the end or a text."""
        master, slave = pty.openpty()
        process = subprocess.Popen([PATCHBAY, *arguments], stdin=slave, stdout=slave, stderr=slave,
                                   env=self.environment(TERM="xterm", COLUMNS="120", **env))
        os.close(slave)
        written = b""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and (until is None or until.encode() not in written):
            ready, _, _ = select.select([master], [], [], 0.1)
            if not ready:
                continue
            try:
                some = os.read(master, 65536)
            except OSError:  # the terminal's other side is closed
                break
            if not some:
                break
            written += some
        if until is not None:
            process.terminate()
        process.wait(60)
        os.close(master)
        return written.decode()


class Show(Terminal):
    def setUp(self) -> None:
        super().setUp()
        self.wire()
        self.ok("plug", "vm3", "vhost:/nowhere/vm3.sock", "--owner", "vm-4711")
        self.ok("plug", "ids", "kernel-new:ids0")
        self.ok("tap", "add", "w1", "ids")
        self.ok("wire", "add", "z9", "vm3", "-")
        self.ok("wire", "add", "z8", "-", "-", "--admin", "down")

    def test_failures_come_first(self) -> None:
        self.assertEqual("""\
z9  vm3 ── (unplugged)          down: port vm3: vif vm3: waiting for its socket /nowhere/vm3.sock
z8  (unplugged) ── (unplugged)  down: admin down
w1  vm1 ─[tap ids]─ vm2         up

VIF  TARGET                   STATE  OWNER    USED BY   REASON
vm3  vhost:/nowhere/vm3.sock  down   vm-4711  port vm3  waiting for its socket /nowhere/vm3.sock
ids  kernel-new:ids0          up              port ids
vm1  none                     up              port vm1
vm2  none                     up              port vm2

PORT  VIF  VLAN  STATE  USED BY      REASON
vm3   vm3        down   wire z9 a    vif vm3: waiting for its socket /nowhere/vm3.sock
ids   ids        up     T ids of w1
vm1   vm1        up     wire w1 a
vm2   vm2        up     wire w1 b
""", self.ok("show"))

    def test_one_wire(self) -> None:
        self.assertEqual("""\
w1  vm1 ─[tap ids]─ vm2  up
since 2026-01-01T12:00:00.123Z

              STATE  SETTINGS                              REASON
wire w1       up     admin up, on_full wait, stall_ms 100
├─a vm1       up     vif vm1
├─tap ids     up     direction both
│ └─port ids  up     vif ids
└─b vm2       up     vif vm2
""", self.ok("show", "w1"))
        self.assertEqual(self.ok("wire", "show", "w1"), self.ok("show", "w1"))
        self.assertRegex(self.ok("tee", "show", "w1", "ids"), r"^tee +ids\nmode +tap\nport +ids\n")
        self.assertEqual("ids", self.json("tee", "show", "w1", "ids")["name"])
        self.assertIn("|-a vm1", self.ok("show", "w1", env={"LC_ALL": "C"}))
        self.assertIn("b (unplugged)", self.ok("show", "z9"))

    def test_all_networks_or_one(self) -> None:
        self.ok("network", "add", "red")
        self.ok("--network", "red", "plug", "r1", "none")
        self.ok("--network", "red", "wire", "add", "w1", "r1", "-")
        self.assertIn("red/w1  r1 ── (unplugged)", self.ok("show"))
        red = self.ok("show", "--network", "red")
        self.assertIn("w1  r1 ── (unplugged)", red)
        self.assertNotIn("red/", red.split("\n\n", maxsplit=1)[0])
        self.assertIn("there is no network", self.refused(1, "show", "--network", "blue"))

    def test_json(self) -> None:
        shown = self.json("show")
        self.assertEqual(["ids", "vm1", "vm2", "vm3"], [vif["name"] for vif in shown["vifs"]])
        self.assertEqual(["w1", "z8", "z9"], [wire["name"] for wire in shown["networks"][0]["wires"]])
        self.assertEqual(self.model.show_wire(("default", "w1")), self.json("show", "w1"))
        self.assertEqual(self.model.show_wire(("default", "w1")), self.json("wire", "up", "w1"))
        self.assertEqual(["vif", "port"], list(self.json("plug", "x", "none")))
        self.assertEqual(["port", "vif"], list(self.json("unplug", "x")))
        for listing in ("vif", "port", "network", "wire"):
            self.assertEqual(["items", "next", "generation"], list(self.json(listing, "ls")))
        self.assertEqual(["ids"], [tee["name"] for tee in self.json("tee", "ls", "w1")["items"]])
        self.assertEqual("1.0", self.json("version")["api"])
        # One line for a program, many for people.
        self.assertEqual(1, self.ok("version", "--json").count("\n"))
        self.assertGreater(self.on_terminal("version", "--json").count("\n"), 5)

    def test_colors_on_a_terminal_only(self) -> None:
        self.assertIn("\033[31mdown", self.on_terminal("show"))
        self.assertIn("\033[32mup", self.on_terminal("wire", "up", "w1"))
        self.assertNotIn("\033[3", self.on_terminal("show", "--no-color"))
        self.assertNotIn("\033[3", self.on_terminal("show", NO_COLOR="1"))
        self.assertNotIn("\033", self.ok("show"))

    def test_nothing_there(self) -> None:
        self.model.vifs.clear()
        self.model.ports.clear()
        self.model.wires.clear()
        self.assertEqual("no wires yet; `patchbay wire add NAME A B` makes one\n", self.ok("show"))
        self.assertEqual("no vifs yet; `patchbay plug NAME KIND:TARGET` makes one with its port\n",
                         self.run_cli("vif", "ls").err)

    def test_tables(self) -> None:
        self.ok("port", "add", "lan", "--vlan", "7")
        self.assertIn("\nlan        7     down                no vif\n", self.ok("port", "ls"))
        self.assertIn("\nz8    (unplugged) ── (unplugged)  down   down   admin down\n", self.ok("wire", "ls"))
        self.assertEqual("TEE  MODE  PORT  OUT PORT  DIRECTION  ON FAILURE  STATE  REASON\n"
                         "ids  tap   ids             both       closed      up\n", self.ok("tee", "ls", "w1"))
        self.assertEqual("NETWORK  PORTS  WIRES  LABELS\ndefault  5      3\n", self.ok("network", "ls"))
        # A long text is no reason to cut anything off.
        self.ok("vif", "set", "vm3", "owner=" + "x" * 300)
        self.assertIn("x" * 300, self.ok("vif", "ls", env={"COLUMNS": "40"}))


class Stats(Terminal):
    def setUp(self) -> None:
        super().setUp()
        self.wire()
        self.model.wire_stats["w1"] = wire_stats(1000)
        self.model.workers = [{"worker": 0, "core": 3, "loops": 9, "frames": 1000, "busy_cycles": 117000,
                               "cycles": 1000000, "sleeps": 1, "sources": 4}]

    def measured(self, times: int) -> list[dict[str, Any]]:
        """A worker that was busy for 60 % of its time and slept for 10 %."""
        stages = {"receive": 20, "lookup": 4, "copy": 60, "taps": 10, "notify": 1, "complete": 4, "housekeeping": 1}
        passed = {name: {"cycles": 100 * cycles * times, "frames": (25 if name == "taps" else 100) * times}
                  for name, cycles in stages.items()}
        return [{"worker": 0, "core": 3, "loops": 640 * times, "frames": 6000 * times, "busy_cycles": 600000 * times,
                 "empty_cycles": 300000 * times, "cycles": 1000000 * times, "sleeps": times, "sources": 4,
                 "sampled": {"loops": 10 * times, "frames": 100 * times},
                 "stages": {"poll": {"cycles": 0, "frames": 0}, **passed}}]

    def count_up(self) -> None:
        """Each time it is asked, 1,000 frames more."""
        self.asked = 0

        def answer() -> dict[str, Any]:
            self.asked += 1
            return wire_stats(1000 * self.asked)

        self.daemon.overrides["GET /v1/networks/default/wires/w1/stats"] = answer

    def test_one_wire(self) -> None:
        self.assertEqual("""\
w1  vm1 ── vm2  up

                      IN    BYTES    OUT    BYTES  DROPPED  REASONS
a→b                2,000   196 kB  1,997   196 kB        3  3 full
├─a → fw.port      1,000  98.0 kB    997  97.7 kB        3  3 full
└─fw.out_port → b  1,000  98.0 kB  1,000  98.0 kB        0
b→a                    0      0 B      0      0 B        0
bump fw            1,000  98.0 kB  1,000  98.0 kB        2  2 late
tap ids            1,000             999  97.9 kB        1  1 ring_full
""", self.ok("stats", "w1"))

    def test_all(self) -> None:
        self.ok("wire", "add", "w2", "-", "-")
        self.assertEqual("""\
           IN   BYTES    OUT   BYTES  DROPPED  REASONS
w1 a→b  2,000  196 kB  1,997  196 kB        3  3 full
w1 b→a      0     0 B      0     0 B        0
w2 a→b      0     0 B      0     0 B        0
w2 b→a      0     0 B      0     0 B        0

WORKER  CORE    BUSY  FRAMES  CYCLES A FRAME  SOURCES
0          3  11.7 %   1,000             117        4
""", self.ok("stats"))
        self.assertEqual(["daemon", "wires"], list(self.json("stats")))
        self.assertEqual(wire_stats(1000), self.json("stats", "w1"))

    def test_vif(self) -> None:
        self.model.vif_stats["vm1"] = {"vif": "vm1", "uid": "u", "received": frames(5), "transmitted": frames(7),
                                       "discarded": {"total": 2, "monitor": 2}, "rx_missed": 1, "notified": 3}
        self.assertEqual("""\
         IN  BYTES  OUT  BYTES  DROPPED  REASONS
vif vm1   5  490 B    7  686 B        2  2 monitor, 1 rx_missed, 3 notified
""", self.ok("stats", "--vif", "vm1"))
        self.assertIn("there is no vif", self.refused(1, "stats", "--vif", "vm9"))

    def test_watch_without_a_terminal(self) -> None:
        self.count_up()
        lines = self.ok("stats", "w1", "--watch", "0.2", "--count", "2").splitlines()
        self.assertEqual(8, len(lines))
        match = re.fullmatch(r"\d\d:\d\d:\d\d  a→b  in ([\d.]+) kfps ([\d.]+) Mbit/s  out [\d.]+ kfps [\d.]+ Mbit/s  "
                             r"dropped 0 fps; in all: 3 full", lines[0])
        self.assertIsNotNone(match, lines[0])
        # 2,000 frames of 98 bytes in a little more than 0.2 s.
        self.assertLessEqual(float(match[1]), 10.0)
        self.assertAlmostEqual(float(match[2]), float(match[1]) * 98 * 8 / 1000, delta=0.1)

    def test_watch_on_a_terminal(self) -> None:
        self.count_up()
        written = self.on_terminal("stats", "w1", "--watch=0.1", "--count", "3")
        self.assertEqual(3, written.count("\033[H\033[2J"))
        self.assertIn("kfps", written)
        written = self.on_terminal("stats", "--watch", "0.1", until="\033[H\033[2J")
        self.assertNotIn("patchbay:", written)

    def test_watch_as_json(self) -> None:
        self.count_up()
        samples = [json.loads(line) for line in self.ok("stats", "w1", "--watch", "0.1", "--count=2", "--json").splitlines()]
        self.assertEqual([wire_stats(2000), wire_stats(3000)], samples)

    def test_watch_sees_a_new_incarnation(self) -> None:
        """Another uid counts from 0: no rate is made of the difference."""
        answers = iter([wire_stats(1000000), {**wire_stats(5), "uid": "other"}, {**wire_stats(5), "uid": "other"}])
        self.daemon.overrides["GET /v1/networks/default/wires/w1/stats"] = lambda: next(answers)
        lines = self.ok("stats", "w1", "--watch", "0.1", "--count", "2").splitlines()
        rates = [line.split("  ")[2] for line in lines if "  a→b  " in line]
        self.assertEqual(["in 0 fps 0 bit/s"], rates)

    CYCLES = """\
STAGE         CYCLES A FRAME    SHARE   FRAMES
receive                 20.0   20.0 %  100.0 %
lookup                   4.0    4.0 %  100.0 %
copy                    60.0   60.0 %  100.0 %
taps                    10.0   10.0 %   25.0 %
notify                   1.0    1.0 %  100.0 %
complete                 4.0    4.0 %  100.0 %
housekeeping             1.0    1.0 %  100.0 %
all                    100.0  100.0 %
measured: 10 of 640 loops
"""

    def test_cycles(self) -> None:
        self.model.workers = self.measured(1)
        self.assertEqual("worker 0 on core 3: 6,000 frames, 100.0 cycles a frame; busy 60.0 %, empty polls 30.0 %, "
                         "asleep 10.0 %\n" + self.CYCLES, self.ok("stats", "--cycles"))
        self.assertEqual(self.model.workers, self.json("stats", "--cycles")["workers"])
        # Before the first measured loop, and of a daemon that knows nothing of it.
        for stage in self.model.workers[0]["stages"].values():
            stage.update(cycles=0, frames=0)
        self.model.workers[0]["sampled"] = {"loops": 0, "frames": 0}
        self.assertIn("no loop with frames was measured yet", self.ok("stats", "--cycles"))
        del self.model.workers[0]["stages"]
        self.assertIn("upgrade patchbayd", self.refused(4, "stats", "--cycles"))

    def test_watch_cycles(self) -> None:
        """Rates and cycles are of the interval, not of the time before it."""
        self.asked = 0

        def answer() -> dict[str, Any]:
            self.asked += 1
            return {"workers": self.measured(self.asked ** 2)}

        self.daemon.overrides["GET /v1/stats"] = answer
        lines = self.ok("stats", "--cycles", "--watch", "0.1", "--count", "2").splitlines()
        self.assertEqual(2, len(lines))
        for line in lines:
            self.assertRegex(line, r"^\d\d:\d\d:\d\d  worker 0  [\d.]+ kfps, 100.0 cycles a frame: receive 20.0, lookup 4.0, "
                                   r"copy 60.0, taps 10.0, notify 1.0, complete 4.0, housekeeping 1.0; busy 60.0 %, "
                                   r"empty polls 30.0 %, asleep 10.0 %$")
        self.asked = 0
        written = self.on_terminal("stats", "--cycles", "--watch=0.1", "--count", "1").replace("\r\n", "\n")
        self.assertIn(self.CYCLES.replace("10 of 640", "30 of 1,920"), written)

    def restart(self, away: int, counts: list[int]) -> None:
        """The daemon answers with the counts in turn; between the second and the third it is started anew, and hangs
        up on as many requests as `away` meanwhile."""
        self.asked, left = 0, away

        def version() -> dict[str, Any]:
            return {"daemon": "0.1.0", "api": self.model.api, "instance": "one" if self.asked <= 2 else "two"}

        def answer() -> Any:
            nonlocal left
            if self.asked == 2 and left > 0:
                left -= 1
                return 200, None
            self.asked += 1
            return wire_stats(counts[self.asked - 1])

        self.daemon.overrides["GET /v1/version"] = version
        self.daemon.overrides["GET /v1/networks/default/wires/w1/stats"] = answer

    def test_watch_goes_on_after_a_restart(self) -> None:
        for away in (0, 1, 5):
            with self.subTest(away=away):
                # What is counted since looks like progress: 5,000 is more than 2,000.
                self.restart(away, [1000, 2000, 5000, 5000, 5000])
                result = self.run_cli("stats", "w1", "--watch", "0.05", "--count", "3")
                self.assertEqual(0, result.code, result.err)
                lines = [line for line in result.out.splitlines() if "  a→b  " in line or "restarted" in line]
                self.assertEqual(4, len(lines), result.out)
                self.assertNotIn(" in 0 fps", lines[0])
                self.assertRegex(lines[1], r"^\d\d:\d\d:\d\d  patchbayd was restarted: no rates for [\d.]+ s$")
                for line in lines[2:]:
                    self.assertIn("  in 0 fps", line)
                # A connection that was kept and is hung up on is tried once more by libcurl itself.
                self.assertEqual(1 if away > 1 else 0, result.err.count("waiting for patchbayd"), result.err)

    def test_a_gap_in_json_and_on_a_terminal(self) -> None:
        self.restart(2, [1000, 2000, 7, 8, 9])
        output = self.run_cli("stats", "w1", "--watch", "0.05", "--count", "2", "--json").out
        samples = [json.loads(line) for line in output.splitlines()]
        self.assertEqual([wire_stats(2000), {"gap": samples[1]["gap"]}, wire_stats(8)], samples)
        self.assertEqual("two", samples[1]["gap"]["instance"])
        self.assertGreater(samples[1]["gap"]["seconds"], 0)
        self.restart(0, [1000, 2000, 7, 8, 9])
        written = self.on_terminal("stats", "w1", "--watch=0.05", "--count", "3")
        self.assertEqual(3, written.count("\033[H\033[2J"))
        self.assertEqual(3, written.count("patchbayd was restarted"))  # as it is seen, and above each table since

    def test_watch_ends_with_the_wire(self) -> None:
        self.model.wire_stats["w1"] = wire_stats(1)
        self.daemon.overrides["GET /v1/networks/default/wires/w1/stats"] = iter(
            [wire_stats(1), (404, {"error": {"code": "NotFound", "message": "gone"}})]).__next__
        self.assertEqual("patchbay: gone\n", self.refused(1, "stats", "w1", "--watch", "0.1"))


if __name__ == "__main__":
    unittest.main()
