"""Reading: texts of the wanted kind, compared letter by letter; and results as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from m3video.evaluation.intervals import Interval
from m3video.evaluation.natural import reading, rows
from m3video.evaluation.natural.asking import Case
from m3video.evaluation.natural.rows import MIXED, Row
from m3video.model.m3.checkpoint import LoadedModel
from m3video.training.natural.splits import part_of
from tests.evaluation.natural.made import bench, write_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    letters = "abcdefghijklmnopqrstuvwxyz"
    text = " ".join(f"{a}{b}e" for a in letters for b in "aeiou")
    write_set(made, "flickr8k/dev.jsonl", [{"image": f"{n}.jpg", "captions": [text]} for n in range(3)])
    return made


def test_texts_are_of_their_kind_and_of_the_part(tiny_chatml: LoadedModel, folder: Path) -> None:
    shown = reading.drawn_texts(bench(tiny_chatml, folder, limit=2))
    assert [(kind, place) for _, _, kind, place in shown] == [
        (kind, place) for kind in reading.TEXTS for place in reading.PLACES for _ in range(2)
    ]
    for picture, text, kind, _ in shown:
        assert picture.size == (384, 384)
        assert (len(text.split()), text.isdigit()) == {"word": (1, False), "number": (1, True), "line": (5, False)}[
            kind
        ]
        assert {part_of("texts", word) for word in text.split()} == {"dev"}


def test_errors_are_counted_over_letters(
    tiny_chatml: LoadedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every text is read with its last letter lost, numbers are read right and in quotes."""
    own = bench(tiny_chatml, folder, limit=2)
    texts = [(text, kind) for _, text, kind, _ in reading.drawn_texts(own)]
    monkeypatch.setattr(reading, "SCALES", (1,))

    def answers(loaded: LoadedModel, cases: Sequence[Case], **_: Any) -> list[list[str]]:
        return [[f'"{text.upper()}".' if kind == "number" else text[:-1]] for text, kind in texts]

    monkeypatch.setattr(reading, "greedy_answers", answers)
    found = {row.what: row.interval.value for row in reading.reading(own)}
    assert found["exact, number on a sign"] == 1
    assert found["character error rate, number on a sign"] == 0
    assert found["exact, line on a slide"] == 0
    start = 6 + 6 + 2  # words, numbers, lines on subtitles
    lengths = [len(text) for text, _ in texts[start : start + 2]]
    assert found["character error rate, line on a slide"] == pytest.approx(2 / sum(lengths))


def test_edits() -> None:
    assert reading.edits("kitten", "sitting") == 3
    assert reading.edits("", "abc") == reading.edits("abc", "") == 3
    assert reading.edits("same", "same") == 0


def test_balanced_accuracy_is_the_mean_of_both_shares() -> None:
    truth = [True] * 8 + [False] * 2
    right = [True] * 8 + [True, False]
    found = rows.balanced(right, truth, [str(number) for number in range(10)])
    assert found.value == pytest.approx((1 + 0.5) / 2)
    assert found.answers == 10
    assert rows.balanced([True], [True], ["a"]).value != rows.balanced([True], [True], ["a"]).value  # nan: no "no"


def test_a_quotient_resamples_clusters() -> None:
    found = rows.quotient([1, 0, 1, 1] * 5, [1, 1, 1, 0] * 5, [str(number // 2) for number in range(20)])
    assert found.value == pytest.approx(15 / 15)
    assert found.low < 1 < found.high
    assert (found.answers, found.clips) == (20, 10)


def test_a_table_has_a_column_for_each_scale() -> None:
    interval = Interval(0.5, 0.25, 0.75, 40, 20)
    made = [
        Row("daquar", "exact match", 9, interval, {"commonest answer": 0.125}),
        Row("daquar", "exact match", 36, interval._replace(value=0.625)),
        Row("reels", "shown at", MIXED, interval._replace(low=float("nan"), high=float("nan"))),
    ]
    assert rows.markdown(made).splitlines() == [
        "| measure | what | 9 | 36 | mixed | answers | beside |",
        "|---|---|---|---|---|---|---|",
        "| daquar | exact match | 0.50 [0.25, 0.75] | 0.62 [0.25, 0.75] |  | 40 of 20 | commonest answer 0.12 |",
        "| reels | shown at |  |  | 0.50 | 40 of 20 |  |",
    ]
    assert json.loads(json.dumps(made[2].as_json(), allow_nan=False))["low"] is None
