# SPDX-License-Identifier: BSD-3-Clause
"""Front ends that are broken, slow or no friends: each case ends in a closed connection, a refused message or a broken
vif, and never in harm to another vif or to the process."""
from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest

import frontend
from frontend import Closed, FrontEnd
from support import Flow, Host, HostCase, frame, number, wait_for


class Protocol(HostCase):
    def check_alive(self) -> None:
        """Both vifs still serve a sound front end, soon."""
        start = time.monotonic()
        a, b = self.started(0), self.started(1)
        self.assertLess(time.monotonic() - start, 30)
        self.check_flow(a, b)
        self.check_flow(b, a)
        for end in (a, b):
            end.close()
        for slot in (0, 1):
            self.wait_link(slot, "down", "waiting")

    def test_out_of_order(self) -> None:
        orders = [
            [frontend.SET_VRING_KICK], [frontend.SET_VRING_CALL], [frontend.SET_VRING_ADDR],
            [frontend.GET_VRING_BASE], [frontend.SET_VRING_ENABLE], [frontend.RESET_OWNER], [frontend.SET_VRING_NUM],
            [frontend.SET_VRING_ENABLE, frontend.SET_VRING_KICK, frontend.SET_VRING_CALL, frontend.SET_MEM_TABLE],
            [frontend.SET_MEM_TABLE, frontend.SET_VRING_ADDR, frontend.SET_VRING_KICK, frontend.SET_VRING_NUM],
            [frontend.SET_FEATURES, frontend.SET_VRING_ADDR, frontend.SET_MEM_TABLE, frontend.SET_VRING_KICK],
        ]
        for order in orders:
            with self.subTest(order=order), FrontEnd(self.path("0.sock")) as end:
                end.connect()
                try:
                    for request in order:
                        self.sound(end, request)
                    end.sync()
                except (Closed, TimeoutError):
                    pass
        self.check_alive()

    def sound(self, end: FrontEnd, request: int, ring: int = 0) -> None:
        """A message that is sound as such."""
        a = end.rings[ring]
        if request in (frontend.SET_VRING_KICK, frontend.SET_VRING_CALL):
            end.u64(request, ring, (a.kick_fd,))
        elif request == frontend.SET_VRING_ADDR:
            end.send(request, a.address())
        elif request == frontend.SET_MEM_TABLE:
            end.set_memory()
        elif request == frontend.GET_VRING_BASE:
            end.ask(request, struct.pack("<II", ring, 0))
        elif request in (frontend.SET_VRING_ENABLE, frontend.SET_VRING_NUM, frontend.SET_VRING_BASE):
            end.ring_state(request, ring, {frontend.SET_VRING_NUM: 256, frontend.SET_VRING_ENABLE: 1}.get(request, 0))
        elif request == frontend.SET_FEATURES:
            end.u64(request, frontend.USUAL)
        else:
            end.send(request)

    def test_garbage(self) -> None:
        for data in (b"\0" * 12, b"\xff" * 12, b"GET / HTTP/1.1\r\n\r\n", struct.pack("<III", 1, 1, 1 << 30),
                     struct.pack("<III", 99, 1, 0), struct.pack("<III", 5, 1, 8) + struct.pack("<II", 0xffffffff, 0)):
            with self.subTest(data=data), FrontEnd(self.path("0.sock")) as end:
                end.connect()
                end.send_raw(data)
                self.assertTrue(end.closed(), "the connection was kept")
        self.check_alive()

    def test_truncated_messages(self) -> None:
        """A peer that stops in the middle holds nobody up for long."""
        hanging = []
        for data in (b"\5", struct.pack("<III", 2, 1, 8), struct.pack("<III", 2, 1, 8) + b"1234"):
            end = self.front_end(0)
            end.connect()
            end.send_raw(data)
            hanging.append(end)
            start = time.monotonic()
            with self.subTest(data=data):
                b = self.started(1)
                self.assertLess(time.monotonic() - start, 30)
                b.close()
                self.wait_link(1, "down", "waiting")
                self.assertTrue(end.closed())
            self.wait_link(0, "down", "waiting")
        self.check_alive()

    def test_replies_are_not_read(self) -> None:
        end = self.front_end(0)
        end.connect()
        end.socket.settimeout(0.2)
        try:
            for _ in range(100000):
                end.send(frontend.GET_FEATURES)
        except (TimeoutError, BlockingIOError, Closed):
            pass
        start = time.monotonic()
        b = self.started(1)
        self.assertLess(time.monotonic() - start, 30)
        b.close()
        end.close()
        self.wait_link(0, "down", "waiting")
        self.wait_link(1, "down", "waiting")
        self.check_alive()

    def test_requests_never_offered(self) -> None:
        """Refused, with their descriptors closed, and the connection goes on if it asked for a reply."""
        end = self.started(0)
        requests = (frontend.SET_LOG_FD, frontend.SET_SLAVE_REQ_FD, frontend.IOTLB_MSG, frontend.GET_CONFIG,
                    frontend.SET_CONFIG,
                    frontend.CREATE_CRYPTO, frontend.POSTCOPY_ADVISE, frontend.POSTCOPY_LISTEN, frontend.POSTCOPY_END,
                    frontend.GET_INFLIGHT_FD, frontend.SET_INFLIGHT_FD, 23, 37, 41, 200)
        before = self.host.descriptors()
        fds = tuple(os.dup(end.memory_fd) for _ in range(8))
        for request in requests:
            for some in ((), fds[:1], fds):
                for payload in (bytes(8), struct.pack("<QQHHI", 0, 0, 1, 256, 0)):
                    if request == frontend.SET_INFLIGHT_FD and len(payload) == 8:
                        continue  # names no ring: the library drops the connection before we see it
                    self.assertFalse(end.acked(request, payload, some), request)
        for fd in fds:
            os.close(fd)
        self.assertEqual(self.host.descriptors(), before)
        b = self.started(1)
        self.check_flow(end, b)

    def test_bad_payloads(self) -> None:
        end = self.front_end(0)
        end.connect()
        end.negotiate()
        self.assertFalse(end.acked(frontend.SET_VRING_NUM, struct.pack("<II", 32, 256)))
        self.assertFalse(end.acked(frontend.SET_VRING_NUM, struct.pack("<II", 255, 32768)))
        self.assertFalse(end.acked(frontend.SET_VRING_ENABLE, struct.pack("<II", 33, 1)))
        self.assertFalse(end.acked(frontend.SET_VRING_ADDR, bytes(39)))
        self.assertFalse(end.acked(frontend.SET_VRING_KICK, b""))
        self.assertFalse(end.acked(frontend.SET_FEATURES, struct.pack("<Q", 1 << 33)))
        self.assertFalse(end.acked(frontend.SET_FEATURES, struct.pack("<Q", frontend.USUAL | 1 << 10)))  # UFO
        self.assertFalse(end.acked(frontend.SET_PROTOCOL_FEATURES, struct.pack("<Q", 1 << 12)))  # INFLIGHT_SHMFD
        self.assertFalse(end.acked(frontend.SET_MEM_TABLE, struct.pack("<II", 8, 0)))
        self.assertFalse(end.acked(frontend.SET_MEM_TABLE, struct.pack("<II", 9, 0)))
        end.start()
        self.wait_link(0, "up")

    def test_bad_rings(self) -> None:
        def attempt(change, reason: str) -> None:
            with self.subTest(reason=reason), FrontEnd(self.path("0.sock")) as end:
                end.connect()
                end.negotiate()
                end.set_memory()
                try:
                    for ring in end.rings:
                        end.set_ring(ring)
                    change(end)
                    end.enable()
                    end.sync()
                    self.wait_link(0, "down", reason)
                except Closed:
                    self.wait_link(0, "down", "waiting")

        def address(**parts: int):
            def change(end: FrontEnd) -> None:
                index, flags, desc, used, avail, log = struct.unpack("<IIQQQQ", end.rings[0].address())
                end.send(frontend.SET_VRING_ADDR, struct.pack(
                    "<IIQQQQ", 0, 0, parts.get("desc", desc), parts.get("used", used), parts.get("avail", avail), log))
            return change

        top = frontend.USER_BASE + (4 << 20)
        attempt(address(desc=frontend.USER_BASE + 8), "isn't aligned")
        attempt(address(avail=frontend.USER_BASE + 4097), "isn't aligned")
        attempt(address(used=frontend.USER_BASE + 4098), "isn't aligned")
        attempt(address(desc=top - 64), "")
        attempt(address(avail=top - 64), "")
        attempt(address(used=top - 64), "")
        attempt(address(used=top - 6 - 8 * 256 + 4), "")
        attempt(address(desc=top), "")
        attempt(address(desc=0), "")
        attempt(address(desc=2**64 - 16), "")

        def grow(end: FrontEnd) -> None:
            """The address fits, the size that comes later doesn't."""
            address(desc=top - 16 * 256)(end)
            end.u64(frontend.SET_VRING_KICK, 0, (end.rings[0].kick_fd,))
            end.ring_state(frontend.SET_VRING_NUM, 0, 512)

        attempt(grow, "doesn't lie in the guest's memory")
        attempt(lambda end: end.ring_state(frontend.SET_VRING_NUM, 0, 0), "")
        attempt(lambda end: end.ring_state(frontend.SET_VRING_NUM, 0, 255), "")
        attempt(lambda end: end.ring_state(frontend.SET_VRING_NUM, 0, 65536), "")
        self.check_alive()

    def test_bad_memory(self) -> None:
        base, user = frontend.GUEST_BASE, frontend.USER_BASE
        size = 4 << 20
        tables = {
            "overlap": [(base, size, user, 0), (base + size - 4096, 8192, user + (1 << 32), 0)],
            "beyond the end": [(base, size, user, 0), (2**64 - 4096, 8192, user + (1 << 32), 0)],
            "shared no memory": [],
        }
        for reason, regions in tables.items():
            with self.subTest(reason=reason), FrontEnd(self.path("0.sock")) as end:
                end.connect()
                end.start()
                self.wait_link(0, "up")
                self.assertTrue(end.acked(frontend.SET_MEM_TABLE, end.memory_table(regions),
                                          (end.memory_fd,) * len(regions)))
                # Without memory the rings have no address.
                self.wait_link(0, "down", reason if regions else "")
                self.assertTrue(end.acked(frontend.SET_MEM_TABLE, end.memory_table(), (end.memory_fd,)))
                for ring in end.rings:  # where there was no memory the addresses are forgotten
                    end.send(frontend.SET_VRING_ADDR, ring.address())
                self.wait_link(0, "up")
        # What can't be mapped, each by itself or all of it together, is refused before anything is changed.
        with FrontEnd(self.path("0.sock")) as end:
            end.connect()
            end.start()
            self.wait_link(0, "up")
            reader, writer = os.pipe()
            for region in ((base, 1 << 62, user, 0), (base, size, user, 2**64 - 4096), (base, 2**64 - 1, user, 1),
                           (base, 0, user, 0)):
                self.assertFalse(end.acked(frontend.SET_MEM_TABLE, end.memory_table([region]), (end.memory_fd,)))
            self.assertFalse(end.acked(frontend.SET_MEM_TABLE, end.memory_table(), (reader,)))
            self.assertFalse(end.acked(frontend.SET_MEM_TABLE, end.memory_table([(base, size, user, 0)] * 2),
                                       (end.memory_fd, writer)))
            before = self.host.descriptors()
            far = [(base + (i << 46), 1 << 44, user + (i << 46), 0) for i in range(8)]  # 128 TiB
            self.assertFalse(end.acked(frontend.SET_MEM_TABLE, end.memory_table(far), (end.memory_fd,) * 8))
            self.assertEqual(self.host.descriptors(), before)
            os.close(reader)
            os.close(writer)
            self.assertEqual(self.host.state(0).link, "up")
        self.check_alive()

    def test_failed_memory_then_traffic(self) -> None:
        """A message that failed in the library leaves it in a state that nobody knows: no attachment until it has
        its memory anew, whatever comes before that."""
        ring = struct.pack("<Q", 0)
        for first, (request, payload, with_call) in enumerate(((frontend.SET_VRING_CALL, ring, True),
                                                               (frontend.GET_FEATURES, b"", False),
                                                               (frontend.SET_STATUS, struct.pack("<Q", 15), False))):
            with self.subTest(request=request):
                a, b = self.started(0), self.started(1)
                self.fail_memory(a, b, 1000 * first, request, payload, with_call)
                for slot, end in enumerate((a, b)):
                    end.close()
                    self.wait_link(slot, "down", "waiting")

    def fail_memory(self, a: FrontEnd, b: FrontEnd, first: int, request: int, payload: bytes, with_call: bool) -> None:
        self.check_flow(a, b, first)
        self.assertFalse(a.acked(frontend.SET_MEM_TABLE, a.memory_table(), ()))  # no descriptor
        a.transmit([frame(first + i) for i in range(100, 110)])
        b.transmit([frame(first + i) for i in range(200, 210)])
        for ring in a.rings:
            ring.kick()
        time.sleep(0.2)
        self.assertEqual(self.host.state(0).link, "paused")
        self.assertEqual(b.received(), [])
        # Another message that succeeds brings no memory back.
        a.send(request, payload, (a.rings[0].call_fd,) if with_call else (), frontend.NEED_REPLY)
        a.receive()
        a.sync()
        self.wait_link(0, "down", "SET_MEM_TABLE failed")
        self.assertEqual(b.received(), [])
        self.assertTrue(a.acked(frontend.SET_MEM_TABLE, a.memory_table(), (a.memory_fd,)))
        self.wait_link(0, "up")
        self.assertEqual([number(data) for data in b.receive_frames(10)], list(range(first + 100, first + 110)))
        a.receive_frames(10, 0.5)  # what waited for it, or nothing if it was dropped as down
        a.reclaim()
        self.check_flow(a, b, first + 300)
        self.check_flow(b, a, first + 400)

    def test_second_connection(self) -> None:
        a, b = self.started(0), self.started(1)
        for _ in range(5):
            second = FrontEnd(self.path("0.sock"))
            second.connect()
            self.assertTrue(second.closed())
            second.close()
        self.check_flow(a, b)
        self.check_flow(b, a)

    def test_stopping_twice(self) -> None:
        a, b = self.started(0), self.started(1)
        self.check_flow(a, b)
        self.assertEqual(a.stop(), a.stop())
        a.send(frontend.RESET_OWNER)
        a.send(frontend.RESET_OWNER)
        a.stop()
        a.close()
        self.check_alive_slot_one(b)

    def check_alive_slot_one(self, b: FrontEnd) -> None:
        a = self.started(0)
        self.check_flow(a, b, 50)

    def test_stalls_without_end(self) -> None:
        """A header and no payload, again and again: the others' messages wait for it, but not long, and frames for
        nothing."""
        flow = Flow(self, *self.neighbours())
        ended = threading.Event()
        stalls = 0

        def stall() -> None:
            nonlocal stalls
            while not ended.is_set():
                with FrontEnd(self.path("0.sock")) as end:
                    end.connect()
                    try:
                        end.send_raw(struct.pack("<III", frontend.SET_MEM_TABLE, 1, 40), (end.memory_fd,))
                        end.closed()
                    except Closed:
                        pass
                stalls += 1

        thread = threading.Thread(target=stall)
        thread.start()
        try:
            deadline, rounds = time.monotonic() + 240, 0
            # On a busy machine both rounds may be over before the peer has stalled a few times.
            while rounds < 2 or (stalls <= 3 and time.monotonic() < deadline):
                rounds += 1
                start = time.monotonic()
                with FrontEnd(self.path("1.sock"), timeout=120) as end:
                    end.connect()
                    end.start()
                    self.wait_link(1, "up")
                self.assertLess(time.monotonic() - start, 60)
                self.wait_link(1, "down", "waiting")
        finally:
            ended.set()
            thread.join()
            flow.stop()
        self.assertGreater(stalls, 3)
        self.wait_link(0, "down", "waiting")
        self.check_alive()

    def test_wrong_descriptor_counts(self) -> None:
        """Too few, too many, or any where none belong: refused or left alone, and none is leaked (the fixture looks)."""
        left, right = self.neighbours()
        with FrontEnd(self.path("0.sock")) as end:
            end.connect()
            end.negotiate()
            end.set_memory()
            two, nine = (end.memory_fd, end.rings[0].call_fd), (end.rings[0].call_fd,) * 9
            ring = struct.pack("<Q", 0)
            for request in (frontend.SET_VRING_KICK, frontend.SET_VRING_CALL, frontend.SET_VRING_ERR):
                self.assertFalse(end.acked(request, ring, ()), request)
                self.assertFalse(end.acked(request, ring, two), request)
                self.assertFalse(end.acked(request, ring, nine), request)
                self.assertFalse(end.acked(request, struct.pack("<Q", frontend.NO_FD), two[:1]), request)
                self.assertTrue(end.acked(request, struct.pack("<Q", frontend.NO_FD)), request)
            for request, payload in ((frontend.SET_FEATURES, struct.pack("<Q", frontend.USUAL)),
                                     (frontend.SET_VRING_NUM, struct.pack("<II", 0, 256)),
                                     (frontend.SET_VRING_BASE, bytes(8)), (frontend.SET_VRING_ENABLE, bytes(8)),
                                     (frontend.SET_VRING_ADDR, end.rings[0].address()), (frontend.SET_OWNER, b"")):
                for fds in (two[:1], two, nine):
                    self.assertFalse(end.acked(request, payload, fds), request)
            table = end.memory_table([(frontend.GUEST_BASE, 1 << 20, frontend.USER_BASE, 0)] * 2)
            for fds in ((), two[:1], (end.memory_fd,) * 3, (end.memory_fd,) * 9):
                self.assertFalse(end.acked(frontend.SET_MEM_TABLE, table, fds))
            self.assertEqual(self.host.state(0).link, "down")
            self.check_flow(left, right)
            # And a sound front end goes on from here.
            end.start()
            self.wait_link(0, "up")
        self.wait_link(0, "down", "waiting")
        # Without a reply asked for the connection ends.
        for fds in ((), two):
            with FrontEnd(self.path("0.sock")) as end:
                end.connect()
                end.negotiate()
                end.u64(frontend.SET_VRING_KICK, 0, fds and (end.memory_fd, end.memory_fd))
                self.assertTrue(end.closed())
        self.check_alive()

    def test_descriptors_with_what_cannot_be_read(self) -> None:
        """Descriptors of a message that the library refuses before anybody sees it."""
        messages = [
            struct.pack("<III", frontend.SET_VRING_NUM, 1, 8) + struct.pack("<II", 256, 16),
            struct.pack("<III", frontend.SET_VRING_BASE, 1, 8) + struct.pack("<II", 0xffffffff, 0),
            struct.pack("<III", frontend.SET_VRING_ENABLE, 9, 8) + struct.pack("<II", 300, 1),
            struct.pack("<III", frontend.GET_VRING_BASE, 1, 8) + struct.pack("<II", 1 << 31, 1),
            struct.pack("<III", frontend.SET_VRING_ADDR, 1, 40) + struct.pack("<IIQQQQ", 256, 0, 0, 0, 0, 0),
            struct.pack("<III", frontend.SET_INFLIGHT_FD, 1, 24) + bytes(24),
            struct.pack("<III", frontend.SET_FEATURES, 1, 5000),
            struct.pack("<III", frontend.SET_FEATURES, 1, 0xffffffff),
            struct.pack("<III", frontend.SET_FEATURES, 1, 8) + b"1234",
            b"\5\0\0\0",
        ]
        before = self.host.descriptors()
        for data in messages:
            for count in (1, 8, 20):
                with self.subTest(data=data[:12], count=count), FrontEnd(self.path("0.sock")) as end:
                    end.connect()
                    end.send_raw(data, (end.memory_fd,) * count)
                    self.assertTrue(end.closed())
            self.assertTrue(wait_for(lambda: self.host.descriptors() <= before),
                            f"{data[:12]!r}: {self.host.descriptors() - before} descriptors leaked")
        self.check_alive()

    def test_feature_flips(self) -> None:
        """Other features under a running device: refused, or the vif is what it says; never harm to others."""
        left, right = self.neighbours()
        a, b = self.started(0), self.started(1)
        self.check_flow(a, b)
        bits = (frontend.MRG_RXBUF, frontend.INDIRECT_DESC, frontend.EVENT_IDX, frontend.VERSION_1,
                frontend.PROTOCOL_FEATURES, 1 << 26, 1 << 34, 1 << 35, 1 << 63, 1)
        for turn, bit in enumerate(bits * 3):
            a.transmit([frame(i) for i in range(8)])
            accepted = a.acked(frontend.SET_FEATURES, struct.pack("<Q", frontend.USUAL ^ bit))
            a.rings[1].kick()
            self.check_flow(left, right, turn * 20)
            if accepted:
                self.assertTrue(a.acked(frontend.SET_FEATURES, struct.pack("<Q", frontend.USUAL)))
        a.close()
        self.wait_link(0, "down", "waiting")
        b.close()
        self.wait_link(1, "down", "waiting")
        self.check_alive()

    def test_message_storm(self) -> None:
        """Some thousand messages of all kinds, half of them sound, over many connections, beside a sound wire whose
        frames all arrive meanwhile."""
        seed = int(os.environ.get("PATCHBAY_TEST_SEED", "7"), 0)
        chance = random.Random(seed)
        kinds = [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 39, 40]
        flow = Flow(self, *self.neighbours())
        try:
            for _ in range(80):
                with FrontEnd(self.path("0.sock"), timeout=2) as end:
                    end.connect()
                    try:
                        if chance.random() < 0.7:
                            end.start()
                        for _ in range(25):
                            request = chance.choice(kinds) if chance.random() < 0.9 else chance.randrange(64)
                            if chance.random() < 0.5 and request not in (3, 14, 15, 16, 17, 39, 40):
                                self.sound(end, request, chance.randrange(2))
                            else:
                                payload = struct.pack("<II", chance.randrange(4), chance.choice((0, 1, 256, 65535)))
                                payload += chance.randbytes(chance.choice((0, 0, 32, 64, 256)))
                                fds = (end.memory_fd, end.rings[0].call_fd)[:chance.randrange(3)]
                                end.send(request, payload, fds, chance.choice((0, frontend.NEED_REPLY)))
                            end.transmit([frame(1)])
                        end.sync()
                    except (Closed, TimeoutError, BlockingIOError, AssertionError, struct.error):
                        pass
            flow.stop()
            self.wait_link(0, "down", "waiting")
            self.check_alive()
        except BaseException:
            print(f"message storm: PATCHBAY_TEST_SEED={seed}", file=sys.stderr)
            flow.ended.set()
            flow.thread.join()
            raise


