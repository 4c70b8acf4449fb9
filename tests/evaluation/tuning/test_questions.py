"""Files of a person's questions: what is read, and what is refused by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m3video.distributed.items import read_batch_questions as batch_questions
from m3video.errors import UsageError
from m3video.evaluation.records import save_records
from m3video.evaluation.tuning.questions import is_right_or_agrees, read_user_questions, records_of
from m3video.utils.json_lines import RELATIVE
from tests.evaluation.made import record


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "q.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_answers_options_and_videos(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"question": "Is it day?", "answer": "yes"},
        "",
        {"question": "What happens?", "id": "w"},
        {"question": "Which?", "options": ["a cat", "a dog"], "answer": "B", "video": "films/a.mp4"},
    )
    one, free, option = read_user_questions(path)
    assert (one.record.answer, one.record.metric, one.video) == ("yes", "exact", None)
    assert (free.record.answer, free.record.id) == ("", "w")
    assert (option.record.answer, option.record.metric) == ("a dog", "option")
    assert option.video == str(tmp_path / "films/a.mp4")
    # The batch reads the same file.
    assert [q.text for q in batch_questions(path).of_all] == ["Is it day?", "What happens?"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is no JSON object"),
        ({"answer": "x"}, "no question"),
        ({"question": " "}, "no question"),
        ({"question": "a", "answer": 3}, "answer must be a text"),
        ({"question": "a", "options": ["x"]}, "two texts"),
        ({"question": "a", "options": "xy"}, "list of texts"),
        ({"question": "a", "options": ["x", "y"], "answer": "z"}, "must be one of the options"),
        ({"question": "a", "video": 3}, "video must be"),
        ({"question": "first"}, "stands there twice"),
        ({"question": "a", "answer": "0:03", "metric": "time"}, "needs evidence"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: Any, why: str) -> None:
    with pytest.raises(UsageError, match="line 2") as caught:
        read_user_questions(written(tmp_path, {"question": "first"}, line))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the file is empty"):
        read_user_questions(written(tmp_path, ""))
    with pytest.raises(UsageError, match="cannot be read"):
        read_user_questions(tmp_path / "none.jsonl")
    (tmp_path / "q.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read: it is UTF-16LE"):
        read_user_questions(tmp_path / "q.jsonl")


def test_records_of_the_evaluation_are_questions(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    save_records([record(1, metric="time", evidence=(3.0, 5.0), answer="0:03")], path)
    (asked,) = read_user_questions(path)
    assert is_right_or_agrees(asked.record, "at 0:04", None)
    assert not is_right_or_agrees(asked.record, "at 0:06", None)


def test_each_video_gets_its_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = read_user_questions(
        written(
            tmp_path,
            {"question": "all"},
            {"question": "one", "video": "a.mp4"},
            {"question": "other", "video": "c.mp4"},
        )
    )
    about, notes = records_of(["a.mp4", "b.mp4"], asked)
    assert {video: [r.question for r in records] for video, records in about.items()} == {
        "a.mp4": ["all", "one"],
        "b.mp4": ["all"],
    }
    assert len({r.id for records in about.values() for r in records}) == 3
    assert {r.clip for r in about["a.mp4"]} == {"a.mp4"}
    assert notes == (f"1 of 3 questions are about other videos: left out ({RELATIVE})",)
    about, notes = records_of(["a.mp4", "b.mp4"], asked[1:])
    assert list(about) == ["a.mp4"]
    assert "1 of 2 videos have no question: left out" in notes
    with pytest.raises(
        UsageError, match=r"none of the 1 questions is about b\.mp4: video is a path relative to the folder of"
    ):
        records_of(["b.mp4"], asked[1:2])


def test_without_the_truth_the_reference_decides() -> None:
    asked = record(1, answer="", options=("a cat", "a dog"))
    assert is_right_or_agrees(asked, "B.", "(b) a dog")
    assert not is_right_or_agrees(asked, "A", "B")
    assert is_right_or_agrees(record(1, answer=""), "The Red one.", "red one")
    # A known answer is never overruled.
    assert not is_right_or_agrees(record(1, answer="red"), "blue", None)
