# SPDX-License-Identifier: BSD-3-Clause
"""Front ends with packed rings: frames, every way of going on after a stop, and rings whose place is lost."""
from __future__ import annotations

import signal
import struct
import unittest

import frontend
from frontend import RECEIVE, TRANSMIT, FrontEnd, PackedRing
from support import Host, HostCase, frame, number, wait_for

PACKED = frontend.USUAL | frontend.RING_PACKED


class Frames(HostCase):
    def test_kinds_and_sizes(self) -> None:
        """Packed to packed and to split, with and without what else may be negotiated, any number of descriptors."""
        for features, size in ((PACKED, 256), (PACKED & ~frontend.EVENT_IDX, 3), (PACKED | frontend.IN_ORDER, 255),
                               (PACKED & ~(frontend.MRG_RXBUF | frontend.INDIRECT_DESC), 1000), (PACKED, 20),
                               (PACKED & ~frontend.PROTOCOL_FEATURES, 64)):
            for other, other_size in ((features, size), (frontend.USUAL, 256), (frontend.USUAL | frontend.IN_ORDER, 32)):
                with self.subTest(features=hex(features), size=size, other=hex(other)):
                    with FrontEnd(self.path("0.sock"), features=features, ring_size=size, memory_size=8 << 20) as a, \
                            FrontEnd(self.path("1.sock"), features=other, ring_size=other_size,
                                     memory_size=8 << 20) as b:
                        for slot, end in enumerate((a, b)):
                            end.connect()
                            end.start()
                            state = self.wait_link(slot, "up")
                            self.assertEqual(state.features, end.wanted)
                            self.assertEqual((state.receive_size, state.transmit_size), (end.rings[0].size,) * 2)
                        count = min(size, other_size, 20)
                        for first in range(0, 30 * count, count):
                            self.check_flow(a, b, first, count)
                            self.check_flow(b, a, first, count)

    def test_one_descriptor(self) -> None:
        a, b = self.started(0, features=PACKED, ring_size=1), self.started(1, features=PACKED, ring_size=1)
        for first in range(50):
            self.check_flow(a, b, first, 1)

    def test_chains(self) -> None:
        """Header and payload in descriptors of their own: the device goes on behind them."""
        a, b = self.started(0, features=PACKED, ring_size=16), self.started(1, features=PACKED)
        ring = a.rings[TRANSMIT]
        assert isinstance(ring, PackedRing)
        for first in range(0, 100, 5):
            for i in range(5):
                head = ring.free.pop()
                data = frame(first + i)
                a.write(ring.buffer(head), bytes(a.header_size) + data)
                address = frontend.GUEST_BASE + ring.buffer(head)
                ring.set_chain(head, [(address, a.header_size, 0), (address + a.header_size, 20, 0),
                                      (address + a.header_size + 20, len(data) - 20, 0)])
                ring.offer(head)
            ring.publish()
            self.assertEqual([number(data) for data in b.receive_frames(5)], list(range(first, first + 5)))
            self.assertTrue(wait_for(lambda: (a.reclaim(), len(ring.free))[1] == ring.size))

    def test_tapped(self) -> None:
        """A packed monitor of a split receiver, and the other way around."""
        self.host.must(f"vif 2 vhost-server {self.path('2.sock')} 0600")
        self.addCleanup(self.host.must, "rm 2")
        self.addCleanup(self.host.must, "wires")
        self.host.must("wires 0:1:2")
        for receiver, tap in ((frontend.USUAL, PACKED), (PACKED, frontend.USUAL), (PACKED, PACKED)):
            with self.subTest(receiver=hex(receiver), tap=hex(tap)), \
                    FrontEnd(self.path("0.sock"), features=PACKED) as a, \
                    FrontEnd(self.path("1.sock"), features=receiver) as b, \
                    FrontEnd(self.path("2.sock"), features=tap) as monitor:
                for slot, end in enumerate((a, b, monitor)):
                    end.connect()
                    end.start()
                    self.wait_link(slot, "up")
                for first in range(0, 600, 50):
                    self.check_flow(a, b, first, 50)
                    self.assertEqual([number(data) for data in monitor.receive_frames(50)],
                                     list(range(first, first + 50)))

    def test_interrupts(self) -> None:
        """The driver is told of what is used as its event structure says."""
        a, b = self.started(0, features=PACKED), self.started(1, features=PACKED)
        ring = b.rings[RECEIVE]
        while b.interrupted(RECEIVE, 0.2):  # of the attach
            pass
        for wish, told in ((frontend.EVENT_DISABLE, False), (frontend.EVENT_ENABLE, True), (3, True)):
            b.write(ring.avail, struct.pack("<HH", 0, wish))
            a.transmit([frame(1)])
            self.assertTrue(wait_for(lambda: ring.flags(ring.next_used) & frontend.WRITE != 0))
            self.assertEqual(b.interrupted(RECEIVE, 60 if told else 0.3), told)
            self.assertTrue(b.received())
        # The third from now, and not the ones before.
        b.write(ring.avail, struct.pack("<HH", (ring.next_used + 2) | ring.used_wrap << 15, frontend.EVENT_DESC))
        for i in range(3):
            self.assertFalse(b.interrupted(RECEIVE, 0.2))
            a.transmit([frame(i)])
        self.assertTrue(b.interrupted(RECEIVE))


