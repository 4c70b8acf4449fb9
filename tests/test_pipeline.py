"""The arrows in order, on the shipped sample clip with the bundled model."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.errors import DoesNotFitError, UsageError
from m3video.model import checkpoint
from m3video.pipeline import ask, plan_video

SAMPLE = Path(__file__).parent.parent / "m3video" / "assets" / "sample.mp4"
GROUNDS = {"0:00": "blue", "0:04": "green", "0:07": "yellow", "0:10": "pink"}


@pytest.fixture(scope="module")
def loaded() -> checkpoint.LoadedModel:
    return checkpoint.load("bundled", device="cpu")


def test_the_quickstart_answer_is_true(loaded: checkpoint.LoadedModel) -> None:
    answer = ask(SAMPLE, "What colour is the background at 0:03?", Settings(), loaded=loaded)
    assert answer.text == "green"
    assert answer.visual_tokens == answer.plan.total_tokens <= 720
    assert answer.evidence[0].start_seconds == 0


def test_one_question_for_each_shot(loaded: checkpoint.LoadedModel) -> None:
    plan = plan_video(SAMPLE, Settings(num_frames=4))
    said = [
        ask(SAMPLE, f"what colour is the background in frame {n}", Settings(), plan=plan, loaded=loaded).text
        for n in range(1, 5)
    ]
    assert len(set(said)) >= 3, said
    assert set(said) <= set(GROUNDS.values())


def test_the_image_grid_spends_within_its_budget(loaded: checkpoint.LoadedModel) -> None:
    answer = ask(SAMPLE, "what colour is it", Settings(layout="grid", budget=100), loaded=loaded)
    assert answer.visual_tokens == answer.plan.total_tokens == 36
    assert len(answer.plan.frames) == 6


def test_options_need_the_grid(loaded: checkpoint.LoadedModel) -> None:
    with pytest.raises(UsageError, match="--layout grid"):
        ask(SAMPLE, "which", Settings(), options=("a", "b"), loaded=loaded)


def test_too_long_is_refused(loaded: checkpoint.LoadedModel) -> None:
    with pytest.raises(DoesNotFitError, match="context"):
        ask(SAMPLE, "what", Settings(max_new_tokens=9000), loaded=loaded)
