# SPDX-License-Identifier: BSD-3-Clause
"""What QEMU is told: the machine, its shared memory, the kernel, the NICs. Used by guest.py and by `run`."""
from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

QEMU = "qemu-system-x86_64"
HERE = Path(__file__).resolve().parent
SUN_PATH_MAX = 107


class GuestError(Exception):
    """Something about the guest itself went wrong; the message has the tail of its console."""


class CommandError(AssertionError):
    """A command in the guest ended with another exit code than 0, or not in time."""


@dataclass
class Nic:
    """One virtio-net device over vhost-user; eth0, eth1 … in the guest in the order of the list.

    socket: path of the vhost-user socket. server: QEMU listens there, and the virtual machine starts only once the
    back end has connected; otherwise QEMU connects, and again every `reconnect` seconds (0: never again).
    ip: address with prefix length; the interface is then up and has it whenever wait_ready() has returned.
    The rest are properties of virtio-net-pci, None for QEMU's default; `extra` takes any others.
    """
    socket: str | os.PathLike[str]
    mac: str | None = None
    ip: str | None = None
    server: bool = False
    reconnect: int = 1
    queues: int = 1
    mrg_rxbuf: bool | None = None
    indirect_desc: bool | None = None
    event_idx: bool | None = None
    packed: bool | None = None
    disable_modern: bool | None = None
    disable_legacy: bool | None = None
    rx_queue_size: int | None = None
    tx_queue_size: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def arguments(self, index: int, mac: str) -> list[str]:
        """QEMU's arguments for this device as the index-th NIC."""
        path = socket_path(self.socket)
        # The back end may not be there yet or come back later: a client without reconnect= would give up for good.
        side = "server=on" if self.server else f"reconnect={self.reconnect}" if self.reconnect else "server=off"
        netdev = f"vhost-user,id=net{index},chardev=nic{index}"
        device: dict[str, object] = {"netdev": f"net{index}", "mac": mac, "romfile": "", "addr": hex(0x10 + index)}
        if self.queues > 1:
            netdev += f",queues={self.queues}"
            device["mq"] = True
        # Without KVM QEMU 7.2 crashes in msix_set_vector_notifiers when vhost starts with MSI-X: line interrupts only.
        device["vectors"] = 0
        for name in ("mrg_rxbuf", "indirect_desc", "event_idx", "packed", "disable_modern", "disable_legacy",
                     "rx_queue_size", "tx_queue_size"):
            value = getattr(self, name)
            if value is not None:
                device[name.replace("_", "-") if name.startswith("disable") else name] = value
        device.update(self.extra)
        properties = ",".join(f"{key}={qemu_value(value)}" for key, value in device.items())
        return ["-chardev", f"socket,id=nic{index},path={path},{side}", "-netdev", netdev,
                "-device", f"virtio-net-pci,{properties}"]


def default_folder() -> Path:
    """Where `tools/guest/build` puts its results unless told otherwise; PATCHBAY_GUEST names another folder."""
    chosen = os.environ.get("PATCHBAY_GUEST")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(chosen) if chosen else Path(cache) / "patchbay-guest"


def build(folder: str | os.PathLike[str] | None = None) -> Path:
    """Makes kernel and root file system where that is needed, returns their folder. Quick when nothing changed."""
    target = Path(folder) if folder else default_folder()
    done = subprocess.run([str(HERE / "build"), "--quiet", str(target)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=900)
    if done.returncode != 0:
        raise GuestError(f"can't make the guest's kernel and root file system:\n{done.stdout.strip()}")
    return target


def qemu_arguments(folder: Path, nics: Sequence[Nic], macs: Sequence[str], memory_mb: int, cpus: int,
                   append: str) -> list[str]:
    """The command line that a guest for tests and one by hand share: machine, shared memory, kernel, NICs."""
    arguments = [
        QEMU, "-nodefaults", "-no-user-config", "-display", "none",
        # A small translation buffer: the default reserves up to 1 GiB for each guest.
        "-accel", "tcg,tb-size=128", "-cpu", "max", "-smp", str(cpus), "-m", str(memory_mb),
        # A vhost-user back end maps the guest's memory: it must be shared.
        "-object", f"memory-backend-memfd,id=mem,size={memory_mb}M,share=on", "-machine", "q35,memory-backend=mem",
        "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.gz"),
        # A panic stays on the console (panic=0); the other words save boot time under software emulation.
        "-append", f"console=ttyS0 quiet panic=0 mitigations=off nokaslr tsc=reliable nowatchdog {append}".strip(),
    ]
    for index, (nic, mac) in enumerate(zip(nics, macs)):
        arguments += nic.arguments(index, mac)
    return arguments


def socket_path(path: str | os.PathLike[str]) -> str:
    text = os.path.abspath(path)
    if len(os.fsencode(text)) > SUN_PATH_MAX:
        raise ValueError(f"a Unix socket's path has at most {SUN_PATH_MAX} bytes: {text}")
    return qemu_value(text)


def qemu_value(value: object) -> str:
    """A value in one of QEMU's option lists: on/off for bool, commas doubled."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")
