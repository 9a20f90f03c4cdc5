# SPDX-License-Identifier: BSD-3-Clause
"""Drivers that keep a worker in its burst: a process that makes each buffer available again as soon as it was used, and
counts. What it sends is the same every time; who wants to tell frames apart uses FrontEnd's own driver."""
from __future__ import annotations

import mmap
import os
import signal
import struct

import frontend
from frontend import AVAIL, EVENT_DISABLE, GUEST_BASE, RECEIVE, TRANSMIT, USED, WRITE, FrontEnd, PackedRing, Ring
from support import frame, wait_for

# Rings without event index: a look at a flag says whether the device wants to be kicked.
FEATURES = frontend.USUAL & ~frontend.EVENT_IDX
PACKED_FEATURES = FEATURES | frontend.RING_PACKED
RUN, DRAIN = 1, 2
TURNS = 100   # how often the process has looked at all of its rings
OFFERED = 200  # from here on: how many buffers of each ring were made available


def describe(ring: Ring, head: int, address: int, size: int, flags: int) -> None:
    """Changes a buffer that is in the ring, where no pump runs yet. A packed ring's are at the place of their number, and
    stay available, or not yet so, as they are."""
    if isinstance(ring, PackedRing):
        ring.end.write(ring.desc + 16 * head, struct.pack("<QIH", address, size, head))
    else:
        ring.set_desc(head, address, size, flags)


def prime(end: FrontEnd, size: int = 60) -> None:
    """Fills the transmit ring with frames of size bytes; the pump makes them available."""
    ring = end.rings[TRANSMIT]
    for head in range(ring.size):
        end.write(ring.buffer(head), bytes(end.header_size) + frame(head, size))
        describe(ring, head, GUEST_BASE + ring.buffer(head), end.header_size + size, 0)
        if not isinstance(ring, PackedRing):
            end.write(ring.avail + 4 + 2 * head, struct.pack("<H", head))
    ring.free = []


class Place:
    """A ring as words of 16 bits of its end's memory."""

    def __init__(self, end: FrontEnd, index: int) -> None:
        ring = end.rings[index]
        self.words = memoryview(end.memory).cast("H")
        self.avail, self.used, self.size = ring.avail // 2, ring.used // 2, ring.size
        self.kick_fd, self.sends = ring.kick_fd, index == TRANSMIT

    def open(self) -> int:
        """Returns how many buffers are available."""
        self.words[self.avail] = frontend.NO_INTERRUPT
        self.last = self.words[self.used + 1]
        return (self.words[self.avail + 1] - self.last) & 0xffff

    def take(self) -> int:
        """How many buffers have been used since it was asked last."""
        before, self.last = self.last, self.words[self.used + 1]
        return (self.last - before) & 0xffff

    def offer(self) -> int:
        """Makes all that were taken available, at first all there are; returns how many."""
        before = self.words[self.avail + 1]
        self.words[self.avail + 1] = after = (self.last + self.size) & 0xffff
        return (after - before) & 0xffff

    def wanted(self) -> bool:
        """The device asks for a kick."""
        return not self.words[self.used] & frontend.NO_NOTIFY


class PackedPlace(Place):
    """Buffers are of one descriptor each, and stay where they are: the device gives them back in order."""

    def __init__(self, end: FrontEnd, index: int) -> None:
        super().__init__(end, index)
        self.ring = end.rings[index].desc // 2
        self.flags = 0 if self.sends else WRITE
        # The device writes another length.
        self.lengths = [(self.words[at + 4], self.words[at + 5])
                        for at in range(self.ring, self.ring + 8 * self.size, 8)]

    def open(self) -> int:
        self.words[self.avail + 1] = EVENT_DISABLE
        self.next, self.wrap = 0, True           # where the next one becomes used
        self.again, self.again_wrap = 0, True    # and is made available again
        if self.sends:
            return 0
        self.again_wrap = False  # FrontEnd.post has been once around
        return self.size

    def take(self) -> int:
        words, count = self.words, 0
        while count < self.size:
            done = AVAIL | USED if self.wrap else 0
            if words[self.ring + 8 * self.next + 7] & (AVAIL | USED) != done:
                break
            count += 1
            self.next += 1
            if self.next == self.size:
                self.next, self.wrap = 0, not self.wrap
        return count

    def offer(self) -> int:
        words, count = self.words, 0
        # A whole ring ahead of what is used, it is in the lap behind.
        while (self.again, self.again_wrap) != (self.next, not self.wrap):
            at = self.ring + 8 * self.again
            words[at + 4], words[at + 5] = self.lengths[self.again]
            words[at + 7] = self.flags | (AVAIL if self.again_wrap else USED)
            count += 1
            self.again += 1
            if self.again == self.size:
                self.again, self.again_wrap = 0, not self.again_wrap
        return count

    def wanted(self) -> bool:
        return self.words[self.used + 1] != EVENT_DISABLE


class Pump:
    """senders, receivers: ends whose transmit or receive rings are kept full, primed and posted before. All in one
    process, which ends with SIGBUS when somebody takes the memory away from under it."""

    def __init__(self, senders: list[FrontEnd], receivers: list[FrontEnd]) -> None:
        self.ends = [(end, TRANSMIT) for end in senders] + [(end, RECEIVE) for end in receivers]
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.numbers = memoryview(self.shared).cast("Q")  # what is to be done; then how many each ring has had used
        self.numbers[0] = RUN
        places = [(PackedPlace if isinstance(end.rings[index], PackedRing) else Place)(end, index)
                  for end, index in self.ends]
        for number, place in enumerate(places):
            self.numbers[OFFERED + number] = place.open()
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
        numbers = self.numbers
        turns = 0
        while True:
            turns += 1
            numbers[TURNS] = turns
            if turns & 0xffff == 0 and os.getppid() != parent:
                os._exit(0)
            for number, place in enumerate(places):
                used = place.take()
                if used:
                    numbers[1 + number] += used
                if not place.sends or numbers[0] == RUN:
                    numbers[OFFERED + number] += place.offer()
                if numbers[OFFERED + number] != numbers[1 + number] and place.wanted():
                    try:
                        os.eventfd_write(place.kick_fd, 1)
                    except BlockingIOError:
                        pass

    def count(self, end: FrontEnd, ring: int) -> int:
        """Buffers of this ring that have been used since the start."""
        return self.numbers[1 + self.ends.index((end, ring))]

    def _turn(self) -> bool:
        """Returns when all rings have been looked at once more."""
        turns = self.numbers[TURNS]
        return wait_for(lambda: self.numbers[TURNS] >= turns + 2)

    def drain(self) -> bool:
        """Nothing more is sent. True once all that was sent has been used; then the counts stand still."""
        self.numbers[0] = DRAIN

        def done() -> bool:
            return all(self.numbers[OFFERED + number] == self.numbers[1 + number]
                       for number, (_, index) in enumerate(self.ends) if index == TRANSMIT)

        return self._turn() and wait_for(done) and self._turn()

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self.numbers.release()
            self.shared.close()
