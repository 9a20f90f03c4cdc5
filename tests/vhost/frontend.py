# SPDX-License-Identifier: BSD-3-Clause
"""A vhost-user front end with a virtio-net driver, in Python: as sound or as hostile as a test wants it.

Its guest memory is one memfd. Each ring has a fixed place in it, then come the buffers:

    0x00000 receive ring (0)    0x40000 receive buffers, one a descriptor
    0x20000 transmit ring (1)   …       transmit buffers, one a descriptor

With many pairs of queues all rings come first, 2 × pair and 2 × pair + 1. A ring of more than 4,096 descriptors takes
more room.

It speaks QEMU's docs/interop/vhost-user.rst and virtio 1.2, split rings and, if RING_PACKED is among its features, packed
ones.
"""
from __future__ import annotations

import array
import mmap
import os
import select
import socket
import struct
import time

# Requests.
GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE = 1, 2, 3, 4, 5
SET_LOG_BASE, SET_LOG_FD, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 6, 7, 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES = 12, 13, 14, 15, 16
GET_QUEUE_NUM, SET_VRING_ENABLE, SEND_RARP, NET_SET_MTU, SET_SLAVE_REQ_FD, IOTLB_MSG = 17, 18, 19, 20, 21, 22
GET_CONFIG, SET_CONFIG, CREATE_CRYPTO, CLOSE_CRYPTO, POSTCOPY_ADVISE, POSTCOPY_LISTEN = 24, 25, 26, 27, 28, 29
POSTCOPY_END, GET_INFLIGHT_FD, SET_INFLIGHT_FD, SET_STATUS, GET_STATUS = 30, 31, 32, 39, 40

VERSION, REPLY, NEED_REPLY, NO_FD = 1, 4, 8, 0x100

# Features.
LOG_ALL = 1 << 26
MRG_RXBUF, ANY_LAYOUT, INDIRECT_DESC, EVENT_IDX, PROTOCOL_FEATURES, VERSION_1 = (
    1 << 15, 1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 32)
PROTOCOL_LOG_SHMFD, PROTOCOL_RARP, PROTOCOL_NET_MTU = 1 << 1, 1 << 2, 1 << 4
PAGE = 4096
RING_PACKED, IN_ORDER = 1 << 34, 1 << 35
PROTOCOL_REPLY_ACK, PROTOCOL_STATUS = 1 << 3, 1 << 16
CSUM, GUEST_CSUM, MTU, GUEST_TSO4, GUEST_TSO6, GUEST_ECN = 1 << 0, 1 << 1, 1 << 3, 1 << 7, 1 << 8, 1 << 9
HOST_TSO4, HOST_TSO6, HOST_ECN = 1 << 11, 1 << 12, 1 << 13
OFFLOADS = CSUM | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | HOST_TSO4 | HOST_TSO6 | HOST_ECN
USUAL = MRG_RXBUF | INDIRECT_DESC | EVENT_IDX | PROTOCOL_FEATURES | VERSION_1

MQ, CTRL_VQ, PROTOCOL_MQ = 1 << 22, 1 << 17, 1

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 1 << 7, 1 << 15
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = 0, 1, 2
NO_INTERRUPT = NO_NOTIFY = 1

RECEIVE, TRANSMIT = 0, 1
BUFFER_SIZE = 2048
HUGE_PAGE = 2 << 20
GUEST_BASE = 0x4000_0000
USER_BASE = 0x7f00_0000_0000


class Closed(Exception):
    """The back end has closed the connection."""


