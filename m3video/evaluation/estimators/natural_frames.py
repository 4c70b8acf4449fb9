"""Frames whose answers are known, and what may be asked about each: photographs, texts over photographs, drawn shots.

Nothing of the part test is used. Questions are choices: how likely the right answer is beside wrong ones says more of
a frame than a greedy answer, which is right or not.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m3video.evaluation.natural.pictures import ROUNDS, drawn
from m3video.evaluation.natural.reading import PLACES, QUESTIONS, TEXTS, drawn_texts
from m3video.evaluation.natural.reels import ALONE
from m3video.evaluation.natural.sight import Bench
from m3video.training.natural import photos
from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.named_objects import daquar_questions
from m3video.training.natural.photos import Captioned
from m3video.training.natural.question_style import as_sentence
from m3video.training.natural.questions import QuestionMaker
from m3video.training.questions import FAMILIES, plain_answer
from m3video.training.render import draw
from m3video.training.scenes import facts_at, sample_shot

WRONG = 7
"""Wrong answers beside the right one, at most."""
ROOM_QUESTIONS = 4
"""About a room, at most; people asked up to thirty."""
CONTENTS = ("shapes", "sign", "board", "empty")
"""Of drawn shots, in turn."""
SHARES = (("photo", 0.4), ("text", 0.25), ("room", 0.2), ("drawn", 0.15))
"""Of all frames."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with the right answer, or several that are as good, and wrong ones."""

    family: str
    question: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def chance(self) -> float:
        """Return how often a guess is right."""
        return 1 / (1 + len(self.wrong))


@dataclass(frozen=True, slots=True, eq=False)
class KnownFrame:
    """A picture, the kind of frame it is (one of `SHARES`), and the questions about it."""

    name: str
    kind: str
    rgb_HW3: NDArray[np.uint8]
    choices: tuple[Choice, ...]

    @property
    def key(self) -> str:
        """Return what its answers are stored under: a hash of picture and questions."""
        found = hashlib.blake2b(self.rgb_HW3.tobytes(), digest_size=12)
        found.update(repr((self.rgb_HW3.shape, self.choices)).encode())
        return found.hexdigest()


def known_frames(bench: Bench, number: int) -> list[KnownFrame]:
    """Return about `number` frames, their kinds mixed: the first half of them is as good a sample as the second.

    Args:
        bench: pictures, part and seed; its limit is not read.
        number: of frames; fewer where the part has fewer pictures.
    """
    rng = random.Random(f"{bench.seed} known frames")
    wanted = {kind: round(share * number) for kind, share in SHARES}
    known = list(photos.flickr8k(bench.photos, bench.part))
    order = drawn(known, len(known), bench.seed)
    lettered = _texts(bench, order, wanted["text"], rng)
    made = [
        *lettered,
        *_photos(bench, order[::-1][: wanted["photo"]], known, rng),
        *_rooms(bench, wanted["room"], rng),
        *_drawn(wanted["drawn"], rng),
    ]
    rng.shuffle(made)
    return [frame for frame in made if frame.choices]


def _photos(
    bench: Bench, chosen: Sequence[Captioned], known: Sequence[Captioned], rng: random.Random
) -> Iterator[KnownFrame]:
    maker = QuestionMaker(photo.captions for photo in known)
    for photo in chosen:
        facts = Facts.of(photo.captions)
        asked = {one.question: one for _ in range(ROUNDS) for one in maker.presence(facts, rng)}
        sides = [("Yes", "No") if one.answer.startswith("Yes") else ("No", "Yes") for one in asked.values()]
        present = [
            Choice("presence", question, (right,), (wrong,))
            for question, (right, wrong) in zip(asked, sides, strict=True)
        ]
        picture = bench.sight.picture(("flickr8k", photo.image))
        yield KnownFrame(photo.image, "photo", _array(picture), (*present, _caption(photo, known, rng)))


def _caption(photo: Captioned, known: Sequence[Captioned], rng: random.Random) -> Choice:
    """Ask what is shown; right is what people wrote of this picture, wrong what one wrote of each of others."""
    others = [other for other in rng.sample(list(known), WRONG + 1) if other is not photo][:WRONG]
    right = tuple(map(as_sentence, photo.captions))
    wrong = [as_sentence(rng.choice(other.captions)) for other in others]
    return Choice("caption", ALONE, right, tuple(text for text in wrong if text not in right))


def _texts(bench: Bench, order: Sequence[Captioned], number: int, rng: random.Random) -> list[KnownFrame]:
    """Draw texts over the first photographs of `order`; what they say is asked, beside other texts of that kind.

    Where the photograph is still seen, it is asked what is shown, too.
    """
    each = max(-(-number // (len(TEXTS) * len(PLACES))), -(-(WRONG + 1) // len(PLACES)))
    shown = drawn_texts(replace(bench, limit=each))
    texts = {kind: sorted({text for _, text, own, _ in shown if own == kind}) for kind in TEXTS}
    made = []
    for index, ((picture, text, kind, place), photo) in enumerate(zip(shown, order, strict=False)):
        question = QUESTIONS.get(kind, f"What does the {place} say?")
        choices = [Choice(f"reading a {kind}", question, (text,), tuple(_others(texts[kind], {text}, rng)))]
        if place != "slide":  # a slide covers it
            choices.append(_caption(photo, order, rng))
        made.append(KnownFrame(f"text {index} on a {place}", "text", _array(picture), tuple(choices)))
    return rng.sample(made, min(number, len(made)))


def _rooms(bench: Bench, number: int, rng: random.Random) -> Iterator[KnownFrame]:
    known = list(photos.daquar(bench.photos, bench.part))
    rng.shuffle(known)
    asked = [(room, daquar_questions(room, rng)) for room in known]
    answers = sorted({one.answer for _, questions in asked for one in questions})
    for room, questions in asked[:number]:
        chosen = rng.sample(questions, min(ROOM_QUESTIONS, len(questions)))
        choices = [
            Choice("room", one.question, (one.answer,), tuple(_others(answers, {one.answer}, rng))) for one in chosen
        ]
        picture = bench.sight.picture(("daquar", room.image))
        yield KnownFrame(room.image, "room", _array(picture), tuple(choices))


def _drawn(number: int, rng: random.Random) -> Iterator[KnownFrame]:
    """Draw shots as rendered clips show them; wrong answers are those to the same kind of question on other shots."""
    shots = [
        sample_shot(rng, held_out=True, content=content)
        for content in itertools.islice(itertools.cycle(CONTENTS), number)
    ]
    asked = [
        {name: one for name, make in FAMILIES.items() if (one := make(facts_at(shot, 0.5), rng))} for shot in shots
    ]
    answers: dict[str, set[str]] = {}
    for questions in asked:
        for name, one in questions.items():
            answers.setdefault(name, set()).add(plain_answer(one.answer))
    for index, (shot, questions) in enumerate(zip(shots, asked, strict=True)):
        choices = []
        for name, one in questions.items():
            right = plain_answer(one.answer)
            wrong = _others(sorted(answers[name]), {right}, rng)
            if wrong:
                text = one.question[0].upper() + one.question[1:] + "?"
                choices.append(Choice(f"drawn: {name}", text, (right,), tuple(wrong)))
        yield KnownFrame(f"drawn {index}", "drawn", draw(shot, 0.5)[0], tuple(choices))


def _others(texts: Iterable[str], right: set[str], rng: random.Random) -> list[str]:
    able = [text for text in texts if text not in right]
    return rng.sample(able, min(WRONG, len(able)))


def _array(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB"), np.uint8)
