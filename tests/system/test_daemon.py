# SPDX-License-Identifier: BSD-3-Clause
"""patchbayd as a process: how it starts and doesn't, how it ends, what it costs, what it remembers."""
from __future__ import annotations

import grp
import http.client
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

from namespace import Namespace, interface_name, ip
from pace import best
from patchbay import (CPUS, PATCHBAYD, SANITIZED, SLOW, Case, Daemon, Said, dpdk_run_dirs, huge_pages_free, register,
                      say, wait_for, wire_path)

TICKS = os.sysconf("SC_CLK_TCK")
HUGE = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


def run(*options: str, user: str | None = None, timeout: float = 120.0) -> Said:
    """A daemon that should end by itself."""
    group = None if user is None else pwd.getpwnam(user).pw_gid
    done = subprocess.run([str(PATCHBAYD), *options], capture_output=True, text=True, timeout=timeout * SLOW,
                          stdin=subprocess.DEVNULL, user=user, group=group, extra_groups=[] if user else None)
    return Said(done.returncode, done.stdout, done.stderr)


class Start(Case):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pb-system-"))
        register(self, shutil.rmtree, self.directory, True)
        self.options = ["--socket", str(self.directory / "api.sock"), "--state", ":memory:", "--hugepages", "off",
                        "--vhost-dir", str(self.directory / "vhost")]

    def refused(self, *options: str, code: int, words: tuple[str, ...], user: str | None = None) -> None:
        said = run(*self.options, *options, user=user)
        self.assertEqual(said.rc, code, f"{options}: {said}")
        for word in words:
            self.assertIn(word, said.err, f"{options}: {said}")
        self.assertFalse((self.directory / "api.sock").exists())
        self.assertFalse((self.directory / "patchbayd.pid").exists())

    def test_wrong_options(self) -> None:
        for options in (["--no-such-option"], ["--poll", "lazy"], ["--hugepages", "many"], ["--hugepages", "-1"],
                        ["--workers", "x"], ["--workers", "3-1"], ["--socket", "relative.sock"],
                        ["--socket", "/" + "x" * 120], ["--socket-mode", "999"], ["--state", "relative.db"],
                        ["--log-level", "chatty"], ["word"]):
            said = run(*options)
            self.assertEqual(said.rc, 2, f"{options}: {said}")
            self.assertIn("patchbayd", said.err)
            self.assertIn(options[-1] if options[0] != "--no-such-option" else "no-such-option", said.err)

    def test_what_cannot_be_had(self) -> None:
        """Each: exit 1 (3 of a state that is none), an error that names the thing, nothing left behind."""
        self.refused("--workers", "987", code=1, words=("987",))
        self.refused("--socket-group", "no-such-group", code=1, words=("no-such-group",))
        self.refused("--hugepages", "999999", code=1, words=("999999",))
        self.refused("--", "--no-such-eal-option", code=1, words=("no-such-eal-option",))
        file = self.directory / "file"
        file.write_text("not a database\n" * 100)
        self.refused("--state", str(file), code=3, words=(str(file),))
        self.assertEqual(file.read_text(), "not a database\n" * 100)
        self.refused("--state", str(file / "state.db"), code=1, words=(str(file),))

    def test_no_permission(self) -> None:
        """Somebody who may not write where the socket goes."""
        os.chmod(self.directory, 0o755)
        self.refused(code=1, words=(str(self.directory),), user="nobody")

    def test_socket_path_is_taken_by_a_file(self) -> None:
        path = self.directory / "api.sock"
        path.write_text("precious")
        said = run(*self.options)
        self.assertEqual(said.rc, 1, said)
        self.assertIn(str(path), said.err)
        self.assertEqual(path.read_text(), "precious")
        self.assertFalse((self.directory / "patchbayd.pid").exists())

    def test_help_and_version(self) -> None:
        said = run("--help")
        self.assertEqual((said.rc, said.err), (0, ""))
        for option in ("--socket", "--socket-mode", "--socket-group", "--workers", "--poll", "--hugepages",
                       "--vhost-dir", "--state"):
            self.assertIn(option, said.out)
        said = run("--version")
        self.assertEqual(said.rc, 0)
        self.assertRegex(said.out, r"^patchbayd \d+\.\d+\.\d+\n$")


