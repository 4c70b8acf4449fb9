"""What `small` is asked in training: single pictures here, reels of several scenes with their times in `reels`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from m3video.training.natural import photos
from m3video.training.natural.features import Key
from m3video.training.natural.named_objects import all_classes, daquar_questions, named
from m3video.training.natural.packing import Sample
from m3video.training.natural.question_style import NaturalQuestion, as_typed
from m3video.training.natural.questions import QuestionMaker, captioned
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.reel_frames import text_scale
from m3video.training.natural.reels import ReelMaker
from m3video.training.natural.splits import Part, part_of
from m3video.training.natural.text_pictures import SOURCES as TEXTS
from m3video.training.natural.text_pictures import TextAnswers
from m3video.training.natural.wordings import DESCRIBE
from m3video.types import SCALES

SINGLE_SCALES = (0.34, 0.3, 0.2, 0.13, 0.03)
"""How often a single picture is shown at 1, 9, 36, 144 and 576 tokens: fine scales are costly."""

SOURCES = (("captions", 0.6), ("flickr8k", 0.2), ("imagenet", 0.07), ("daquar", 0.03), ("class", 0.1))
"""`captions`: a captioned picture and no question but what it shows, which all of its captions answer: most words are
learned from these, and they cost least. `class`: a captioned picture changed to a class drawn at random, see
`class_channels`."""
CLASS_SCALES = (1, 9)
PAGES = 0.55
"""Of pictures with text: a page teaches more letters for each position."""

Questions = Callable[[random.Random], list[NaturalQuestion]]


class SampleMaker:
    """Draws samples from the pictures of one part of the split; the same random generator gives the same sample."""

    def __init__(
        self,
        recipe: SmallRecipe,
        row_of: Mapping[Key, int],
        part: Part = "train",
        *,
        texts: Mapping[int, TextAnswers] | None = None,
    ) -> None:
        """Args:
        recipe: lengths of reels, questions on each sample.
        row_of: the feature cache's pictures; others are not drawn.
        part: train, dev or test.
        texts: row of each picture with text -> what is written in it.
        """
        self._texts = texts or {}
        self._text_rows = [[row for row, text in self._texts.items() if text.source == source] for source in TEXTS]
        self._recipe = recipe
        folder = Path(recipe.photos)
        captioned = [p for p in photos.flickr8k(folder, part) if ("flickr8k", p.image) in row_of]
        self._maker = QuestionMaker(p.captions for p in captioned)
        self._captions = {row_of["flickr8k", p.image]: p.captions for p in captioned}
        self._rows: dict[str, list[int]] = {"flickr8k": list(self._captions)}
        self._asked: dict[int, Questions] = {}
        self._classes = all_classes(folder)
        self._own_row: dict[int, int] = {}
        for number, photo in enumerate(self._classes):
            if part_of("imagenet", str(photo.index)) == part and ("imagenet", photo.image) in row_of:
                self._own_row[number] = row_of["imagenet", photo.image]
                self._add("imagenet", photo.image, row_of, partial(named, photo))
        overlays = {row: self._texts[row] for row in self._text_rows[TEXTS.index("overlay")]}
        self.reels = ReelMaker(recipe, self._maker, self._captions, self._classes, self._own_row, overlays)
        self._rows["class"] = self._rows["flickr8k"] if self._classes else []
        self._rows["captions"] = self._rows["flickr8k"]
        for room in photos.daquar(folder, part):
            self._add("daquar", room.image, row_of, partial(daquar_questions, room))

    def _add(self, source: str, image: str, row_of: Mapping[Key, int], asked: Questions) -> None:
        row = row_of.get((source, image))
        if row is not None:
            self._rows.setdefault(source, []).append(row)
            self._asked[row] = asked

    def picture(self, rng: random.Random) -> Sample:
        """Return one picture without a time, at a random scale."""
        sources = [(source, share) for source, share in SOURCES if self._rows.get(source)]
        source = rng.choices(*zip(*sources, strict=True))[0]
        row = rng.choice(self._rows[source])
        if source == "class":
            wanted = rng.randrange(len(self._classes))
            asked = [*named(self._classes[wanted], rng), *named(self._classes[wanted], rng)]
            scale = rng.choice(CLASS_SCALES)
            return Sample((row,), (scale,), None, tuple(pair for one in asked for pair in one.pairs), (wanted,))
        if source == "captions":
            asked = [as_typed(captioned(rng.choice(DESCRIBE), self._captions[row]), rng)]
        else:
            asked = self._of_picture(row, rng)[: self._recipe.questions]
        scale = rng.choices(SCALES, SINGLE_SCALES)[0]
        return Sample((row,), (scale,), None, tuple(pair for one in asked for pair in one.pairs))

    def _of_picture(self, row: int, rng: random.Random) -> list[NaturalQuestion]:
        captions = self._captions.get(row)
        return self._asked[row](rng) if captions is None else self._maker.all_of(captions, rng)

    def text(self, rng: random.Random) -> Sample:
        """Return a picture with text to be read: a page, or a photograph with a text drawn over it."""
        row = rng.choice(self._text_rows[0 if rng.random() < PAGES else 1])
        text = self._texts[row]
        asked = text.questions(rng)
        return Sample((row,), (text_scale(rng, text.cap),), None, tuple(pair for one in asked for pair in one.pairs))

    def of_video(self, rng: random.Random) -> Sample:
        """Return a picture, a clip of one scene, a reel, or a picture with text, at the recipe's shares."""
        recipe = self._recipe
        draw = rng.choices(
            (self.picture, self.reels.clip, self.reels.reel, self.text),
            (
                recipe.pictures_among_reels,
                recipe.clips_among_reels,
                1.0,
                recipe.texts_among_reels if all(self._text_rows) else 0.0,
            ),
        )[0]
        return draw(rng)