class GoingOn(HostCase):
    def both(self, **options: object) -> tuple[FrontEnd, FrontEnd]:
        return (self.started(0, features=PACKED, **options), self.started(1, features=PACKED, **options))

    def test_stop_and_start(self) -> None:
        a, b = self.both(ring_size=64)
        for round_number in range(5):
            for first in range(0, 300, 60):
                self.check_flow(a, b, first, 60)
            bases = a.stop()
            a.rings[RECEIVE].used_chains()
            # What the device used is what it says; the receive ring's buffers are all its own.
            self.assertEqual(bases, [ring.base for ring in a.rings])
            self.wait_link(0, "down")
            for ring, base in zip(a.rings, bases):
                a.set_ring(ring, base)
            a.enable()
            a.sync()
            self.wait_link(0, "up")
            self.check_flow(b, a, 1000 * round_number, 50)

    def test_messages_under_way(self) -> None:
        """The engine's place, wrap counter included, survives whatever detaches it."""
        a, b = self.both(ring_size=32)
        for first in range(0, 3000, 25):
            self.check_flow(a, b, first, 25)
            a.u64(frontend.SET_VRING_CALL, TRANSMIT, (a.rings[TRANSMIT].call_fd,))
            b.set_memory()
            for ring in b.rings:  # the library forgets them with the memory
                b.send(frontend.SET_VRING_ADDR, ring.address())
            b.sync()
            self.wait_link(1, "up")

    def test_connection_lost(self) -> None:
        """A front end that lost its back end says what it knew at the start: the ring tells better."""
        a, b = self.both(ring_size=64)
        for first, count in ((0, 10), (10, 50), (60, 30), (90, 64), (154, 63)):
            self.check_flow(a, b, first, count)
            for slot, end in enumerate((a, b)):
                end.disconnect()
                self.wait_link(slot, "down")
                end.connect()
                end.negotiate()
                end.set_memory()
                for ring in end.rings:
                    end.set_ring(ring, 0x8000)
                end.enable()
                end.sync()
                self.wait_link(slot, "up")
        self.check_flow(a, b, 1000, 40)
        self.check_flow(b, a, 1000, 40)

    def test_place_beyond_the_ring(self) -> None:
        end = self.front_end(0, features=PACKED, ring_size=100)
        end.connect()
        end.negotiate()
        end.set_memory()
        end.set_ring(end.rings[RECEIVE])
        end.set_ring(end.rings[TRANSMIT], 0x8000 | 100)
        end.enable()
        end.sync()
        self.wait_link(0, "down", "has ring 1 begin at descriptor 100, but it has 100")

    def test_areas_outside(self) -> None:
        for area, place, reason in (("avail", -3, "doesn't lie in"), ("used", -3, "doesn't lie in"),
                                    ("avail", -6, "isn't aligned"), ("desc", -16, "doesn't lie in")):
            with self.subTest(area=area, place=place), FrontEnd(self.path("0.sock"), features=PACKED) as end:
                end.connect()
                end.negotiate()
                end.set_memory()
                setattr(end.rings[TRANSMIT], area, end.memory_size + place)
                for ring in end.rings:
                    end.set_ring(ring)
                end.enable()
                end.sync()
                # What the library can't map it doesn't start.
                self.assertFalse(wait_for(lambda: self.host.state(0).link == "up", 0.3))
                state = self.host.state(0)
                self.assertTrue(reason in state.reason or "isn't ready" in state.reason, state.reason)
                end.disconnect()
                self.wait_link(0, "down", "waiting for a front end")