class Descriptors(HostCase):
    def attach_with(self, kick: int | None, call: int | None) -> FrontEnd:
        end = self.front_end(0)
        end.connect()
        end.negotiate()
        end.set_memory()
        for ring in end.rings:
            end.set_ring(ring)
            if kick is not None:
                end.u64(frontend.SET_VRING_KICK, ring.index, (kick,))
            if call is not None:
                end.u64(frontend.SET_VRING_CALL, ring.index, (call,))
        end.enable()
        end.post()
        self.wait_link(0, "up")
        return end

    def check_without(self, end: FrontEnd) -> None:
        b = self.started(1)
        self.check_flow(end, b)
        self.check_flow(b, end)
        end.close()
        b.close()
        self.wait_link(0, "down", "waiting")
        self.wait_link(1, "down", "waiting")

    def test_call_is_a_pipe(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        self.check_without(self.attach_with(None, writer))
        self.assertRaises(BlockingIOError, os.read, reader, 1)
        os.close(reader)
        os.close(writer)

    def test_call_is_a_full_blocking_pipe(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        try:
            while True:
                os.write(writer, bytes(4096))
        except BlockingIOError:
            pass
        os.set_blocking(writer, True)
        self.check_without(self.attach_with(None, writer))
        os.close(reader)
        os.close(writer)

    def test_call_is_a_file(self) -> None:
        with tempfile.TemporaryFile() as file:
            self.check_without(self.attach_with(None, file.fileno()))
            self.assertEqual(os.fstat(file.fileno()).st_size, 0)

    def test_kick_is_a_file_or_socket(self) -> None:
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as file, ours, theirs:
            theirs.send(b"x")
            self.check_without(self.attach_with(file.fileno(), None))
            self.check_without(self.attach_with(ours.fileno(), None))

    def test_none_left(self) -> None:
        """A guest that couldn't be called would sleep for ever: its vif says why it isn't served."""
        end = self.front_end(0)
        end.connect()
        end.negotiate()
        end.set_memory()
        for ring in end.rings:
            end.set_ring(ring)
        end.sync()
        pid = self.host.process.pid
        used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(len(used) + 1)) - used), limits[1]))
        try:
            end.enable()
            end.sync()
            self.wait_link(0, "down", "no file descriptor for the eventfds of ring 0")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        end.post()
        end.ring_state(frontend.SET_VRING_ENABLE, 0, 1)
        self.wait_link(0, "up")
        self.check_without(end)

    def test_call_is_full(self) -> None:
        """A guest that never looks at its interrupts, with a blocking eventfd that is full."""
        end = self.attach_with(None, None)
        b = self.started(1)
        for ring in end.rings:
            while end.interrupted(ring.index, 0.1):
                pass
            os.eventfd_write(ring.call_fd, 2**64 - 2)
        self.check_flow(end, b)
        self.check_flow(b, end)
        self.check_flow(end, b)


    def test_call_blocks(self) -> None:
        """A front end that makes its eventfds blocking and fills them, again and again, in the moment when a worker
        writes to them too. Neither its own frames nor its neighbour's on the same worker stop."""
        left, right = self.neighbours()
        # Without the event index each burst is a call.
        hostile = self.started(0, features=frontend.USUAL & ~frontend.EVENT_IDX)
        peer = self.started(1)
        for ring in hostile.rings:
            os.set_blocking(ring.call_fd, True)
            os.eventfd_read(ring.call_fd)  # the attach has called
            os.eventfd_write(ring.call_fd, 2**64 - 2)
        notified = self.host.numbers("count 0")[3]
        for turn in range(50):
            self.check_flow(peer, hostile, turn * 100, 5)
            self.check_flow(hostile, peer, turn * 100, 5)
            self.check_flow(left, right, turn * 100, 5)
            self.check_flow(right, left, turn * 100, 5)
        self.assertGreaterEqual(self.host.numbers("count 0")[3], notified + 50)
        for ring in hostile.rings:
            self.assertTrue(os.get_blocking(ring.call_fd), "the test did not test what it is for")
            self.assertGreaterEqual(os.eventfd_read(ring.call_fd), 2**64 - 2)


