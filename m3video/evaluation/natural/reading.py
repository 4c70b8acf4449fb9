"""Read text that is drawn over photographs: words, numbers and lines, on three kinds of places, at every scale."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from PIL import Image

from m3video.errors import UsageError
from m3video.evaluation.natural.asking import Case, greedy_answers
from m3video.evaluation.natural.pictures import drawn
from m3video.evaluation.natural.rows import Row, quotient, share
from m3video.evaluation.natural.sight import Bench
from m3video.training.natural import photos
from m3video.training.natural.overlaid_text import choose_text, overlaid
from m3video.training.natural.splits import Part, font_families, part_of
from m3video.types import SCALES

TEXTS = ("word", "number", "line")
PLACES = ("subtitle", "slide", "sign")
EACH = 6
"""Pictures of each kind of text in each kind of place, by default."""
SIDE = 384
"""Photographs are enlarged to it first: letters are as sharp as on a frame of a video."""
QUESTIONS = {"number": "What number is shown?"}
"""Others are asked what the place says."""
ANSWER_TOKENS = 24


def reading(bench: Bench) -> list[Row]:
    """Measure exact match, upper and lower case alike, and the character error rate."""
    shown = drawn_texts(bench)
    blocks = bench.sight.blocks_of([picture for picture, _, _, _ in shown], SCALES)
    rows = []
    for scale in SCALES:
        cases = [
            Case((block,), (QUESTIONS.get(kind, f"What does the {place} say?"),))
            for block, (_, _, kind, place) in zip(blocks[scale], shown, strict=True)
        ]
        answers = [text for (text,) in greedy_answers(bench.loaded, cases, max_new_tokens=ANSWER_TOKENS)]
        for kind in TEXTS:
            for place in PLACES:
                own = [
                    (number, as_read(answer), as_read(true))
                    for number, (answer, (_, true, *which)) in enumerate(zip(answers, shown, strict=True))
                    if which == [kind, place]
                ]
                clusters = [str(number) for number, _, _ in own]
                right = [float(answer == true) for _, answer, true in own]
                wrong = [float(edits(answer, true)) for _, answer, true in own]
                error = quotient(wrong, [float(len(true)) for _, _, true in own], clusters)
                rows += [
                    Row("reading", f"exact, {kind} on a {place}", scale, share(right, clusters)),
                    Row("reading", f"character error rate, {kind} on a {place}", scale, error),
                ]
    return sorted(rows, key=lambda row: row.what)


def drawn_texts(bench: Bench) -> list[tuple[Image.Image, str, str, str]]:
    """Return pictures with the text in each, the kind of text and of place; words are those of the part's captions.

    Fonts are those of the part; where it has none of its own, those of training.
    """
    known = list(photos.flickr8k(bench.photos, bench.part))
    words = sorted({w for photo in known for text in photo.captions for w in re.findall(r"[A-Za-z]{3,}", text)})
    words = [word for word in words if part_of("texts", word) == bench.part]
    fonts_of: Part = bench.part if font_families(bench.part) else "train"
    rng = random.Random(f"{bench.seed} reading")
    backgrounds = drawn(known, len(known), bench.seed)
    found: list[tuple[Image.Image, str, str, str]] = []
    for kind in TEXTS:
        for place in PLACES:
            for _ in range(bench.most(EACH)):
                photo = bench.sight.picture(("flickr8k", backgrounds[len(found) % len(backgrounds)].image))
                large = photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                picture, text = _with_text(large, words, kind, place, bench.part, fonts_of, rng)
                found.append((picture, text, kind, place))
    return found


def _with_text(
    photo: Image.Image, words: Sequence[str], kind: str, place: str, part: Part, fonts_of: Part, rng: random.Random
) -> tuple[Image.Image, str]:
    """Return the photograph with a text of the wanted kind; one that is too long for the place is drawn anew."""
    for _ in range(1000):
        text = choose_text(words, part, rng)
        if kind_of(text) != kind:
            continue
        try:
            return overlaid(photo, text, kind=place, part=fonts_of, rng=rng).picture, text
        except UsageError as error:
            if "too long" not in str(error):
                raise
    raise UsageError(f"no {kind} of the {part} part fits on a {place}: give more captions")


def kind_of(text: str) -> str:
    """Return whether a text is a word, a number or a line."""
    return "number" if text.isdigit() else "line" if " " in text else "word"


def as_read(text: str) -> str:
    """Return a text as it is compared: lower case, without quotes, outer punctuation and doubled spaces."""
    return " ".join(text.lower().replace('"', " ").split()).strip(" .,!'")


def edits(one: str, two: str) -> int:
    """Return the Levenshtein distance: how many letters to put in, take out or replace."""
    before = list(range(len(two) + 1))
    for row, letter in enumerate(one, 1):
        now = [row]
        for column, other in enumerate(two, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (letter != other)))
        before = now
    return before[-1]
