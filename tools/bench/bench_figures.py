# SPDX-License-Identifier: BSD-3-Clause
"""What was measured: windows, turns, rounds; and what they come to: medians, ratios, verdicts."""
from __future__ import annotations

import statistics
from dataclasses import dataclass, field

# A turn in which a worker waited longer than this share for its CPU is repeated.
WAITED_MAX = 0.02
# Below this share of idle loops the generator itself may be what limits; where a device limits, there are 10 % and more.
GENERATOR_IDLE_MIN = 0.05
# Turns belong together if a cache line took about as long between the two CPUs: less than this many times as long as in
# the shortest of them. On a virtual machine they share a cache now and don't a minute later.
LINE_STEP = 2.0
# The design's floors and goals as ratios to an untapped testpmd, for every kind of ring and payload.
TARGETS = {
    ("wire", "64"): (1.35, 1.5), ("wire", "512"): (2.0, 2.4), ("wire", "1518"): (2.5, 3.0),
    ("tap", "64"): (0.8, 0.9), ("tap", "512"): (1.2, 1.5), ("tap", "1518"): (1.6, 2.0),
    ("nic-rx", "64"): (1.0, None), ("nic-rx", "512"): (1.0, None), ("nic-rx", "1518"): (1.0, None),
    ("nic-tx", "64"): (1.0, None), ("nic-tx", "512"): (1.0, None), ("nic-tx", "1518"): (1.0, None),
}


@dataclass(frozen=True)
class Variant:
    """How the generator's ports are made; the same for every device."""
    ring: str  # split, packed
    mergeable: bool

    def port_options(self) -> str:
        return f",mrg={int(self.mergeable)}" + (",packed=1" if self.ring == "packed" else "")


@dataclass
class Turn:
    """One run of the generator against one start of a device."""
    windows: list[float] = field(default_factory=list)  # Mpps
    tap: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    cycles: float | None = None
    stages: dict[str, float] = field(default_factory=dict)  # cycles a frame
    waited: float = 0.0
    number: int = 0  # neighbours of other devices have the same
    line_ns: float | None = None  # from one CPU's cache to the other's; None: unknown, or not the same all the time


@dataclass
class Series:
    """All turns of one device at one point with one variant, in the order of the rounds."""
    turns: list[Turn] = field(default_factory=list)
    repeats: int = 0
    problem: str | None = None

    def within(self, low: float, high: float) -> Series:
        """Only the turns in which a line took so long."""
        return Series([turn for turn in self.turns if turn.line_ns is not None and low <= turn.line_ns <= high], self.repeats, self.problem)

    def neighbours(self, other: Series) -> list[tuple[Turn, Turn]]:
        theirs = {turn.number: turn for turn in other.turns if turn.windows}
        return [(turn, theirs[turn.number]) for turn in self.turns if turn.windows and turn.number in theirs]

    def measured(self) -> bool:
        return self.problem is None and any(turn.windows for turn in self.turns)

    def windows(self) -> list[float]:
        return [mpps for turn in self.turns for mpps in turn.windows]

    def limited(self) -> bool:
        """The generator had nothing to spare."""
        return statistics.median([idle for turn in self.turns for idle in turn.idle]) < GENERATOR_IDLE_MIN

    def disturbed(self) -> bool:
        return max(turn.waited for turn in self.turns) > WAITED_MAX

    def summary(self) -> dict:
        if not self.measured():
            return {"not_measured": self.problem or "no window was completed"}
        windows = self.windows()
        cycles = [turn.cycles for turn in self.turns if turn.cycles is not None]
        tap = [mpps for turn in self.turns for mpps in turn.tap]
        result = {"mpps": round(statistics.median(windows), 3), "min": round(min(windows), 3),
                  "max": round(max(windows), 3), "windows": [round(mpps, 3) for mpps in windows],
                  "generator_idle": round(statistics.median([i for turn in self.turns for i in turn.idle]), 3),
                  "waited": round(max(turn.waited for turn in self.turns), 4), "repeats": self.repeats,
                  "cycles_per_frame": round(statistics.median(cycles), 1) if cycles else None}
        if tap:
            result["tap_mpps"] = round(statistics.median(tap), 3)
        if stages := self.stages():
            result["stages"] = stages
        if lines := [turn.line_ns for turn in self.turns if turn.line_ns is not None]:
            result["line_ns"] = _spread(lines)
        return result

    def stages(self) -> dict[str, float]:
        """Cycles a frame by stage, as the device reports them itself."""
        names = [name for turn in self.turns for name in turn.stages]
        return {name: round(statistics.median([turn.stages.get(name, 0.0) for turn in self.turns if turn.stages]), 1)
                for name in dict.fromkeys(names)}


def _spread(ratios: list[float]) -> dict | None:
    if not ratios:
        return None
    return {"median": round(statistics.median(ratios), 3), "min": round(min(ratios), 3), "max": round(max(ratios), 3)}


