"""What planning costs: reading the video (`bench_scan.py`), and allocation over sizes and kinds of instances, beside a
plain table.

    python scripts/bench_planner.py              # all sizes; about a quarter of an hour
    python scripts/bench_planner.py --quick      # short clips, the middle size only
    python scripts/bench_planner.py --only scan  # or: --only allocation
    python scripts/bench_planner.py --json

Every row is measured in a process of its own, one thread. Time is the process's own time (other programs on the
machine do not count), the median and the greatest of `--runs`; memory is the process's peak with Python and NumPy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import bench_scan
import numpy as np
from numpy.typing import NDArray

from m3video.planning.allocate import allocate
from m3video.types import SCALES

Floats = NDArray[np.floating]
COST = np.array(SCALES, np.float64)
GOALS = {(4096, 16384): (0.150, 2**30), (100_000, 100_000): (3.0, 2**30)}
"""Process seconds and bytes of peak memory that the project asks of these sizes, without constraints."""


def steps(rng: np.random.Generator, n: int) -> Floats:
    """Nothing below some scale, everything from there on, as for text."""
    return (np.arange(5) >= rng.integers(0, 5, n)[:, None]) * rng.random((n, 1))


def footage(rng: np.random.Generator, n: int) -> Floats:
    """As the planner's own utility: coverage and peak detail, times novelty."""
    peak = np.sort(rng.exponential(300, (n, 5)), axis=1)[:, ::-1]
    peak[:, 4] = 0
    return np.clip(rng.exponential(0.3, (n, 1)), 0.05, 1) * (255**2 / 8 + peak[:, :1] - peak)


def few(rng: np.random.Generator, n: int) -> Floats:
    return np.cumsum(np.sort(rng.random((7, 5)))[:, ::-1], axis=1)[rng.integers(0, 7, n)]


KINDS: dict[str, tuple[str, Callable[[np.random.Generator, int], Floats]]] = {
    "footage": ("as the planner makes them", footage),
    "random": ("any shape of curve", lambda rng, n: rng.random((n, 5))),
    "concave": (
        "each token is worth less than the one before",
        lambda rng, n: np.cumsum(np.sort(rng.random((n, 5)))[:, ::-1], axis=1),
    ),
    "step": ("as of text: nothing, then all", steps),
    "whole": ("small whole numbers: many ties", lambda rng, n: np.cumsum(rng.integers(0, 4, (n, 5)), axis=1) * 1.0),
    "few": ("seven kinds of frame", few),
    "equal": ("every frame alike, concave", lambda rng, n: np.tile(np.cumsum([1, 0.8, 0.5, 0.3, 0.2]), (n, 1))),
    "equal step": ("every frame alike, a step at 144", lambda rng, n: np.tile([0, 0, 0, 1.0, 1.2], (n, 1))),
    "linear": ("worth what it costs: every full plan is optimal", lambda rng, n: np.tile(COST, (n, 1))),
    "near tie": ("worth what it costs, and a billionth more", lambda rng, n: COST * (1 + 1e-9 * rng.random((n, 5)))),
    "subset": (
        "no plan fills the budget",
        lambda rng, n: np.where(COST >= 36, COST + 1e-6 * rng.integers(0, 2, (n, 5)), 0),
    ),
    "only 576": ("all or nothing", lambda rng, n: np.where(COST == 576, rng.random((n, 1)), 0)),
    "9 or 144": (
        "two scales, near ties",
        lambda rng, n: np.where(np.isin(COST, (9, 144)), COST, 0) * (1 + 1e-3 * rng.random((n, 1))),
    ),
}


