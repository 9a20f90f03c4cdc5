# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces as the machines behind kernel interfaces, and raw sockets in them."""
from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import select
import socket
import struct
import subprocess
import threading
import time
from typing import Any, Iterator

from patchbay import Daemon, register, spawn, wait_for

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
_count = 0


def ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise AssertionError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def interface_name(hint: str) -> str:
    """A name for an interface that nobody else uses on this machine, of at most 15 characters."""
    global _count
    _count += 1
    return f"pb{os.getpid() % 1000000}{hint[:3]}{_count}"[:15]


class Namespace:
    """A network namespace without any traffic of its own: no IPv6, no addresses but those given."""

    def __init__(self, owner: Any, hint: str) -> None:
        global _count
        _count += 1
        self.name = f"pb-system-{os.getpid()}-{_count}-{hint}"
        self._children: list[subprocess.Popen] = []
        self._sockets: list[socket.socket] = []
        register(owner, self.close)
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        # The default is inherited by interfaces that come later, `all` by those that are moved in.
        self.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")

    def ip(self, *words: str) -> str:
        return ip("-n", self.name, *words)

    def run(self, *words: str, timeout: float = 240.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(["ip", "netns", "exec", self.name, *words], capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise AssertionError(f"in {self.name}: {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def spawn(self, *words: Any, **options: Any) -> subprocess.Popen:
        """A process in the namespace, ended at the latest with it."""
        process = spawn(["ip", "netns", "exec", self.name, *words], **options)
        self._children.append(process)
        return process

    def take(self, daemon: Daemon, interface: str, address: str | None = None) -> None:
        """Moves an interface of the daemon's in, gives it an address and sets it up."""
        wait_for(f"there is an interface {interface}", lambda: daemon.has_interface(interface))
        done = subprocess.run([*daemon.inside, "ip", "link", "set", interface, "netns", self.name],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        self.run("sysctl", "-qw", f"net.ipv6.conf.{interface}.disable_ipv6=1", check=False)
        if address:
            self.ip("addr", "add", address, "dev", interface)
        self.ip("link", "set", interface, "up")

    def plug(self, daemon: Daemon, vif: str, address: str | None = None) -> str:
        """A new vif of the daemon and its port, whose kernel end is in here; returns the interface's name."""
        interface = interface_name(vif)
        daemon.plug(vif, "kernel-new", interface)
        self.take(daemon, interface, address)
        daemon.wait_vif(vif)
        return interface

    def counters(self, interface: str) -> Any:
        return json.loads(self.ip("-s", "-j", "link", "show", interface))[0]["stats64"]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the namespace meanwhile: sockets made in here stay in it."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def socket(self, kind: int) -> socket.socket:
        """A TCP (SOCK_STREAM) or UDP (SOCK_DGRAM) socket in the namespace."""
        with self.inside():
            made = socket.socket(socket.AF_INET, kind)
        self._sockets.append(made)
        made.settimeout(240)
        return made

    def raw(self, interface: str) -> "Raw":
        with self.inside():
            made = Raw(interface)
        self._sockets.append(made.socket)
        return made

    def ping(self, address: str, count: int = 1, wait: float = 20.0, interval: float = 0.02) -> bool:
        """Whether any of `count` pings was answered, the last one within `wait` seconds if none was before."""
        return self.run("ping", "-q", "-c", str(count), "-i", str(interval), "-W", str(wait), address, check=False,
                        timeout=count * (wait + interval) + 200).returncode == 0

    def answered(self) -> int:
        """Pings from here that were answered so far, whether or not their program still waited: it has little patience."""
        names, values = (line.split() for line in self.run("cat", "/proc/net/snmp").stdout.splitlines()
                         if line.startswith("Icmp:"))
        return int(values[names.index("InEchoReps")])

    def close(self) -> None:
        for made in self._sockets:
            made.close()
        for process in self._children:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        if os.path.exists(f"/run/netns/{self.name}"):
            ip("netns", "del", self.name)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Raw:
    """Frames as they are: what is sent goes out byte by byte, what is received is what came in. The kernel hands a
    received frame's VLAN tag over beside the frame, even without a VLAN module; it is put back in its place."""

    def __init__(self, interface: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.bind((interface, ETH_P_ALL))

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.socket.send(frame)

    def receive(self, timeout: float) -> bytes | None:
        """The next frame, or None after `timeout` seconds."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return None
        data, extra, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(20))
        for level, kind, value in extra:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", value[:20])
                if status & TP_STATUS_VLAN_VALID:
                    tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                    data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
        return data

    def collect(self, count: int, deadline: float = 60.0, quiet: float = 0.2) -> list[bytes]:
        """Exactly `count` frames, and none more for a moment."""
        frames: list[bytes] = []
        end = time.monotonic() + deadline
        while len(frames) < count and time.monotonic() < end:
            frame = self.receive(0.1)
            if frame is not None:
                frames.append(frame)
        while (frame := self.receive(quiet)) is not None:
            frames.append(frame)
        seen = [data[:40].hex() for data in frames[:8]]
        assert len(frames) == count, f"{len(frames)} frames came instead of {count}: {seen}"
        return frames


def frame(number: int, size: int = 60, *, tag: int | None = None, ethertype: int = 0x88b5) -> bytes:
    """A frame of `size` bytes (14 and more; a tag comes on top), told from others by its number."""
    head = bytes.fromhex("025042000001") + b"\x02\x50\x43" + struct.pack("!I", number)[1:]
    if tag is not None:
        head += struct.pack("!HH", 0x8100, tag)
    head += struct.pack("!H", ethertype)
    body = hashlib.shake_128(str(number).encode()).digest(size - 14)
    return head + body


def padded(data: bytes) -> bytes:
    """The frame as a NIC sends it."""
    return data.ljust(60, b"\0")


def transfer(sender: Namespace, receiver: Namespace, address: str, size: int) -> float:
    """Moves `size` bytes over TCP and compares what came with what was sent; returns Mbit/s."""
    listener = receiver.socket(socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen(1)
    client = sender.socket(socket.SOCK_STREAM)
    got = hashlib.sha256()
    failure: list[BaseException] = []
    block = os.urandom(1 << 16)

    def receive() -> None:
        try:
            connection, _ = listener.accept()
            connection.settimeout(240)
            with connection:
                while data := connection.recv(1 << 18):
                    got.update(data)
        except BaseException as error:
            failure.append(error)
    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    begin = time.monotonic()
    client.connect((address, listener.getsockname()[1]))
    sent = hashlib.sha256()
    for number in range(size // len(block)):
        data = block[number % 1000:] + block[:number % 1000]
        sent.update(data)
        client.sendall(data)
    client.close()
    thread.join(240)
    took = time.monotonic() - begin
    assert not failure, failure
    assert not thread.is_alive(), "the transfer doesn't end"
    assert got.digest() == sent.digest(), "what came isn't what was sent"
    return size * 8 / took / 1e6


def iperf(sender: Namespace, receiver: Namespace, address: str, *options: str, seconds: int = 2) -> Any:
    """iperf3 over TCP; returns its JSON."""
    server = receiver.spawn("iperf3", "-s", "-1", "-J", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("iperf3 listens", lambda: " 00000000:1451 " in _tcp(receiver) or ":1451 " in _tcp(receiver), 10)
    done = sender.run("iperf3", "-c", address, "-t", str(seconds), "-J", *options, timeout=seconds + 240, check=False)
    result = json.loads(done.stdout)
    assert done.returncode == 0 and "error" not in result, result.get("error", done.stdout)
    server.wait(60)
    return result


def _tcp(namespace: Namespace) -> str:
    return namespace.run("cat", "/proc/net/tcp", "/proc/net/tcp6", check=False).stdout
