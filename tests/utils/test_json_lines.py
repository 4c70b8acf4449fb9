"""Hand-written JSONL: what is read, and what is refused rather than ignored."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from m3video.distributed.items import read_batch_questions as batch_questions
from m3video.errors import M3VideoError, UsageError
from m3video.evaluation.records import Record
from m3video.evaluation.tuning.questions import read_user_questions as tune_questions
from m3video.utils.json_lines import RECORD_KEYS, RELATIVE, json_lines

READERS = [batch_questions, tune_questions]
FULL = {
    "id": "1",
    "video": "a.mp4",
    "question": "what?",
    "answer": "red",
    "family": "f",
    "group": "coarse",
    "localised": False,
    "clip": "a.mp4",
}


def test_the_keys_are_those_of_a_record() -> None:
    assert set(RECORD_KEYS) == {field.name for field in fields(Record)}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("video_path", f"did you mean video? ({RELATIVE})"),
        ("videos", f"did you mean video? ({RELATIVE})"),
        ("Video", f"did you mean video? ({RELATIVE})"),
        ("answr", "did you mean answer?"),
        ("answers", "did you mean answer?"),
        ("option", "did you mean options?"),
        ("qestion", "did you mean question?"),
        ("xyz", "known are question, answer, options, id, video"),
        ("a\nb\ud800", "known are question"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(read: Any, key: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(FULL) + "\n\n" + json.dumps({**FULL, "id": "2", key: "a.mp4"}) + "\n")
    with pytest.raises(M3VideoError) as caught:
        read(path)
    assert f"{path}, line 3: unknown key '" in str(caught.value)
    assert told in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"question": "what \\ud800?"}', r"line 1: question (what \ud800?) holds \ud800, which is half a character"),
        (b'{"question": "a", "options": ["b", "\\udce9"]}', r"line 1: options (\udce9) holds the byte 0xe9"),
        (b'{"question": "a", "question": "b"}', "line 1: question stands there twice"),
        (b'{"question": "caf\xe9"}', "cannot be read: line 1 holds the byte 0xe9, which is not UTF-8"),
        ('{"question": "a"}'.encode("utf-16"), "cannot be read: it is UTF-16LE: save it as UTF-8"),
        (b"{", "line 1 is not JSON"),
        (b'"what?"', "line 1 is no JSON object"),
        (b"[" * 100000, "line 1"),
    ],
)
def test_what_is_no_text_or_no_object_is_one_line(read: Any, line: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(line)
    with pytest.raises(M3VideoError) as caught:
        read(path)
    assert told in str(caught.value)
    assert str(caught.value).isprintable()


def test_line_ends_of_unicode_a_mark_and_a_name_of_any_bytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes('\ufeff{"question": "one\u2028two\x85?"}\r\n{"question": "b", "video": "caf\\udce9.mp4"}'.encode())
    read = batch_questions(path)
    assert [q.text for q in read.of_all] == ["one\u2028two\x85?"]
    assert list(read.of_one) == [f"{tmp_path}/caf\udce9.mp4"]
    assert len(list(json_lines(path))) == 2
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        next(json_lines(tmp_path / "none"))
