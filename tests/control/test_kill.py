#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 at any instant of a storm of changes: what was acknowledged is there, what wasn't is there whole or not at all.

A kill takes nothing from the page cache, so what fsync is for isn't seen by it: `Checker` takes the tail of the log
away, which is what a power cut does to a file that wasn't synced, and sees that it would be noticed."""

import os
import signal
import sqlite3
import struct
import sys
import time

from harness import SLOW, Daemon, DaemonTest, main
from storm import Storm

KILLS = 200 if SLOW == 1 else 30
CLIENTS = 6


def storm_on(daemon: Daemon, seed: int) -> Storm:
    return Storm(lambda path: daemon.get(path).json, lambda: daemon.connect(60), CLIENTS, seed)


def seed_of_run() -> int:
    seed = int(os.environ.get("PATCHBAY_TEST_SEED", time.time_ns() % 1000000))
    print(f"\nPATCHBAY_TEST_SEED={seed}", file=sys.stderr)
    return seed


class Kill(DaemonTest):
    def test_kill_storm(self) -> None:
        storm = storm_on(self.d, seed_of_run())
        began = time.monotonic()
        slowest = 0.0
        for _ in range(KILLS):
            # Between the very first request and some hundred: also while nothing is stored yet.
            clients = storm.rage(lambda: self.d.stop(signal.SIGKILL), storm.choose.random() ** 2 * 0.25 * SLOW)
            start = time.monotonic()
            self.d.start()
            slowest = max(slowest, time.monotonic() - start)
            storm.check(clients)
        totals = storm.totals
        print(f"{KILLS} kills in {time.monotonic() - began:.0f} s, slowest restart {slowest:.2f} s: {totals}",
              file=sys.stderr)
        # Kills that hit nothing would prove nothing; how much they hit is the disk's business.
        self.assertGreater(totals["acknowledged"], KILLS)
        self.assertGreater(totals["in flight"], KILLS)
        if KILLS >= 200:
            self.assertGreater(totals["of these stored"], 0)
            self.assertLess(totals["of these stored"], totals["in flight"])


class Checker(DaemonTest):
    """The checker finds what it is there to find."""

    def killed(self):
        """A storm that was ended by a kill, with the log not yet merged into the file."""
        storm = storm_on(self.d, 4711)
        clients = storm.rage(lambda: self.d.stop(signal.SIGKILL), 0.5 * SLOW)
        self.assertGreater(os.stat(self.d.state + "-wal").st_size, 0)
        return storm, clients

    def found(self, storm, clients, words: str) -> None:
        self.d.start()
        with self.assertRaisesRegex(AssertionError, words):
            storm.check(clients)

    def frames(self) -> list[tuple[int, int]]:
        """Offset and size-after-commit of each frame of the log that is valid (SQLite's file format, section 4.2)."""
        with open(self.d.state + "-wal", "rb") as log:
            data = log.read()
        page = struct.unpack(">I", data[8:12])[0]
        salt = data[16:24]
        found = []
        for offset in range(32, len(data) - page - 23, 24 + page):
            if data[offset + 8:offset + 16] != salt:
                break
            found.append((offset, struct.unpack(">I", data[offset + 4:offset + 8])[0]))
        return found

    def test_sound(self) -> None:
        storm, clients = self.killed()
        self.d.start()
        storm.check(clients)

    def test_lost_tail(self) -> None:
        """As a power cut leaves a file that is written with synchronous=OFF: the last commits never reached the disk."""
        storm, clients = self.killed()
        commits = [offset for offset, size in self.frames() if size != 0]
        # One commit may be in flight, with requests of all clients; two more were acknowledged for sure.
        self.assertGreater(len(commits), 8)
        os.truncate(self.d.state + "-wal", commits[-8])
        self.found(storm, clients, "were acknowledged, the trail has|two changes|objects")

    def test_half_a_group(self) -> None:
        """A change of many objects of which one isn't there."""
        storm, clients = self.killed()
        db = sqlite3.connect(self.d.state)
        (wire,) = db.execute("SELECT name FROM object WHERE kind = 'wire' ORDER BY generation DESC").fetchone()
        db.execute("UPDATE object SET body = replace(body, '\"stall_ms\":', '\"stall_ms\":1') WHERE kind = 'wire' AND name = ?",
                   (wire,))
        db.commit()
        db.close()
        self.found(storm, clients, f"{wire}: stall_ms|left out|are there or missing")

    def test_object_lost(self) -> None:
        storm, clients = self.killed()
        db = sqlite3.connect(self.d.state)
        db.execute("DELETE FROM object WHERE kind = 'wire' AND name = (SELECT max(name) FROM object WHERE kind = 'wire')")
        db.commit()
        db.close()
        self.found(storm, clients, "are there or missing")

    def test_row_lost(self) -> None:
        storm, clients = self.killed()
        db = sqlite3.connect(self.d.state)
        db.execute("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
        db.commit()
        db.close()
        self.found(storm, clients, "the trail ends with generation")

    def test_row_without_change(self) -> None:
        storm, clients = self.killed()
        db = sqlite3.connect(self.d.state)
        db.execute("UPDATE audit SET method = 'DELETE' WHERE seq = (SELECT max(seq) FROM audit WHERE method = 'PATCH')")
        db.commit()
        db.close()
        self.found(storm, clients, "the trail has")


if __name__ == "__main__":
    main()
