# SPDX-License-Identifier: BSD-3-Clause
"""What the benchmark needs of the machine: its description, its huge pages, processes that end with us."""
from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Iterator

HUGE_2M = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
PR_SET_PDEATHSIG = 1
DPDK_RUN = [Path(os.environ.get("RUNTIME_DIRECTORY", "/var/run")) / "dpdk",
            Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / "dpdk"]


class NotMeasured(Exception):
    """A figure that can't be had here; its text is the reason that the table shows."""


def _die_with_parent() -> None:
    # Even a killed benchmark shall leave no busy-polling process behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(command: list[str], **options) -> subprocess.Popen:
    """Starts a process in a session of its own (Ctrl-C is for us to handle), which dies with us."""
    return subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent, **options)


def end(process: subprocess.Popen, seconds: float = 5) -> None:
    """SIGTERM, and SIGKILL when that isn't enough."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def dpdk_forget(prefix: str) -> None:
    """Removes the run directory that DPDK leaves behind; `prefix` is ours alone."""
    for root in DPDK_RUN:
        shutil.rmtree(root / prefix, ignore_errors=True)


class Watch:
    """How much the busiest thread of each process was kept waiting for its CPU by somebody else. A busy-polling worker
    that shares its core with another program measures that program."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._before = [self._threads(pid) for pid in pids]

    @staticmethod
    def _threads(pid: int) -> dict[str, tuple[int, int]]:
        times: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(OSError, ValueError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                run, wait, _ = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()
                times[thread] = int(run), int(wait)
        return times

    def waited(self) -> float:
        """The largest share of the time since the beginning that one of them spent runnable but not running."""
        worst = 0.0
        for pid, before in zip(self._pids, self._before):
            deltas = [(run - before.get(thread, (0, 0))[0], wait - before.get(thread, (0, 0))[1])
                      for thread, (run, wait) in self._threads(pid).items()]
            run, wait = max(deltas, default=(0, 0))
            if run + wait > 0:
                worst = max(worst, wait / (run + wait))
        return worst


def cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _reserve(count: Path, before: int, needs_mib: list[int]) -> tuple[int, str]:
    try:
        for need_mib in needs_mib:
            count.write_text(str(before + max(need_mib // 2 - _read(HUGE_2M / "free_hugepages"), 0)))
            if _read(HUGE_2M / "free_hugepages") * 2 >= need_mib:
                return need_mib, "2 MiB pages, reserved for the run"
            # Given back before it is tried with less, and before it is done without.
            count.write_text(str(before))
    except OSError as error:
        return 0, f"none free and none can be reserved: {error}"
    return 0, f"the kernel has no {needs_mib[-1]} MiB of them"


@contextlib.contextmanager
def huge_pages(mode: str, needs_mib: list[int]) -> Iterator[tuple[int, str]]:
    """Gives how many MiB of 2 MiB pages are free now, the first of `needs_mib` that can be had, and how; or 0 and why not.
    Restores the number of pages at the end."""
    if mode == "off":
        yield 0, "switched off"
        return
    if _read(HUGE_2M / "free_hugepages") * 2 >= needs_mib[0]:
        yield needs_mib[0], "2 MiB pages that were free"
        return
    count = HUGE_2M / "nr_hugepages"
    before = _read(count)
    got, why = _reserve(count, before, needs_mib)
    if mode == "on" and got == 0:
        raise SystemExit(f"bench: no huge pages: {why}")
    try:
        yield got, why
    finally:
        if got > 0:
            count.write_text(str(before))


def free_mib() -> int:
    """What programs may take without others being paged out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0


def describe(huge: bool, huge_why: str, dut_core: int, generator_core: int) -> dict:
    """The machine, as the result names it."""
    model, flags = "unknown", ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        elif key.strip() == "flags":
            flags = value
    mhz = "unknown"
    with contextlib.suppress(OSError, StopIteration):
        mhz = next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                   if line.startswith("cpu MHz"))
    try:
        dpdk = subprocess.run(["pkg-config", "--modversion", "libdpdk"], capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        dpdk = "unknown"
    distribution = "unknown"
    with contextlib.suppress(OSError):
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    return {
        "cpu": model, "mhz": mhz, "cpus": os.cpu_count(), "virtual": " hypervisor" in flags,
        "vectors": [flag for flag in ("avx2", "avx512bw") if f" {flag}" in flags],
        "kernel": platform.release(), "distribution": distribution, "dpdk": dpdk,
        "huge_pages": huge, "huge_pages_note": huge_why,
        "dut_core": dut_core, "generator_core": generator_core, "load_before": round(os.getloadavg()[0], 2),
    }
