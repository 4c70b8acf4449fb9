"""The cheaper of two frames is chosen where they show the same, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from m3video.planning.decode_cost import cheapest_like, frames_before
from m3video.planning.sample import sample
from m3video.planning.utility import utility
from m3video.types import FLAG_KEY, FrameStats
from tests.planning.frames import noise, plain, stats_of


def with_keys(stats: FrameStats, *keys: int) -> FrameStats:
    flags = stats.flags_N & ~np.uint8(FLAG_KEY)
    flags[list(keys)] |= FLAG_KEY
    return replace(stats, flags_N=flags)


def chosen_near(stats: FrameStats, choice: int) -> int:
    return cheapest_like(stats, choice, np.arange(len(stats)), frames_before(stats))


def test_cost_counts_from_the_keyframe_before() -> None:
    stats = with_keys(stats_of([plain(100)] * 8), 2, 5)
    assert frames_before(stats).tolist() == [0, 0, 0, 1, 2, 0, 1, 2]
    assert not frames_before(with_keys(stats)).any()


def test_in_still_footage_the_keyframe_is_taken() -> None:
    stats = with_keys(stats_of([plain(100)] * 60), 0, 20, 40)
    assert chosen_near(stats, 33) == 40
    assert chosen_near(stats, 27) == 20
    # Without a keyframe in reach: early in the GOP.
    assert cheapest_like(stats, 33, np.arange(25, 39), frames_before(stats)) == 25


def test_nothing_new_is_stepped_over() -> None:
    stats = with_keys(stats_of([plain(100)] * 30 + [plain(140)] * 30), 0)
    assert chosen_near(stats, 45) == 30
    assert chosen_near(stats, 29) == 0
    # A flash that comes back to the same picture lies between.
    flash = with_keys(stats_of([plain(100)] * 30 + [plain(200)] + [plain(100)] * 29), 0)
    assert chosen_near(flash, 45) == 31


def test_a_frame_that_shows_less_is_not_taken() -> None:
    stats = with_keys(stats_of([noise(1)] * 20), 0)
    peak = stats.peak_NS.copy()
    peak[:10] *= 0.5
    assert chosen_near(replace(stats, peak_NS=peak), 15) == 10
    assert chosen_near(stats, 15) == 0


def test_candidates_of_still_shots_cost_no_utility() -> None:
    pictures = [noise(shot) if shot % 2 else plain(60 * shot) for shot in range(4) for _ in range(25)]
    stats = with_keys(stats_of(pictures), 0, 40, 80)
    aware, blind = (sample(each, max_frames=8) for each in (stats, with_keys(stats)))
    cost = frames_before(stats)
    assert cost[aware.index_N].sum() < 0.8 * cost[blind.index_N].sum()
    assert utility(stats, aware)[:, -1].sum() >= 0.99 * utility(stats, blind)[:, -1].sum()
