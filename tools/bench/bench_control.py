# SPDX-License-Identifier: BSD-3-Clause
"""bench --control: 64 clients that change wires for ten minutes while numbered frames cross one; what both came to."""
from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

from bench_machine import NotMeasured, end, spawn

CLIENTS = 64
FRAMES_A_SECOND = 20000
WIRE = "/v1/networks/default/wires/w1"
# What the run must come to. Memory: since a tenth of the time is over and the daemon keeps as many events as it ever does,
# but at the latest since half of the time.
LEAST_CHANGES_A_SECOND = 1000
MOST_GROWTH_KIB = 16 << 10
EVENTS_KEPT = 32768  # LIMIT_EVENTS; each change is one
# Progress: so many lines in all, at least so many seconds apart.
LINES, LINE_S = 60, 2.0


class _Api(http.client.HTTPConnection):
    """A connection of its own, beside those of the clients."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def read(self, method: str, path: str, body: Any = None) -> str:
        """The answer's body; NotMeasured unless the request succeeds."""
        try:
            self.request(method, path, None if body is None else json.dumps(body))
            reply = self.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NotMeasured(f"{method} {path}: {error}") from None
        if reply.status not in (200, 201):
            raise NotMeasured(f"{method} {path}: {reply.status} {data.decode(errors='replace')}")
        return data.decode()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self.read(method, path, body))


def _resident(pid: int) -> int:
    """KiB of memory of the process."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text(encoding="ascii").split("VmRSS:")[1].split()[0])
    except (OSError, IndexError):
        raise NotMeasured("patchbayd ended while clients changed wires") from None


def _wait(what: str, condition: Callable[[], Any], processes: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if condition():
                return
        except NotMeasured as error:
            what = f"{what.partition(':')[0]}: {error}"
        for process in processes:
            if process.poll() is not None:
                raise NotMeasured(f"{what}: {process.args[0]} ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise NotMeasured(f"{what}: not within a minute")
        time.sleep(0.05)


class _Progress:
    """Looks at the daemon while it is hammered, and says how it goes: a line now and then. It asks by the metrics' own
    socket, since the clients have all connections that the other serves."""

    def __init__(self, metrics: _Api, daemon: subprocess.Popen, seconds: int, lines: Any) -> None:
        self.metrics, self.daemon, self.seconds, self.lines = metrics, daemon, seconds, lines
        self.began = self.spoke = time.monotonic()
        self.before = 0
        self.first: tuple[float, int] | None = None  # when memory has come to rest, and how much it was
        self.most = 0

    def _frames(self) -> tuple[int, int]:
        """Of the wire: delivered and dropped so far."""
        text = self.metrics.read("GET", "/metrics")
        return (sum(int(n) for n in re.findall(r'^patchbay_wire_frames_total\{[^}]*wire="w1".*\} (\d+)', text, re.M)),
                sum(int(n) for n in re.findall(r'^patchbay_wire_dropped_frames_total\{[^}]*wire="w1".*\} (\d+)', text, re.M)))

    def look(self, changes: int) -> None:
        """Once a second, with the changes so far."""
        now = time.monotonic()
        resident = _resident(self.daemon.pid)
        self.most = max(self.most, resident)
        share = (now - self.began) / self.seconds
        if self.first is None and (share >= 0.5 or share >= 0.1 and changes > EVENTS_KEPT):
            self.first = now - self.began, resident
        if now - self.spoke < max(LINE_S, self.seconds / LINES) - 0.5:
            return
        delivered, dropped = self._frames()
        print(f"  {now - self.began:4.0f} s of {self.seconds}: {(changes - self.before) / (now - self.spoke):,.0f} changes/s, "
              f"{delivered:,} frames delivered, {dropped} dropped, {resident >> 10} MiB", file=self.lines, flush=True)
        self.before, self.spoke = changes, now

    def result(self) -> dict:
        last = _resident(self.daemon.pid)
        since, first = self.first or (0.0, last)
        return {"resident_kib": last, "most_kib": max(self.most, last), "grown_kib": last - first, "grown_since_s": since}


def measure(daemon: str, generator: str, load: str, cores: tuple[int, int], seconds: int, lines: Any = sys.stdout) -> dict:
    """Runs all of it; {"load": …, "frames": …, "daemon": …}. Progress goes to `lines`. The state lies on disk, where
    TMPDIR is."""
    directory = Path(tempfile.mkdtemp(prefix="bench-control-"))
    api, metrics = _Api(str(directory / "api.sock")), _Api(str(directory / "metrics.sock"))
    processes: list[subprocess.Popen] = []
    try:
        with open(directory / "log", "wb") as log:
            processes.append(spawn([daemon, "--socket", str(directory / "api.sock"), "--state", str(directory / "state.db"),
                                    "--metrics-socket", str(directory / "metrics.sock"), "--workers", str(cores[0]), "--hugepages", "off", "--vhost-dir", str(directory)],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        _wait("patchbayd", lambda: api.ask("GET", "/v1/version"), processes)
        for name in "ab":
            api.ask("PUT", f"/v1/vifs/{name}", {"kind": "vhost-server", "path": f"{directory}/{name}.sock"})
            api.ask("PUT", f"/v1/networks/default/ports/{name}", {"vif": name})
        api.ask("PUT", WIRE, {"a": "a", "b": "b", "on_full": "wait", "stall_ms": 60000})
        processes.append(spawn([generator, "check", "--port", f"b={directory}/b.sock", "--port", f"a={directory}/a.sock",
                                "--stream", "a>b", "--duration", "86400", "--rate", str(FRAMES_A_SECOND), "--size", "64",
                                "--settle", "3", "--stall", "60", "--wait", "30", "--huge", "off", "--core", str(cores[1])],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        _wait("the wire", lambda: api.ask("GET", f"{WIRE}/stats")["a_to_b"]["delivered"]["frames"] > 0, processes)
        print(f"{CLIENTS} clients change wires for {seconds} s; {FRAMES_A_SECOND:,} numbered frames a second cross another",
              file=lines, flush=True)
        api.close()
        progress = _Progress(metrics, processes[0], seconds, lines)
        clients = spawn([load, str(directory / "api.sock"), str(CLIENTS), str(seconds), str(directory), "progress"],
                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(clients)
        wrong = []
        for line in clients.stderr:  # a number each second; what is no number is what went wrong
            if not line.strip().isdigit():
                wrong.append(line.strip())
                continue
            if processes[1].poll() is not None:
                raise NotMeasured(f"patchbay-traffic ended with {processes[1].returncode}")
            progress.look(int(line))
        told = clients.stdout.read()
        if clients.wait() != 0:
            raise NotMeasured(f"patchbay-control-load: {' '.join(wrong)}")
        seen = progress.result()
        processes[1].send_signal(signal.SIGTERM)
        output, _ = processes[1].communicate(timeout=120)
        return {"load": json.loads(told), "frames": json.loads(output), "daemon": seen}
    finally:
        for connection in (api, metrics):
            connection.close()
        for process in reversed(processes):
            end(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        shutil.rmtree(directory, ignore_errors=True)


def judge(result: dict) -> list[str]:
    """What isn't as it must be, as sentences; empty: all is."""
    load, frames, daemon = result["load"], result["frames"], result["daemon"]
    wrong = list(frames["problems"])
    if not all(stream["received"] > 0 for stream in frames["streams"]):
        wrong.append("no frame crossed the wire, so nothing was tested")
    if load["refused"] > 0:
        wrong.append(f"{load['refused']} changes were refused")
    if load["per_second"] < LEAST_CHANGES_A_SECOND:
        wrong.append(f"{load['per_second']:.0f} changes a second are fewer than {LEAST_CHANGES_A_SECOND:,}")
    if daemon["grown_kib"] > MOST_GROWTH_KIB:
        wrong.append(f"the daemon grew by {daemon['grown_kib'] / 1024:.0f} MiB, more than {MOST_GROWTH_KIB >> 10}")
    return wrong


