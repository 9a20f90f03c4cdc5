# SPDX-License-Identifier: BSD-3-Clause
"""Devices that take turns. All that are compared are up at the same time, each with a generator of its own, and all but
one of them are stopped: so neighbours are a second apart, and what one device meets the other meets too."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from bench_devices import Setup
from bench_figures import LINE_STEP, WAITED_MAX, Series, Turn, Variant, results
from bench_machine import NotMeasured, Watch, dpdk_forget, end, spawn

RING = 256
WINDOWS_MAX = 1000  # of the generator
STOP_S = 5.0


@dataclass(frozen=True)
class Point:
    """One line of the table, but for the variants: those are measured beside each other."""
    case: str
    size: str
    touch: bool


def frame_bytes(size: str) -> int:
    return 60 if size == "imix" else int(size) - 4


def generator_ports(case: str, sockets: dict[str, str], variant: Variant) -> list[str]:
    options = f",queue_size={RING}" + variant.port_options()
    words: list[str] = []
    for name, path in sockets.items():
        words += ["--port", f"{name}={path}{options}"]
    if case in ("wire", "tap", "bump"):
        words += ["--stream", "a>b"]
    if case == "tap" and "mon" in sockets:
        words += ["--monitor", "mon"]
    if case == "bump":
        words += ["--reflect", "fw-in:fw-out"]
    if case == "nic-rx":
        words += ["--monitor", "b"]
    if case == "nic-tx":
        words += ["--stream", "a>"]
    return words


def check_length(case: str, size: str, received: list[float]) -> None:
    """A device that delivers something else than was sent isn't fast, it is broken."""
    if case == "nic-tx" or received[0] == 0:
        return
    mean = received[1] * 1000 / 8 / received[0]
    expected = (7 * 60 + 4 * 590 + 1514) / 12 if size == "imix" else frame_bytes(size)
    if abs(mean - expected) > 0.01 * expected + 1:
        raise NotMeasured(f"frames of {mean:.1f} bytes arrived where {expected:.1f} were sent")


