"""Reels of several scenes: what is shown when, when a thing appears, and which comes first.

A reel is composed as in training: photographs with times, each at a scale of its own. Two of its scenes show a thing
that no other one shows, so that every reel can be asked when things appear.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from m3video.evaluation.natural.asking import Case, answer_likelihoods, greedy_answers, likeliest
from m3video.evaluation.natural.rows import MIXED, Row, quotient, share
from m3video.evaluation.natural.sight import Bench
from m3video.training.natural import photos
from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.features import Key
from m3video.training.natural.nouns import UNCOUNTED, with_article
from m3video.training.natural.photos import Captioned
from m3video.training.natural.question_style import as_sentence
from m3video.training.natural.questions import ASKED
from m3video.training.natural.reel_frames import draw_scales, draw_times
from m3video.training.natural.reels import AT, FIRST, WHEN
from m3video.types import SCALES
from m3video.utils.clock import CLOCK, clock, whole_seconds

SCENES = (4, 8, 16, 32)
MOST_TOKENS = 700
"""Of a reel with mixed scales."""
REELS = 5
"""Of each number of scenes and each seed, by default."""
SEEDS = 2
OPTIONS = 8
"""Captions to choose from; all four where there are four scenes."""
ASKED_SCENES = 6
"""Of each reel."""
TRIES = 200
"""Of finding two things that one scene each shows."""
ANSWER_TOKENS = 10
BUDGETS = (700, 4000)
BUDGET_SCENES, BUDGET_REELS = 32, 2
"""Scenes, and reels of each seed by default, that are shown at each budget."""
ALONE = "What is shown?"


@dataclass(frozen=True, slots=True)
class Reel:
    """Scenes with one caption each.

    Attributes:
        name: seed and number.
        keys, scales, times: of the scenes.
        captions: one of each scene's.
        asked: the scenes that are asked about, each with the scenes whose captions are the options.
        things: two things of which one scene each shows one, and all others surely do not, with those scenes in order
            of time; none where the pictures have no such pair.
    """

    name: str
    keys: tuple[Key, ...]
    scales: tuple[int, ...]
    times: tuple[float, ...]
    captions: tuple[str, ...]
    asked: tuple[tuple[int, tuple[int, ...]], ...]
    things: tuple[tuple[str, int], ...]

    def options(self, number: int) -> list[str]:
        """Return the captions to choose from, for one of `asked`."""
        return [self.captions[scene] for scene in self.asked[number][1]]

    def at_case(self, bench: Bench, scales: Sequence[int] | None = None) -> Case:
        """Return the reel, asked what is shown when, for every one of `asked`."""
        return self._case(bench, [AT[0].format(clock(self.times[scene])) for scene, _ in self.asked], scales)

    def alone_cases(self, bench: Bench) -> list[Case]:
        """Return every scene of `asked` as a single picture at the scale it has in the reel."""
        return [Case((bench.sight.block(self.keys[scene], self.scales[scene]),), (ALONE,)) for scene, _ in self.asked]

    def case(self, bench: Bench, questions: Sequence[str]) -> Case:
        """Return the reel with questions."""
        return self._case(bench, questions, None)

    def _case(self, bench: Bench, questions: Sequence[str], scales: Sequence[int] | None) -> Case:
        blocks = [bench.sight.block(key, scale) for key, scale in zip(self.keys, scales or self.scales, strict=True)]
        return Case(tuple(blocks), tuple(questions), self.times)


class Pool:
    """Pictures that reels are composed of."""

    def __init__(self, known: Sequence[Captioned]) -> None:
        self.known = list(known)
        facts = [Facts.of(photo.captions) for photo in self.known]
        self._named = {thing: [n for n, one in enumerate(facts) if one.is_named(thing)] for thing in ASKED}
        self._absent = {thing: {n for n, one in enumerate(facts) if one.is_absent(thing)} for thing in ASKED}

    def with_two_things(self, count: int, rng: random.Random) -> tuple[list[Captioned], tuple[tuple[str, int], ...]]:
        """Return pictures of which one shows a thing and another another thing, in random order, and those things."""
        able = [thing for thing in ASKED if self._named[thing]]
        for _ in range(TRIES if len(able) > 1 else 0):
            one, other = rng.sample(able, 2)
            shows_one = sorted(self._absent[other].intersection(self._named[one]))
            shows_other = sorted(self._absent[one].intersection(self._named[other]))
            neither = sorted(self._absent[one] & self._absent[other])
            if shows_one and shows_other and len(neither) >= count - 2:
                first, second = rng.choice(shows_one), rng.choice(shows_other)
                scenes = [first, second, *rng.sample(neither, count - 2)]
                rng.shuffle(scenes)
                things = sorted([(one, scenes.index(first)), (other, scenes.index(second))], key=lambda pair: pair[1])
                return [self.known[number] for number in scenes], tuple(things)
        return rng.sample(self.known, count), ()


def compose(pool: Pool, count: int, rng: random.Random, name: str, *, asked: int) -> Reel:
    """Return a reel of `count` scenes, with `asked` of them asked about."""
    scenes, things = pool.with_two_things(count, rng)
    about = sorted(rng.sample(range(count), min(asked, count)))
    options = []
    for scene in about:
        others = [other for other in range(count) if other != scene]
        shown = [scene, *rng.sample(others, min(OPTIONS, count) - 1)]
        rng.shuffle(shown)  # of equally likely options the first is taken
        options.append(tuple(shown))
    return Reel(
        name,
        tuple(("flickr8k", photo.image) for photo in scenes),
        draw_scales(rng, count, MOST_TOKENS),
        draw_times(rng, count),
        tuple(as_sentence(rng.choice(photo.captions)) for photo in scenes),
        tuple(zip(about, options, strict=True)),
        things,
    )


def reels(bench: Bench) -> list[Row]:
    """Measure reels of 4 to 32 scenes with mixed scales, of two seeds.

    `what is shown at`: of the captions of eight scenes (four) the right one is the likeliest per token. Beside it the
    same choice for the picture alone at the same scale, asked without a time, and the first over the second.
    """
    pool = Pool(list(photos.flickr8k(bench.photos, bench.part)))
    rows = []
    for count in SCENES:
        made = []
        for seed in range(bench.seed, bench.seed + SEEDS):
            rng = random.Random(f"{seed} reels {count}")
            made += [
                compose(pool, count, rng, f"{seed}-{number}", asked=ASKED_SCENES) for number in range(bench.most(REELS))
            ]
        for scale in SCALES:
            keys = [key for one in made for key, own in zip(one.keys, one.scales, strict=True) if own == scale]
            bench.sight.prepare(keys, [scale])
        rows += [*_at(bench, made, count), *_when(bench, made, count), *_first(bench, made, count)]
    return rows


def _at(bench: Bench, made: Sequence[Reel], count: int) -> list[Row]:
    in_reel = right_options(bench, [one.at_case(bench) for one in made], made)
    alone_cases = [case for one in made for case in one.alone_cases(bench)]
    alone_options = [[one.options(number)] for one in made for number in range(len(one.asked))]
    found = answer_likelihoods(bench.loaded, alone_cases, alone_options)
    places = [scenes.index(scene) for one in made for scene, scenes in one.asked]
    alone = [float(likeliest(of_case[0]) == place) for of_case, place in zip(found, places, strict=True)]
    clusters = [one.name for one in made for _ in one.asked]
    by_seed: dict[str, list[float]] = {}
    for name, right in zip(clusters, in_reel, strict=True):
        by_seed.setdefault(f"seed {name.partition('-')[0]}", []).append(right)
    beside = {"chance": 1 / min(OPTIONS, count), **{name: sum(own) / len(own) for name, own in by_seed.items()}}
    return [
        Row("reels", f"what is shown at, {count} scenes", MIXED, share(in_reel, clusters), beside),
        Row("reels", f"the picture alone, {count} scenes", MIXED, share(alone, clusters), {"chance": beside["chance"]}),
        Row("reels", f"reel over picture alone, {count} scenes", MIXED, quotient(in_reel, alone, clusters)),
    ]


def right_options(bench: Bench, cases: Sequence[Case], made: Sequence[Reel]) -> list[float]:
    """Return 1 for each asked scene of each reel whose own caption is the likeliest option, else 0."""
    options = [[one.options(number) for number in range(len(one.asked))] for one in made]
    found = answer_likelihoods(bench.loaded, cases, options)
    return [
        float(scenes[likeliest(of_question)] == scene)
        for one, of_case in zip(made, found, strict=True)
        for (scene, scenes), of_question in zip(one.asked, of_case, strict=True)
    ]


def _when(bench: Bench, made: Sequence[Reel], count: int) -> list[Row]:
    """Measure "When does a dog appear?" for things that one scene alone shows."""
    asked = [one for one in made if one.things]
    cases = [one.case(bench, [WHEN[0].format(_a(thing)) for thing, _ in one.things]) for one in asked]
    answers = greedy_answers(bench.loaded, cases, max_new_tokens=ANSWER_TOKENS)
    right, clusters = [], []
    for one, of_case in zip(asked, answers, strict=True):
        for (_, scene), text in zip(one.things, of_case, strict=True):
            right.append(float(seconds_in(text) == int(one.times[scene])))
            clusters.append(one.name)
    return [Row("reels", f"when does it appear, {count} scenes", MIXED, share(right, clusters), {"chance": 1 / count})]


def _first(bench: Bench, made: Sequence[Reel], count: int) -> list[Row]:
    """Measure "Which is shown first?"; each pair is asked about in both orders."""
    asked = [one for one in made if one.things]
    pairs = [[thing for thing, _ in one.things] for one in asked]
    cases = [
        one.case(bench, [FIRST[0].format(*(f"the {thing}" for thing in words)) for words in (pair, pair[::-1])])
        for one, pair in zip(asked, pairs, strict=True)
    ]
    answers = greedy_answers(bench.loaded, cases, max_new_tokens=ANSWER_TOKENS)
    right = [float(names_first(text, *pair)) for pair, of_case in zip(pairs, answers, strict=True) for text in of_case]
    clusters = [one.name for one in asked for _ in range(2)]
    return [Row("reels", f"which is first, {count} scenes", MIXED, share(right, clusters), {"chance": 0.5})]


def _a(thing: str) -> str:
    return thing if thing in UNCOUNTED else with_article(thing)


def seconds_in(text: str) -> int | None:
    """Return the first time in an answer, in whole seconds; None where it names none."""
    found = CLOCK.search(text)
    return whole_seconds(found[0]) if found else None


def names_first(text: str, wanted: str, other: str) -> bool:
    """Return whether an answer names one thing and not the other."""
    return _names(text, wanted) and not _names(text, other)


def _names(text: str, thing: str) -> bool:
    return re.search(rf"\b{re.escape(thing)}\b", text.lower()) is not None


def budgets(bench: Bench) -> list[Row]:
    """Measure the same reels of 32 scenes at about 700 and about 4,000 visual tokens, two neighbouring scales each."""
    pool = Pool(list(photos.flickr8k(bench.photos, bench.part)))
    made = []
    for seed in range(bench.seed, bench.seed + SEEDS):
        rng = random.Random(f"{seed} budgets")
        made += [
            compose(pool, BUDGET_SCENES, rng, f"{seed}-{number}", asked=2 * ASKED_SCENES)
            for number in range(bench.most(BUDGET_REELS))
        ]
    rows = []
    for budget in BUDGETS:
        right: list[float] = []
        for one in made:
            scales = spread_scales(BUDGET_SCENES, budget, random.Random(f"{one.name} {budget}"))
            right += right_options(bench, [one.at_case(bench, scales)], [one])
        clusters = [one.name for one in made for _ in one.asked]
        what = f"what is shown at, {BUDGET_SCENES} scenes, {budget} tokens"
        rows.append(Row("budgets", what, MIXED, share(right, clusters), {"chance": 1 / OPTIONS}))
    return rows


def spread_scales(count: int, budget: int, rng: random.Random) -> tuple[int, ...]:
    """Return a scale for each of `count` frames, of two neighbouring ones, with at most `budget` tokens together.

    Raises:
        ValueError: the budget is less than one token for each frame.
    """
    if budget < count * SCALES[0]:
        raise ValueError(f"{budget} tokens do not show {count} frames")
    low = max(number for number, scale in enumerate(SCALES) if scale * count <= budget)
    if low == len(SCALES) - 1:
        return (SCALES[-1],) * count
    fine = (budget - SCALES[low] * count) // (SCALES[low + 1] - SCALES[low])
    scales = [SCALES[low + 1]] * fine + [SCALES[low]] * (count - fine)
    rng.shuffle(scales)
    return tuple(scales)
