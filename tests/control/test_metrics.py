#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""/metrics: both formats, the same numbers as the stats, its own sockets, and how long 10,000 wires take."""

import http.client
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

from harness import SLOW, Daemon, DaemonTest, UnixConnection, ask, main, wait_for
from pace import slowness

NET = "/v1/networks/default"
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Series:
    """Samples by name and sorted labels; a sample that comes twice is a mistake."""
    series: Series = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? ([0-9.]+)', line)
        assert match is not None, line
        labels = tuple(sorted(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or "")))
        assert (match[1], labels) not in series, line
        series[match[1], labels] = float(match[3])
    return series


def find(series: Series, name: str, **labels: str) -> float:
    """The one sample that has these labels among its own."""
    found = [value for (other, have), value in series.items() if other == name and labels.items() <= dict(have).items()]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def has(series: Series, name: str, **labels: str) -> bool:
    return any(other == name and labels.items() <= dict(have).items() for other, have in series)


class Metrics(DaemonTest):
    def scrape(self, query: str = "", headers: dict[str, str] | None = None) -> tuple[str, Series]:
        answer = self.check(self.d.get("/metrics" + query, headers=headers), 200)
        return answer.body.decode(), parse(answer.body.decode())

    def traffic(self) -> None:
        d = self.d
        d.plug("a", "b", "m", "in", "out")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b", "tees": [
            {"name": "t", "port": "m"}, {"name": "fw", "port": "in", "out_port": "out", "mode": "bump"}]}), 201)
        d.fake("send a 0 10 100")
        d.fake("send out 0 8 100")
        d.fake("send b 0 3 60")
        d.fake("send in 0 3 60")
        d.fake("full m on")
        d.fake("send a 0 2 100")
        d.fake("link b down gone")
        wait_for(lambda: d.get(f"{NET}/wires/w").json["status"]["state"] == "down", "the wire is down")
        d.fake("send out 0 1 100")
        d.fake("send m 0 4 64")

    def test_the_numbers_of_the_stats(self) -> None:
        d = self.d
        self.traffic()
        wire = self.check(d.get(f"{NET}/wires/w/stats"), 200).json
        _, series = self.scrape("?detail=1")
        for direction in ("a_to_b", "b_to_a"):
            labels = {"network": "default", "wire": "w", "uid": wire["uid"], "direction": direction}
            told = wire[direction]
            for name, value in (("received_frames", told["received"]["frames"]), ("frames", told["delivered"]["frames"]),
                                ("received_bytes", told["received"]["bytes"]), ("bytes", told["delivered"]["bytes"])):
                self.assertEqual(find(series, f"patchbay_wire_{name}_total", **labels), value, (direction, name))
            for reason, value in told["dropped"].items():
                if reason != "total":
                    self.assertEqual(find(series, "patchbay_wire_dropped_frames_total", **labels, reason=reason), value)
            for leg in told["legs"]:
                self.assertEqual(find(series, "patchbay_leg_received_frames_total", **labels, **{"from": leg["from"]}),
                                 leg["received"]["frames"])
        self.assertEqual(wire["a_to_b"]["dropped"], {"total": 1, "down": 1})
        tap, bump = wire["tees"]
        self.assertEqual(tap["dropped"], {"total": 2, "ring_full": 2})
        labels = {"network": "default", "wire": "w", "tee": "t", "uid": tap["uid"]}
        self.assertEqual(find(series, "patchbay_tap_offered_frames_total", **labels), tap["offered"])
        self.assertEqual(find(series, "patchbay_tap_copied_bytes_total", **labels), tap["copied"]["bytes"])
        self.assertEqual(find(series, "patchbay_tap_dropped_frames_total", **labels, reason="ring_full"), 2)
        labels = {"network": "default", "wire": "w", "tee": "fw", "uid": bump["uid"]}
        self.assertEqual(find(series, "patchbay_bump_into_frames_total", **labels), bump["into"]["frames"])
        self.assertEqual(find(series, "patchbay_bump_out_bytes_total", **labels), bump["out"]["bytes"])
        self.assertEqual(find(series, "patchbay_bump_late_frames_total", **labels), 0)
        self.assertEqual(find(series, "patchbay_tee_up", **labels, mode="bump"), 1)
        vif = d.get("/v1/vifs/m/stats").json
        self.assertEqual(find(series, "patchbay_vif_discarded_frames_total", vif="m", uid=vif["uid"], reason="monitor"), 4)
        self.assertEqual(find(series, "patchbay_vif_transmitted_frames_total", vif="m"), vif["transmitted"]["frames"])
        self.assertEqual(find(series, "patchbay_vif_queue_received_bytes_total", vif="a", queue="0"), 1200)
        self.assertEqual((find(series, "patchbay_wire_up", wire="w"), find(series, "patchbay_vif_up", vif="b"),
                          find(series, "patchbay_vif_up", vif="a")), (0, 0, 1))
        self.assertEqual(find(series, "patchbay_objects", kind="wire"), 1)
        worker = d.get("/v1/stats").json["workers"][0]
        self.assertEqual(find(series, "patchbay_worker_frames_total", worker="0"), worker["frames"])
        self.assertEqual(find(series, "patchbay_worker_stage_cycles_total", stage="copy"), worker["stages"]["copy"]["cycles"])
        _, less = self.scrape()
        self.assertFalse(has(less, "patchbay_leg_frames_total") or has(less, "patchbay_vif_queue_received_bytes_total"))

        def busy() -> int:
            return int(d.get("/v1/vifs/a/stats").json["queues"][0]["busy_cycles"])

        d.fake("load a 0 50")
        wait_for(lambda: busy() > 0, "the queue costs something")
        before, (_, series), after = busy(), self.scrape("?detail=1"), busy()
        self.assertIn(find(series, "patchbay_vif_queue_busy_cycles_total", vif="a", queue="0"), range(before, after + 1))

    def test_reasons_appear_and_stay_and_incarnations_differ(self) -> None:
        d = self.d
        d.plug("a", "b")
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        _, before = self.scrape()
        self.assertFalse(has(before, "patchbay_wire_dropped_frames_total"))
        self.assertEqual(find(before, "patchbay_wire_frames_total", wire="w", direction="a_to_b"), 0)
        self.check(d.patch(f"{NET}/wires/w", {"admin": "down"}), 200)
        d.fake("send a 0 5 60")
        self.check(d.patch(f"{NET}/wires/w", {"admin": "up", "b": None}), 200)
        self.check(d.patch(f"{NET}/wires/w", {"b": "b"}), 200)
        _, series = self.scrape()
        self.assertEqual(find(series, "patchbay_wire_dropped_frames_total", wire="w", reason="admin_down"), 5)
        self.check(d.delete(f"{NET}/wires/w"), 200)
        self.check(d.put(f"{NET}/wires/w", {"a": "a", "b": "b"}), 201)
        _, again = self.scrape()
        self.assertEqual(find(again, "patchbay_wire_received_frames_total", wire="w", direction="a_to_b"), 0)
        self.assertFalse(set(again) & {key for key in series if key[0] == "patchbay_wire_received_frames_total"})

    def test_formats(self) -> None:
        self.traffic()
        for accept, modern in ((None, False), ("*/*", False), ("text/plain", False), (OPENMETRICS["Accept"], True),
                               ("application/openmetrics-text; version=1.0.0; q=0.2, text/plain;q=0.3", False),
                               ("text/html, Application/OpenMetrics-Text", True),
                               ("application/openmetrics-text;q=0", False)):
            answer = self.d.get("/metrics", headers={} if accept is None else {"Accept": accept})
            kind = answer.headers["Content-Type"]
            self.assertTrue(kind.startswith("application/openmetrics-text; version=1.0.0" if modern
                                            else "text/plain; version=0.0.4"), (accept, kind))
            self.assertEqual(answer.body.endswith(b"# EOF\n"), modern)
        modern, series = self.scrape("?detail=1", OPENMETRICS)
        plain, same = self.scrape("?detail=1")
        self.assertEqual(set(series), set(same))
        families: dict[str, str] = dict(re.findall(r"^# TYPE (\S+) (\S+)$", modern, re.M))
        units = dict(re.findall(r"^# UNIT (\S+) (\S+)$", modern, re.M))
        helps = dict(re.findall(r"^# HELP (\S+) (.+)$", modern, re.M))
        self.assertEqual(set(families), set(helps))
        for name, unit in units.items():
            self.assertTrue(name.endswith("_" + unit), name)
        seen: list[str] = []
        for line in modern.splitlines():
            if line.startswith("#"):
                continue
            sample = re.match(r"[a-z_]+", line)
            assert sample is not None
            name = re.sub("_(total|info)$", "", sample[0])
            self.assertEqual(sample[0], name + {"counter": "_total", "info": "_info", "gauge": ""}[families[name]])
            if not seen or seen[-1] != name:
                self.assertNotIn(name, seen, "a family's samples stand together")
                seen.append(name)

    def test_the_documentation_has_all(self) -> None:
        modern, _ = self.scrape("?detail=1", OPENMETRICS)
        told = dict(re.findall(r"^# TYPE (\S+) (\S+)$", modern, re.M))
        names = [name + {"counter": "_total", "info": "_info", "gauge": ""}[kind] for name, kind in told.items()]
        table = (pathlib.Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
        self.assertEqual(re.findall(r"^\| `(patchbay_\w+)`", table, re.M), names)

    def test_promtool_finds_nothing(self) -> None:
        if shutil.which("promtool") is None:
            self.fail("promtool isn't installed (package prometheus; tools/install-packages test)")
        self.traffic()
        for query in ("", "?detail=1"):
            plain, _ = self.scrape(query)
            done = subprocess.run(["promtool", "check", "metrics"], input=plain, text=True, capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_requests(self) -> None:
        d = self.d
        self.check(d.get("/metrics?detail=2"), 400, "BadValue")
        self.check(d.get("/metrics?x=1"), 400, "UnknownField")
        self.check(d.put("/metrics"), 405)
        answer = d.ask("HEAD", "/metrics", headers=OPENMETRICS)
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.check(d.get("/v1/version"), 200)


def free_port() -> int:
    """One that nobody has, and that the kernel gives nobody of its own accord."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class OwnSockets(DaemonTest):
    def setUp(self) -> None:
        self.port = free_port()
        self.d = Daemon(start=False)
        self.path = self.d.dir + "/metrics.sock"
        self.d.args = ["--metrics-socket", self.path, "--metrics-listen", str(self.port)]
        self.d.start()
        self.addCleanup(self.d.close)

    def connections(self) -> list[http.client.HTTPConnection]:
        return [UnixConnection(self.path), http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)]

    def test_metrics_and_nothing_else(self) -> None:
        self.d.plug("a")
        for connection in self.connections():
            for _ in range(3):
                answer = ask(connection, "GET", "/metrics?detail=1", headers=OPENMETRICS)
                self.assertEqual(answer.status, 200)
                self.assertEqual(find(parse(answer.body.decode()), "patchbay_vif_up", vif="a"), 1)
            for path in ("/", "/v1/version", "/v1/vifs/a", "/metrics/", "/v1/events", "/%6detrics/x"):
                self.assertEqual(ask(connection, "GET", path).status, 404, path)
            answer = ask(connection, "HEAD", "/metrics")
            self.assertEqual((answer.status, answer.body), (200, b""))
            connection.close()
        for method in ("PUT", "POST", "DELETE", "PATCH"):
            for connection in self.connections():
                answer = ask(connection, method, "/metrics")
                self.assertEqual((answer.status, answer.headers["Allow"]), (405, "GET, HEAD"))
                connection.close()
                connection = self.connections()[0]
                self.assertEqual(ask(connection, "GET", "/metrics").status, 200)
                connection.close()

    def test_too_many_wait_and_the_api_goes_on(self) -> None:
        for family, address in ((socket.AF_UNIX, self.path), (socket.AF_INET, ("127.0.0.1", self.port))):
            held = []
            for _ in range(8):
                held.append(socket.socket(family, socket.SOCK_STREAM))
                held[-1].connect(address)
                held[-1].sendall(b"GET /metrics HTTP/1.1\r\n")  # and never the rest
            late = socket.socket(family, socket.SOCK_STREAM)
            late.connect(address)
            late.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            late.settimeout(0.3)
            with self.assertRaises(TimeoutError):
                late.recv(1)
            self.check(self.d.get("/v1/version"), 200)
            held[3].close()
            late.settimeout(30)
            self.assertTrue(late.recv(100).startswith(b"HTTP/1.1 200"))
            late.close()
            for connection in held:
                connection.close()

    def test_the_port_is_loopback_alone(self) -> None:
        with open("/proc/net/tcp", encoding="ascii") as table:
            listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
        self.assertIn(f"0100007F:{self.port:04X}", listening)
        self.assertNotIn(f"00000000:{self.port:04X}", listening)

    def test_files_and_options(self) -> None:
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o660)
        self.assertEqual(self.d.stop(), 0)
        self.assertFalse(os.path.exists(self.path))
        for value in ("x", "127.0.0.1", "0", "65536", "localhost:9000", "1.2.3:9", "::1:9", "[::1]", ""):
            self.d.args = ["--metrics-listen", value]
            process = self.d.spawn()
            self.assertEqual(process.wait(30), 2, value)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.d.args = ["--metrics-listen", f"127.0.0.1:{taken.getsockname()[1]}"]
            self.assertEqual(self.d.spawn().wait(30), 1)
        self.assertIn("Give another --metrics-listen", self.d.log())


class Scale(DaemonTest):
    def setUp(self) -> None:
        self.d = Daemon(state=":memory:")
        self.addCleanup(self.d.close)

    def test_ten_thousand_wires(self) -> None:
        d, wires = self.d, 10000 if SLOW == 1 else 1000

        def fill(first: int) -> None:
            client = d.connect(120)
            for i in range(first, wires, 8):
                for end in "ab":
                    self.check(ask(client, "PUT", f"/v1/vifs/{end}{i}", {"kind": "none"}), 201)
                    self.check(ask(client, "PUT", f"{NET}/ports/{end}{i}", {"vif": f"{end}{i}"}), 201)
                self.check(ask(client, "PUT", f"{NET}/wires/w{i}", {"a": f"a{i}", "b": f"b{i}"}), 201)
            client.close()

        threads = [threading.Thread(target=fill, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        d.fake("send a7 0 5 60")
        took = 1e9
        for _ in range(3):
            began = time.monotonic()
            body = self.check(d.get("/metrics", headers=OPENMETRICS), 200).body
            took = min(took, time.monotonic() - began)
        # Others are served meanwhile.
        scraper = d.connect(60)
        scraper.connect()
        scraper.request("GET", "/metrics")
        longest = 0.0
        for _ in range(20):
            began = time.monotonic()
            self.check(d.get("/v1/version"), 200)
            longest = max(longest, time.monotonic() - began)
        scraper.getresponse().read()
        scraper.close()
        print(f"\n{wires} wires, {2 * wires} vifs: {1000 * took:.0f} ms, {len(body)} bytes, another's answer meanwhile "
              f"at most {1000 * longest:.1f} ms", file=sys.stderr)
        series = parse(body.decode())
        self.assertEqual(sum(name == "patchbay_wire_up" for name, _ in series), wires)
        self.assertEqual(sum(name == "patchbay_vif_up" for name, _ in series), 2 * wires)
        self.assertEqual(find(series, "patchbay_wire_frames_total", wire="w7", direction="a_to_b"), 5)
        self.assertLess(len(body), 30 << 20)
        self.assertLess(took, 5 * SLOW * slowness())


if __name__ == "__main__":
    main()
