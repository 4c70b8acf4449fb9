"""Reels: what is composed is what is asked about, and each kind of answer is counted right."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from m3video.evaluation.natural import reels
from m3video.evaluation.natural.asking import Case, Likelihood
from m3video.evaluation.natural.reels import Pool, Reel
from m3video.evaluation.natural.rows import Row
from m3video.model.m3.checkpoint import LoadedModel
from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.photos import Captioned
from m3video.utils.clock import clock
from tests.evaluation.natural.made import bench, write_set

DOG = ("A brown dog runs through the snow .", "A dog is running in the snow .") * 2
MEN = ("Two men sit on a bench .", "Two men are sitting on a wooden bench .") * 2
CAT = ("A cat sleeps on a couch .", "The cat is asleep on the couch .") * 2
KNOWN = [Captioned(f"{n}.jpg", (DOG, CAT, MEN, MEN)[n % 4]) for n in range(24)]


def made_reels(count: int, seeds: Sequence[int]) -> list[Reel]:
    pool = Pool(KNOWN)
    return [reels.compose(pool, count, random.Random(seed), f"{seed}-0", asked=6) for seed in seeds]


def test_two_things_are_in_one_scene_each() -> None:
    captions = {photo.image: photo.captions for photo in KNOWN}
    for one in made_reels(8, range(6)):
        facts = [Facts.of(captions[image]) for _, image in one.keys]
        assert len(one.keys) == len(set(one.keys)) == 8
        (thing, scene), (other, later) = one.things
        assert scene < later
        for name, where in ((thing, scene), (other, later)):
            assert [number for number, of in enumerate(facts) if of.is_named(name)] == [where]
            assert all(of.is_absent(name) for number, of in enumerate(facts) if number != where)


def test_pictures_without_such_a_pair_make_reels_without_things() -> None:
    alike = Pool([Captioned(f"{n}.jpg", MEN) for n in range(6)])
    assert reels.compose(alike, 4, random.Random(0), "0-0", asked=2).things == ()


def test_options_are_captions_of_the_reel() -> None:
    (four,) = made_reels(4, [3])
    assert len(four.asked) == 4  # no more scenes than there are
    for number, (scene, scenes) in enumerate(four.asked):
        assert sorted(scenes) == [0, 1, 2, 3]
        assert four.options(number)[scenes.index(scene)] == four.captions[scene]
    (twelve,) = made_reels(12, [3])
    assert [len(set(scenes)) for _, scenes in twelve.asked] == [8] * 6
    assert len({scenes.index(scene) for scene, scenes in twelve.asked}) > 1  # the right one has no place of its own


@pytest.fixture
def counted(
    tiny_chatml: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any]], list[Row]]:
    """Measure eight-scene reels with answers that are told."""
    rows = [{"image": photo.image, "captions": list(photo.captions)} for photo in KNOWN]
    write_set(tmp_path, "flickr8k/dev.jsonl", rows)
    monkeypatch.setattr(reels, "SCENES", (8,))

    def run(replaced: dict[str, Any]) -> list[Row]:
        for name, value in replaced.items():
            monkeypatch.setattr(reels, name, value)
        return reels.reels(bench(tiny_chatml, tmp_path, limit=2))

    return run


def values(rows: Sequence[Row]) -> dict[str, float]:
    return {row.what.removesuffix(", 8 scenes"): row.interval.value for row in rows}


def test_what_is_shown_when_beside_the_picture_alone(counted: Callable[[dict[str, Any]], list[Row]]) -> None:
    """In reels the right caption is likeliest; alone in every other picture."""
    turns = iter(range(10_000))

    def likelihoods(loaded: LoadedModel, cases: Sequence[Case], options: Any) -> list[list[list[Likelihood]]]:
        found: list[list[list[Likelihood]]] = []
        for case, of_case in zip(cases, options, strict=True):
            found.append([])
            for question, texts in zip(case.questions, of_case, strict=True):
                right = (
                    truth[case.times_seconds, question] if case.times_seconds else truth[tuple(texts), len(case.blocks)]
                )
                is_right = bool(case.times_seconds) or next(turns) % 2 == 0
                best = right if is_right else (right + 1) % len(texts)
                # A long answer's total is lower: it is the mean that counts.
                found[-1].append(
                    [Likelihood(-8.0, 10) if n == best else Likelihood(-2.0, 2) for n in range(len(texts))]
                )
        return found

    truth: dict[Any, int] = {}
    compose = reels.compose

    def noted(*args: Any, **more: Any) -> Reel:
        one = compose(*args, **more)
        for number, (scene, scenes) in enumerate(one.asked):
            place = scenes.index(scene)
            truth[one.times, reels.AT[0].format(clock(one.times[scene]))] = place
            truth[tuple(one.options(number)), 1] = place
        return one

    rows = counted({"answer_likelihoods": likelihoods, "compose": noted, "greedy_answers": says("")})
    found = values(rows)
    assert found["what is shown at"] == 1
    assert found["the picture alone"] == pytest.approx(0.5, abs=0.01)
    assert found["reel over picture alone"] == pytest.approx(2)
    assert (rows[0].interval.answers, rows[0].interval.clips) == (24, 4)  # six scenes, two reels, two seeds
    assert rows[0].beside == {"chance": 1 / 8, "seed 0": 1, "seed 1": 1}


def says(*texts: str) -> Any:
    """Answers that say the same to the first, the second, ... question of every case."""

    def answers(loaded: LoadedModel, cases: Sequence[Case], **_: Any) -> list[list[str]]:
        return [[texts[n % len(texts)] for n in range(len(case.questions))] for case in cases]

    return answers


def unsure(loaded: LoadedModel, cases: Sequence[Case], options: Any) -> list[list[list[Likelihood]]]:
    return [[[Likelihood(-1.0, 1) for _ in texts] for texts in of_case] for of_case in options]


def test_when_and_first_are_counted(counted: Callable[[dict[str, Any]], list[Row]]) -> None:
    """Told is the earlier thing's time to every "When", and the first-named thing to every "Which"."""
    things: dict[Any, tuple[tuple[str, int], ...]] = {}
    compose = reels.compose

    def noted(*args: Any, **more: Any) -> Reel:
        one = compose(*args, **more)
        things[one.times] = one.things
        return one

    def answers(loaded: LoadedModel, cases: Sequence[Case], **_: Any) -> list[list[str]]:
        found = []
        for case in cases:
            assert case.times_seconds is not None
            earliest = clock(case.times_seconds[things[case.times_seconds][0][1]])
            named = [re.search(r"first, (the \w+)", question) for question in case.questions]
            found.append([f"{one[1]}." if one else f"At {earliest}." for one in named])
        return found

    found = values(counted({"answer_likelihoods": unsure, "greedy_answers": answers, "compose": noted}))
    assert found["when does it appear"] == 0.5
    assert found["which is first"] == 0.5


def test_answers_are_read() -> None:
    assert reels.seconds_in("At 1:05.") == 65
    assert reels.seconds_in("a dog") is None
    assert reels.names_first("The dog is.", "dog", "cat")
    assert not reels.names_first("The dog and the cat", "dog", "cat")
    assert not reels.names_first("A hotdog", "dog", "cat")


@pytest.mark.parametrize(("budget", "kinds"), [(32, {1}), (700, {9, 36}), (4000, {36, 144}), (20_000, {576})])
def test_scales_fill_a_budget(budget: int, kinds: set[int]) -> None:
    scales = reels.spread_scales(32, budget, random.Random(0))
    assert set(scales) == kinds
    assert len(scales) == 32
    finer = {1: 8, 9: 27, 36: 108}
    assert budget >= sum(scales) > budget - finer.get(min(kinds), budget)
    with pytest.raises(ValueError, match="do not show"):
        reels.spread_scales(32, 31, random.Random(0))
