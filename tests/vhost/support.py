# SPDX-License-Identifier: BSD-3-Clause
"""What the vhost tests share: the host under test, and a fixture with two vifs on a wire."""
from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import frontend
from frontend import FrontEnd


@dataclass
class State:
    link: str
    queue_pairs: int
    receive_size: int
    transmit_size: int
    features: int
    reason: str


class Host:
    """The process with the dataplane; one line to it, one line back."""

    def __init__(self, mode: str = "adaptive", inherited: tuple[int, ...] = ()) -> None:
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([os.environ["VHOST_HOST"], mode], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, text=True, pass_fds=inherited)
        answer = self._line()
        assert answer == "ready", answer + self.logged()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self._line()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise AssertionError(f"the host died at '{line}': {self.process.wait(10)}\n{self.logged()}")
        return answer

    def must(self, line: str) -> None:
        answer = self.ask(line)
        assert answer == "ok", f"{line}: {answer}"

    def state(self, slot: int) -> State:
        words = self.ask(f"state {slot}").split(" ", 6)
        return State(words[1], int(words[2]), int(words[3]), int(words[4]), int(words[5], 16), words[6])

    def numbers(self, line: str) -> list[int]:
        return [int(word) for word in self.ask(line).split()[1:]]

    def logged(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-6000:]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            status = self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process.stdout.close()
        return status


def frame(number: int, size: int = 60) -> bytes:
    """A numbered frame."""
    return (bytes.fromhex("020000000001020000000002") + b"\x88\xb5" + struct.pack("<I", number)).ljust(size, b"\xa5")


def number(data: bytes) -> int:
    return struct.unpack_from("<I", data, 14)[0]


class Flow:
    """Numbered frames from one end to the other and back, in a thread of its own, until it is stopped: all of them
    arrive, once, in order."""

    def __init__(self, case: "HostCase", left: FrontEnd, right: FrontEnd) -> None:
        self.case, self.ends, self.failed, self.turns, self.ended = case, (left, right), "", 0, threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self.ended.is_set():
                self.case.check_flow(self.ends[0], self.ends[1], 20 * self.turns)
                self.case.check_flow(self.ends[1], self.ends[0], 20 * self.turns)
                self.turns += 1
        except BaseException as error:  # shown by the test's own thread
            self.failed = f"turn {self.turns}: {error!r}"

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()
        if self.failed or not self.turns:
            raise AssertionError(f"the neighbour's wire: {self.failed or 'no turn at all'}")


def wait_for(condition: Callable[[], bool], within: float = 60.0) -> bool:
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


class HostCase(unittest.TestCase):
    """A host for the class, two vhost-server vifs on a wire for each test: slot 0 ─ slot 1."""

    host: Host
    kinds = ("vhost-server", "vhost-server")
    mode = "adaptive"

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.mkdtemp(prefix="vhost-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.host = Host(cls.mode)
        # The library opens a pipe with the first socket and keeps it.
        cls.host.must(f"vif 0 vhost-server {cls.folder}/first.sock 0600")
        cls.host.must("rm 0")
        cls.poker = socket.socket(socket.AF_UNIX)
        cls.addClassCleanup(cls.poker.close)
        cls.poker.bind(f"{cls.folder}/poke.sock")
        cls.poker.listen(1)

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.host.close()
        if status != 0:
            raise AssertionError(f"the host ended with {status}\n{cls.host.logged()}")
        cls.host.log.close()

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def setUp(self) -> None:
        self.watch_descriptors()
        for slot, kind in enumerate(self.kinds):
            self.host.must(f"vif {slot} {kind} {self.path(f'{slot}.sock')} 0600")
            self.addCleanup(self.host.must, f"rm {slot}")
        self.poke()
        self.host.must("wires 0:1")
        self.addCleanup(self.host.must, "wires")

    def poke(self) -> None:
        """The library looks at sockets that have begun to listen when a connection is made elsewhere, or after a second;
        this makes one."""
        self.host.must(f"vif 999 vhost {self.path('poke.sock')} 0600")
        self.poker.accept()[0].close()
        self.host.must("rm 999")

    def watch_descriptors(self) -> None:
        """Neither the host nor the test itself may have more of them at its end."""
        self.descriptors, self.own_descriptors = self.host.descriptors(), len(os.listdir("/proc/self/fd"))
        self.addCleanup(self.check_descriptors)

    def check_descriptors(self) -> None:
        if not wait_for(lambda: self.host.descriptors() <= self.descriptors):
            names = os.popen(f"ls -l /proc/{self.host.process.pid}/fd").read()
            self.fail(f"{self.host.descriptors() - self.descriptors} descriptors leaked:\n{names}")
        if len(os.listdir("/proc/self/fd")) > self.own_descriptors:
            self.fail(f"the test itself leaked descriptors:\n{os.popen(f'ls -l /proc/{os.getpid()}/fd').read()}")

    def front_end(self, slot: int, **options: object) -> FrontEnd:
        end = FrontEnd(self.path(f"{slot}.sock"), listen=self.kinds[slot:slot + 1] == ("vhost",), **options)  # type: ignore[arg-type]
        self.addCleanup(end.close)
        return end

    def started(self, slot: int, **options: object) -> FrontEnd:
        end = self.front_end(slot, **options)
        end.connect()
        end.start()
        self.wait_link(slot, "up")
        return end

    def neighbours(self) -> tuple[FrontEnd, FrontEnd]:
        """Two sound front ends, slots 2 and 3, on a wire of their own that the same worker serves."""
        for slot in (2, 3):
            self.host.must(f"vif {slot} vhost-server {self.path(f'{slot}.sock')} 0600")
            self.addCleanup(self.host.must, f"rm {slot}")
        self.addCleanup(self.host.must, "wires")
        self.host.must("wires 0:1 2:3")
        return self.started(2), self.started(3)

    def wait_link(self, slot: int, link: str, reason: str = "") -> State:
        def there() -> bool:
            state = self.host.state(slot)
            return state.link == link and reason in state.reason

        if not wait_for(there):
            self.fail(f"vif {slot} isn't {link} ({reason}) but {self.host.state(slot)}\n{self.host.logged()}")
        return self.host.state(slot)

    def check_flow(self, sender: FrontEnd, receiver: FrontEnd, first: int = 0, count: int = 20) -> None:
        """Frames numbered from first go over the wire: all, once, in order."""
        self.assertEqual(sender.transmit([frame(first + i) for i in range(count)]), count)
        got = [number(data) for data in receiver.receive_frames(count)]
        self.assertEqual(got, list(range(first, first + count)))
        self.assertTrue(wait_for(lambda: (sender.reclaim(), len(sender.rings[frontend.TRANSMIT].free))[1] ==
                                 sender.rings[frontend.TRANSMIT].size), "buffers that were sent didn't come back")
