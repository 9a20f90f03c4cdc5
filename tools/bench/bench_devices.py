# SPDX-License-Identifier: BSD-3-Clause
"""The devices under test: each starts for one case, with its one worker on one core, and ends without a trace."""
from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench_machine import NotMeasured, cpus, dpdk_forget, end, spawn

START_S = 20.0
_numbers = itertools.count()  # several are up at the same time
# The generator's ports of each case, in the order in which testpmd's ports are paired: (0,1), (2,3).
CASE_PORTS = {
    "wire": ["a", "b"],
    "tap": ["a", "b", "mon"],
    "bump": ["a", "fw-in", "fw-out", "b"],
    "nic-rx": ["b"],
    "nic-tx": ["a"],
}


@dataclass
class Setup:
    """What a device needs to know to start for a case."""
    case: str
    frame_len: int  # bytes without frame check sequence; only a null NIC asks
    directory: Path
    core: int
    huge: bool
    ring: int


@dataclass
class Work:
    """What a worker has done since it started: cycles while there were frames, and frames; cycles by stage of the
    loops that it measured, and the frames of these loops, where the device says so."""
    cycles: int
    frames: int
    stages: dict[str, int] = field(default_factory=dict)
    sampled: int = 0

    def stages_since(self, before: Work) -> dict[str, float]:
        """Cycles a frame by stage."""
        frames = self.sampled - before.sampled
        return {name: (cycles - before.stages.get(name, 0)) / frames for name, cycles in self.stages.items()
                if cycles > before.stages.get(name, 0)} if frames > 0 else {}


