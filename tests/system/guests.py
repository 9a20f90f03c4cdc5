# SPDX-License-Identifier: BSD-3-Clause
"""What tests with real guests share: traffic between two, and what it must be like."""
from __future__ import annotations

import json
import sys
import time
from typing import Any, Iterable, Sequence

from patchbay import PATIENCE, ROOT

sys.path.insert(0, str(ROOT / "tools" / "guest"))
import guest as guests_tool  # noqa: E402
from guest import Background, Capture, CommandError, Nic  # noqa: E402,F401

# A guest without IPv6 sends nothing of its own accord but ARP.
QUIET = "ipv6.disable=1"


class Guest(guests_tool.Guest):
    """One that is waited for as patiently as any condition."""

    def wait_ready(self, timeout: float = 60.0) -> "Guest":
        super().wait_ready(PATIENCE * timeout)
        return self

    def reset(self, timeout: float = 60.0) -> "Guest":
        super().reset(PATIENCE * timeout)
        return self

    def reboot(self, timeout: float = 60.0) -> "Guest":
        super().reboot(PATIENCE * timeout)
        return self

    def qmp(self, command: str, timeout: float = 20.0, **arguments: object) -> Any:
        return super().qmp(command, PATIENCE * timeout, **arguments)

    def migrate(self, target: guests_tool.Guest, timeout: float = 60.0, **options: Any) -> float:
        return super().migrate(target, timeout=PATIENCE * timeout, **options)

    def run_bytes(self, command: str | Sequence[str], timeout: float = 30.0) -> tuple[int, bytes]:
        return super().run_bytes(command, PATIENCE * timeout)

    def wait_until(self, command: str | Sequence[str], timeout: float = 30.0, interval: float = 0.1) -> str:
        return super().wait_until(command, PATIENCE * timeout, interval)


def wait_all(guests: Iterable[guests_tool.Guest], timeout: float = 90.0) -> None:
    guests_tool.wait_all(guests, PATIENCE * timeout)


def taken(capture: Capture, count: int) -> list[bytes]:
    """The frames of a capture, once there are so many at least: a guest under emulation may be long in taking the last."""
    capture.guest.wait_until(f"test $(tcpdump -nr {capture.path} 2>/dev/null | wc -l) -ge {count}")
    return capture.finish()


def resumes(guest: Guest, address: str, deadline: float = 40.0) -> float:
    """Waits until the guest reaches the address; returns how long that took."""
    begin = time.monotonic()
    guest.wait_until(f"ping -q -c 1 -W 1 {address}", deadline)
    return time.monotonic() - begin


def ping_all(guest: Guest, address: str, count: int = 20) -> None:
    """Each ping is answered. One at a time: busybox doesn't wait for the last ones of a series for longer than the others
    took, and a guest under emulation may need longer for once."""
    guest.check(f"for i in $(seq {count}); do ping -q -c 1 -W 5 {address} >/dev/null || exit 1; done", 60)


def silent(guest: Guest, address: str) -> None:
    """No ping is answered."""
    code, output = guest.run(f"ping -q -c 2 -i 0.2 -W 1 {address}")
    assert code != 0, f"{guest.name} reaches {address}\n{output}"


def tcp(client: Guest, server: Guest, address: str, seconds: int = 2, *options: str) -> float:
    """iperf3 from client to server; returns Mbit/s."""
    return finish_tcp(*begin_tcp(client, server, address, seconds, *options))


def begin_tcp(client: Guest, server: Guest, address: str, seconds: int, *options: str) -> tuple[Background, Background]:
    listening = server.spawn("iperf3 -s -1")
    server.wait_until("netstat -ltn | grep -q :5201")
    return client.spawn(f"iperf3 -c {address} -t {seconds} -J {' '.join(options)}"), listening


def finish_tcp(sending: Background, listening: Background, deadline: float = 60.0) -> float:
    code = sending.wait(deadline)
    text = sending.output()
    listening.stop()
    result: Any = json.loads(text)
    assert code == 0 and "error" not in result, f"{text[-2000:]}\nthe server said: {listening.output()[-2000:]}"
    assert result["end"]["sum_received"]["bytes"] > 0, text[-2000:]
    return result["end"]["sum_received"]["bits_per_second"] / 1e6


def checked_transfer(client: Guest, server: Guest, address: str, megabytes: int = 4) -> None:
    """A file over TCP, compared by its checksum."""
    # nc gives up when its input ends, so that must not be /dev/null.
    receiving = server.spawn("rm -f /tmp/open; mkfifo /tmp/open && nc -l -p 9000 <>/tmp/open >/tmp/received")
    server.wait_until("netstat -ltn | grep -q :9000")
    client.check(f"dd if=/dev/urandom of=/tmp/sent bs=1M count={megabytes} 2>/dev/null")
    client.check(f"nc {address} 9000 </tmp/sent", 60)
    assert receiving.wait() == 0
    sums = [guest.check(f"md5sum <{path}") for guest, path in ((client, "/tmp/sent"), (server, "/tmp/received"))]
    client.check("rm /tmp/sent")
    server.check("rm /tmp/received /tmp/open")
    assert sums[0] == sums[1], "what arrived isn't what was sent"


def interface_frames(guest: Guest, interface: str) -> int:
    """Frames that an interface of the guest has received."""
    return int(guest.check(f"cat /sys/class/net/{interface}/statistics/rx_packets"))
