"""Pictures with text that the decoder learns to read from: numbered, so that their features are computed once.

What number n shows depends on n, the recipe's seed and the part alone. A page is full of text; a drawn-over photograph
has one text, as footage has.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m3video.errors import UsageError
from m3video.training.natural.features import Key
from m3video.training.natural.overlaid_text import KINDS, Overlaid, choose_text, overlaid, reading_questions
from m3video.training.natural.page_words import character_of
from m3video.training.natural.question_style import NaturalQuestion, as_typed
from m3video.training.natural.reading_tower import page_maker
from m3video.training.natural.splits import Part
from m3video.training.natural.text_pages import Page, cell_texts
from m3video.utils.files import replacing

Source = Literal["page", "overlay"]
SOURCES: tuple[Source, ...] = ("page", "overlay")
SIDE = 448
"""Pixels of a photograph's longest side before a text is drawn over it: more than the tower takes, as in footage."""
MOST_WORDS = 60
"""Of a page that are read in one answer."""
ALL = (
    "Read all the text.",
    "Read the text.",
    "What does the text say?",
    "Read everything that is written.",
    "What is written in the picture?",
    "Write down the text in the picture.",
)
STARTS = ("What is the first line?", "How does the text begin?", "Read the first words.")
FIRST_WORDS = 5


@dataclass(frozen=True, slots=True)
class TextAnswers:
    """What is written in one picture.

    Attributes:
        source: `page` or `overlay`.
        words: in reading order.
        cap: median height of a capital letter, as a share of the picture's height.
        overlaid_kind: of a drawn-over photograph; "" on a page.
        cells: number of a cell in raster order -> what stands there; of a page only.
    """

    source: Source
    words: tuple[str, ...]
    cap: float
    overlaid_kind: str = ""
    cells: Mapping[int, str] = field(default_factory=dict)

    def questions(self, rng: random.Random) -> list[NaturalQuestion]:
        """Return questions that are answered by reading."""
        if self.source == "page":
            made = [NaturalQuestion(rng.choice(ALL), " ".join(self.words[:MOST_WORDS]), "page")]
            if len(self.words) > FIRST_WORDS:
                made.append(NaturalQuestion(rng.choice(STARTS), " ".join(self.words[:FIRST_WORDS]), "page"))
            return [as_typed(asked, rng) for asked in made]
        return reading_questions(" ".join(self.words), self.overlaid_kind, rng)


class TextPictures:
    """Draws pages and drawn-over photographs by number."""

    def __init__(self, folder: Path, words: Sequence[str], part: Part, *, seed: int) -> None:
        """Args:
        folder: photographs, as in a recipe.
        words: to draw; those of other parts are skipped.
        part: whose photographs, words and fonts are used.
        seed: of the recipe.

        Raises:
            UsageError: as for `page_maker`.
        """
        self._pages = page_maker(folder, part, words)
        self._words, self._part, self._seed = self._pages.words.words, part, seed

    def key(self, source: Source, number: int) -> Key:
        """Return the key of a picture in the feature cache."""
        return f"{self._part} {source}", f"{number:05d}"

    def pictures(self, source: Source, count: int) -> Iterator[tuple[Key, Callable[[], Image.Image]]]:
        """Yield the keys of the first `count` pictures, and how each is drawn."""
        for number in range(count):
            yield self.key(source, number), partial(self._picture, source, number)

    def page(self, number: int) -> Page:
        """Return a page."""
        return self._pages.page(self._random("page", number))

    def answers(self, source: Source, number: int) -> TextAnswers:
        """Return what is written in a picture; it is drawn for that."""
        if source == "page":
            page = self.page(number)
            cap = float(np.median(page.caps_K)) if len(page.caps_K) else 0.0
            cells = {number: text for number, text in enumerate(cell_strings(page).ravel()) if text}
            return TextAnswers("page", page_words(page), cap, cells=cells)
        shown = self._overlay(number)
        return TextAnswers("overlay", tuple(shown.text.split()), shown.cap_height, shown.kind)

    def _picture(self, source: Source, number: int) -> Image.Image:
        return Image.fromarray(self.page(number).picture) if source == "page" else self._overlay(number).picture

    def _overlay(self, number: int) -> Overlaid:
        rng = self._random("overlay", number)
        photo = Image.fromarray(rng.choice(self._pages.photographs))
        aspect = rng.choice((1.0, 4 / 3, 16 / 9, 16 / 9, 9 / 16))
        size = (SIDE, round(SIDE / aspect)) if aspect >= 1 else (round(SIDE * aspect), SIDE)
        photo = photo.resize(size, Image.Resampling.BICUBIC)
        while True:
            try:
                text = choose_text(self._words, self._part, rng)
                fonts: Part = "test" if self._part == "test" else "train"
                return overlaid(photo, text, kind=rng.choice(KINDS), part=fonts, rng=rng)
            except UsageError:  # the text is too long for the picture
                continue

    def _random(self, source: Source, number: int) -> random.Random:
        return random.Random(f"{self._seed} {self._part} {source} {number}")


def write_texts(drawer: TextPictures, counts: Mapping[Source, int], file: Path) -> None:
    """Write what is written in the first pictures of each source, a line of JSON for each, unless the file is there."""
    if file.is_file():
        return
    with replacing(file) as part, part.open("w", encoding="utf-8") as lines:
        for source, count in counts.items():
            for number in range(count):
                held = {"key": drawer.key(source, number), **asdict(drawer.answers(source, number))}
                lines.write(json.dumps(held) + "\n")


def load_texts(file: Path) -> dict[Key, TextAnswers]:
    """Read what `write_texts` wrote."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        held = json.loads(line)
        source, number = held.pop("key")
        held["words"] = tuple(held["words"])
        held["cells"] = {int(cell): text for cell, text in held["cells"].items()}
        found[source, number] = TextAnswers(**held)
    return found


def page_words(page: Page) -> tuple[str, ...]:
    """Return a page's words in reading order; of a word that the border cuts, what is inside."""
    words: list[str] = []
    for letter, starts in zip(page.text, page.starts_K, strict=True):
        if starts or not words:
            words.append(letter)
        else:
            words[-1] += letter
    return tuple(words)


def cell_strings(page: Page) -> NDArray[np.object_]:
    """Return what stands in each cell of a page, [24, 24]; "" where there is nothing."""
    texts = cell_texts(page)
    letters = np.vectorize(lambda number, upper: character_of(number, upper=upper), otypes=[object])
    strings: NDArray[np.object_] = letters(texts.classes_GGS, texts.upper_GGS).sum(-1)
    return strings
