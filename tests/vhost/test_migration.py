# SPDX-License-Identifier: BSD-3-Clause
"""Live migration as a front end sees it: the dirty log, to the byte; changes under traffic; the announcement."""
from __future__ import annotations

import os
import struct
import threading
import unittest
from collections.abc import Callable

import frontend
from frontend import (EVENT_IDX, GUEST_BASE, LOG_ALL, MRG_RXBUF, NEXT, PAGE, RECEIVE, RING_PACKED, TRANSMIT, USUAL,
                      VERSION_1, WRITE, FrontEnd, Log)
from support import HostCase, frame, number, wait_for

MAC = bytes.fromhex("525400abcdef")
RARP = (b"\xff" * 6 + MAC + bytes.fromhex("8035 0001 0800 06 04 0003") + MAC + bytes(4) + MAC + bytes(4)).ljust(60, b"\0")


class Guest(FrontEnd):
    """Knows which pages its own driver has written since `begin`."""

    def begin(self) -> None:
        self.before = bytes(self.memory)
        self.own: set[int] = set()

    def write(self, at: int, data: bytes) -> None:
        super().write(at, data)
        if hasattr(self, "own"):
            self.own.update(range(at // PAGE * PAGE, at + len(data), PAGE))

    def migrated(self, log: Log) -> tuple[bytes, set[int]]:
        """The memory that a front end would have sent: as it was at first, then the pages that changed; and the pages
        of the log."""
        logged = {page - GUEST_BASE for page in log.pages()}
        memory = bytearray(self.before)
        for page in logged | self.own:
            memory[page:page + PAGE] = self.memory[page:page + PAGE]
        return bytes(memory), logged


class Case(HostCase):
    def guest(self, slot: int, **options: object) -> Guest:
        end = Guest(self.path(f"{slot}.sock"), listen=self.kinds[slot] == "vhost", **options)  # type: ignore[arg-type]
        self.addCleanup(end.close)
        end.connect()
        return end

    def log(self, end: int = GUEST_BASE + (4 << 20)) -> Log:
        log = Log(end)
        self.addCleanup(log.close)
        return log


def post_in_pieces(end: Guest) -> None:
    """Receive buffers of two descriptors that begin anywhere and cross pages."""
    ring = end.rings[RECEIVE]
    at = ring.buffers + 77
    while len(ring.free) >= 2:
        head, rest = ring.free.pop(), ring.free.pop()
        ring.set_desc(head, GUEST_BASE + at, 501, WRITE | NEXT, rest)
        ring.set_desc(rest, GUEST_BASE + at + 1111, 3000, WRITE)
        ring.offer(head)
        at += 4200
    ring.publish()


class DirtyLog(Case):

    def migrate(self, features: int, post: Callable[[Guest], None], sizes: list[int], ring_size: int = 64) -> None:
        """Both ends are logged while frames go both ways; what their logs say is what has changed, no more and no
        less."""
        ends = [self.guest(slot, features=features | LOG_ALL, ring_size=ring_size) for slot in (0, 1)]
        logs = [self.log(), self.log()]
        for slot, end in enumerate(ends):
            end.negotiate()
            end.features &= ~LOG_ALL
            end.u64(frontend.SET_FEATURES, end.features)
            end.set_memory()
            for ring in end.rings:
                end.set_ring(ring)
            end.enable()
            # Whatever a buffer gets, it is something else than what was there.
            end.memory[0x40000:] = b"\x5a" * (len(end.memory) - 0x40000)
            post(end)
            end.sync()
            self.wait_link(slot, "up")
        for end, log in zip(ends, logs):
            end.start_log(log)
            end.sync()
            end.begin()
        counts = [0, 0]
        for sender, receiver in ((0, 1), (1, 0)):
            sent = [frame(counts[sender] + i, size) for i, size in enumerate(sizes)]
            self.assertEqual(ends[sender].transmit(sent), len(sent))
            used = ends[receiver].rings[RECEIVE]
            chains: list[tuple[int, int]] = []
            self.assertTrue(wait_for(lambda: chains.extend(used.used_chains()) or len(chains) >= len(sent)))
            self.assertTrue(wait_for(lambda: (ends[sender].reclaim(), len(ends[sender].rings[TRANSMIT].free))[1] ==
                                     ring_size))
        for slot, end in enumerate(ends):
            bases = end.stop()  # after this the back end writes nothing
            if not features & RING_PACKED:
                self.assertEqual(bases, [end.rings[0].next_used, end.rings[1].next_used])
            memory, logged = end.migrated(logs[slot])
            now = bytes(end.memory)
            wrong = [page for page in range(0, len(now), PAGE) if memory[page:page + PAGE] != now[page:page + PAGE]]
            self.assertEqual(wrong, [], f"pages of vif {slot} that changed and aren't in the log")
            # (Our wish to be notified may be written anew as it was.)
            rings = {page for ring in end.rings for page in
                     range(ring.desc if features & RING_PACKED else ring.used, ring.used + 1, PAGE)}
            idle = [page for page in logged - rings if now[page:page + PAGE] == end.before[page:page + PAGE]]
            self.assertEqual(idle, [], f"pages in the log of vif {slot} that nobody changed")
            self.assertLessEqual(rings, logged, "used rings")
            self.assertGreater(len(logged - rings), len(sizes) // 4, "receive buffers")
            self.assertEqual({page for page in logged - rings if page < 0x40000}, set(), "neither ring nor buffer")

    def test_plain_buffers(self) -> None:
        self.migrate(USUAL, lambda end: end.post(), [60, 1514, 64, 1500, 900] * 8)

    def test_without_event_index(self) -> None:
        self.migrate(USUAL & ~EVENT_IDX, lambda end: end.post(), [60, 1514] * 10)

    def test_legacy_header(self) -> None:
        self.migrate(USUAL & ~VERSION_1 & ~MRG_RXBUF, lambda end: end.post(), [60, 1514] * 10)

    def test_buffers_in_pieces_across_pages(self) -> None:
        self.migrate(USUAL & ~MRG_RXBUF, post_in_pieces, [60, 489, 490, 1514, 2000] * 5)

    def test_merged_buffers(self) -> None:
        self.migrate(USUAL, lambda end: end.post(), [9000, 60, 4100, 2035, 2036, 2037, 6000] * 3)

    def test_packed_ring(self) -> None:
        self.migrate(USUAL | RING_PACKED, lambda end: end.post(), [60, 1514, 9000, 64, 1500] * 3)

    def test_packed_ring_wraps(self) -> None:
        self.migrate(USUAL & ~EVENT_IDX | RING_PACKED, lambda end: end.post(), [60] * 8, ring_size=8)

    def test_the_used_ring_wraps(self) -> None:
        self.migrate(USUAL, lambda end: end.post(), [60] * 8, ring_size=8)

    def test_a_tap_is_logged_too(self) -> None:
        """The monitor's guest is the one that moves."""
        self.host.must(f"vif 2 vhost-server {self.path('2.sock')} 0600")
        self.addCleanup(self.host.must, "rm 2")
        self.poke()
        self.addCleanup(self.host.must, "wires")
        self.host.must("wires 0:1:2")
        sender, receiver = self.started(0), self.started(1)
        monitor = Guest(self.path("2.sock"))
        self.addCleanup(monitor.close)
        monitor.connect()
        monitor.start()
        self.wait_link(2, "up")
        log = self.log()
        monitor.start_log(log)
        monitor.sync()
        monitor.begin()
        self.check_flow(sender, receiver, count=40)
        self.assertTrue(wait_for(lambda: monitor.u16(monitor.rings[RECEIVE].used + 2) == 40))
        monitor.stop()
        memory, logged = monitor.migrated(log)
        self.assertEqual(memory, bytes(monitor.memory))
        rings = {ring.used for ring in monitor.rings}
        self.assertIn(monitor.rings[RECEIVE].used, logged)
        self.assertEqual(len(logged - rings), 40 // 2)  # two buffers a page

    def test_only_while_it_is_wanted(self) -> None:
        sender, receiver = self.started(0), self.started(1, features=USUAL | LOG_ALL)
        receiver.log_features(False)
        receiver.sync()
        log = self.log()
        receiver.set_log(log)
        self.check_flow(sender, receiver)
        self.assertEqual(log.pages(), set())
        receiver.log_features(True)
        receiver.sync()
        self.check_flow(sender, receiver, 20)
        self.assertNotEqual(log.pages(), set())
        receiver.stop_log()
        receiver.sync()
        os.pwrite(log.fd, bytes(log.size), 0)
        self.check_flow(sender, receiver, 40)
        self.assertEqual(log.pages(), set())

    def test_changed_under_traffic(self) -> None:
        """Logs that come, change and go while numbered frames pass: none is lost, doubled or reordered, and each log
        has what was written in its time."""
        sender, receiver = self.started(0), self.guest(1, features=USUAL | LOG_ALL)
        receiver.start()
        receiver.log_features(False)
        receiver.sync()
        self.wait_link(1, "up")
        rounds, sent = 60, 0
        got: list[int] = []
        done = threading.Event()
        errors: list[BaseException] = []

        def change() -> None:
            logs: list[Log] = []
            try:
                for turn in range(rounds):
                    logs.append(Log(GUEST_BASE + (4 << 20)))
                    receiver.start_log(logs[-1])
                    receiver.sync()
                    used = receiver.rings[RECEIVE].used + 2
                    seen = receiver.u16(used)
                    if not wait_for(lambda: receiver.u16(used) != seen):
                        raise AssertionError(f"no frame came through change {turn}")
                    if not logs[-1].pages():
                        raise AssertionError(f"log {turn} is empty")
                    if turn % 3 == 2:
                        receiver.stop_log()
                        receiver.sync()
            except BaseException as error:  # for the main thread
                errors.append(error)
            finally:
                for log in logs:
                    log.close()
                done.set()

        thread = threading.Thread(target=change)
        thread.start()
        self.addCleanup(thread.join)
        while not done.is_set():
            sent += sender.transmit([frame(sent + i) for i in range(32)])
            got += [number(data) for data in receiver.received()]
        wait_for(lambda: got.extend(number(data) for data in receiver.received()) or len(got) >= sent)
        if errors:
            raise errors[0]
        self.assertEqual(got, list(range(sent)))

    # What isn't a log

    def refused(self, send: Callable[[FrontEnd], None]) -> None:
        end = self.front_end(0, features=USUAL | LOG_ALL)
        end.connect()
        end.start()
        self.wait_link(0, "up")
        send(end)
        self.assertTrue(end.closed(), "it was taken")
        end.disconnect()
        self.wait_link(0, "down")

    def test_refused(self) -> None:
        log = self.log()

        def base(size: int, offset: int, fds: tuple[int, ...]) -> Callable[[FrontEnd], None]:
            return lambda end: end.send(frontend.SET_LOG_BASE, struct.pack("<QQ", size, offset), fds)

        other = self.started(1)
        for send in (base(log.size, PAGE, (log.fd,)), base(log.size, 1, (log.fd,)), base(0, 0, (log.fd,)),
                     base(log.size + PAGE, 0, (log.fd,)), base(1 << 62, 0, (log.fd,)), base(log.size, 0, ()),
                     base(log.size, 0, (log.fd, log.fd)),
                     lambda end: end.send(frontend.SET_LOG_BASE, struct.pack("<Q", log.size), (log.fd,))):
            self.refused(send)
        sender = self.started(0)
        self.check_flow(sender, other)

    def test_too_short_for_the_memory(self) -> None:
        """What lies beyond the log isn't logged, and nothing is written behind it."""
        sender, receiver = self.started(0), self.started(1, features=USUAL | LOG_ALL)
        log = self.log(GUEST_BASE + 0x41000)
        os.ftruncate(log.fd, log.size + 1000)
        receiver.set_log(log)
        self.check_flow(sender, receiver, count=60)
        self.assertNotEqual(log.pages(), set())
        self.assertEqual(os.pread(log.fd, 1000, log.size), bytes(1000))
        self.assertIn("dirty log ends before the guest's memory", self.host.logged())

    def test_truncated(self) -> None:
        """A log that vanishes ends in a broken vif."""
        sender, receiver = self.started(0), self.started(1, features=USUAL | LOG_ALL)
        log = self.log()
        receiver.set_log(log)
        self.check_flow(sender, receiver)
        os.ftruncate(log.fd, 0)
        sender.transmit([frame(i) for i in range(20)])
        self.wait_link(1, "broken", "truncated")
        receiver.disconnect()
        self.wait_link(1, "down")
        again = self.guest(1)
        again.start()
        self.wait_link(1, "up")
        again.receive_frames(1, 0.2)  # what waited for it
        self.assertTrue(wait_for(lambda: (sender.reclaim(), len(sender.rings[TRANSMIT].free))[1] == 256))
        again.received()
        self.check_flow(sender, again, 100)


class Announcement(Case):
    kinds = ("vhost-server", "vhost-server")

    def announced(self) -> int:
        return self.host.numbers("count 0")[5]

    def test_injected_once_and_counted(self) -> None:
        """Everyone on the wire gets it as if the guest had sent it: the peer, the monitor, and the leg's counters."""
        self.host.must(f"vif 2 vhost-server {self.path('2.sock')} 0600")
        self.addCleanup(self.host.must, "rm 2")
        self.poke()
        self.addCleanup(self.host.must, "wires")
        self.host.must("wires 0:1:2")
        moved, peer = self.started(0), self.started(1)
        monitor = FrontEnd(self.path("2.sock"))
        self.addCleanup(monitor.close)
        monitor.connect()
        monitor.start()
        self.wait_link(2, "up")
        for turn in range(3):
            moved.announce(MAC)
            self.assertEqual(peer.receive_frames(1), [RARP])
            self.assertEqual(monitor.receive_frames(1), [RARP])
            self.check_flow(moved, peer, 10 * turn, 10)
            self.assertEqual(len(monitor.receive_frames(10)), 10)
        self.assertEqual((peer.received(), monitor.received()), ([], []))
        self.assertTrue(wait_for(lambda: self.announced() == 3))
        self.assertEqual(self.host.numbers("leg 0 0"), [33, 33, 0, 33, 0])
        self.assertEqual(self.host.numbers("count 0")[0], 33)

    def test_waits_until_the_guest_runs(self) -> None:
        peer = self.started(1)
        moved = self.front_end(0)
        moved.connect()
        moved.negotiate()
        moved.set_memory()
        moved.announce(MAC)
        for ring in moved.rings:
            moved.set_ring(ring)
        moved.sync()
        self.assertEqual(self.announced(), 0)
        moved.enable()
        moved.post()
        self.wait_link(0, "up")
        self.assertEqual(peer.receive_frames(1), [RARP])
        self.check_flow(moved, peer)
        self.assertEqual(self.announced(), 1)

    def test_under_traffic(self) -> None:
        """Among the guest's own frames, none of which is lost, doubled or reordered for it."""
        moved, peer = self.started(0), self.started(1)
        sent, times = 0, 40
        got: list[bytes] = []
        for _ in range(times):
            sent += moved.transmit([frame(sent + i) for i in range(64)])
            moved.announce(MAC)
            seen = got.count(RARP)
            self.assertTrue(wait_for(lambda: got.extend(peer.received()) or got.count(RARP) > seen))
        self.assertTrue(wait_for(lambda: got.extend(peer.received()) or len(got) >= sent + times))
        self.assertEqual([number(data) for data in got if data != RARP], list(range(sent)))
        self.assertEqual(len(got), sent + times)
        self.assertEqual(self.announced(), times)

    def test_not_without_a_guest(self) -> None:
        """A connection that ends takes its announcement along."""
        moved, peer = self.started(0), self.started(1)
        moved.enable(False)
        moved.announce(MAC)
        moved.sync()
        moved.disconnect()
        self.wait_link(0, "down", "waiting")
        again = self.started(0)
        self.check_flow(again, peer)
        self.assertEqual((peer.received(), self.announced()), ([], 0))


if __name__ == "__main__":
    unittest.main()
