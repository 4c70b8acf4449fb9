"""Summaries of the sample clip, by the rendered model and by a checkpoint that writes (random) words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from m3video.config import Settings
from m3video.errors import DoesNotFitError, UsageError
from m3video.inference.summary.summarize import RENDERED_NOTE, SHOT_NOTE, _caption, _finest, shot_lines, summarize
from m3video.model.m3 import checkpoint
from tests.evaluation.natural.made import chatml_model
from tests.model.tiny import load_tiny
from tests.paths import SAMPLE


def test_the_rendered_model_captions_by_closed_questions() -> None:
    loaded = checkpoint.load("rendered", device="cpu")
    made = summarize(SAMPLE, Settings(max_frames=2, budget=360), loaded=loaded)
    # Two frames: no more than two shots in a chapter, and the sample has four.
    assert [(c.start_seconds, c.end_seconds, c.num_shots) for c in made.chapters] == [(0, 5.8, 2), (5.8, 12, 2)]
    assert all(c.visual_tokens <= 360 and c.num_frames == 2 for c in made.chapters)
    assert [s.text for s in made.sentences] == [c.caption for c in made.chapters]
    assert "a sign with a word, day" in made.text
    assert RENDERED_NOTE in made.warnings
    assert [s.chapters for s in made.sentences] == [(1,), (2,)]


@pytest.mark.parametrize(("max_frames", "budget", "shots"), [(16, 720, [4]), (3, 720, [2, 2]), (16, 108, [2, 2])])
def test_every_shot_is_captioned_however_few_chapters_there_are(max_frames: int, budget: int, shots: list[int]) -> None:
    loaded = checkpoint.load("rendered", device="cpu")
    made = summarize(SAMPLE, Settings(max_frames=max_frames, budget=budget), loaded=loaded)
    assert [c.num_shots for c in made.chapters] == shots == [len(c.caption.split("; ")) for c in made.chapters]
    told = "; ".join(c.caption for c in made.chapters).split("; ")
    assert [told[0], *told[2:]] == ["a red circle, day", "a sign with a word, day", "a green square, day"]
    assert "night" in told[1]  # at a few tokens the star in it is not seen


def test_a_shot_is_captioned_by_its_finest_frame_and_repeats_are_dropped() -> None:
    scales = [(0, 9), (10, 36), (19, 36), (20, 1), (40, 9), (50, 144)]
    plan = SimpleNamespace(frames=[SimpleNamespace(pts=pts, scale=scale) for pts, scale in scales])
    assert _finest(cast("Any", plan), [20, 30, 40]) == [1, 3, 5]
    assert _finest(cast("Any", plan), []) == [5]
    assert _caption(["a cat", "day", "a cat", "day", "a dog", "night", "a cat", "day"]) == (
        "a cat, day; a dog, night; a cat, day"
    )
    assert _caption(["A writing model says one thing."]) == "A writing model says one thing."


def test_a_checkpoint_that_writes_captions_and_summarizes(tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path / "m", prompt_style="vicuna_v1", max_context=1024)
    settings = Settings(max_frames=1, budget=36, max_new_tokens=4)
    made = summarize(SAMPLE, settings, loaded=loaded)
    assert [c.num_shots for c in made.chapters] == [1, 1, 1, 1]
    assert made.depth == 1
    assert made.tokens["visual"] == sum(c.visual_tokens for c in made.chapters) > 0
    assert RENDERED_NOTE not in made.warnings
    assert made.sentences
    assert all(0 <= s.start_seconds < s.end_seconds <= 12 for s in made.sentences)
    assert any("cut off" in warning for warning in made.warnings)


def test_a_model_like_small_describes_shot_by_shot(tmp_path: Path) -> None:
    settings = Settings(max_frames=8, budget=360, max_new_tokens=4)
    made = summarize(SAMPLE, settings, loaded=chatml_model(tmp_path))
    (chapter,) = made.chapters
    assert (chapter.num_shots, made.depth) == (4, 0)
    assert SHOT_NOTE in made.warnings
    assert 1 <= len(made.sentences) <= 4
    assert made.sentences[0].start_seconds == 0
    assert made.sentences[-1].end_seconds == 12
    for sentence in made.sentences:
        assert (
            f"{int(sentence.start_seconds) // 60}:{int(sentence.start_seconds):02d} {sentence.text}" in chapter.caption
        )
        assert sentence.chapters == (1,)


def test_each_shot_has_its_own_times_and_equal_texts_are_one_line() -> None:
    frames = [SimpleNamespace(pts=pts, scale=1) for pts in (2, 12, 31, 45, 49)]
    plan = SimpleNamespace(frames=frames, video=SimpleNamespace(pts_seconds=float))
    chapter = SimpleNamespace(start_seconds=0.0, end_seconds=50.0, shot_pts=[10, 20, 30, 40])  # 20 to 30 is not shown
    lines = shot_lines(cast("Any", chapter), cast("Any", plan), ["a", "a", "b", "c"])
    assert [(line.start_seconds, line.end_seconds, line.text) for line in lines] == [
        (0, 20, "a"),
        (30, 40, "b"),
        (40, 50, "c"),
    ]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path / "m", prompt_style="vicuna_v1", max_context=128)
    with pytest.raises(DoesNotFitError, match="context"):
        summarize(SAMPLE, Settings(max_frames=1, budget=36, max_new_tokens=8), loaded=loaded)


def test_a_summary_refuses_ranges() -> None:
    with pytest.raises(UsageError, match="start"):
        summarize(SAMPLE, Settings(start=3.0))
