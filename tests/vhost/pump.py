# SPDX-License-Identifier: BSD-3-Clause
"""Drivers that keep a worker in its burst: a process that makes each buffer available again as soon as it was used, and
counts. What it sends is the same every time; who wants to tell frames apart uses FrontEnd's own driver."""
from __future__ import annotations

import mmap
import os
import signal
import struct
from dataclasses import dataclass

import frontend
from frontend import GUEST_BASE, RECEIVE, TRANSMIT, FrontEnd
from support import frame, wait_for

# Split rings without event index: a look at a flag says whether the device wants to be kicked.
FEATURES = frontend.USUAL & ~frontend.EVENT_IDX
RUN, DRAIN = 1, 2
TURNS = 100  # how often the process has looked at all of its rings


def prime(end: FrontEnd, size: int = 60) -> None:
    """Fills the transmit ring with frames of size bytes; the pump makes them available."""
    ring = end.rings[TRANSMIT]
    for head in range(ring.size):
        end.write(ring.buffer(head), bytes(end.header_size) + frame(head, size))
        ring.set_desc(head, GUEST_BASE + ring.buffer(head), end.header_size + size, 0)
        end.write(ring.avail + 4 + 2 * head, struct.pack("<H", head))
    ring.free = []


@dataclass
class Place:
    """A ring as words of 16 bits of its end's memory."""
    words: memoryview
    avail: int
    used: int
    size: int
    kick_fd: int
    sends: bool


class Pump:
    """senders, receivers: ends whose transmit or receive rings are kept full, primed and posted before. All in one
    process, which ends with SIGBUS when somebody takes the memory away from under it."""

    def __init__(self, senders: list[FrontEnd], receivers: list[FrontEnd]) -> None:
        self.ends = [(end, TRANSMIT) for end in senders] + [(end, RECEIVE) for end in receivers]
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.numbers = memoryview(self.shared).cast("Q")  # what is to be done; then how many each ring has had used
        self.numbers[0] = RUN
        places = []
        for end, index in self.ends:
            ring = end.rings[index]
            end.write(ring.avail, struct.pack("<H", frontend.NO_INTERRUPT))
            places.append(Place(memoryview(end.memory).cast("H"), ring.avail // 2, ring.used // 2, ring.size,
                                ring.kick_fd, index == TRANSMIT))
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._run(places)
            finally:
                os._exit(1)
        for place in places:
            place.words.release()

    def _run(self, places: list[Place]) -> None:
        parent = os.getppid()
        last = [place.words[place.used + 1] for place in places]
        numbers = self.numbers
        turns = 0
        while True:
            turns += 1
            numbers[TURNS] = turns
            if turns & 0xffff == 0 and os.getppid() != parent:
                os._exit(0)
            for number, place in enumerate(places):
                words = place.words
                used = words[place.used + 1]
                if used != last[number]:
                    numbers[1 + number] += (used - last[number]) & 0xffff
                    last[number] = used
                if not place.sends or numbers[0] == RUN:
                    words[place.avail + 1] = (used + place.size) & 0xffff
                if not words[place.used] & frontend.NO_NOTIFY and words[place.avail + 1] != used:
                    try:
                        os.eventfd_write(place.kick_fd, 1)
                    except BlockingIOError:
                        pass

    def count(self, end: FrontEnd, ring: int) -> int:
        """Buffers of this ring that have been used since the start."""
        return self.numbers[1 + self.ends.index((end, ring))]

    def drain(self) -> bool:
        """Nothing more is sent. True once all that was sent has been used; then the counts stand still."""
        self.numbers[0] = DRAIN

        def done() -> bool:
            return all(end.u16(end.rings[index].avail + 2) == end.u16(end.rings[index].used + 2)
                       for end, index in self.ends if index == TRANSMIT)

        if not wait_for(done, 20):
            return False
        turns = self.numbers[TURNS]
        return wait_for(lambda: self.numbers[TURNS] >= turns + 2)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self.numbers.release()
            self.shared.close()