class Life(Case):
    def test_second_instance(self) -> None:
        """Refused with the first one's number; the first one doesn't mind."""
        daemon = Daemon(self)
        before = daemon.get("/v1/version")["instance"]
        said = run(*daemon.options)
        self.assertEqual(said.rc, 1, said)
        self.assertIn(str(daemon.pid), said.err)
        # Another pidfile doesn't help where the socket is in use.
        other = ["--pidfile", str(daemon.directory / "other.pid"), "--state", ":memory:"]
        said = run(*daemon.options, *other)
        self.assertEqual(said.rc, 1, said)
        self.assertIn(str(daemon.socket), said.err)
        self.assertFalse((daemon.directory / "other.pid").exists())
        self.assertEqual(daemon.get("/v1/version")["instance"], before)

    def test_two_daemons_side_by_side(self) -> None:
        one, two = Daemon(self), Daemon(self)
        one.plug("x", "none")
        self.assertEqual(two.items("/v1/vifs"), [])

    def test_stale_socket_and_pidfile(self) -> None:
        """What a killed daemon left is replaced."""
        daemon = Daemon(self)
        server = daemon.plug("v", "vhost-server")
        old = daemon.pid
        daemon.kill9()
        self.assertTrue(daemon.socket.exists())
        self.assertTrue(os.path.exists(server))
        daemon.start()
        self.assertEqual(daemon.wait_vif("v", "down")["state"], "down")
        self.assertEqual(int(daemon.pidfile.read_text()), daemon.pid)
        self.assertEqual(dpdk_run_dirs(old), [], "DPDK's run directory of the killed daemon is still there")

    def test_socket_mode_and_group(self) -> None:
        daemon = Daemon(self, "--socket-mode", "0600", "--socket-group", "daemon")
        status = daemon.socket.stat()
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o600)
        self.assertEqual(status.st_gid, grp.getgrnam("daemon").gr_gid)

    def test_cli_without_a_daemon(self) -> None:
        daemon = Daemon(self)
        daemon.stop()
        said = daemon.cli("show")
        self.assertEqual(said.rc, 3, said)
        self.assertIn("isn't running", said.err)
        daemon.start()
        self.assertEqual(daemon.cli("version").rc, 0)

    def test_end_with_all_kinds_of_vifs(self) -> None:
        """SIGTERM with a device of each kind, and while clients are connected: under a second, nothing left."""
        daemon = Daemon(self)
        vifs = plug_all(daemon, 2)
        for number, (a, b) in enumerate(zip(vifs[::2], vifs[1::2])):
            daemon.wire(f"w{number}", a, b)

        def end() -> float:
            idle = socket.socket(socket.AF_UNIX)
            idle.connect(str(daemon.socket))
            took = daemon.stop()
            idle.close()
            self.assertEqual([n for n in os.listdir(daemon.vhost_dir)], [])
            daemon.start()
            self.assertEqual(len(daemon.items("/v1/vifs")), len(vifs))
            return took

        took = best("the end", 1.0 * SLOW, end)[-1]
        say(f"SIGTERM with {len(vifs)} vifs: {took * 1e3:.0f} ms")

    def test_end_by_sigint(self) -> None:
        daemon = Daemon(self)
        daemon.process.send_signal(2)
        self.assertEqual(daemon.process.wait(60 * SLOW), 0)
        self.assertFalse(daemon.socket.exists())
        daemon.start()

    def test_with_huge_pages(self) -> None:
        """Where the kernel gives some: they are used, and given back at the end."""
        count = HUGE / "nr_hugepages"
        if not count.exists():
            self.skipTest("huge pages: this kernel has none of 2 MiB")
        before = int(count.read_text())
        register(self, count.write_text, str(before))
        count.write_text(str(before + 64))
        free = huge_pages_free()
        if free < 64:
            self.skipTest("huge pages: the kernel has no 64 of them to give")
        daemon = Daemon(self, hugepages="64")
        wait_for("huge pages are in use", lambda: huge_pages_free() <= free - 32)
        daemon.plug("x", "dev", "net_null0,no-rx=1")
        daemon.stop()
        wait_for("they are free again", lambda: huge_pages_free() == free)
        daemon.start()

    def test_auto_without_huge_pages(self) -> None:
        """The default needs none: one warning, and it works."""
        if huge_pages_free() * 2 >= 256:
            self.skipTest("huge pages: there are 256 MB free on this machine")
        daemon = Daemon(self, hugepages="auto")
        daemon.plug("x", "dev", "net_null0,no-rx=1")
        daemon.wait_vif("x")
        warnings = [line for line in daemon.log.read_text().splitlines() if "huge page" in line]
        self.assertEqual(len(warnings), 1, warnings)


