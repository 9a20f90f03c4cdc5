# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the command line share."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
from typing import Any, NamedTuple

sys.dont_write_bytecode = True
from fake_daemon import FakeDaemon  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("PATCHBAY_BUILD", ROOT / "build"))
PATCHBAY = os.environ.get("PATCHBAY_CLI", str(BUILD / "tools" / "patchbay" / "patchbay"))


class Result(NamedTuple):
    code: int
    out: str
    err: str


class CliCase(unittest.TestCase):
    """Runs patchbay against a daemon of its own."""

    maxDiff = None

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="cli-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.socket = f"{self.folder}/api.sock"
        self.start_daemon()

    def start_daemon(self) -> None:
        self.daemon = FakeDaemon(self.socket)
        self.addCleanup(self.daemon.stop)
        self.model = self.daemon.model

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS")}
        return {**kept, "LC_ALL": "C.UTF-8", "PATCHBAY_SOCKET": self.socket, **more}

    def run_cli(self, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> Result:
        done = subprocess.run([PATCHBAY, *arguments], env=self.environment(**(env or {})), text=True, timeout=240,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        self.assertNotIn("Sanitizer", done.stderr)
        self.assertGreaterEqual(done.returncode, 0, done.stderr)
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """The output of a command that must succeed, without a word on standard error."""
        result = self.run_cli(*arguments, env=env)
        self.assertEqual((0, ""), (result.code, result.err), f"{arguments}: {result}")
        return result.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def refused(self, code: int, *arguments: str, env: dict[str, str] | None = None) -> str:
        """What a command that must fail with this exit code says on standard error."""
        result = self.run_cli(*arguments, env=env)
        self.assertEqual(code, result.code, f"{arguments}: {result}")
        self.assertTrue(result.err.startswith("patchbay: "), result.err)
        return result.err

    def sent(self, method: str) -> tuple[str, Any]:
        """Path and body of the last request of this method."""
        for made, path, _, body in reversed(self.daemon.requests):
            if made == method:
                return path, body
        raise AssertionError(f"no {method} was sent")

    def plug(self, *names: str) -> None:
        """Vifs that are up, with their ports."""
        for name in names:
            self.ok("plug", name, "none")

    def wire(self) -> None:
        """A wire w1 from vm1 to vm2."""
        self.plug("vm1", "vm2")
        self.ok("wire", "add", "w1", "vm1", "vm2")
