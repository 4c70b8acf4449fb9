"""Which subtitles a question is given, and the forms they come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3video.errors import UsageError
from m3video.evaluation.subtitles import Cue, at_frames, clock_seconds, read_srt, read_subtitle_json, with_subtitles

CUES = [Cue(0, 2, "one"), Cue(1, 3, "two"), Cue(5, 6, "three")]


def test_subtitles_are_those_of_the_shown_frames() -> None:
    assert at_frames(CUES, [1.5]) == "one\ntwo"
    assert at_frames(CUES, [5.5, 0.5]) == "one\nthree"
    assert with_subtitles("Q", CUES, [4.0]) == "Q"
    assert with_subtitles("Q", CUES, [5.0]) == "This video's subtitles are listed below:\nthree\nQ"


@pytest.mark.parametrize(("text", "seconds"), [("01:02:03.500", 3723.5), ("2:05", 125), ("7", 7)])
def test_clock_times(text: str, seconds: float) -> None:
    assert clock_seconds(text) == seconds


def test_words_of_video_mme_v2(tmp_path: Path) -> None:
    path = tmp_path / "7.jsonl"
    path.write_text('{"text": "Hi", "start_time": 1.5, "end_time": 2}\n')
    assert read_subtitle_json(path) == [Cue(1.5, 2, "Hi")]


def test_what_is_no_srt_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("nothing\n")
    with pytest.raises(UsageError, match="hold no cue"):
        read_srt(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_srt(tmp_path / "b.srt")
