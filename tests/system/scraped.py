# SPDX-License-Identifier: BSD-3-Clause
"""Every counter of the daemon by three ways: `patchbay stats`, /metrics and DPDK's telemetry must say the same.

check_scraped(self, daemon) at the end of a test whose frames are at rest: no counter may be in one and not in the others.
"""
from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import unittest
from typing import Any, Iterator

from patchbay import Daemon, _UnixConnection, dpdk_run_dirs, say, wait_for

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
# Time goes on and idle workers look for frames: these counters never stand still.
# queue_busy_cycles is an estimate that is made now and then.
MOVING = ("worker_seconds_total", "worker_empty_cycles_total", "worker_loops_total", "worker_sleeps_total",
          "vif_queue_busy_cycles_total")
RARE = {"rx_missed": "vif_rx_missed_frames_total", "rx_errors": "vif_rx_errors_total", "notified": "vif_notifications_total",
        "announced": "vif_announced_frames_total", "reconnects": "vif_reconnects_total", "pauses": "vif_pauses_total"}


def parse(text: str) -> Series:
    """Samples by name, without patchbay_, and labels."""
    series: Series = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r'patchbay_(\w+)(?:\{(.*)\})? (\S+)', line)
        assert match is not None, line
        key = match[1], frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
        assert key not in series, f"twice: {line}"
        series[key] = float(match[3])
    return series


def scrape(daemon: Daemon, query: str = "") -> str:
    connection: http.client.HTTPConnection = _UnixConnection(daemon.socket, 60)
    try:
        connection.request("GET", f"/metrics{query}")
        reply = connection.getresponse()
        text = reply.read().decode()
        assert reply.status == 200, text
        return text
    finally:
        connection.close()


class _Expected:
    """Builds the series that the stats make."""

    def __init__(self) -> None:
        self.series: Series = {}

    def add(self, name: str, value: float, **labels: str) -> None:
        self.series[name, frozenset((key.rstrip("_"), text) for key, text in labels.items())] = value

    def frames(self, name: str, count: Any, **labels: str) -> None:
        self.add(f"{name}frames_total", count["frames"], **labels)
        self.add(f"{name}bytes_total", count["bytes"], **labels)

    def segmented(self, name: str, count: Any, **labels: str) -> None:
        if count is not None and count["segments"] > 0:
            self.add(f"{name}segmented_frames_total", count["frames"], **labels)
            self.add(f"{name}segments_total", count["segments"], **labels)

    def reasons(self, name: str, count: Any, **labels: str) -> None:
        for reason, value in count.items():
            if reason != "total":
                self.add(name, value, **labels, reason=reason)

    def wire(self, network: str, stats: Any, status: Any, tees: dict[str, Any]) -> None:
        labels = {"network": network, "wire": stats["wire"], "uid": stats["uid"]}
        self.add("wire_up", status["state"] == "up", **labels)
        for direction in ("a_to_b", "b_to_a"):
            ways = {**labels, "direction": direction}
            for kind, place, count in [("wire", ways, stats[direction]),
                                       *(("leg", {**ways, "from_": leg["from"]}, leg) for leg in stats[direction]["legs"])]:
                self.frames(f"{kind}_received_", count["received"], **place)
                self.frames(f"{kind}_", count["delivered"], **place)
                self.reasons(f"{kind}_dropped_frames_total", count["dropped"], **place)
            whole = {"frames": 0, "segments": 0}
            for leg in stats[direction]["legs"]:
                for to in leg["to"]:
                    place = {**ways, "from_": leg["from"], "to": to["to"]}
                    self.frames("leg_to_", to, **place)
                    self.segmented("leg_to_", to.get("segmented"), **place)
                    whole = {key: value + to.get("segmented", {}).get(key, 0) for key, value in whole.items()}
            self.segmented("wire_", whole, **ways)
        for tee in stats["tees"]:
            place = {"network": network, "wire": stats["wire"], "tee": tee["name"], "uid": tee["uid"]}
            self.add("tee_up", tees[tee["name"]]["status"]["state"] == "up", **place, mode=tee["mode"])
            if tee["mode"] == "tap":
                self.add("tap_offered_frames_total", tee["offered"], **place)
                self.frames("tap_copied_", tee["copied"], **place)
                self.segmented("tap_", tee.get("segmented"), **place)
                self.reasons("tap_dropped_frames_total", tee["dropped"], **place)
            if tee["mode"] == "bump":
                self.frames("bump_into_", tee["into"], **place)
                self.frames("bump_out_", tee["out"], **place)
                self.add("bump_late_frames_total", tee["late"], **place)

    def vif(self, stats: Any, status: Any) -> None:
        labels = {"vif": stats["vif"], "uid": stats["uid"]}
        self.add("vif_up", status["state"] == "up", **labels)
        self.frames("vif_received_", stats["received"], **labels)
        self.frames("vif_transmitted_", stats["transmitted"], **labels)
        self.reasons("vif_discarded_frames_total", stats["discarded"], **labels)
        for key, name in RARE.items():
            if stats[key] != 0:
                self.add(name, stats[key], **labels)
        for queue in stats.get("queues", []):
            place = {**labels, "queue": str(queue["queue"])}
            self.frames("vif_queue_received_", queue["received"], **place)
            self.frames("vif_queue_transmitted_", queue["transmitted"], **place)
            self.add("vif_queue_notifications_total", queue["notified"], **place)

    def worker(self, stats: Any) -> None:
        labels = {"worker": str(stats["worker"]), "core": str(stats["core"])}
        for name, value in (("frames_total", stats["frames"]), ("busy_cycles_total", stats["busy_cycles"]),
                            ("sources", stats["sources"]), ("sampled_loops_total", stats["sampled"]["loops"]),
                            ("sampled_frames_total", stats["sampled"]["frames"])):
            self.add(f"worker_{name}", value, **labels)
        for stage, count in stats["stages"].items():
            self.add("worker_stage_cycles_total", count["cycles"], **labels, stage=stage)
            self.add("worker_stage_frames_total", count["frames"], **labels, stage=stage)


