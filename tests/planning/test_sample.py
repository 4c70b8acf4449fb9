"""Candidates: what holds for any stats, and where they fall on footage whose story is known."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from m3video.errors import UsageError
from m3video.planning.sample import sample
from m3video.planning.shots import find_shots
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_KEY, FrameStats, Selection
from tests.planning.frames import TIME_BASE, plain, scan_frame
from tests.planning.made_stats import MS, made


@st.composite
def any_stats(draw: st.DrawFn, *, corrupt: bool = True) -> FrameStats:
    """A few takes of plain pictures, uneven in time, with black, keyframes, damage and leaps in change."""
    takes = draw(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 40)), min_size=1, max_size=8))
    picture = np.repeat([value for value, _ in takes], [count for _, count in takes])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = len(picture)
    flags = FLAG_KEY * (rng.random(n) < 0.1) | FLAG_BLACK * (picture < 20)
    if corrupt:
        flags |= FLAG_CORRUPT * (rng.random(n) < draw(st.sampled_from([0, 0.2, 1])))
    step = rng.choice([1, 33, 40, 5000], n, p=draw(st.sampled_from([(0, 0.5, 0.5, 0), (0.3, 0.3, 0.3, 0.1)])))
    return made(
        picture,
        pts_N=draw(st.integers(-9000, 9000)) + np.cumsum(step),
        flags_N=flags,
        change_N=rng.choice([0, 0.3, 4, 200], n),
        sharpness_N=rng.random(n),
        origin=draw(st.sampled_from([(0, 1), (7, 5), (-1, 3)])),
        last_shown=draw(st.sampled_from([None, 1, 40, 9000])),
    )


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
def test_what_always_holds(stats: FrameStats, max_frames: int, wish: dict[str, Any], data: st.DataObject) -> None:
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


@pytest.mark.parametrize("method", ["shots", "uniform"])
def test_a_half_second_card_in_ten_minutes_is_seen(method: str) -> None:
    """Even sampling with a candidate every nine seconds sees it once in eighteen."""
    found = []
    for at in range(7000, 7240, 24):
        picture = np.full(15000, 100)
        picture[at : at + 12] = 220
        chosen = sample(made(picture), max_frames=64, method=method)
        assert len(chosen) == 64
        found.append(bool(((chosen.index_N >= at) & (chosen.index_N < at + 12)).any()))
    assert all(found) if method == "shots" else sum(found) <= 2


def still_then(change: float, seconds: float, *, still: float = 20.0) -> FrameStats:
    """A still picture, then one shot goes on while every frame changes by `change`, then still again."""
    steps = np.zeros(round((2 * still + seconds) * 25))
    steps[round(still * 25) : round((still + seconds) * 25)] = change
    return made([100] * len(steps), change_N=steps)


def count_in(chosen: Selection, start: float, end: float) -> int:
    return int(((chosen.pts_N >= start * 1000) & (chosen.pts_N < end * 1000)).sum())


def test_stillness_is_sampled_evenly() -> None:
    chosen = sample(still_then(0, 0, still=32), max_frames=16)
    assert np.abs(chosen.pts_N - (2000 + 4000 * np.arange(16))).max() <= MS


def test_pieces_of_a_shot_are_equal_and_a_cut_is_no_change_inside_it() -> None:
    assert sample(made([100] * 10), max_frames=2).index_N.tolist() == [2, 7]
    two = sample(made(np.repeat([10, 250], 500)), max_frames=40).index_N
    assert (two[20:] - 500).tolist() == two[:20].tolist()
    assert set(np.diff(two).tolist()) == {25}


def test_a_fade_draws_few_candidates() -> None:
    """One second of 41 fades. Were the change that there is shared out, however little, half of them would go there."""
    chosen = sample(still_then(5, 1.0), max_frames=16)
    assert count_in(chosen, 20, 21) <= 2
    assert np.diff(chosen.pts_N).max() <= 1.3 * 41000 / 16


def test_the_greatest_change_leaves_stillness_its_share() -> None:
    chosen = sample(still_then(255, 20.0, still=10.0), max_frames=64)
    still = count_in(chosen, 0, 10) + count_in(chosen, 30, 40)
    assert still == pytest.approx(64 / (1 + ((20 * 25 + 30) / 30) ** 0.5), abs=2)


@pytest.mark.parametrize("change", [1.2, 4.0])
def test_density_follows_the_root_of_the_speed_of_change(change: float) -> None:
    chosen = sample(still_then(change, 30.0, still=15.0), max_frames=200)
    moving = count_in(chosen, 15, 45)
    assert moving / (200 - moving) == pytest.approx(((change * 25 + 30) / 30) ** 0.5, rel=0.08)


def test_frame_rate_does_not_change_where_candidates_stand() -> None:
    slow = still_then(4.0, 10.0)
    fast = made(
        [100] * 2 * len(slow), pts_N=np.arange(2 * len(slow)) * MS // 2, change_N=np.repeat(slow.change_N / 2, 2)
    )
    few, many = sample(slow, max_frames=40), sample(fast, max_frames=40)
    assert np.abs(few.pts_N - many.pts_N).max() <= 2 * MS


def test_time_on_screen_counts_for_the_frame_that_is_shown() -> None:
    # One frame stands for 20 s at the end of the first shot; the second shot lasts 4 s.
    pts = np.concatenate([np.arange(100) * MS, 24000 + np.arange(100) * MS])
    chosen = sample(made(np.repeat([50, 200], 100), pts_N=pts), max_frames=12)
    assert (chosen.shot_N == 0).sum() >= 9


def test_damage_does_not_stop_time() -> None:
    flags = np.zeros(1000)
    flags[100:900] = FLAG_CORRUPT
    chosen = sample(made([100] * 1000, flags_N=flags), max_frames=20)
    assert set(chosen.index_N.tolist()).isdisjoint(range(100, 900))
    assert len(chosen) == 20


def test_black_is_served_last_and_once() -> None:
    picture = np.concatenate([np.full(50, 2), np.full(50, 90), np.full(50, 2), np.full(50, 160)])
    stats = made(picture, flags_N=FLAG_BLACK * (picture == 2))
    assert sorted(sample(stats, max_frames=2).shot_N.tolist()) == [1, 3]
    assert sorted(sample(stats, max_frames=3).shot_N.tolist()) == [0, 1, 3]
    assert np.bincount(sample(stats, max_frames=20).shot_N).tolist() == [1, 9, 1, 9]


def test_of_too_many_shots_the_long_ones_are_seen_and_the_rest_is_spread() -> None:
    """A minute of quick cuts, then nine long takes of a minute each."""
    picture = np.concatenate([np.repeat(np.arange(120) % 2 * 90 + 40, 12), np.repeat([40, 130, 220] * 3, 1500)])
    stats = made(picture)
    assert len(find_shots(stats)) == 129
    chosen = sample(stats, max_frames=40)
    assert len(chosen) == 40
    assert set(range(120, 129)) <= set(chosen.shot_N.tolist())
    quick = chosen.shot_N[chosen.shot_N < 120]
    assert len(quick) == 31
    assert np.diff(quick).max() <= 5
    assert "89 shots have no candidate" in chosen.notes[0]


def test_the_sharp_frame_is_taken_and_a_keyframe_among_equals() -> None:
    sharpness, flags = np.full(100, 10.0), np.zeros(100, np.uint8)
    assert sample(made([9] * 100, sharpness_N=sharpness), max_frames=1).index_N.tolist() in ([49], [50])
    sharpness[70] = 20
    assert sample(made([9] * 100, sharpness_N=sharpness), max_frames=1).index_N.tolist() == [70]
    sharpness[10] = 19
    flags[10] = FLAG_KEY
    flags[5] = FLAG_KEY
    assert sample(made([9] * 100, sharpness_N=sharpness, flags_N=flags), max_frames=1).index_N.tolist() == [10]
    flags[10] |= FLAG_BLACK
    assert sample(made([9] * 100, sharpness_N=sharpness, flags_N=flags), max_frames=1).index_N.tolist() == [70]


def test_measured_frames_go_the_whole_way() -> None:
    """From pictures, not from made-up stats: three takes, three candidates, one each."""
    from m3video.planning.analyze import analyze

    frames = [scan_frame(i * MS, plain(60 * (1 + i // 20))) for i in range(60)]
    chosen = sample(analyze(frames, time_base=TIME_BASE), max_frames=3)
    assert [index // 20 for index in chosen.index_N] == [0, 1, 2]
    assert chosen.shots == ((0, 800), (800, 1600), (1600, 2400))


def test_hours_of_frames_take_no_long_time() -> None:
    rng = np.random.default_rng(0)
    n = 4 * 3600 * 25
    stats = made(np.repeat(rng.integers(0, 256, n // 100), 100), change_N=rng.random(n) * 9)
    begin = time.process_time()
    assert len(sample(stats, max_frames=4096, method="uniform")) == 4096
    assert len(sample(stats, max_frames=4096)) == 4096
    assert time.process_time() - begin < 20