def tell(result: dict, lines: Any = sys.stdout) -> int:
    """Prints it; an exit status: 1 when a frame was lost, doubled or out of order, a change refused, the changes too few, or
    the daemon grew."""
    load, frames, daemon = result["load"], result["frames"], result["daemon"]
    wrong = judge(result)

    def add(key: str) -> int:
        return sum(stream[key] for stream in frames["streams"])
    print(f"""changes   {load['changes']:,} in {load['seconds']:.0f} s by {load['clients']} clients: {load['per_second']:,.0f} a second, {load['refused']} refused
one took  {load['median_us'] / 1000:.1f} ms (median), {load['p99_us'] / 1000:.1f} ms (99 %), at most {load['max_us'] / 1000:.1f} ms
fsync     {load['fsync_us'] / 1000:.2f} ms (median) behind 4 KiB beside the state
frames    {add('sent'):,} sent meanwhile: {add('lost')} lost, {add('duplicate')} doubled, {add('reordered')} out of order
pause     at most {frames['pause_ms']:.1f} ms without a frame (the generator itself was off its CPU for at most {frames['off_cpu_ms']:.1f} ms, not counted)
wait      for the worker to leave the old table: at most {load['wait_max_us'] / 1000:.1f} ms, {load['wait_mean_us'] / 1000:.2f} ms on average, of {load['waits_seen']:,} looked at
memory    {daemon['resident_kib'] / 1024:.1f} MiB at the end, {daemon['grown_kib'] / 1024:+.1f} MiB since second {daemon['grown_since_s']:.0f}, at most {daemon['most_kib'] / 1024:.1f} MiB
verdict   {'; '.join(wrong) if wrong else 'passed'}""", file=lines)
    return int(bool(wrong))