def _stats(daemon: Daemon, *words: str) -> Any:
    return json.loads(daemon.cli("stats", *words, "--json", check=True).out)


def _workers(daemon: Daemon) -> list[Any]:
    return _stats(daemon, "--cycles")["workers"]


def _expected(daemon: Daemon) -> Series:
    expected = _Expected()
    config = daemon.get("/v1/config")
    for wire in config["wires"]:
        network, name = wire["network"], wire["name"]
        shown = daemon.get(f"/v1/networks/{network}/wires/{name}")
        expected.wire(network, _stats(daemon, name, "--network", network), shown["status"],
                      {tee["name"]: tee for tee in shown["tees"]})
    for vif in config["vifs"]:
        expected.vif(_stats(daemon, "--vif", vif["name"]), daemon.get(f"/v1/vifs/{vif['name']}")["status"])
    for kind in ("vif", "network", "port", "wire"):
        expected.add("objects", len(config[kind + "s"]), kind=kind)
    expected.add("generation", config["generation"])
    expected.add("tsc_hertz", daemon.get("/v1/stats")["tsc_hz"])
    for worker in _workers(daemon):
        expected.worker(worker)
    return expected.series


def _check_queues(test: unittest.TestCase, series: Series) -> None:
    """The queues of a vif add up to the vif."""
    sums: Series = {}
    for (name, labels), value in series.items():
        if name.startswith("vif_queue_") and name != "vif_queue_busy_cycles_total":  # which no vif has
            key = name.replace("vif_queue_", "vif_"), frozenset(label for label in labels if label[0] != "queue")
            sums[key] = sums.get(key, 0) + value
    test.assertGreater(len(sums), 0)
    for key, value in sums.items():
        test.assertEqual(value, series.get(key, 0), key)


def _check_workers(test: unittest.TestCase, before: list[Any], series: Series, after: list[Any]) -> None:
    """What never stands still lies between two readings; the states of a worker are its whole time."""
    hz = next(value for (name, _), value in series.items() if name == "tsc_hertz")
    for old, new in zip(before, after):
        labels = frozenset({("worker", str(old["worker"])), ("core", str(old["core"]))})
        for key in ("empty_cycles", "loops", "sleeps"):
            value = series[f"worker_{key}_total", labels]
            test.assertTrue(old[key] <= value <= new[key], (key, old[key], value, new[key]))
        states = {state: series["worker_seconds_total", labels | {("state", state)}] for state in ("busy", "empty", "asleep")}
        test.assertAlmostEqual(states["busy"], old["busy_cycles"] / hz, places=4)
        test.assertGreater(states["busy"], 0)
        test.assertTrue(old["cycles"] / hz - 0.001 <= sum(states.values()) <= new["cycles"] / hz + 0.001, (states, old, new))


