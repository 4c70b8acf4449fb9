"""Compare estimators of token needs by how well they spend a budget, and fit the calibrated one.

    python scripts/eval_estimators.py [--seed 1] [--clips 30] [--calibration-clips 36] [--write] [--json FILE]

Rendered clips that no training has seen. One frame of each shot is shown to the model alone at every scale, with every
question that can be asked about it; the answers are the truth. Estimators may learn from the calibration clips (seed
1001); the table is about other clips (seed 2000 + SEED). 95 % intervals over clips. `--write` puts the new fit into
m3video/assets/calibration.json, which the planner reads. Rendered clips are cached under names made of their content.
About ten minutes on two free cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from m3video.cli.eval import default_cache
from m3video.evaluation.estimators.compare import Comparison, EstimatorRow, calibrate, compare, make_cases
from m3video.evaluation.estimators.labelled_clips import LabelledClip, measure_clip
from m3video.evaluation.footage_set import FootageSpec
from m3video.evaluation.intervals import Interval
from m3video.evaluation.run import weights_hash
from m3video.model.m3 import checkpoint
from m3video.model.m3.checkpoint import LoadedModel
from m3video.planning.utility import CALIBRATION
from m3video.utils.files import replacing

CALIBRATION_SEED, TEST_SEEDS = 1001, 2000

LENGTHS: tuple[tuple[float, float, int], ...] = ((8, 20, 8), (20, 60, 6), (60, 150, 4))
"""(shortest s, longest s, frames per second); clips take them in turn."""


def measure(loaded: LoadedModel, seed: int, clips: int, cache: Path, max_frames: int) -> list[LabelledClip]:
    """Measure all clips of one seed."""
    spec = FootageSpec(seed=seed, clips=clips, lengths=LENGTHS)
    found = []
    for index in range(clips):
        found.append(measure_clip(loaded, spec, index, folder=cache, max_frames=max_frames))
        print(f"measured: clip {index + 1} of {clips}, seed {seed}", file=sys.stderr, flush=True)
    return found


def share(value: Interval) -> str:
    """Return `0.57 [0.41, 0.70]`, or "-" where the value does not exist (nothing to rank by)."""
    return "-" if math.isnan(value.value) else f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def print_table(found: Comparison) -> None:
    """Print the comparison as Markdown."""
    needs = ", ".join(f"{count} need {scale}" for scale, count in found.token_needs.items())
    print(f"{found.leaks['shots']:.0f} shots: {needs}")
    print(f"{'tokens per clip':<24}" + "".join(f"{budget:>14}" for budget in found.budgets))
    print(f"{'best even plan':<24}" + "".join(f"{value:>14.3f}" for value in found.even))
    print(f"{'':<24}" + "".join(f"{name:>14}" for name in found.even_names))
    print(f"{'oracle':<24}" + "".join(f"{value:>14.3f}" for value in found.oracle))
    budgets = " | ".join(f"at {budget}" for budget in found.budgets)
    print(f"\n| estimator | rank correlation | gap closed | more than the same for all | without novelty | {budgets} |")
    print("|---" * (5 + len(found.budgets)) + "|")
    for row in found.rows:
        budgets = " | ".join(f"{value.value:.2f}" for value in row.by_budget)
        columns = (row.correlation, row.closed, row.lead, row.alone)
        print(f"| {row.name} | {' | '.join(map(share, columns))} | {budgets} |")
    print("\n" + "\n".join(f"{name}: {value:.4g}" for name, value in found.leaks.items()))


def as_json(found: Comparison, made: dict[str, object]) -> str:
    """Return everything as JSON, with intervals as objects."""

    def row_json(row: EstimatorRow) -> dict[str, object]:
        return {
            "taste" if name == "transform" else name: value._asdict() if isinstance(value, Interval) else value
            for name, value in asdict(row).items()
            if name != "by_budget"
        } | {"by_budget": [value._asdict() for value in row.by_budget]}

    values = {"needs" if name == "token_needs" else name: value for name, value in asdict(found).items()}
    return json.dumps({**made, **values, "rows": [row_json(row) for row in found.rows]}, indent=1) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rendered")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=30, help="clips of the table")
    parser.add_argument("--calibration-clips", type=int, default=36)
    parser.add_argument("--max-frames", type=int, default=32, help="most candidates of a clip")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of rendered clips")
    parser.add_argument("--write", action="store_true", help="ship the new fit")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    args = parser.parse_args(argv)
    loaded = checkpoint.load(args.model, device="cpu")
    known = make_cases(measure(loaded, CALIBRATION_SEED, args.calibration_clips, args.cache, args.max_frames))
    made = {
        "model": loaded.name,
        "weights": weights_hash(loaded),
        "clips": args.calibration_clips,
        "seed": CALIBRATION_SEED,
    }
    fitted = calibrate(known, made=made)
    if args.write:
        fitted.save(CALIBRATION)
        print(f"written: {os.path.relpath(CALIBRATION)}", file=sys.stderr)
    test = make_cases(measure(loaded, TEST_SEEDS + args.seed, args.clips, args.cache, args.max_frames))
    found = compare(known, test, fitted)
    print(f"{args.clips} clips, seed {args.seed}, model {loaded.name} ({made['weights']})")
    print_table(found)
    if args.json:
        with replacing(args.json) as part:
            part.write_text(as_json(found, {**made, "test_seed": TEST_SEEDS + args.seed}), encoding="utf-8")


if __name__ == "__main__":
    main()
