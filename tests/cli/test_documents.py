# SPDX-License-Identifier: BSD-3-Clause
"""What is made from the command table is what is committed; `test_documents.py --update` writes it anew."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import unittest

from support import BUILD, PATCHBAY, ROOT, CliCase

COMPLETION = ROOT / "tools" / "patchbay" / "patchbay.bash"
MAN = ROOT / "docs" / "man" / "patchbay.1.scd"
DAEMON_MAN = ROOT / "docs" / "man" / "patchbayd.8.scd"
DAEMONS = [BUILD / "control" / "patchbayd", BUILD / "tests" / "control" / "patchbayd-control-only"]
UPDATE = "run: PATCHBAY_BUILD=… tests/cli/test_documents.py --update"


def dump(what: str) -> str:
    return subprocess.run([PATCHBAY, f"--dump-{what}"], check=True, capture_output=True, text=True).stdout


def with_commands(page: str) -> str:
    """The man page with the generated sections in the place of its own."""
    start, end = page.index("# OPTIONS\n"), page.index("# EXIT STATUS\n")
    return page[:start] + dump("man") + page[end:]


class Drift(unittest.TestCase):
    maxDiff = None

    def test_man_page(self) -> None:
        page = MAN.read_text()
        self.assertEqual(with_commands(page), page, UPDATE)

    def test_completion(self) -> None:
        self.assertEqual(dump("completion"), COMPLETION.read_text(), UPDATE)

    def test_daemons_man_page(self) -> None:
        """patchbayd(8) has the options of patchbayd --help, and no others."""
        daemon = next((path for path in DAEMONS if path.exists()), None)
        if daemon is None:
            self.fail(f"no daemon was built: {', '.join(map(str, DAEMONS))}")
        told = subprocess.run([daemon, "--help"], check=True, capture_output=True, text=True).stdout
        options = set(re.findall(r"^ +--([a-z-]+)", told, re.M))
        self.assertGreater(len(options), 8)
        documented = set(re.findall(r"^\*--([a-z-]+)\*", DAEMON_MAN.read_text(), re.M))
        self.assertEqual(options, documented)

    def test_man_pages_render(self) -> None:
        for page in (MAN, DAEMON_MAN):
            if shutil.which("scdoc") is None:
                self.skipTest("scdoc is not installed")
            done = subprocess.run(["scdoc"], input=page.read_bytes(), capture_output=True, check=False)
            self.assertEqual((0, b""), (done.returncode, done.stderr))
            for section in ("EXIT STATUS", "FILES", "EXAMPLES", "OPTIONS"):
                self.assertIn(f'.SH {section}\n'.encode(), done.stdout)


class Help(CliCase):
    def test_every_command_has_help(self) -> None:
        overview = self.ok("--help")
        self.assertEqual(overview, self.ok("-h"))
        self.assertEqual(overview, self.ok("help"))
        commands = {match[1].strip() for match in re.finditer(r"^  ([a-z ]+?)(?= [A-Z\[-]|  )", overview, re.M)}
        self.assertGreater(len(commands), 30)
        for command in commands:
            words = command.split()
            told = self.ok(*words, "--help")
            self.assertIn(f"patchbay {command}", told)
            self.assertEqual(told, self.ok("help", *words))
            self.assertEqual(told, self.ok(*words, "-h", "rest", "--whatever"))
        self.assertIn("patchbay wire rm WIRE", self.ok("wire", "--help"))
        self.assertEqual([], self.daemon.requests)
        self.assertIn("there is no command", self.refused(2, "help", "frobnicate"))
        self.assertRegex(self.ok("--version"), r"^patchbay \S+ \(API 1\.0\)\n$")


class Completion(CliCase):
    def complete(self, line: str) -> list[str]:
        script = (f'COMP_WORDBREAKS+=":"; source "{COMPLETION}"; COMP_LINE="{line}"; COMP_POINT={len(line)}; _patchbay; '
                  f'printf "%s\\n" "${{COMPREPLY[@]}}"')
        path = f"{os.path.dirname(PATCHBAY)}:{os.environ['PATH']}"
        done = subprocess.run(["bash", "--norc", "-c", script], env=self.environment(PATH=path), text=True, timeout=240,
                              capture_output=True, check=True)
        self.assertEqual("", done.stderr)
        return done.stdout.split()

    def test_completion(self) -> None:
        self.wire()
        self.plug("ids")
        self.ok("tap", "add", "w1", "ids")
        self.ok("network", "add", "red")
        self.ok("--network", "red", "plug", "r1", "none")
        self.daemon.overrides["GET /v1/networks/default/ports/vm1/conf"] = {"keys": ["egress_bps", "vlan"]}
        for line, expected in (
                ("patchbay wi", ["wire"]), ("patchbay wire re", ["replug"]), ("patchbay wire rm ", ["w1"]),
                ("patchbay wire replug w1 ", ["a", "b"]), ("patchbay wire replug w1 b v", ["vm1", "vm2"]),
                ("patchbay wire add x vm1 vm2 --on-full ", ["wait", "drop"]),
                ("patchbay wire add x vm1 vm2 --on", ["--on-full"]), ("patchbay tap rm w1 ", ["ids"]),
                ("patchbay tee move w1 ids --before ", ["ids"]), ("patchbay tee set w1 ids dir", ["direction="]),
                ("patchbay tee set w1 ids mode=off on", ["on_failure="]), ("patchbay plug x vhost-", ["vhost-server:"]),
                ("patchbay plug --qemu vm", ["vm1", "vm2"]), ("patchbay --network red port rm ", ["r1"]),
                ("patchbay stats --vif i", ["ids"]), ("patchbay --js", ["--json"]), ("patchbay help tee m", ["move"]),
                ("patchbay wire set w1 st", ["stall_ms="]), ("patchbay show --network r", ["red"]),
                ("patchbay conf get ", ["host", "network:", "port:", "vif:", "wire:"]),
                ("patchbay conf list vif:", ["ids", "r1", "vm1", "vm2"]), ("patchbay conf get vif:i", ["ids"]),
                ("patchbay conf get port:vm1 ", ["egress_bps", "vlan"]), ("patchbay conf set port:vm1 v", ["vlan="]),
                ("patchbay plug x nothing:", [])):
            self.assertEqual(expected, self.complete(line), line)


if __name__ == "__main__":
    if sys.argv[1:] == ["--update"]:
        COMPLETION.write_text(dump("completion"))
        MAN.write_text(with_commands(MAN.read_text()))
    else:
        unittest.main()
