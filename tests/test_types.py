"""Values are validated when they are made, and seconds are derived from integers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3video.types import GRID_SIDES, SCALES, PlannedFrame, Selection, TokenPlan, VideoInfo, check_scale, seconds
from m3video.utils.clock import clock, clock_seconds, clock_times, shot_named


def info(**changes: object) -> VideoInfo:
    fields: dict[str, object] = {
        "path": "a.mp4",
        "fingerprint": "blake2b:0",
        "backend": "pyav",
        "container": "mp4",
        "codec": "h264",
        "pixel_format": "yuv420p",
        "width": 4,
        "height": 2,
        "rotation": 0,
        "time_base": (1, 90000),
        "start_pts": 900000,
        "end_pts": 990000,
        "last_duration": 3000,
        "num_frames": 31,
        "num_keyframes": 1,
    }
    return VideoInfo(**{**fields, **changes})  # type: ignore[arg-type]


def test_scales_are_the_squares_of_their_sides() -> None:
    assert tuple(side * side for side in GRID_SIDES.values()) == SCALES == tuple(GRID_SIDES)


@pytest.mark.parametrize("scale", [0, 2, 100, 575, -1])
def test_no_other_scale(scale: int) -> None:
    with pytest.raises(ValueError, match=rf"scale \({scale}\) must be one of 1, 9, 36, 144, 576"):
        check_scale(scale)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0:00"), (75.25, "1:15.25"), (3661, "1:01:01"), (-1.5, "-0:01.50"), (59.999, "1:00"), (7200.04, "2:00:00.04")],
)
def test_clock(value: float, text: str) -> None:
    assert clock(value) == text


@given(st.integers(-(2**40), 2**40), st.integers(1, 1001), st.integers(1, 10**6))
def test_seconds_are_exact_to_the_float(pts: int, num: int, den: int) -> None:
    assert seconds(pts, (num, den)) == pytest.approx(pts * num / den, rel=1e-15, abs=1e-300)


@given(
    st.lists(st.integers(-(2**40), 2**40), max_size=9),
    st.integers(1, 1001),
    st.integers(1, 10**6),
    st.integers(-(2**40), 2**40),
    st.integers(1, 10**6),
)
def test_the_clock_is_exact_to_the_float(pts: list[int], num: int, den: int, start: int, ticks: int) -> None:
    """One value, or many at once; from another stream's start, in ticks of its own."""
    exact = [Fraction(p * num, den) - Fraction(start, ticks) for p in pts]
    assert [clock_seconds(p, (num, den), (start, ticks)) for p in pts] == [float(value) for value in exact]
    many = clock_times(np.array(pts, np.int64), (num, den), (start, ticks))
    greatest = float(max(map(abs, exact), default=Fraction(0)))
    assert many == pytest.approx([float(value) for value in exact], rel=1e-15, abs=4e-16 * greatest)


def test_a_stream_that_starts_with_another_starts_at_zero() -> None:
    """1.456777... s, which microseconds would round up: the sound's first tick is 0, not a little before."""
    late = info(origin=(131110, 90000))
    assert late.pts_seconds(131110) == 0.0
    assert late.pts_seconds(131111) == pytest.approx(1 / 90000, rel=1e-12)
    with pytest.raises(ValueError, match="origin"):
        info(origin=(1, 0))


def test_duration_counts_the_last_frame() -> None:
    assert info().duration_seconds == pytest.approx(1 + 1 / 30)
    assert info().pts_seconds(900000) == 10.0


@pytest.mark.parametrize("changes", [{"width": 0}, {"time_base": (0, 1)}, {"rotation": 45}])
def test_info_is_validated(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        info(**changes)


def plan(scales: list[int], *, budget: int, pts: list[int] | None = None) -> TokenPlan:
    frames = tuple(PlannedFrame(pts=p, scale=s) for p, s in zip(pts or range(len(scales)), scales, strict=True))
    return TokenPlan(video=info(), budget=budget, frames=frames, utility=0, bound=0, num_candidates=9, shots=((0, 1),))


def test_a_plan_never_exceeds_its_budget() -> None:
    assert plan([576, 144], budget=720).total_tokens == 720
    with pytest.raises(ValueError, match="more than its budget of 719"):
        plan([576, 144], budget=719)


def test_a_plan_is_in_order() -> None:
    with pytest.raises(ValueError, match="increasing"):
        plan([1, 1], budget=9, pts=[5, 5])


def test_shots_last_until_the_range_ends() -> None:
    """`info` begins at 10 s; its last frame, at 11 s, leaves the screen a thirtieth of a second later."""
    made = replace(plan([1], budget=9), shots=((900000, 930000), (930000, 960000)))
    end = 11 + 1 / 30
    assert made.shots_seconds == pytest.approx([10, 10 + 1 / 3, end])
    assert replace(made, config={"end": 10.5}).shots_seconds[-1] == pytest.approx(10 + 2 / 3)
    assert replace(made, config={"end": 10.9}).shots_seconds[-1] == pytest.approx(10.9)
    assert replace(made, config={"end": 60.0}).shots_seconds[-1] == pytest.approx(end)
    assert replace(made, shots=()).shots_seconds == []


def test_arrays_are_read_only() -> None:
    chosen = Selection(
        index_N=np.arange(2),
        pts_N=np.array([3, 4]),
        shot_N=np.zeros(2),
        reason_N=("a", "b"),
        shots=((3, 5),),
        began_M=("cut",),
        method="uniform",
    )
    with pytest.raises(ValueError, match="read-only"):
        chosen.pts_N[0] = 9
    with pytest.raises(ValueError, match="shape"):
        Selection(
            index_N=np.arange(3),
            pts_N=np.array([3, 4]),
            shot_N=np.zeros(2),
            reason_N=("a", "b"),
            shots=(),
            began_M=(),
            method="",
        )


@pytest.mark.parametrize(
    ("second", "shot"),
    [
        (0, 0),
        (1, 0),  # until 1.12 the first shot is on
        (2, 1),
        (3, 2),  # the third lies within 3 to 4
        (4, 3),
        (99, 3),
        (-1, 0),
    ],
)
def test_a_time_names_the_shot_that_is_on_or_lies_within_its_second(second: int, shot: int) -> None:
    assert shot_named(second, [0.0, 1.12, 3.2, 3.9]) == shot