def plug_all(daemon: Daemon, count: int) -> list[str]:
    """`count` vifs of each kind, none of which has traffic."""
    names = []
    for number in range(count):
        for kind, target in (("vhost", None), ("vhost-server", None), ("none", None),
                             ("kernel-new", interface_name("i")), ("dev", f"net_null{number},no-rx=1")):
            name = f"{kind}{number}"
            daemon.plug(name, kind, target)
            names.append(name)
    return names


class Idle(Case):
    def cpu_seconds(self, daemon: Daemon) -> float:
        """utime + stime of all threads."""
        total = 0
        for thread in Path(f"/proc/{daemon.pid}/task").iterdir():
            fields = (thread / "stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def test_idle_costs_under_2_percent(self) -> None:
        """20 idle vifs of all kinds, wired and tapped; five seconds of all threads."""
        daemon = Daemon(self)
        quiet = Namespace(self, "quiet")
        vifs = plug_all(daemon, 4)
        for number in range(4):
            # In a namespace without IPv6 the interface says nothing by itself.
            quiet.take(daemon, daemon.get(f"/v1/vifs/kernel-new{number}")["interface"])
            daemon.wire(f"w{number}", f"kernel-new{number}", f"vhost-server{number}")
            daemon.wire(f"n{number}", f"dev{number}", f"none{number}")
            daemon.tee(f"w{number}", "ids", port=f"vhost{number}")
        self.assertEqual(len(vifs), 20)

        def share(seconds: float) -> float:
            begin, used = time.monotonic(), self.cpu_seconds(daemon)
            time.sleep(seconds)
            return (self.cpu_seconds(daemon) - used) / (time.monotonic() - begin)
        # What the set-up still has to do must be over.
        wait_for("it comes to rest", lambda: share(0.5) < 0.1, 20)
        # Other processes on our CPUs cost us caches, so the best counts.
        shares = [share(5)] if SANITIZED else best("20 idle vifs, of a core", 0.02, lambda: share(5))
        say(f"20 idle vifs: {shares[-1] * 100:.2f} % of a core")


class Memory(Case):
    """What the daemon remembers over a restart."""

    def test_everything_is_as_before(self) -> None:
        daemon = Daemon(self)
        for name in ("a", "b", "m", "i", "o"):
            daemon.plug(name, "none")
        daemon.do("PUT", "/v1/vifs/v", {"kind": "vhost", "path": str(daemon.vhost_dir / "v"), "owner": "vm-1",
                                        "labels": {"rack": "a3"}})
        daemon.do("PUT", "/v1/networks/blue", {"labels": {"tenant": "7"}})
        daemon.do("PUT", "/v1/networks/blue/ports/p", {"vif": "v", "vlan": 12, "labels": {"x": "y"}})
        daemon.wire("w1", "a", "b", on_full="drop", stall_ms=123, labels={"k": "ü"})
        daemon.wire("w2", None, None, admin="down")
        daemon.tee("w1", "t1", port="m", direction="b-to-a")
        daemon.tee("w1", "t2", port="i", out_port="o", mode="bump", on_failure="open", stall_ms=77, before="t1")
        daemon.tee("w1", "t3", port="blue/p", mode="off")
        paths = ["/v1/networks", "/v1/networks/default/ports", "/v1/networks/blue/ports", "/v1/networks/default/wires"]

        def remembered() -> Any:
            def strip(thing: Any) -> Any:
                if isinstance(thing, dict):
                    return {k: strip(v) for k, v in thing.items() if k not in ("status", "generation")}
                return [strip(one) for one in thing] if isinstance(thing, list) else thing
            return strip([daemon.get(path) for path in ["/v1/vifs", *paths]])
        before = remembered()
        tag = daemon.api("GET", wire_path("w1")).headers["etag"]
        daemon.restart()
        self.assertEqual(remembered(), before)
        self.assertEqual(daemon.api("GET", wire_path("w1")).headers["etag"], tag)
        daemon.kill9()
        daemon.start()
        self.assertEqual(remembered(), before)
        self.assertEqual(daemon.wait_wire("w1")["path"], ["a", "bump t2", "tap t1", "b"])

    def test_a_lost_state_comes_back(self) -> None:
        """Exported, the state file lost, applied to the daemon that starts empty: all of it, with the same uids or without."""
        daemon = Daemon(self)
        for name in ("a", "b", "m", "i", "o"):
            daemon.plug(name, "vhost-server" if name in "io" else "none")
        daemon.do("PUT", "/v1/vifs/v", {"kind": "vhost", "path": str(daemon.vhost_dir / "v"), "owner": "vm-1",
                                        "labels": {"rack": "a3"}})
        daemon.do("PUT", "/v1/networks/blue", {"labels": {"tenant": "7"}})
        daemon.do("PUT", "/v1/networks/blue/ports/p", {"vif": "v", "vlan": 12, "labels": {"x": "y"}})
        daemon.do("PUT", "/v1/networks/blue/ports/loose", {})
        daemon.wire("w1", "a", "b", on_full="drop", stall_ms=123, labels={"k": "ü"})
        daemon.wire("w2", None, None, admin="down")
        daemon.tee("w1", "t1", port="m", direction="b-to-a")
        # Its appliance isn't there, as no appliance is in the moment after a start.
        daemon.tee("w1", "t2", "?force=1", port="i", out_port="o", mode="bump", on_failure="open", stall_ms=77, before="t1")
        daemon.tee("w1", "t3", port="blue/p", mode="off")
        for key, value in (("ingress_bps", "200M"), ("ingress_burst", "100000"), ("egress_bps", "1G"),
                           ("egress_burst", "70000")):
            daemon.cli("conf", "set", "port:a", f"{key}={value}", check=True)

        def remembered() -> Any:
            def strip(thing: Any) -> Any:
                if isinstance(thing, dict):
                    return {k: strip(v) for k, v in thing.items()
                            if k not in ("status", "generation", "uid", "instance", "seq")}
                return [strip(one) for one in thing] if isinstance(thing, list) else thing
            config = daemon.get("/v1/config")
            objects = [f"/v1/vifs/{vif['name']}" for vif in config["vifs"]] + [
                f"/v1/networks/{one['network']}/{kind}/{one['name']}" for kind in ("ports", "wires") for one in config[kind]]
            rows = {path: [daemon.get(f"{path}/conf/{key}") for key in daemon.get(f"{path}/conf")["keys"]] for path in objects}
            return strip(config), {path: {row["key"]: row["value"] for row in found if row["writable"]}
                                   for path, found in rows.items()}
        before = remembered()
        set_keys = before[1]["/v1/networks/default/ports/a"]
        self.assertEqual([set_keys[key] for key in ("ingress_bps", "ingress_burst", "egress_bps", "egress_burst")],
                         [200000000, 100000, 1000000000, 70000])
        export = daemon.directory / "export.json"
        daemon.cli("export", str(export), check=True)
        for saved in (export, daemon.state.with_suffix(".json.before")):
            daemon.stop()
            for path in daemon.directory.glob("state.db*"):
                path.unlink()
            daemon.start()
            self.assertEqual(daemon.items("/v1/vifs"), [])
            refused = daemon.cli("apply", "-f", str(saved))
            self.assertEqual(refused.rc, 1)
            self.assertIn("--force", refused.err)
            planned = daemon.cli("apply", "-f", str(saved), "--force", "--dry-run", check=True)
            self.assertEqual(daemon.items("/v1/vifs"), [], planned)
            daemon.cli("apply", "-f", str(saved), "--force", check=True)
            self.assertEqual(remembered(), before, saved)
            self.assertIn("nothing to do", daemon.cli("apply", "-f", str(saved), check=True).out)
        # And it is as durable as it was.
        daemon.kill9()
        daemon.start()
        self.assertEqual(remembered(), before)

    def test_an_answered_change_survives_a_kill(self) -> None:
        """Killed in the middle of a stream of changes: what was answered is there, and nothing half."""
        daemon = Daemon(self)
        for name in ("a", "b"):
            daemon.plug(name, "none")
        for _ in range(3):
            answered = [0]

            def change() -> None:
                try:
                    for number in range(1, 100000):
                        daemon.wire("w", "a", "b", labels={"n": str(number), "again": str(number)})
                        answered[0] = number
                except (OSError, http.client.HTTPException, AssertionError, ValueError):
                    pass
            thread = threading.Thread(target=change)
            thread.start()
            wait_for("changes are made", lambda: answered[0] > 50)
            daemon.kill9()
            thread.join()
            daemon.start()
            labels = daemon.get(wire_path("w"))["labels"]
            self.assertEqual(labels["n"], labels["again"])
            self.assertIn(int(labels["n"]), (answered[0], answered[0] + 1))

    def test_memory_only(self) -> None:
        daemon = Daemon(self, "--state", ":memory:")
        daemon.plug("a", "none")
        daemon.restart()
        self.assertEqual(daemon.items("/v1/vifs"), [])
        self.assertFalse(daemon.state.exists())

    def test_a_vif_that_cannot_be_restored(self) -> None:
        """It is `failed` with its reason and tried again; the others serve."""
        daemon = Daemon(self)
        name = interface_name("gone")
        daemon.plug("bad", "kernel-new", name)
        for vif in ("a", "b"):
            daemon.plug(vif, "none")
        daemon.wire("w1", "a", "b")
        daemon.wire("w2", "bad", None)
        daemon.stop()
        # Somebody else has an interface of that name when the daemon comes back.
        ip("tuntap", "add", "dev", name, "mode", "tun")
        register(self, lambda: ip("link", "del", name, check=False))
        daemon.start()
        status = daemon.vif_state("bad")
        self.assertEqual(status["state"], "failed", status)
        self.assertIn(name, status["reason"])
        self.assertEqual(daemon.wait_wire("w1")["state"], "up")
        self.assertEqual(daemon.wire_state("w2")["state"], "down")
        shown = daemon.cli("show", check=True).out
        self.assertIn("failed", shown)
        ip("link", "del", name)
        begin = time.monotonic()
        daemon.wait_vif("bad", deadline=40)
        say(f"a vif that couldn't be made is back {time.monotonic() - begin:.1f} s after it could")
        self.assertTrue(os.path.exists(f"/sys/class/net/{name}"))

    def test_a_failed_vif_can_be_deleted(self) -> None:
        daemon = Daemon(self)
        name = interface_name("gone")
        daemon.plug("bad", "kernel-new", name)
        daemon.stop()
        ip("tuntap", "add", "dev", name, "mode", "tun")
        register(self, lambda: ip("link", "del", name, check=False))
        daemon.start()
        self.assertEqual(daemon.vif_state("bad")["state"], "failed")
        daemon.do("DELETE", "/v1/vifs/bad?detach=1")
        self.assertEqual(daemon.items("/v1/vifs"), [])


class Workers(Case):
    def test_two_workers(self) -> None:
        """Each takes its share of the vifs. The rest of the daemon wants a CPU too."""
        directory = tempfile.mkdtemp(prefix="pb-system-")
        register(self, shutil.rmtree, directory, True)
        said = run("--state", ":memory:", "--socket", f"{directory}/api.sock", "--workers", ",".join(map(str, CPUS)))
        self.assertEqual(said.rc, 1, said)
        if len(CPUS) < 3:
            return
        daemon = Daemon(self, "--workers", f"{CPUS[1]},{CPUS[-1]}")
        workers = daemon.get("/v1/stats")["workers"]
        self.assertEqual([worker["core"] for worker in workers], [CPUS[1], CPUS[-1]])
        for number in range(4):
            daemon.plug(f"n{number}", "dev", f"net_null{number},no-rx=1")
        used = {daemon.wait_vif(f"n{number}")["worker"] for number in range(4)}
        self.assertEqual(used, {0, 1})

    def test_busy_polling(self) -> None:
        daemon = Daemon(self, "--poll", "busy")
        daemon.plug("x", "dev", "net_null0,no-rx=1")
        before = daemon.get("/v1/stats")["workers"][0]
        wait_for("it loops", lambda: daemon.get("/v1/stats")["workers"][0]["loops"] > before["loops"] + 1000)
        self.assertEqual(daemon.get("/v1/stats")["workers"][0]["sleeps"], 0)


if __name__ == "__main__":
    unittest.main()
