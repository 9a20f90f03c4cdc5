# SPDX-License-Identifier: BSD-3-Clause
"""The installed unit under a live systemd: what it starts, keeps, brings back and leaves behind, and a sandbox that holds.

    generator ──a─[wire]─b── generator          systemd, journal, patchbayd: namespaces of their own (live_systemd.py)
        vhost-user sockets in /run/patchbay-vhost
"""
from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import unittest
from pathlib import Path
from typing import Any

from live_systemd import UNIT, Machine, Service, why_not
from patchbay import END_S, SLOW, Case, drops, huge_pages_free, register, say, wait_for
from test_service import PTRACE_DETACH, PTRACE_INTERRUPT, PTRACE_SEIZE, WALL, ptrace, worker_threads
from traffic import Traffic, stream

CAP_NET_ADMIN, CAP_SYS_RESOURCE = 12, 24
HUGE = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
BURST = 64
WIRE = "/v1/networks/default/wires/w1"

# Runs inside the sandbox, as ExecStartPre=, with all that the service may and may not.
PROBE = r"""
import ctypes, json, os, socket, stat
libc = ctypes.CDLL(None, use_errno=True)

def tried(function):
    try:
        function()
        return "done"
    except OSError as error:
        return os.strerror(error.errno)

def call(number, *arguments):
    def do():
        if libc.syscall(number, *arguments) == -1:
            raise OSError(ctypes.get_errno(), "")
    return lambda: tried(do)

def opened(path, mode):
    return lambda: tried(lambda: os.close(os.open(path, mode)))

def setgid():
    path = os.environ["RUNTIME_DIRECTORY"] + "/setgid"
    os.mkdir(path)
    try:
        os.chmod(path, 0o2770)
    finally:
        os.rmdir(path)

tests = {
    "write below /": opened("/etc/probe", os.O_CREAT | os.O_WRONLY),
    "ro /": lambda: bool(os.statvfs("/").f_flag & os.ST_RDONLY),
    "ro /usr": lambda: bool(os.statvfs("/usr").f_flag & os.ST_RDONLY),
    "ro /run/patchbay": lambda: bool(os.statvfs("/run/patchbay").f_flag & os.ST_RDONLY),
    "ro /run/patchbay-vhost": lambda: bool(os.statvfs("/run/patchbay-vhost").f_flag & os.ST_RDONLY),
    "ro /var/lib/patchbay": lambda: bool(os.statvfs("/var/lib/patchbay").f_flag & os.ST_RDONLY),
    "write for guests": lambda: tried(lambda: (os.close(os.open("/run/patchbay-vhost/probe", os.O_CREAT | os.O_WRONLY)),
                                               os.unlink("/run/patchbay-vhost/probe"))),
    "list /root": lambda: tried(lambda: os.listdir("/root")),
    "list /home": lambda: tried(lambda: os.listdir("/home")),
    "files in /tmp": lambda: len(os.listdir("/tmp")),
    "tun": opened("/dev/net/tun", os.O_RDWR),
    "null": opened("/dev/null", os.O_RDWR),
    "another device": opened("/dev/probe", os.O_RDONLY),
    "unshare": call(272, 0x40000000),
    "mount": call(165, 0, 0, 0, 0, 0),
    "ptrace": call(101, 0, 0, 0, 0),
    "init_module": call(175, 0, 0, 0),
    "bpf": call(321, 0, 0, 0),
    "reboot": call(169, 0, 0, 0, 0),
    "kcmp": call(312, os.getpid(), os.getpid(), 0, 0, 1),
    "AF_BLUETOOTH": lambda: tried(lambda: socket.socket(31, socket.SOCK_RAW, 0).close()),
    "AF_INET": lambda: tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()),
    "set-group-id": lambda: tried(setgid),
    "set-uid 0": lambda: tried(lambda: os.setuid(0)),
}
print("probe: " + json.dumps({name: test() for name, test in tests.items()}))
"""
EPERM, EROFS, EAFNOSUPPORT = "Operation not permitted", "Read-only file system", "Address family not supported by protocol"
PROBED = {
    "write below /": EROFS, "ro /": True, "ro /usr": True, "ro /run/patchbay": False, "ro /run/patchbay-vhost": False,
    "ro /var/lib/patchbay": False, "write for guests": "done", "list /root": "Permission denied", "list /home": "Permission denied", "files in /tmp": 0,
    "tun": "done", "null": "done", "another device": EPERM, "unshare": EPERM, "mount": EPERM, "ptrace": EPERM, "init_module": EPERM,
    "bpf": EPERM, "reboot": EPERM, "kcmp": "done", "AF_BLUETOOTH": EAFNOSUPPORT, "AF_INET": "done", "set-group-id": EPERM,
    "set-uid 0": EPERM,
}


