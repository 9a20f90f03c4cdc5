# SPDX-License-Identifier: BSD-3-Clause
"""What happens to a vif while its worker is in the middle of its frames: queues go off and on, memory comes, goes, is
replaced or truncated, the front end dies. With AddressSanitizer an access to memory that is gone ends the host."""
from __future__ import annotations

import os
import struct
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path

import frontend
from frontend import GUEST_BASE, NEED_REPLY, RECEIVE, TRANSMIT, USER_BASE, WRITE, FrontEnd
from pump import FEATURES, PACKED_FEATURES, Pump, describe, prime
from support import Flow, HostCase, frame, number, wait_for

MORE_GUEST, MORE_USER, MORE_SIZE = GUEST_BASE + (1 << 32), USER_BASE + (1 << 32), 1 << 20


class Case(HostCase):
    features = FEATURES  # of pumped ends

    def pumped(self, slot: int, **options: object) -> FrontEnd:
        """An end for a pump: attached, its receive ring full, its transmit ring ready."""
        end = self.started(slot, features=self.features, **options)
        self.assertEqual(end.features, self.features)
        prime(end, 1514)
        return end

    def pump(self, senders: list[FrontEnd], receivers: list[FrontEnd]) -> Pump:
        pump = Pump(senders, receivers)
        self.addCleanup(pump.close)
        self.assertTrue(wait_for(lambda: all(pump.numbers[1 + i] for i in range(len(pump.ends)))), "nothing flows")
        return pump

    def moving(self, pump: Pump, end: FrontEnd, ring: int, least: int = 64) -> None:
        """Waits until more buffers of the ring have been used, so that the worker is at it again."""
        before = pump.count(end, ring)
        self.assertTrue(wait_for(lambda: pump.count(end, ring) >= before + least), "nothing flows any more")

    def leg(self, wire: int, direction: int) -> list[int]:
        """Received, delivered, dropped, tapped, not tapped; once they stand still."""
        last: list[int] = []

        def still() -> bool:
            nonlocal last
            before, last = last, self.host.numbers(f"leg {wire} {direction}")
            return before == last

        self.assertTrue(wait_for(still))
        return last

    def add_monitor(self) -> FrontEnd:
        self.host.must(f"vif 4 vhost-server {self.path('4.sock')} 0600")
        self.addCleanup(self.host.must, "rm 4")
        self.addCleanup(self.host.must, "wires")
        self.poke()
        end = FrontEnd(self.path("4.sock"), features=self.features)
        self.addCleanup(end.close)
        end.connect()
        end.start()
        self.wait_link(4, "up")
        return end


