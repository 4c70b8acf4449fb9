"""How much of what a clip shows, and lets stand, a plan shows: slides, windows, visitors, captions, scores.

    python scripts/eval_states.py [--seed 1] [--clips 2] [--kinds KIND ...] [--max-frames 64] [--json FILE]

Rendered clips with known truth, through a real encoder. Budgets are what the distinct states of a clip need together
(1x, 1.5x, 2x), and 20,000 tokens for each (ample). "shown": of the distinct states, those that a planned frame shows
at the scale at which they can be read. "wasted": of the tokens spent, those on repeats and on frames of transitions
(both rules are written down in m3video/evaluation/states/truth.py). In per cent; adaptive is the product's planner,
uniform as many even frames as show the most of that kind at that budget. 95 % intervals over clips. About ten
minutes on two free cores, half of it when the clips are there from a run before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from m3video.cli.eval import default_cache
from m3video.cli.terminal import make_progress
from m3video.evaluation.intervals import Floats, Interval, bootstrap, clip_sums
from m3video.evaluation.states.clips import CLIP_KINDS, StatesClip
from m3video.evaluation.states.dataset import ADAPTIVE, BUDGETS, StatesRow, best_uniform, run_states
from m3video.evaluation.tables import percent
from m3video.utils.files import replacing

SHOWN, WASTED = ("shown", "states"), ("wasted", "tokens")


Picked = dict[str, tuple[list[StatesRow], list[StatesRow]]]
"""Budget -> rows of the planner, and of uniform on the same clips."""


def picked(rows: Sequence[StatesRow], kinds: Sequence[str]) -> Picked:
    """For each kind and budget, uniform has as many frames as show the most of that kind."""
    found: Picked = {}
    for price in BUDGETS:
        ours, theirs = [], []
        for kind in kinds:
            own = [row for row in rows if row.price == price and row.kind == kind]
            even = best_uniform(own)
            ours += [row for row in own if row.method == ADAPTIVE]
            theirs += [row for row in own if row.method == even]
        found[price] = ours, theirs
    return found


def totals(rows: Sequence[StatesRow]) -> dict[str, Floats]:
    """Sums over each clip."""
    clips = [row.clip for row in rows]
    names = ("states", "shown", "tokens", "wasted")
    return {name: clip_sums([getattr(row.score, name) for row in rows], clips)[0] for name in names}


def share(rows: Sequence[StatesRow], part: str, whole: str) -> Interval:
    """One sum as a share of another, with an interval over clips."""
    return bootstrap(totals(rows), lambda t: t[part] / t[whole].clip(1))


def gain(ours: Sequence[StatesRow], theirs: Sequence[StatesRow]) -> Interval:
    """The difference of the shares of states shown, on the same clips."""
    both = {f"our {name}": value for name, value in totals(ours).items()}
    both |= {f"their {name}": value for name, value in totals(theirs).items()}
    return bootstrap(both, lambda t: (t["our shown"] - t["their shown"]) / t["our states"])


def print_tables(clips: Sequence[StatesClip], rows: Sequence[StatesRow]) -> None:
    """As Markdown: one line for each kind, then all with intervals."""
    kinds = list(dict.fromkeys(clip.truth.kind for clip in clips))
    print("| kind | clips | states | tokens needed | " + " | ".join(f"shown {p} | wasted {p}" for p in BUDGETS) + " |")
    print("|---" * (4 + 2 * len(BUDGETS)) + "|")
    for kind in kinds:
        own = [clip.truth for clip in clips if clip.truth.kind == kind]
        cells = [kind, len(own), sum(len(truth.distinct) for truth in own), sum(truth.price for truth in own)]
        for pair in picked(rows, [kind]).values():
            for part, whole in (SHOWN, WASTED):
                cells.append(" / ".join(percent(share(found, part, whole), interval=False) for found in pair))
        print("| " + " | ".join(map(str, cells)) + " |")
    print("\nEach cell: adaptive / uniform. All kinds together:\n")
    print("| budget | shown adaptive | shown uniform | gain | wasted adaptive | wasted uniform | tokens spent |")
    print("|---" * 7 + "|")
    for price, (ours, theirs) in picked(rows, kinds).items():
        cells = [price, *(percent(share(found, *SHOWN)) for found in (ours, theirs)), percent(gain(ours, theirs))]
        cells += [percent(share(found, *WASTED)) for found in (ours, theirs)]
        cells.append(" / ".join(str(sum(row.score.tokens for row in found)) for found in (ours, theirs)))
        print("| " + " | ".join(map(str, cells)) + " |")


def save(path: Path, clips: Sequence[StatesClip], rows: Sequence[StatesRow]) -> None:
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
    parser.add_argument(
        "--kinds",
        nargs="+",
        default=list(CLIP_KINDS),
        choices=list(CLIP_KINDS),
        metavar="KIND",
        help=", ".join(CLIP_KINDS),
    )
    parser.add_argument("--max-frames", type=int, default=64)
    parser.add_argument("--cache", type=Path, default=default_cache() / "states", help="where rendered clips are kept")
    parser.add_argument("--json", type=Path, help="truths, and what each method showed of each clip")
    args = parser.parse_args()
    clips, rows = run_states(
        args.kinds,
        seed=args.seed,
        clips=args.clips,
        max_frames=args.max_frames,
        folder=args.cache,
        progress=make_progress(quiet=False),
    )
    print_tables(clips, rows)
    if args.json:
        save(args.json, clips, rows)


if __name__ == "__main__":
    sys.exit(main())