def constraint(name: str, n: int) -> list[tuple[int, int]]:
    """Intervals to cover: shots of about twenty candidates, or every ten candidates in a row."""
    if name == "shots":
        cuts = np.unique([0, n, *np.random.default_rng(3).integers(0, n, n // 20)]).tolist()
        return list(itertools.pairwise(cuts))
    return [(start, start + 10) for start in range(n - 9)] if name == "gap" else []


def table(utility: Floats, budget: int) -> float:
    """The plain dynamic programme over all candidates and tokens, in NumPy, with its table of choices."""
    value = np.zeros(budget + 1)
    choices = np.zeros((len(utility), budget + 1), np.uint8)
    for frame, row in enumerate(utility):
        before = value.copy()
        for j, cost in enumerate(SCALES, 1):
            if cost > budget:
                break
            offer = before[:-cost] + row[j - 1]
            better = offer > value[cost:]
            value[cost:][better] = offer[better]
            choices[frame, cost:][better] = j
    left, total = budget, 0.0
    for frame in range(len(utility) - 1, -1, -1):
        j = int(choices[frame, left])
        if j:
            total, left = total + utility[frame, j - 1], left - SCALES[j - 1]
    return total


def measure(kind: str, n: int, budget: int, under: str, runs: int) -> dict[str, Any]:
    """One row, in this process."""
    utility = np.ascontiguousarray(KINDS[kind][1](np.random.default_rng(0), n), np.float64)
    cover = constraint(under, n)
    spent = []
    for _ in range(runs):
        start = time.process_time()
        if under == "table":
            found: dict[str, Any] = {"utility": table(utility, budget)}
        else:
            made = allocate(utility, budget=budget, cover_M2=cover)
            found = {"utility": made.utility, "gap": made.gap, "method": made.method, "tokens": made.total_tokens}
        spent.append(time.process_time() - start)
    peak = bench_scan.resident_bytes()
    return {
        "kind": kind,
        "frames": n,
        "budget": budget,
        "under": under,
        "seconds": sorted(spent)[len(spent) // 2],
        "most_seconds": max(spent),
        "peak_bytes": peak,
        **found,
    }


def in_a_process(*arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", *map(str, arguments)], capture_output=True, text=True, check=True
    )
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['kind']:<11}{row['frames']:>8}{row['budget']:>9}  {row['under']:<6}{row['seconds'] * 1e3:>9.1f}"
        f"{row['most_seconds'] * 1e3:>9.1f}{row['peak_bytes'] / 2**20:>7.0f}"
        + ("" if row["under"] == "table" else f"  {row['method']:<5}{row['gap']:>9.1e}")
    )


HEAD = f"{'kind':<11}{'frames':>8}{'budget':>9}  {'under':<6}{'ms':>9}{'most ms':>9}{'MiB':>7}  proof      gap"


def allocation(*, quick: bool, runs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All rows, and how often as long the plain table takes."""
    sizes = [(4096, 16384)] if quick else [(64, 2880), (4096, 16384), (100_000, 100_000)]
    rows: list[dict[str, Any]] = []

    def add(*arguments: object) -> dict[str, Any]:
        rows.append(in_a_process(*arguments, runs))
        say(line(rows[-1]))
        return rows[-1]

    say("\n".join(f"{name:<11}{text}" for name, (text, _) in KINDS.items()) + f"\n\n{HEAD}")
    late = []
    for n, budget in sizes:
        for kind in KINDS:
            row = add(kind, n, budget, "-")
            seconds, most_bytes = GOALS.get((n, budget), (float("inf"), float("inf")))
            if row["seconds"] > seconds or row["peak_bytes"] > most_bytes:
                late.append(f"{kind} at {n} x {budget}")
        for under in ("shots", "gap"):
            for kind in ("footage", "step", "equal", "near tie", "only 576"):
                add(kind, n, budget, under)
    ratios = {}
    for n, budget in ((512, 4096), (4096, 16384)):
        for kind in ("footage", "step", "equal"):
            ours, plain = add(kind, n, budget, "-"), add(kind, n, budget, "table")
            if ours["utility"] < plain["utility"] * (1 - 1e-12):
                raise SystemExit(f"{kind} at {n} x {budget}: {ours['utility']} is below the table's {plain['utility']}")
            ratios[f"{kind} {n} x {budget}"] = plain["seconds"] / ours["seconds"]
    say("\nplain table against allocate, time of the same optimum:")
    say("\n".join(f"  {name:<26}{ratio:8.1f} times" for name, ratio in ratios.items()))
    say("goals (150 ms at 4096 x 16384; 3 s and 1 GiB at 100000 x 100000): " + (", ".join(late) or "all kept"))
    return {"rows": rows, "times_faster_than_the_table": ratios, "beyond_the_goal": late}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="of each allocation")
    parser.add_argument("--quick", action="store_true", help="short clips, the middle size only, one run")
    parser.add_argument("--only", choices=("scan", "allocation"), help="leave the other half out")
    parser.add_argument("--json", action="store_true", help="print data as JSON")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        kind, n, budget, under, runs = asked.one
        print(json.dumps(measure(kind, int(n), int(budget), under, int(runs))))
        return 0

    def say(text: str) -> None:
        if not asked.json:
            print(text, flush=True)

    found: dict[str, Any] = {}
    if asked.only != "allocation":
        with tempfile.TemporaryDirectory() as folder:
            found |= bench_scan.report(Path(folder), quick=asked.quick, say=say)
    if asked.only != "scan":
        found |= allocation(quick=asked.quick, runs=1 if asked.quick else asked.runs, say=say)
    if asked.json:
        print(json.dumps(found, indent=2))
    return 1 if found.get("beyond_the_goal") else 0


if __name__ == "__main__":
    sys.exit(main())