class Enable(Case):
    """SET_VRING_ENABLE while frames flow."""

    def toggled(self, end: FrontEnd, rings: tuple[int, ...], times: int) -> tuple[list[int], int]:
        """Numbered frames from slot 0 to slot 1 while end's rings go off and on so many times; returns the numbers that
        arrived and how many were sent."""
        sender, receiver = self.ends
        sent, got = 0, []
        failed: list[BaseException] = []
        done = threading.Event()

        def toggle() -> None:
            try:
                for turn in range(times):
                    for on in (0, 1):
                        for ring in rings:
                            end.send(frontend.SET_VRING_ENABLE, struct.pack("<II", ring, on))
                        end.sync()
                    # Each time frames flow again before the next one.
                    seen = len(got)
                    if not wait_for(lambda: len(got) > seen):
                        raise AssertionError(f"no frame came through after turn {turn}: {self.host.state(0)} "
                                             f"{self.host.state(1)}")
            except BaseException as error:  # for the main thread
                failed.append(error)
            finally:
                done.set()

        thread = threading.Thread(target=toggle)
        thread.start()
        self.addCleanup(thread.join)
        while not done.is_set():
            sent += sender.transmit([frame(sent + i) for i in range(32)])
            got += [number(data) for data in receiver.received()]
        def collected() -> bool:
            sender.reclaim()
            got.extend(number(data) for data in receiver.received())
            return len(sender.rings[TRANSMIT].free) == 256 and len(got) >= self.host.numbers("leg 0 0")[1]

        self.assertTrue(wait_for(collected), self.host.numbers("leg 0 0"))
        if failed:
            raise failed[0]
        return got, sent

    def setUp(self) -> None:
        super().setUp()
        self.ends = self.started(0), self.started(1)

    def test_the_sender_goes_off_and_on(self) -> None:
        """What it had made available waits in its ring."""
        got, sent = self.toggled(self.ends[0], (TRANSMIT,), 200)
        self.assertEqual(got, list(range(sent)))
        self.assertEqual(self.leg(0, 0)[:3], [sent, sent, 0])

    def test_the_receiver_goes_off_and_on(self) -> None:
        """What comes while it is off is dropped and counted, to the frame; nothing comes twice or out of order."""
        got, sent = self.toggled(self.ends[1], (RECEIVE,), 200)
        self.assertEqual(got, sorted(set(got)), "doubled or out of order")
        received, delivered, dropped = self.leg(0, 0)[:3]
        self.assertEqual((received, delivered), (sent, len(got)))
        self.assertEqual(dropped, sent - len(got))

    def test_one_worker_in_its_burst(self) -> None:
        """The same with rings that are never empty, both ways at once."""
        a, b = (self.pumped_again(slot) for slot in (0, 1))
        pump = self.pump([a, b], [a, b])
        for _ in range(150):
            for end in (a, b):
                for ring in (RECEIVE, TRANSMIT):
                    end.ring_state(frontend.SET_VRING_ENABLE, ring, 0)
                    end.ring_state(frontend.SET_VRING_ENABLE, ring, 1)
            a.sync()
            b.sync()
        for end in (a, b):
            self.moving(pump, end, TRANSMIT)
        self.assertTrue(pump.drain())
        for direction, (sender, receiver) in enumerate(((a, b), (b, a))):
            received, delivered, dropped = self.leg(0, direction)[:3]
            self.assertEqual(received, pump.count(sender, TRANSMIT))
            self.assertEqual(delivered, pump.count(receiver, RECEIVE))
            self.assertEqual(received, delivered + dropped)

    def pumped_again(self, slot: int) -> FrontEnd:
        self.ends[slot].close()
        self.wait_link(slot, "down")
        return self.pumped(slot)


