# SPDX-License-Identifier: BSD-3-Clause
"""The sockets themselves: which paths are taken, which are refused and why, and what is left behind."""
from __future__ import annotations

import grp
import os
import resource
import socket
import stat
import tempfile
import threading
import time
import unittest

import frontend
from support import Host, HostCase, wait_for


class Paths(HostCase):
    kinds = ()

    def setUp(self) -> None:
        self.watch_descriptors()
        self.addCleanup(self.host.must, "rm 5")

    def refused(self, kind: str, path: str, reason: str, mode: str = "0600") -> None:
        answer = self.host.ask(f"vif 5 {kind} {path} {mode}")
        self.assertRegex(answer, f"^error [0-9]+ .*{reason}")

    def accepted(self, kind: str, path: str, mode: str = "0600") -> None:
        self.host.must(f"vif 5 {kind} {path} {mode}")

    def test_refused_as_such(self) -> None:
        for kind in ("vhost", "vhost-server"):
            with self.subTest(kind=kind):
                self.refused(kind, "relative.sock", "must be absolute")
                self.refused(kind, "/tmp/" + "x" * 103, "has 108 bytes; at most 107")
                self.refused(kind, self.path("missing/a.sock"), "create it first")
                self.refused(kind, self.path(""), "slash")
                with open(self.path("file"), "w"):
                    pass
                self.refused(kind, self.path("file"), "is no socket")
                self.refused(kind, self.path("file/a.sock"), "")
        self.assertTrue(os.path.exists(self.path("file")))
        self.refused("vhost-server", self.path("g.sock"), "no group", "0600 nosuchgroup")
        self.assertFalse(os.path.exists(self.path("g.sock")))

    def test_longest_path(self) -> None:
        path = self.path("").ljust(107, "p")
        self.accepted("vhost-server", path)
        self.assertTrue(os.path.exists(path))
        self.host.must("rm 5")
        self.assertFalse(os.path.exists(path))

    def test_in_use(self) -> None:
        path = self.path("used.sock")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            self.refused_live(other, path)
        # Now it is stale: it is replaced.
        self.accepted("vhost-server", path)
        with frontend.FrontEnd(path) as end:
            end.connect()
            end.sync()

    def refused_live(self, other: socket.socket, path: str) -> None:
        other.listen(0)
        inode = os.stat(path).st_ino
        for _ in range(4):  # until its backlog is full, and then
            self.refused("vhost-server", path, "another process listens")
        self.assertEqual(os.stat(path).st_ino, inode, "somebody else's socket was replaced")

    def test_twice(self) -> None:
        path = self.path("twice.sock")
        self.host.must(f"vif 4 vhost-server {path} 0600")
        self.addCleanup(self.host.must, "rm 4")
        self.refused("vhost-server", path, "vif4 has the path")
        self.refused("vhost", path, "vif4 has the path")
        self.host.must("rm 4")
        self.accepted("vhost-server", path)
        self.host.must("rm 5")
        self.assertFalse(os.path.exists(path))

    def test_as_many_as_the_library_takes(self) -> None:
        limit = 511
        for slot in range(100, 100 + limit):
            self.host.must(f"vif {slot} vhost-server {self.path(str(slot))} 0600")
            self.addCleanup(self.host.must, f"rm {slot}")
        self.refused("vhost-server", self.path("5.sock"), "no room for another vhost vif")
        self.accepted("vhost", self.path("5.sock"))  # takes the last place
        self.assertRegex(self.host.ask(f"vif 6 vhost {self.path('6.sock')} 0600"), "no room for another vhost vif")
        # The last one is served as the first.
        for slot in (100, 99 + limit):
            with frontend.FrontEnd(self.path(str(slot))) as end:
                end.connect()
                end.start()
                self.assertTrue(wait_for(lambda: self.host.state(slot).link == "up"))
        self.host.must(f"rm {99 + limit}")
        self.host.must(f"vif 6 vhost {self.path('6.sock')} 0600")
        self.host.must("rm 6")

    def test_mode_and_group(self) -> None:
        path = self.path("mode.sock")
        group = grp.getgrgid(1)
        for mode in (0o600, 0o660, 0o666, 0o700):
            self.accepted("vhost-server", path, f"{mode:04o} {group.gr_name}")
            status = os.stat(path)
            self.assertEqual((stat.S_IMODE(status.st_mode), status.st_gid), (mode, group.gr_gid))
            self.host.must("rm 5")

    def test_a_link_is_not_followed(self) -> None:
        """chmod and chown go to the socket, not to what somebody puts in its place."""
        path = self.path("link.sock")
        victim = self.path("victim")
        with open(victim, "w"):
            pass
        os.chmod(victim, 0o600)
        os.symlink(victim, path)
        self.refused("vhost-server", path, "no socket")
        self.assertEqual(stat.S_IMODE(os.stat(victim).st_mode), 0o600)
        os.unlink(path)
        os.symlink(self.path("dangling"), path)
        self.refused("vhost-server", path, "no socket")
        os.unlink(path)

    def test_client_waits_for_a_path(self) -> None:
        path = self.path("later.sock")
        self.accepted("vhost", path)
        self.assertFalse(os.path.exists(path))
        with frontend.FrontEnd(path, listen=True) as end:
            end.connect()
            end.start()
            self.assertTrue(wait_for(lambda: self.host.state(5).link == "up"))
        self.assertTrue(os.path.exists(path))
        mode = os.stat(path).st_mode
        self.host.must("rm 5")
        self.assertEqual(os.stat(path).st_mode, mode)
        os.unlink(path)

    def test_removed_while_it_hangs_up(self) -> None:
        """The front end goes and the vif is removed at the same time, at every distance from one another."""
        rounds = 300
        for turn in range(rounds):
            path = self.path(f"bye{turn}.sock")
            with frontend.FrontEnd(path, listen=True) as end:
                self.accepted("vhost", path)
                end.connect()
                end.sync()
                end.close()
                later = time.perf_counter() + 0.0006 * turn / rounds
                while time.perf_counter() < later:
                    pass
                self.host.must("rm 5")
            os.unlink(path)

    def test_a_listener_that_hangs_up_at_once(self) -> None:
        """It is tried again, a few times a second; a sound one after it is served."""
        path = self.path("rude.sock")
        with socket.socket(socket.AF_UNIX) as rude:
            rude.bind(path)
            rude.listen(1)
            rude.settimeout(60)
            start = time.monotonic()
            self.accepted("vhost", path)
            for _ in range(5):
                rude.accept()[0].close()
            self.assertGreater(time.monotonic() - start, 0.9, "it is tried in a loop without a pause")
        os.unlink(path)
        with frontend.FrontEnd(path, listen=True) as end:
            end.connect()
            end.start()
            self.assertTrue(wait_for(lambda: self.host.state(5).link == "up"))
            self.assertEqual(self.host.numbers("count 5")[4], 5)  # reconnects

    def test_removed_while_connected(self) -> None:
        path = self.path("gone.sock")
        for _ in range(5):
            self.accepted("vhost-server", path)
            with frontend.FrontEnd(path) as end:
                end.connect()
                end.start()
                self.assertTrue(wait_for(lambda: self.host.state(5).link == "up"))
                end.transmit([bytes(60)] * 50)
                self.host.must("rm 5")
                self.assertTrue(end.closed())
            self.assertFalse(os.path.exists(path))

    def test_removed_while_talking(self) -> None:
        """Unregistering while the library's thread is in the middle of our callbacks."""
        path = self.path("talk.sock")
        for _ in range(5):
            self.accepted("vhost-server", path)
            with frontend.FrontEnd(path) as end:
                end.connect()
                end.start()
                end.socket.settimeout(2)
                stop = False

                def talk() -> None:
                    try:
                        while not stop:
                            end.u64(frontend.SET_VRING_CALL, 0, (end.rings[0].call_fd,))
                            end.ring_state(frontend.SET_VRING_ENABLE, 1, 1)
                            end.send(frontend.SET_MEM_TABLE, end.memory_table(), (end.memory_fd,))
                    except (frontend.Closed, OSError):
                        pass

                thread = threading.Thread(target=talk)
                thread.start()
                time.sleep(0.02)
                self.host.must("rm 5")
                stop = True
                thread.join()