def stop(pid: int) -> None:
    """SIGSTOP, and the wait until the process has left its CPU."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_S
    with contextlib.suppress(OSError):  # it is gone: whoever asks it next finds out why
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZX":
            if time.monotonic() > deadline:
                raise NotMeasured(f"process {pid} doesn't stop")
            time.sleep(0.001)


def line_ns(args: Any) -> float | None:
    """How long a cache line takes between the device's and the generator's CPU, which are idle now."""
    if args.line_ns is None:
        return None
    try:
        done = subprocess.run([args.line_ns, str(args.dut_core), str(args.generator_core)], capture_output=True, text=True,
                              timeout=STOP_S, check=True, stdin=subprocess.DEVNULL)
        return float(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


class Runner:
    """A device that is up with its generator. Between turns the device is stopped and the generator waits."""

    def __init__(self, args: Any, point: Point, variant: Variant, make: Callable[[Setup], Any], huge: bool) -> None:
        self._args, self._point, self._variant = args, point, variant
        self._received = [0.0, 0.0]  # millions of frames, gigabits
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            if point.case == "nic-rx" and point.size == "imix":
                raise NotMeasured("the null device makes frames of one size only")
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patchbay-bench-")))
            stack.push(self._keep_logs)
            self.device = make(Setup(point.case, frame_bytes(point.size), self._directory, args.dut_core, huge, RING))
            stack.callback(self.device.close)
            stack.callback(self._continue)
            self._errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            command = [args.generator, "rate", *generator_ports(point.case, self.device.sockets, variant), "--core",
                       str(args.generator_core), "--size", point.size, "--huge", "on" if huge else "off", "--warmup",
                       str(args.warmup), "--seconds", str(args.seconds), "--windows", str(WINDOWS_MAX), "--wait", "15",
                       "--pool", str(args.pool), "--driver", args.driver, "--on-request"]
            self._generator = spawn(command + ["--touch"] * point.touch, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=self._errors, text=True, bufsize=1)
            stack.callback(dpdk_forget, f"patchbay-traffic-{self._generator.pid}")
            stack.callback(end, self._generator)
            self._window()  # all is connected, and everybody's buffers have been used
            stop(self.device.pid)
            self._stack = stack.pop_all()

    def _keep_logs(self, kind: Any, error: Any, _: Any) -> None:
        if kind is None or self._args.logs is None:
            return
        for log in self._directory.glob("*.log"):
            with contextlib.suppress(OSError):
                shutil.copy(log, Path(self._args.logs) / f"{self._point.case}-{self._point.size}-{self._variant.ring}-{log.name}")

    def _continue(self) -> None:
        with contextlib.suppress(OSError):
            os.kill(self.device.pid, signal.SIGCONT)

    def _window(self) -> dict:
        with contextlib.suppress(OSError):
            self._generator.stdin.write("\n")
        line = self._generator.stdout.readline()
        if not line:
            self._generator.wait(15)
            self._errors.seek(0)
            raise NotMeasured("generator: " + (self._errors.read().strip().splitlines() or ["no message"])[-1])
        return json.loads(line)

    def turn(self) -> Turn:
        """Wakes the device, measures and puts it to rest. The device's own figures are asked for while nothing is sent: they
        are of the windows with their warm-ups and nothing else."""
        turn, line = Turn(), line_ns(self._args)
        port, rate = {"nic-tx": ("a", "tx_mpps")}.get(self._point.case, ("b", "rx_mpps"))
        self._continue()
        first, watch = self.device.work(), Watch(self._generator.pid, self.device.pid)
        for _ in range(self._args.windows):
            window = self._window()
            ports = {entry["port"]: entry for entry in window["ports"]}
            turn.windows.append(ports[port][rate])
            turn.idle.append(window["idle_share"])
            self._received[0] += ports[port]["rx_mpps"]
            self._received[1] += ports[port]["rx_gbps"]
            if "mon" in ports:
                turn.tap.append(ports["mon"]["rx_mpps"])
        turn.waited, last = watch.waited(), self.device.work()
        stop(self.device.pid)
        line_after = line_ns(self._args)
        if line is not None and line_after is not None and max(line, line_after) < LINE_STEP * min(line, line_after):
            turn.line_ns = round((line + line_after) / 2, 1)
        if max(turn.windows) == 0:
            raise NotMeasured("no frame came through")
        check_length(self._point.case, self._point.size, self._received)
        if first is not None and last is not None and last.frames > first.frames:
            # Through an appliance a worker handles each frame twice.
            legs = 2 if self._point.case == "bump" else 1
            turn.cycles = legs * (last.cycles - first.cycles) / (last.frames - first.frames)
            turn.stages = {name: legs * cycles for name, cycles in last.stages_since(first).items()}
        return turn

    def undisturbed_turn(self, series: Series) -> Turn:
        """A turn; again when other programs disturbed the measurement."""
        best = None
        for attempt in range(self._args.repeats + 1):
            turn = self.turn()
            if best is None or turn.waited < best.waited:
                best = turn
            if turn.waited <= WAITED_MAX:
                break
            series.repeats += attempt < self._args.repeats
        return best

    def close(self) -> None:
        self._stack.close()

    def fail(self, error: BaseException) -> None:
        """Closes, and keeps the logs if that is wanted."""
        self._stack.__exit__(type(error), error, None)


def take_turns(args: Any, point: Point, huge: bool, group: dict[tuple[str, Variant], Series], makers: dict[str, Callable]) -> None:
    """Starts all of a group, lets them take their turns, and ends them."""
    runners: dict[tuple[str, Variant], Runner] = {}

    def fail(key: tuple[str, Variant], error: BaseException) -> None:
        group[key].problem = str(error)
        if key in runners:
            runners.pop(key).fail(error)

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [runner.close() for runner in runners.values()])
        for key, series in group.items():
            if series.problem is None:
                try:
                    runners[key] = Runner(args, point, key[1], makers[key[0]], huge)
                except (NotMeasured, OSError, ValueError, subprocess.SubprocessError) as error:
                    fail(key, error)
        for _ in range(args.turns):
            number = max(len(series.turns) for series in group.values())
            for key, runner in list(runners.items()):
                try:
                    turn = runner.undisturbed_turn(group[key])
                    turn.number = number
                    group[key].turns.append(turn)
                except (NotMeasured, OSError, ValueError, subprocess.SubprocessError) as error:
                    fail(key, error)


def measure_point(args: Any, point: Point, huge: bool, together: bool, makers: dict[str, Callable]) -> list[dict]:
    """together: all kinds of rings take turns with each other; else each with the peer alone, for want of memory."""
    series = {(name, variant): Series() for variant in args.variants for name in makers}
    groups = [series] if together else [{key: own for key, own in series.items() if key[1] == variant}
                                        for variant in args.variants]
    for _ in range(args.rounds):
        for group in groups:
            take_turns(args, point, huge, group, makers)
    return results(point.case, point.size, point.touch, series)