def _flat(reply: Any) -> Iterator[tuple[str, Any]]:
    """What telemetry shows of a wire, a vif or a worker, from what the stats show."""
    for key, value in reply.items():
        if key in ("a_to_b", "b_to_a"):
            for name, what in (("received_", "received"), ("", "delivered")):
                for unit in ("frames", "bytes"):
                    yield f"{key}_{name}{unit}", value[what][unit]
            counts = [to["segmented"] for leg in value["legs"] for to in leg["to"] if "segmented" in to]
            if counts:
                yield f"{key}_segmented_frames", sum(count["frames"] for count in counts)
                yield f"{key}_segments", sum(count["segments"] for count in counts)
            yield from ((f"{key}_dropped_{reason}", n) for reason, n in value["dropped"].items() if reason != "total")
        elif key == "segmented":
            yield from (("segmented_frames", value["frames"]), ("segments", value["segments"]))
        elif key in ("received", "transmitted", "copied", "into", "out"):
            yield from ((f"{key}_{unit}", value[unit]) for unit in ("frames", "bytes"))
        elif key in ("discarded", "dropped"):
            yield from ((f"{key}_{reason}", n) for reason, n in value.items() if reason != "total")
        elif key == "sampled":
            yield "sampled_frames", value["frames"]
        elif key == "stages":
            yield from ((f"stage_{name}_cycles", count["cycles"]) for name, count in value.items())
        elif key not in ("tees", "worker", "queues"):
            yield key, value


def _check_telemetry(test: unittest.TestCase, daemon: Daemon) -> int:
    compared = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(30)
        client.connect(str(dpdk_run_dirs(daemon.pid)[0] / "dpdk_telemetry.v2"))
        client.recv(1024)

        def ask(command: str) -> Any:
            client.send(command.encode())
            return json.loads(client.recv(64 << 10))[command.partition(",")[0]]

        def compare(command: str, stats: Any, *moving: str) -> None:
            nonlocal compared
            told = ask(command)
            told.pop("up", None)
            wanted = dict(_flat(stats))
            for key in moving:
                test.assertGreaterEqual(told.pop(key), wanted.pop(key), (command, key))
            test.assertEqual(told, wanted, command)
            compared += len(wanted)

        for wire in ask("/patchbay/wires"):
            network, _, name = wire.partition("/")
            stats = _stats(daemon, name, "--network", network)
            compare(f"/patchbay/wire,{wire}", stats)
            test.assertEqual(ask(f"/patchbay/tees,{wire}"), [tee["name"] for tee in stats["tees"]])
            for tee in stats["tees"]:
                compare(f"/patchbay/tee,{wire}/{tee['name']}", tee)
        for vif in ask("/patchbay/vifs"):
            compare(f"/patchbay/vif,{vif}", _stats(daemon, "--vif", vif))
        for worker in _workers(daemon):
            compare(f"/patchbay/worker,{worker['worker']}", worker, "cycles", "empty_cycles", "loops", "sleeps")
    return compared


def check_scraped(test: unittest.TestCase, daemon: Daemon) -> None:
    """At rest: each sample of /metrics is a counter of the stats and the other way round; promtool has nothing to say;
    telemetry tells the same."""
    def still() -> tuple[Series, str, list[Any], list[Any]]:
        before, first = _expected(daemon), _workers(daemon)
        text = scrape(daemon, "?detail=1")
        last = _workers(daemon)
        assert before == _expected(daemon), "the counters still move"
        return before, text, first, last
    expected, text, first, last = wait_for("the counters stand still", still, 30)
    series = parse(text)
    by_queue = any(name.startswith("vif_queue_") for name, _ in expected)
    extra = {key for key in series if key[0] in MOVING or key[0] == "build_info" or
             (key[0].startswith("vif_queue_") and not by_queue)}
    test.assertEqual({key: value for key, value in series.items() if key not in extra}, expected)
    _check_queues(test, series)
    _check_workers(test, first, series, last)
    for query in ("", "?detail=1"):
        done = subprocess.run(["promtool", "check", "metrics"], input=scrape(daemon, query), text=True, capture_output=True,
                              check=False)
        test.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
    told = _check_telemetry(test, daemon)
    say(f"{len(expected)} samples of /metrics and {told} values of telemetry are those of patchbay stats")
