#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A real Prometheus scrapes the daemon: its queries return what `patchbay stats` shows, and the dashboard's run."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import unittest
import urllib.parse
import urllib.request
from typing import Any

from harness import Daemon, expect, main, wait_for
from test_metrics import NET, free_port, parse

CLI = os.environ.get("PATCHBAY_CLI", "patchbay")
DASHBOARD = pathlib.Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"


def expressions(node: Any) -> list[str]:
    """All of a dashboard's, those of its variables too."""
    if isinstance(node, list):
        return [found for item in node for found in expressions(item)]
    if not isinstance(node, dict):
        return []
    own = [node["expr"]] if "expr" in node else []
    if isinstance(node.get("definition"), str):
        own.append(re.sub(r"^label_values\((.*), \w+\)$", r"\1", node["definition"]))
    return own + [found for value in node.values() for found in expressions(value)]


class Prometheus(unittest.TestCase):
    def setUp(self) -> None:
        if shutil.which("prometheus") is None:
            self.fail("prometheus isn't installed (tools/install-packages test)")
        self.metrics, self.port = free_port(), free_port()
        self.d = Daemon("--metrics-listen", str(self.metrics), state=":memory:")
        self.addCleanup(self.d.close)
        self.dir = tempfile.mkdtemp(prefix="patchbay-prometheus-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        config = pathlib.Path(self.dir, "prometheus.yml")
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "patchbay", "static_configs": [{"targets": [f"127.0.0.1:{self.metrics}"]}]}],
        }), encoding="utf-8")
        self.log = open(self.dir + "/log", "wb")
        self.addCleanup(self.log.close)
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.dir}/data",
             f"--web.listen-address=127.0.0.1:{self.port}"], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        self.addCleanup(self.end)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def told(self) -> str:
        return pathlib.Path(self.dir, "log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def query(self, expression: str) -> list[Any]:
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=120) as answer:
            said = json.load(answer)
        self.assertEqual(said["status"], "success", expression)
        return said["data"]["result"]

    def value(self, expression: str) -> float | None:
        try:
            result = self.query(expression)
        except OSError:  # it isn't up yet
            self.assertIsNone(self.process.poll(), self.told())
            return None
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def reaches(self, expression: str, value: float) -> None:
        last: list[float | None] = [None]

        def reached() -> bool:
            last[0] = self.value(expression)
            return last[0] == value

        wait_for(reached, f"{expression} is {value}", lambda: f"It is {last[0]}. {self.told()}", 60)

    def test_numbers_and_dashboard(self) -> None:
        d = self.d
        d.plug("a", "b", "m", "in", "out")
        expect(d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "tees": [
            {"name": "t", "port": "m"}, {"name": "fw", "port": "in", "out_port": "out", "mode": "bump"}]}), 201)
        for line in ("send a 0 1000 100", "send out 0 900 100", "full m on", "send a 0 77 100", "link b down gone",
                     "send out 0 5 100", "send m 0 3 60"):
            d.fake(line)
        shown = json.loads(subprocess.run([CLI, "--socket", d.socket, "stats", "w", "--json"], check=True,
                                          capture_output=True, text=True).stdout)
        labels = f'network="default",wire="w",uid="{shown["uid"]}"'
        for direction in ("a_to_b", "b_to_a"):
            for metric, value in (("received_frames", shown[direction]["received"]["frames"]),
                                  ("frames", shown[direction]["delivered"]["frames"]),
                                  ("bytes", shown[direction]["delivered"]["bytes"])):
                self.reaches(f'patchbay_wire_{metric}_total{{{labels},direction="{direction}"}}', value)
        self.assertEqual(shown["a_to_b"]["dropped"]["down"], 5)
        self.reaches(f'patchbay_wire_dropped_frames_total{{{labels},direction="a_to_b",reason="down"}}', 5)
        self.reaches('patchbay_tap_offered_frames_total{tee="t"}', shown["tees"][0]["offered"])
        self.reaches('patchbay_tap_dropped_frames_total{tee="t",reason="ring_full"}', 77)
        self.reaches('patchbay_bump_into_frames_total{tee="fw"}', shown["tees"][1]["into"]["frames"])
        self.reaches("up", 1)

        metrics = {name for name, _ in parse(d.get("/metrics?detail=1").body.decode())}
        # Those that nothing here has made count yet stand in the text, too.
        metrics |= set(re.findall(r"^# TYPE (\S+)", d.get("/metrics?detail=1").body.decode(), re.M))
        found = expressions(json.loads(DASHBOARD.read_text(encoding="utf-8")))
        self.assertGreater(len(found), 20)
        for expression in found:
            names = set(re.findall(r"patchbay_\w+", expression))
            self.assertTrue(names, expression)
            self.assertEqual(names - metrics, set(), expression)
            for variable, stands_for in (("$__rate_interval", "1m"), ("$network", ".*"), ("$wire", ".*")):
                expression = expression.replace(variable, stands_for)
            self.query(expression)


if __name__ == "__main__":
    main()
