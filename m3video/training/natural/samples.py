"""What `small` is asked in training: single pictures, and reels of several scenes with their times.

A reel is made of photographs: each stands for a scene, is shown by one frame at a scale of its own, and the prompt
gives its time as for a planned video.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from m3video.training.natural import photos
from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.features import Key
from m3video.training.natural.named_objects import daquar_questions, named
from m3video.training.natural.nouns import UNCOUNTED, with_article
from m3video.training.natural.packing import Sample
from m3video.training.natural.question_style import NaturalQuestion, as_sentence, as_typed
from m3video.training.natural.questions import ASKED, QuestionMaker
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.splits import Part
from m3video.types import SCALES
from m3video.utils.clock import clock

SINGLE_SCALES = (0.34, 0.3, 0.2, 0.13, 0.03)
"""How often a single picture is shown at 1, 9, 36, 144 and 576 tokens: fine scales are costly."""

REEL_SCALES = (0.6, 0.27, 0.1, 0.03, 0.0)
SOURCES = (("flickr8k", 0.8), ("imagenet", 0.1), ("daquar", 0.1))
GAPS_SECONDS = (1, 2, 2, 3, 4, 5, 7, 10, 15, 30)
LATE_START = 0.2
"""Of reels: they begin anywhere in the first quarter of an hour; the others within twenty seconds."""

AT = ("What is shown at {0}?", "What can be seen at {0}?", "Describe what is shown at {0}.", "What happens at {0}?")
WHEN = ("When does {0} appear?", "At what time is {0} shown?", "When can {0} be seen?", "When is there {0}?")
FIRST = ("Which is shown first, {0} or {1}?", "What comes first, {0} or {1}?", "Which appears earlier: {0} or {1}?")
COUNT = ("How many scenes are there?", "How many scenes does the video have?", "How many pictures are shown?")

Questions = Callable[[random.Random], list[NaturalQuestion]]


class SampleMaker:
    """Draws samples from the pictures of one part of the split; the same random generator gives the same sample."""

    def __init__(self, recipe: SmallRecipe, row_of: Mapping[Key, int], part: Part = "train") -> None:
        """Args:
        recipe: lengths of reels, questions on each.
        row_of: the feature cache's pictures; others are not drawn.
        part: train, dev or test.
        """
        self._recipe = recipe
        folder = Path(recipe.photos)
        captioned = [p for p in photos.flickr8k(folder, part) if ("flickr8k", p.image) in row_of]
        self._maker = QuestionMaker(p.captions for p in captioned)
        self._captions = {row_of["flickr8k", p.image]: p.captions for p in captioned}
        self._rows: dict[str, list[int]] = {"flickr8k": list(self._captions)}
        self._asked: dict[int, Questions] = {}
        for photo in photos.imagenet(folder, part):
            self._add("imagenet", photo.image, row_of, partial(named, photo))
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
        row = rng.choice(self._rows[rng.choices(*zip(*sources, strict=True))[0]])
        asked = self._of_picture(row, rng)[: self._recipe.questions]
        scale = rng.choices(SCALES, SINGLE_SCALES)[0]
        return Sample((row,), (scale,), None, tuple((q.question, q.answer) for q in asked))

    def _of_picture(self, row: int, rng: random.Random) -> list[NaturalQuestion]:
        captions = self._captions.get(row)
        return self._asked[row](rng) if captions is None else self._maker.all_of(captions, rng)

    def reel(self, rng: random.Random) -> Sample:
        """Return two scenes or more, with questions about times, order and what is seen when."""
        recipe = self._recipe
        count = min(recipe.most_scenes, int(2 ** rng.uniform(1, recipe.most_scenes.bit_length())))
        rows = rng.sample(self._rows["flickr8k"], min(count, len(self._captions)))
        scales = reel_scales(rng, len(rows), recipe.most_visual_tokens)
        times = reel_times(rng, len(rows))
        facts = [Facts.of(self._captions[row]) for row in rows]
        questions: list[NaturalQuestion] = []
        while len(questions) < recipe.questions:
            questions += self._about(rng, rows, facts, times)
        asked = [as_typed(q, rng) for q in questions[: recipe.questions]]
        return Sample(tuple(rows), scales, times, tuple((q.question, q.answer) for q in asked))

    def _about(
        self, rng: random.Random, rows: Sequence[int], facts: Sequence[Facts], times: Sequence[float]
    ) -> list[NaturalQuestion]:
        """Return one question about a reel, or none where these scenes do not answer it."""
        kind = rng.choices(("at", "seen", "when", "first", "count"), (0.5, 0.2, 0.14, 0.12, 0.04))[0]
        scene = rng.randrange(len(rows))
        time = clock(times[scene])
        if kind == "at":
            caption = rng.choice(self._captions[rows[scene]])
            return [NaturalQuestion(rng.choice(AT).format(time), as_sentence(caption), "at")]
        if kind == "seen":
            asked = [q for q in self._maker.all_of(self._captions[rows[scene]], rng) if q.kind != "cannot tell"]
            return [_at(rng.choice(asked), time)] if asked else []
        if kind == "count":
            return [NaturalQuestion(rng.choice(COUNT), str(len(rows)), "count scenes")]
        only = _only_in(facts)
        if kind == "when" and only:
            thing, where = rng.choice(only)
            return [NaturalQuestion(rng.choice(WHEN).format(_a(thing)), clock(times[where]), "when")]
        pairs = [(a, b) for a in only for b in only if a[1] < b[1]]
        if kind == "first" and pairs:
            earlier, later = rng.choice(pairs)
            both = [_the(earlier[0]), _the(later[0])]
            rng.shuffle(both)
            return [NaturalQuestion(rng.choice(FIRST).format(*both), _the(earlier[0]), "first")]
        return []


def reel_scales(rng: random.Random, count: int, most: int) -> tuple[int, ...]:
    """Return a scale for each frame, at most `most` tokens together."""
    scales = []
    left = most - count
    for _ in range(count):
        scale = rng.choices(SCALES, REEL_SCALES)[0]
        scales.append(scale if scale - 1 <= left else 1)
        left -= scales[-1] - 1
    return tuple(scales)


def reel_times(rng: random.Random, count: int) -> tuple[float, ...]:
    """Return increasing whole seconds, one for each scene."""
    time = rng.randint(0, 900) if rng.random() < LATE_START else rng.randint(0, 20)
    times = []
    for _ in range(count):
        times.append(float(time))
        time += rng.choice(GAPS_SECONDS)
    return tuple(times)


def _at(asked: NaturalQuestion, time: str) -> NaturalQuestion:
    """Return a question about a picture as one about a moment: "Is there a dog at 0:07?"."""
    text = asked.question
    for place in (" in the picture", " in this picture", " in the photo", " in this photo", " in the image"):
        if place in text:
            return asked._replace(question=text.replace(place, f" at {time}", 1))
    end = text.find("?")
    if end < 0:
        return asked._replace(question=f"At {time}: {text}")
    return asked._replace(question=f"{text[:end]} at {time}{text[end:]}")


def _only_in(facts: Sequence[Facts]) -> list[tuple[str, int]]:
    """Return the things that one scene shows and all others surely do not, with that scene."""
    found = []
    for thing in ASKED:
        named = [number for number, one in enumerate(facts) if one.is_named(thing)]
        if len(named) == 1 and all(one.is_absent(thing) for number, one in enumerate(facts) if number != named[0]):
            found.append((thing, named[0]))
    return found


def _a(thing: str) -> str:
    return thing if thing in UNCOUNTED else with_article(thing)


def _the(thing: str) -> str:
    return f"the {thing}"