class Memory(HostCase):
    def test_truncated_under_traffic(self) -> None:
        a, b = self.started(0), self.started(1)
        self.host.must(f"vif 2 vhost-server {self.path('2.sock')} 0600")
        self.addCleanup(self.host.must, "rm 2")
        self.check_flow(a, b)
        a.transmit([frame(i) for i in range(10)])
        b.receive_frames(10)
        a.memory.close()
        os.ftruncate(a.memory_fd, 0)
        # The worker looks at its ring when b, or a kick, makes it.
        a.rings[1].kick()
        b.transmit([frame(i) for i in range(10)])
        self.wait_link(0, "broken", "truncated")
        self.assertTrue(wait_for(lambda: (b.reclaim(), len(b.rings[1].free) == 256)[1]))
        # Messages don't make it whole.
        a.u64(frontend.SET_VRING_CALL, 0, (a.rings[0].call_fd,))
        a.ask(frontend.GET_FEATURES)
        self.assertEqual(self.host.state(0).link, "broken")
        # Nor does the driver's reset: what is in its place isn't the guest's.
        a.ask(frontend.GET_VRING_BASE, struct.pack("<II", 0, 0))
        a.ask(frontend.GET_VRING_BASE, struct.pack("<II", 1, 0))
        a.send(frontend.SET_MEM_TABLE, a.memory_table(), (a.memory_fd,))
        for ring in a.rings:
            a.set_ring(ring, 0)
        a.enable()
        a.sync()
        self.wait_link(0, "broken", "truncated")
        a.disconnect()
        self.wait_link(0, "down", "waiting")
        again = self.started(0)
        self.check_flow(again, b, 50)
        self.check_flow(b, again, 60)

    def test_truncated_before_the_rings_are_set(self) -> None:
        """The library itself reads the used index, and we look where a packed ring stands; here all of one that is gone
        is in one page, so that nobody else would notice."""
        packed = frontend.USUAL | frontend.RING_PACKED
        b = self.started(1)
        for size, features in ((0, frontend.USUAL), (4096, frontend.USUAL), (0, packed), (0x20000, packed)):
            with self.subTest(size=size, features=features), \
                    FrontEnd(self.path("0.sock"), features=features, ring_size=64) as end:
                end.connect()
                end.negotiate()
                os.ftruncate(end.memory_fd, size)
                end.set_memory()
                for ring in end.rings:
                    end.set_ring(ring)
                end.enable()
                end.sync()
                self.wait_link(0, "broken", "truncated")
                end.memory.close()
                end.memory = type("Gone", (), {"close": lambda self: None})()
        self.wait_link(0, "down", "waiting")
        self.check_flow(self.started(0), b)

    def test_other_sigbus_still_kills(self) -> None:
        """A real bug's SIGBUS, or one that was sent, still ends the process."""
        host = Host()
        host.process.send_signal(signal.SIGBUS)
        self.assertEqual(host.process.wait(10), -signal.SIGBUS)
        shutil.rmtree(f"/var/run/dpdk/patchbay-{host.process.pid}", ignore_errors=True)
        host.close()
        host.log.close()