class New(HostCase):
    def test_transmit_ring_is_full_before_the_back_end_comes(self) -> None:
        """No device has seen it: nothing of it can be left of an earlier one, even if the driver is yet to write the first heads."""
        for hidden in (False, True):
            for size in (1, 5, 64):
                with self.subTest(hidden=hidden, size=size), \
                        FrontEnd(self.path("0.sock"), features=PACKED & ~frontend.INDIRECT_DESC, ring_size=size) as a, \
                        FrontEnd(self.path("1.sock")) as b:
                    b.connect()
                    b.start()
                    self.wait_link(1, "up")
                    ring = a.rings[TRANSMIT]
                    assert isinstance(ring, PackedRing)
                    a.connect()
                    a.negotiate()
                    a.set_memory()
                    for ring_of in a.rings:
                        a.set_ring(ring_of)
                    publish, ring.publish = ring.publish, lambda: None
                    self.assertEqual(a.transmit([frame(i) for i in range(size)]), size)
                    if not hidden:
                        publish()
                    a.enable()
                    a.sync()
                    self.wait_link(0, "up")
                    if hidden:
                        publish()
                    self.assertEqual([number(data) for data in b.receive_frames(size)], list(range(size)))


class Lost(HostCase):
    def reconnect(self, slot: int, end: FrontEnd) -> None:
        end.disconnect()
        self.wait_link(slot, "down", "waiting for a front end")
        end.connect()
        end.negotiate()
        end.set_memory()
        for ring in end.rings:
            end.set_ring(ring, 0x8000)
        end.enable()
        end.sync()

    def test_broken_until_reset(self) -> None:
        """A ring in which nothing can be told stops its vif, says why, and is well again after the driver's reset."""
        a, b = self.started(0, features=PACKED & ~frontend.INDIRECT_DESC, ring_size=64), self.started(1)
        self.check_flow(a, b, 0, 50)
        ring = a.rings[TRANSMIT]
        for at in range(0, 64, 3):  # used here and there
            a.write(ring.desc + 16 * at + 14, struct.pack("<H", 0 if at < 50 else frontend.AVAIL | frontend.USED))
        self.reconnect(0, a)
        self.wait_link(0, "broken", "packed_index_lost")
        self.assertIn("restart the guest's driver", self.host.state(0).reason)
        a.stop()
        self.wait_link(0, "down", "stopped its device")
        for old in a.rings:
            old.reset()
        for old in a.rings:
            a.set_ring(old)
        a.enable()
        a.post()
        a.sync()
        self.wait_link(0, "up")
        self.check_flow(a, b, 100, 50)
        self.check_flow(b, a, 100, 50)

    def send_chains(self, end: FrontEnd, first: int, count: int) -> None:
        """Frames in two descriptors each."""
        ring = end.rings[TRANSMIT]
        assert isinstance(ring, PackedRing)
        end.reclaim()
        for i in range(first, first + count):
            head = ring.free.pop()
            end.write(ring.buffer(head), bytes(end.header_size) + frame(i))
            address = frontend.GUEST_BASE + ring.buffer(head)
            ring.set_chain(head, [(address, end.header_size, 0), (address + end.header_size, 60, 0)])
            ring.offer(head)
        ring.publish()

    def test_chains_that_were_used(self) -> None:
        """What is left of a used chain looks available; its first descriptor shows that it was one. If the driver has written as
        much as there is room for, nobody can tell."""
        a = self.started(0, features=PACKED & ~frontend.INDIRECT_DESC, ring_size=64)
        b = self.started(1)
        sent = 0
        for lost in (5, 20, 1):  # sent while there is no back end
            self.send_chains(a, sent, 10)
            self.assertEqual([number(data) for data in b.receive_frames(10)], list(range(sent, sent + 10)))
            sent += 10
            a.disconnect()
            self.wait_link(0, "down", "waiting for a front end")
            self.send_chains(a, sent, lost)
            self.reconnect(0, a)
            self.wait_link(0, "up")
            self.assertEqual([number(data) for data in b.receive_frames(lost)], list(range(sent, sent + lost)))
            sent += lost
        a.disconnect()
        self.wait_link(0, "down", "waiting for a front end")
        self.send_chains(a, sent, 32)
        self.reconnect(0, a)
        self.wait_link(0, "broken", "packed_index_lost")
    def test_half_published(self) -> None:
        """A device that died while it published: the rest of the batch is there, its first descriptor isn't."""
        a, b = self.started(0, features=PACKED, ring_size=64), self.started(1, features=PACKED, ring_size=64)
        self.check_flow(a, b, 0, 40)
        ring = a.rings[TRANSMIT]
        assert isinstance(ring, PackedRing)
        # Four frames that the device took and whose return it didn't come to publish whole.
        a.disconnect()
        self.wait_link(0, "down")
        at, wrap = ring.next_used, ring.used_wrap
        a.transmit([frame(i) for i in range(90, 94)])
        for place in range(at + 1, at + 4):
            head = struct.unpack("<H", a.read(ring.desc + 16 * place + 12, 2))[0]
            a.write(ring.desc + 16 * place + 8, struct.pack(
                "<IHH", 0, head, frontend.AVAIL | frontend.USED if wrap else 0))
        self.reconnect(0, a)
        self.wait_link(0, "up")
        self.assertTrue(wait_for(lambda: (a.reclaim(), len(ring.free))[1] == ring.size))
        self.check_flow(a, b, 100, 30)
        # To the guest: a frame without its length is dropped by its driver, what follows is as it was.
        ring = b.rings[RECEIVE]
        assert isinstance(ring, PackedRing)
        b.disconnect()
        self.wait_link(1, "down")
        at, wrap = ring.next_used, ring.used_wrap
        for place in (at + 1, at + 2):
            head = struct.unpack("<H", b.read(ring.desc + 16 * place + 12, 2))[0]
            b.write(ring.buffer(head), bytes(10) + b"\1\0" + frame(200 + place - at))
            b.write(ring.desc + 16 * place + 8, struct.pack(
                "<IHH", 72, head, frontend.WRITE | (frontend.AVAIL | frontend.USED if wrap else 0)))
        self.reconnect(1, b)
        self.wait_link(1, "up")
        got = b.receive_frames(3)
        self.assertEqual([len(data) for data in got], [0, 60, 60])
        self.assertEqual([number(data) for data in got[1:]], [201, 202])
        self.check_flow(a, b, 300, 30)