class TakenAway(Case):
    """Memory that the worker is just using."""
    turns = 4

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.pumped(0), self.pumped(1)
        self.more = os.memfd_create("more", os.MFD_CLOEXEC)
        self.addCleanup(os.close, self.more)
        os.ftruncate(self.more, MORE_SIZE)
        self.neighbour = Flow(self, *self.neighbours())
        self.addCleanup(self.neighbour.ended.set)

    def memory(self, end: FrontEnd, more: bool) -> None:
        regions, fds = [(GUEST_BASE, end.memory_size, USER_BASE, 0)], (end.memory_fd,)
        if more:
            regions.append((MORE_GUEST, MORE_SIZE, MORE_USER, 0))
            fds += (self.more,)
        self.assertTrue(end.acked(frontend.SET_MEM_TABLE, end.memory_table(regions), fds))

    def use_more(self, end: FrontEnd) -> None:
        """Every other buffer of both rings lies in the region that comes and goes."""
        for index in (RECEIVE, TRANSMIT):
            ring = end.rings[index]
            size = frontend.BUFFER_SIZE if index == RECEIVE else end.header_size + 1514
            for head in range(0, ring.size, 2):
                describe(ring, head, MORE_GUEST + 2048 * (head % 256), size, WRITE if index == RECEIVE else 0)

    def test_a_region_with_buffers(self) -> None:
        """It goes while the worker reads from it and writes to it: those buffers are bad then, others are served."""
        for end in (self.a, self.b):
            self.memory(end, True)
            self.use_more(end)
        pump = self.pump([self.a, self.b], [self.a, self.b])
        for _ in range(60):
            for more in (False, True):
                for end in (self.a, self.b):
                    self.moving(pump, end, TRANSMIT)
                    self.memory(end, more)
        for end in (self.a, self.b):
            self.moving(pump, end, TRANSMIT)
        self.assertTrue(pump.drain())
        legs = [self.leg(0, direction) for direction in (0, 1)]
        for slot, end in enumerate((self.a, self.b)):
            received, delivered, dropped = legs[slot][:3]
            self.assertEqual(received, delivered + dropped)
            # Discarded are what it sent from there, and buffers that it offered there: given back with nothing in them.
            bad_frames = pump.count(end, TRANSMIT) - received
            bad_buffers = pump.count(end, RECEIVE) - legs[1 - slot][1]
            self.assertEqual(self.host.numbers(f"count {slot}")[2], bad_frames + bad_buffers)
            self.assertGreater(min(bad_frames, bad_buffers), 0, "its memory never went while it was in use")
            self.assertEqual(self.host.state(slot).link, "up")
        self.neighbour.stop()

    def test_all_of_it_is_replaced(self) -> None:
        """The same memory at another place each time: nothing is lost or doubled by it."""
        pump = self.pump([self.a, self.b], [self.a, self.b])
        for turn in range(100):
            for end in (self.a, self.b):
                self.moving(pump, end, TRANSMIT)
                self.memory(end, turn % 2 == 0)
        for end in (self.a, self.b):
            self.moving(pump, end, TRANSMIT)
        self.assertTrue(pump.drain())
        for direction, (sender, receiver) in enumerate(((self.a, self.b), (self.b, self.a))):
            count = pump.count(sender, TRANSMIT)
            self.assertEqual(self.leg(0, direction)[:3], [count, count, 0])
            self.assertEqual(pump.count(receiver, RECEIVE), count)
        self.neighbour.stop()

    def test_without_another(self) -> None:
        """By messages that take it all: one that fails half-way, a table of nothing, a reset, a stop, the end."""
        def failing(end: FrontEnd) -> None:
            self.assertFalse(end.acked(frontend.SET_MEM_TABLE, end.memory_table(), ()))

        def nothing(end: FrontEnd) -> None:
            end.send(frontend.SET_MEM_TABLE, end.memory_table([]), (), NEED_REPLY)
            end.receive()

        def other(end: FrontEnd) -> None:
            regions = [(MORE_GUEST, MORE_SIZE, MORE_USER, 0)]
            self.assertTrue(end.acked(frontend.SET_MEM_TABLE, end.memory_table(regions), (self.more,)))

        def reset(end: FrontEnd) -> None:
            end.send(frontend.RESET_OWNER)
            end.sync()

        def stop(end: FrontEnd) -> None:
            end.stop()

        def leave(end: FrontEnd) -> None:
            end.disconnect()

        for turn in range(self.turns):
            for take in (failing, nothing, other, reset, stop, leave):
                for slot in (0, 1):
                    with self.subTest(take=take.__name__, slot=slot, turn=turn):
                        self.taken(slot, take)
        self.neighbour.stop()

    def taken(self, slot: int, take: Callable[[FrontEnd], None]) -> None:
        ends = [self.a, self.b]
        pump = self.pump(ends, ends)
        self.moving(pump, ends[slot], TRANSMIT)
        take(ends[slot])
        # For whoever still believes in it the time to touch it.
        time.sleep(0.02)
        pump.close()
        for i, end in enumerate(ends):
            end.close()
            self.wait_link(i, "down", "waiting")
        self.a, self.b = self.pumped(0), self.pumped(1)


