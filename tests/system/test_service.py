# SPDX-License-Identifier: BSD-3-Clause
"""patchbayd as a service: the watchdog sees a worker that hangs, its own user needs just the capabilities that docs/service.md
has in its table, and the installed units are what systemd understands."""
from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from namespace import interface_name
from pace import best
from patchbay import BUILD, PATCHBAYD, ROOT, SLOW, Case, Daemon, register, say, wait_for

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
USER, GUESTS = 64001, 64104
_libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request: int, tid: int) -> None:
    _libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if _libc.ptrace(request, tid, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


def worker_threads(pid: int) -> list[int]:
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()
            if re.match(r"(rte|lcore)-worker", (task / "comm").read_text())]


class Watchdog(Case):
    def watched(self, *options: str) -> tuple[Daemon, socket.socket]:
        folder = tempfile.mkdtemp(prefix="pb-system-")
        register(self, shutil.rmtree, folder, True)
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        register(self, manager.close)
        manager.bind(folder + "/notify")
        os.environ.update(NOTIFY_SOCKET=folder + "/notify", WATCHDOG_USEC="1000000")
        try:
            return Daemon(self, *options), manager
        finally:
            del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]

    def pings(self, manager: socket.socket, seconds: float) -> int:
        end, count = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            manager.settimeout(left)
            try:
                count += manager.recv(300) == b"WATCHDOG=1"
            except TimeoutError:
                pass
        return count

    def stop_one_thread(self, *options: str) -> None:
        daemon, manager = self.watched(*options)
        wait_for("pings", lambda: self.pings(manager, 0.5) > 0)
        (tid,) = worker_threads(daemon.pid)
        ptrace(PTRACE_SEIZE, tid)
        try:
            ptrace(PTRACE_INTERRUPT, tid)
            os.waitpid(tid, WALL)
            wait_for("no pings while the worker's thread stands", lambda: self.pings(manager, 1.0) == 0)
            self.assertEqual(self.pings(manager, 2.0), 0)
            daemon.get("/v1/version")  # the control thread is well
        finally:
            ptrace(PTRACE_DETACH, tid)
        wait_for("pings again", lambda: self.pings(manager, 0.5) > 0)
        self.assertIn("has not moved for", daemon.log.read_text())

    def test_a_worker_that_hangs_asleep(self) -> None:
        self.stop_one_thread("--poll", "adaptive")

    def test_a_worker_that_hangs_awake(self) -> None:
        self.stop_one_thread("--poll", "busy")

    def test_idle_costs_nothing(self) -> None:
        """The watchdog wakes a sleeping worker four times in its time, and that is all."""
        daemon, manager = self.watched()
        wait_for("pings", lambda: self.pings(manager, 0.5) > 0)

        def ticks() -> int:
            fields = Path(f"/proc/{daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])

        def used() -> float:
            before = ticks()
            self.assertGreaterEqual(self.pings(manager, 4.0), 4)
            return ticks() - before
        best("ticks in 4 s, of 2 % of a core", 8.5 * SLOW, used)


class PlainDaemon(Daemon):
    """As user 64001 with these capabilities and no other."""

    def __init__(self, owner: Any, *capabilities: str) -> None:
        self.words = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--groups", str(GUESTS), "--bounding-set",
                      ",".join(["-all", *(f"+{c}" for c in capabilities)]), "--no-new-privs"]
        if capabilities:
            wanted = ",".join(f"+{c}" for c in capabilities)
            self.words += ["--inh-caps", f"-all,{wanted}", "--ambient-caps", f"-all,{wanted}"]
        else:
            self.words += ["--inh-caps", "-all"]
        super().__init__(owner)

    def start(self) -> Daemon:
        self.inside = self.words
        # What root's test has made, and what DPDK wants of a user's own.
        for path in (self.directory, self.vhost_dir):
            os.chown(path, USER, USER)
        os.environ["XDG_RUNTIME_DIR"] = str(self.directory)
        try:
            return super().start()
        finally:
            del os.environ["XDG_RUNTIME_DIR"]


class Capabilities(Case):
    """Each row of the table in docs/service.md that this machine can show."""

    def caps(self, daemon: Daemon) -> set[str]:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        self.assertEqual(status.split("Uid:")[1].split()[:4], [str(USER)] * 4)
        return {status.split(f"{which}:")[1].split()[0] for which in ("CapEff", "CapPrm", "CapBnd")}

    def put(self, daemon: Daemon, name: str, **body: str) -> Any:
        return daemon.api("PUT", f"/v1/vifs/{name}", body)

    def test_none_at_all(self) -> None:
        daemon = PlainDaemon(self)
        self.assertEqual(self.caps(daemon), {"0" * 16})
        self.assertEqual(self.put(daemon, "n", kind="none").status, 201)
        self.assertEqual(self.put(daemon, "c", kind="vhost", path="c.sock").status, 201)
        self.assertEqual(self.put(daemon, "s", kind="vhost-server", path="s.sock").status, 201)
        self.assertEqual(self.put(daemon, "d", kind="dev", devargs="net_null0").status, 201)
        # A front end, of the guests' group, comes to the listening one.
        peer = socket.socket(socket.AF_UNIX)
        register(self, peer.close)
        peer.connect(str(daemon.vhost_dir / "s.sock"))
        # What needs more says what.
        refused = self.put(daemon, "k", kind="kernel-new", interface=interface_name("no"))
        self.assertEqual((refused.status, refused.code), (409, "DeviceFailed"))
        say(f"without CAP_NET_ADMIN: {refused.body['error']['message']}")
        self.assertEqual(daemon.get("/v1/stats")["objects"]["vifs"], 4)

    def test_kernel_new(self) -> None:
        daemon = PlainDaemon(self, "net_admin")
        self.assertEqual(self.caps(daemon), {f"{1 << 12:016x}"})
        name = interface_name("cap")
        self.assertEqual(self.put(daemon, "k", kind="kernel-new", interface=name).status, 201)
        self.assertTrue(Path(f"/sys/class/net/{name}").exists())

    def test_the_table_names_them(self) -> None:
        text = (ROOT / "docs" / "service.md").read_text()
        for row, capability in (("`vhost`", "none"), ("`kernel-new`", "CAP_NET_ADMIN")):
            lines = [line for line in text.splitlines() if line.startswith("|") and row in line.split("|")[1]]
            self.assertTrue(lines and capability in lines[0].split("|")[2], row)