class Broken(HostCase):
    def test_index_jump(self) -> None:
        a, b = self.started(0), self.started(1)
        self.check_flow(a, b)
        ring = a.rings[1]
        a.write(ring.avail + 2, struct.pack("<H", (ring.next_avail + 1000) & 0xffff))
        ring.kick()
        self.wait_link(0, "broken", "index")
        # It stays broken whatever is said, until the driver resets its device.
        a.u64(frontend.SET_VRING_CALL, 1, (ring.call_fd,))
        a.send(frontend.SET_MEM_TABLE, a.memory_table(), (a.memory_fd,))
        a.sync()
        self.wait_link(0, "broken", "index")
        bases = a.stop()
        a.write(ring.avail + 2, struct.pack("<H", bases[1]))
        ring.next_avail = bases[1]
        a.set_memory()
        for each, base in zip(a.rings, bases):
            a.set_ring(each, base)
        a.enable()
        a.sync()
        self.wait_link(0, "up")
        self.check_flow(a, b, 50)
        self.check_flow(b, a, 60)

    def test_head_beyond_the_ring(self) -> None:
        a = self.started(0)
        ring = a.rings[1]
        ring.offer(60000)
        ring.publish()
        ring.kick()
        self.wait_link(0, "broken", "beyond the ring")

    def test_bad_chains_are_counted(self) -> None:
        a, b = self.started(0), self.started(1)
        ring = a.rings[1]
        chains = [
            lambda: ring.set_desc(5, 0x10, 100, 0),  # no memory there
            lambda: ring.set_desc(5, frontend.GUEST_BASE + ring.buffer(5), 100, frontend.WRITE),
            lambda: ring.set_desc(5, frontend.GUEST_BASE + ring.buffer(5), 100, frontend.NEXT, 5),  # a loop
            lambda: ring.set_desc(5, frontend.GUEST_BASE + ring.buffer(5), 100, frontend.NEXT, 999),
            lambda: ring.set_desc(5, frontend.GUEST_BASE + ring.buffer(5), 17, frontend.INDIRECT),
            lambda: ring.set_desc(5, frontend.GUEST_BASE + ring.buffer(5), 13, 0),  # a runt
            lambda: ring.set_desc(5, frontend.GUEST_BASE, 1 << 20, 0),  # a giant
            lambda: ring.set_desc(5, 2**64 - 8, 100, 0),
        ]
        ring.free.remove(5)
        for count, chain in enumerate(chains, 1):
            chain()
            ring.offer(5)
            ring.publish()
            self.assertTrue(wait_for(lambda: self.host.numbers("count 0")[2] == count), count)
            used: list[int] = []
            self.assertTrue(wait_for(lambda: used.extend(head for head, _ in ring.used_chains()) or used))
            self.assertEqual(used, [5])
        ring.free.append(5)
        self.assertEqual(self.host.state(0).link, "up")
        self.check_flow(a, b)

    def test_lying_headers(self) -> None:
        """What a virtio header says is believed only where it can be true, and never passed on unchecked."""
        features = frontend.USUAL | frontend.OFFLOADS
        a, b = self.started(0, features=features), self.started(1, features=features)
        self.assertEqual(self.host.state(0).features, features)
        frame = bytes(12) + b"\x88\xb5" + bytes(186)
        lies = [  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
            (1, 0, 0, 0, 34, 165), (1, 0, 0, 0, 0xffff, 0xffff), (1, 0, 0, 0, 0, 0), (0, 1, 54, 1000, 0, 0),
            (1, 1, 54, 0, 34, 16), (1, 1, 201, 1000, 34, 16), (1, 3, 54, 1000, 34, 16), (1, 5, 42, 1000, 34, 6),
            (1, 0x80, 54, 1000, 34, 16), (1, 0xff, 54, 1000, 34, 16)]
        for count, lie in enumerate(lies, 1):
            a.transmit([frame], header=struct.pack("<BBHHHHH", *lie, 0))
            self.assertTrue(wait_for(lambda: self.host.numbers("count 0")[2] == count), lie)
        truths = [  # and what of it comes to b
            ((0xfe, 0, 9, 9, 9, 9), (0, 0, 0, 0, 0, 0, 1)), ((3, 0, 9, 9, 34, 16), (1, 0, 0, 0, 34, 16, 1)),
            ((1, 1, 54, 100, 34, 16), (1, 1, 54, 100, 34, 16, 1)),
            ((1, 0x84, 74, 100, 54, 16), (1, 0x84, 74, 100, 54, 16, 1))]
        for given, wanted in truths:
            a.transmit([frame], header=struct.pack("<BBHHHHH", *given, 99))
            self.assertEqual(b.receive_frames(1), [frame])
            self.assertEqual(struct.unpack("<BBHHHHH", b.header), wanted)
        self.check_flow(a, b)

    def test_lies_about_what_is_to_be_segmented(self) -> None:
        """A receiver that takes no segments gets none of them, and the sender's other frames go on."""
        a, b = self.started(0, features=frontend.USUAL | frontend.OFFLOADS), self.started(1)
        frame = bytes(12) + b"\x08\x00" + bytes(586)
        for count in range(1, 20):
            a.transmit([frame], header=struct.pack("<BBHHHHH", 1, 1, 54, count, 34, 16, 0))
            self.assertTrue(wait_for(lambda: self.host.numbers("leg 0 0")[2] == count), count)
        a.transmit([frame], header=struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 0))
        self.assertEqual(b.receive_frames(1), [frame[:50] + b"\xff\xff" + frame[52:]])
        self.check_flow(a, b)


class BrokenAtOnce(HostCase):
    """A worker that polls all the time sees a ring before its vif is said to be up."""

    mode = "busy"

    def test_index_jump(self) -> None:
        for turn in range(400):
            with self.subTest(turn=turn), FrontEnd(self.path("0.sock")) as end:
                end.connect()
                end.write(end.rings[1].avail + 2, struct.pack("<H", 1000))
                end.start()
                self.wait_link(0, "broken", "index")



if __name__ == "__main__":
    unittest.main()
