#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The export beside the state file, and patchbayd --check."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time

from harness import BINARY, ask, expect, main, wait_for
from test_migration import Files, write_fixture

NET = "/v1/networks/default"


def read(path: str) -> dict:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


class Export(Files):
    def export(self) -> str:
        return self.folder + "/state.json"

    def fresh(self) -> dict | None:
        found = read(self.export()) if os.path.exists(self.export()) else None
        return found if found is not None and found["generation"] == self.d.generation() else None

    def test_is_the_configuration(self) -> None:
        write_fixture(self.d.state, 1)
        self.d.start()
        expect(self.d.patch(f"{NET}/wires/w1", {"stall_ms": 77}), 200)
        found = wait_for(self.fresh, "a fresh export", self.d.log)
        self.assertEqual(found["instance"], self.d.get("/v1/version").json["instance"])
        for kind, path in (("networks", "/v1/networks"), ("vifs", "/v1/vifs")):
            shown = [{key: value for key, value in item.items() if key != "status"} for item in self.d.get(path).json["items"]]
            self.assertEqual(found[kind], shown)
        for kind in ("ports", "wires"):
            for net in ("default", "tenant"):
                shown = self.d.get(f"/v1/networks/{net}/{kind}").json["items"]
                for item in shown:
                    del item["status"]
                    for tee in item.get("tees", []):
                        del tee["status"]
                self.assertEqual([item for item in found[kind] if item["network"] == net],
                                 [{"network": net, **item} for item in shown])
        self.assertEqual(os.stat(self.export()).st_mode & 0o777, 0o640)
        shown = self.d.get("/v1/config").json
        del shown["seq"]  # of this run's events
        self.assertEqual(shown, found)

    def test_is_fresh_at_the_end_and_always_whole(self) -> None:
        self.d.start()
        stop, bad = threading.Event(), []

        def watch() -> None:
            while not stop.is_set():
                try:
                    read(self.export())
                except FileNotFoundError:
                    pass
                except ValueError as error:
                    bad.append(str(error))

        watcher = threading.Thread(target=watch)
        watcher.start()
        inode = 0
        versions = 0
        connection = self.d.connect()
        began = time.monotonic()
        changes = 0
        while time.monotonic() - began < 2.5:
            expect(ask(connection, "PUT", f"{NET}/ports/p{changes}", "{}"), 201)
            changes += 1
            now = os.stat(self.export()).st_ino if os.path.exists(self.export()) else inode
            versions += now != inode
            inode = now
        connection.close()
        took = time.monotonic() - began
        generation = self.d.generation()
        self.d.stop()
        stop.set()
        watcher.join()
        self.assertEqual(bad, [])
        self.assertEqual(read(self.export())["generation"], generation)
        self.assertEqual(len(read(self.export())["ports"]), changes)
        # Not at each change: at most two a second.
        self.assertGreater(changes, 3 * versions)
        self.assertLessEqual(versions, took * 2 + 2)
        self.assertFalse(os.path.exists(self.export() + ".new"))

    def test_the_one_of_a_lost_state_is_kept(self) -> None:
        self.d.start()
        self.d.plug("precious")
        self.d.stop()
        os.unlink(self.d.state)
        self.d.start()
        self.assertEqual([vif["name"] for vif in read(self.export() + ".before")["vifs"]], ["precious"])
        self.assertIn(f"patchbay apply -f {self.export()}.before --force", self.d.log())
        wait_for(lambda: os.path.exists(self.export()) and read(self.export())["vifs"] == [], "the new one", self.d.log)
        # And it brings all back.
        with open(self.export() + ".before", "rb") as before:
            expect(self.d.put("/v1/config?force=1", before.read()), 200)
        self.assertEqual(self.d.get(f"{NET}/ports/precious").json["vif"], "precious")

    def test_so_is_that_of_a_state_with_bad_rows(self) -> None:
        self.d.start()
        self.d.plug("a", "b")
        self.d.stop()
        for name in ("a", "b"):
            with sqlite3.connect(self.d.state) as db:
                db.execute("UPDATE object SET body = 'x' WHERE kind = 'vif' AND name = ?", (name,))
            db.close()
            self.d.start()
            self.d.stop()
            self.assertEqual([vif["name"] for vif in read(self.export() + ".before")["vifs"]], ["a", "b"])
        self.assertEqual(read(self.export())["vifs"], [])

    def test_one_that_cannot_be_written_costs_nothing_else(self) -> None:
        os.mkdir(self.export() + ".new")
        self.d.start()
        self.d.plug("a")
        wait_for(lambda: "can't be written" in self.d.log(), "the warning", self.d.log)
        self.d.plug("b")
        self.assertEqual(self.d.stop(), 0)
        os.rmdir(self.export() + ".new")
        self.d.start()
        self.d.stop()
        self.assertEqual(len(read(self.export())["vifs"]), 2)