class LiveUnit(Case):
    machine: Machine
    missing = why_not()

    @classmethod
    def setUpClass(cls) -> None:
        if not cls.missing:
            begin = time.monotonic()
            cls.machine = Machine(cls)
            say(f"systemd is up after {time.monotonic() - begin:.1f} s")

    def setUp(self) -> None:
        if self.missing:
            self.skipTest(f"no systemd of our own: {self.missing}")
        self.machine.fresh()
        self.service = Service(self.machine)

    def run_inside(self, *words: Any, **options: Any) -> str:
        return self.machine.run(*words, **options)

    def cli(self, *words: str) -> str:
        return self.run_inside("patchbay", *words)

    def start(self) -> int:
        self.service.start()
        return self.service.pid

    def journal(self) -> str:
        return self.run_inside("journalctl", "--no-pager", "-o", "cat", "-u", UNIT, "_SYSTEMD_INVOCATION_ID=" + self.machine.show("InvocationID"))

    def status(self, pid: int, name: str) -> str:
        return Path(f"/proc/{pid}/status").read_text().split(f"\n{name}:")[1].split("\n")[0].strip()

    def starts(self) -> int:
        return int(self.machine.show("NRestarts"))

    def wait_restart(self, before: int, pid: int, deadline: float) -> None:
        wait_for("systemd starts it again", lambda: self.starts() > before and self.machine.show("ActiveState") == "active" and
                 self.machine.service_pids() not in ([], [pid]), deadline)

    def stopped(self) -> None:
        """Stopped, and nothing is left but the empty directories that the unit keeps."""
        begin = time.monotonic()
        self.run_inside("systemctl", "stop", UNIT)
        took = time.monotonic() - begin
        self.assertEqual((self.machine.show("ActiveState"), self.machine.show("Result")), ("inactive", "success"))
        self.assertLess(took, END_S)
        for folder in ("/run/patchbay", "/run/patchbay-vhost"):
            left = [str(path) for path in self.machine.path(folder).rglob("*") if not path.is_dir()]
            self.assertEqual(left, [])
        self.assertEqual(list(self.machine.path("/run/patchbay/dpdk").glob("*")), [])
        self.assertEqual(self.machine.service_pids(), [])
        self.assertEqual([line.split()[0] for line in self.run_inside("ip", "-br", "link").splitlines()], ["lo"])

    def test_start_and_stop(self) -> None:
        """Ready by notification, as its own user with one capability, its limits and directories; and a clean end."""
        begin = time.monotonic()
        pid = self.start()
        say(f"systemctl start took {time.monotonic() - begin:.2f} s")
        show = self.machine.show
        self.assertEqual((show("ActiveState"), show("Type"), show("SubState")), ("active", "notify", "running"))
        self.assertIn("serving", show("StatusText"))
        user, group, guests, readers = (int(self.run_inside("getent", *words).split(":")[2]) for words in (
            ("passwd", "patchbay"), ("group", "patchbay"), ("group", "patchbay-vhost"), ("group", "patchbay-read")))
        self.assertEqual(self.status(pid, "Uid").split(), [str(user)] * 4)
        self.assertEqual(self.status(pid, "Gid").split(), [str(group)] * 4)
        self.assertEqual(set(self.status(pid, "Groups").split()), {str(group), str(guests)})
        for which in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"):
            self.assertEqual(self.status(pid, which), f"{1 << CAP_NET_ADMIN:016x}", which)
        self.assertEqual((self.status(pid, "NoNewPrivs"), self.status(pid, "Seccomp")), ("1", "2"))
        limits = {line[:26].strip(): line[26:].split()[0] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
        if int(self.status(self.machine.pid, "CapEff"), 16) >> CAP_SYS_RESOURCE & 1:  # or systemd itself can't raise them
            self.assertEqual((limits["Max open files"], limits["Max locked memory"]), ("1048576", "unlimited"))
            self.assertEqual(Path(f"/proc/{pid}/oom_score_adj").read_text().strip(), "-500")
        # The directories: the API's, the state's, and the guests' one, in which either side makes sockets for the other's group.
        for path, mode, owners in (("/run/patchbay", 0o755, (user, group)), ("/var/lib/patchbay", 0o750, (user, group)),
                                   ("/run/patchbay-vhost", 0o2770, (user, guests))):
            found = self.machine.path(path).stat()
            self.assertEqual((oct(found.st_mode & 0o7777), found.st_uid, found.st_gid), (oct(mode), *owners), path)
        self.cli("plug", "s", "vhost-server:/run/patchbay-vhost/s.sock")
        found = self.machine.path("/run/patchbay-vhost/s.sock").stat()
        self.assertEqual((oct(found.st_mode & 0o777), found.st_gid), ("0o660", guests))
        # Who may: a reader, and nobody else.
        reader = ["setpriv", "--reuid=nobody", f"--regid={readers}", "--clear-groups"]
        self.run_inside(*reader, "patchbay", "show")
        self.assertIn("patchbay-read", self.run_inside(*reader, "patchbay", "plug", "x", "none", check=False))
        self.assertIn("permission", self.run_inside("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "patchbay", "show",
                                                    check=False).lower())
        # Kinds whose drivers have system calls of their own.
        for name, target in (("k", "kernel-new:pbk"), ("t", "dev:net_tap0,iface=pbt"), ("n", "dev:net_null0"), ("r", "dev:net_ring0")):
            self.cli("plug", name, target)
            self.service.wait_vif(name)
        self.assertEqual(set(re.findall(r"pb[kt]", self.run_inside("ip", "-br", "link"))), {"pbk", "pbt"})
        self.assertEqual(self.run_inside("journalctl", "--no-pager", "-o", "cat", "-u", UNIT, "-p", "err"), "")
        self.stopped()
        self.assertIn("stopping", self.run_inside("journalctl", "--no-pager", "-o", "cat", "-u", UNIT))

    def test_sandbox(self) -> None:
        """A program in the daemon's place finds every door shut that the unit shuts."""
        script = self.machine.path("/run/probe.py")
        script.write_text(PROBE)
        register(self, script.unlink)
        # The kernel's log, readable for everybody outside: a device that the unit doesn't name.
        self.run_inside("mknod", "-m", "0666", "/dev/probe", "c", "1", "11")
        register(self, self.run_inside, "rm", "/dev/probe")
        self.run_inside("sh", "-c", "exec 3</dev/probe")
        self.run_inside("touch", "/tmp/somebodys")
        register(self, self.run_inside, "rm", "/tmp/somebodys")
        self.machine.drop_in("probe", "[Service]\nExecStartPre=/usr/bin/python3 /run/probe.py\n")
        self.start()
        found = json.loads(re.search(r"^probe: (.*)$", self.journal(), re.M)[1])  # type: ignore[index]
        self.assertEqual(found, PROBED)
        level = re.search(r"Overall exposure level.*?: ([\d.]+)", self.run_inside("systemd-analyze", "security", "--no-pager", UNIT))
        say(f"systemd-analyze security of the loaded unit: {level[1]} of 10")  # type: ignore[index]

    def test_restarts_under_a_wire(self) -> None:
        """Frames between two guests through `systemctl restart` and a kill: none lost but while the other end wasn't back, and no
        more than a burst twice."""
        self.start()
        os.umask(0o002)  # as libvirt's QEMU: the guest's socket is for its directory's group, too
        register(self, os.umask, 0o022)
        for name in ("a", "b"):
            self.service.plug(name, "vhost")
        self.service.wire("w1", "a", "b", stall_ms=60000)
        uid = self.service.get(WIRE)["uid"]
        # Somebody who keeps the directory open, as a client that watches for the socket does.
        kept = os.open(self.machine.path("/run/patchbay"), os.O_RDONLY)
        register(self, os.close, kept)
        traffic = Traffic(self, self.service, ["a", "b"], ["a>b", "b>a"])
        down = {"a_to_b": 0, "b_to_a": 0}

        def count() -> None:
            stats = self.service.stats("w1")
            for way in down:
                self.assertEqual(set(drops(stats[way])) - {"down"}, set())
                down[way] += stats[way]["dropped"]["total"]

        def carries() -> None:
            for name in ("a", "b"):
                self.service.wait_vif(name)
            traffic.wait_received(10000 // SLOW)

        carries()
        count()
        begin = time.monotonic()
        self.run_inside("systemctl", "restart", UNIT)
        carries()
        say(f"systemctl restart under a wire: {time.monotonic() - begin:.2f} s until frames arrive")
        self.assertEqual(self.service.get(WIRE)["uid"], uid)
        self.assertIn("api.sock", os.listdir(kept))
        count()
        before, pid = self.starts(), self.service.pid
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.wait_restart(before, pid, 30)
        carries()
        say(f"kill -9 under a wire: {time.monotonic() - begin:.2f} s until frames arrive")
        result = traffic.stop()
        count()
        self.assertEqual(self.service.get(WIRE)["uid"], uid)
        for name, way in (("a>b", "a_to_b"), ("b>a", "b_to_a")):
            own = stream(result, name)
            self.assertEqual((own["lost"], own["reordered"]), (down[way], 0), own)
            self.assertLessEqual(own["duplicate"], BURST, own)
        self.stopped()

    def test_crash_after_crash(self) -> None:
        """systemd doesn't give up after five starts in ten seconds, as it does by default: all wires would be down for good."""
        pid = self.start()
        for _ in range(6):
            before = self.starts()
            os.kill(pid, signal.SIGKILL)
            self.wait_restart(before, pid, 30)
            pid = self.service.pid
        self.assertEqual(self.starts(), 6)

    def test_what_a_person_has_to_mend(self) -> None:
        """A wrong option, a state of a newer version: the unit fails once, and says why; nobody starts it again and again."""
        self.start()
        self.cli("plug", "n", "none")  # the state is made by the first change
        self.run_inside("systemctl", "stop", UNIT)
        self.run_inside("sqlite3", "/var/lib/patchbay/state.db", "PRAGMA user_version = 99")
        self.fails(3, "written by a newer Patchbay")
        self.machine.drop_in("typo", "[Service]\nExecStart=\nExecStart=/usr/local/sbin/patchbayd --sockt-group x\n")
        self.fails(2, "unrecognized option")

    def fails(self, status: int, words: str) -> None:
        self.run_inside("systemctl", "start", UNIT, check=False)
        show = self.machine.show
        wait_for("it has ended", lambda: show("ActiveState") == "failed")
        self.assertEqual((show("SubState"), show("ExecMainStatus"), self.starts()), ("failed", str(status), 0))
        self.assertIn(words, self.journal())

    def timeouts(self) -> int:
        return self.run_inside("journalctl", "--no-pager", "-o", "cat", "-u", UNIT).count("Watchdog timeout")

    def test_watchdog(self) -> None:
        """A process that stands still, then a worker that does while all else is well: both are ended and started anew."""
        self.machine.drop_in("watchdog", "[Service]\nWatchdogSec=4s\n")
        pid = self.start()
        self.assertEqual(self.machine.show("WatchdogUSec"), "4s")
        self.service.plug("a", "none")
        self.service.plug("b", "none")
        self.service.wire("w1", "a", "b")
        time.sleep(5)  # nothing to wait for: it isn't ended while it pings
        self.assertEqual((self.service.pid, self.starts()), (pid, 0))
        begin = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        self.wait_restart(0, pid, 60)
        say(f"stopped by SIGSTOP: up again after {time.monotonic() - begin:.1f} s, of a watchdog's 4")
        self.service.wait_wire("w1")
        pid = self.service.pid
        (tid,) = worker_threads(pid)
        begin = time.monotonic()
        ptrace(PTRACE_SEIZE, tid)
        try:
            ptrace(PTRACE_INTERRUPT, tid)
            os.waitpid(tid, WALL)
            wait_for("the daemon's word", lambda: "has not moved for" in self.journal(), 30)
            self.service.get("/v1/version")  # the control thread is well
            wait_for("systemd's word", lambda: self.timeouts() == 2, 30)
        finally:
            # It is ended by SIGABRT meanwhile: whoever traces has to take notice of that, or it never ends.
            try:
                ptrace(PTRACE_DETACH, tid)
            except ProcessLookupError:
                os.waitpid(tid, WALL)
        self.wait_restart(1, pid, 60)
        say(f"one worker stopped: up again after {time.monotonic() - begin:.1f} s")
        self.service.wait_wire("w1")
        self.assertEqual(self.timeouts(), 2)

    def test_socket_activation(self) -> None:
        """The first client starts the daemon, one that comes during a restart waits, and readers may read."""
        self.run_inside("systemctl", "start", "patchbayd.socket")
        self.assertEqual(self.machine.service_pids(), [])
        self.assertEqual(self.cli("plug", "n", "none").split()[0], "n")
        self.assertEqual(self.machine.show("ActiveState"), "active")
        readers = ["setpriv", "--reuid=nobody", "--regid=patchbay-read", "--clear-groups"]
        self.run_inside(*readers, "patchbay", "show")
        # Between two daemons systemd has the socket: whoever connects then is answered by the second one.
        self.run_inside("systemctl", "stop", UNIT)
        self.assertEqual(self.machine.service_pids(), [])
        client = socket.socket(socket.AF_UNIX)
        register(self, client.close)
        client.settimeout(60)
        client.connect(str(self.service.socket))
        client.sendall(b"GET /v1/vifs/n HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65536):
            answer += data
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer)
        self.run_inside("systemctl", "restart", UNIT)
        self.run_inside(*readers, "patchbay", "show")
        self.run_inside("systemctl", "stop", "patchbayd.socket", UNIT)
        self.assertFalse(self.service.socket.exists())
        self.stopped()

    def test_with_huge_pages(self) -> None:
        """As a user without privileges, in the sandbox."""
        if not HUGE.exists():
            self.skipTest("huge pages: this kernel has none of 2 MiB")
        before = int(HUGE.read_text())
        register(self, HUGE.write_text, str(before))
        HUGE.write_text(str(before + 320))  # others may take some
        if huge_pages_free() < 128:
            self.skipTest("huge pages: the kernel has no 256 MB of them to give")
        pid = self.start()
        self.assertNotIn("huge pages", self.journal())
        self.assertNotEqual(self.status(pid, "HugetlbPages"), "0 kB")
        self.cli("plug", "n", "dev:net_null0")
        self.service.wait_vif("n")
        self.stopped()


if __name__ == "__main__":
    unittest.main()
