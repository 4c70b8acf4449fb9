"""One record type: what is right, and files of questions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from m3video.errors import UsageError
from m3video.evaluation.records import (
    Record,
    is_right,
    load_records,
    parse_option,
    parse_time,
    prompt_text,
    save_records,
)
from m3video.evaluation.tuning.questions import read_user_questions
from tests.evaluation.made import record

OPTIONS = ("a dog", "the cat", "a red bird")


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("A", 0),
        ("b", 1),
        ("C.", 2),
        ("(B)", 1),
        ("B) the cat", 1),
        ("B: the dog", 1),
        (" C\n", 2),
        ("the cat", 1),
        ("Cat.", 1),
        ("a red bird", 2),
        ("A dog", 0),
        ("A red bird", 2),
        ("", None),
        ("D", None),
        ("Because", None),
        ("a horse", None),
        ("bird", None),
        ("The answer is B", 1),
        ("The best answer is: (C)", 2),
        ("the answer is a red bird", 2),
        ("Answer: B. the cat", 1),
        ("**B**", 1),
        ("I choose option C.", 2),
        ("It cannot be (A), so the correct option is (B).", 1),
        ("Either (A) or (B)", None),
        ("I see the cat there", 1),
        ("a dog and the cat", None),
        ("A man is walking", None),
        ("the answer is D", None),
    ],
)
def test_options(text: str, option: int | None) -> None:
    assert parse_option(text, OPTIONS) == option


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:07", 7), ("at 1:02:03.", 3723), ("it is 12:30", 750), ("7", None), ("", None)]
)
def test_times(text: str, seconds: float | None) -> None:
    assert parse_time(text) == seconds


def test_right_is_the_same_words() -> None:
    one = record(1, answer="top left")
    assert all(is_right(one, text) for text in ("top left", "Top left.", " the top  left"))
    assert not any(is_right(one, text) for text in ("top", "top left corner", "left top", ""))
    assert not is_right(record(1, answer="4721"), "472")


def test_right_option_and_right_time() -> None:
    two = record(2, answer="the cat", options=OPTIONS, metric="option")
    assert is_right(two, "B")
    assert not is_right(two, "C")
    assert prompt_text(two).endswith(
        "\nA. a dog\nB. the cat\nC. a red bird\nAnswer with the option's letter from the given choices directly."
    )
    when = record(3, answer="0:07", metric="time", evidence=(7.6, 9.2))
    assert [is_right(when, f"0:0{s}") for s in (6, 7, 8, 9)] == [False, True, True, True]
    assert not is_right(when, "0:10")
    assert not is_right(when, "seven")


@pytest.mark.parametrize(
    "changes",
    [
        {"group": "tiny"},
        {"metric": "bleu"},
        {"question": " "},
        {"metric": "option"},
        {"metric": "option", "options": ("x", "y")},
        {"metric": "time"},
        {"evidence": (3.0, 2.0)},
        {"reference": "at 0:07", "moment": 7.0},
        {"reference": "colour"},
    ],
)
def test_a_record_without_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        record(1, **changes)


def test_a_saved_file_is_read_as_the_same_questions(tmp_path: Path) -> None:
    records = [
        record(1, question="Welche Farbe? ä", evidence=(0.0, 1.5)),
        record(2, answer="the cat", options=OPTIONS, metric="option", localised=False),
        record(3, question="what at 0:02", moment=2.5, reference="at 0:02", group="fine"),
    ]
    save_records(records, tmp_path / "q.jsonl")
    found = [asked.record for asked in read_user_questions(tmp_path / "q.jsonl")]
    assert found == [replace(r, video="-", clip="-") for r in records]
    assert [json.loads(line)["video"] for line in (tmp_path / "q.jsonl").read_text("utf-8").splitlines()] == [
        "v.mp4"
    ] * 3
    assert len({r.hash for r in records}) == 3


def test_the_hash_does_not_depend_on_the_place() -> None:
    one: Record = record(1)
    assert one.hash == replace(one, video="elsewhere.mp4").hash != replace(one, answer="blue").hash


def test_labels_in_front_of_options_name_them() -> None:
    options = ("Option 1: He runs.", "Option 2: He sits.")
    assert [parse_option(t, options) for t in ("Option 2", "option 1: He", "Option 2: He sits.")] == [1, 0, 1]
    assert parse_option("Option 3", options) is None


def test_yes_and_no_stand_in_front() -> None:
    one = record(1, answer="no", metric="yes-no")
    assert [is_right(one, text) for text in ("No.", "no, he sits", "yes", "not", "Nothing", "")] == [1, 1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="yes or no"):
        record(1, answer="maybe", metric="yes-no")


def test_a_benchmarks_own_wording_is_the_prompt() -> None:
    one = record(1, answer="a", options=("a", "b"), metric="option", prompt="Q\n(A) a\n(B) b\nBest option: (")
    assert prompt_text(one) == one.prompt


def test_records_come_back_as_they_were_saved(tmp_path: Path) -> None:
    asked = [record(1), record(2, answer="a", options=("a", "b"), metric="option", group=None, evidence=(1.0, 2.5))]
    save_records(asked, tmp_path / "r.jsonl")
    assert load_records(tmp_path / "r.jsonl") == asked
    (tmp_path / "r.jsonl").write_text('{"id": "1"}\n')
    with pytest.raises(UsageError, match="holds no questions"):
        load_records(tmp_path / "r.jsonl")
