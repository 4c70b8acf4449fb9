"""Times for frames whose own times are absent, repeated or backward."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from m3video.video.timeline import Timeline


@dataclass
class Stamped:
    """Stands for a decoded frame: only its two times matter here."""

    pts: int | None
    dts: int | None = None


def stamp(*times: int | None) -> tuple[list[int], Timeline]:
    timeline = Timeline(nominal_ticks=40, ticks_per_second=1000)
    return [timeline.stamp(Stamped(pts)) for pts in times], timeline  # type: ignore[arg-type]


def test_valid_times_are_unchanged() -> None:
    times, timeline = stamp(-80, -40, 7, 1000, 90_000)
    assert times == [-80, -40, 7, 1000, 90_000]
    assert (timeline.num_missing, timeline.num_duplicate, timeline.num_backward) == (0, 0, 0)


def test_missing_times_count_on() -> None:
    times, timeline = stamp(None, None, None)
    assert times == [0, 40, 80]
    assert timeline.num_missing == 3


def test_missing_pts_use_the_decoding_time() -> None:
    timeline = Timeline(nominal_ticks=40, ticks_per_second=1000)
    frames = [Stamped(None, 10), Stamped(None, 50), Stamped(None, 90)]
    assert [timeline.stamp(frame) for frame in frames] == [10, 50, 90]  # type: ignore[arg-type]


def test_a_repeated_time_moves_one_tick() -> None:
    times, timeline = stamp(0, 40, 40, 80)
    assert times == [0, 40, 41, 80]
    assert (timeline.num_duplicate, timeline.num_backward) == (1, 0)


def test_a_jump_back_starts_a_new_stretch() -> None:
    times, timeline = stamp(0, 5000, 5040, 0, 40, 80)
    assert times == [0, 5000, 5040, 5080, 5120, 5160]
    assert timeline.num_backward == 1


def test_a_small_step_back_does_not() -> None:
    times, _ = stamp(0, 5000, 4960, 5040)
    assert times == [0, 5000, 5001, 5040]


@given(st.lists(st.tuples(st.none() | st.integers(-(10**12), 10**12), st.none() | st.integers(-(10**12), 10**12))))
def test_times_always_increase_and_repeat_themselves(pairs: list[tuple[int | None, int | None]]) -> None:
    runs = []
    for _ in range(2):
        timeline = Timeline(nominal_ticks=40, ticks_per_second=1000)
        runs.append([timeline.stamp(Stamped(*pair)) for pair in pairs])  # type: ignore[arg-type]
    assert runs[0] == runs[1]
    assert all(a < b for a, b in zip(runs[0], runs[0][1:], strict=False))
