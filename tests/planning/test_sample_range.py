"""Candidates of a part of a video: where a range begins and ends, and what is on screen there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m3video.errors import UsageError
from m3video.planning.sample import sample
from m3video.types import FLAG_CORRUPT
from tests.planning.made_stats import MS, made


def test_a_range_is_half_open_and_its_shots_are_counted_from_0() -> None:
    stats = made(np.repeat([40, 120, 200], 50))
    chosen = sample(stats, max_frames=500, start_seconds=3.0, end_seconds=5.0)
    assert chosen.index_N.tolist() == list(range(75, 125))
    assert set(chosen.shot_N.tolist()) == {0, 1}
    assert chosen.shots == ((50 * MS, 100 * MS), (100 * MS, 150 * MS))


# Slides: frames at 0, 10 and 190 s, then a second of 25 a second; the last is shown until 300 s.
SLIDES = made(
    np.repeat([40, 120, 200], [1, 1, 26]),
    pts_N=np.concatenate([[0, 10_000], 190_000 + np.arange(26) * MS]),
    last_shown=109_000,
)


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (60, 120, 1, 1),  # wholly within one frame
        (60, None, 1, 27),  # begins within one
        (10, 190, 1, 1),  # from the pts of a frame to before that of another
        (10 - 1e-9, 190 + 1e-9, 1, 1),
        (9.999, 190.001, 0, 2),
        (None, 10, 0, 0),
        (-5, 5, 0, 0),  # before the first frame there is none
        (191, 191.5, 27, 27),  # within the last frame
        (299, 300, 27, 27),
        (299, 900, 27, 27),
        (5, 5.001, 0, 0),
    ],
)
@pytest.mark.parametrize("origin", [(0, 1), (7, 5), (-5, 1)])
@pytest.mark.parametrize("mode", ["full", "keyframes"])
def test_a_range_begins_with_the_frame_on_screen(
    start: float | None, end: float | None, first: int, last: int, origin: tuple[int, int], mode: str
) -> None:
    late = origin[0] / origin[1]
    stats = replace(SLIDES, origin=origin, mode=mode)
    begin, stop = (None if edge is None else edge - late for edge in (start, end))
    chosen = sample(stats, max_frames=50, start_seconds=begin, end_seconds=stop)
    assert (chosen.index_N[0], chosen.index_N[-1]) == (first, last)
    assert len(chosen) == last - first + 1


@pytest.mark.parametrize(("start", "end"), [(300, None), (400, 500), (-5, 0), (60, 60), (120, 60), (-9, -1)])
def test_where_nothing_is_on_screen_there_is_no_range(start: float, end: float | None) -> None:
    with pytest.raises(UsageError, match=r"frames run from 0.000 s to 300.000 s \(0:00 to 5:00\)"):
        sample(SLIDES, max_frames=50, start_seconds=start, end_seconds=end)


def test_sound_before_the_pictures_is_no_range() -> None:
    late = replace(SLIDES, origin=(-5, 1))  # the sound starts 5 s before the first frame
    with pytest.raises(UsageError, match=r"no frame in the range 0 s to 5 s: .* from 5.000 s to 305.000 s"):
        sample(late, max_frames=50, start_seconds=0, end_seconds=5)
    assert sample(late, max_frames=50, start_seconds=0, end_seconds=6).index_N.tolist() == [0]


def test_a_corrupt_frame_at_the_start_is_not_shown_while_there_are_others() -> None:
    damaged = made(SLIDES.luma_N, pts_N=SLIDES.pts_N, flags_N=FLAG_CORRUPT * (np.arange(28) == 1), last_shown=109_000)
    assert sample(damaged, max_frames=50, start_seconds=60).index_N[0] == 2
    alone = sample(damaged, max_frames=50, start_seconds=60, end_seconds=120)
    assert alone.index_N.tolist() == [1]
    assert alone.notes == ("every frame in the range is corrupt: corrupt frames are shown",)


def test_time_within_a_range_is_counted_from_its_start_to_its_end() -> None:
    """Even candidates of 100 s to 250 s stand for 37.5 s each: two show the slide, two the frame that is shown last."""
    wanted = {"start_seconds": 100, "end_seconds": 250, "max_frames": 50}
    assert sample(SLIDES, num_frames=4, **wanted).index_N.tolist() == [1, 27]
    assert sample(SLIDES, fps=1 / 30, **wanted).index_N.tolist() == [1, 2]