class Truncated(Case):
    """A peer that truncates the file of its memory while the worker is in a burst of its wire: its vif is broken, and
    the neighbour's frames, on the same worker, are all there."""

    def truncate(self, slot: int, keep: Callable[[FrontEnd], int], tapped: bool = False, huge: bool = False) -> None:
        left, right = self.neighbours()
        ends = [self.pumped(i, huge=huge and i == slot) for i in (0, 1)]
        if tapped:
            ends.append(self.add_monitor())
            self.host.must("wires 0:1:4 2:3")
        flow = Flow(self, left, right)
        self.addCleanup(flow.ended.set)
        pump = self.pump(ends[:2], ends)
        other = 1 - slot if slot < 2 else 0
        victim = {2: 4}.get(slot, slot)
        self.moving(pump, ends[slot], RECEIVE)
        turns = flow.turns
        os.ftruncate(ends[slot].memory_fd, keep(ends[slot]))
        for ring in ends[slot].rings:  # should the worker have had nothing to do just then
            os.eventfd_write(ring.kick_fd, 1)
        self.wait_link(victim, "broken", "truncated")
        self.assertTrue(wait_for(lambda: flow.turns > turns + 10), flow.failed)
        # The wire itself goes on: what is sent to an end that is broken is dropped, and a monitor isn't missed.
        if keep(ends[slot]) > 0:  # the pump still has its rings
            self.moving(pump, ends[1 if slot == 0 else 0], TRANSMIT)
        pump.close()
        flow.stop()
        self.assertEqual(self.host.numbers("leg 1 0")[2], 0)
        self.assertEqual(self.host.numbers("leg 1 1")[2], 0)
        self.assertEqual(self.host.state(other).link, "up")
        for end in ends:
            end.close()
        for i in {0, 1, victim}:
            self.wait_link(i, "down", "waiting")
        self.host.must("wires 0:1 2:3")
        self.check_flow(self.started(0), self.started(1))

    def test_all_of_it(self) -> None:
        self.truncate(0, lambda end: 0)

    def test_all_of_the_receiver(self) -> None:
        self.truncate(1, lambda end: 0)

    def test_receive_buffers(self) -> None:
        """The rings stay: the first who touches what is gone is a copy."""
        self.truncate(1, lambda end: end.rings[RECEIVE].buffers)

    def test_what_is_sent(self) -> None:
        self.truncate(0, lambda end: end.rings[TRANSMIT].buffers)

    def test_half_of_what_is_sent(self) -> None:
        self.truncate(0, lambda end: end.rings[TRANSMIT].buffer(128) + 4096)

    def test_the_monitor(self) -> None:
        """Of a wire with a tap, in the pass that writes both."""
        self.truncate(2, lambda end: end.rings[RECEIVE].buffers, tapped=True)

    def test_the_sender_of_a_tapped_wire(self) -> None:
        self.truncate(0, lambda end: end.rings[TRANSMIT].buffers, tapped=True)

    def on_huge_pages(self, slot: int, keep: int) -> None:
        """The victim's memory; a mapping of huge pages can't be mended in pieces of 4 kB."""
        count = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
        try:
            before = int(count.read_text())
            self.addCleanup(count.write_text, str(before))
            count.write_text(str(before + 4))  # two for the memory, and some that others take meanwhile
            with FrontEnd(self.path("probe"), huge=True):
                pass
        except OSError as error:
            self.skipTest(f"huge pages: none of 2 MiB can be had: {error}")
        self.truncate(slot, lambda end: keep, huge=True)

    def test_all_of_it_on_huge_pages(self) -> None:
        self.on_huge_pages(0, 0)

    def test_receive_buffers_on_huge_pages(self) -> None:
        self.on_huge_pages(1, frontend.HUGE_PAGE)

    def test_what_is_sent_on_huge_pages(self) -> None:
        self.on_huge_pages(0, frontend.HUGE_PAGE)


# The same with packed rings, which tell in the memory itself where they stand: without the cases that would only differ
# in what is written to it.


class PackedEnable(Enable):
    features = PACKED_FEATURES
    test_the_sender_goes_off_and_on = test_the_receiver_goes_off_and_on = None  # test_packed.py has numbered frames


class PackedTakenAway(TakenAway):
    features = PACKED_FEATURES
    turns = 1


class PackedTruncated(Truncated):
    features = PACKED_FEATURES
    test_all_of_the_receiver = test_half_of_what_is_sent = test_the_sender_of_a_tapped_wire = None


if __name__ == "__main__":
    unittest.main()
