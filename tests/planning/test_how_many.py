"""How many candidates a video deserves where nobody names a number."""

from __future__ import annotations

import numpy as np

from m3video.config import Settings
from m3video.inference.decision import decide
from m3video.planning.how_many import LEAST, MOST, how_many
from m3video.planning.shots import boundaries
from m3video.types import FrameStats
from tests.planning.frames import stats_of
from tests.planning.plans import PLAN
from tests.planning.test_shots import grain, scenery


def film(scenes: list[int], frames: int, ms: int = 500) -> FrameStats:
    """Scenes by number, each for some frames: the same number looks the same."""
    return stats_of([picture for scene in scenes for picture in grain(scenery(scene), frames)], ms=ms)


def count(stats: FrameStats, cost: str = "light", rows: np.ndarray | None = None) -> int:
    rows = np.arange(len(stats)) if rows is None else rows
    return how_many(stats, rows, boundaries(stats), cost=cost).most


def test_a_short_video_has_as_many_as_ever() -> None:
    assert count(film([1, 2, 3], 20)) == LEAST == Settings().surely_frames


def test_every_different_shot_has_one_and_some_have_more() -> None:
    stats = film(list(range(40)), 6)  # three seconds each
    assert len(boundaries(stats).row_M) == 40
    assert count(stats) == 50
    assert "40 shots, 40 unlike all before them" in how_many(stats, np.arange(240), boundaries(stats), cost="light").why


def test_shots_that_come_back_need_no_more() -> None:
    assert count(film([1, 2] * 20, 6)) == LEAST


def test_long_shots_have_one_each_though_they_come_back() -> None:
    assert count(film([1, 2] * 16, 12)) == 40  # six seconds each


def test_what_a_frame_costs_the_model_is_a_limit() -> None:
    stats = film(list(range(120)), 4)
    assert count(stats) == MOST["light"]
    assert count(stats, "heavy") == MOST["heavy"]
    found = how_many(stats, np.arange(len(stats)), boundaries(stats), cost="heavy")
    assert "wanted, at most 64" in found.why


def test_only_the_range_counts() -> None:
    stats = film(list(range(60)), 6)
    assert count(stats, rows=np.arange(60, 180)) == 25


def test_neither_budget_nor_a_number_changes_it() -> None:
    stats = film(list(range(40)), 6)
    for budget in (36, 720, 5760):
        details = decide(PLAN.video, stats, Settings(budget=budget, model="rendered"))
        assert details.settings.max_frames == 50
        assert details.plan.candidates_why.startswith("50 candidates for 40 shots")
        assert details.plan.config["max_frames"] == "auto"
    named = decide(PLAN.video, stats, Settings(max_frames=7, model="rendered"))
    assert len(named.selection) == 7
    assert named.plan.candidates_why == ""
