#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""State files of other schemas, and files that can't be used: refused with what to do, and not touched."""

import hashlib
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import unittest

from harness import Daemon, expect, main

NET = "/v1/networks/default"
SCHEMA = 3
FIXTURES = pathlib.Path(__file__).parent / "state"


def write_fixture(path: str, version: int) -> None:
    db = sqlite3.connect(path)
    db.executescript((FIXTURES / f"schema-{version}.sql").read_text(encoding="utf-8"))
    db.execute("PRAGMA journal_mode=WAL")
    db.close()
    os.chmod(path, 0o640)


def dump(path: str) -> list[str]:
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        return [*db.iterdump(), str(db.execute("PRAGMA user_version").fetchone()),
                str(db.execute("PRAGMA application_id").fetchone())]
    finally:
        db.close()


class Files(unittest.TestCase):
    def setUp(self) -> None:
        self.d = Daemon(start=False)
        self.addCleanup(self.d.close)
        self.folder = self.d.dir + "/state"
        os.mkdir(self.folder)
        self.d.state = self.folder + "/state.db"

    def files(self) -> dict[str, str]:
        """What lies there, to the byte and with its time."""
        paths = sorted(path for path in pathlib.Path(self.folder).iterdir() if path.is_file())
        return {path.name: f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}" for path in paths}

    def refused(self, *words: str, status: int = 3) -> str:
        """It ends with the status, says all of this, and leaves all files as they are."""
        before = self.files()
        if os.path.exists(self.d.log_path):
            os.unlink(self.d.log_path)
        process = self.d.spawn()
        self.assertEqual(process.wait(timeout=60), status, self.d.log())
        self.assertEqual(self.files(), before)
        self.assertFalse(os.path.exists(self.d.socket))
        self.assertFalse(os.path.exists(self.d.dir + "/patchbayd.pid"))
        for word in words:
            self.assertIn(word, self.d.log())
        return self.d.log()

    def commands(self) -> list[str]:
        """The commands that the message recommends, for here: the service is this test's daemon."""
        lines = re.findall(r"error +main:   (.*)", self.d.log())
        self.assertTrue(any(line == "systemctl start patchbayd" for line in lines), self.d.log())
        return lines

    def follow(self, lines: list[str]) -> None:
        """Runs the recommended commands, up to the start of the service, which is then done."""
        for line in lines:
            if line == "systemctl start patchbayd":
                break
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), line)
        self.d.start()


class Migration(Files):
    def test_from_schema_1(self) -> None:
        self.migrated(1)
        self.assertEqual(self.d.get("/v1/audit").json["last"], 1)

    def test_from_schema_2(self) -> None:
        self.migrated(2)
        rows = self.d.get("/v1/audit").json["items"]
        self.assertEqual([(row["seq"], row["client"], row["changes"], row["change_count"]) for row in rows], [
            (3, "patchbay", [], 0), (4, "curl", [], 0),
            (5, rows[2]["client"], [{"op": "create", "kind": "port", "network": "default", "name": "new"}], 1)])

    def migrated(self, version: int) -> None:
        write_fixture(self.d.state, version)
        before = dump(self.d.state)
        self.d.start()
        self.assertEqual(self.d.get("/v1/version").json["state_schema"], SCHEMA)
        self.assertIn(f"was migrated from state schema {version} to {SCHEMA}", self.d.log())
        self.assertNotIn("warning", self.d.log())
        wire = self.d.get(f"{NET}/wires/w1").json
        self.assertEqual((wire["on_full"], wire["stall_ms"], wire["labels"]), ("drop", 250, {"x": "ü"}))
        self.assertEqual([(t["name"], t["mode"], t["port"], t["out_port"], t["uid"]) for t in wire["tees"]],
                         [("t1", "tap", "ids", None, "3a0c958e-db9d-4ede-82b3-1f73a82f609d"),
                          ("fw", "bump", "fw-in", "fw-out", "d5c61d71-a19f-4913-a5d5-85c53dddebf6")])
        self.assertEqual(self.d.get("/v1/networks/tenant/ports/p1").json["vlan"], 7)
        self.assertEqual(self.d.get("/v1/networks/tenant/wires/w2").json["admin"], "down")
        self.assertEqual(self.d.generation(), 17)
        # The copy is the file as it was, as readable as it was; there is no other.
        copy = f"{self.d.state}.v{version}"
        self.assertEqual(dump(copy), before)
        self.assertEqual(os.stat(copy).st_mode & 0o777, 0o640)
        self.assertFalse(os.path.exists(copy + ".new"))
        # What is new works, and lasts.
        expect(self.d.put(f"{NET}/ports/new", {}), 201)
        self.d.restart(signal.SIGKILL)
        self.assertEqual(self.d.get(f"{NET}/ports/new").status, 200)
        self.d.stop()
        # A file that was migrated has the schema of a new one.
        fresh = Daemon()
        fresh.stop()
        tables = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        with sqlite3.connect(self.d.state) as migrated, sqlite3.connect(fresh.state) as made:
            self.assertEqual(migrated.execute(tables).fetchall(), made.execute(tables).fetchall())
        migrated.close()
        made.close()
        fresh.close()
        self.d.start()

    def test_with_a_log_that_a_kill_left(self) -> None:
        """The copy has what the write-ahead log holds, too."""
        write_fixture(self.d.state, 1)
        db = sqlite3.connect(self.d.state)
        db.execute("INSERT INTO object VALUES ('port', 'default', 'late', '11111111-1111-4111-8111-111111111111', 18, '{}')")
        db.commit()
        for suffix in ("", "-wal"):
            shutil.copy(self.d.state + suffix, self.d.state + ".killed" + suffix)
        db.close()
        for suffix in ("", "-wal"):
            os.rename(self.d.state + ".killed" + suffix, self.d.state + suffix)
        self.assertGreater(os.stat(self.d.state + "-wal").st_size, 0)
        self.d.start()
        self.assertEqual(self.d.get(f"{NET}/ports/late").status, 200)
        self.assertIn("'late'", "\n".join(dump(self.d.state + ".v1")))

    def test_no_copy_no_migration(self) -> None:
        write_fixture(self.d.state, 1)
        os.mkdir(self.d.state + ".v1.new")  # the copy can't be made there
        log = self.refused("has to be migrated", "can't be written", "nothing was changed", status=1)
        self.assertIn(self.d.state + ".v1", log)
        os.rmdir(self.d.state + ".v1.new")
        self.d.start()

    def test_going_back(self) -> None:
        """The copy can be put back and is migrated once more."""
        write_fixture(self.d.state, 1)
        self.d.start()
        self.d.stop()
        shutil.copy(self.d.state + ".v1", self.d.state)
        self.d.start()
        self.assertEqual(self.d.get(f"{NET}/wires/w1").status, 200)


