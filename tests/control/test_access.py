#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Who may connect, read and change; how many places a user gets; and what the daemon and its service manager tell each other."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from typing import Any, Callable

from harness import Daemon, DaemonTest, ask, main, wait_for

OWNERS, READERS, OTHERS = 64101, 64102, 64103  # groups, by number: nobody need know them
USER = 64001


def as_user(uid: int, groups: list[int], work: Callable[[], Any]) -> Any:
    """Runs work in a process of that user, whose first group is its own; returns what it returned, as JSON can carry it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            os.write(writer, json.dumps(work()).encode())
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as result:
        data = result.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise AssertionError("the other user's part failed, see above")
    return json.loads(data)


class Groups(DaemonTest):
    args = ("--socket-group", str(OWNERS), "--read-group", str(READERS))

    def setUp(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("needs root to become others")
        super().setUp()
        os.chmod(self.d.dir, 0o755)

    def tries(self, *groups: int) -> list[Any]:
        """What a user of these groups gets: for reading, for each way to change something, for a path that isn't."""
        def work() -> list[Any]:
            found: list[Any] = []
            try:
                client = self.d.connect()
                client.connect()
            except PermissionError:
                return ["may not connect"]
            for method, path, body in (("GET", "/v1/vifs", None), ("HEAD", "/v1/vifs", None), ("PUT", "/v1/vifs/v", {"kind": "none"}),
                                       ("PATCH", "/v1/vifs/w", {"owner": "x"}), ("DELETE", "/v1/vifs/w?detach=1", None),
                                       ("GET", "/v1/nonsense", None)):
                answer = ask(client, method, path, body)
                found.append(answer.status if answer.status not in (403,) else answer.json["error"])
            client.close()
            return found
        return as_user(USER, list(groups), work)

    def test_readers_read(self) -> None:
        self.d.plug("w")
        generation = self.d.generation()
        found = self.tries(READERS)
        self.assertEqual(found[:2] + found[5:], [200, 200, 404])
        for refusal in found[2:5]:
            self.assertEqual((refusal["code"], refusal["field"]), ("Forbidden", None))
            self.assertIn(f"User {USER} may only read, as a member of {READERS}", refusal["message"])
            self.assertIn(f"root and members of {OWNERS}", refusal["message"])
        self.assertEqual(self.d.generation(), generation)

    def test_readers_leave_streams_to_others(self) -> None:
        (done, tell), (wait, go) = os.pipe(), os.pipe()

        def follow(count: int) -> tuple[list[Any], list[int]]:
            clients = [self.d.connect() for _ in range(count)]
            for client in clients:
                client.request("GET", "/v1/events")
            return clients, [client.getresponse().status for client in clients]

        def read() -> list[int]:
            _, statuses = follow(13)
            os.write(tell, b"!")
            os.read(wait, 1)  # they keep what they have until root has its own
            return statuses

        found: list[list[int]] = []
        readers = threading.Thread(target=lambda: found.append(as_user(USER, [READERS], read)))
        readers.start()
        self.assertTrue(select.select([done], [], [], 60)[0], "the readers follow")
        clients, statuses = follow(4)
        os.write(go, b"!")
        readers.join()
        for client in clients:
            client.close()
        for end in (done, tell, wait, go):
            os.close(end)
        self.assertEqual((statuses, found), ([200] * 4, [[200] * 12 + [503]]))

    def test_members_change(self) -> None:
        self.d.plug("w")
        for groups in ((OWNERS,), (READERS, OWNERS)):
            with self.subTest(groups=groups):
                self.assertEqual(self.tries(*groups), [200, 200, 201, 200, 200, 404])
                self.check(self.d.delete("/v1/vifs/v"), 200)
                self.check(self.d.put("/v1/vifs/w", {"kind": "none"}), 201)

    def test_strangers_do_not_connect(self) -> None:
        self.assertEqual(self.tries(OTHERS), ["may not connect"])
        mode = os.stat(self.d.socket)
        self.assertEqual((mode.st_gid, mode.st_mode & 0o777), (OWNERS, 0o660))

    def test_of_many_groups(self) -> None:
        self.assertEqual(self.tries(*range(70000, 70100), READERS)[0], 200)

    def test_without_readers_the_mode_decides(self) -> None:
        self.d.args = ["--socket-group", str(OWNERS), "--socket-owner", str(USER)]
        self.d.restart()
        self.d.plug("w")
        self.assertEqual(self.tries(OTHERS), [200, 200, 201, 200, 200, 404])  # it is the owner
        self.assertEqual((os.stat(self.d.socket).st_uid, os.stat(self.d.socket).st_gid), (USER, OWNERS))
        self.assertEqual(as_user(USER + 1, [READERS], lambda: socket.socket(socket.AF_UNIX).connect_ex(self.d.socket)), 13)

    def test_names_that_are_not(self) -> None:
        for option, hint in (("--socket-owner", "useradd"), ("--read-group", "groupadd")):
            daemon = Daemon(option, "no-such-name", start=False)
            self.addCleanup(daemon.close)
            process = daemon.spawn()
            self.assertEqual(process.wait(30), 1)
            self.assertIn("no-such-name", daemon.log())
            self.assertIn(hint, daemon.log())
            self.assertFalse(os.path.exists(daemon.socket))


