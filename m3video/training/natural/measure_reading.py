"""How well the tower's branch reads what it has not seen: characters of dev pages by size, and words on slides.

    python -m m3video.training.natural.measure_reading PHOTOS RUN_DIR/reading_tower.pt

Fonts, words and photographs are those that the stage left out. A word is read off without a decoder: the linear head
names the characters of each cell, and those of the row with most of them are put side by side.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from m3video.model.m3.conv_tower import EfficientNetLiteModel
from m3video.model.m3.picture_format import picture_format
from m3video.model.m3.square import as_square
from m3video.training.natural import photos
from m3video.training.natural.overlaid_text import Overlaid, overlaid
from m3video.training.natural.page_words import NONE, character_of
from m3video.training.natural.reading_tower import (
    DEV_FAMILIES,
    PageReader,
    accuracy_by_height,
    load_tower,
    page_maker,
    read_pictures,
)
from m3video.training.natural.train_small import caption_words

EDGES = (0.0, 0.05, 0.08, 1.0)
"""Heights of capitals, as shares of the picture's height, between which characters are counted."""
FRAMES = {"224x224": None, "854x480": (854, 480)}
"""Sizes of the pictures that slides are drawn on; None is the photograph's own."""


@dataclass(frozen=True, slots=True)
class WordScore:
    """Of so many words, the shares that were read without and with regard to case, and how alike what was read is.

    Likeness is difflib's ratio of letters in common, without regard to case: a letter between two cells that both name
    it makes the word wrong, and is little unlike it.
    """

    count: int
    words: float
    exact: float
    likeness: float


def read_off(classes_GGS: NDArray[np.int64], upper_GGS: NDArray[np.bool_]) -> str:
    """Return the text of the row with most characters, with what the rows above and below add, column by column."""
    full = classes_GGS != NONE
    row = int(full.sum((1, 2)).argmax())
    rows = slice(max(row - 1, 0), row + 2)
    # Column first: a line between two rows has letters in both.
    named = np.swapaxes(classes_GGS[rows], 0, 1).reshape(-1)
    capitals = np.swapaxes(upper_GGS[rows], 0, 1).reshape(-1)
    return "".join(character_of(int(one), upper=bool(is_upper)) for one, is_upper in zip(named, capitals, strict=True))


def slides(
    folder: Path, words: Sequence[str], *, size: tuple[int, int] | None, count: int, kind: str = "slide"
) -> Iterator[Overlaid]:
    """Yield single words on slides over dev photographs, in fonts that the stage left out."""
    stored = photos.pictures(folder, "flickr8k")
    names = [photo.image for photo in photos.flickr8k(folder, "dev")]
    for number in range(count):
        rng = random.Random(f"slide {number}")
        word, photo = rng.choice(words), stored(rng.choice(names))
        cased = rng.choice((word, word.upper(), word.capitalize()))
        if size is not None:
            photo = photo.resize(size, Image.Resampling.BICUBIC)
        while (shown := overlaid(photo, cased, kind=kind, part="train", rng=rng)).family not in DEV_FAMILIES:
            pass
        yield shown


def word_score(trunk: EfficientNetLiteModel, reader: PageReader, shown: Sequence[Overlaid]) -> WordScore:
    """Return how many of the words are read off whole."""
    form = picture_format(trunk.config.to_dict())
    found = [read_off(*one) for one in read_pictures(trunk, reader, [as_square(one.picture, form) for one in shown])]
    alike = [
        SequenceMatcher(None, text.lower(), one.text.lower()).ratio() for text, one in zip(found, shown, strict=True)
    ]
    same = [(text.lower() == one.text.lower(), text == one.text) for text, one in zip(found, shown, strict=True)]
    words, exact = (float(share) for share in np.mean(same, axis=0))
    return WordScore(len(shown), words, exact, float(np.mean(alike)))


def main() -> None:
    """Print the measures of one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path, help="folder of photographs, as in a recipe")
    parser.add_argument("checkpoint", type=Path, help="reading_tower.pt of a run")
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--words", type=int, default=200)
    given = parser.parse_args()
    tower, reader = load_tower(given.checkpoint)
    trunk = copy.deepcopy(tower).to(torch.bfloat16)
    words = caption_words(given.photos)
    maker = page_maker(given.photos, "dev", words)
    pages = [maker.page(random.Random(f"dev {number}")) for number in range(given.pages)]
    found = list(read_pictures(trunk, reader, [page.picture for page in pages]))
    for low, high, (letters, exact, count) in zip(
        EDGES[:-1], EDGES[1:], accuracy_by_height(found, pages, EDGES), strict=True
    ):
        print(f"capitals {low:.2f}-{high:.2f}: {count} characters, {letters:.3f} right, {exact:.3f} with their case")
    longer = [word for word in maker.words.words if len(word) > 2]
    for name, size in FRAMES.items():
        score = word_score(trunk, reader, list(slides(given.photos, longer, size=size, count=given.words)))
        print(
            f"words on slides of {name}: {score.words:.3f} of {score.count} right, {score.exact:.3f} with their case, "
            f"likeness {score.likeness:.3f}"
        )


if __name__ == "__main__":
    main()
