#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Starting and ending: options, what stands in the way, what is left behind."""

import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from harness import BINARY, SLOW, Daemon, main, wait_for
from pace import slowness


def run(*args: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=120, check=False, **kwargs)


class Options(unittest.TestCase):
    def test_help_lists_all(self) -> None:
        done = run("--help")
        self.assertEqual(done.returncode, 0)
        for option in ("socket", "socket-mode", "socket-group", "workers", "poll", "hugepages", "vhost-dir",
                       "vhost-group", "vhost-mode", "state", "pidfile", "log-level", "check", "help", "version"):
            self.assertRegex(done.stdout, rf"(?m)^  --{option}\b")

    def test_version(self) -> None:
        self.assertRegex(run("--version").stdout, r"^patchbayd \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_2(self) -> None:
        for args, words in (
                (["--nonsense"], "unrecognized"), (["--socket"], "requires"), (["--socket", "relative"], "absolute"),
                (["--socket", "/" + "x" * 108], "too long"), (["--socket-mode", "0999"], "octal"),
                (["--socket-mode", "07777"], "octal"), (["--socket-mode", "1000"], "0777"),
                (["--workers", "1,"], "cores"), (["--workers", "3-1"], "cores"), (["--workers", "a"], "cores"),
                (["--workers", "1-"], "cores"), (["--workers", ""], "cores"), (["--poll", "maybe"], "adaptive"),
                (["--hugepages", "0"], "megabytes"), (["--hugepages", "12x"], "megabytes"),
                (["--hugepages", "-1"], "megabytes"), (["--vhost-dir", "x"], "absolute"),
                (["--vhost-group", ""], "empty"), (["--vhost-mode", "x"], "octal"), (["--state", "x"], ":memory:"),
                (["--pidfile", "x"], "absolute"), (["--log-level", "loud"], "error, warning"), (["word"], "--")):
            with self.subTest(args=args):
                done = run(*args)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(words, done.stderr)


class Start(unittest.TestCase):
    def setUp(self) -> None:
        self.d = Daemon(start=False)
        self.addCleanup(self.d.close)

    def refused(self, *words: str, status: int = 1, **kwargs) -> str:
        process = self.d.spawn(**kwargs)
        self.assertEqual(process.wait(timeout=120), status, self.d.log())
        log = self.d.log()
        self.assertIn(" error ", log)
        for word in words:
            self.assertIn(word, log)
        return log

    def test_sockets_mode_and_pidfile(self) -> None:
        self.d.args = ["--socket-mode", "0600", "--socket-group", "0"]
        self.d.start()
        self.assertEqual(os.stat(self.d.socket).st_mode & 0o777, 0o600)
        # Others must be able to pass on their way to a socket that is theirs.
        self.assertEqual(os.stat(self.d.dir + "/vhost").st_mode & 0o777, 0o755)
        with open(self.d.dir + "/patchbayd.pid", encoding="ascii") as pidfile:
            self.assertEqual(int(pidfile.read()), self.d.process.pid)
        self.assertEqual(self.d.stop(), 0)
        self.assertEqual(sorted(os.listdir(self.d.dir)), ["log", "state.db", "state.json", "vhost"])

    def test_directories_are_made(self) -> None:
        self.d.socket = self.d.dir + "/some/where/api.sock"
        self.d.start()
        self.assertEqual(os.stat(self.d.dir + "/some/where").st_mode & 0o777, 0o755)

    def test_second_instance(self) -> None:
        self.d.start()
        self.refused("already runs", str(self.d.process.pid))
        self.assertEqual(self.d.get("/v1/version").status, 200)

    def test_socket_in_use(self) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.d.socket)
            other.listen()
            self.refused("listens on", "--socket")
            self.assertTrue(os.path.exists(self.d.socket))

    def test_stale_socket_is_replaced(self) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.d.socket)
        self.d.start()

    def test_no_socket_at_path(self) -> None:
        with open(self.d.socket, "w", encoding="ascii") as file:
            file.write("precious")
        self.refused("no socket")
        with open(self.d.socket, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_missing_core(self) -> None:
        self.d.args = ["--workers", "999"]
        self.refused("999")
        self.assertFalse(os.path.exists(self.d.socket))

    def test_unknown_group(self) -> None:
        self.d.args = ["--socket-group", "no-such-group"]
        self.refused("no-such-group", "groupadd")

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become nobody")
    def test_no_permission(self) -> None:
        with tempfile.TemporaryDirectory() as locked:
            os.chmod(locked, 0o755)
            self.d.socket = locked + "/deeper/api.sock"
            os.chmod(self.d.dir, 0o755)
            os.chmod(self.d.log_path if os.path.exists(self.d.log_path) else self.d.dir, 0o755)
            self.refused("Permission denied", user=65534)

    def test_state_of_another(self) -> None:
        with open(self.d.state, "w", encoding="ascii") as file:
            file.write("this is no database, whatever it is" * 100)
        self.refused(self.d.state, status=3)
        self.assertFalse(os.path.exists(self.d.socket))

    def test_killed_one_leaves_nothing_in_the_way(self) -> None:
        self.d.start()
        self.d.restart(signal.SIGKILL)

    def stop_quickly(self, prepare, how: int = signal.SIGTERM) -> None:
        """Under a second; on a machine that is busy with other tests one of six must do."""
        times = []
        for _ in range(6):
            self.d.start()
            clients = prepare()
            began = time.monotonic()
            code = self.d.stop(how)
            times.append(time.monotonic() - began)
            self.assertFalse(os.path.exists(self.d.socket))
            self.assertFalse(os.path.exists(self.d.dir + "/patchbayd.pid"))
            for client in clients:
                client.close()
            if times[-1] < 1 * SLOW * slowness():
                self.assertEqual(code, self.code)
                return
        self.fail(f"{times}")

    code = 0

    def test_terms_quickly(self) -> None:
        def prepare():
            # Neither idle clients nor half a request hold it up.
            self.d.put("/v1/vifs/a", {"kind": "none"})
            idle, half = self.d.connect(), self.d.connect()
            idle.connect()
            half.connect()
            half.sock.sendall(b"PUT /v1/vifs/x HTTP/1.1\r\nHost: x\r\nContent-Le")
            return [idle, half]

        self.stop_quickly(prepare)
        self.stop_quickly(prepare, signal.SIGINT)

    def test_ends_while_a_device_hangs(self) -> None:
        def prepare():
            slow = self.d.connect()
            slow.request("PUT", "/v1/vifs/slow", '{"kind":"dev","devargs":"slow:5000"}')
            wait_for(lambda: "slow" in self.d.fake("making"), "it is being made")
            return [slow]

        self.code = 1  # something was left to the kernel to clean up
        self.stop_quickly(prepare)

    def test_memory_state(self) -> None:
        self.d.state = ":memory:"
        self.d.start()
        self.d.plug("a")
        self.d.restart()
        self.assertEqual(self.d.get("/v1/vifs").json["items"], [])

    def test_log_lines(self) -> None:
        self.d.args = ["--log-level", "debug"]
        self.d.start()
        self.d.put("/v1/vifs/a%0Aforged", {"kind": "none"})
        self.d.plug("a")
        self.d.stop()
        for line in self.d.log().splitlines():
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warning|notice|info|debug) +\w+: ")
        self.assertRegex(self.d.log(), rf"PUT /v1/vifs/a: 201, generation 1, by pid {os.getpid()} uid {os.getuid()}")

    def test_in_the_journal_there_are_levels_and_no_times(self) -> None:
        with open(self.d.log_path, "w", encoding="ascii"):
            pass
        log = os.stat(self.d.log_path)
        self.d.env = {"JOURNAL_STREAM": f"{log.st_dev}:{log.st_ino}"}
        self.d.start()
        self.d.stop()
        for line in self.d.log().splitlines():
            self.assertRegex(line, r"^<[3-7]>\w+: ")


if __name__ == "__main__":
    main()
