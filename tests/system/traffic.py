# SPDX-License-Identifier: BSD-3-Clause
"""patchbay-traffic in a test: numbered frames over virtio-user ports, each judged when it arrives."""
from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Sequence

from patchbay import BUILD, OTHER_CPUS, PATIENCE, SANITIZED, SLOW, Daemon, register, spawn, tail, wait_for, witness

PROGRAM = BUILD / "tools" / "bench" / "patchbay-traffic"
SIGUSR1_BIT = 1 << (signal.SIGUSR1 - 1)
_turn = 0


class Traffic:
    """A generator that runs from the moment it is made; wait() or stop() returns what it found.

    It opens its ports in the order given, senders last, and then one more, on no wire: once that one is up the daemon
    has handled all messages of those before, so that not even the first frame finds its receiver down.
    """

    def __init__(self, owner: Any, daemon: Daemon, ports: Sequence[str], streams: Sequence[str] = (), *,
                 monitors: Sequence[str] = (), reflect: Sequence[str] = (), count: int | None = None,
                 size: str = "random:1514", rate: int | None = None, settle: float | None = None,
                 options: dict[str, str] | None = None) -> None:
        """ports: names of vifs of the daemon, of either vhost kind. streams: "a>b". reflect: "in:out". count: frames a
        stream; None: until stop(). rate: frames a second and stream. settle: seconds without a frame after which what
        is missing is lost. options: of single ports, as patchbay-traffic has them after the path."""
        global _turn
        self.daemon = daemon
        senders = [stream.split(">")[0] for stream in streams]
        gate = f"gate{_turn}"
        daemon.plug(gate, "vhost-server", port=False)
        words: list[str] = []
        for name in [*[p for p in ports if p not in senders], *[p for p in ports if p in senders], gate]:
            vif = daemon.get(f"/v1/vifs/{name}")
            text = f"{name}={vif['path']}" + (",server" if vif["kind"] == "vhost" else "")
            own = (options or {}).get(name, "")
            words += ["--port", text + (f",{own}" if own else "")]
        for option, values in (("--stream", streams), ("--monitor", monitors), ("--reflect", reflect)):
            for value in values:
                words += [option, value]
        if rate is not None:
            words += ["--rate", str(rate)]
        words += ["--count", str(count)] if count is not None else ["--duration", "3600"]
        # Copies may be missing for good, so a monitor's run always waits that long.
        settle = (settle or (1.5 if monitors else 3.0)) * (2 if SANITIZED else 1)
        words += ["--size", size, "--settle", str(settle), "--stall", "120", "--wait", "120", "--huge", "off",
                  "--core", str(OTHER_CPUS[_turn % len(OTHER_CPUS)])]
        _turn += 1
        self.log = daemon.directory / f"traffic{_turn}.err"
        self.words = words
        self.process = spawn([PROGRAM, "check", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        register(owner, self.close)
        witness(owner, lambda: f"--- patchbay-traffic {' '.join(words)}:\n{tail(self.log, 20)}")
        self._progress: list[Any] = []
        self._output = ""
        self._readers = [threading.Thread(target=target, daemon=True) for target in (self._read_log, self._read_output)]
        for reader in self._readers:
            reader.start()
        self.wait_ready()

    def _read_log(self) -> None:
        with self.log.open("w") as log, self.process.stderr as lines:
            for line in lines:
                log.write(line)
                log.flush()
                if line.startswith("{"):
                    self._progress.append(json.loads(line))

    def _read_output(self) -> None:
        with self.process.stdout as output:
            self._output = output.read()

    def _check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"patchbay-traffic ended with {self.process.returncode}: {tail(self.log)}")

    def _listens(self) -> bool:
        self._check()
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return bool(int(status.split("SigCgt:")[1].split()[0], 16) & SIGUSR1_BIT)

    def wait_ready(self) -> "Traffic":
        """Returns when all ports are up and the first frames may be sent."""
        if self.process.poll() is None or not self._output:
            wait_for("patchbay-traffic handles signals", self._listens, 30)
            self.progress(60)
        return self

    def progress(self, deadline: float = 20.0) -> Any:
        """How far it is now."""
        before = len(self._progress)
        end = time.monotonic() + deadline * PATIENCE
        while len(self._progress) == before:
            if self.process.poll() is not None and before:
                return self._progress[-1]
            if self.process.poll() == 0:
                return {}
            self._check()
            self.process.send_signal(signal.SIGUSR1)
            pause = time.monotonic() + 0.2
            while len(self._progress) == before and time.monotonic() < pause:
                time.sleep(0.001)
            assert time.monotonic() < end, f"patchbay-traffic says nothing for {deadline:g} s"
        return self._progress[-1]

    def wait_received(self, count: int, deadline: float = 60.0) -> Any:
        """Until `count` more frames than now have arrived."""
        start = self.progress()["received"]

        def arrived() -> Any:
            now = self.progress()
            assert now["received"] >= start + count, f"{now['received'] - start} of {count} frames arrived"
            return now
        return wait_for(f"{count} more frames arrive", arrived, deadline)

    def rate(self, seconds: float) -> float:
        """Frames received a second, over so many seconds from now."""
        before = self.progress()
        time.sleep(seconds)
        after = self.progress()
        return (after["received"] - before["received"]) / (after["seconds"] - before["seconds"])

    def pause(self) -> None:
        """The process stops moving: its ports stay connected, nobody takes their frames."""
        self.process.send_signal(signal.SIGSTOP)
        wait_for("patchbay-traffic stands still", lambda: Path(f"/proc/{self.process.pid}/stat").read_text()
                 .rpartition(")")[2].split()[0] == "T", 5)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, deadline: float = 60.0) -> Any:
        """Ends the sending; once all has arrived, or nothing more does, returns the result."""
        self._check()
        self.process.send_signal(signal.SIGTERM)
        return self.wait(deadline)

    def wait(self, deadline: float = 120.0) -> Any:
        """Waits for the end, returns the result."""
        try:
            self.process.wait(deadline * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"patchbay-traffic doesn't end: {self.progress()}") from None
        for reader in self._readers:
            reader.join(60)
        assert self.process.returncode == 0, f"patchbay-traffic ended with {self.process.returncode}: {tail(self.log)}"
        return json.loads(self._output)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(10)


def check_lossless(result: Any, count: int | None = None) -> None:
    """None lost, doubled, out of order, changed, or at a port where it doesn't belong; and all were sent."""
    assert result["problems"] == [], "\n".join([*result["problems"], json.dumps(result["streams"])[:4000]])
    for stream in result["streams"]:
        assert count is None or stream["sent"] == count, stream
        assert stream["sent"] > 0, stream


def stream(result: Any, name: str) -> Any:
    return next(one for one in result["streams"] if one["stream"] == name)


def port(result: Any, name: str) -> Any:
    return next(one for one in result["ports"] if one["port"] == name)


def rate_text(result: Any) -> str:
    sent = sum(one["sent"] for one in result["streams"])
    return f"{sent} frames in {result['seconds']:.1f} s, {sent / result['seconds'] / 1e6:.2f} Mpps"
