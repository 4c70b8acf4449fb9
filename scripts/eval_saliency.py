"""Does a budget that is spent where the question looks answer more, at equal visual tokens, coarse pass included?

    python scripts/eval_saliency.py [--seed 1] [--clips 12] [--budgets 144,360,720] [--measures] [--json FILE]

Rendered clips that no training has seen. Questions are of three kinds: about a moment whose time they name, about a
moment without naming it, and about the whole clip. `saliency-times` and `saliency-attention` are the product's
settings; `saliency-look` uses the model's attention even where a time is named. Differences are paired, with 95 %
intervals over clips; uniform stands at the frame count that was best on these very questions. `--measures` compares
measures of relevance instead: how often each finds the frame. Ctrl-C keeps what is answered: the same command goes on
from there. About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3video.cli.eval import default_cache, parse_budgets
from m3video.cli.terminal import make_progress
from m3video.evaluation.footage_set import FootageSpec
from m3video.evaluation.intervals import Interval
from m3video.evaluation.methods import SALIENT, make_methods
from m3video.evaluation.records import Record
from m3video.evaluation.run import run_evaluation
from m3video.evaluation.run_settings import RunSettings
from m3video.evaluation.saliency.measures import hits
from m3video.evaluation.saliency.questions import (
    REFERENCE_KINDS,
    describe_references,
    make_saliency_records,
    reference_kind,
)
from m3video.evaluation.samples import SampleRow
from m3video.evaluation.scores import accuracy_difference, make_cells
from m3video.model.m3 import checkpoint
from m3video.model.m3.checkpoint import LoadedModel
from m3video.utils.files import replacing

SHOWN = ("uniform", "adaptive", *SALIENT)
QUESTIONS, TIMELESS, OVERALL = 8, 6, 5
"""About each clip, at most: the benchmark's own, those without a time, global ones."""


def table(rows: Sequence[SampleRow], records: Sequence[Record]) -> list[dict[str, Any]]:
    """For every method, budget and kind of question: accuracy, and what it gains on adaptive and on uniform."""
    found = []
    splits = {kind: [r for r in records if reference_kind(r) == kind] for kind in REFERENCE_KINDS}
    splits |= {
        f"{kind}: {name}": [r for r in own if r.family == name]
        for kind, own in splits.items()
        for name in sorted({r.family for r in own})
    }
    for name, own in {"all": list(records), **splits}.items():
        cells = {(cell.method, cell.budget): cell for cell in make_cells(rows, own)} if own else {}
        for (method, budget), cell in cells.items():
            gains = {
                f"minus_{other}": accuracy_difference(cell, cells[other, budget])._asdict()
                for other in ("adaptive", "uniform")
                if method in SALIENT
            }
            found.append(
                {
                    "questions": name,
                    "method": method,
                    "variant": cell.variant,
                    "budget": budget,
                    "accuracy": cell.accuracy()._asdict(),
                    "visual_tokens": cell.mean("visual"),
                    "frames": cell.mean("frames"),
                    **gains,
                }
            )
    return found


def print_table(found: Sequence[dict[str, Any]], budgets: Sequence[int]) -> None:
    """As Markdown: per cent right, points gained on adaptive and on uniform, frames shown; families are in the JSON."""
    kinds = ("all", *REFERENCE_KINDS)
    print("| questions | tokens | " + " | ".join(SHOWN) + " |")
    print("|---" * (2 + len(SHOWN)) + "|")
    for kind in kinds:
        for budget in budgets:
            cells = {row["method"]: row for row in found if (row["questions"], row["budget"]) == (kind, budget)}
            print(f"| {kind} | {budget} | " + " | ".join(cell_text(cells[name]) for name in SHOWN) + " |")


def cell_text(row: dict[str, Any]) -> str:
    """`72 +5 [+1, +9] -2 [-6, +2] (3 frames)`."""
    right = f"{100 * row['accuracy']['value']:.0f}"
    if "minus_adaptive" not in row:
        return f"{right} ({row['frames']:.0f} frames)"
    gain = " ".join(points(Interval(**row[f"minus_{other}"])) for other in ("adaptive", "uniform"))
    return f"{right} {gain} ({row['frames']:.0f} frames)"


def points(value: Interval) -> str:
    """`+4 [-1, +9]`."""
    return f"{100 * value.value:+.0f} [{100 * value.low:+.0f}, {100 * value.high:+.0f}]"


def print_measures(args: argparse.Namespace, loaded: LoadedModel, records: Sequence[Record]) -> None:
    """How often each measure finds the frame, every candidate at one token and at nine."""
    about_moments = [record for record in records if record.localised]
    print("| measure | tokens a frame | " + " | ".join(REFERENCE_KINDS[:2]) + " |\n|---|---|---|---|")
    for scale in (1, 9):
        found = hits(
            about_moments, loaded, scale=scale, max_frames=args.max_frames, progress=make_progress(quiet=False)
        )
        for name, by_kind in found.items():
            shares = [sum(by_kind[kind]) / max(1, len(by_kind[kind])) for kind in REFERENCE_KINDS[:2]]
            print(f"| {name} | {scale} | " + " | ".join(f"{100 * share:.0f}" for share in shares) + " |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rendered")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument(
        "--budgets", default="144,360,720", help="visual tokens for a clip, coarse attention pass included"
    )
    parser.add_argument("--max-frames", type=int, default=32, help="most candidates of a clip")
    parser.add_argument("--out", type=Path, help="folder of answers, to go on in (default runs/eval-saliency-...)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of rendered clips")
    parser.add_argument("--measures", action="store_true", help="compare measures of relevance instead")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    args = parser.parse_args(argv)
    budgets, progress = parse_budgets(args.budgets), make_progress(quiet=False)
    spec = FootageSpec(seed=args.seed, clips=args.clips, questions=QUESTIONS)
    loaded = checkpoint.load(args.model, device="cpu")
    records = make_saliency_records(spec, folder=args.cache, timeless=TIMELESS, overall=OVERALL, progress=progress)
    if args.measures:
        print_measures(args, loaded, records)
        return
    out = args.out or Path("runs") / f"eval-saliency-{args.seed}-{args.clips}-{Path(args.model).name}"
    print(f"{describe_references(records)}; answers go to {out}", file=sys.stderr)
    methods = tuple(make_methods(SHOWN, max_frames=args.max_frames, context=loaded.context))
    folder = run_evaluation(
        records, loaded, RunSettings(methods, tuple(budgets), args.max_frames), out, progress=progress
    )
    found = table(folder.samples(), records)
    print_table(found, budgets)
    if args.json:
        with replacing(args.json) as part:
            part.write_text(json.dumps({"seed": args.seed, "rows": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
