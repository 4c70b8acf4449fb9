"""Cutting is arithmetic: whatever the index, segments start at keyframes and together are the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3video.distributed.segments import cut, num_segments
from m3video.video.index import FrameIndex


def index_of(steps: list[int], keys: list[bool], *, start: int = 0, last_duration: int = 1) -> FrameIndex:
    """Frames `steps` ticks of 1/25 s apart."""
    return FrameIndex(
        pts_N=np.cumsum([start, *steps]).astype(np.int64),
        is_key_N=np.array([True, *keys]),
        size_N=np.zeros(len(steps) + 1, np.int64),
        time_base=(1, 25),
        last_duration=last_duration,
        source="packets",
        stores_times=True,
    )


def regular(num_frames: int, gop: int, *, start: int = 0) -> FrameIndex:
    return index_of([1] * (num_frames - 1), [row % gop == 0 for row in range(1, num_frames)], start=start)


@given(
    frames=st.lists(st.tuples(st.integers(1, 10_000), st.booleans()), max_size=60),
    start=st.integers(-(10**9), 10**9),
    count=st.integers(1, 80),
)
def test_segments_hold_every_frame_once(frames: list[tuple[int, bool]], start: int, count: int) -> None:
    index = index_of([step for step, _ in frames], [key for _, key in frames], start=start)
    segments = cut(index, count)
    assert 1 <= len(segments) <= min(count, index.is_key_N.sum())
    assert segments[0].start_pts == index.pts_N[0]
    assert segments[-1].end_pts == index.pts_N[-1] + 1
    assert all(one.end_pts == other.start_pts for one, other in itertools.pairwise(segments))
    for segment in segments:
        rows = np.flatnonzero((index.pts_N >= segment.start_pts) & (index.pts_N < segment.end_pts))
        assert segment.num_frames == len(rows) > 0
        assert index.is_key_N[rows[0]]
        assert index.pts_N[rows[0]] == segment.start_pts


@pytest.mark.parametrize("start", [0, 250_000, -77])
@pytest.mark.parametrize("seconds", [135, 200, 600, 3600, 7 * 3600])
@pytest.mark.parametrize("gop", [12, 250])
def test_segments_last_one_to_three_minutes(seconds: int, gop: int, start: int) -> None:
    index = regular(seconds * 25, gop, start=start)
    segments = cut(index, num_segments(index))
    assert len(segments) == num_segments(index) == round(seconds / 90)
    assert all(60 <= segment.num_frames / 25 <= 180 for segment in segments)


def test_short_videos_are_one_segment() -> None:
    assert num_segments(regular(130 * 25, 12)) == 1


def test_cuts_are_at_the_nearest_keyframe() -> None:
    index = index_of([1] * 99, [row in (10, 45, 60, 99) for row in range(1, 100)])
    assert [segment.start_pts for segment in cut(index, 2)] == [0, 45]
    assert [segment.start_pts for segment in cut(index, 3)] == [0, 45, 60]
    assert [segment.start_pts for segment in cut(index, 50)] == [0, 10, 45, 60, 99]
    assert cut(index, 2)[1].printable == "0:01.80 - 0:04"


def test_one_keyframe_is_one_segment() -> None:
    assert len(cut(regular(5000, 10_000), 7)) == 1
    assert len(cut(regular(1, 1), 7)) == 1


def test_a_gap_of_hours_holds_no_segment() -> None:
    index = index_of([1] * 50 + [180_000] + [1] * 50, [row in (25, 51, 76) for row in range(1, 102)])
    assert [segment.start_pts for segment in cut(index, 80)] == [0, 25, 180_050]


def test_count_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"count \(0\)"):
        cut(regular(10, 5), 0)
