# SPDX-License-Identifier: BSD-3-Clause
"""bench --control: 64 clients that change wires for ten minutes while numbered frames cross one; what both came to."""
from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from bench_machine import NotMeasured, end, spawn

CLIENTS = 64


def _connected(client: str, api: str) -> bool:
    return subprocess.run([client, "--socket", api, "version"], capture_output=True, check=False).returncode == 0


def _wait(what: str, condition, processes: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        for process in processes:
            if process.poll() is not None:
                raise NotMeasured(f"{what}: {process.args[0]} ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise NotMeasured(f"{what}: not within a minute")
        time.sleep(0.05)


def measure(daemon: str, client: str, generator: str, load: str, cores: tuple[int, int], seconds: int) -> dict:
    """Runs all of it; {"load": …, "streams": […]}. The state lies on disk, where TMPDIR is."""
    directory = Path(tempfile.mkdtemp(prefix="bench-control-"))
    api, processes = str(directory / "api.sock"), []
    try:
        with open(directory / "log", "w") as log:
            processes.append(spawn([daemon, "--socket", api, "--state", str(directory / "state.db"), "--workers", str(cores[0]),
                                    "--hugepages", "off", "--vhost-dir", str(directory)],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        _wait("patchbayd", lambda: _connected(client, api), processes)
        for line in ("plug a vhost-server:a.sock", "plug b vhost-server:b.sock", "wire add w1 a b", "wire set w1 stall_ms=60000"):
            subprocess.run([client, "--socket", api, *line.split()], check=True, capture_output=True)
        processes.append(spawn([generator, "check", "--port", f"b={directory}/b.sock", "--port", f"a={directory}/a.sock",
                                "--stream", "a>b", "--duration", "86400", "--rate", "20000", "--size", "64", "--settle", "3",
                                "--stall", "60", "--wait", "30", "--huge", "off", "--core", str(cores[1])],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))

        def is_up() -> bool:
            shown = subprocess.run([client, "--socket", api, "--json", "show", "w1"], capture_output=True, text=True, check=False)
            return '"up"' in shown.stdout
        _wait("the wire", is_up, processes)
        done = subprocess.run([load, api, str(CLIENTS), str(seconds), str(directory)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotMeasured(f"patchbay-control-load: {done.stderr.strip()}")
        processes[1].send_signal(signal.SIGTERM)
        output, _ = processes[1].communicate(timeout=120)
        return {"load": json.loads(done.stdout), "frames": json.loads(output)}
    finally:
        for process in reversed(processes):
            end(process)
        shutil.rmtree(directory, ignore_errors=True)


def tell(result: dict) -> int:
    """Prints it; an exit status: 1 when a frame was lost or doubled, or a change refused, or there were too few."""
    load = result["load"]
    print(f"{load['clients']} clients for {load['seconds']:.0f} s: {load['changes']} changes, {load['per_second']:.0f} a second "
          f"(at least 1,000 wanted), {load['refused']} refused\n"
          f"one took {load['median_us'] / 1000:.1f} ms (median), {load['p99_us'] / 1000:.1f} ms (99 %), at most "
          f"{load['max_us'] / 1000:.1f} ms; an fsync of 4 KiB beside the state {load['fsync_us'] / 1000:.2f} ms")
    frames = result["frames"]
    sent = sum(stream["sent"] for stream in frames["streams"])
    print(f"meanwhile {sent} numbered frames crossed a wire: " + ("; ".join(frames["problems"]) or "none lost, doubled or out of order"))
    return int(bool(frames["problems"]) or load["refused"] > 0 or load["per_second"] < 1000)
