# SPDX-License-Identifier: BSD-3-Clause
"""The table of what was measured."""
from __future__ import annotations

from bench_figures import GENERATOR_IDLE_MIN, WAITED_MAX

TITLES = {"wire": "wire", "tap": "wire+tap", "bump": "wire+bump", "nic-rx": "NIC→vhost", "nic-tx": "vhost→NIC"}
HEADER = ["case", "size", "payload", "ring", "line ns", "testpmd Mpps", "Patchbay Mpps", "ratio", "floor", "cyc/frame t", "cyc/frame P",
          "packed/split"]
LEFT = 4  # columns of words


def _cell(summary: dict | None) -> tuple[str, str]:
    if summary is None:
        return "–", "–"
    if "not_measured" in summary:
        return "not measured", "–"
    cycles = summary["cycles_per_frame"]
    # A generator without idle loops may be what limits, then cycles a frame tell more; and somebody else's load on a
    # core makes everything slower.
    mark = "*" if summary["generator_idle"] < GENERATOR_IDLE_MIN else ""
    mark += "~" if summary["waited"] > WAITED_MAX else ""
    return (f"{summary['mpps']:.2f}{mark} ({summary['min']:.2f}–{summary['max']:.2f})",
            "–" if cycles is None else f"{cycles:.0f}")


def _spread(ratio: dict | None) -> str:
    return "–" if ratio is None else f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"


def _line(summary: dict) -> str:
    return f"{summary['line_ns']['median']:.0f}" if "line_ns" in summary else "–"


def _by(by: str) -> str:
    return " c" if by == "cycles" else ""


def row(result: dict) -> list[str]:
    peer, peer_cycles = _cell(result.get("testpmd"))
    ours, our_cycles = _cell(result["patchbay"])
    floor = packed = "–"
    if "floor" in result:
        floor = f"{result['floor']:g} " + {True: "met", False: "MISSED", None: "?"}[result["floor_met"]]
        floor += _by(result["floor_by"])
    if "packed_to_split" in result:
        against = result["packed_to_split"]
        packed = "no neighbours" if against["by"] is None else _spread(against[against["by"]]) + _by(against["by"])
        packed += {True: "", False: " LESS", None: " ?"}[against["at_least"]]
    elif result["ring"] == "packed":
        packed = "not measured"
    size = "IMIX" if result["size"] == "imix" else f"{result['size']} B"
    return [TITLES[result["case"]], size, "touched" if result["touch"] else "untouched",
            result["ring"] + (", mergeable" if result["mergeable"] else ""), _line(result["patchbay"]), peer, ours,
            _spread(result["ratio"]["mpps"] if "ratio" in result else None), floor, peer_cycles, our_cycles, packed]


def print_table(results: list[dict]) -> None:
    rows = [HEADER] + [row(result) for result in results]
    # A column in which nothing stands is left out.
    kept = [i for i in range(len(HEADER)) if i < LEFT or any(line[i] != "–" for line in rows[1:])]
    widths = {i: max(len(line[i]) for line in rows) for i in kept}
    for index, line in enumerate(rows):
        print("  ".join(line[i].ljust(widths[i]) if i < LEFT else line[i].rjust(widths[i]) for i in kept).rstrip())
        if index == 0:
            print("  ".join("-" * widths[i] for i in kept))
    reasons = dict.fromkeys((TITLES[r["case"]], r["size"], r["ring"], name, r[name]["not_measured"]) for r in results
                            for name in ("testpmd", "patchbay") if name in r and "not_measured" in r[name])
    for case, size, ring, name, reason in reasons:
        print(f"not measured: {case}, {size}, {ring}, {name}: {reason}")
    cells = [text for line in rows[1:] for text in line]
    if any("*" in text for text in cells):
        print("* the generator had nothing to spare: compare cycles a frame")
    if any("~" in text for text in cells):
        print("~ other programs ran on these CPUs, also when it was repeated: no verdict where it isn't reached")
    if "line ns" in (rows[0][i] for i in kept):
        print("line ns: how long a cache line took from one of the two CPUs to the other; where that changed, a line for each; "
              "without ratio: no two neighbours had it alike")
    if any(text.endswith((" c", " c LESS", " c ?")) for text in cells):
        print("c by cycles a frame, since the generator had nothing to spare")
