"""Reels made of photographs: scenes one after the other, each shown by one frame or a few, with the times of a plan.

What is asked: what is shown at a time, when something appears, what comes first or next, how many scenes there are,
whether a thing is in the video at all, and the video told in order. A clip is a reel of one scene: most videos that
people ask about are one.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.named_objects import article, is_animal, named, plain_name
from m3video.training.natural.nouns import UNCOUNTED, plural, with_article
from m3video.training.natural.packing import Sample
from m3video.training.natural.photos import Named
from m3video.training.natural.question_style import NaturalQuestion, as_sentence, as_typed
from m3video.training.natural.questions import ASKED, QuestionMaker, captioned
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.reel_frames import draw_scales, draw_times, text_scale
from m3video.training.natural.text_pictures import TextAnswers
from m3video.utils.clock import clock

FRAMES_OF_SCENE = {1: 0.7, 2: 0.18, 3: 0.12}
MOST_OF_CLIP = 16
NAMED_REELS = 0.35
"""Of reels: up to a third of their scenes show a named object."""
TEXT_REELS = 0.15
"""Of reels, where there are pictures with text: one scene shows one."""
LONG_REELS = 0.04
"""Of reels: as many visual tokens as `long_visual_tokens`. Few, since one costs as much as a whole step."""
BETWEEN = 0.3
"""Of questions about a time: it lies beside the frame's own, as when people stop a player."""
TOLD_AT = 3
"""Captions of the scene at a time that answer, each on its own."""
IN_ORDER = 5
"""Scenes that are told in order at most."""

AT = (
    "What is shown at {0}?",
    "What can be seen at {0}?",
    "Describe what is shown at {0}.",
    "What happens at {0}?",
    "What is going on at {0}?",
    "At {0}, what do you see?",
)
WHEN = ("When does {0} appear?", "At what time is {0} shown?", "When can {0} be seen?", "When is there {0}?")
FIRST = ("Which is shown first, {0} or {1}?", "What comes first, {0} or {1}?", "Which appears earlier: {0} or {1}?")
COUNT = ("How many scenes are there?", "How many scenes does the video have?", "How many different scenes are shown?")
NEXT = ("What comes after {0}?", "What is shown after {0}?", "What happens right after the scene at {0}?")
ORDER = (
    "Describe the video in order.",
    "What happens in the video? Give times.",
    "List the scenes with their times.",
    "Summarize the video scene by scene.",
)
ANYWHERE = ("Is there {0} in the video?", "Does {0} appear in the video?", "Do you see {0} anywhere?", "Is {0} shown?")
PICTURE_WORDS = ("picture", "photograph", "photo", "image")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a stretch of a reel shows.

    Attributes:
        row: of the picture in the feature cache.
        captions: of the picture; empty where an object is named.
        facts: of the captions; None where an object is named.
        named: number and class of a named object.
        changed: whether the picture is changed to that class.
        text: that is written in the picture; nothing else is known of it.
    """

    row: int
    captions: tuple[str, ...]
    facts: Facts | None
    named: tuple[int, Named] | None = None
    changed: bool = False
    text: TextAnswers | None = None

    @property
    def thing(self) -> str | None:
        """The named object with its article."""
        return article(plain_name(self.named[1])) if self.named else None


@dataclass(frozen=True, slots=True)
class Reel:
    """Scenes and the frames that show them; `scene_N` gives each frame's scene, `time_N` its whole seconds."""

    scenes: tuple[Scene, ...]
    scene_N: tuple[int, ...]
    time_N: tuple[float, ...]

    def start(self, scene: int) -> str:
        """Return the time of a scene's first frame, as the prompt writes it."""
        return clock(self.time_N[self.scene_N.index(scene)])


