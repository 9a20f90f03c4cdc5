# SPDX-License-Identifier: BSD-3-Clause
"""events and top: what is followed rather than asked for once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from typing import Any

from support import PATCHBAY
from test_daemon import DaemonCase


class Top(DaemonCase):
    def top(self, *arguments: str) -> Any:
        return json.loads(self.ok("top", "--once", "--json", *arguments))

    def test_rates_order_and_workers(self) -> None:
        self.plug("a", "b", "c", "d")
        self.ok("wire", "add", "w1", "a", "b")
        self.ok("wire", "add", "w2", "c", "d")
        self.ok("wire", "add", "w3", "-", "-")
        # Frames come while it looks. On a busy machine it may look only after they came: then they come once more.
        for turn in range(10):
            self.link("b")
            process = subprocess.Popen([PATCHBAY, "top", "--once", "--json", "--interval", str(2 + turn)],
                                       env=self.environment(), text=True, stdout=subprocess.PIPE)
            time.sleep(0.5 * (1 + turn))
            self.dataplane("send a 0 100 1000")
            self.dataplane("send d 0 400 100")
            self.link("b", state="down")
            self.dataplane("send a 0 30 1000")
            shown = json.loads(process.communicate(timeout=240)[0])
            if round(shown["workers"][0]["fps"] * shown["seconds"]) == 530:
                break
        self.assertEqual([wire["wire"] for wire in shown["wires"]], ["w2", "w1", "w3"])
        w2, w1, w3 = shown["wires"]
        seconds = shown["seconds"]
        self.assertAlmostEqual(w2["b_to_a_fps"] * seconds, 400, places=3)
        self.assertEqual(w2["a_to_b_fps"], 0)
        self.assertAlmostEqual(w1["bits_per_second"] * seconds, 8 * 100 * 1000, places=2)
        self.assertAlmostEqual(w1["drops_per_second"] * seconds, 30, places=3)
        self.assertEqual((w1["up"], w2["up"], w3["up"]), (False, True, False))
        self.assertAlmostEqual(shown["workers"][0]["fps"] * seconds, 530, places=3)

        for key, order in (("name", ["w1", "w2", "w3"]), ("bits", ["w1", "w2", "w3"])):
            self.assertEqual([w["wire"] for w in self.top("--sort", key, "--interval", "0.05")["wires"]], order)
        self.assertEqual(len(self.top("--rows", "1", "--interval", "0.05")["wires"]), 1)
        text = self.ok("top", "--once", "--interval", "0.05", "--rows", "2")
        self.assertRegex(text, r"3 wires\n\nWORKER +CORE +BUSY +FRAMES\n0 +1 ")
        self.assertRegex(text, r"\ndefault/w1 +down +0 fps +0 fps +0 bit/s +0 fps\n")
        self.assertIn("and 1 more wires", text)
        self.assertNotIn("\033", text)

    def test_usage(self) -> None:
        self.refused(2, "top", "--sort", "size")
        self.refused(2, "top", "--interval", "0")
        self.refused(2, "top", "--rows", "0")


class Events(DaemonCase):
    def follow(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([PATCHBAY, "events", *arguments], env=self.environment(TZ="UTC"), text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(lambda: (process.kill(), process.communicate()))
        return process

    def test_lines_for_people(self) -> None:
        self.plug("vm1", "vm2", "ids", "fw-in", "fw-out")
        self.ok("wire", "add", "w1", "vm1", "vm2")
        self.ok("bump", "add", "w1", "fw-in", "fw-out")
        since = json.loads(self.ok("events", "--json", "--since", "0", "--count", "1"))["instance"] + ":0"
        self.link("fw-in", state="down its appliance has died")
        out = ""
        deadline = time.monotonic() + 120
        count = 20
        # However many there are: the last ones are what is looked for.
        while "wire default/w1 is down" not in out:
            self.assertLess(time.monotonic(), deadline, out)
            process = self.follow("--since", since, "--count", str(count))
            try:
                out = process.communicate(timeout=1)[0]
                count += 1
            except subprocess.TimeoutExpired:
                process.kill()
                out = process.communicate()[0]
        lines = [re.sub(r"^\d\d:\d\d:\d\d\.\d\d\d  ", "", line) for line in out.splitlines()]
        by = f"by uid {os.geteuid()}, pid"
        self.assertTrue(lines[0].startswith(f"create vif vm1 {by}") or lines[0] == "vif vm1 is up", lines[0])
        self.assertIn("wire default/w1 is up", lines)
        at = lines.index("vif fw-in is down: its appliance has died")
        self.assertEqual(lines[at + 1],
                         "wire default/w1: bump fw has failed, on_failure is closed: port fw-in: vif fw-in: its "
                         "appliance has died")
        self.assertTrue(lines[at + 2].startswith("wire default/w1 is down: bump fw: port fw-in"), lines[at + 2])

    def test_goes_on_after_a_restart(self) -> None:
        self.plug("vm1")
        # From the first event on: it may begin to follow after the next.
        process = self.follow("--json", "--since", "0")
        assert process.stdout is not None and process.stderr is not None
        self.ok("vif", "set", "vm1", "owner=a")
        before = self.until_config(process)
        self.stop()
        # Before it why there is none, or nothing if it took its leave.
        self.assertTrue(any("waiting for patchbayd to come back" in process.stderr.readline() for _ in range(2)))
        self.start_daemon()
        # A gap is none of the events that are counted.
        counted = self.follow("--since", "99999", "--count", "1")
        assert counted.stdout is not None
        self.assertIn("events are missing here", counted.stdout.readline())
        gap = json.loads(process.stdout.readline())
        self.assertEqual(gap["type"], "gap")
        self.assertNotEqual(gap["instance"], before["instance"])
        self.ok("vif", "set", "vm1", "owner=b")
        self.assertEqual(self.until_config(process)["name"], "vm1")
        self.assertRegex(counted.communicate(timeout=120)[0], r"^\S+ +(vif vm1 is up|change vif vm1 .*)\n$")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(120), -signal.SIGINT)

    def until_config(self, process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        while (event := json.loads(process.stdout.readline()))["type"] != "config" or event["op"] != "change":
            pass
        return event

    def test_usage(self) -> None:
        self.assertIn("--since", self.refused(2, "events", "--since", "x"))
        self.assertIn("UUID", self.refused(1, "events", "--since", "here:7"))
        self.refused(2, "events", "--count", "0")