class Killed(unittest.TestCase):
    """The process with the dataplane is killed and started again; the front ends know nothing of the rings' places."""

    def test_kill(self) -> None:
        import shutil
        import tempfile
        folder = tempfile.mkdtemp(prefix="vhost-test-")
        self.addCleanup(shutil.rmtree, folder)
        ends = [FrontEnd(f"{folder}/{slot}.sock", features=features, ring_size=size)
                for slot, (features, size) in enumerate(((PACKED, 64), (PACKED | frontend.IN_ORDER, 33)))]
        for end in ends:
            self.addCleanup(end.close)
        sent = 0
        for life in range(12):
            host = Host()
            try:
                for slot in range(2):
                    host.must(f"vif {slot} vhost-server {folder}/{slot}.sock 0600")
                host.must("wires 0:1")
                for slot, end in enumerate(ends):
                    end.connect()
                    if life == 0:
                        end.start()
                    else:
                        end.negotiate()
                        end.set_memory()
                        for ring in end.rings:
                            end.set_ring(ring, 0x8000)
                        end.enable()
                        end.sync()
                    self.assertTrue(wait_for(lambda: host.state(slot).link == "up"), host.state(slot))
                for _ in range(3):
                    count = 7 + life
                    a, b = ends if life % 2 else ends[::-1]
                    self.assertEqual(a.transmit([frame(sent + i) for i in range(count)]), count)
                    got = [number(data) for data in b.receive_frames(count)]
                    self.assertEqual(got, list(range(sent, sent + count)))
                    sent += count
                    self.assertTrue(wait_for(lambda: (a.reclaim(), len(a.rings[TRANSMIT].free))[1] ==
                                             a.rings[TRANSMIT].size))
            finally:
                host.process.send_signal(signal.SIGKILL)
                host.process.wait()
                for stream in (host.process.stdin, host.process.stdout):
                    assert stream is not None
                    try:
                        stream.close()
                    except BrokenPipeError:
                        pass
                host.log.close()


if __name__ == "__main__":
    unittest.main()
