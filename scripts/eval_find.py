"""How well `find` tells where a thing is seen, beside asking evenly spaced frames at the same number of tokens.

    python scripts/eval_find.py --photos PHOTOS [--model small] [--seeds 1 2] [--things dog,child] [--budget 100]

For each thing and seed a reel is composed of 16 photographs of the part dev, 4 to 10 seconds each under a slowly moving
camera: four that surely show the thing by what people wrote of them, twelve that surely do not. A range counts as right
where it overlaps a true one by half of their union (each true one once); neighbouring scenes that both show the thing
are one true range. Prints precision and recall with 95 % intervals over reels, and the frames that were asked about.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from natural_reel import FPS, over_photo
from PIL import Image

from m3video.config import Settings
from m3video.errors import M3VideoError, UsageError
from m3video.evaluation.natural.rows import mean
from m3video.inference.find import find
from m3video.inference.session import VideoSession
from m3video.model.m3 import checkpoint
from m3video.training.footage import encode_h264
from m3video.training.natural import photos
from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.nouns import with_article
from m3video.training.natural.photos import Captioned

SCENES, SHOWING = 16, 4
SHORTEST, LONGEST = 4, 10
"""Seconds of a scene."""
OVERLAP = 0.5
THINGS = "dog,child,woman,horse,bicycle,ball,car,snow"

Range = tuple[float, float]


def compose(
    known: Sequence[tuple[Captioned, Facts]],
    thing: str,
    rng: random.Random,
    *,
    count: int = SCENES,
    showing: int = SHOWING,
) -> tuple[list[tuple[Captioned, int]], list[Range]]:
    """Return the scenes of a reel with their seconds, and the ranges that show a thing.

    Raises:
        UsageError: too few photographs show it, or surely do not.
    """
    able = [photo for photo, facts in known if facts.is_named(thing)]
    others = [photo for photo, facts in known if facts.is_absent(thing)]
    if len(able) < showing or len(others) < count - showing:
        raise UsageError(f"too few photographs show a {thing} ({len(able)}), or surely none ({len(others)})")
    chosen = [(photo, True) for photo in rng.sample(able, showing)]
    chosen += [(photo, False) for photo in rng.sample(others, count - showing)]
    rng.shuffle(chosen)
    scenes: list[tuple[Captioned, int]] = []
    ranges: list[Range] = []
    at = 0
    for photo, shows in chosen:
        seconds = rng.randint(SHORTEST, LONGEST)
        if shows and ranges and ranges[-1][1] == at:
            ranges[-1] = (ranges[-1][0], at + seconds)
        elif shows:
            ranges.append((at, at + seconds))
        scenes.append((photo, seconds))
        at += seconds
    return scenes, ranges


def write_reel(path: Path, scenes: Sequence[tuple[Captioned, int]], stored: Callable[[str], Image.Image]) -> None:
    """Write the scenes as a video.

    Args:
        path: of the video.
        scenes: photographs, each with its seconds.
        stored: from a photograph's name to its picture.
    """
    frames = (one for photo, seconds in scenes for one in over_photo(stored(photo.image), seconds * FPS))
    encode_h264(list(frames), path, fps=FPS, crf=26, preset="veryfast")


def hits(found: Sequence[Range], true: Sequence[Range]) -> int:
    """Return how many true ranges a found one overlaps by at least half of their union; each found one counts once."""
    left = list(found)
    count = 0
    for start, end in true:
        best = max(left, key=lambda one: min(end, one[1]) - max(start, one[0]), default=None)
        if best is None:
            break
        shared = min(end, best[1]) - max(start, best[0])
        if shared / (max(end, best[1]) - min(start, best[0])) >= OVERLAP:
            left.remove(best)
            count += 1
    return count


def main() -> None:
    """Compose, search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder with flickr8k/")
    parser.add_argument("--model", default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--things", default=THINGS)
    parser.add_argument("--budget", type=int, default=100)
    args = parser.parse_args()
    try:
        measure(args)
    except M3VideoError as error:
        sys.exit(f"error: {error}")


def measure(args: argparse.Namespace) -> None:
    """Search every reel in both ways, and print a row for each way."""
    known = [(photo, Facts.of(photo.captions)) for photo in photos.flickr8k(args.photos, "dev")]
    stored = photos.pictures(args.photos, "flickr8k")
    loaded = checkpoint.load(args.model)
    rows: dict[str, list[tuple[str, int, int, int, int]]] = {"find": [], "evenly spaced frames": []}
    with TemporaryDirectory() as folder:
        for seed in args.seeds:
            for thing in args.things.split(","):
                name = f"{seed} {thing}"
                scenes, true = compose(known, thing, random.Random(f"{name} find"))
                path = Path(folder) / f"{name}.mp4"
                write_reel(path, scenes, stored)
                settings = Settings(model=args.model, cache=False, budget=args.budget)
                with VideoSession(path, settings, loaded=loaded, keeps_looking=False) as session:
                    own = find(session, with_article(thing))
                # At the tokens that the search has spent, all of them for frames evenly spaced.
                even = spread_evenly(settings, own.visual_tokens // own.scale)
                with VideoSession(path, even, loaded=loaded, keeps_looking=False) as session:
                    evenly = find(session, with_article(thing), budget=own.visual_tokens)
                for kind, found in (("find", own), ("evenly spaced frames", evenly)):
                    ranges = [(one.start_seconds, one.end_seconds) for one in found.ranges]
                    rows[kind].append((name, hits(ranges, true), len(ranges), len(true), len(found.asked)))
                path.unlink()
                print(name, *(rows[kind][-1][1:] for kind in rows), file=sys.stderr, flush=True)
    print(f"| at {args.budget} tokens, {len(rows['find'])} reels | precision | recall | frames asked |")
    print("|---|---|---|---|")
    for kind, found in rows.items():
        precise = [(name, hit / ranges) for name, hit, ranges, _, _ in found if ranges]
        recalled = [(name, hit / true) for name, hit, _, true, _ in found]
        cells = [mean([value for _, value in part], [name for name, _ in part]) for part in (precise, recalled)]
        text = " | ".join(f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in cells)
        print(f"| {kind} | {text} | {sum(row[4] for row in found) / len(found):.0f} |")


def spread_evenly(settings: Settings, count: int) -> Settings:
    """Return settings for `count` evenly spaced candidates."""
    return settings.model_copy(update={"num_frames": count, "sampling": "uniform"})


if __name__ == "__main__":
    main()
