# SPDX-License-Identifier: BSD-3-Clause
"""Sound front ends: they start, stop, change their set-up under traffic, go and come back."""
from __future__ import annotations

import os
import struct
import time
import unittest

import frontend
from frontend import FrontEnd
from support import HostCase, frame, number, wait_for


class Handshake(HostCase):
    def test_states_and_offer(self) -> None:
        self.wait_link(0, "down", f"waiting for a front end to connect to {self.path('0.sock')}")
        end = self.front_end(0)
        end.connect()
        self.wait_link(0, "down", "connected; the guest's driver isn't ready")
        self.assertEqual(end.ask_u64(frontend.GET_FEATURES), frontend.USUAL | frontend.ANY_LAYOUT | frontend.LOG_ALL |
                         frontend.RING_PACKED | frontend.IN_ORDER | frontend.OFFLOADS | frontend.MTU | frontend.MQ |
                         frontend.CTRL_VQ)
        self.assertEqual(end.ask_u64(frontend.GET_PROTOCOL_FEATURES),
                         frontend.PROTOCOL_REPLY_ACK | frontend.PROTOCOL_STATUS |
                         frontend.PROTOCOL_LOG_SHMFD | frontend.PROTOCOL_RARP | frontend.PROTOCOL_NET_MTU |
                         frontend.PROTOCOL_MQ)
        end.start()
        state = self.wait_link(0, "up")
        self.assertEqual((state.queue_pairs, state.receive_size, state.transmit_size, state.features, state.reason),
                         (1, 256, 256, frontend.USUAL, ""))
        end.disconnect()
        self.wait_link(0, "down", "waiting for a front end")

    def test_frames_both_ways(self) -> None:
        a, b = self.started(0), self.started(1)
        for first in range(0, 2000, 100):
            self.check_flow(a, b, first, 100)
            self.check_flow(b, a, first, 100)
        self.assertEqual(self.host.numbers("leg 0 0"), [2000, 2000, 0, 0, 0])

    def test_feature_sets(self) -> None:
        for features in (0, frontend.VERSION_1, frontend.MRG_RXBUF, frontend.EVENT_IDX | frontend.INDIRECT_DESC,
                         frontend.PROTOCOL_FEATURES, frontend.USUAL & ~frontend.PROTOCOL_FEATURES):
            with self.subTest(features=hex(features)):
                with FrontEnd(self.path("0.sock"), features=features) as a, \
                        FrontEnd(self.path("1.sock"), features=frontend.USUAL) as b:
                    for slot, end in enumerate((a, b)):
                        end.connect()
                        end.start()
                        self.assertEqual(self.wait_link(slot, "up").features, end.wanted)
                    self.check_flow(a, b)
                    self.check_flow(b, a)

    def test_small_and_unequal_rings(self) -> None:
        a, b = self.started(0, ring_size=2), self.started(1, ring_size=1024, memory_size=8 << 20)
        for first in range(0, 40, 2):
            self.check_flow(a, b, first, 2)
            self.check_flow(b, a, first, 2)

    def test_status_protocol(self) -> None:
        """With STATUS negotiated the device starts at DRIVER_OK, not before."""
        end = self.front_end(0)
        end.connect()
        end.features = end.wanted
        end.u64(frontend.SET_PROTOCOL_FEATURES, frontend.PROTOCOL_REPLY_ACK | frontend.PROTOCOL_STATUS)
        end.send(frontend.SET_OWNER)
        end.u64(frontend.SET_FEATURES, end.features)
        end.set_memory()
        for ring in end.rings:
            end.set_ring(ring)
        end.enable()
        end.sync()
        self.wait_link(0, "down", "driver isn't ready")
        end.u64(frontend.SET_STATUS, 15)
        self.assertEqual(end.ask_u64(frontend.GET_STATUS), 15)
        self.wait_link(0, "up")

    def test_memory_that_was_not_shared(self) -> None:
        """QEMU without share=on shows us an empty file."""
        end = self.front_end(0)
        end.connect()
        end.negotiate()
        end.sync()
        self.wait_link(0, "down", "share=on")
        end.set_memory()
        for ring in end.rings:
            end.set_ring(ring)
        end.enable()
        end.sync()
        self.wait_link(0, "up", "share=on")
        end.post()
        self.assertEqual(self.wait_link(0, "up").reason, "")

    def test_tapped(self) -> None:
        self.host.must(f"vif 2 vhost-server {self.path('2.sock')} 0600")
        self.addCleanup(self.host.must, "rm 2")
        self.addCleanup(self.host.must, "wires")
        self.host.must("wires 0:1:2")
        a, b = self.started(0), self.started(1)
        self.check_flow(a, b, 0, 10)
        self.assertEqual(self.host.numbers("leg 0 0"), [10, 10, 0, 0, 10])  # the monitor is down
        monitor = FrontEnd(self.path("2.sock"))
        self.addCleanup(monitor.close)
        monitor.connect()
        monitor.start()
        self.wait_link(2, "up")
        for first in range(0, 1000, 50):
            self.check_flow(a, b, first, 50)
            self.assertEqual([number(data) for data in monitor.receive_frames(50)], list(range(first, first + 50)))
        self.assertTrue(monitor.interrupted(frontend.RECEIVE))
        self.assertEqual(self.host.numbers("leg 0 0"), [1010, 1010, 0, 1000, 10])