class Check(Files):
    def check(self, code: int, *words: str) -> str:
        # A running daemon's own files come and go as it pleases.
        before = self.files() if self.d.process is None else None
        others = set(os.listdir(self.d.dir))
        done = subprocess.run([BINARY, "--check", "--socket", self.d.socket, "--state", self.d.state], text=True,
                              capture_output=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (code, ""), done.stdout)
        for word in words:
            self.assertIn(word, done.stdout)
        if before is not None:
            self.assertEqual(self.files(), before)
        self.assertEqual(set(os.listdir(self.d.dir)), others)
        return done.stdout

    def test_no_state(self) -> None:
        self.check(0, "isn't there: would be made")
        state, self.d.state = self.d.state, f"{self.d.dir}/none/state.db"
        self.check(0, "isn't there: would be made")
        self.d.state = f"{self.d.dir}/none/nor/this/state.db"
        self.check(1, f"problem: {self.d.state} isn't there", f"mkdir -p {self.d.dir}/none/nor")
        self.d.state = state
        self.d.state = ":memory:"
        self.check(0, "keeps nothing")

    def test_what_it_would_do(self) -> None:
        write_fixture(self.d.state, 1)
        text = self.check(0, f"would be migrated to 3, after a copy to {self.d.state}.v1",
                          "vif uplink  dev:net_null9  opens the DPDK device", "vif vm1  none  has no device",
                          "wire default/w1  vm1 ──[tap t1]──[bump fw]── vm2  4 legs",
                          "wire tenant/w2  p1 ── -", "admin down",
                          "generation 17: 2 networks, 6 vifs, 6 ports, 2 wires", "no problems")
        self.assertNotIn("problem:", text)
        self.d.start()
        self.assertEqual(self.d.get("/v1/version").json["state_schema"], 3)

    def test_problems(self) -> None:
        self.d.start()
        self.d.plug("a")
        self.d.stop()
        with sqlite3.connect(self.d.state) as db:
            db.execute("UPDATE object SET body = 'x' WHERE kind = 'vif'")
        db.close()
        self.check(1, "problem: vif a: left out: the body isn't JSON", "problem: port default/a: its vif",
                   "2 problems; nothing was touched")

    def test_files_that_cannot_be_used(self) -> None:
        with open(self.d.state, "wb") as file:
            file.write(b"x" * 8192)
        text = self.check(1, f"problem: {self.d.state} is damaged or not a Patchbay state file", "1 problem;")
        self.assertNotIn("patchbay-check-", text)
        os.unlink(self.d.state)
        self.d.start()
        self.d.stop()
        with sqlite3.connect(self.d.state) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        self.check(1, "written by a newer Patchbay (state schema 99")

    def test_after_a_kill(self) -> None:
        """What lies in the log alone is seen, and stays there."""
        self.d.start()
        self.d.plug("a")
        self.d.stop(signal.SIGKILL)
        os.unlink(self.d.socket)
        self.assertGreater(os.stat(self.d.state + "-wal").st_size, 0)
        self.check(0, "vif a  none", "no problems")

    def test_beside_a_running_daemon(self) -> None:
        """Whatever instant it hits in a storm, it sees a state that was one: ports come in pairs, b with its a before."""
        self.d.start()
        stop = threading.Event()

        def change() -> None:
            connection = self.d.connect()
            i = 0
            while not stop.is_set():
                for end in "ab":
                    expect(ask(connection, "PUT", f"{NET}/ports/{end}{i}", "{}"), 201)
                i += 1
            connection.close()

        changer = threading.Thread(target=change)
        changer.start()
        seen = []
        try:
            for _ in range(12):
                text = self.check(0, f"process {self.d.process.pid} has it locked", "no problems")
                generation, ports = map(int, re.search(r"generation (\d+): .* (\d+) ports", text).groups())
                self.assertEqual(generation, ports)
                seen.append(ports)
        finally:
            stop.set()
            changer.join()
        self.assertEqual(seen, sorted(seen))
        self.assertGreater(seen[-1], seen[0])
        expect(self.d.put(f"{NET}/ports/still-there", {}), 201)


if __name__ == "__main__":
    main()
