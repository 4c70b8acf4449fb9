"""The arrows in order, on the shipped sample clip with the bundled model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.errors import DoesNotFitError, UsageError, VideoError
from m3video.model import checkpoint
from m3video.pipeline import analyze_video, ask, open_for, plan_video
from m3video.training.sample import sample_clip

SAMPLE = Path(__file__).parent.parent / "m3video" / "assets" / "sample.mp4"


@pytest.fixture(scope="module")
def loaded() -> checkpoint.LoadedModel:
    return checkpoint.load("bundled", device="cpu")


def test_the_quickstart_answer_is_true(loaded: checkpoint.LoadedModel) -> None:
    answer = ask(SAMPLE, "What colour is the background at 0:03?", Settings(), loaded=loaded)
    assert answer.text == "green"
    assert answer.visual_tokens == answer.plan.total_tokens <= 720
    assert answer.evidence[0].start_seconds == 0


@pytest.mark.parametrize("frames", [4, 8])
def test_each_frame_of_the_sample_is_told_apart(loaded: checkpoint.LoadedModel, frames: int) -> None:
    plan, clip = plan_video(SAMPLE, Settings(num_frames=frames)), sample_clip()
    assert len(plan.frames) == frames
    for number, frame in enumerate(plan.frames, 1):
        true = clip.facts(plan.video.pts_seconds(frame.pts))
        for question, answer in (("what colour is the background", true.background),
                                 ("is it day or night", "night" if true.night else "day")):  # fmt: skip
            said = ask(SAMPLE, f"{question} in frame {number}", Settings(), plan=plan, loaded=loaded)
            assert said.text == answer, (number, question)


def test_other_footage_gets_a_word_of_warning(loaded: checkpoint.LoadedModel, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(SAMPLE.read_bytes())
    assert any("rendered by m3video" in w for w in ask(other, "day or night", Settings(), loaded=loaded).warnings)
    assert not ask(SAMPLE, "day or night", Settings(), loaded=loaded).warnings


def test_a_file_without_an_intact_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_for(SAMPLE, Settings()) as reader:
        broken = [replace(frame, is_corrupt=True) for frame in reader.scan()]
        monkeypatch.setattr(reader, "scan", lambda **_: iter(broken))
        with pytest.raises(VideoError, match="no frame could be decoded intact"):
            analyze_video(reader)
        monkeypatch.setattr(reader, "scan", lambda **_: iter([*broken[:-1], replace(broken[-1], is_corrupt=False)]))
        assert len(analyze_video(reader)) == len(broken)


def test_a_grid_is_no_plan() -> None:
    with pytest.raises(UsageError, match="layout grid"):
        plan_video(SAMPLE, Settings(layout="grid"))


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