class Places(DaemonTest):
    """One user can't lock out the others, nor all of them root."""
    args = ("--socket-mode", "0666")

    def setUp(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("needs root to become others")
        super().setUp()
        os.chmod(self.d.dir, 0o755)

    def test_a_user_and_all_users(self) -> None:
        self.d.forget_connections()

        def fill(count: int) -> list[int]:
            clients, statuses = [], []
            for _ in range(count):
                client = self.d.connect()
                clients.append(client)
                client.connect()
                try:
                    statuses.append(ask(client, "GET", "/v1/version").status)
                except BrokenPipeError:  # turned away before the request was sent: the answer is there
                    statuses.append(int(client.sock.recv(1000).split()[1]))
            for client in clients:
                client.close()
            return statuses

        self.assertEqual(as_user(USER, [], lambda: fill(40)), [200] * 32 + [503] * 8)
        # They have gone with their process.
        wait_for(lambda: as_user(USER, [], lambda: fill(32)) == [200] * 32, "all places are free again")

        held = []
        for user in range(3):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.setgid(USER + user)
                os.setuid(USER + user)
                clients = []
                for _ in range(32):
                    client = socket.socket(socket.AF_UNIX)
                    client.connect(self.d.socket)
                    clients.append(client)
                os.write(writer, b"!")
                signal.pause()
                os._exit(0)
            os.close(writer)
            self.assertEqual(os.read(reader, 1), b"!")
            os.close(reader)
            held.append(pid)
        try:
            for _ in range(16):  # root still has its places, though 96 connections are wanted by others
                client = self.d.connect()
                self.check(ask(client, "GET", "/v1/version"), 200)
                client.close()
        finally:
            for pid in held:
                os.kill(pid, 9)
                os.waitpid(pid, 0)


class Manager(DaemonTest):
    def setUp(self) -> None:
        self.d = Daemon(start=False)
        self.addCleanup(self.d.close)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind(self.d.dir + "/notify")
        self.manager.settimeout(120)
        self.d.env = {"NOTIFY_SOCKET": self.d.dir + "/notify"}

    def hear(self, what: bytes) -> bytes:
        """Waits for a message that begins so."""
        while not (message := self.manager.recv(300)).startswith(what):
            pass
        return message

    def quiet(self, what: bytes, seconds: float) -> bool:
        """None that begins so comes for so long."""
        self.manager.settimeout(seconds)
        try:
            while not self.manager.recv(300).startswith(what):
                pass
            return False
        except TimeoutError:
            return True
        finally:
            self.manager.settimeout(120)

    def test_ready_status_stopping(self) -> None:
        self.d.start()
        self.assertEqual(self.manager.recv(300), b"READY=1")
        self.assertEqual(self.manager.recv(300), b"STATUS=0 wires, 0 vifs, generation 0, serving")
        self.d.plug("a")
        # There may be one between the vif and its port.
        self.hear(b"STATUS=0 wires, 1 vifs, generation 2, serving")
        self.assertEqual(self.d.stop(), 0)
        self.assertEqual(self.hear(b"STOPPING"), b"STOPPING=1")

    def test_abstract_address(self) -> None:
        name = f"patchbay-test-{os.getpid()}"
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind("\0" + name)
        manager.settimeout(120)
        self.d.env = {"NOTIFY_SOCKET": "@" + name}
        self.d.start()
        self.assertEqual(manager.recv(300), b"READY=1")

    def test_watchdog(self) -> None:
        """Pings while the worker goes round, none while it doesn't, and again."""
        self.d.env["WATCHDOG_USEC"] = "1000000"
        self.d.start()
        for _ in range(3):
            self.hear(b"WATCHDOG=1")
        self.d.fake("stuck on")
        self.assertEqual(self.hear(b"STATUS=0 wires, 0 vifs, generation 0, a worker"), b"STATUS=0 wires, 0 vifs, generation 0, a worker is stuck")
        self.assertTrue(self.quiet(b"WATCHDOG", 1.5))
        self.assertEqual(self.d.get("/v1/version").status, 200)  # it isn't the daemon that hangs
        self.assertIn("worker 0 on core 1 has not moved for", self.d.log())
        self.d.fake("stuck off")
        self.hear(b"WATCHDOG=1")
        self.hear(b"WATCHDOG=1")

    def test_a_watchdog_of_another(self) -> None:
        self.d.env.update(WATCHDOG_USEC="400000", WATCHDOG_PID="1")
        self.d.start()
        self.hear(b"STATUS=")
        self.assertTrue(self.quiet(b"WATCHDOG", 1))

    # ---- socket activation ----

    def activate(self, *sockets: socket.socket, path: str | None = None) -> "subprocess.Popen[bytes]":
        """Starts the daemon with the sockets as descriptors 3, 4 …, as a service manager does."""
        plain = self.d.command()
        fds = [s.fileno() for s in sockets]
        moves = " ".join(f"{10 + i}<&{fd}" for i, fd in enumerate(fds)) + " " + " ".join(f"{3 + i}<&{10 + i}" for i in range(len(fds)))
        script = f'export LISTEN_PID=$$ LISTEN_FDS={len(fds)}; exec "$@" {moves}'
        with open(self.d.log_path, "ab") as log:
            self.d.process = subprocess.Popen(["bash", "-c", script, "-", *plain], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                              env=dict(os.environ, PATCHBAY_FAKE=self.d.dir + "/fake.sock", **self.d.env), pass_fds=fds)
        return self.d.process

    def listener(self, path: str) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(made.close)
        made.bind(path)
        made.listen()
        return made

    def test_activation(self) -> None:
        made = self.listener(self.d.socket)
        early = self.d.connect(60)
        early.request("GET", "/v1/version")  # before there is a daemon
        self.activate(made)
        self.assertEqual(early.getresponse().status, 200)
        early.close()
        self.check(self.d.put("/v1/vifs/a", {"kind": "none"}), 201)
        # The manager's file stays for the next one, and who comes meanwhile waits.
        self.assertEqual(self.d.stop(), 0)
        self.assertTrue(os.path.exists(self.d.socket))
        between = self.d.connect(60)
        between.request("GET", "/v1/vifs/a")
        self.activate(made)
        self.assertEqual(between.getresponse().status, 200)
        between.close()

    def test_activation_with_readers(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("needs root to become others")
        os.chmod(self.d.dir, 0o755)
        made = self.listener(self.d.socket)
        os.chmod(self.d.socket, 0o660)
        self.d.args = ["--read-group", str(READERS)]
        self.activate(made)
        self.check(self.d.put("/v1/vifs/a", {"kind": "none"}), 201)

        def work() -> list[int]:
            client = self.d.connect()
            return [ask(client, "GET", "/v1/vifs/a").status, ask(client, "DELETE", "/v1/vifs/a").status]
        self.assertEqual(as_user(USER, [READERS], work), [200, 403])

    def test_what_can_not_be_served(self) -> None:
        stream = self.listener(self.d.dir + "/other.sock")
        datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(datagram.close)
        datagram.bind(self.d.dir + "/datagram")
        two = self.listener(self.d.dir + "/two.sock")
        for sockets, message in (((stream,), "but --socket says"), ((datagram,), "ListenStream="), ((stream, two), "serves one")):
            process = self.activate(*sockets)
            self.assertEqual(process.wait(30), 1)
            self.assertIn(message, self.d.log())
            os.unlink(self.d.log_path)
        self.d.process = None


if __name__ == "__main__":
    main()
