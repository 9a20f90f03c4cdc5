# SPDX-License-Identifier: BSD-3-Clause
"""--json, of every command in the program's own table: what it prints is JSON, in success and in failure."""

from __future__ import annotations

import json
import subprocess
import unittest
from typing import Any

from support import PATCHBAY
from test_daemon import DaemonCase

# Every row of the table, in an order in which each succeeds; a row that is new or renamed fails test_every_command until
# it stands here. {folder} is the test's.
SESSION = """
    help
    version
    plug a none
    plug b none
    plug m none
    plug in none
    plug out none
    plug vm vhost-server:{folder}/vm.sock
    plug --qemu vm
    wire add w a -
    wire replug w b b
    wire unplug w b
    wire replug w b b
    wire down w
    wire up w
    wire set w stall_ms=5
    wire ls
    tap add w m
    bump add w in out
    tee set w in on_failure=open
    tee move w in --before m
    tee ls w
    tee show w in
    wire show w
    show
    show w
    stats
    stats w
    stats --vif a
    stats --cycles
    stats --watch 0.05 --count 2
    top --once --interval 0.05
    bump rm w in --drain-ms 0
    tap rm w m
    network add n
    network set n label.a=b
    network show n
    network ls
    network rm n
    vif add v none
    vif set v owner=o
    vif show v
    vif ls
    vif rm v
    port add p
    port set p vlan=7
    port show p
    port ls
    port rm p
    conf list wire:w
    conf get wire:w stall_ms
    conf set wire:w stall_ms=7
    conf unset wire:w stall_ms
    audit --limit 3
    export
    export {folder}/state.json
    apply -f {folder}/state.json --dry-run
    apply -f {folder}/state.json --force
    events --since 0 --count 3
    wire rm w
    unplug a
"""
# Commands that print a line of JSON again and again.
LINES = ("events", "stats --watch")
# Failures, with the exit status that patchbay(1) gives them.
FAILURES = (
    (1, "NotFound", "wire rm nothing"), (1, "InUse", "vif rm a"), (1, "BadValue", "wire set w stall_ms=0"),
    (1, "Failed", "plug --qemu a"), (2, "Usage", "apply -f {folder}/not-there"), (4, "CapNotSupported", "conf get vif:a mac"),
    (2, "Usage", "wire add w"), (2, "Usage", "no such command"), (2, "Usage", "wire add w a b c"), (2, "Usage", "wire ls --colour"),
    (2, "Usage", "wire"), (2, "Usage", ""), (2, "Usage", "stats --watch=x"), (2, "Usage", "events --count x"),
    (2, "Usage", "top --interval 0"), (2, "Usage", "help nonsense"), (2, "Usage", "vif rm no/name"))


def named(words: list[str], rows: list[dict[str, Any]]) -> tuple[str, str | None]:
    """The row of the table that an invocation is of."""
    found = [row for row in rows if words[:len(row["name"].split())] == row["name"].split() and
             (row["selector"] is None or f"--{row['selector']}" in words)]
    row = max(found, key=lambda row: (len(row["name"]), row["selector"] is not None))
    return row["name"], row["selector"]


class Json(DaemonCase):
    def table(self) -> list[dict[str, Any]]:
        return self.json("help")["commands"]

    def test_every_command(self) -> None:
        rows, done = self.table(), set()
        for line in SESSION.strip().splitlines():
            words = line.format(folder=self.folder).split()
            with self.subTest(command=line.strip()):
                out = self.ok("--json", *words)
                if any(line.strip().startswith(name) for name in LINES):
                    values = [json.loads(text) for text in out.splitlines()]
                    self.assertGreater(len(values), 1)
                else:
                    values = [json.loads(out)]
                for value in values:
                    self.assertIsInstance(value, (dict, list))
                    self.assertNotIn("error", value)
            done.add(named(words, rows))
        self.assertEqual(done, {(row["name"], row["selector"]) for row in rows}, "a command isn't in SESSION")

    def failure(self, code: int, name: str, *words: str, **environment: str) -> None:
        result = self.run_cli(*words, env=environment)
        self.assertEqual(result.code, code, (words, result))
        error = json.loads(result.out)["error"]
        self.assertEqual(error["code"], name, words)
        self.assertTrue(error["message"] and result.err.startswith("patchbay: "), (words, result))
        self.assertLessEqual({"code", "message", "field", "details"}, set(error))

    def test_failures(self) -> None:
        for word in ("plug a none", "wire add w a -"):
            self.ok(*word.split())
        for code, name, line in FAILURES:
            with self.subTest(command=line):
                self.failure(code, name, *line.format(folder=self.folder).split(), "--json")

    def test_nobody_there(self) -> None:
        """Every command that asks the daemon says so in JSON, with exit status 3."""
        nowhere = f"{self.folder}/nobody.sock"
        self.ok("export", f"{self.folder}/state.json")
        seen = set()
        for line in SESSION.strip().splitlines():
            words, row = line.format(folder=self.folder).split(), named(line.split(), self.table())
            if row in seen or row[0] == "help":
                continue
            seen.add(row)
            with self.subTest(command=line.strip()):
                self.failure(3, "Unreached", *words, "--json", PATCHBAY_SOCKET=nowhere)

    def test_batch(self) -> None:
        for text, code in (("plug x none\nwire add y x -\n", 0), ("plug x none\nwire add z nothing -\n", 1), ("nonsense\n", 2)):
            done = subprocess.run([PATCHBAY, "--json", "-f", "-"], input=text, text=True, capture_output=True, timeout=60,
                                  env=self.environment(), check=False)
            self.assertEqual(done.returncode, code, done)
            self.assertEqual("error" in json.loads(done.stdout), code != 0, done)


if __name__ == "__main__":
    unittest.main(verbosity=2)
