# SPDX-License-Identifier: BSD-3-Clause
"""tools/bench, shortly: both devices take their turns, each figure is there, and nothing stays behind. How fast they are is
no test's business."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from patchbay import BUILD, CPUS, ROOT, Case, register, wait_for

SHORT = ["--untouched", "--size", "64", "--rounds", "1", "--seconds", "0.05", "--warmup", "0.05", "--repeats", "0", "--huge", "off"]


def below(pid: int) -> dict[int, str]:
    """The processes that it started, each with its state: T is stopped."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has ended meanwhile
        if int(parent) == pid:
            found[int(stat.parent.name)] = state
    return found


@unittest.skipIf(len(CPUS) < 2, "the generator and the device need a CPU each")
class Bench(Case):
    def start(self, *words: str) -> subprocess.Popen[str]:
        self.directory = Path(tempfile.mkdtemp(prefix="pb-system-"))
        register(self, shutil.rmtree, self.directory, True)
        process = subprocess.Popen([sys.executable, str(ROOT / "tools" / "bench" / "bench"), *SHORT, "--build", str(BUILD), *words],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, "TMPDIR": str(self.directory)})
        register(self, lambda: (process.kill(), process.communicate()))
        return process

    def test_turns(self) -> None:
        process = self.start("--case", "wire", "--case", "bump", "--ring", "split", "--ring", "packed", "--turns", "2", "--json", "-")
        out, said = process.communicate(timeout=240)
        self.assertEqual(process.returncode, 0, said)
        report: dict[str, Any] = json.loads(out)
        points = [(case, ring) for case in ("wire", "bump") for ring in ("split", "packed")]
        # A virtual machine's CPUs may have moved in between: then each way has its own result.
        self.assertEqual(list(dict.fromkeys((one["case"], one["ring"]) for one in report["results"])), points)
        windows = dict.fromkeys(points, 0)
        for one in report["results"]:
            for name in ("testpmd", "patchbay"):
                self.assertIn(len(one[name].get("windows", [])), (1, 2), one)
                self.assertGreater(one[name]["min"], 0, one)
                self.assertGreater(one[name]["cycles_per_frame"], 0, one)
            windows[one["case"], one["ring"]] += len(one["patchbay"]["windows"])
            stages = one["patchbay"]["stages"]
            self.assertLessEqual({"receive", "copy", "complete"}, set(stages))
            if "no_neighbours" not in one:
                self.assertGreater(one["ratio"]["mpps"]["median"], 0)
            self.assertEqual("packed_to_split" in one, one["ring"] == "packed")
        for point, count in windows.items():
            self.assertIn(count, (1, 2), point)
        self.assertEqual(list(self.directory.iterdir()), [], "left behind")

    def test_interrupted(self) -> None:
        """In the midst of turns, with devices that are stopped: they end with it."""
        process = self.start("--case", "wire", "--turns", "1000")
        started: dict[int, str] = {}

        def turns() -> bool:
            started.update(below(process.pid))
            return len(started) >= 4 and "T" in started.values()

        wait_for("both devices and generators are up, and one is stopped", turns, 120)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, said)
        self.assertIn("interrupted", said)
        # Whoever was an orphan for a moment is another one's to reap.
        wait_for("all have ended", lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), 30)
        self.assertEqual(list(self.directory.iterdir()), [], "left behind")


if __name__ == "__main__":
    unittest.main()
