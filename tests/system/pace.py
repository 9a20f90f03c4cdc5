# SPDX-License-Identifier: BSD-3-Clause
"""How fast this machine is just now, for the few tests that judge how long something takes.

What is promised in seconds is promised for a machine as docs/performance.md has it. Elsewhere, or beside other programs, a
promise is as much longer as a piece of work is that has nothing to do with Patchbay; and one of a few tries must keep it,
since a machine that stands still for a moment is no fault of the daemon's.
"""
from __future__ import annotations

import subprocess
import time
from typing import Callable

WORK_S = 0.013  # what the work takes there


def _work() -> float:
    begin = time.monotonic()
    for _ in range(10):
        subprocess.run(["/bin/true"], stdin=subprocess.DEVNULL, check=True)
        sum(number * number for number in range(20000))
    return time.monotonic() - begin


def slowness() -> float:
    """How many times longer something takes here and now, 1 at least."""
    return max(1.0, (_work() + _work() + _work()) / 3 / WORK_S)


def best(what: str, limit: float, measure: Callable[[], float], tries: int = 6) -> list[float]:
    """Measures until a time is within the limit in seconds, or fails; returns all that were measured, the best one last."""
    seen: list[tuple[float, float]] = []
    while len(seen) < tries:
        took = measure()
        seen.append((took, limit * slowness()))
        if took < seen[-1][1]:
            return [one for one, _ in seen]
    times = ", ".join(f"{took:.2f} s of {allowed:.2f}" for took, allowed in seen)
    raise AssertionError(f"{what}: {limit:g} s on a machine that is quick, here it took {times}")
