# SPDX-License-Identifier: BSD-3-Clause
"""The state of the whole daemon: kills in a storm of changes, a restart with 10,000 wires, a disk that is full."""
from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

from patchbay import ROOT, SLOW, Case, Daemon, _UnixConnection, register, say, wait_for
from traffic import Traffic, check_lossless

sys.path.insert(0, str(ROOT / "tests" / "control"))
from storm import Storm  # noqa: E402

WIRES = 10000 if SLOW == 1 else 1000
KILLS = 10


class Kills(Case):
    def test_kill_storm(self) -> None:
        """As tests/control/test_kill.py has it 200 times, here with EAL, workers and devices."""
        daemon = Daemon(self)
        daemon.plug("x", "none")
        daemon.plug("y", "vhost-server")
        daemon.wire("fixed", "x", "y")
        storm = Storm(daemon.get, lambda: _UnixConnection(daemon.socket, 60.0), clients=4,
                      seed=int(os.environ.get("PATCHBAY_TEST_SEED", "1")))
        storm.seen = daemon.get("/v1/audit?limit=1")["last"]
        fixed = {f"/v1/networks/default/{path}" for path in ("ports/x", "ports/y", "wires/fixed")}
        shown = storm.shown
        storm.shown = lambda: {path: item for path, item in shown().items() if path not in fixed}  # type: ignore
        for _ in range(KILLS):
            clients = storm.rage(daemon.kill9, 0.05 + storm.choose.random() * 0.3)
            daemon.start()
            storm.check(clients)
            self.assertTrue(fixed <= set(shown()))
            daemon.wait_vif("x")
        say(f"{KILLS} kills of the daemon in a storm: {storm.totals}")
        self.assertGreater(storm.totals["acknowledged"], KILLS)
        self.assertGreater(storm.totals["in flight"], 0)


class Restart(Case):
    def write_state(self, path: Path) -> None:
        schema = (ROOT / "tests" / "control" / "state" / "schema-1.sql").read_text(encoding="utf-8")
        db = sqlite3.connect(path)
        db.executescript("\n".join(line for line in schema.splitlines() if line.startswith(("PRAGMA", "CREATE"))))
        rows = [("network", "", "default", str(uuid.uuid4()), 0, "{}")]
        for i in range(WIRES):
            for end in "ab":
                rows.append(("vif", "", f"{end}{i}", str(uuid.uuid4()), 1, '{"kind":"none"}'))
                rows.append(("port", "default", f"{end}{i}", str(uuid.uuid4()), 1, f'{{"vif":"{end}{i}"}}'))
            rows.append(("wire", "default", f"w{i}", str(uuid.uuid4()), 1, f'{{"a":"a{i}","b":"b{i}"}}'))
        db.executemany("INSERT INTO object VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.execute("INSERT INTO meta VALUES ('generation', 1)")
        db.commit()
        db.close()

    def serving(self, daemon: Daemon) -> float:
        """Seconds from the start of the process to the last wire being up."""
        begin = time.monotonic()
        daemon.start()
        wait_for("the last wire is up", lambda: daemon.wire_state(f"w{WIRES - 1}")["state"] == "up", 30)
        return time.monotonic() - begin

    def test_ten_thousand_wires(self) -> None:
        daemon = Daemon(self)
        daemon.stop()
        daemon.state.unlink()
        self.write_state(daemon.state)
        first = self.serving(daemon)
        self.assertEqual(daemon.get("/v1/stats")["objects"]["wires"], WIRES)
        took = []
        for _ in range(3):
            daemon.kill9()
            took.append(self.serving(daemon))
        begin = time.monotonic()
        daemon.do("PATCH", f"/v1/networks/default/wires/w{WIRES - 1}", {"stall_ms": 7})
        change = time.monotonic() - begin
        stop = daemon.stop()
        say(f"{WIRES} wires: serving {min(took):.2f} s after a kill (of {', '.join(f'{t:.2f}' for t in took)}), "
            f"{first:.2f} s with a migration; a change {1000 * change:.1f} ms, the end {stop:.2f} s")
        # The best of three: a machine that is busy with something else is no fault of the daemon's.
        self.assertLess(min(took), 2.0 * SLOW)


class Disk(Case):
    def test_full(self) -> None:
        """507, nothing changed, frames go on; and all is well once there is room."""
        daemon = Daemon(self)
        daemon.stop()
        folder = daemon.directory / "small"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "patchbay-test", str(folder)], check=True)
        register(self, subprocess.run, ["umount", "-l", str(folder)])
        daemon.options[daemon.options.index("--state") + 1] = str(folder / "state.db")
        daemon.start()
        for name in ("a", "b"):
            daemon.plug(name)
        daemon.wire("w1", "a", "b", stall_ms=5000)
        traffic = Traffic(self, daemon, ["a", "b"], ["a>b"], rate=20000)
        wait_for("the export", (folder / "state.json").exists)
        filler = os.open(folder / "filler", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(filler, b"x" * 4096)
        except OSError as error:
            self.assertEqual(error.errno, errno.ENOSPC)
        os.close(filler)
        before = daemon.get("/v1/stats")["generation"]
        refused = stored = 0
        # The log has some room of its own left at first: what is stored then is stored.
        for i in range(2000):
            reply = daemon.api("PUT", f"/v1/networks/default/ports/p{i}", {"labels": {"filler": "x" * 200}})
            if reply.status == 507:
                self.assertEqual(reply.code, "StorageFull")
                self.assertIn("nothing was changed", reply.body["error"]["message"])
                self.assertEqual(daemon.api("GET", f"/v1/networks/default/ports/p{i}").status, 404)
                refused += 1
                if refused == 20:
                    break
            else:
                self.assertEqual(reply.status, 201, reply.body)
                stored += 1
        self.assertEqual(refused, 20)
        self.assertEqual(daemon.get("/v1/stats")["generation"], before + stored)
        self.assertEqual(daemon.get("/v1/audit?limit=1")["last"], before + stored)
        traffic.wait_received(20000)
        (folder / "filler").unlink()
        daemon.do("PUT", "/v1/networks/default/ports/after", {})
        traffic.wait_received(1000)
        check_lossless(traffic.stop())
        daemon.kill9()
        daemon.start()
        self.assertEqual(daemon.get("/v1/stats")["generation"], before + stored + 1)
        self.assertEqual(len(daemon.items("/v1/networks/default/ports")), 2 + stored + 1)
        say(f"disk full: {stored} changes had room, {refused} were refused")
