"""Print questions made from natural pictures: python -m m3video.training.natural.look_at_questions FOLDER."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from m3video.training.natural import photos
from m3video.training.natural.named_objects import daquar_questions, named
from m3video.training.natural.questions import QuestionMaker
from m3video.training.natural.splits import Part

BALANCED_OVER = 400
"""Pictures whose captions decide how often each thing is asked after; training uses all."""


def samples(folder: Path, *, pictures: int, seed: int, part: Part = "train") -> list[str]:
    """Return lines to read: captions of some photographs, each followed by its questions and answers."""
    rng = random.Random(seed)
    captioned = list(photos.flickr8k(folder, part))
    maker = QuestionMaker(photo.captions for photo in captioned[:BALANCED_OVER])
    lines = []
    for photo in rng.sample(captioned, min(pictures, len(captioned))):
        lines += ["", photo.image, *(f"    {caption}" for caption in photo.captions)]
        lines += [f"  [{q.kind}] {q.question} -> {q.answer}" for q in maker.all_of(photo.captions, rng)]
    classes, rooms = list(photos.imagenet(folder, part)), list(photos.daquar(folder, part))
    for classed in rng.sample(classes, min(pictures // 3, len(classes))):
        lines += ["", f"{classed.image}: {classed.name}"]
        lines += [f"  [{q.kind}] {q.question} -> {q.answer}" for q in named(classed, rng)]
    for room in rng.sample(rooms, min(pictures // 6, len(rooms))):
        lines += ["", room.image]
        lines += [f"  [{q.kind}] {q.question} -> {q.answer}" for q in daquar_questions(room, rng)]
    return lines


def main() -> None:
    """Read the command line and print samples."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, help="holds flickr8k, imagenet and daquar")
    options.add_argument("--pictures", type=int, default=12)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    print("\n".join(samples(given.folder, pictures=given.pictures, seed=given.seed)))


if __name__ == "__main__":
    main()