class Refusals(Files):
    def write_state(self, kill: bool = False) -> None:
        self.d.start()
        self.d.plug("a", "b")
        expect(self.d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        for i in range(200):
            expect(self.d.put(f"{NET}/ports/p{i}", {"labels": {"filler": "x" * 200}}), 201)
        self.d.stop(signal.SIGKILL if kill else signal.SIGTERM)
        for left in (self.d.socket, self.d.dir + "/patchbayd.pid"):
            if os.path.exists(left):
                os.unlink(left)

    def overwrite(self, offset: int, data: bytes) -> None:
        with open(self.d.state, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def test_newer(self) -> None:
        self.write_state()
        db = sqlite3.connect(self.d.state)
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
        db.close()
        log = self.refused("written by a newer Patchbay", f"state schema {SCHEMA + 1}, this one reads up to {SCHEMA}",
                           "Nothing was written to it")
        self.assertNotIn(f".v{SCHEMA}", log)
        # The newer one's copy from before: the way back is shown, and leads back.
        shutil.copy(self.d.state, self.d.state + f".v{SCHEMA}")
        db = sqlite3.connect(self.d.state + f".v{SCHEMA}")
        db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.close()
        self.refused(f"cp -p {self.d.state}.v{SCHEMA} {self.d.state}")
        self.follow(self.commands())
        self.assertEqual(self.d.get(f"{NET}/wires/w").status, 200)

    def test_newer_with_a_log(self) -> None:
        """Neither the file nor its log are touched, nor one merged into the other."""
        self.write_state(kill=True)
        db = sqlite3.connect(self.d.state)
        db.execute(f"PRAGMA user_version = {SCHEMA + 5}")
        for suffix in ("", "-wal"):
            shutil.copy(self.d.state + suffix, self.d.dir + "/kept" + suffix)
        db.close()
        for suffix in ("", "-wal"):
            shutil.move(self.d.dir + "/kept" + suffix, self.d.state + suffix)
        self.assertGreater(os.stat(self.d.state + "-wal").st_size, 0)
        self.refused("written by a newer Patchbay")

    def test_damaged(self) -> None:
        self.write_state()
        size = os.stat(self.d.state).st_size
        self.assertGreater(size, 12 * 4096)
        whole = pathlib.Path(self.d.state).read_bytes()
        for what, damage in (("a page", lambda: self.overwrite(4 * 4096, b"\xa5" * 4096)),
                             ("the header", lambda: self.overwrite(0, b"\0" * 100)),
                             ("cut short", lambda: os.truncate(self.d.state, size // 2 // 4096 * 4096 + 100))):
            with self.subTest(what):
                pathlib.Path(self.d.state).write_bytes(whole)
                damage()
                self.refused(self.d.state + " is damaged or not a Patchbay state file", "Nothing was written to it",
                             f"mkdir {self.d.state}.damaged", "systemctl start patchbayd")
        # The recovery as it is told: an empty start, the damaged file still there.
        self.follow(self.commands())
        self.assertEqual(self.d.get(f"{NET}/wires").json["items"], [])
        self.assertEqual(os.stat(self.d.state + ".damaged/state.db").st_size, size // 2 // 4096 * 4096 + 100)

    def test_locked(self) -> None:
        self.write_state()
        # In a process of its own: this one would lose its lock by reading the file.
        holder = subprocess.Popen([sys.executable, "-c", "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
                                   "db.execute('PRAGMA locking_mode=EXCLUSIVE'); db.execute('BEGIN EXCLUSIVE');"
                                   "print('locked', flush=True); sys.stdin.read()", self.d.state],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.assertEqual(holder.stdout.readline(), b"locked\n")
            self.refused(self.d.state + " is locked", f"pid {holder.pid}", "--state", f"ps -p {holder.pid}", status=1)
        finally:
            holder.communicate(timeout=30)
        self.d.start()

    def test_another_daemons(self) -> None:
        self.d.start()
        other = Daemon(state=self.d.state, start=False)
        self.addCleanup(other.close)
        process = other.spawn()
        self.assertEqual(process.wait(timeout=60), 1, other.log())
        self.assertIn(f"pid {self.d.process.pid}", other.log())
        expect(self.d.put(f"{NET}/ports/undisturbed", {}), 201)

    def test_not_ours(self) -> None:
        db = sqlite3.connect(self.d.state)
        db.execute("CREATE TABLE photos (x)")
        db.close()
        self.refused("another program's database", "--state")


if __name__ == "__main__":
    main()
