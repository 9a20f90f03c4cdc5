# SPDX-License-Identifier: BSD-3-Clause
"""What goes wrong, with its exit code and the words that say what to do."""

import grp
import os
import shutil
import socket
import subprocess
import threading
import unittest

from support import PATCHBAY, CliCase


class Unreached(CliCase):
    """Exit code 3."""

    def test_no_socket(self) -> None:
        error = self.refused(3, "show", "--socket", f"{self.folder}/none.sock")
        self.assertIn(f"patchbayd isn't running: there is no socket at {self.folder}/none.sock; start it with", error)
        self.refused(3, "version", env={"PATCHBAY_SOCKET": "/nowhere/api.sock"})

    def test_nobody_listens(self) -> None:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(f"{self.folder}/left.sock")
        self.assertIn("nobody listens", self.refused(3, "show", "--socket", f"{self.folder}/left.sock"))

    def test_no_socket_at_all_but_a_file(self) -> None:
        path = f"{self.folder}/file"
        with open(path, "w", encoding="ascii"):
            pass
        self.assertIn("is no socket", self.refused(3, "show", "--socket", path))

    def test_path_too_long(self) -> None:
        self.assertIn("at most 107 bytes", self.refused(2, "show", "--socket", "/" + "x" * 107))

    def test_a_proxy_does_not_get_in_between(self) -> None:
        self.ok("version", env={"http_proxy": "http://localhost:1", "ALL_PROXY": "http://localhost:1"})

    def test_no_permission(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody else")
        # As somebody else, who can't look into the build folder maybe.
        patchbay = f"{self.folder}/patchbay"
        shutil.copy(PATCHBAY, patchbay)
        os.chmod(self.folder, 0o755)
        group = grp.getgrgid(os.stat(self.socket).st_gid).gr_name

        def stranger() -> str:
            done = subprocess.run([patchbay, "show"], env=self.environment(), text=True, capture_output=True, user=65534,
                                  group=65534, extra_groups=[])
            self.assertEqual(3, done.returncode, done.stderr)
            return done.stderr

        os.chmod(self.socket, 0o660)
        self.assertEqual(group, "root")
        self.assertIn(f"no permission for {self.socket}: it is root's alone. Use sudo, or start patchbayd with", stranger())
        os.chown(self.socket, -1, 1)
        group = grp.getgrgid(1).gr_name
        self.assertIn(f"no permission for {self.socket}: its group is {group}. Use sudo, or join the group (sudo usermod "
                      f"-aG {group} ", stranger())
        os.chmod(self.socket, 0o600)
        self.assertIn("its owner's alone (mode 0600", stranger())
        os.mkdir(f"{self.folder}/shut", 0o750)
        self.socket = f"{self.folder}/shut/api.sock"
        self.assertIn(f"no permission for {self.folder}/shut: it is root's alone", stranger())

    def test_a_daemon_that_hangs(self) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{self.folder}/slow.sock")
            listener.listen()
            slow = ("--socket", f"{self.folder}/slow.sock", "--timeout", "1")
            error = self.refused(3, *slow, "show")
            self.assertIn("did not answer within 1 s (--timeout)", error)
            self.assertNotIn("may still", error)
            self.assertIn("It may still make the change", self.refused(3, *slow, "wire", "rm", "w1"))

    def test_a_daemon_that_hangs_up(self) -> None:
        self.daemon.overrides["GET /v1/version"] = lambda: (200, None)
        self.assertIn("broke off the conversation", self.refused(3, "version"))


class Garbage(CliCase):
    """An answer that no patchbayd gives."""

    GARBAGE = (b"", b"<html>", b"\xff\xfe", b"[]", b'"x"', b"null", b"1e999", b"{", b'{"a":1,"a":2}', b"[" * 100000,
               b'{"a":"\\u0000"}')
    COMMANDS = (("show",), ("show", "w1"), ("stats",), ("stats", "w1"), ("stats", "--vif", "vm1"), ("version",),
                ("vif", "ls"), ("vif", "show", "vm1"), ("port", "ls"), ("port", "show", "vm1"), ("network", "ls"),
                ("wire", "ls"), ("tee", "ls", "w1"), ("wire", "up", "w1"), ("unplug", "vm1"), ("plug", "vm1", "none"),
                ("plug", "--qemu", "vm1"), ("tap", "rm", "w1", "ids"), ("tap", "add", "w1", "ids"))

    def answer_all(self, answer: object) -> None:
        class Everything(dict):
            def get(self, key: str, default: object = None) -> object:
                return answer

        self.daemon.overrides = Everything()

    def test_what_is_no_json(self) -> None:
        for garbage in self.GARBAGE:
            self.answer_all(garbage)
            self.assertIn("Is this patchbayd's socket", self.refused(3, "show"))
            self.assertIn("Is this patchbayd's socket", self.refused(3, "wire", "rm", "w1"))

    def test_what_is_no_http(self) -> None:
        for garbage in (b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 999999999999 x\r\n\r\n", b"\0" * 100):
            path = f"{self.folder}/odd.sock"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen()

                def serve() -> None:
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(4096)
                        peer.sendall(garbage)

                thread = threading.Thread(target=serve)
                thread.start()
                self.refused(3, "version", "--socket", path)
                thread.join()
            os.unlink(path)

    def test_missing_and_wrong_fields(self) -> None:
        """Whatever is in the JSON, nothing crashes, and the exit code is one of ours."""
        deep: object = "x"
        for _ in range(500):
            deep = {"status": deep}
        answers = [{}, {"items": None}, {"items": [1, None, "x", {}, [], {"name": 7}]}, {"status": 5}, deep,
                   {"items": [{"name": "a/../b", "status": {"state": {}, "reason": [], "used_by": [0, {}]}, "tees": [0, {}]}]},
                   {"items": {"a": 1}, "next": 7}, {"name": None, "tees": "x", "a": 1, "b": {}, "kind": 9, "path": []},
                   {"tees": [None, {"mode": 1, "name": [], "port": 5, "status": "up"}], "status": {"drain": "x"}},
                   {"a_to_b": [], "b_to_a": {"legs": 7, "received": "x", "dropped": {"total": -1, "x": "y", "z": -5}},
                    "tees": [{}, 3, {"mode": "bump", "into": 7}], "workers": [1, {}, {"cycles": -1}]},
                   {"received": {"frames": 2 ** 62, "bytes": -1}, "discarded": {"total": 1e300}, "vif": None}]
        for answer in answers:
            for status in (200, 412):
                self.answer_all((status, answer))
                for command in self.COMMANDS:
                    self.assertIn(self.run_cli("--timeout", "1", *command).code, (0, 1, 3, 4), (answer, command))

    def test_a_list_without_end(self) -> None:
        self.answer_all({"items": [], "next": "same"})
        self.ok("vif", "ls", "--names")
        self.assertLess(len(self.daemon.requests), 5)

    def test_control_characters_do_not_reach_the_terminal(self) -> None:
        evil = "\033]0;x\007\u009b2J"
        self.model.vifs["v"] = {"kind": "none", "owner": evil, "labels": {evil: evil}}
        self.model.vif_states["v"] = ("down", evil)
        self.ok("port", "add", "v", "--vif", "v")
        self.ok("wire", "add", "w1", "v", "-")
        shown = self.ok("show") + self.ok("show", "w1") + self.ok("vif", "show", "v") + self.ok("wire", "up", "w1")
        self.daemon.overrides["GET /v1/version"] = (409, {"error": {"code": "X", "message": evil}})
        shown += self.refused(1, "version")
        for character in ("\033", "\007", "\u009b"):
            self.assertNotIn(character, shown)


class Refused(CliCase):
    """Exit codes 1 and 4."""

    def test_the_daemons_words_are_passed_on(self) -> None:
        self.daemon.overrides["GET /v1/vifs/vm1"] = (404, {"error": {
            "code": "NotFound", "message": 'there is no vif "vm1"; did you mean "vm11"?', "field": None, "details": None}})
        self.assertEqual('patchbay: there is no vif "vm1"; did you mean "vm11"?\n', self.refused(1, "vif", "show", "vm1"))

    def test_not_supported(self) -> None:
        self.daemon.overrides["PATCH /v1/vifs/vm1"] = (472, {"error": {"code": "CapNotSupported", "message": "not here"}})
        self.assertEqual("patchbay: not here\n", self.refused(4, "vif", "set", "vm1", "owner=x"))

    def test_no_reason(self) -> None:
        self.daemon.overrides["GET /v1/version"] = (503, {})
        self.assertIn("HTTP 503", self.refused(1, "version"))

    def test_refusals_as_json(self) -> None:
        result = self.run_cli("vif", "show", "vm1", "--json")
        self.assertEqual(1, result.code)
        self.assertIn('"code":"NotFound"', result.out)

    def test_an_older_daemon(self) -> None:
        self.model.api = "0.9"
        self.daemon.overrides["PUT /v1/networks/default/wires/w1"] = (400, {"error": {
            "code": "UnknownField", "message": "wire has no field on_full", "field": "on_full", "details": None}})
        error = self.refused(4, "wire", "add", "w1", "a", "b")
        self.assertIn('daemon 0.9 has no "on_full"', error)
        self.assertIn("upgrade patchbayd", error)
        self.daemon.overrides["GET /v1/stats"] = (404, {"error": {
            "code": "NoSuchPath", "message": "There is no path /v1/stats. The nearest is /v1/vifs.", "field": None}})
        self.assertIn("daemon 0.9 has no such command", self.refused(4, "stats"))
        # An unknown name is just that, and so is a field that a current daemon doesn't know.
        self.assertIn("there is no vif", self.refused(1, "vif", "show", "x"))
        self.model.api = "1.0"
        self.assertEqual("patchbay: wire has no field on_full\n", self.refused(1, "wire", "add", "w1", "a", "b"))

    def test_output_that_cannot_be_written(self) -> None:
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([PATCHBAY, "version"], env=self.environment(), stdout=full, stderr=subprocess.PIPE,
                                  text=True)
        self.assertEqual(1, done.returncode)
        self.assertIn("could not be written", done.stderr)


class Usage(CliCase):
    """Exit code 2, without a word to the daemon."""

    def usage(self, *arguments: str) -> str:
        error = self.refused(2, *arguments)
        self.assertEqual([], self.daemon.requests)
        return error

    def test_unknown_commands(self) -> None:
        self.assertIn('did you mean "wire add"?', self.usage("wier", "add", "w1", "a", "b"))
        self.assertIn('did you mean "wire add"?', self.usage("wire", "ad", "w1"))
        self.assertIn('did you mean "show"?', self.usage("shwo"))
        # What somebody means to look at must not be suggested as something to change.
        for group in ("wire", "tee", "vif", "port", "network"):
            self.assertIn(f'did you mean "{group} show"?', self.usage(group, "shwo", "x"))
        self.assertIn("--help lists all", self.usage("frobnicate"))
        self.assertIn("a command is missing", self.usage())
        error = self.usage("wire")
        self.assertIn("patchbay wire replug WIRE a|b PORT", error)
        self.assertNotIn("patchbay tap", error)

    def test_arguments(self) -> None:
        self.assertIn("usage: patchbay wire add NAME A B [--on-full wait|drop]", self.usage("wire", "add", "w1", "a"))
        self.assertIn("B is missing", self.usage("wire", "add", "w1", "a"))
        self.assertIn("one argument too many", self.usage("wire", "rm", "w1", "w2"))
        self.assertIn('"c" should be a or b', self.usage("wire", "unplug", "w1", "c"))
        for name in ("a/b", "..", "", "-", "x" * 64, "ä", "a b", "a?b"):
            self.usage("wire", "rm", "--", name)
            self.usage("show", "--", name)
            self.usage("stats", "--", name)

    def test_options(self) -> None:
        self.assertIn("did you mean --on-full?", self.usage("wire", "add", "w1", "a", "b", "--on-ful", "drop"))
        self.assertIn("did you mean --socket?", self.usage("--sokcet", "x", "show"))
        self.assertIn("--on-full is wait or drop", self.usage("wire", "add", "w1", "a", "b", "--on-full", "x"))
        self.assertIn("needs a value", self.usage("wire", "add", "w1", "a", "b", "--on-full"))
        self.assertIn("takes no value", self.usage("show", "--json=yes"))
        self.assertIn("given twice", self.usage("plug", "a", "none", "--owner", "x", "--owner", "y"))
        for timeout in ("0", "x", "-1", "1.5", "", "99999999999999999999"):
            self.usage("--timeout", timeout, "show")
        self.usage("--network", "a/b", "show")
        self.usage("show", "-x")
        self.usage("show", "--detach")

    def test_kinds(self) -> None:
        self.assertIn('did you mean "vhost"?', self.usage("plug", "a", "vhots:/x"))
        self.assertIn("kinds are vhost, vhost-server, dev, kernel-new, none", self.usage("plug", "a", "zzz"))
        self.assertIn("needs the path of a socket", self.usage("plug", "a", "vhost"))
        self.assertIn("needs the path of a socket", self.usage("plug", "a", "vhost:"))
        self.assertIn("takes no target", self.usage("plug", "a", "none:x"))

    def test_stats(self) -> None:
        for wrong in (("--count", "1"), ("--watch=0",), ("--watch=x",), ("--watch=nan",), ("--watch", "1e9"),
                      ("w1", "--vif", "x"), ("--cycles", "w1"), ("--cycles", "--vif", "x"), ("--vif", "a/b"), ("--watch", "--count", "0")):
            self.usage("stats", *wrong)


if __name__ == "__main__":
    unittest.main()
