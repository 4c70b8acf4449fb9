"""Measure a model of this project on natural pictures and on reels composed of them.

    python scripts/eval_small.py --model FOLDER --photos PHOTOS [--only captions,presence] [--limit N] [--json FILE]
    python scripts/eval_small.py --run RUN_DIR --photos PHOTOS --features RUN_DIR/features    # a run in training

Prints one Markdown table: a line for each thing that is counted, a column for each token scale, 95 % intervals over
pictures or reels. Measurements: captions (CIDEr-D, 200 pictures), presence (200 pictures), daquar (60), names (200),
reels (5 of each length and seed, two seeds), budgets (2 of each seed), reading (6 of each kind of text and place), and
clips (answers to be read, for the folders of --clips). `--limit` replaces those numbers. Each takes at most four
minutes on one core. The part dev may be used to choose among runs; test is for reports only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from m3video.errors import M3VideoError, UsageError
from m3video.evaluation.natural.clips import clips_table, find_clips
from m3video.evaluation.natural.names import names
from m3video.evaluation.natural.pictures import captions, presence
from m3video.evaluation.natural.reading import reading
from m3video.evaluation.natural.reels import budgets, reels
from m3video.evaluation.natural.rooms import rooms
from m3video.evaluation.natural.rows import Row, markdown
from m3video.evaluation.natural.run_folder import write_run
from m3video.evaluation.natural.sight import Bench, Sight
from m3video.model.m3 import checkpoint
from m3video.training.natural.features import load_natural_features
from m3video.utils.files import replacing

MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "captions": captions,
    "presence": presence,
    "daquar": rooms,
    "names": names,
    "reels": reels,
    "budgets": budgets,
    "reading": reading,
}
CLIPS = "clips"


def measure(args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Run what was asked for, print it, and return it for JSON."""
    loaded = checkpoint.load(folder, device=args.device, dtype=args.dtype)
    features = load_natural_features(args.features) if args.features else None
    bench = Bench(
        loaded, Sight(loaded, args.photos, features), args.photos, part=args.part, seed=args.seed, limit=args.limit
    )
    rows: list[Row] = []
    seconds = {}
    for name in args.only:
        if name == CLIPS:
            continue
        start, used = time.perf_counter(), time.process_time()
        rows += MEASURES[name](bench)
        seconds[name] = round(time.perf_counter() - start, 1)
        print(f"{name}: {seconds[name]} s, {time.process_time() - used:.0f} s of CPU", file=sys.stderr, flush=True)
    if rows:
        print(markdown(rows), flush=True)
    found: dict[str, Any] = {"part": args.part, "seed": args.seed, "limit": args.limit, "seconds": seconds}
    found["rows"] = [row.as_json() for row in rows]
    if CLIPS in args.only:
        found["clips"] = clips_table(loaded, find_clips(args.clips), limit=args.limit)
        print(f"\n{found['clips']}" if rows else found["clips"])
    return found


def measures_of(text: str) -> list[str]:
    """Return the names in `captions,presence`; raise UsageError for one that is unknown."""
    named = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in named if name not in (*MEASURES, CLIPS)]
    if unknown or not named:
        raise UsageError(f"--only {text}: choose from {', '.join((*MEASURES, CLIPS))}")
    return named


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="a folder that `m3video ask --model` takes, or a name")
    which.add_argument("--run", type=Path, help="run folder of `train`: its newest checkpoint is measured")
    parser.add_argument("--photos", type=Path, required=True, help="folder with flickr8k/, daquar/, imagenet/")
    parser.add_argument("--features", type=Path, help="features that training computed: the tower need not run")
    parser.add_argument("--only", default=",".join(MEASURES), help="measurements, separated by commas")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="folders of videos for the measurement clips")
    parser.add_argument("--limit", type=int, help="most pictures or reels of each measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("dev", "test"), default="dev")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", help="bfloat16 is three times as quick as float32 on newer CPUs")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    args = parser.parse_args(argv)
    try:
        args.only = measures_of(args.only)
        if CLIPS in args.only and not args.clips:
            raise UsageError("the measurement clips needs --clips FOLDER")
        with TemporaryDirectory(prefix="eval-small-") as work, torch.inference_mode():
            what = args.model or f"{args.run}: {write_run(args.run, Path(work))}"
            print(f"measuring {what}", file=sys.stderr, flush=True)
            found = {"model": what, **measure(args, args.model or work)}
    except M3VideoError as error:
        sys.exit(f"error: {error}")
    if args.json:
        with replacing(args.json) as part:
            part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