def compare(ours: Series, other: Series) -> dict | None:
    """How many times as fast `ours` is as `other`, and by cycles a frame. One ratio a round: neighbours in time saw the
    same machine, which on a virtual one changes from minute to minute."""
    if not ours.measured() or not other.measured():
        return None
    pairs = ours.neighbours(other)
    mpps = _spread([statistics.median(a.windows) / statistics.median(b.windows) for a, b in pairs
                    if statistics.median(b.windows) > 0])
    cycles = _spread([b.cycles / a.cycles for a, b in pairs if a.cycles and b.cycles])
    return None if mpps is None else {"mpps": mpps, "cycles": cycles, "pairs": len(pairs)}


def verdict(ratio: dict, floor: float, ours: Series, other: Series, spread: bool = False) -> tuple[bool | None, str]:
    """Whether the ratio reaches the floor, and by which figure that was said. Where the generator has nothing to spare
    frames a second say how fast it is, so there cycles a frame decide. None: disturbed; or, with spread, some rounds
    reach it."""
    pairs = ours.neighbours(other)
    ours, other = Series([turn for turn, _ in pairs]), Series([turn for _, turn in pairs])
    by = "mpps"
    if ratio["mpps"]["median"] < floor and ours.limited() and ratio["cycles"] is not None:
        by = "cycles"
    if ratio[by]["median"] >= floor:
        return True, by
    if ours.disturbed() or other.disturbed() or (spread and ratio[by]["max"] >= floor):
        return None, by
    return False, by


def _line_classes(series: list[Series]) -> list[tuple[float, float]]:
    """How long a line took, as (shortest, longest) of each class of turns."""
    classes: list[tuple[float, float]] = []
    for ns in sorted(turn.line_ns for one in series for turn in one.turns if turn.line_ns is not None):
        if classes and ns < LINE_STEP * classes[-1][0]:
            classes[-1] = (classes[-1][0], ns)
        else:
            classes.append((ns, ns))
    return classes


def _by_line(series: dict[tuple[str, Variant], Series], variant: Variant) -> list[tuple[dict[tuple[str, Variant], Series], bool]]:
    """The turns of each class in which the devices can be compared. All of them, if it is unknown how long a line took; if
    no two neighbours had it alike, all of them and False."""
    ours, peer = series["patchbay", variant], series.get(("testpmd", variant))
    both = [ours] if peer is None else [ours, peer]
    classes = _line_classes(both)
    if not classes or not all(one.measured() for one in both):
        return [(series, True)]
    parts = [{key: one.within(low, high) for key, one in series.items()} for low, high in classes]
    alike = [(part, True) for part in parts if part["patchbay", variant].neighbours(part[("testpmd" if peer is not None else "patchbay", variant)])]
    return alike or [(series, False)]


def results(case: str, size: str, touch: bool, series: dict[tuple[str, Variant], Series]) -> list[dict]:
    """One result a variant of a point; one more for each other way that the two CPUs stood to each other meanwhile."""
    found = []
    for variant in dict.fromkeys(variant for _, variant in series):
        split = series.get(("patchbay", Variant("split", variant.mergeable)))
        found += [_result(case, size, touch, variant, part, alike, split is not None and split.measured())
                  for part, alike in _by_line(series, variant)]
    return found


def _result(case: str, size: str, touch: bool, variant: Variant, series: dict[tuple[str, Variant], Series], alike: bool,
            split_measured: bool) -> dict:
    ours, peer = series["patchbay", variant], series.get(("testpmd", variant))
    result: dict = {"case": case, "size": size, "touch": touch, "ring": variant.ring, "mergeable": variant.mergeable}
    if peer is not None:
        result["testpmd"] = peer.summary()
    result["patchbay"] = ours.summary()
    ratio = compare(ours, peer) if peer is not None and alike else None
    if not alike:
        result["no_neighbours"] = True
    if ratio is not None:
        result["ratio"] = ratio
    if (case, size) in TARGETS and (ratio is not None or not alike):
        floor, goal = TARGETS[case, size]
        met, by = verdict(ratio, floor, ours, peer) if ratio is not None else (None, "mpps")
        result |= {"floor": floor, "goal": goal, "floor_met": met, "floor_by": by}
    split = series.get(("patchbay", Variant("split", variant.mergeable)))
    if variant.ring == "packed" and split is not None:
        against = compare(ours, split) if alike else None
        if against is not None:
            met, by = verdict(against, 1.0, ours, split, spread=True)
            result["packed_to_split"] = against | {"at_least": met, "by": by}
        elif ours.measured() and split_measured:
            result["packed_to_split"] = {"at_least": None, "by": None}
    return result


def failed(result: dict, want_peer: bool) -> bool:
    """For --enforce: a floor is missed or couldn't be measured, or packed rings are slower than split ones."""
    if want_peer and (result["case"], result["size"]) in TARGETS and not result.get("floor_met"):
        return True
    return "packed_to_split" in result and result["packed_to_split"]["at_least"] is False
