"""How much of what a clip shows, and lets stand, a plan shows: slides, windows, visitors, captions, scores.

    python scripts/eval_states.py [--seed 1] [--clips 2] [--kinds KIND ...] [--max-frames 64] [--json FILE]

Rendered clips with known truth, through a real encoder. Budgets are what the distinct states of a clip need together
(1x, 1.5x, 2x), and 20,000 tokens for each (ample). "shown": of the distinct states, those that a planned frame shows
at the scale at which they can be read. "wasted": of the tokens spent, those on repeats and on frames of transitions
(both rules are written down in m3video/evaluation/states_truth.py). In per cent; adaptive is the product's planner,
uniform as many even frames as show the most of the whole set at that budget. 95 % intervals over clips. About ten
minutes on two free cores, half of it when the clips are there from a run before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from m3video.cli_eval import default_cache
from m3video.evaluation.intervals import Estimate, Floats, bootstrap, clip_sums
from m3video.evaluation.states_kinds import KINDS
from m3video.evaluation.states_set import BUDGETS, Row, StatesClip, best_uniform, run
from m3video.evaluation.tables import percent
from m3video.files import replacing
from m3video.terminal import make_progress

Measure = Callable[[dict[str, Floats]], Floats]


def of_method(rows: Sequence[Row], price: str, method: str) -> list[Row]:
    """The rows of one method at one budget, in order of clips."""
    return sorted((row for row in rows if row.price == price and row.method == method), key=lambda row: row.clip)


def totals(rows: Sequence[Row]) -> dict[str, Floats]:
    """Sums over each clip."""
    clips = [row.clip for row in rows]
    names = ("states", "shown", "tokens", "wasted")
    return {name: clip_sums([getattr(row.score, name) for row in rows], clips)[0] for name in names}


def share(rows: Sequence[Row], part: str, whole: str) -> Estimate:
    """One sum as a share of another, with an interval over clips."""
    return bootstrap(totals(rows), lambda t: t[part] / t[whole].clip(1))


def gain(ours: Sequence[Row], theirs: Sequence[Row], part: str, whole: str) -> Estimate:
    """The difference of two such shares on the same clips."""
    both = {f"our {name}": value for name, value in totals(ours).items()}
    both |= {f"their {name}": value for name, value in totals(theirs).items()}
    return bootstrap(both, lambda t: t[f"our {part}"] / t[f"our {whole}"].clip(1)
                     - t[f"their {part}"] / t[f"their {whole}"].clip(1))  # fmt: skip


def print_tables(clips: Sequence[StatesClip], rows: Sequence[Row]) -> None:
    """As Markdown: one line for each kind, then all with intervals."""
    even = best_uniform(rows)
    print("| kind | clips | states | tokens needed | " + " | ".join(f"shown {p} | wasted {p}" for p in BUDGETS) + " |")
    print("|---" * (4 + 2 * len(BUDGETS)) + "|")
    for kind in dict.fromkeys(clip.truth.kind for clip in clips):
        own = [clip.truth for clip in clips if clip.truth.kind == kind]
        cells = [kind, len(own), sum(len(truth.distinct) for truth in own), sum(truth.price for truth in own)]
        for price in BUDGETS:
            picked = [
                [row for row in of_method(rows, price, method) if row.kind == kind]
                for method in ("adaptive", even[price])
            ]
            for part, whole in (("shown", "states"), ("wasted", "tokens")):
                cells.append(" / ".join(percent(share(found, part, whole), interval=False) for found in picked))
        print("| " + " | ".join(map(str, cells)) + " |")
    print("\nEach cell: adaptive / uniform. All kinds together:\n")
    print("| budget | frames of uniform | adaptive shown | uniform shown | gain | adaptive wasted | uniform wasted |")
    print("|---" * 7 + "|")
    for price in BUDGETS:
        ours, theirs = of_method(rows, price, "adaptive"), of_method(rows, price, even[price])
        shown = [percent(share(found, "shown", "states")) for found in (ours, theirs)]
        wasted = [percent(share(found, "wasted", "tokens")) for found in (ours, theirs)]
        more = percent(gain(ours, theirs, "shown", "states"))
        print("| " + " | ".join([price, even[price].partition("@")[2], *shown, more, *wasted]) + " |")


def save(path: Path, clips: Sequence[StatesClip], rows: Sequence[Row]) -> None:
    """Truths and rows as JSON."""
    held = {
        "clips": [{"name": clip.name, "path": str(clip.path), **asdict(clip.truth)} for clip in clips],
        "rows": [asdict(row) for row in rows],
    }
    with replacing(path) as part:
        part.write_text(json.dumps(held), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=2, help="of each kind")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND",
                        help=", ".join(KINDS))  # fmt: skip
    parser.add_argument("--max-frames", type=int, default=64)
    parser.add_argument("--cache", type=Path, default=default_cache() / "states", help="where rendered clips are kept")
    parser.add_argument("--json", type=Path, help="truths, and what each method showed of each clip")
    args = parser.parse_args()
    clips, rows = run(args.kinds, seed=args.seed, clips=args.clips, max_frames=args.max_frames, folder=args.cache,
                      progress=make_progress(quiet=False))  # fmt: skip
    print_tables(clips, rows)
    if args.json:
        save(args.json, clips, rows)


if __name__ == "__main__":
    sys.exit(main())
