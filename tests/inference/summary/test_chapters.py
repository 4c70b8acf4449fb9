"""Chapters cover the video, keep to their limits, and break where the picture changes most."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.inference.summary.chapters import find_spans
from m3video.types import FLAG_CORRUPT, FrameStats, seconds


def stats_of(shots: list[tuple[int, int]], *, step: int = 1000, corrupt: frozenset[int] = frozenset()) -> FrameStats:
    """Still shots of (grey level, frames), a frame every `step` ms."""
    grey = np.concatenate([np.full(frames, level, np.uint8) for level, frames in shots])
    n = len(grey)
    flags = np.array([FLAG_CORRUPT if row in corrupt else 0 for row in range(n)], np.uint8)
    zero = np.zeros(n, np.float32)
    return FrameStats(
        pts_N=np.arange(n) * step,
        loss_NS=np.ones((n, 5), np.float32),
        peak_NS=np.ones((n, 5), np.float32),
        change_N=zero,
        sharpness_N=zero,
        luma_N=grey,
        signature_NK=np.repeat(grey[:, None], 108, axis=1),
        flags_N=flags,
        strokes_NC=np.zeros((n, 144)),
        pattern_NC=np.zeros((n, 144)),
        edge_2HW=np.zeros((2, 81, 144), np.uint8),
        time_base=(1, 1000),
    )


@pytest.mark.parametrize(("levels", "starts"), [((10, 40, 200, 230, 220), [0, 60]), ((10, 40, 30, 230, 220), [0, 90])])
def test_chapters_break_where_the_picture_changes_most(levels: tuple[int, ...], starts: list[float]) -> None:
    # Five shots of 30 s, two chapters of 90 s at most: the break is at 60 or 90 s.
    stats = stats_of([(level, 30) for level in levels])
    spans = find_spans(stats, end_pts=150_000, most_shots=9, most_seconds=90)
    assert [span.start_seconds for span in spans] == starts


def test_a_long_shot_is_cut_evenly() -> None:
    spans = find_spans(stats_of([(10, 500)]), end_pts=500_000, most_shots=9, most_seconds=120)
    assert [span.start_seconds for span in spans] == [0, 100, 200, 300, 400]
    assert {span.num_shots for span in spans} == {1}
    assert [len(span.stats) for span in spans] == [100] * 5


def test_damaged_frames_are_in_no_chapter() -> None:
    spans = find_spans(stats_of([(10, 60)], corrupt=frozenset(range(20, 50))), end_pts=60_000, most_shots=9)
    assert sum(len(span.stats) for span in spans) == 30
    assert spans[-1].end_seconds == 60


def test_a_single_frame() -> None:
    (span,) = find_spans(stats_of([(10, 1)]), end_pts=40, most_shots=1)
    assert (span.start_seconds, span.end_seconds, len(span.stats)) == (0, 0.04, 1)


def test_a_frame_that_is_shown_for_hours_is_one_chapter() -> None:
    stats = stats_of([(10, 3)], step=4_000_000)
    spans = find_spans(stats, end_pts=12_000_000, most_shots=9, most_seconds=120)
    assert [len(span.stats) for span in spans] == [1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(1, 90)), min_size=1, max_size=20),
    st.integers(1, 5),
    st.sampled_from([20.0, 61.0, 120.0]),
)
def test_chapters_cover_and_keep_to_their_limits(
    shots: list[tuple[int, int]], most_shots: int, most_seconds: float
) -> None:
    stats = stats_of(shots)
    end = len(stats) * 1000
    spans = find_spans(stats, end_pts=end, most_shots=most_shots, most_seconds=most_seconds)
    assert (spans[0].start_seconds, spans[-1].end_seconds) == (0, end / 1000)
    assert all(a.end_seconds == b.start_seconds for a, b in itertools.pairwise(spans))
    assert sum(len(span.stats) for span in spans) == len(stats)
    for span in spans:
        assert span.end_seconds - span.start_seconds <= most_seconds + 1e-6
        assert span.num_shots <= most_shots
        assert span.start_seconds <= seconds(int(span.stats.pts_N[0]), (1, 1000)) < span.end_seconds
    assert len(spans) >= end / 1000 / most_seconds
    # As few as possible: no two neighbours could have been one... by length, with shots to spare.
    for a, b in itertools.pairwise(spans):
        joined = b.end_seconds - a.start_seconds
        assert joined > most_seconds or a.num_shots + b.num_shots > most_shots


def test_no_limit_below_one_shot() -> None:
    spans = find_spans(stats_of([(10, 30), (200, 30)]), end_pts=60_000, most_shots=1)
    assert [span.num_shots for span in spans] == [1, 1]
