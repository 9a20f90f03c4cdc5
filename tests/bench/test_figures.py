# SPDX-License-Identifier: BSD-3-Clause
"""Ratios, verdicts, tables and plans of tools/bench, from figures that are made up."""
from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import unittest
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench"
sys.path.insert(0, str(BENCH))

from bench_control import judge, tell  # noqa: E402
from bench_devices import Work  # noqa: E402
from bench_figures import Series, Turn, Variant, failed, results  # noqa: E402
from bench_table import print_table  # noqa: E402

SPLIT, PACKED = Variant("split", False), Variant("packed", False)


def series(*mpps: float, cycles: float | None = None, idle: float = 0.5, waited: float = 0.0, **stages: float) -> Series:
    """One turn of one window for each figure."""
    return Series([Turn([one], [], [idle], cycles, dict(stages), waited, number) for number, one in enumerate(mpps)])


def table(found: list[dict]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        print_table(found)
    return output.getvalue()


class Figures(unittest.TestCase):
    def one(self, ours: Series, peer: Series, case: str = "wire", size: str = "64", touch: bool = False) -> dict:
        return results(case, size, touch, {("testpmd", SPLIT): peer, ("patchbay", SPLIT): ours})[0]

    def test_ratio_of_neighbours(self) -> None:
        """The machine slows down to a half between the rounds: each round's ratio is the same."""
        found = self.one(series(40, 20, 42, cycles=50), series(20, 10, 20, cycles=100))
        self.assertEqual({"median": 2.0, "min": 2.0, "max": 2.1}, found["ratio"]["mpps"])
        self.assertEqual({"median": 2.0, "min": 2.0, "max": 2.0}, found["ratio"]["cycles"])
        self.assertEqual((1.35, 1.5, True, "mpps"), tuple(found[key] for key in ("floor", "goal", "floor_met", "floor_by")))
        self.assertFalse(failed(found, True))

    def test_a_missed_floor(self) -> None:
        for touch in (False, True):
            found = self.one(series(13, cycles=100), series(10, cycles=130), touch=touch)
            self.assertFalse(found["floor_met"])
            self.assertTrue(failed(found, True))
            self.assertIn("1.35 MISSED", table([found]))
        # Sizes without a floor can't miss one.
        found = self.one(series(13), series(10), size="imix")
        self.assertNotIn("floor", found)
        self.assertFalse(failed(found, True))

    def test_the_generator_is_the_limit(self) -> None:
        """Then cycles decide, for better and for worse."""
        found = self.one(series(13, cycles=50, idle=0.0), series(10, cycles=100))
        self.assertEqual((True, "cycles"), (found["floor_met"], found["floor_by"]))
        self.assertIn("1.35 met c", table([found]))
        found = self.one(series(13, cycles=90, idle=0.0), series(10, cycles=100))
        self.assertEqual((False, "cycles"), (found["floor_met"], found["floor_by"]))
        # Without cycles there is nothing else to go by.
        found = self.one(series(13, idle=0.0), series(10))
        self.assertEqual((False, "mpps"), (found["floor_met"], found["floor_by"]))

    def test_cpus_that_move(self) -> None:
        """Where a line takes several times as long from one turn to the next, only turns of one kind are compared."""
        ours, peer = series(40, 20, 18, 20, 41), series(20, 8, 8, 8, 19)
        for turn, ns in zip(ours.turns + peer.turns, (40, 190, 200, 181, 44, 41, 42, 195, 185, 39)):
            turn.line_ns = float(ns)
        near, far = results("wire", "64", False, {("testpmd", SPLIT): peer, ("patchbay", SPLIT): ours})
        self.assertEqual({"median": 42.0, "min": 40.0, "max": 44.0}, near["patchbay"]["line_ns"])
        self.assertEqual([40, 41], near["patchbay"]["windows"])
        self.assertEqual({"median": 2.079, "min": 2.0, "max": 2.158}, near["ratio"]["mpps"])
        self.assertEqual({"median": 2.375, "min": 2.25, "max": 2.5}, far["ratio"]["mpps"])
        text = table([near, far])
        self.assertRegex(text, r"split +42 ")
        self.assertRegex(text, r"split +190 ")
        # One that moved while it was measured belongs to none.
        ours.turns[0].line_ns = None
        self.assertEqual([41], results("wire", "64", False, {("testpmd", SPLIT): peer, ("patchbay", SPLIT): ours})[0]["patchbay"]["windows"])
        # Kinds that only one of them met can't be compared: nothing is said, and nothing is proven.
        for turn in peer.turns:
            turn.line_ns = 40.0
        for turn in ours.turns:
            turn.line_ns = 190.0
        for case in (None, 190.0):
            ours.turns[0].line_ns = case
            found = results("wire", "64", False, {("testpmd", SPLIT): peer, ("patchbay", SPLIT): ours})
            self.assertEqual([(True, None)], [(one["no_neighbours"], one["floor_met"]) for one in found])
            self.assertNotIn("ratio", found[0])
            self.assertTrue(failed(found[0], True))
            self.assertIn("1.35 ?", table(found))
        # A few more that were in between don't join both kinds.
        ours, peer = series(*[20] * 5), series(*[10] * 5)
        for turn, ns in zip(ours.turns + peer.turns, (40, 60, 75, 110, 190) * 2):
            turn.line_ns = float(ns)
        self.assertEqual([3, 2], [one["ratio"]["pairs"] for one in results("wire", "64", False, {("testpmd", SPLIT): peer, ("patchbay", SPLIT): ours})])

    def test_packed_and_split_at_other_times(self) -> None:
        packed, split = series(20, 10), series(21, 9)
        for turn, ns in zip(packed.turns + split.turns, (190, 40, 40, 190)):
            turn.line_ns = float(ns)
        found = results("wire", "64", False, {("patchbay", SPLIT): split, ("patchbay", PACKED): packed})
        self.assertEqual([None, None], [one["packed_to_split"]["at_least"] for one in found if one["ring"] == "packed"])
        self.assertIn("no neighbours", table(found))

    def test_how_far_the_cpus_are(self) -> None:
        program = Path(os.environ["PATCHBAY_BUILD"]) / "tools" / "bench" / "patchbay-line-ns"
        available = sorted(os.sched_getaffinity(0))
        if len(available) < 2:
            self.skipTest("one CPU")
        words = [str(program), str(available[0]), str(available[-1])]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertGreater(float(done.stdout), 1)
        for wrong, code, says in ((["0", "0"], 2, "different"), (["0"], 2, "usage"), (["0", "x"], 2, "usage"), ([str(available[0]), "1000"], 3, "CPU 1000")):
            done = subprocess.run([str(program), *wrong], capture_output=True, text=True, timeout=60)
            self.assertEqual(code, done.returncode, wrong)
            self.assertIn(says, done.stderr)

    def test_disturbed(self) -> None:
        found = self.one(series(13, waited=0.5), series(10))
        self.assertIsNone(found["floor_met"])
        self.assertTrue(failed(found, True))  # nothing was proven
        self.assertIn("~", table([found]))

    def test_not_measured(self) -> None:
        found = self.one(series(13), Series(problem="dpdk-testpmd isn't installed"))
        self.assertEqual({"not_measured": "dpdk-testpmd isn't installed"}, found["testpmd"])
        self.assertNotIn("ratio", found)
        self.assertTrue(failed(found, True))
        self.assertFalse(failed(found, False))
        text = table([found])
        self.assertIn("not measured: wire, 64, split, testpmd: dpdk-testpmd isn't installed", text)
        self.assertIn("13.00 (13.00–13.00)", text)

    def test_packed_beside_split(self) -> None:
        def packed(*mpps: float, **more: float) -> dict:
            return results("wire", "64", False, {("patchbay", SPLIT): series(20, 10, 20, cycles=100),
                                                 ("patchbay", PACKED): series(*mpps, **more)})[1]

        found = packed(22, 11, 21)
        self.assertEqual(("packed", 1.1, True), (found["ring"], found["packed_to_split"]["mpps"]["median"],
                                                 found["packed_to_split"]["at_least"]))
        # Within the spread: neither proven nor refuted.
        found = packed(19, 9.9, 21)
        self.assertIsNone(found["packed_to_split"]["at_least"])
        self.assertFalse(failed(found, False))
        found = packed(18, 9, 18)
        self.assertFalse(found["packed_to_split"]["at_least"])
        self.assertTrue(failed(found, False))
        self.assertIn("0.90 (0.90–0.90) LESS", table([found]))
        found = packed(18, 9, 18, cycles=80, idle=0.0)
        self.assertEqual((True, "cycles"), (found["packed_to_split"]["at_least"], found["packed_to_split"]["by"]))

    def test_packed_that_can_not_be_had(self) -> None:
        found = results("tap", "1518", True, {
            (name, variant): Series(problem="packed=1 needs another driver") if variant.ring == "packed" else series(9)
            for variant in (SPLIT, PACKED) for name in ("testpmd", "patchbay")})
        self.assertTrue(failed(found[1], True))
        self.assertEqual(2, table(found).count("not measured: wire+tap, 1518, packed"))

    def test_stages(self) -> None:
        found = self.one(series(20, 21, cycles=100, copy=60, receive=20), series(10, 10))
        self.assertEqual({"copy": 60, "receive": 20}, found["patchbay"]["stages"])
        self.assertNotIn("stages", found["testpmd"])
        before = Work(0, 0, {"copy": 100, "taps": 7}, 10)
        self.assertEqual({"copy": 40.0}, Work(0, 0, {"copy": 500, "taps": 7}, 20).stages_since(before))
        self.assertEqual({}, before.stages_since(before))


@unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "one CPU")
class Plan(unittest.TestCase):
    def plan(self, *words: str) -> tuple[list[str], str]:
        done = subprocess.run([sys.executable, str(BENCH / "bench"), "--build", os.environ["PATCHBAY_BUILD"], "--plan", *words],
                              capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout.splitlines(), done.stderr

    def test_matrix(self) -> None:
        lines, said = self.plan("--matrix")
        self.assertEqual(2 * 2 * 2 * 2 * 4, len(lines))
        self.assertEqual(len(lines), len(set(lines)))
        self.assertIn("tap, imix, touched, packed, mergeable", lines)
        self.assertRegex(said, r"bench: 16 points, 4 kinds of rings, 2 devices, 3 rounds: about \d+ minutes")
        lines, _ = self.plan("--matrix", "--quick")
        self.assertEqual(64, len(lines))
        lines, _ = self.plan("--matrix", "--case", "wire", "--size", "imix", "--touch", "--ring", "packed", "--mrg")
        self.assertEqual(["wire, imix, touched, packed, mergeable"], lines)

    def test_without_matrix(self) -> None:
        lines, _ = self.plan()
        self.assertEqual((2 + 1 + 2) * 4 * 2, len(lines))
        self.assertTrue(all(line.endswith(", split") for line in lines))
        lines, said = self.plan("--quick", "--case", "wire", "--peer", "none")
        self.assertEqual(["wire, 64, untouched, split", "wire, 1518, untouched, split"], lines)
        self.assertIn("1 kind of rings, 1 device, 2 rounds", said)


class Control(unittest.TestCase):
    """The verdict of --control."""

    def result(self, stream: dict | None = None, problems: tuple[str, ...] = (), load: dict | None = None,
               grown_kib: int = 100) -> dict:
        return {"load": {"clients": 64, "seconds": 60.0, "changes": 240000, "refused": 0, "per_second": 4000, "median_us": 15000,
                         "p99_us": 37000, "max_us": 90000, "fsync_us": 500, "wait_max_us": 2500, "wait_mean_us": 120.0,
                         "waits_seen": 500, **(load or {})},
                "frames": {"problems": list(problems), "pause_ms": 3.5, "off_cpu_ms": 9.0, "streams": [
                    {"sent": 1200000, "received": 1200000, "lost": 0, "duplicate": 0, "reordered": 0, **(stream or {})}]},
                "daemon": {"resident_kib": 80000, "most_kib": 81000, "grown_kib": grown_kib, "grown_since_s": 6.0}}

    def told(self, result: dict) -> tuple[int, str]:
        lines = io.StringIO()
        return tell(result, lines), lines.getvalue()

    def test_passed(self) -> None:
        status, text = self.told(self.result())
        self.assertEqual(status, 0)
        for word in ("4,000 a second", "0.50 ms", "0 lost, 0 doubled, 0 out of order", "at most 3.5 ms", "+0.1 MiB",
                     "\nverdict   passed\n"):
            self.assertIn(word, text)

    def test_each_fault(self) -> None:
        for wrong, word in ((self.result({"lost": 1}, ("a>b: 1 of 1200000 frames were lost, in 1 gaps",)), "1 of 1200000"),
                            (self.result({"received": 0}), "no frame crossed"), (self.result(load={"refused": 2}), "2 changes"),
                            (self.result(load={"per_second": 999}), "999 changes a second"),
                            (self.result(grown_kib=17 << 10), "grew by 17 MiB")):
            status, text = self.told(wrong)
            self.assertEqual(status, 1, word)
            self.assertEqual(len(judge(wrong)), 1)
            self.assertIn(word, text.splitlines()[-1])
            self.assertNotIn("passed", text)


if __name__ == "__main__":
    unittest.main()