class Crowded(unittest.TestCase):
    """One thread serves all front ends: what a connection costs it may not grow with the descriptors that there are."""

    def best_of(self, inherited: tuple[int, ...]) -> float:
        best = 10.0
        with tempfile.TemporaryDirectory(prefix="vhost-test-") as folder:
            host = Host(inherited=inherited)
            host.must(f"vif 0 vhost-server {folder}/0.sock 0600")
            with frontend.FrontEnd(f"{folder}/0.sock") as end:
                for _ in range(20):
                    began = time.monotonic()
                    end.connect()
                    end.ask_u64(frontend.GET_FEATURES)
                    best = min(best, time.monotonic() - began)
            host.must("rm 0")
            self.assertEqual(host.close(), 0)
            host.log.close()
        return best

    def test_many_descriptors(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        crowd = tuple(os.open(os.devnull, os.O_RDONLY) for _ in range(min(10000, hard - 1000)))
        try:
            times = []
            for _ in range(5):  # a machine that is busy may disturb one of the two alone
                times.append((self.best_of(()), self.best_of(crowd)))
                if times[-1][1] < 5 * times[-1][0] + 0.002:
                    return
            self.fail(f"with few descriptors and with many: {times}")
        finally:
            for fd in crowd:
                os.close(fd)


if __name__ == "__main__":
    unittest.main()
