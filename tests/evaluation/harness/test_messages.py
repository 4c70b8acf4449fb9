"""Messages of harnesses as questions, and videos that stay open between them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings
from m3video.errors import UsageError
from m3video.evaluation.harness.messages import OpenVideos, VideoQuestion, cut_at, video_question
from m3video.model.m3 import checkpoint
from tests.paths import SAMPLE

TEXT = {"type": "text", "text": "What is it?"}
VIDEO = {"type": "video", "url": "file:///v.mp4", "start_time": None, "end_time": 4}


def test_a_message_is_a_question_about_one_video() -> None:
    assert video_question([VIDEO, TEXT, {"type": "text", "text": " A. dog "}]) == VideoQuestion(
        "/v.mp4", "What is it?\nA. dog", (("end", 4.0),)
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([TEXT], "one video file, not 0"),
        ([VIDEO, VIDEO, TEXT], "one video file, not 2"),
        ([VIDEO], "no text"),
        ([VIDEO, TEXT, {"type": "image", "url": "x"}], "a part of type image"),
        ([{"type": "video", "url": ["frame"]}, TEXT], "one video file"),
    ],
)
def test_other_messages_are_refused(parts: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        video_question(parts)


def test_text_ends_at_the_first_stop() -> None:
    assert cut_at("yes\n\nno ASSISTANT: x", ["ASSISTANT:", "\n\n", ""]) == "yes"
    assert cut_at("yes ", []) == "yes"


def test_a_video_is_read_once_for_its_questions(loaded: checkpoint.LoadedModel, tmp_path: Path) -> None:
    other = shutil.copy(SAMPLE, tmp_path / "other.mp4")
    videos = OpenVideos(Settings(model="rendered", budget=36, max_frames=4), loaded, most=1)
    question = VideoQuestion(str(SAMPLE), "what colour is the background in frame 1", (("end", 4.0),))
    try:
        first = videos.ask(question)
        again = videos.ask(question, max_new_tokens=8)
        assert again.text == first.text
        assert again.cached_frames == len(first.plan.frames) > 0
        assert 0 < first.visual_tokens <= 36
        assert all(first.plan.video.pts_seconds(frame.pts) < 4 for frame in first.plan.frames)
        videos.ask(VideoQuestion(str(other), question.text))
        assert len(videos._open) == 1
    finally:
        videos.close()
    assert not videos._open
