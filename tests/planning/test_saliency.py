"""What a question is about: times it names, frames that show the same, and when it is about none of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3video.planning.allocate import allocate
from m3video.planning.saliency import alike, at_times, by_attention, coarse_scales, named_times, question_utility
from m3video.types import Selection


def by_tenths(pts: int) -> float:
    """Ticks of a tenth of a second, on a clock of which 0 is pts 0."""
    return pts / 10


def selection(times: list[float], shots: list[tuple[float, float]]) -> Selection:
    """Candidates at these seconds in these shots."""
    pts = [round(10 * time) for time in times]
    spans = tuple((round(10 * start), round(10 * end)) for start, end in shots)
    shot = [next(n for n, (start, end) in enumerate(spans) if start <= p < end) for p in pts]
    n = np.arange(len(pts))
    return Selection(
        index_N=n,
        pts_N=pts,
        shot_N=shot,
        reason_N=("shot",) * len(pts),
        shots=spans,
        began_M=("cut",) * len(spans),
        method="shots",
    )


FOUR = selection([0.5, 2.5, 6.0, 9.0], [(0, 5), (5, 8), (8, 12)])


def test_a_shot_and_a_novel_candidate_begin_something_new() -> None:
    assert alike(FOUR, np.array([1.0, 0.02, 0.02, 0.5])).tolist() == [0, 0, 1, 2]
    assert alike(FOUR, np.array([1.0, 0.9, 1.0, 1.0])).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("what is shown at 0:06", [0, 0, 1, 0]),
        ("what is shown at 0:05", [0, 0, 1, 0]),  # the candidate of its own shot, though another is as near
        ("at 0:02 and at 0:08?", [0, 0.5, 0, 0.5]),
        ("what is shown at 0:00:09", [0, 0, 0, 1]),
        ("what is shown", None),
        ("what is shown at 1:06", None),
        ("what happens before 0:06", None),
        ("when, after 0:02, is there a sign", None),
    ],
)
def test_named_times_raise_the_candidates_of_their_shot(question: str, expected: list[float] | None) -> None:
    share = at_times(question, FOUR, by_tenths)
    assert (None if share is None else share.tolist()) == expected


def test_a_time_in_a_shot_without_a_candidate_goes_to_the_nearest() -> None:
    share = at_times("at 0:06", selection([0.5, 9.0], [(0, 5), (5, 8), (8, 12)]), by_tenths)
    assert share is not None
    assert share.tolist() == [0, 1]


def test_times_are_on_the_clock_that_is_given() -> None:
    late = at_times("what is shown at 0:01", FOUR, lambda pts: pts / 10 - 5)
    assert late is not None
    assert late.tolist() == [0, 0, 1, 0]


def test_times_in_words() -> None:
    assert named_times("is it red at 00:00:07,500?") == [7]
    assert named_times("at 0:07,0:09 or 0:11, 500 men") == [7, 9, 11]
    assert named_times("is it red at 1:02:03 or at 0:07?") == [3723, 7]
    assert named_times("what is in row 3") == []


def test_attention_on_frames_that_show_the_same_is_a_focus() -> None:
    groups = np.array([0, 0, 1, 2])
    share = by_attention(np.array([0.4, 0.4, 0.15, 0.05]), groups, moved=0.5)
    assert share is not None
    assert share == pytest.approx(np.array([0.4, 0.4, 0.15, 0]) / 0.95)


@pytest.mark.parametrize(
    ("relevance", "moved"),
    [([0.25, 0.25, 0.25, 0.25], 0.9), ([0.35, 0.3, 0.35, 0.0], 0.9), ([1.0, 0.0, 0.0, 0.0], 0.05)],
    ids=["flat", "two places", "hardly moved"],
)
def test_a_question_about_the_whole_video_has_no_focus(relevance: list[float], moved: float) -> None:
    assert by_attention(np.array(relevance), np.array([0, 1, 2, 3]), moved=moved) is None


def test_one_frame_stands_for_those_that_show_the_same() -> None:
    shown = np.tile([0.2, 0.4, 0.6, 0.8, 1.0], (4, 1))
    utilities = question_utility(
        shown, np.array([1, 0.02, 1, 1]), np.array([0, 0, 1, 2]), np.array([0.2, 0.3, 0.5, 0.0])
    )
    assert utilities[1] == pytest.approx(0.5 * shown[1])
    assert utilities[2] == pytest.approx(0.5 * shown[2])
    assert (utilities[[0, 3]] == 0).all()
    equal = question_utility(shown, np.array([0.02, 1, 1, 1]), np.array([0, 0, 1, 2]), np.array([0.5, 0.5, 0, 0]))
    assert equal[:, 0].tolist() == [0, 0.2, 0, 0]
    assert (allocate(utilities, budget=2000).scale_N > 0).tolist() == [False, True, True, False]


@given(st.integers(1, 3000), st.integers(1, 40), st.integers(0, 99))
def test_the_coarse_pass_takes_a_quarter_at_most(budget: int, candidates: int, seed: int) -> None:
    utilities = np.cumsum(np.random.default_rng(seed).random((candidates, 5)), axis=1)
    scales = coarse_scales(utilities, budget=budget)
    assert scales.sum() <= budget / 4
    assert scales.max() <= 9
