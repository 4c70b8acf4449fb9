"""Compare estimators of token needs by how well they spend a budget, and fit the calibrated one.

    python scripts/eval_estimators.py [--seed 1] [--clips 30] [--calibration-clips 36] [--write] [--json FILE]
    python scripts/eval_estimators.py --model small --photos PHOTOS [--frames 110] [--write]

Rendered clips that no training has seen. One frame of each shot is shown to the model alone at every scale, with every
question that can be asked about it; the answers are the truth. Estimators may learn from the calibration clips (seed
1001); the table is about other clips (seed 2000 + SEED). 95 % intervals over clips. Rendered clips are cached under
names made of their content. About ten minutes on two free cores.

With --photos natural frames take the place of clips: photographs of the part dev, texts over them, rooms, and a few
drawn shots. Two thirds are fitted to, the others are predicted. Answers are cached beside the clips, so that a run that
was stopped goes on. Fifteen minutes on one free core.

`--write` puts the new fit into m3video/assets, where the planner reads it.
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
from m3video.errors import M3VideoError, UsageError
from m3video.evaluation.estimators.compare import Comparison, EstimatorRow, calibrate, compare, make_cases
from m3video.evaluation.estimators.labelled_clips import LabelledClip, measure_clip
from m3video.evaluation.estimators.natural import (
    TOKENS_EACH,
    Prediction,
    ask_frames,
    by_family,
    fit_natural,
    predictions,
)
from m3video.evaluation.estimators.natural_frames import known_frames
from m3video.evaluation.footage_set import FootageSpec
from m3video.evaluation.intervals import Interval
from m3video.evaluation.natural.sight import Bench, Sight
from m3video.evaluation.run import weights_hash
from m3video.model.m3 import checkpoint
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.default_model import decide_model
from m3video.planning.utility import CALIBRATIONS, Calibration
from m3video.types import SCALES
from m3video.utils.files import replacing

CALIBRATION_SEED, TEST_SEEDS = 1001, 2000

FITTED_SHARE = 2 / 3
"""Of natural frames."""
NATURAL_DATA = "Flickr8k and DAQUAR, part dev, with and without texts drawn over them; drawn shots"

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


def natural(args: argparse.Namespace, loaded: LoadedModel) -> None:
    """Fit and compare on natural frames."""
    bench = Bench(loaded, Sight(loaded, args.photos), args.photos)
    frames, asked = known_frames(bench, args.frames), []
    weights = weights_hash(loaded)
    for one in ask_frames(bench, frames, args.cache / f"answers-{weights}.jsonl"):
        asked.append(one)
        print(f"asked: frame {len(asked)} of {len(frames)}", file=sys.stderr, flush=True)
    cut = round(FITTED_SHARE * len(asked))
    known, test = asked[:cut], asked[cut:]
    made = {"model": loaded.name, "weights": weights, "data": NATURAL_DATA}
    fitted = fit_natural(known, made=made)
    if args.write:
        write(fitted, loaded.name)
    families, found = by_family(asked), predictions(fitted, known, test)
    print(f"{len(known)} frames fitted to, {len(test)} predicted, model {loaded.name} ({weights})")
    print(f"the fit tells apart: {fitted.made['tells_apart']}\n")
    print("| questions | answers | " + " | ".join(map(str, SCALES)) + " |\n" + "|---" * (2 + len(SCALES)) + "|")
    for family, values in families.items():
        print(f"| {family} | {values[0].answers} | " + " | ".join(f"{value.value:.2f}" for value in values) + " |")
    budgets = " | ".join(f"{each} tokens a frame" for each in TOKENS_EACH)
    print(f"\n| estimate | squared error | less than the same for every frame | {budgets} |")
    print("|---" * (3 + len(TOKENS_EACH)) + "|")
    print("\n".join(map(prediction_line, found)))
    if args.json:
        answers = {family: [value._asdict() for value in values] for family, values in families.items()}
        with replacing(args.json) as part:
            text = json.dumps({**fitted.made, "answers": answers, "rows": [row.as_json() for row in found]}, indent=1)
            part.write_text(text + "\n", encoding="utf-8")


def prediction_line(row: Prediction) -> str:
    """Return one line of the table."""
    errors = [
        "-" if one is None else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in (row.error, row.gain)
    ]
    return f"| {row.name} | {' | '.join(errors)} | {' | '.join(map(share, row.bought))} |"


def check_write(args: argparse.Namespace) -> None:
    """Refuse to ship a fit that the planner would not read, or that was made on the wrong frames."""
    model = decide_model(args.model).name
    if model not in CALIBRATIONS:
        raise UsageError(f"--write: a calibration is kept for {' and '.join(CALIBRATIONS)}, not for {model}")
    if (model == "small") != bool(args.photos):
        raise UsageError("--write: the calibration of small is made with --photos, that of rendered without")


def write(fitted: Calibration, model: str) -> None:
    """Ship a fit as the one of `model`."""
    fitted.save(CALIBRATIONS[model])
    print(f"written: {os.path.relpath(CALIBRATIONS[model])}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rendered")
    parser.add_argument("--photos", type=Path, help="folder with flickr8k/ and daquar/: natural frames, not clips")
    parser.add_argument("--frames", type=int, default=110, help="natural frames")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=30, help="clips of the table")
    parser.add_argument("--calibration-clips", type=int, default=36)
    parser.add_argument("--max-frames", type=int, default=32, help="most candidates of a clip")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of rendered clips and answers")
    parser.add_argument("--write", action="store_true", help="ship the new fit")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    args = parser.parse_args(argv)
    try:
        if args.write:
            check_write(args)
        # Of the larger model bfloat16 is three times as quick on newer CPUs.
        loaded = checkpoint.load(args.model, device="cpu", dtype="bfloat16" if args.photos else "auto")
        if args.photos:
            natural(args, loaded)
        else:
            rendered(args, loaded)
    except M3VideoError as error:
        sys.exit(f"error: {error}")


def rendered(args: argparse.Namespace, loaded: LoadedModel) -> None:
    """Fit and compare on rendered clips."""
    known = make_cases(measure(loaded, CALIBRATION_SEED, args.calibration_clips, args.cache, args.max_frames))
    made = {
        "model": loaded.name,
        "weights": weights_hash(loaded),
        "clips": args.calibration_clips,
        "seed": CALIBRATION_SEED,
    }
    fitted = calibrate(known, made=made)
    if args.write:
        write(fitted, loaded.name)
    test = make_cases(measure(loaded, TEST_SEEDS + args.seed, args.clips, args.cache, args.max_frames))
    found = compare(known, test, fitted)
    print(f"{args.clips} clips, seed {args.seed}, model {loaded.name} ({made['weights']})")
    print_table(found)
    if args.json:
        with replacing(args.json) as part:
            part.write_text(as_json(found, {**made, "test_seed": TEST_SEEDS + args.seed}), encoding="utf-8")


if __name__ == "__main__":
    main()