class Client(HostCase):
    """We connect to the front end's socket (QEMU's server=on)."""
    kinds = ("vhost", "vhost")

    def test_connects_and_comes_back(self) -> None:
        self.wait_link(0, "down", f"waiting for its socket {self.path('0.sock')} (start QEMU with server=on)")
        b = self.started(1)
        for round_number in range(2):
            a = self.started(0)
            self.check_flow(a, b)
            self.check_flow(b, a)
            self.assertEqual(self.host.numbers("count 0")[4], round_number)
            a.close()
            os.unlink(self.path("0.sock"))
            self.wait_link(0, "down", "waiting for its socket")
        self.host.must("wires")
        self.host.must("rm 1")
        self.assertTrue(os.path.exists(self.path("1.sock")), "a socket that isn't ours was removed")
        self.assertTrue(b.closed())
        os.unlink(self.path("1.sock"))
        self.host.must(f"vif 1 vhost {self.path('1.sock')} 0600")


class Changes(HostCase):
    """Messages under a running device: nothing lost, doubled or out of order."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.started(0), self.started(1)

    def keep_flowing(self, count: int, between) -> None:
        """Sends numbered frames from a to b and calls between(frames so far) now and then."""
        sent, got = 0, []
        end = time.monotonic() + 300
        while len(got) < count and time.monotonic() < end:
            if sent < count:
                sent += self.a.transmit([frame(sent + i) for i in range(min(32, count - sent))])
            got += [number(data) for data in self.b.received()]
            between(sent)
        self.assertEqual(got, list(range(count)))
        self.assertEqual(self.host.numbers("leg 0 0")[:3], [count, count, 0])

    def test_queues_off_and_on(self) -> None:
        def toggle(sent: int) -> None:
            self.b.enable(False)
            self.a.enable(False)
            self.b.enable(True)
            self.a.enable(True)

        # Without a receiver frames are dropped, not kept: the sender stops first.
        def between(sent: int) -> None:
            self.a.enable(False)
            self.a.sync()
            self.b.enable(False)
            self.b.enable(True)
            self.b.sync()
            self.wait_link(1, "up")
            self.a.enable(True)

        self.keep_flowing(1500, between)
        toggle(0)
        self.wait_link(0, "up")
        self.wait_link(1, "up")

    def test_disabled_says_so(self) -> None:
        self.b.ring_state(frontend.SET_VRING_ENABLE, frontend.RECEIVE, 0)
        self.b.sync()
        self.wait_link(1, "down", "disabled its queues")
        self.a.transmit([frame(0)])
        self.assertTrue(wait_for(lambda: self.host.numbers("leg 0 0")[:3] == [1, 0, 1]))
        self.assertEqual(self.b.received(), [])

    def test_call_and_kick_change(self) -> None:
        def between(sent: int) -> None:
            for end in (self.a, self.b):
                for ring in end.rings:
                    end.u64(frontend.SET_VRING_CALL, ring.index, (ring.call_fd,))
                    end.u64(frontend.SET_VRING_KICK, ring.index, (ring.kick_fd,))

        self.keep_flowing(3000, between)

    def test_memory_is_plugged(self) -> None:
        more = os.memfd_create("more", os.MFD_CLOEXEC)
        self.addCleanup(os.close, more)
        os.ftruncate(more, 1 << 20)
        small = [(frontend.GUEST_BASE, self.a.memory_size, frontend.USER_BASE, 0)]
        large = small + [(frontend.GUEST_BASE + (1 << 32), 1 << 20, frontend.USER_BASE + (1 << 32), 0)]
        turn = 0

        def between(sent: int) -> None:
            nonlocal turn
            turn += 1
            for end in (self.a, self.b):
                regions, fds = ((small, (end.memory_fd,)), (large, (end.memory_fd, more)))[turn % 2]
                self.assertTrue(end.acked(frontend.SET_MEM_TABLE, end.memory_table(regions), fds))

        self.keep_flowing(3000, between)
        self.wait_link(0, "up")

    def test_driver_reset(self) -> None:
        """Stop and start, with the index that we give back."""
        for round_number in range(20):
            self.check_flow(self.a, self.b, round_number * 10, 10)
            bases = self.a.stop()
            self.assertEqual(bases, [self.a.rings[0].next_used, self.a.rings[1].next_used])
            self.wait_link(0, "down", "stopped its device")
            self.b.transmit([frame(1)])  # to nobody: dropped
            self.assertTrue(wait_for(lambda: (self.b.reclaim(), len(self.b.rings[1].free))[1] == 256))
            self.a.set_memory()
            for ring, base in zip(self.a.rings, bases):
                self.a.set_ring(ring, base)
            self.a.enable()
            self.a.sync()
            self.wait_link(0, "up")

    def test_reset_owner(self) -> None:
        self.check_flow(self.a, self.b)
        self.a.send(frontend.RESET_OWNER)
        self.a.sync()
        self.wait_link(0, "down")
        # What a front end does that begins again: its driver too.
        for ring in self.a.rings:
            ring.next_avail = ring.next_used = 0
            ring.free = list(range(ring.size))
        self.a.write(0, bytes(0x40000))
        self.a.start()
        self.wait_link(0, "up")
        self.check_flow(self.a, self.b)

    def test_interrupt_after_change(self) -> None:
        """A guest that sleeps while it is detached and attached anew is woken."""
        while self.b.interrupted(frontend.RECEIVE, 0.2):
            pass
        self.b.u64(frontend.SET_VRING_CALL, frontend.RECEIVE, (self.b.rings[0].call_fd,))
        self.assertTrue(self.b.interrupted(frontend.RECEIVE))

    def test_other_call_eventfd(self) -> None:
        """After SET_VRING_CALL the new eventfd is the one that is written."""
        other = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, other)
        self.b.u64(frontend.SET_VRING_CALL, frontend.RECEIVE, (other,))
        self.b.sync()
        os.eventfd_read(other)  # of the attach
        while self.b.interrupted(frontend.RECEIVE, 0.1):
            pass
        self.check_flow(self.a, self.b)
        self.assertEqual(os.eventfd_read(other) > 0, True)
        self.assertFalse(self.b.interrupted(frontend.RECEIVE, 0.1))

    def test_comes_and_goes_under_traffic(self) -> None:
        """One end vanishes without a word, again and again, while the other sends."""
        for round_number in range(30):
            self.a.transmit([frame(i) for i in range(64)])
            if round_number % 2 == 0:
                self.b.disconnect()
                self.b.close()
                self.b = self.front_end(1)
                self.b.connect()  # before the host may have seen that the old one is gone
                self.b.start()
                self.wait_link(1, "up")
            else:
                self.a.disconnect()
                self.a.close()
                self.a = self.front_end(0)
                self.a.connect()
                self.a.start()
                self.wait_link(0, "up")
        self.b.receive_frames(1000, 0.3)
        self.check_flow(self.a, self.b)
        self.assertEqual(self.host.numbers("count 0")[4] + self.host.numbers("count 1")[4], 30)

    def test_resumes_after_our_restart_of_the_index(self) -> None:
        """A front end that connects anew with rings in use, as QEMU does after the daemon was killed: SET_VRING_BASE
        is what it last knew, and the used index in memory is the truth."""
        self.check_flow(self.a, self.b, 0, 30)
        self.a.transmit([frame(100 + i) for i in range(10)])
        self.assertEqual(len(self.b.receive_frames(10)), 10)
        self.a.connect()
        self.a.negotiate()
        self.a.set_memory()
        for ring in self.a.rings:
            self.a.set_ring(ring, 0)
        self.a.enable()
        self.a.sync()
        self.wait_link(0, "up")
        self.check_flow(self.a, self.b, 200, 30)
        self.check_flow(self.b, self.a, 300, 30)


class Rest(HostCase):
    def test_idle_sleeps_and_kicks_wake(self) -> None:
        a, b = self.started(0), self.started(1)
        for i in range(10):
            self.check_flow(a, b, i, 1)
            self.check_flow(b, a, i, 1)
            time.sleep(0.02)
        self.assertGreater(a.rings[frontend.TRANSMIT].kicks, 5, "the guest was never asked to kick")
        before = self.host.cpu_seconds()
        time.sleep(2)
        used = self.host.cpu_seconds() - before
        self.assertLess(used, 0.2, "two idle guests that have kicked keep the worker busy")

    def test_wakes_for_a_driver_that_comes(self) -> None:
        """A frame that was in the ring before the attach is seen although nobody kicks again."""
        b = self.started(1)
        time.sleep(0.1)
        a = self.front_end(0)
        a.connect()
        a.negotiate()
        a.set_memory()
        for ring in a.rings:
            a.set_ring(ring)
        a.transmit([frame(7)])
        os.eventfd_read(a.rings[1].kick_fd)
        a.enable()
        self.assertEqual([number(data) for data in b.receive_frames(1)], [7])

    def test_without_kick_descriptor(self) -> None:
        a, b = self.front_end(0), self.started(1)
        a.connect()
        a.negotiate()
        a.set_memory()
        for ring in a.rings:
            a.set_ring(ring)
            a.u64(frontend.SET_VRING_KICK, ring.index | frontend.NO_FD)
            a.u64(frontend.SET_VRING_CALL, ring.index | frontend.NO_FD)
        a.enable()
        a.post()
        self.wait_link(0, "up")
        for i in range(5):
            self.check_flow(a, b, i, 1)
            self.check_flow(b, a, i, 1)
            time.sleep(0.02)


class Busy(HostCase):
    """A worker that never sleeps needs no kick, and each costs the guest an exit or a system call."""

    mode = "busy"

    def test_no_kicks(self) -> None:
        for rings in (0, frontend.RING_PACKED):
            for event_idx in (0, frontend.EVENT_IDX):
                features = frontend.USUAL & ~frontend.EVENT_IDX | event_idx | rings
                with self.subTest(features=hex(features)), FrontEnd(self.path("0.sock"), features=features) as a, \
                        FrontEnd(self.path("1.sock"), features=features) as b:
                    for slot, end in enumerate((a, b)):
                        end.connect()
                        end.start()
                        self.wait_link(slot, "up")
                        for ring in end.rings:
                            ring.kicks = 0
                    for i in range(0, 400, 20):
                        self.check_flow(a, b, i, 20)
                        self.check_flow(b, a, i, 20)
                    # A split ring's event index says the first entry until it says another one.
                    allowed = 1 if event_idx and not rings else 0
                    for end in (a, b):
                        for ring in end.rings:
                            self.assertLessEqual(ring.kicks, allowed, f"ring {ring.index}")


if __name__ == "__main__":
    unittest.main()
