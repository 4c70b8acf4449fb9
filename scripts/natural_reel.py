"""Compose a reel of natural pictures, to summarize and to read what comes out.

    python scripts/natural_reel.py reel.mp4 --photos PHOTOS [--clips FOLDER] [--scenes 33] [--seconds 12]

Photographs of the part dev (which training has not seen), in random order, each under a camera that slowly moves in,
and every third scene a clip of --clips, as far as there are some, from its start. Prints a line for each scene: when it
starts, and what a person wrote of it, or the clip's name.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from m3video.config import Settings
from m3video.errors import M3VideoError, UsageError
from m3video.evaluation.natural.clips import find_clips
from m3video.inference.pipeline import open_for
from m3video.training.footage import encode_h264
from m3video.training.natural import photos
from m3video.utils.clock import clock

SIZE, FPS = (480, 360), 10
NEARER = 0.15
"""Share of width and height that the camera leaves behind."""


def over_photo(picture: Image.Image, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` frames of a picture, uint8 [H, W, 3]: its middle, seen from nearer and nearer."""
    whole = ImageOps.fit(picture, SIZE)
    for number in range(count):
        edge = NEARER / 2 * number / count
        box = (edge * SIZE[0], edge * SIZE[1], (1 - edge) * SIZE[0], (1 - edge) * SIZE[1])
        yield np.asarray(whole.resize(SIZE, Image.Resampling.BILINEAR, box=box))


def of_clip(path: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield at most `count` frames of a clip, uint8 [H, W, 3], at `FPS` frames a second."""
    with open_for(path, Settings()) as reader:
        due = 0.0
        for frame in reader.frames():
            if reader.info.pts_seconds(frame.pts) < due:
                continue
            due += 1 / FPS
            yield np.asarray(ImageOps.fit(Image.fromarray(frame.rgb_HW3), SIZE))
            count -= 1
            if count == 0:
                return


def scenes(args: argparse.Namespace) -> Iterator[tuple[str, list[NDArray[np.uint8]]]]:
    """Yield each scene's description and frames."""
    known = list(photos.flickr8k(args.photos, "dev"))
    random.Random(args.seed).shuffle(known)
    clips = find_clips([args.clips]) if args.clips else []
    stored = photos.pictures(args.photos, "flickr8k")
    count = round(args.seconds * FPS)
    if args.scenes > len(known):
        raise UsageError(f"--scenes {args.scenes}: {args.photos} has {len(known)} photographs of the part dev")
    for number in range(args.scenes):
        if number % 3 == 2 and clips:
            clip = clips.pop(0)
            yield clip.name, list(of_clip(clip, count))
        else:
            photo = known[number]
            yield photo.captions[0], list(over_photo(stored(photo.image), count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="the video to write")
    parser.add_argument("--photos", type=Path, required=True, help="folder with flickr8k/")
    parser.add_argument("--clips", type=Path, help="folder of videos")
    parser.add_argument("--scenes", type=int, default=33)
    parser.add_argument("--seconds", type=float, default=12, help="of each scene; a clip may be shorter")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pictures: list[NDArray[np.uint8]] = []
    try:
        for what, frames in scenes(args):
            print(f"{clock(len(pictures) / FPS)}  {what}")
            pictures += frames
    except M3VideoError as error:
        sys.exit(f"error: {error}")
    encode_h264(pictures, args.target, fps=FPS, crf=26, preset="veryfast")
    print(f"{args.target}: {len(pictures) / FPS:g} s", file=sys.stderr)


if __name__ == "__main__":
    main()