class Units(Case):
    """The files that meson installs, with systemd's own tools."""

    def setUp(self) -> None:
        self.source = ROOT / "control" / "systemd"
        self.folder = Path(tempfile.mkdtemp(prefix="pb-system-"))
        register(self, shutil.rmtree, self.folder, True)
        for name in ("etc", "run", "var/lib"):
            (self.folder / name).mkdir(parents=True)

    def test_units_are_understood(self) -> None:
        unit = (BUILD / "control" / "systemd" / "patchbayd.service").read_text()
        # The program isn't installed; who manages units looks whether it is there.
        (self.folder / "patchbayd.service").write_text(re.sub(r"ExecStart=\S+", f"ExecStart={PATCHBAYD}", unit))
        shutil.copy(self.source / "patchbayd.socket", self.folder)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(self.folder / "patchbayd.service"),
                               str(self.folder / "patchbayd.socket")], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
        done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=40", "--no-pager",
                               str(self.folder / "patchbayd.service")], capture_output=True, text=True, timeout=60)
        level = re.search(r"Overall exposure level.*?: ([\d.]+)", done.stdout)
        self.assertIsNotNone(level, done.stdout + done.stderr)
        self.assertEqual(done.returncode, 0, done.stdout)
        say(f"systemd-analyze security: exposure {level[1]} of 10")  # type: ignore[index]

    def test_the_options_of_the_unit_are_the_daemons(self) -> None:
        unit = (BUILD / "control" / "systemd" / "patchbayd.service").read_text()
        options = re.search(r"^ExecStart=\S+ (.*)$", unit, re.M)[1].split()  # type: ignore[index]
        known = subprocess.run([str(PATCHBAYD), "--help"], capture_output=True, text=True, check=True).stdout
        for option in options:
            if option.startswith("--"):
                self.assertIn(f"{option}=", known)

    def test_user_and_directories(self) -> None:
        """sysusers.d and tmpfiles.d as they would be applied, then a guest's process and the daemon's meet in the directory."""
        subprocess.run(["systemd-sysusers", f"--root={self.folder}", str(self.source / "patchbay.sysusers")], check=True, timeout=60)
        groups = {line.split(":")[0]: line.strip().split(":") for line in (self.folder / "etc/group").read_text().splitlines()}
        self.assertIn("patchbay", groups["patchbay-vhost"][3].split(","))
        self.assertIn("patchbay-read", groups)
        subprocess.run(["systemd-tmpfiles", "--create", f"--root={self.folder}", str(self.source / "patchbay.tmpfiles")],
                       check=True, timeout=60, capture_output=True)
        guests = self.folder / "run/patchbay-vhost"
        self.assertEqual(guests.stat().st_mode & 0o7777, 0o2770)
        gid = int(groups["patchbay-vhost"][2])
        self.assertEqual(guests.stat().st_gid, gid)
        self.folder.chmod(0o755)
        # A socket that a guest's process makes: it gets the directory's group, and libvirt's umask for QEMU leaves it its rights.
        script = ("import os, socket, sys; os.umask(0o002); s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"
                  "print('bound', flush=True); s.accept(); print('met', flush=True)")
        path = str(guests / "vm.sock")
        guest = subprocess.Popen(["/usr/bin/python3", "-c", script, path], user=64010, group=64010, extra_groups=[gid], text=True,
                                 stdout=subprocess.PIPE)
        register(self, guest.stdout.close)
        register(self, guest.wait)
        register(self, guest.kill)
        self.assertEqual(guest.stdout.readline(), "bound\n")  # type: ignore[union-attr]
        connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        done = subprocess.run(["/usr/bin/python3", "-c", connect, path], user=USER, group=USER, extra_groups=[gid], timeout=60)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(guest.stdout.readline(), "met\n")  # type: ignore[union-attr]
        self.assertEqual(guest.wait(30), 0)

    def test_activation_by_systemds_own_tool(self) -> None:
        path = self.folder / "api.sock"
        log = (self.folder / "log").open("wb")
        register(self, log.close)
        process = subprocess.Popen(["systemd-socket-activate", "-l", str(path), str(PATCHBAYD), "--socket", str(path), "--state", ":memory:",
                                    "--hugepages", "off", "--vhost-dir", str(self.folder / "vhost")], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=log)
        register(self, process.wait)
        register(self, process.send_signal, signal.SIGTERM)
        wait_for("the socket", path.exists)
        done = subprocess.run(["curl", "-sS", "--max-time", "60", "--unix-socket", str(path), "http://localhost/v1/version"],
                              capture_output=True, text=True, timeout=90)
        self.assertEqual(json.loads(done.stdout)["api"][:2], "1.", done.stderr + (self.folder / "log").read_text())
