# SPDX-License-Identifier: BSD-3-Clause
"""A real Linux guest under QEMU for tests: boots in seconds without KVM, its NICs are vhost-user clients or servers.

    with Guest("a", [Nic(path_a, ip="10.0.0.1/24")]) as a, Guest("b", [Nic(path_b, ip="10.0.0.2/24")]) as b:
        wait_all([a, b])
        a.check("ping -c 3 10.0.0.2")

Commands travel over a virtio-serial port, never over the NICs under test. README.md here has the rest.
"""
from __future__ import annotations

import atexit
import base64
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))
from guest_background import Background, Capture  # noqa: E402
from guest_machine import (QEMU, CommandError, GuestError, Nic, build, default_folder, qemu_arguments,  # noqa: E402
                           qemu_value, socket_path)
from guest_qmp import Qmp, QmpError, connect_unix  # noqa: E402

__all__ = ["Background", "Capture", "CommandError", "Guest", "GuestError", "Nic", "build", "default_folder", "wait_all"]

CONSOLE_TAIL_LINES = 25
# What the agent may need beyond a command's own limit to notice, kill and answer, on a machine with every core busy.
AGENT_GRACE_S = 15.0
_live: "weakref.WeakSet[Guest]" = weakref.WeakSet()


class Guest:
    """One virtual machine. start() returns at once, wait_ready() when it takes commands; a context manager starts it
    and cleans everything up. Safe to use from several threads; commands of one guest run one after the other."""

    def __init__(self, name: str, nics: Iterable[Nic] = (), *, memory_mb: int = 128, cpus: int = 1, setup: str = "",
                 append: str = "", extra_args: Sequence[str] = (), folder: str | os.PathLike[str] | None = None,
                 log_dir: str | os.PathLike[str] | None = None):
        """name: for messages and log files. setup: shell script that runs after each boot, before wait_ready() returns.
        append: more kernel parameters. extra_args: more QEMU arguments. folder: results of `build`, made if missing.
        log_dir: keeps NAME.console and NAME.qemu there; otherwise they go when the guest is closed."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ValueError(f"guest name '{name}': letters, digits, '_', '.' and '-' only")
        self.name = name
        self.nics = list(nics)
        self.macs = [nic.mac or _mac(name, index) for index, nic in enumerate(self.nics)]
        self.memory_mb, self.cpus, self.append, self.extra_args = memory_mb, cpus, append, list(extra_args)
        addresses = [f"ip link set eth{i} up && ip addr replace {nic.ip} dev eth{i}" for i, nic in enumerate(self.nics)
                     if nic.ip]
        self.setup = "\n".join(["set -e", *addresses, setup]) if addresses or setup else ""
        self.folder = Path(folder) if folder else None
        self.work = Path(tempfile.mkdtemp(prefix=f"patchbay-guest-{name[:20]}-"))
        logs = Path(log_dir) if log_dir else self.work
        logs.mkdir(parents=True, exist_ok=True)
        self.console_log = logs / f"{name}.console"
        self.qemu_log = logs / f"{name}.qemu"
        self.process: subprocess.Popen[bytes] | None = None
        self.boot_seconds = 0.0
        self._started = 0.0
        self._ready = False
        self._channel: socket.socket | None = None
        self._qmp: Qmp | None = None
        self._lock = threading.RLock()
        _live.add(self)

    # Life

    def start(self) -> "Guest":
        """Starts QEMU and returns. With server=on, or while no back end listens, the boot begins when there is one."""
        with self._lock:
            if self.alive():
                raise GuestError(f"guest {self.name} runs already")
            self._forget()
            if not self.work.exists():
                raise GuestError(f"guest {self.name} was closed")
            if shutil.which(QEMU) is None:
                raise GuestError(f"{QEMU} isn't installed: apt-get install qemu-system-x86")
            if self.folder is None or not (self.folder / "initrd.gz").exists():
                self.folder = build(self.folder)
            arguments = qemu_arguments(self.folder, self.nics, self.macs, self.memory_mb, self.cpus, self.append) + [
                "-name", f"patchbay-guest-{self.name}",
                "-chardev", f"file,id=console,path={qemu_value(str(self.console_log))},append=on",
                "-serial", "chardev:console",
                "-device", "virtio-serial-pci,id=agentbus,vectors=0,addr=0x8",
                "-chardev", f"socket,id=agent,path={self._agent_path()},server=on,wait=off",
                "-device", "virtserialport,bus=agentbus.0,chardev=agent,name=patchbay.agent",
                "-chardev", f"socket,id=qmp,path={self._qmp_path()},server=on,wait=off",
                "-mon", "chardev=qmp,mode=control",
            ] + self.extra_args
            # The kernel ends the guest with the thread that started it: no stray QEMU after a killed test run. Only
            # the main thread lasts as long as the process does.
            if threading.current_thread() is threading.main_thread() and shutil.which("setpriv"):
                arguments = ["setpriv", "--pdeathsig", "KILL", *arguments]
            with open(self.qemu_log, "ab") as log:
                log.write((shlex.join(arguments) + "\n").encode())
                log.flush()
                self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                start_new_session=True)
            self._started = time.monotonic()
        return self

    def wait_ready(self, timeout: float = 60.0) -> "Guest":
        """Returns when the guest takes commands and its setup script has run; timeout in seconds from now."""
        deadline = time.monotonic() + timeout
        with self._lock:
            if self._ready:
                return self
            while True:
                try:
                    # A request that reached a system about to reset is lost with it: ask again now and then.
                    self._exchange("true", 10.0, min(deadline, time.monotonic() + 20))
                    break
                except TimeoutError:
                    if time.monotonic() >= deadline:
                        raise self._error(f"not ready after {timeout:g} s{self._waiting_for()}") from None
            self.boot_seconds = time.monotonic() - self._started
            self._ready = True
            if self.setup:
                self.check(self.setup, max(5.0, deadline - time.monotonic()))
        return self

    def alive(self) -> bool:
        """True while the QEMU process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL for QEMU, as when a host kills a virtual machine. start() boots it again."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
        with self._lock:
            self._forget()

    def reset(self, timeout: float = 60.0) -> "Guest":
        """Presses the reset button (QMP system_reset), waits until the guest is back."""
        deadline = time.monotonic() + timeout
        return self._reset_by(lambda: self._monitor(deadline).execute("system_reset", deadline), deadline)

    def reboot(self, timeout: float = 60.0) -> "Guest":
        """Lets the guest reboot itself, waits until it is back."""
        deadline = time.monotonic() + timeout
        return self._reset_by(lambda: self._send("reboot -f", 60, deadline), deadline)

    def qmp(self, command: str, timeout: float = 20.0, **arguments: object) -> Any:
        """Runs a command of QEMU's monitor; an underscore in an argument's name stands for a hyphen."""
        deadline = time.monotonic() + timeout
        with self._lock:
            try:
                return self._monitor(deadline).execute(command, deadline, **arguments)
            except QmpError as error:
                raise self._error(str(error)) from None

    def migrate(self, target: "Guest", *, bandwidth: int = 0, on_switch: Callable[[], object] | None = None,
                timeout: float = 60.0) -> float:
        """Moves the running guest to target, which was started with incoming(); returns the seconds that it took.
        bandwidth: bytes/s of memory, 0 for QEMU's default. on_switch is called as soon as the guest is there; then this
        one's QEMU is killed."""
        begin = time.monotonic()
        if bandwidth:
            self.qmp("migrate-set-parameters", max_bandwidth=bandwidth)
        while not (target.work / "migration").exists():  # QEMU makes it a moment after its start
            target._alive_before(begin + timeout)
            time.sleep(0.01)
        self._disconnect()  # the agent's port moves as well, and nothing is under way on it
        self.qmp("migrate", uri=f"unix:{target.work / 'migration'}")
        while (state := self.qmp("query-migrate").get("status")) != "completed":
            if state in ("failed", "cancelled"):
                raise self._error(f"migration {state}: {self.qmp('query-migrate')}")
            if time.monotonic() >= begin + timeout:
                raise self._error(f"no end of the migration: {self.qmp('query-migrate')}")
            time.sleep(0.005)
        if on_switch:
            on_switch()
        took = time.monotonic() - begin
        self.kill()
        target.extra_args = [word for word in target.extra_args if not target._is_incoming(word)]
        return took

    def incoming(self) -> "Guest":
        """Starts QEMU as the target of a migration. The NICs' MAC addresses have to be those of the other one."""
        self.extra_args += ["-incoming", f"unix:{self.work / 'migration'}"]
        return self.start()

    def _is_incoming(self, word: str) -> bool:
        return word in ("-incoming", f"unix:{self.work / 'migration'}")

    def shutdown(self, timeout: float = 20.0) -> None:
        """Lets the guest power itself off; QEMU is killed if it hasn't ended in time."""
        with self._lock:
            if self.alive() and self._ready:
                try:
                    self._send("poweroff -f", 60, time.monotonic() + timeout)
                    assert self.process is not None
                    self.process.wait(timeout)
                except (TimeoutError, GuestError, subprocess.TimeoutExpired):
                    pass
            self.kill()

    def close(self) -> None:
        """Kills QEMU, removes sockets and files. The logs stay where log_dir was given."""
        self.kill()
        for nic in self.nics:
            # QEMU removes the sockets that it listened on only when it ends by itself.
            if nic.server and Path(nic.socket).is_socket():
                Path(nic.socket).unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)
        _live.discard(self)

    def __enter__(self) -> "Guest":
        return self if self.alive() else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Commands

    def run(self, command: str | Sequence[str], timeout: float = 30.0) -> tuple[int, str]:
        """Runs a shell script (or a list of words) in the guest as root, returns exit code and stdout with stderr.
        After timeout seconds it is killed with all that it started, and CommandError raised. Processes that it leaves
        in the background live on."""
        code, output = self.run_bytes(command, timeout)
        return code, output.decode(errors="replace")

    def run_bytes(self, command: str | Sequence[str], timeout: float = 30.0) -> tuple[int, bytes]:
        """run() with the output as it is."""
        script = command if isinstance(command, str) else shlex.join(command)
        with self._lock:
            if not self._ready:
                raise self._error("not ready: call wait_ready() first")
            try:
                code, output = self._exchange(script, timeout, time.monotonic() + timeout + AGENT_GRACE_S)
            except TimeoutError:
                raise self._error(f"no answer within {timeout + AGENT_GRACE_S:g} s to: {script}") from None
        if code is None:
            text = output.decode(errors="replace")
            raise CommandError(f"guest {self.name}: not done after {timeout:g} s: {script}\n{text}")
        return code, output

    def check(self, command: str | Sequence[str], timeout: float = 30.0) -> str:
        """run() that raises CommandError unless the exit code is 0; returns the output."""
        code, output = self.run(command, timeout)
        if code != 0:
            raise CommandError(f"guest {self.name}: exit code {code}: {command}\n{output}")
        return output

    def wait_until(self, command: str | Sequence[str], timeout: float = 30.0, interval: float = 0.1) -> str:
        """Repeats a command until its exit code is 0, returns that run's output; CommandError after timeout seconds."""
        deadline = time.monotonic() + timeout
        while True:
            code, output = self.run(command, max(1.0, deadline - time.monotonic()))
            if code == 0:
                return output
            if time.monotonic() >= deadline:
                raise CommandError(f"guest {self.name}: still {code} after {timeout:g} s: {command}\n{output}")
            time.sleep(interval)

    def spawn(self, command: str | Sequence[str]) -> "Background":
        """Starts a command in the guest that runs on in the background."""
        script = command if isinstance(command, str) else shlex.join(command)
        base = f"/run/agent/background-{secrets.token_hex(6)}"
        self.write_file(f"{base}.sh", script.encode() + b"\n")
        # The wrapper outlives the signals that stop() sends to the group, so that there is an exit code in the end. The
        # subshell keeps the wrapper's own remarks ("Terminated") out of the command's output.
        wrapper = (f"trap : INT TERM HUP; (exec sh {base}.sh >{base}.out 2>&1); "
                   f"echo $? >{base}.tmp; mv {base}.tmp {base}.rc")
        pid = self.check(f"setsid sh -c '{wrapper}' >/dev/null 2>&1 </dev/null & echo $!")
        return Background(self, script, base, int(pid))

    def capture(self, interface: str = "eth0", expression: str = "", options: str = "") -> Capture:
        """Starts tcpdump on an interface; when it returns, every frame that passes is taken."""
        path = f"/tmp/capture-{secrets.token_hex(6)}.pcap"
        # Without --immediate-mode the kernel hands frames over in blocks, and a tcpdump that ends loses the last one.
        process = self.spawn(f"exec tcpdump -i {interface} -n -U --immediate-mode {options} -w {path} "
                             f"{shlex.quote(expression)}")
        try:
            self.wait_until(f"grep -q 'listening on' {process.base}.out || test -e {process.base}.rc")
            if not process.running():
                raise CommandError(f"guest {self.name}: tcpdump ended:\n{process.output()}")
        except BaseException:
            process.stop("KILL")
            raise
        return Capture(process, path)

    def write_file(self, path: str, data: bytes) -> None:
        """Writes a file in the guest."""
        text = base64.encodebytes(data).decode()
        self.check(f"base64 -d >{shlex.quote(path)} <<'END-OF-DATA'\n{text}END-OF-DATA", 60)

    def read_file(self, path: str) -> bytes:
        """The contents of a file in the guest, a capture for instance."""
        code, data = self.run_bytes(["cat", path], 60)
        if code != 0:
            raise CommandError(f"guest {self.name}: {data.decode(errors='replace')}")
        return data

    def console_tail(self, lines: int = CONSOLE_TAIL_LINES) -> str:
        """The last lines of the console, and what QEMU itself had to say."""
        parts = []
        for title, path in (("console", self.console_log), ("QEMU", self.qemu_log)):
            try:
                text = path.read_text(errors="replace").replace("\r", "")
            except OSError:
                continue
            tail = text.splitlines()[-lines if title == "console" else -3:]
            parts.append(f"--- {title} of guest {self.name}:\n" + "\n".join(tail))
        return "\n".join(parts)

    # The channel

    def _exchange(self, script: str, limit: float, deadline: float) -> tuple[int | None, bytes]:
        """One request, one reply; the exit code is None when the agent killed the script. May raise TimeoutError."""
        done = False
        try:
            token = self._send(script, limit, deadline)
            assert self._channel is not None
            pattern = re.compile(rb"patchbay-reply " + token.encode() + rb" (\d+|late) (\d+)\n")
            # Whatever comes before the header with this token is left over from a reply that nobody waited for.
            data = bytearray()
            while (header := pattern.search(data)) is None:
                self._receive(data, deadline)
            size = int(header[2])
            code = None if header[1] == b"late" else int(header[1])
            del data[:header.end()]
            while len(data) < size:
                self._receive(data, deadline)
            done = True
            return code, bytes(data[:size])
        finally:
            if not done:
                # The next request starts on a fresh connection, where nothing is half sent.
                self._disconnect()

    def _send(self, script: str, limit: float, deadline: float) -> str:
        """Sends a request, returns its token."""
        payload = script.encode() + b"\n#."
        if b"\0" in payload:
            raise ValueError("a shell script has no NUL bytes")
        token = secrets.token_hex(8)
        data = memoryview(f"{token} {max(1, round(limit + 0.5))} {len(payload)}\n".encode() + payload)
        channel = self._connect(deadline)
        while data:
            channel.settimeout(0.5)
            try:
                data = data[channel.send(data):]
            except TimeoutError:
                self._alive_before(deadline)
            except OSError as error:
                self._lost(error)
        return token

    def _receive(self, data: bytearray, deadline: float) -> None:
        """Appends what comes next to data."""
        assert self._channel is not None
        self._channel.settimeout(0.5)
        try:
            received = self._channel.recv(1 << 18)
        except TimeoutError:
            return self._alive_before(deadline)
        except OSError as error:
            self._lost(error)
        if not received:
            self._lost(None)
        data += received

    def _connect(self, deadline: float) -> socket.socket:
        """The connection to the agent's port; QEMU makes the socket a moment after its start."""
        while self._channel is None:
            self._channel = connect_unix(self._agent_path())
            if self._channel is None:
                self._alive_before(deadline)
                time.sleep(0.02)
        return self._channel

    def _alive_before(self, deadline: float) -> None:
        """Raises what is known: no QEMU, a panic, or TimeoutError after the deadline."""
        if not self.alive():
            raise self._error("QEMU isn't running" if self.process is None else
                              f"QEMU ended with status {self.process.returncode}")
        if time.monotonic() >= deadline:
            raise TimeoutError
        try:
            with open(self.console_log, "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - 16384))
                recent = log.read().rpartition(b"guest: up after")[2]
        except OSError:
            return
        if b"Kernel panic - not syncing" in recent:
            raise self._error("the guest's kernel panicked")

    def _lost(self, error: OSError | None) -> None:
        time.sleep(0.2)
        self._alive_before(time.monotonic() + 60)
        raise self._error(f"lost the connection to the agent ({error or 'closed by QEMU'})")

    # Help

    def _agent_path(self) -> str:
        return socket_path(self.work / "agent")

    def _qmp_path(self) -> str:
        return socket_path(self.work / "qmp")

    def _monitor(self, deadline: float) -> Qmp:
        if not self.alive():
            raise self._error("QEMU isn't running")
        if self._qmp is None:
            self._qmp = Qmp(self._qmp_path(), deadline)
        return self._qmp

    def _reset_by(self, action: Callable[[], object], deadline: float) -> "Guest":
        with self._lock:
            try:
                self._monitor(deadline).wait_reset(action, deadline)
            except (QmpError, TimeoutError) as error:
                raise self._error(str(error) or "no answer in time") from None
            # All that the old system said was said on this connection; the new one must not find half a request on it.
            self._disconnect()
            self._ready = False
            self._started = time.monotonic()
            return self.wait_ready(max(1.0, deadline - time.monotonic()))

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _forget(self) -> None:
        self._disconnect()
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        self._ready = False

    def _waiting_for(self) -> str:
        """QEMU creates the virtual machine only once every NIC has met its back end; say so if none was booted."""
        if self.console_log.exists() and self.console_log.stat().st_size > 0:
            return ""
        return "; it hasn't begun to boot: QEMU may wait for a back end at " + \
            ", ".join(str(nic.socket) for nic in self.nics) if self.nics else ""

    def _error(self, text: str) -> GuestError:
        return GuestError(f"guest {self.name}: {text}\n{self.console_tail()}")


def wait_all(guests: Iterable[Guest], timeout: float = 90.0) -> None:
    """Starts the guests that don't run yet, all at once, and waits until all are ready."""
    deadline = time.monotonic() + timeout
    every = list(guests)
    for guest in every:
        if not guest.alive():
            guest.start()
    for guest in every:
        guest.wait_ready(max(1.0, deadline - time.monotonic()))


def _mac(name: str, index: int) -> str:
    """A locally administered address, the same in every run."""
    digest = 0
    for byte in name.encode():
        digest = (digest * 257 + byte) & 0xFFFFFF
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, digest >> 16, digest >> 8 & 255, digest & 255, index))


@atexit.register
def _close_all() -> None:
    for guest in list(_live):
        guest.close()