def ring_room(size: int) -> int:
    """The bytes that a ring of so many descriptors gets."""
    return 0x20000 * max(size // 4096, 1)


class Ring:
    """One split ring as its driver sees it."""

    def __init__(self, end: "FrontEnd", index: int, size: int) -> None:
        self.end, self.index, self.size = end, index, size
        base = index * ring_room(size)
        self.desc, self.avail = base, base + 16 * size
        self.used = (self.avail + 6 + 2 * size + 4095) & ~4095
        self.next_avail = self.next_used = 0
        self.buffers = end.buffers_at + index * size * BUFFER_SIZE
        self.free = list(range(size - 1, -1, -1))
        self.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.call_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.kicks = 0

    def close(self) -> None:
        os.close(self.kick_fd)
        os.close(self.call_fd)

    def buffer(self, head: int) -> int:
        return self.buffers + head * BUFFER_SIZE

    def set_desc(self, at: int, address: int, size: int, flags: int, following: int = 0) -> None:
        self.end.write(self.desc + 16 * at, struct.pack("<QIHH", address, size, flags, following))

    def offer(self, head: int) -> None:
        """Puts a chain's head into the available ring; publish makes it visible."""
        self.end.write(self.avail + 4 + 2 * (self.next_avail % self.size), struct.pack("<H", head))
        self.next_avail = (self.next_avail + 1) & 0xffff

    def publish(self) -> None:
        old = self.end.u16(self.avail + 2)
        self.end.write(self.avail + 2, struct.pack("<H", self.next_avail))
        if self.end.features & EVENT_IDX:
            event = self.end.u16(self.used + 4 + 8 * self.size)
            wanted = (self.next_avail - event - 1) & 0xffff < (self.next_avail - old) & 0xffff
        else:
            wanted = not self.end.u16(self.used) & NO_NOTIFY
        if wanted:
            self.kick()

    def kick(self) -> None:
        self.kicks += 1
        try:
            os.eventfd_write(self.kick_fd, 1)
        except BlockingIOError:
            pass

    def used_chains(self) -> list[tuple[int, int]]:
        """What the device gave back since the last call: heads and lengths."""
        index = self.end.u16(self.used + 2)
        got = []
        while self.next_used != index:
            got.append(struct.unpack("<II", self.end.read(self.used + 4 + 8 * (self.next_used % self.size), 8)))
            self.next_used = (self.next_used + 1) & 0xffff
        if self.end.features & EVENT_IDX:
            self.end.write(self.avail + 4 + 2 * self.size, struct.pack("<H", self.next_used))
        return got

    @property
    def base(self) -> int:
        """What SET_VRING_BASE says: where the device goes on."""
        return self.next_used

    def reset(self) -> None:
        """As a driver does that starts its device anew."""
        self.end.write(self.desc, bytes(self.used + 6 + 8 * self.size - self.desc))
        self.next_avail = self.next_used = 0
        self.free = list(range(self.size - 1, -1, -1))

    def address(self, log: bool = False) -> bytes:
        return struct.pack("<IIQQQQ", self.index, int(log), USER_BASE + self.desc, USER_BASE + self.used,
                           USER_BASE + self.avail, GUEST_BASE + self.used if log else 0)


class PackedRing(Ring):
    """One packed ring as its driver sees it. A head is a buffer's id; places in the ring come one after the other."""

    def __init__(self, end: "FrontEnd", index: int, size: int) -> None:
        super().__init__(end, index, size)
        self.avail = self.desc + 16 * size  # the driver's event structure
        self.used = self.avail + 4          # the device's
        self.avail_wrap = self.used_wrap = True
        self.chains: dict[int, list[tuple[int, int, int]]] = {}  # by head: address, size, flags
        self.outstanding: dict[int, int] = {}                    # by head: descriptors
        self.hidden: list[tuple[int, int, bool]] = []            # heads' places, flags and laps, until publish

    @property
    def base(self) -> int:
        return self.next_used | self.used_wrap << 15

    def reset(self) -> None:
        self.end.write(self.desc, bytes(16 * self.size + 8))
        self.next_avail = self.next_used = 0
        self.avail_wrap = self.used_wrap = True
        self.free = list(range(self.size - 1, -1, -1))
        self.chains, self.outstanding, self.hidden = {}, {}, []

    def set_desc(self, at: int, address: int, size: int, flags: int, following: int = 0) -> None:
        assert not following
        self.set_chain(at, [(address, size, flags)])

    def set_chain(self, head: int, pieces: list[tuple[int, int, int]]) -> None:
        self.chains[head] = pieces

    def flags(self, at: int) -> int:
        return self.end.u16(self.desc + 16 * at + 14)

    def offer(self, head: int) -> None:
        pieces = self.chains[head]
        for number, (address, size, flags) in enumerate(pieces):
            at = self.desc + 16 * self.next_avail
            flags |= (AVAIL if self.avail_wrap else USED) | (NEXT if number + 1 < len(pieces) else 0)
            self.end.write(at, struct.pack("<QIH", address, size, head))
            if number == 0:
                self.hidden.append((self.next_avail, flags, self.avail_wrap))
            else:
                self.end.write(at + 14, struct.pack("<H", flags))
            self.next_avail += 1
            if self.next_avail == self.size:
                self.next_avail, self.avail_wrap = 0, not self.avail_wrap
        self.outstanding[head] = len(pieces)

    def publish(self) -> None:
        places = [at | wrap << 15 for at, _, wrap in self.hidden]
        for at, flags, _ in reversed(self.hidden):  # the first last: all of them or none
            self.end.write(self.desc + 16 * at + 14, struct.pack("<H", flags))
        self.hidden = []
        place, wish = self.end.u16(self.used), self.end.u16(self.used + 2)
        if wish == EVENT_ENABLE or (wish == EVENT_DESC and place in places):
            self.kick()

    def used_chains(self) -> list[tuple[int, int]]:
        got = []
        while True:
            flags = self.flags(self.next_used)
            if flags & (AVAIL | USED) != (AVAIL | USED if self.used_wrap else 0):
                break
            size, head = struct.unpack("<IH", self.end.read(self.desc + 16 * self.next_used + 8, 6))
            got.append((head, size if flags & WRITE else 0))
            self.next_used += self.outstanding.pop(head)
            if self.next_used >= self.size:
                self.next_used, self.used_wrap = self.next_used - self.size, not self.used_wrap
        if self.end.features & EVENT_IDX:
            self.end.write(self.avail, struct.pack("<HH", self.base, EVENT_DESC))
        return got


class Log:
    """A dirty log: a bit for each page of guest memory."""

    def __init__(self, end: int) -> None:
        """end: the first guest address beyond it."""
        self.size = (end // PAGE + 7) // 8
        self.fd = os.memfd_create("dirty-log", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.size)

    def pages(self) -> set[int]:
        """Guest addresses of the pages whose bits are set."""
        bits = os.pread(self.fd, self.size, 0)
        return {(8 * at + bit) * PAGE for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1}

    def close(self) -> None:
        os.close(self.fd)


class FrontEnd:
    """path: the socket. listen: the back end connects to us (QEMU's server=on); else we connect to it. huge: in two huge pages, the
    second of which has the buffers; OSError if there aren't any."""

    def __init__(self, path: str, *, listen: bool = False, features: int = USUAL, ring_size: int = 256,
                 memory_size: int = 4 << 20, timeout: float = 60.0, pairs: int = 1, huge: bool = False) -> None:
        self.path, self.timeout, self.wanted, self.features = path, timeout, features, 0
        self.protocol = 0
        self.pairs = pairs
        if pairs > 1:
            self.wanted |= MQ | CTRL_VQ
            memory_size *= pairs
        self.memory_size = memory_size
        self.memory_fd = os.memfd_create("vhost-test", os.MFD_CLOEXEC | (os.MFD_HUGETLB | os.MFD_HUGE_2MB if huge else 0))
        try:
            os.ftruncate(self.memory_fd, memory_size)
            self.memory = mmap.mmap(self.memory_fd, memory_size)
        except OSError:
            os.close(self.memory_fd)
            raise
        self.buffers_at = HUGE_PAGE if huge else 2 * pairs * ring_room(ring_size)
        kind = PackedRing if features & RING_PACKED else Ring
        self.rings = [kind(self, index, ring_size) for index in range(2 * pairs)]
        self.listener: socket.socket | None = None
        self.socket: socket.socket | None = None
        if listen:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(path)
            self.listener.listen(1)
            self.listener.settimeout(timeout)

    def __enter__(self) -> "FrontEnd":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- memory ----

    def read(self, at: int, size: int) -> bytes:
        return self.memory[at:at + size]

    def write(self, at: int, data: bytes) -> None:
        self.memory[at:at + len(data)] = data

    def u16(self, at: int) -> int:
        """In one load: of a slice, which is a memcpy of two bytes, the C library may load the second byte again, later."""
        return struct.unpack_from("@H", self.memory, at)[0]

    # ---- protocol ----

    def connect(self) -> None:
        self.disconnect()
        if self.listener is not None:
            self.socket, _ = self.listener.accept()
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.connect(self.path)
        self.socket.settimeout(self.timeout)

    def disconnect(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def close(self) -> None:
        if self.listener is not None:  # first, or the back end is back before it is gone
            self.listener.close()
            self.listener = None
        self.disconnect()
        for ring in self.rings:
            ring.close()
        self.rings = []
        if self.memory_fd >= 0:
            self.memory.close()
            os.close(self.memory_fd)
            self.memory_fd = -1

    def send_raw(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        assert self.socket is not None
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([data], control)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def send(self, request: int, payload: bytes = b"", fds: tuple[int, ...] = (), flags: int = 0,
             size: int | None = None) -> None:
        header = struct.pack("<III", request, VERSION | flags, len(payload) if size is None else size)
        self.send_raw(header + payload, fds)

    def receive(self) -> tuple[int, int, bytes]:
        assert self.socket is not None
        data = self._exactly(12)
        request, flags, size = struct.unpack("<III", data)
        return request, flags, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        assert self.socket is not None
        data = b""
        while len(data) < size:
            try:
                part = self.socket.recv(size - len(data))
            except ConnectionResetError as error:
                raise Closed from error
            if not part:
                raise Closed
            data += part
        return data

    def ask(self, request: int, payload: bytes = b"") -> bytes:
        self.send(request, payload)
        answer, flags, data = self.receive()
        assert answer == request and flags & REPLY, (answer, flags)
        return data

    def ask_u64(self, request: int) -> int:
        return struct.unpack("<Q", self.ask(request))[0]

    def acked(self, request: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> bool:
        """Sends with NEED_REPLY; True if the back end says that it was done."""
        self.send(request, payload, fds, NEED_REPLY)
        answer, flags, data = self.receive()
        assert answer == request and flags & REPLY, (answer, flags)
        return struct.unpack("<Q", data)[0] == 0

    def u64(self, request: int, value: int, fds: tuple[int, ...] = ()) -> None:
        self.send(request, struct.pack("<Q", value), fds)

    def ring_state(self, request: int, ring: int, value: int) -> None:
        self.send(request, struct.pack("<II", ring, value))

    def sync(self) -> None:
        """Returns when all messages before have been handled."""
        self.ask(GET_FEATURES)

    def closed(self, within: float = 60.0) -> bool:
        """True if the back end closes the connection."""
        assert self.socket is not None
        end = time.monotonic() + within
        while time.monotonic() < end:
            ready, _, _ = select.select([self.socket], [], [], 0.1)
            if ready:
                try:
                    if not self.socket.recv(65536):
                        return True
                except ConnectionResetError:
                    return True
        return False

    # ---- handshake ----

    def negotiate(self) -> None:
        offered = self.ask_u64(GET_FEATURES)
        self.features = self.wanted & offered
        if self.features & PROTOCOL_FEATURES:
            self.protocol = self.ask_u64(GET_PROTOCOL_FEATURES) & (
                PROTOCOL_REPLY_ACK | PROTOCOL_LOG_SHMFD | PROTOCOL_RARP | PROTOCOL_MQ)
            self.u64(SET_PROTOCOL_FEATURES, self.protocol)
        self.send(SET_OWNER)
        self.u64(SET_FEATURES, self.features)

    def memory_table(self, regions: list[tuple[int, int, int, int]] | None = None) -> bytes:
        if regions is None:
            regions = [(GUEST_BASE, self.memory_size, USER_BASE, 0)]
        return struct.pack("<II", len(regions), 0) + b"".join(struct.pack("<QQQQ", *region) for region in regions)

    def set_memory(self) -> None:
        self.send(SET_MEM_TABLE, self.memory_table(), (self.memory_fd,))

    def set_ring(self, ring: Ring, base: int | None = None) -> None:
        self.ring_state(SET_VRING_NUM, ring.index, ring.size)
        self.ring_state(SET_VRING_BASE, ring.index, ring.base if base is None else base)
        self.send(SET_VRING_ADDR, ring.address())
        self.u64(SET_VRING_KICK, ring.index, (ring.kick_fd,))
        self.u64(SET_VRING_CALL, ring.index, (ring.call_fd,))

    def enable(self, on: bool = True) -> None:
        for ring in self.rings:
            self.ring_state(SET_VRING_ENABLE, ring.index, int(on))

    def use_pairs(self, count: int) -> None:
        """Enables the first pairs and disables the others, in QEMU's order."""
        for ring in self.rings:
            self.ring_state(SET_VRING_ENABLE, ring.index, int(ring.index < 2 * count))

    def start(self, pairs_used: int | None = None) -> None:
        """All of the handshake, as a sound front end does it; receive buffers are posted."""
        self.negotiate()
        self.set_memory()
        for ring in self.rings:
            self.set_ring(ring)
        if self.features & PROTOCOL_FEATURES:
            self.use_pairs(self.pairs if pairs_used is None else pairs_used)
        for pair in range(self.pairs):
            self.post(pair=pair)
        self.sync()

    def stop(self) -> list[int]:
        """Stops the rings; returns the back end's indices."""
        return [struct.unpack("<II", self.ask(GET_VRING_BASE, struct.pack("<II", ring.index, 0)))[1]
                for ring in self.rings]

    # ---- live migration ----

    def set_log(self, log: "Log", size: int | None = None, offset: int = 0) -> None:
        self.send(SET_LOG_BASE, struct.pack("<QQ", log.size if size is None else size, offset), (log.fd,))
        answer, flags, data = self.receive()
        assert answer == SET_LOG_BASE and flags & REPLY and not data, (answer, flags, data)

    def start_log(self, log: "Log") -> None:
        """As QEMU does it when a migration begins."""
        self.set_log(log)
        self.log_features(True)

    def log_features(self, on: bool) -> None:
        self.features = self.features & ~LOG_ALL | (LOG_ALL if on else 0)
        self.u64(SET_FEATURES, self.features)
        for ring in self.rings:
            self.send(SET_VRING_ADDR, ring.address(on))

    def stop_log(self) -> None:
        self.log_features(False)

    def announce(self, mac: bytes) -> None:
        self.send(SEND_RARP, mac + bytes(2))

    # ---- driver ----

    @property
    def header_size(self) -> int:
        return 12 if self.features & (VERSION_1 | MRG_RXBUF) else 10

    def post(self, count: int | None = None, pair: int = 0) -> None:
        """Offers receive buffers, all that are free by default."""
        ring = self.rings[2 * pair + RECEIVE]
        for _ in range(len(ring.free) if count is None else count):
            head = ring.free.pop()
            ring.set_desc(head, GUEST_BASE + ring.buffer(head), BUFFER_SIZE, WRITE)
            ring.offer(head)
        ring.publish()

    def transmit(self, frames: list[bytes], pair: int = 0, header: bytes = bytes(12)) -> int:
        """Offers frames; returns how many found a descriptor."""
        ring = self.rings[2 * pair + TRANSMIT]
        self.reclaim(pair)
        done = 0
        for frame in frames:
            if not ring.free:
                break
            head = ring.free.pop()
            self.write(ring.buffer(head), header[:self.header_size] + frame)
            ring.set_desc(head, GUEST_BASE + ring.buffer(head), self.header_size + len(frame), 0)
            ring.offer(head)
            done += 1
        ring.publish()
        return done

    def reclaim(self, pair: int = 0) -> None:
        ring = self.rings[2 * pair + TRANSMIT]
        ring.free.extend(head for head, _ in ring.used_chains())

    def received(self, pair: int = 0) -> list[bytes]:
        """Frames that have come; their buffers are offered again."""
        ring = self.rings[2 * pair + RECEIVE]
        frames = []
        for head, size in ring.used_chains():
            self.header = self.read(ring.buffer(head), self.header_size)  # of the last one
            frames.append(self.read(ring.buffer(head) + self.header_size, max(size - self.header_size, 0)))
            ring.free.append(head)
        if frames:
            self.post(pair=pair)
        return frames

    def receive_frames(self, count: int, within: float = 60.0, pair: int = 0) -> list[bytes]:
        """Waits for count frames; returns what has come by then."""
        frames: list[bytes] = []
        end = time.monotonic() + within
        while len(frames) < count and time.monotonic() < end:
            got = self.received(pair)
            frames += got
            if not got:
                time.sleep(0.0005)
        return frames

    def interrupted(self, ring: int, within: float = 60.0) -> bool:
        """Waits for an interrupt of a ring and takes it."""
        ready, _, _ = select.select([self.rings[ring].call_fd], [], [], within)
        if ready:
            os.eventfd_read(self.rings[ring].call_fd)
        return bool(ready)
