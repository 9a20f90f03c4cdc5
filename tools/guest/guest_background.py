# SPDX-License-Identifier: BSD-3-Clause
"""Processes that run on in a guest: what Guest.spawn() and Guest.capture() return."""
from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from guest import Guest


class Background:
    """A process group in the guest that Guest.spawn() made."""

    def __init__(self, guest: Guest, command: str, base: str, pid: int):
        self.guest, self.command, self.base, self.pid = guest, command, base, pid

    def output(self) -> str:
        """What it has written so far to stdout and stderr."""
        return self.guest.read_file(f"{self.base}.out").decode(errors="replace")

    def running(self) -> bool:
        return self.guest.run(f"test -e {self.base}.rc")[0] != 0

    def wait(self, timeout: float = 30.0) -> int:
        """Waits for its end, returns its exit code."""
        return int(self.guest.wait_until(f"cat {self.base}.rc 2>/dev/null", timeout))

    def stop(self, signal_name: str = "TERM", timeout: float = 30.0) -> int:
        """Signals the whole group unless it has ended, waits until nothing of it is left (a capture is then complete),
        returns the exit code. Shells make background processes ignore SIGINT, so that one stops nothing."""
        self.guest.run(f"test -e {self.base}.rc || kill -s {signal_name} -- -{self.pid}")
        self.guest.wait_until(f"test -e {self.base}.rc && ! kill -s 0 -- -{self.pid} 2>/dev/null", timeout)
        return self.wait(timeout)


class Capture(Background):
    """A running tcpdump in the guest that Guest.capture() made."""

    def __init__(self, process: Background, path: str):
        super().__init__(process.guest, process.command, process.base, process.pid)
        self.path = path
        self.received = self.dropped = 0

    def finish(self) -> list[bytes]:
        """Stops it once the file has stopped growing, returns the frames. `received` and `dropped` then have tcpdump's
        own count of frames that passed its filter and of those that the guest's kernel had no room for."""
        size = f"$(stat -c %s {self.path})"
        self.guest.check(f"last=; until [ \"$last\" = {size} ]; do last={size}; sleep 0.3; done", 60)
        self.stop()
        text = self.output()
        counts = [re.search(rf"(\d+) packets? {words}", text) for words in ("received by filter", "dropped by kernel")]
        if None in counts:
            raise AssertionError(f"guest {self.guest.name}: tcpdump didn't end well:\n{text}")
        self.received, self.dropped = (int(match[1]) for match in counts if match)
        data = self.guest.read_file(self.path)
        self.guest.check(["rm", "-f", self.path])
        return list(parse_pcap(data))


def parse_pcap(data: bytes) -> Iterator[bytes]:
    """The frames of a pcap file that the guest (same byte order) wrote."""
    if len(data) < 24 or struct.unpack_from("<I", data)[0] not in (0xA1B2C3D4, 0xA1B23C4D):
        raise AssertionError(f"not a pcap file: {data[:24]!r}")
    offset = 24
    while offset < len(data):
        size = struct.unpack_from("<I", data, offset + 8)[0]
        if offset + 16 + size > len(data):
            raise AssertionError("the pcap file ends in the middle of a frame")
        yield data[offset + 16:offset + 16 + size]
        offset += 16 + size
