"""Thumbnails are the planned frames, small, and where they are fewer, the most telling ones."""

from __future__ import annotations

import numpy as np

from m3video.config import Settings
from m3video.inference.pipeline import open_for, plan_details
from m3video.report.thumbnails import fetch_thumbnails, telling
from m3video.types import PlannedFrame
from tests.paths import SAMPLE


def test_fetched_thumbnails_are_small_and_those_asked_for() -> None:
    with open_for(SAMPLE, Settings()) as reader:
        plan = plan_details(reader, Settings(budget=300)).plan
        found = fetch_thumbnails(reader, plan, most=5)
        assert list(found) == [frame.pts for frame in telling(plan.frames, 5)]
        whole = reader.fetch(list(found))
    for frame in whole:
        small = found[frame.pts]
        assert max(small.shape[:2]) <= 240
        assert np.allclose(small.mean(axis=(0, 1)), frame.rgb_HW3.mean(axis=(0, 1)), atol=2)


def test_telling_frames_are_spread_and_have_the_most_tokens() -> None:
    frames = [PlannedFrame(i, (1, 9, 36)[i % 3]) for i in range(100)]
    assert telling(frames, 200) == frames
    assert telling([], 5) == []
    some = telling(frames, 10)
    assert len(some) == 10
    assert {frame.scale for frame in some} == {36}
    assert max(np.diff([frame.pts for frame in some])) <= 20
    assert telling([PlannedFrame(i, 9) for i in range(4)], 2) == [PlannedFrame(0, 9), PlannedFrame(2, 9)]