class ReelMaker:
    """Draws reels; the same random generator gives the same reel."""

    def __init__(
        self,
        recipe: SmallRecipe,
        maker: QuestionMaker,
        captions: Mapping[int, tuple[str, ...]],
        classes: Sequence[Named],
        own_row: Mapping[int, int],
        texts: Mapping[int, TextAnswers] | None = None,
    ) -> None:
        """Args:
        recipe: lengths of reels, questions on each.
        maker: of questions about one scene.
        captions: row of each captioned picture -> its captions.
        classes: that objects are named by.
        own_row: number of a class -> the row of its photograph, where one may be used.
        texts: row of each picture with a text drawn over it -> what is written there.
        """
        self._recipe, self._maker = recipe, maker
        self._captions, self._classes, self._own_row = captions, classes, own_row
        self._rows = list(captions)
        self._texts = dict(texts or {})
        self._text_rows = list(self._texts)

    def clip(self, rng: random.Random) -> Sample:
        """Return one scene in several frames, with the questions that one asks of a picture."""
        scene = self._named_scene(rng) if self._classes and rng.random() < 0.3 else self._captioned(rng)
        count = min(self._recipe.most_frames, MOST_OF_CLIP, int(2 ** rng.uniform(0.5, 4.5)))
        reel = Reel((scene,), (0,) * count, draw_times(rng, count))
        questions: list[NaturalQuestion] = []
        while len(questions) < self._recipe.questions:
            if rng.random() < 0.15:
                questions += self._at(rng, reel, 0)
            else:
                questions += [_of_video(asked) for asked in self._about_picture(rng, scene)]
        return self._sample(rng, reel, questions)

    def reel(self, rng: random.Random) -> Sample:
        """Return two scenes or more, with questions about times, order and what is seen when."""
        recipe = self._recipe
        most = recipe.most_scenes
        count = min(most, len(self._rows), int(2 ** rng.uniform(1, most.bit_length())))
        pictures = rng.sample(self._rows, count)
        scenes = [Scene(row, self._captions[row], Facts.of(self._captions[row])) for row in pictures]
        if self._classes and rng.random() < NAMED_REELS:
            for place in rng.sample(range(count), rng.randint(1, max(1, count // 3))):
                scenes[place] = self._named_scene(rng)
        if self._text_rows and rng.random() < TEXT_REELS:
            row = rng.choice(self._text_rows)
            scenes[rng.randrange(count)] = Scene(row, (), None, text=self._texts[row])
        shown: list[int] = []
        for scene in range(count):
            frames = rng.choices(list(FRAMES_OF_SCENE), list(FRAMES_OF_SCENE.values()))[0]
            shown += [scene] * min(frames, 1 + max(0, recipe.most_frames - len(shown) - (count - scene)))
        reel = Reel(tuple(scenes), tuple(shown), draw_times(rng, len(shown)))
        questions: list[NaturalQuestion] = []
        while len(questions) < recipe.questions:
            questions += self._about(rng, reel)
        return self._sample(rng, reel, questions)

    def _sample(self, rng: random.Random, reel: Reel, questions: Sequence[NaturalQuestion]) -> Sample:
        most = self._recipe.long_visual_tokens if rng.random() < LONG_REELS else self._recipe.most_visual_tokens
        shown = [reel.scenes[scene] for scene in reel.scene_N]
        asked = [as_typed(question, rng) for question in questions[: self._recipe.questions]]
        scales = draw_scales(rng, len(shown), most)
        return Sample(
            tuple(scene.row for scene in shown),
            tuple(
                text_scale(rng, scene.text.cap) if scene.text else scale
                for scene, scale in zip(shown, scales, strict=True)
            ),
            reel.time_N,
            tuple(pair for one in asked for pair in one.pairs),
            tuple(scene.named[0] if scene.named and scene.changed else -1 for scene in shown),
        )

    def _captioned(self, rng: random.Random) -> Scene:
        row = rng.choice(self._rows)
        return Scene(row, self._captions[row], Facts.of(self._captions[row]))

    def _named_scene(self, rng: random.Random) -> Scene:
        number = rng.randrange(len(self._classes))
        own = self._own_row.get(number)
        row = rng.choice(self._rows) if own is None else own
        return Scene(row, (), None, (number, self._classes[number]), changed=own is None)

    def _about_picture(self, rng: random.Random, scene: Scene) -> list[NaturalQuestion]:
        """Return questions about one scene as about a photograph."""
        if scene.text:
            return scene.text.questions(rng)
        return named(scene.named[1], rng) if scene.named else self._maker.all_of(scene.captions, rng)

    def _at(self, rng: random.Random, reel: Reel, scene: int) -> list[NaturalQuestion]:
        """Return the question what is shown at a time; of a text, what it says."""
        one = reel.scenes[scene]
        if one.text:
            return self._seen(rng, reel, scene)
        told = (one.thing,) if one.thing else rng.sample(one.captions, min(TOLD_AT, len(one.captions)))
        question = rng.choice(AT).format(_time_in(rng, reel, scene))
        return [captioned(question, told)._replace(kind="at")]

    def _about(self, rng: random.Random, reel: Reel) -> list[NaturalQuestion]:
        """Return one question about a reel, or none where its scenes do not answer it."""
        made: tuple[tuple[Callable[[random.Random, Reel, int], list[NaturalQuestion]], float], ...] = (
            (self._at, 0.28),
            (self._seen, 0.18),
            (self._only_there, 0.12),
            (_when, 0.24),
            (_first, 0.17),
            (_next, 0.05),
            (_anywhere, 0.04),
            (_count, 0.03),
            (_in_order, 0.03),
        )
        ask = rng.choices(*zip(*made, strict=True))[0]
        return ask(rng, reel, rng.randrange(len(reel.scenes)))

    def _seen(self, rng: random.Random, reel: Reel, scene: int) -> list[NaturalQuestion]:
        """Return a question about the picture that is shown at a time."""
        asked = self._about_picture(rng, reel.scenes[scene])
        return [_at_time(rng.choice(asked), _time_in(rng, reel, scene))] if asked else []

    def _only_there(self, rng: random.Random, reel: Reel, scene: int) -> list[NaturalQuestion]:
        """Return a question without a time about what one scene alone shows: "What animal is this?"."""
        one = reel.scenes[scene]
        if one.named:
            things = ["animal"] if is_animal(one.named[1]) and _has_no_other_animal(reel, scene) else []
        else:
            things = [thing for thing, where in _only_once(reel) if where == scene]
        words = {word for thing in things for word in (thing, plural(thing))}
        asked = [q for q in self._about_picture(rng, one) if words & set(q.question.lower().strip("?.").split())]
        return [_of_video(rng.choice(asked))] if asked else []


def _has_no_other_animal(reel: Reel, scene: int) -> bool:
    """Return whether all scenes but one surely show no animal."""
    others = [one for number, one in enumerate(reel.scenes) if number != scene]
    return all(
        one.facts.is_absent("animal") if one.facts else one.named is not None and not is_animal(one.named[1])
        for one in others
    )


def _when(rng: random.Random, reel: Reel, _scene: int) -> list[NaturalQuestion]:
    only = _only_once(reel)
    if not only:
        return []
    thing, scene = rng.choice(only)
    return [NaturalQuestion(rng.choice(WHEN).format(_a(thing)), reel.start(scene), "when")]


def _first(rng: random.Random, reel: Reel, _scene: int) -> list[NaturalQuestion]:
    only = _only_once(reel)
    pairs = [(a, b) for a in only for b in only if a[1] < b[1]]
    if not pairs:
        return []
    earlier, later = rng.choice(pairs)
    both = [_the(earlier[0]), _the(later[0])]
    rng.shuffle(both)
    return [NaturalQuestion(rng.choice(FIRST).format(*both), _the(earlier[0]), "first")]


def _next(rng: random.Random, reel: Reel, scene: int) -> list[NaturalQuestion]:
    """Return what comes after a scene, which is named by its time or by something that only it shows."""
    if scene + 1 == len(reel.scenes) or reel.scenes[scene + 1].text:
        return []
    following = reel.scenes[scene + 1]
    things = [_the(thing) for thing, where in _only_once(reel) if where == scene]
    at = rng.choice(things) if things and rng.random() < 0.6 else reel.start(scene)
    wording = rng.choice(NEXT[:2] if at in things else NEXT)
    return [NaturalQuestion(wording.format(at), as_sentence(following.thing or rng.choice(following.captions)), "next")]


def _anywhere(rng: random.Random, reel: Reel, _scene: int) -> list[NaturalQuestion]:
    """Return whether a thing is in the video at all, yes as often as no."""
    facts = [scene.facts for scene in reel.scenes if scene.facts is not None]
    if len(facts) < len(reel.scenes):
        return []
    yes = rng.random() < 0.5
    if yes:
        able = [thing for thing in ASKED if any(one.is_named(thing) for one in facts)]
    else:
        able = [thing for thing in ASKED if all(one.is_absent(thing) for one in facts)]
    if not able:
        return []
    return [NaturalQuestion(rng.choice(ANYWHERE).format(_a(rng.choice(able))), "Yes" if yes else "No", "anywhere")]


def _count(rng: random.Random, reel: Reel, _scene: int) -> list[NaturalQuestion]:
    return [NaturalQuestion(rng.choice(COUNT), str(len(reel.scenes)), "count scenes")]


def _in_order(rng: random.Random, reel: Reel, _scene: int) -> list[NaturalQuestion]:
    """Return the video told in order, where it is short: each scene's time and what it shows."""
    if len(reel.scenes) > IN_ORDER or any(scene.text for scene in reel.scenes):
        return []
    told = [
        f"{reel.start(number)} {as_sentence(scene.thing or min(scene.captions, key=len))}"
        for number, scene in enumerate(reel.scenes)
    ]
    return [NaturalQuestion(rng.choice(ORDER), " ".join(told), "in order")]


def _time_in(rng: random.Random, reel: Reel, scene: int) -> str:
    """Return a time of a scene: that of one of its frames, or one that is nearer to it than to all others."""
    frame = rng.choice([number for number, of in enumerate(reel.scene_N) if of == scene])
    time = reel.time_N[frame]
    if rng.random() < BETWEEN:
        near = [t for t in range(int(time) - 5, int(time) + 6) if t >= 0 and _nearest(reel.time_N, t) == frame]
        time = float(rng.choice(near))
    return clock(time)


def _nearest(times: Sequence[float], time: float) -> int | None:
    """Return the number of the frame nearest to a time; None where two are equally near."""
    after = bisect.bisect_left(times, time)
    near = sorted((abs(times[number] - time), number) for number in (after - 1, after) if 0 <= number < len(times))
    return None if len(near) > 1 and near[0][0] == near[1][0] else near[0][1]


def _at_time(asked: NaturalQuestion, time: str) -> NaturalQuestion:
    """Return a question about a picture as one about a moment: "Is there a dog at 0:07?"."""
    text = asked.question
    for place in (f" in {which} {word}" for which in ("the", "this") for word in PICTURE_WORDS):
        if place in text:
            return asked._replace(question=text.replace(place, f" at {time}", 1))
    end = text.find("?")
    if end < 0:
        return asked._replace(question=f"At {time}: {text}")
    return asked._replace(question=f"{text[:end]} at {time}{text[end:]}")


def _of_video(asked: NaturalQuestion) -> NaturalQuestion:
    """Return a question about a picture as one about a video."""
    for word in PICTURE_WORDS:
        asked = asked._replace(
            question=asked.question.replace(word, "video"),
            answer=asked.answer.replace(word, "video"),
            others=tuple(answer.replace(word, "video") for answer in asked.others),
        )
    return asked


def _only_once(reel: Reel) -> list[tuple[str, int]]:
    """Return the things that one scene shows and all others surely do not, with that scene.

    Where some scenes are known by an object's name only, or by a text, no more than these names is sure.
    """
    if any(scene.facts is None for scene in reel.scenes):
        told = " ".join(text for scene in reel.scenes for text in scene.captions).lower()
        things = [(scene.thing, number) for number, scene in enumerate(reel.scenes) if scene.thing]
        last: list[Any] = [thing.split()[-1].lower() for thing, _ in things]
        return [
            (thing, number)
            for (thing, number), word in zip(things, last, strict=True)
            if word not in told and last.count(word) == 1
        ]
    facts = [scene.facts for scene in reel.scenes if scene.facts is not None]
    found = []
    for thing in ASKED:
        where = [number for number, one in enumerate(facts) if one.is_named(thing)]
        if len(where) == 1 and all(one.is_absent(thing) for number, one in enumerate(facts) if number != where[0]):
            found.append((thing, where[0]))
    return found


def _a(thing: str) -> str:
    """Return a thing with its article; a named object has it already."""
    return thing if thing in UNCOUNTED or thing.startswith(("a ", "an ")) else with_article(thing)


def _the(thing: str) -> str:
    return f"the {thing.removeprefix('a ').removeprefix('an ')}"
