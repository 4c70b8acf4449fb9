"""Candidates: what holds for any stats, even spacing, and the range of time that they come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from m3video.errors import UsageError
from m3video.planning.sample import sample
from m3video.planning.shots import find_shots
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FrameStats, Selection
from tests.planning.made_stats import MS, any_stats, made


def last_tick(stats: FrameStats) -> int:
    """When the last frame leaves the screen."""
    if stats.until_pts is not None:
        return stats.until_pts
    return int(stats.pts_N[-1]) + (int(np.median(np.diff(stats.pts_N))) if len(stats) > 1 else 1)


WISHES = st.one_of(
    st.just({}),
    st.just({"method": "uniform"}),
    st.builds(lambda fps: {"fps": fps}, st.floats(0.01, 1e6)),
    st.builds(lambda count: {"num_frames": count}, st.integers(1, 300)),
)


def same(first: Selection, second: Selection) -> bool:
    return all(np.array_equal(getattr(first, f), getattr(second, f)) for f in Selection.__dataclass_fields__)


@settings(deadline=None, max_examples=300)
@given(any_stats(), st.integers(1, 60), WISHES, st.data())
def test_invariants(stats: FrameStats, max_frames: int, wish: dict[str, Any], data: st.DataObject) -> None:
    times = stats.times_N
    start, end = sorted(data.draw(st.tuples(*[st.floats(times[0] - 1, times[-1] + 9)] * 2)))
    until = np.append(times[1:], stats.pts_seconds(last_tick(stats)))
    assume(end - start > 1e-5)  # shorter ranges are a matter of rounding
    held = (until > start + 1e-6) & (times < end - 1e-6)
    if not held.any():
        with pytest.raises(UsageError, match="no frame in the range"):
            sample(stats, max_frames=max_frames, start_seconds=start, end_seconds=end, **wish)
        return
    chosen = sample(stats, max_frames=max_frames, start_seconds=start, end_seconds=end, **wish)
    assert 1 <= len(chosen) <= min(max_frames, wish.get("num_frames", max_frames))
    assert (np.diff(chosen.index_N) > 0).all()
    assert held[chosen.index_N].all()
    assert (stats.pts_N[chosen.index_N] == chosen.pts_N).all()
    corrupt = (stats.flags_N & FLAG_CORRUPT) > 0
    if (held & ~corrupt).any():
        assert not corrupt[chosen.index_N].any()
    else:
        assert "every frame in the range is corrupt: corrupt frames are shown" in chosen.notes
    for pts, shot in zip(chosen.pts_N, chosen.shot_N, strict=True):
        assert chosen.shots[shot][0] <= pts < chosen.shots[shot][1]
    assert all(a[1] == b[0] for a, b in zip(chosen.shots, chosen.shots[1:], strict=False))
    assert chosen.shots[0][0] <= stats.pts_N[held][0] <= stats.pts_N[held][-1] < chosen.shots[-1][1]
    assert all("\n" not in note for note in chosen.notes)
    assert same(chosen, sample(stats, max_frames=max_frames, start_seconds=start, end_seconds=end, **wish))


@settings(deadline=None, max_examples=200)
@given(any_stats(), st.integers(1, 60))
def test_every_shot_has_a_candidate_or_a_note(stats: FrameStats, max_frames: int) -> None:
    corrupt = (stats.flags_N & FLAG_CORRUPT) > 0
    clean = np.flatnonzero(~corrupt) if not corrupt.all() else np.arange(len(stats))
    shot_of = np.searchsorted(find_shots(stats), clean, side="right") - 1
    shots = set(shot_of.tolist())
    chosen = sample(stats, max_frames=max_frames)
    served = set(chosen.shot_N.tolist())
    assert served <= shots
    assert len(served) == min(len(shots), max_frames)
    short = [note for note in chosen.notes if "shots have no candidate" in note]
    if len(shots) > max_frames:
        left = len(shots) - max_frames
        assert short == [f"{len(shots)} shots, but max_frames is {max_frames}: {left} shots have no candidate"]
    else:
        assert not short
        is_black = {shot: bool((stats.flags_N[clean[shot_of == shot]] & FLAG_BLACK).all()) for shot in shots}
        room = sum(1 if is_black[shot] else int((shot_of == shot).sum()) for shot in shots)
        assert len(chosen) == (len(clean) if len(clean) <= max_frames else min(max_frames, room))
    firsts = [shot != before for shot, before in zip(chosen.shot_N, [-1, *chosen.shot_N[:-1]], strict=True)]
    assert chosen.reason_N == tuple("shot" if first else "change" for first in firsts)


@settings(deadline=None, max_examples=100)
@given(any_stats(), st.integers(1, 60), WISHES, st.integers(-(10**15), 10**15))
def test_where_the_clock_starts_does_not_matter(
    stats: FrameStats, max_frames: int, wish: dict[str, Any], offset: int
) -> None:
    until = None if stats.until_pts is None else stats.until_pts + offset
    moved = replace(stats, pts_N=stats.pts_N + offset, until_pts=until, origin=(1, 7))
    assert np.array_equal(find_shots(stats), find_shots(moved))
    here, there = sample(stats, max_frames=max_frames, **wish), sample(moved, max_frames=max_frames, **wish)
    assert here.index_N.tolist() == there.index_N.tolist()
    assert here.notes == there.notes


def test_a_rate_is_counted_from_the_first_frame() -> None:
    stats = made([100] * 250, pts_N=7000 + np.arange(250) * MS)
    chosen = sample(stats, max_frames=256, fps=1)
    assert chosen.pts_N.tolist() == [7000 + 1000 * i for i in range(10)]
    assert set(chosen.reason_N) == {"fps"}
    assert chosen.notes == ()
    assert sample(stats, max_frames=256, fps=25).index_N.tolist() == list(range(250))
    # At 9.5 s the frame of 9.48 s is on screen.
    assert sample(stats, max_frames=256, fps=1, start_seconds=9.5).pts_N.tolist()[:2] == [9480, 10480]


def test_a_rate_above_max_frames_is_thinned_evenly_and_noted() -> None:
    chosen = sample(made([100] * 250), max_frames=25, fps=10)
    assert chosen.pts_N.tolist() == [400 * i for i in range(25)]
    assert chosen.notes == ("fps (10) asks for 100 candidates, above max_frames (25): every 4.00th is taken",)


def test_a_rate_above_the_videos_own_is_noted() -> None:
    chosen = sample(made([100] * 10), max_frames=100, fps=50)
    assert chosen.index_N.tolist() == list(range(10))
    assert chosen.notes == ("fps (50): 9 of 19 times show no further frame",)


@pytest.mark.parametrize("method", [{"num_frames": 5}, {"max_frames": 5, "method": "uniform"}])
def test_even_candidates_stand_in_the_middle_of_their_stretch(method: dict[str, Any]) -> None:
    chosen = sample(made([100] * 250), **{"max_frames": 50, **method})
    assert chosen.pts_N.tolist() == [1000, 3000, 5000, 7000, 9000]
    assert set(chosen.reason_N) == {next(iter(method)) if "num_frames" in method else "uniform"}
    assert chosen.method == "uniform"


def test_even_means_even_in_time() -> None:
    # The first second has 100 frames, the nine others have one each.
    pts = np.concatenate([np.arange(100) * 10, np.arange(1, 10) * 1000])
    assert sample(made([9] * 109, pts_N=pts), max_frames=10, num_frames=4).pts_N.tolist() == [1000, 3000, 5000, 7000]


def test_num_frames_that_cannot_be_met_is_noted() -> None:
    stats = made([100] * 30)
    assert sample(stats, max_frames=8, num_frames=20).notes == (
        "num_frames (20) is above max_frames (8): 8 candidates are taken",
    )
    few = sample(stats, max_frames=100, num_frames=50)
    assert len(few) == 30
    assert few.notes == ("50 frames were asked for, 30 different ones are there to take evenly",)
    assert sample(stats, max_frames=8, num_frames=8).notes == ()


def test_a_candidate_that_would_be_corrupt_is_the_frame_before_it() -> None:
    flags = np.zeros(250)
    flags[20:30] = FLAG_CORRUPT
    assert sample(made([100] * 250, flags_N=flags), max_frames=50, num_frames=5).index_N.tolist()[0] == 19
    flags[:30] = FLAG_CORRUPT
    assert sample(made([100] * 250, flags_N=flags), max_frames=50, num_frames=5).index_N.tolist()[0] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 1.0, "num_frames": 2}, "contradict"),
        ({"max_frames": 0}, r"max_frames \(0\)"),
        ({"num_frames": 0}, r"num_frames \(0\)"),
        ({"fps": 0.0}, r"fps \(0.0\)"),
        ({"fps": float("nan")}, r"fps \(nan\)"),
        ({"fps": float("inf")}, r"fps \(inf\)"),
        ({"fps": 1e308}, r"fps \(1e\+308\) must be at most 1,000,000"),
        ({"method": "best"}, r"sampling method \(best\)"),
        ({"start_seconds": 60.0}, "no frame in the range 60 s to the end: .* from 0.000 s to 4.000 s"),
        ({"end_seconds": 0.0}, "no frame in the range the start to 0 s"),
        ({"start_seconds": 2.0, "end_seconds": 1.0}, "no frame in the range 2 s to 1 s"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        sample(made([100] * 100), **{"max_frames": 10, **arguments})
    assert "\n" not in str(caught.value)


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
