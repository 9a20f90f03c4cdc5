#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs all of Patchbay's tests by section and counts them. tools/test calls it after it has installed the packages."""
from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build-test"
JOBS = str(os.cpu_count() or 2)
STARTED = time.monotonic()


@dataclass
class Tally:
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, result: str, why: str = "") -> None:
        if result == "pass":
            self.passed += 1
        elif result == "skip":
            self.skipped.append((name, why))
            print(f"  SKIP {name}: {why}")
        else:
            self.failed.append(name)
            print(f"  FAIL {name}{': ' + why if why else ''}")


tally = Tally()
counting = threading.Lock()  # for what counts while others run


def run(command: list[str], log: Path, timeout: float, env: dict[str, str] | None = None) -> int:
    """Runs a command with its output in a file; -1 when the time is up."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env={**os.environ, **(env or {})}, start_new_session=True)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 15)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
            return -1


def tail(log: Path, lines: int = 40) -> None:
    print("".join(f"    | {line}\n" for line in log.read_text(errors="replace").splitlines()[-lines:]), end="")


def step(name: str, command: list[str], timeout: float = 1800, env: dict[str, str] | None = None) -> bool:
    """One command that is one test."""
    log = WORK / "logs" / f"{re.sub('[^a-zA-Z0-9]+', '-', name)}.log"
    rc = run(command, log, timeout, env)
    if rc == 0:
        tally.add(name, "pass")
        return True
    if rc == 77:  # the usual "skipped"; the last line says why
        tally.add(name, "skip", (log.read_text(errors="replace").strip().splitlines() or ["?"])[-1])
        return True
    tally.add(name, "fail", f"no end after {timeout:.0f} s" if rc == -1 else f"exit status {rc}, see {log}")
    tail(log)
    return False


def build(name: str, *options: str, env: dict[str, str] | None = None) -> bool:
    folder = WORK / name
    if not (folder / "build.ninja").exists():
        shutil.rmtree(folder, ignore_errors=True)
        if not step(f"build {name}: configure", ["meson", "setup", str(folder), ".", "-Dwerror=true", *options], env=env):
            return False
    return step(f"build {name}", ["ninja", "-C", str(folder), "-j", JOBS], 3600)


def count_output(section: str, name: str, result: str, output: str) -> None:
    """A test program's own cases, if it names them: TAP, or Python's unittest."""
    cases = re.findall(r"^\s*(ok|not ok) \d+(?: -)? *([^#\n]*)(# *SKIP *([^\n]*))?", output, re.M | re.I)
    unittest = re.findall(r"^(test\w+) \(([^)]*)\)(?:\n.*?)?? \.\.\. (ok|FAIL|ERROR|skipped (.*))$", output, re.M)
    label = f"{section}: {name}"
    if cases:
        for verdict, case, skip, why in cases:
            tally.add(f"{label}: {case.strip()}", "skip" if skip else "pass" if verdict == "ok" else "fail", why)
    for case, where, verdict, why in unittest:
        tally.add(f"{label}: {where.split('.')[-1]}.{case}",
                  "pass" if verdict == "ok" else "skip" if verdict.startswith("skipped") else "fail", why)
    failed_inside = any(v != "ok" for v, *_ in cases) or any(v in ("FAIL", "ERROR") for _, _, v, _ in unittest)
    if result == "SKIP" and not cases and not unittest:
        tally.add(label, "skip", (output.strip().splitlines() or ["?"])[-1])
    elif result not in ("OK", "SKIP") and not failed_inside:
        tally.add(label, "fail", result)
    elif result == "OK" and not cases and not unittest:
        tally.add(label, "pass")
    if result not in ("OK", "SKIP"):
        print("".join(f"    | {line}\n" for line in output.splitlines()[-40:]), end="")


def meson_test(name: str, *arguments: str, timeout: float = 3600, env: dict[str, str] | None = None,
               jobs: int | None = None) -> None:
    folder = WORK / name
    log = folder / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    rc = run(["meson", "test", "-C", str(folder), "--no-rebuild", "--num-processes", str(jobs or JOBS), *arguments],
             WORK / "logs" / f"meson-test-{name}{'-waiting' if jobs else ''}.log", timeout,
             {"CMOCKA_MESSAGE_OUTPUT": "TAP", "PATCHBAY_BUILD": str(folder), **(env or {})})
    if not log.exists():
        tally.add(f"{name}: meson test", "fail", f"no result (exit status {rc})")
        tail(WORK / "logs" / f"meson-test-{name}.log")
        return
    tests = [json.loads(line) for line in log.read_text().splitlines()]
    slowest = sorted(tests, key=lambda test: test["duration"], reverse=True)[:6]
    print("   slowest: " + ", ".join(f"{test['name']} {test['duration']:.0f} s" for test in slowest))
    for test in tests:
        count_output(name, test["name"], test["result"], (test.get("stdout") or "") + (test.get("stderr") or ""))
    if rc == -1:
        tally.add(f"{name}: meson test", "fail", f"no end after {timeout:.0f} s")


# ---- sections ----

def lint() -> None:
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True,
                           capture_output=True, check=True).stdout.split()
    c_files = [f for f in files if f.endswith((".c", ".h"))]
    step("lint: clang-format", ["clang-format", "--dry-run", "--Werror", *c_files])
    code = [f for f in files if f.endswith((".c", ".h", ".py", "meson.build", "meson_options.txt"))]
    bad = [f for f in code if "SPDX-License-Identifier: BSD-3-Clause" not in
           "".join((ROOT / f).open(errors="replace").readlines()[:3])]
    tally.add("lint: SPDX lines", "fail" if bad else "pass", " ".join(bad))
    step("lint: python compiles", [sys.executable, "-m", "compileall", "-q", "tests", "tools"])


WAITING = ("control", "cli", "vhost")  # suites whose tests mostly wait: for time-outs, for the disk, for slow clients


def meson_tests(name: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    """All suites of a build; those that wait are run more at a time than there are CPUs."""
    meson_test(name, *(word for suite in WAITING for word in ("--no-suite", suite)), *arguments, env=env)
    meson_test(name, *(word for suite in WAITING for word in ("--suite", suite)), *arguments, env=env, jobs=2 * int(JOBS) + 1)


def release() -> None:
    if build("release", "--buildtype=release"):
        meson_tests("release")


def clang() -> None:
    if build("clang", "-Dfuzz=true", env={"CC": "clang"}):
        meson_test("clang", "--suite", "fuzz")  # the corpora


def sanitizers() -> None:
    if build("asan", "-Db_sanitize=address,undefined", "-Db_lundef=false", "--buildtype=debugoptimized"):
        meson_tests("asan", "--timeout-multiplier", "4", env={
            "ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1:abort_on_error=0",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})
    if build("tsan", "-Db_sanitize=thread", "-Db_lundef=false", "--buildtype=debugoptimized"):
        suppressions = ROOT / "tests" / "race" / "tsan.supp"
        meson_test("tsan", "--suite", "race", "--timeout-multiplier", "4",
                   env={"TSAN_OPTIONS": f"halt_on_error=1 suppressions={suppressions}"})


# Scripts that judge how long something takes, or how much CPU it costs: nothing else runs beside them.
ALONE = ("test_daemon", "test_durable", "test_offloads", "test_queues", "test_rates", "test_service", "test_unit",
         "test_upgrade", "test_virtio_user_failures")
# The others wait for most of their time, for guests that boot or for pings; the longest begin.
LONGEST = ("test_guests", "test_virtio_user", "test_load")


def system_script(script: Path) -> None:
    log = WORK / "logs" / f"system-{script.stem}.log"
    start = time.monotonic()
    rc = run([sys.executable, "-m", "unittest", "-v", script.stem], log, 3600, {
        "PATCHBAY_BUILD": str(WORK / "release"), "PYTHONPATH": str(script.parent), "PYTHONUNBUFFERED": "1"})
    with counting:
        count_output("system", script.stem, "OK" if rc == 0 else "TIMEOUT" if rc == -1 else "FAIL",
                     log.read_text(errors="replace"))
        print(f"   {script.stem}: {time.monotonic() - start:.0f} s", flush=True)


def system() -> None:
    scripts = {script.stem: script for script in sorted((ROOT / "tests" / "system").glob("test_*.py"))}
    for name in ALONE:
        system_script(scripts.pop(name))
    order = [*LONGEST, *(name for name in scripts if name not in LONGEST)]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(system_script, scripts[name]) for name in order]:
            done.result()


def demo() -> None:
    step("demo: tools/demo", ["tools/demo", "--build", str(WORK / "release")], 1200)


FUZZ_SECONDS = 60  # a target, two at a time
FUZZ_SECONDS_MIN = 15  # on a machine so slow that all else took nearly the whole time
WHOLE_SECONDS = 28 * 60  # what all sections together should take


def fuzz() -> None:
    targets = subprocess.run([sys.executable, "tests/fuzz/fuzz.py", "list"], cwd=ROOT, text=True, capture_output=True,
                             check=True).stdout.split()
    rounds = -(-len(targets) // 2)
    left = int(WHOLE_SECONDS - (time.monotonic() - STARTED)) // rounds
    seconds = max(FUZZ_SECONDS_MIN, min(FUZZ_SECONDS, left))
    if seconds < FUZZ_SECONDS:
        print(f"   this machine is slow: {seconds} s a target, not {FUZZ_SECONDS}")
    if (WORK / "clang" / "build.ninja").exists() or build("clang", "-Dfuzz=true", env={"CC": "clang"}):
        step(f"fuzz: {seconds} s a target", ["tests/fuzz/fuzz.py", "run", "--seconds", str(seconds), "--build",
                                             str(WORK / "clang")], 60 * FUZZ_SECONDS)


SECTIONS: dict[str, Callable[[], None]] = {"lint": lint, "release": release, "clang": clang, "sanitizers": sanitizers,
                                            "system": system, "demo": demo, "fuzz": fuzz}


def allowed_skips() -> list[str]:
    lines = (ROOT / "tests" / "allowed-skips").read_text().splitlines()
    return [line.split("  ")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="A,B", help="run only these sections")
    parser.add_argument("--list", action="store_true", help="print the sections and end")
    options = parser.parse_args()
    if options.list:
        print("\n".join(SECTIONS))
        return 0
    wanted = options.only.split(",") if options.only else list(SECTIONS)
    for name in wanted:
        if name not in SECTIONS:
            parser.error(f"no section '{name}'; there are: {', '.join(SECTIONS)}")
    if os.geteuid() != 0:
        print("tools/test needs root: it makes namespaces, TAP interfaces and huge pages", file=sys.stderr)
        return 1
    for name in wanted:
        print(f"== {name}", flush=True)
        start = time.monotonic()
        SECTIONS[name]()
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
    patterns = allowed_skips()
    for name, why in tally.skipped:
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            tally.add(f"{name} was skipped, which tests/allowed-skips doesn't allow", "fail", why)
    for name in tally.failed:
        print(f"failed: {name}")
    print(f"{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
