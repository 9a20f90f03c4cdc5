# SPDX-License-Identifier: BSD-3-Clause
"""A live systemd with Patchbay installed: the first process of namespaces of its own, on this machine's files (systemd-root
says how), and the daemon that it runs, as seen from outside."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from patchbay import BUILD, ROOT, Daemon, register, spawn, tail, wait_for, witness

SYSTEMD = Path("/lib/systemd/systemd")
CGROUP_NAME = "patchbay-test-"
UNIT = "patchbayd.service"


def cgroup2() -> Path | None:
    """Where control groups of version 2 are mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and options.split(",")[0] == "rw":
            return Path(where)
    return None


def why_not() -> str:
    """What this machine lacks for a systemd of one's own, or ''. No more than what can be told beforehand: whatever fails
    later is a failure."""
    effective = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16)
    if not effective >> 21 & 1:
        return "no CAP_SYS_ADMIN, so no namespaces"
    if not SYSTEMD.exists():
        return "systemd is not installed"
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        return "this kernel has no overlay file system"
    if not os.path.ismount("/"):
        return "the root is not a mount (chroot), so it can't be exchanged for another"
    where = cgroup2()
    if where is None:
        return "no cgroup2 file system that can be written to"
    try:
        probe = where / f"{CGROUP_NAME}{os.getpid()}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f"no control groups can be made: {error}"
    return ""


def remove_cgroup(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        wait_for(f"{folder} is empty", lambda: _removed(Path(folder)))


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError:  # its last process isn't gone yet
        return False
    return True


class Machine:
    """systemd, up and running when the constructor returns; ended at the end of the test, or of the class."""

    def __init__(self, owner: Any) -> None:
        where = cgroup2()
        assert where is not None
        for stale in where.glob(CGROUP_NAME + "*"):  # of tests that were killed
            if not Path("/proc", stale.name.removeprefix(CGROUP_NAME)).exists():
                remove_cgroup(stale)
        self.folder = Path(tempfile.mkdtemp(prefix="pb-system-"))
        register(owner, shutil.rmtree, self.folder, True)
        self.log = self.folder / "systemd.log"
        self.cgroup = where / f"{CGROUP_NAME}{os.getpid()}"
        self.cgroup.mkdir()
        register(owner, remove_cgroup, self.cgroup)
        self.pid = 0
        witness(owner, self._journal)
        (self.folder / "installed").mkdir()
        subprocess.run(["meson", "install", "-C", str(BUILD), "--no-rebuild", "--quiet", "--destdir", str(self.folder / "installed")],
                       check=True, timeout=240, stdin=subprocess.DEVNULL)
        with self.log.open("wb") as log:
            self.process = spawn([ROOT / "tests" / "system" / "systemd-root", self.folder, self.cgroup], stdout=log, stderr=log)
        register(owner, self.close)
        self.pid = int(wait_for("systemd is started", self._first_pid))
        wait_for("systemd is up", self._up, 60)

    def _first_pid(self) -> str:
        self._check()
        path = self.folder / "pid"
        return path.read_text() if path.exists() else ""

    def _check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"systemd ended with {self.process.returncode}\n{tail(self.log)}")

    def _up(self) -> bool:
        self._check()
        state = self.run("systemctl", "is-system-running", check=False)
        failed = self.run("systemctl", "--failed", "--plain", "--no-legend", check=False) if state == "degraded" else ""
        assert state in ("running", "starting", "initializing", "offline", ""), f"{state}: {failed}"
        return state == "running"

    def close(self) -> None:
        """All that runs inside ends with its first process."""
        if self.process.poll() is None:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()

    def run(self, *words: Any, check: bool = True, timeout: float = 240.0, input: str | None = None) -> str:
        """A command inside; what it said, both ways."""
        done = subprocess.run(["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-i", "-u", "-C", "-r", "-w", "--", *map(str, words)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, input=input or "",
                              env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                                   "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"})
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}"
        return done.stdout.strip()

    def path(self, inside: str | Path) -> Path:
        """A file of inside, from outside."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def show(self, name: str, unit: str = UNIT) -> str:
        return self.run("systemctl", "show", "-P", name, unit)

    def service_pids(self) -> list[int]:
        """The processes of the service, as this machine counts."""
        procs = self.cgroup / "system.slice" / UNIT / "cgroup.procs"
        try:
            return [int(line) for line in procs.read_text().split()]
        except FileNotFoundError:
            return []

    def drop_in(self, name: str, text: str) -> None:
        """Changes the service as `systemctl edit --runtime` does."""
        folder = self.path(f"/run/systemd/system/{UNIT}.d")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.conf").write_text(text)
        self.run("systemctl", "daemon-reload")

    def fresh(self) -> None:
        """No service, no state, no drop-ins."""
        self.run("systemctl", "stop", "patchbayd.socket", UNIT, check=False)
        self.run("systemctl", "reset-failed", check=False)
        shutil.rmtree(self.path(f"/run/systemd/system/{UNIT}.d"), ignore_errors=True)
        for file in self.path("/var/lib/patchbay").glob("*"):
            file.unlink()
        self.run("systemctl", "daemon-reload")

    def _journal(self) -> str:
        if not self.pid or self.process.poll() is not None:
            return f"--- systemd's last lines:\n{tail(self.log)}"
        text = self.run("journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic", check=False)
        return f"--- systemd's last lines:\n{tail(self.log)}\n--- the journal's last lines:\n{text}"


class Service(Daemon):
    """The daemon that systemd runs, for what the other system tests do with one of their own. Paths in its API are of inside;
    those of vifs that get() returns can be used from outside."""

    def __init__(self, machine: Machine) -> None:  # instead of Daemon's, which starts one
        self.machine = machine
        self.directory = machine.folder
        self.socket = machine.path("/run/patchbay/api.sock")
        self.vhost_dir = Path("/run/patchbay-vhost")

    @property
    def pid(self) -> int:
        (pid,) = self.machine.service_pids()
        return pid

    def alive(self) -> bool:
        return self.machine.show("ActiveState") == "active"

    def start(self) -> "Service":
        self.machine.run("systemctl", "start", UNIT)
        return self

    def stop(self) -> float:
        raise NotImplementedError("systemd stops it")

    def get(self, path: str) -> Any:
        body = super().get(path)
        if path.startswith("/v1/vifs/") and isinstance(body.get("path"), str):
            body["path"] = str(self.machine.path(body["path"]))
        return body
