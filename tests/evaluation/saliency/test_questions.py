"""Questions without a time can be about one shot only; methods that read the question spend what they say."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from m3video.evaluation.footage_set import FootageSpec, make_clip_recipe
from m3video.evaluation.methods import COARSE, make_methods, read_by_answer, tokens_spent
from m3video.evaluation.records import Record
from m3video.evaluation.saliency.questions import reference_kind, without_time
from m3video.model.m3.saliency import QuestionAttention
from m3video.training.scenes import facts_at
from tests.evaluation.made import record, view


@pytest.mark.parametrize("index", range(8))
def test_what_is_asked_without_a_time_is_in_one_shot_only(index: int) -> None:
    recipe = make_clip_recipe(FootageSpec(seed=5, clips=8), index)
    found = without_time(recipe, random.Random(index), number=8)
    assert len(found) == len({r.question for r in found}) <= 8
    signs = sum(bool(facts_at(shot, 0.0).sign) for shot in recipe.clip.shots)
    for asked in found:
        assert reference_kind(asked) == "names no time"
        assert ":" not in asked.question
        assert asked.family not in ("background", "light", "present", "what", "count")
        assert not asked.family.startswith("sign") or signs == 1


@pytest.mark.parametrize("budget", [20, 144, 720])
@pytest.mark.parametrize("place", ["one", "none"])
def test_the_coarse_pass_is_spent_and_not_shown(budget: int, place: str) -> None:
    clip = view(3, 90, max_frames=12)
    looked: list[int] = []

    def attend(asked: Record, pts: Sequence[int], scales: Sequence[int]) -> QuestionAttention:
        looked[:] = scales
        relevance = np.full(len(pts), 1 / len(pts)) if place == "none" else np.eye(len(pts))[0]
        return QuestionAttention(relevance, 1.0)

    clip.attend = attend
    (method,) = make_methods(["saliency-attention"], max_frames=12)
    plan = method.plan(clip, budget, record(1))
    assert tokens_spent(plan) <= budget
    assert sum(piece.tokens for piece in plan if piece.how == COARSE) == sum(looked)
    assert tokens_spent(plan) - tokens_spent(read_by_answer(plan)) == sum(looked) > 0
    if place == "one":
        assert len(read_by_answer(plan)) == 1
    else:
        (adaptive,) = make_methods(["adaptive"], max_frames=12)
        assert read_by_answer(plan) == adaptive.plan(clip, budget - sum(looked), record(1))


def test_a_named_time_is_shown_alone_without_a_coarse_pass() -> None:
    clip = view(3, 90, max_frames=12)
    (method,) = make_methods(["saliency-times"], max_frames=12)
    plan = method.plan(clip, 144, record(1, question="what is it at 0:05", moment=5.0, reference="at 0:05"))
    assert plan == read_by_answer(plan)
    assert [int(clip.info.pts_seconds(piece.pts)) for piece in plan] == [5]
