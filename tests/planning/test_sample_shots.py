"""Where candidates stand in shots: by change, sharpness and black, on footage whose content is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from m3video.planning.sample import sample
from m3video.planning.shots import find_shots
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_KEY, FrameStats, Selection
from tests.planning.frames import TIME_BASE, plain, scan_frame
from tests.planning.made_stats import MS, made


@pytest.mark.parametrize("method", ["shots", "uniform"])
def test_a_half_second_card_in_ten_minutes_is_a_candidate(method: str) -> None:
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


def test_the_sharp_frame_is_chosen_and_a_keyframe_among_equals() -> None:
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


def test_from_pictures_to_candidates() -> None:
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
