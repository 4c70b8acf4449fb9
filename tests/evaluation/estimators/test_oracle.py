"""What a frame needs: guessing is worth nothing, a slip is no need, groups count alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.evaluation.estimators import oracle
from m3video.evaluation.estimators.oracle import (
    AskedFrame,
    chances,
    measured_utility,
    monotone,
    oracle_scale,
    questions_about,
    weights,
)
from m3video.evaluation.footage_set import FootageSpec, make_clip_recipe
from m3video.types import SCALES
from tests.evaluation.made import record

CURVES = st.lists(st.floats(-0.5, 1.0), min_size=5, max_size=5).map(np.array)


@settings(max_examples=100)
@given(CURVES)
def test_steady_is_the_nearest_curve_that_never_falls(curve: np.ndarray) -> None:
    found = monotone(curve)
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    clipped = curve.clip(0, 1)
    if (np.diff(clipped) >= 0).all():
        assert found == pytest.approx(clipped)


def test_steady_means_what_violates_the_order() -> None:
    assert monotone(np.array([0.2, 0.8, 0.6, 0.7, 0.9])).tolist() == pytest.approx([0.2, 0.7, 0.7, 0.7, 0.9])


@pytest.mark.parametrize(
    ("curve", "scale"),
    [
        ([1, 1, 1, 1, 1], 1),
        ([0, 0, 0, 0, 0], 1),
        ([0.5, 1, 1, 1, 1], 9),
        ([0, 0, 0, 0, 1], 576),
        ([0.6, 0.6, 0.97, 1, 1], 36),
        ([0.5, 1, 0.9, 1, 0.9], 9),
        ([1, 0, 0, 0, 0], 1),
    ],
)
def test_the_oracle_scale_is_the_smallest_that_is_as_good_as_any(curve: list[float], scale: int) -> None:
    assert oracle_scale(np.array(curve, float)) == scale


def test_groups_count_alike_and_families_within_them() -> None:
    families = ["light", "background", "sign word", "tile 6x6", "tile 6x6"]
    found = weights(families)
    assert found.sum() == pytest.approx(1)
    assert found.tolist() == pytest.approx([0.25, 0.25, 0.25, 0.125, 0.125])


def asked(answer: str, said: list[str], *, clip: str = "c", family: str = "background", number: int = 0) -> AskedFrame:
    about = replace(record(number, clip=clip, answer=answer), family=family)
    return AskedFrame((about,), (tuple(said),))


def test_an_answer_that_never_changes_is_worth_nothing() -> None:
    """A model that says "red" whatever it sees is right as often as "red" is true."""
    truth = ["red", "blue", "green", "yellow"]
    parrots = [asked(t, ["red"] * 5, clip=f"c{i}", number=i) for i, t in enumerate(truth)]
    chance = chances(parrots)
    assert chance["background"] == pytest.approx(0.25)
    total = np.mean([measured_utility(one, chance) for one in parrots], axis=0)
    assert total == pytest.approx(0, abs=1e-9)
    knows = [asked(t, ["?"] * 2 + [t] * 3, clip=f"c{i}", number=i) for i, t in enumerate(truth)]
    total = np.mean([measured_utility(one, chances(knows)) for one in knows], axis=0)
    assert total[2:] == pytest.approx(1)
    assert (total[:2] <= 0).all()


def test_a_question_with_one_possible_answer_does_not_count() -> None:
    sure = [asked("there is none", ["there is none"] * 5, clip=f"c{i}", number=i) for i in range(3)]
    chance = chances(sure)
    assert chance["background"] > oracle.SURE_GUESS
    other = replace(record(9, answer="night"), family="light")
    both = AskedFrame((*sure[0].records, other), (*sure[0].texts_QS, ("day", "day", "night", "night", "night")))
    assert measured_utility(both, {**chance, "light": 0.5}).tolist() == pytest.approx([-1, -1, 1, 1, 1])


def test_questions_are_about_one_shot_each_and_differ() -> None:
    recipe = make_clip_recipe(FootageSpec(seed=7, clips=2), 1)
    found = questions_about(recipe, seed=7)
    assert found == questions_about(recipe, seed=7)
    assert 1 <= len(found) <= len(recipe.clip.shots)
    for (start, end), records in found.items():
        assert 0 <= start < end <= recipe.clip.duration + 1e-6
        assert all("in frame 1" in r.question and not r.reference and r.evidence == (start, end) for r in records)
        assert len({(r.family, r.question) for r in records}) == len(records)
    assert {group for records in found.values() for group in {r.group for r in records}} >= {"coarse"}
    assert len(SCALES) == 5
