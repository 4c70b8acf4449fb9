"""Every method on every clip: never more than the budget, real frames in order, and what each is known for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.errors import UsageError
from m3video.evaluation.methods import (
    DEFAULT_METHODS,
    GRANULARITY_FRAMES,
    METHOD_NAMES,
    SALIENT,
    ShownFrame,
    make_methods,
    read_by_answer,
    tokens_spent,
    variants,
)
from m3video.types import SCALES
from tests.evaluation.made import record, view

LOCAL = record(1, question="what at 0:02", moment=2.4, reference="at 0:02")
GLOBAL = record(2, localised=False)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 120),
    st.integers(1, 40),
    st.integers(1, 4000),
    st.sampled_from([LOCAL, GLOBAL]),
)
def test_no_method_exceeds_its_budget(seed: int, frames: int, max_frames: int, budget: int, about: object) -> None:
    clip = view(seed, frames, max_frames=max_frames, moments=(2.4, 0.1))
    methods, plans = make_methods(METHOD_NAMES, max_frames=max_frames), {}
    for method in methods:
        plan = plans[method.name] = method.plan(clip, budget, about)
        pts = [piece.pts for piece in read_by_answer(plan)]
        assert len(pts) <= max_frames, method.name
        assert pts == sorted(set(pts)), method.name
        assert set(pts) <= set(clip.stats.pts_N.tolist()), method.name
        assert all(1 <= piece.tokens <= 576 for piece in plan), method.name
        assert all(piece.tokens in SCALES for piece in plan if piece.how == "pool"), method.name
        if method.has_budget:
            assert tokens_spent(plan) <= budget, method.name
    # A plan depends on the clip alone, not on which methods looked at it before.
    again = view(seed, frames, max_frames=max_frames, moments=(2.4, 0.1))
    for method in reversed(methods):
        assert method.plan(again, budget, about) == plans[method.name], method.name


def plan_of(
    name: str,
    budget: int,
    *,
    frames: int = 200,
    max_frames: int = 32,
    seed: int = 3,
    about: object = LOCAL,
    moments: tuple[float, ...] = (),
) -> tuple[ShownFrame, ...]:
    (method,) = [m for m in make_methods(METHOD_NAMES, max_frames=max_frames) if m.name == name]
    return method.plan(view(seed, frames, max_frames=max_frames, moments=moments), budget, about)


def test_uniform_mixes_two_adjacent_scales_to_spend_the_budget() -> None:
    plan = plan_of("uniform@16", 720)
    # 16 frames at 36 cost 576; one of them at 144 adds 108: 684. A second would not fit.
    assert sorted(piece.tokens for piece in plan) == [36] * 15 + [144]
    assert tokens_spent(plan_of("uniform@8", 720)) == 720
    assert [piece.tokens for piece in plan_of("uniform@8", 8 * 576)] == [576] * 8
    assert [piece.tokens for piece in plan_of("uniform@4", 2 * 9 + 2)] == [1, 9, 1, 9]


@given(st.integers(2, 3000), st.sampled_from([2, 4, 8, 16, 32]))
def test_uniform_could_not_raise_one_more_frame(budget: int, frames: int) -> None:
    plan = plan_of(f"uniform@{frames}", budget)
    tokens = sorted({piece.tokens for piece in plan})
    assert len(tokens) <= 2
    if len(tokens) == 2:
        assert SCALES.index(tokens[1]) == SCALES.index(tokens[0]) + 1
    if tokens[0] < 576:
        assert tokens_spent(plan) + SCALES[SCALES.index(tokens[0]) + 1] - tokens[0] > budget


def test_finer_frames_of_a_mix_are_spread() -> None:
    places = np.flatnonzero([piece.tokens == 36 for piece in plan_of("uniform@32", 32 * 9 + 4 * 27)])
    assert len(places) == 4
    assert np.ptp(np.diff(places)) <= 1


@pytest.mark.parametrize("scale", SCALES)
def test_fixed_shows_as_many_as_fit(scale: int) -> None:
    plan = plan_of(f"fixed-{scale}", 2000)
    assert [piece.tokens for piece in plan] == [scale] * min(32, 2000 // scale)


def test_llava_is_fixed_at_576_and_names_are_known() -> None:
    assert variants("llava", max_frames=32)[0].name == "fixed-576"
    assert plan_of("fixed-576", 575) == ()
    with pytest.raises(UsageError, match="did you mean adaptive"):
        make_methods(["adaptve"], max_frames=32)
    names = [method.name for method in make_methods(METHOD_NAMES, max_frames=32)]
    assert len(names) == len(set(names))
    assert set(DEFAULT_METHODS) == set(METHOD_NAMES) - {"llava", *SALIENT}
    assert {m.name for m in make_methods(["uniform"], max_frames=5)} == {"uniform@2", "uniform@4", "uniform@5"}


def test_resample_shows_256_tokens_a_frame() -> None:
    assert [piece.tokens for piece in plan_of("resample", 1000)] == [256] * 3


@pytest.mark.parametrize("name", ["prune@16", "merge@16", "prune-unusual@16"])
def test_pruning_and_merging_spend_all(name: str) -> None:
    plan = plan_of(name, 725)
    assert tokens_spent(plan) == 725
    assert {piece.tokens for piece in plan} == {45, 46}
    assert tokens_spent(plan_of(name, 16 * 576 + 5)) == 16 * 576


@given(st.integers(40, 3000), st.integers(0, 1000))
def test_proportional_spends_what_it_can(budget: int, seed: int) -> None:
    plan = plan_of("proportional", budget, seed=seed, max_frames=16)
    left = budget - tokens_spent(plan)
    # What is left would not raise the cheapest frame by one scale.
    steps = [SCALES[SCALES.index(p.tokens) + 1] - p.tokens for p in plan if p.tokens < 576]
    steps += [1] * (16 - len(plan))
    assert not steps or left < min(steps)


def test_proportional_follows_worth() -> None:
    clip = view(3, 200, max_frames=16)
    worth = clip.utility_NS[:, -1]
    plans = {piece.pts: piece.tokens for piece in plan_of("proportional", 720, max_frames=16)}
    tokens = np.array([plans.get(int(p), 0) for p in clip.candidates.pts_N])
    assert tokens[worth.argmax()] == tokens.max() > tokens[worth.argmin()]


def test_the_oracle_knows_the_frame_and_pays_one_token_for_the_others() -> None:
    plan = plan_of("oracle-144", 300)
    clip = view(3, 200, max_frames=32)
    assert [piece.pts for piece in plan if piece.tokens == 144] == [clip.nearest(2.4)]
    assert {piece.tokens for piece in plan} == {1, 144}
    assert plan_of("oracle-144", 143) == ()
    assert {piece.tokens for piece in plan_of("oracle-36", 300, about=GLOBAL)} == {36}


def test_granularity_always_shows_the_frame_that_is_asked_about() -> None:
    moments = tuple(np.linspace(0.1, 30, 20).tolist())
    clip = view(3, 200, max_frames=32)
    plans = []
    for moment in moments:
        about = record(1, moment=moment)
        plan = plan_of("granularity-9", 0, about=about, moments=moments)
        assert clip.nearest(moment) in [piece.pts for piece in plan]
        assert len(plan) == GRANULARITY_FRAMES
        plans.append(plan)
    assert len(set(plans)) == 3, "questions next to each other share their frames"
    fine = plan_of("granularity-576", 0, about=record(1, moment=moments[0]), moments=moments)
    assert [piece.pts for piece in fine] == [piece.pts for piece in plans[0]], "only the scale differs"


def test_granularity_fits_a_short_context() -> None:
    (method,) = [m for m in variants("granularity", max_frames=32, context=2048) if m.name == "granularity-576"]
    plan = method.plan(view(3, 200, max_frames=32), 0, LOCAL)
    assert len(plan) == 3
    assert tokens_spent(plan) == 3 * 576


def test_adaptive_is_the_products_own_plan() -> None:
    clip = view(3, 200, max_frames=32)
    planned = clip.planned(720)
    assert [(p.pts, p.tokens) for p in plan_of("adaptive", 720)] == [(f.pts, f.scale) for f in planned.frames]