def wait_for(what: str, condition, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if process.poll() is not None:
            tail = " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
            raise NotMeasured(f"{what} ended with {process.returncode}: {tail}")
        if time.monotonic() > deadline:
            raise NotMeasured(f"{what} isn't ready after {START_S:g} s")
        time.sleep(0.02)


class Testpmd:
    """dpdk-testpmd in io mode: the fastest forwarder that DPDK ships. No tap exists there, so a tapped wire is
    compared with an untapped testpmd."""
    name = "testpmd"

    def __init__(self, setup: Setup, burst: int) -> None:
        binary = shutil.which("dpdk-testpmd")
        if binary is None:
            raise NotMeasured("dpdk-testpmd isn't installed (Debian: dpdk)")
        ports = [name for name in CASE_PORTS[setup.case] if name != "mon"]
        self.sockets = {name: str(setup.directory / f"{name}.sock") for name in ports}
        self.prefix = f"patchbay-bench-{os.getpid()}-testpmd-{next(_numbers)}"
        self._log = setup.directory / "testpmd.log"
        self._lines: list[str] = []
        memory = ["--in-memory", "-m", "256"] if setup.huge else ["--no-huge", "--no-shconf", "-m", "256"]
        mask = ",".join(str(cpu) for cpu in cpus())
        command = [binary, "--lcores", f"0@({mask}),1@{setup.core}", "--main-lcore=0", *memory, "--no-pci",
                   "--no-telemetry", "--iova-mode=va", f"--file-prefix={self.prefix}"]
        if setup.case.startswith("nic"):
            no_rx = ",no-rx=1" if setup.case == "nic-tx" else ""
            command += ["--vdev", f"net_null0,size={setup.frame_len}{no_rx}"]
        for index, name in enumerate(ports):
            command += ["--vdev", f"net_vhost{index},iface={self.sockets[name]},queues=1"]
        command += ["--", "-i", "--forward-mode=io", f"--rxd={setup.ring}", f"--txd={setup.ring}", f"--burst={burst}",
                    "--record-core-cycles", "--auto-start", "--total-num-mbufs=16384"]
        # A terminal, not a pipe: testpmd doesn't flush its answers.
        self._terminal, terminal = os.openpty()
        self._process = spawn(command, stdin=subprocess.PIPE, stdout=terminal, stderr=terminal, text=True)
        os.close(terminal)
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        try:
            wait_for("testpmd", self._ready, self._process, self._log)
        except BaseException:
            self.close()
            raise

    def _collect(self) -> None:
        with open(self._log, "w") as log, open(self._terminal, errors="replace") as terminal:
            try:
                for line in terminal:
                    self._lines.append(line)
                    log.write(line)
                    log.flush()
            except OSError:
                pass  # EIO: the last process at the other end is gone

    def _ready(self) -> bool:
        return any("io packet forwarding" in line for line in self._lines) and all(
            os.path.exists(path) for path in self.sockets.values())

    def _command(self, text: str, until: str) -> str:
        before = len(self._lines)
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            answer = "".join(self._lines[before:])
            if re.search(until, answer):
                return answer
            time.sleep(0.01)
        raise NotMeasured(f"testpmd didn't answer '{text}'")

    @property
    def pid(self) -> int:
        return self._process.pid

    def work(self) -> Work | None:
        """Cycles and frames since its start, of loops that received something. Frames are those it delivered."""
        answer = self._command("show fwd stats all", r"CPU cycles/packet|Accumulated[^$]*?\+{40,}\s*$")
        total = re.search(r"total cycles=(\d+)", answer)
        frames = re.search(r"Accumulated.*?TX-packets: (\d+)", answer, re.S)
        return Work(int(total[1]), int(frames[1])) if total and frames else None

    def close(self) -> None:
        if self._process.poll() is None:
            try:
                self._process.stdin.write("quit\n")
                self._process.stdin.close()
                self._process.wait(5)
            except (OSError, subprocess.TimeoutExpired):
                pass
        end(self._process)
        self._reader.join(5)
        dpdk_forget(self.prefix)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Patchbay:
    """patchbayd, set up by its own command line tool as a user would."""
    name = "patchbay"

    def __init__(self, setup: Setup, daemon: str | None, client: str | None) -> None:
        if daemon is None or client is None:
            raise NotMeasured("patchbayd and patchbay aren't built; give --build DIR")
        self._client = client
        self._directory = setup.directory
        self._log = setup.directory / "patchbayd.log"
        self._api = str(setup.directory / "api.sock")
        self.sockets = {name: str(setup.directory / f"{name}.sock") for name in CASE_PORTS[setup.case]}
        command = [daemon, "--socket", self._api, "--state", ":memory:", "--workers", str(setup.core), "--poll", "busy",
                   "--hugepages", "256" if setup.huge else "off", "--vhost-dir", str(setup.directory)]
        with open(self._log, "w") as log:
            self._process = spawn(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for("patchbayd", self._answers, self._process, self._log)
            self._configure(setup)
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        try:
            self._get("/v1/version")
            return True
        except (OSError, http.client.HTTPException):
            return False

    def _get(self, path: str) -> dict:
        connection = _UnixConnection(self._api)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise NotMeasured(f"GET {path}: {answer.status} {body[:200]!r}")
            return json.loads(body)
        finally:
            connection.close()

    def _run(self, *words: str) -> None:
        done = subprocess.run([self._client, "--socket", self._api, *words], capture_output=True, text=True,
                              timeout=30, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise NotMeasured(f"patchbay {' '.join(words)}: {(done.stderr or done.stdout).strip()}")

    def _configure(self, setup: Setup) -> None:
        for name, path in self.sockets.items():
            self._run("plug", name, f"vhost-server:{path}")
        if setup.case.startswith("nic"):
            no_rx = ",no-rx=1" if setup.case == "nic-tx" else ""
            self._run("plug", "nic", f"dev:net_null0,size={setup.frame_len}{no_rx}")
            self._run("wire", "add", "w1", "nic", CASE_PORTS[setup.case][0])
            return
        self._run("wire", "add", "w1", "a", "b")
        if setup.case == "tap":
            self._run("tap", "add", "w1", "mon")
        elif setup.case == "bump":
            # Its arms are up only once the generator has come: closed is what a bump does by default, and the
            # insertion must not wait for the generator.
            self._run("bump", "add", "w1", "fw-in", "fw-out", "--force")

    @property
    def pid(self) -> int:
        return self._process.pid

    def work(self) -> Work | None:
        """Cycles and frames of the workers since their start, from the API's statistics."""
        try:
            workers = self._get("/v1/stats")["workers"]
            stages: dict[str, int] = {}
            for worker in workers:
                for name, stage in worker.get("stages", {}).items():
                    stages[name] = stages.get(name, 0) + stage["cycles"]
            return Work(sum(worker["busy_cycles"] for worker in workers), sum(worker["frames"] for worker in workers),
                        stages, sum(worker.get("sampled", {}).get("frames", 0) for worker in workers))
        except (KeyError, TypeError):
            return None

    def close(self) -> None:
        end(self._process)
