"""The recommended budget follows its rule; scores, intervals and costs are those of the answers."""

from __future__ import annotations

import json
import math

import pytest

from m3video.evaluation.intervals import accuracy
from m3video.evaluation.tuning.report import TuneReport, make_tune_report, points, tune_json
from m3video.evaluation.tuning.search import FULL, BudgetMethod, TuneAnswer, TuneResult, VideoCost
from m3video.evaluation.tuning.show import tune_text
from tests.evaluation.made import record

Answers = dict[tuple[str, int], list[int]]
COMMAND = "m3video ask film.mp4 'what' --budget 180"


def tuned(
    answers: Answers,
    *,
    videos: int = 1,
    known: bool = True,
    reference: str = "",
    failed: tuple[str, ...] = (),
    with_peaks: bool = True,
) -> TuneResult:
    """`answers`: (method, budget) -> 1 for each question that was answered right; videos take them in turn."""
    outcomes = []
    for (method, budget), right in answers.items():
        for n, hit in enumerate(right):
            about = record(n, clip=f"v{n % videos}", answer="red" if known else "")
            outcomes.append(
                TuneAnswer(
                    BudgetMethod(method, budget),
                    about,
                    "red",
                    float(hit),
                    budget - 4,
                    budget + 30,
                    4,
                    0.5 if n < videos else 0.1,
                    n < videos,
                )
            )
    ways = [BudgetMethod(*way) for way in answers]
    costs = tuple(
        VideoCost(
            f"v{n}",
            8,
            2.0,
            0.8,
            1.6,
            dict.fromkeys(ways, 0.01),
            {way: 1000 + way.budget for way in ways} if with_peaks else None,
            1500,
        )
        for n in range(videos)
    )
    return TuneResult(tuple(outcomes), costs, failed, reference)


def both(adaptive: dict[int, list[int]], uniform: list[int]) -> Answers:
    found: Answers = {}
    for budget, right in adaptive.items():
        found["adaptive", budget], found["uniform", budget] = right, uniform
    return found


def report(adaptive: dict[int, list[int]], uniform: list[int] | None = None, **more: object) -> TuneReport:
    return make_tune_report(tuned(both(adaptive, uniform or [1] * len(adaptive[180])), **more))  # type: ignore[arg-type]


def test_the_smallest_budget_that_is_not_shown_to_be_worse() -> None:
    # 180 misses every second of forty questions that 2880 answers: beyond any interval. 720 misses one.
    found = report({180: [1, 0] * 20, 720: [1] * 39 + [0], 2880: [1] * 40})
    assert found.recommended.setting == BudgetMethod("adaptive", 720)
    assert "--budget 2880" in found.why
    by_budget = {row.setting.budget: row for row in found.rows if row.setting.method == "adaptive"}
    assert by_budget[180].minus_best is not None
    assert by_budget[180].minus_best.high < 0 <= by_budget[180].minus_best.high + 1
    assert by_budget[720].minus_best is not None
    assert by_budget[720].minus_best.high >= 0
    assert not any("smallest budget tried" in note for note in found.notes)


def test_equal_answers_take_the_smallest_and_say_so() -> None:
    found = report({180: [1, 1, 0, 1], 720: [1, 1, 0, 1]})
    assert found.recommended.setting.budget == 180
    assert found.why.startswith("it is the best")
    assert "180 is the smallest budget tried: a smaller one may do as well" in found.notes


def test_the_best_is_taken_when_all_smaller_ones_are_worse() -> None:
    found = report({180: [0] * 30, 720: [1] * 30})
    assert found.recommended.setting.budget == 720


def test_one_question_has_no_interval() -> None:
    found = report({180: [0], 720: [1]})
    assert found.recommended.setting.budget == 180
    assert found.recommended.minus_best is not None
    assert math.isnan(found.recommended.minus_best.low)
    value = tune_json(found, command=COMMAND)
    assert value["rows"][0]["minus_best"] == {"value": -1.0, "low": None, "high": None}
    json.dumps(value, allow_nan=False)
    assert "-100.0" in tune_text(found, COMMAND)


def test_intervals_are_over_videos_when_there_are_several() -> None:
    right = [1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1]
    few = report({180: right}, videos=4)
    assert few.intervals == "95 % intervals over 12 questions: they hold for these 4 videos, not for others"
    many = report({180: right}, videos=6)
    assert many.intervals == "95 % intervals over 6 videos"
    assert many.rows[0].score == accuracy(right, [f"v{n % 6}" for n in range(12)])
    assert few.rows[0].score == accuracy(right, [str(n) for n in range(12)])


def test_costs_are_one_questions_share() -> None:
    found = report({180: [1, 1, 1, 1], 2880: [1, 1, 1, 1]}, videos=2)
    row = found.rows[0]
    # Four of the eight frames that were decoded and encoded for all budgets together.
    assert row.seconds == {
        "analyze": 2.0,
        "plan": pytest.approx(0.01),
        "fetch": pytest.approx(0.4),
        "vision tower": pytest.approx(0.8),
        "answer": 0.5,
        "follow-up": pytest.approx(0.1),
    }
    assert row.ask_seconds == pytest.approx(2.0 + 0.01 + 0.4 + 0.8 + 0.5)
    assert [row.peak_memory_bytes for row in found.rows] == [1500, 1500, 3880, 3880]
    assert report({180: [1]}, with_peaks=False).rows[0].peak_memory_bytes is None
    assert report({180: [1]}).rows[0].seconds["follow-up"] is None


def test_the_front_is_what_nothing_beats() -> None:
    answers = both({180: [1, 0, 0, 0], 720: [1, 1, 0, 0]}, [1, 0, 0, 0])
    answers["uniform", 720] = [1, 1, 1, 0]
    found = make_tune_report(tuned(answers))
    assert {row.setting for row in found.rows if row.is_on_front} == {
        BudgetMethod("adaptive", 180),
        BudgetMethod("uniform", 180),
        BudgetMethod("uniform", 720),
    }


def test_what_a_reader_must_know_is_reported() -> None:
    found = make_tune_report(
        tuned(
            {(FULL, 3456): [1] * 30, **both({180: [0] * 30, 720: [1] * 30}, [1] * 30)},
            known=False,
            reference="full tokens: up to 6 candidates",
            failed=("b.mp4: no video",),
        ),
        ("left out, because they do not fit: 9999",),
    )
    assert found.judged == "the same answer as with full tokens"
    assert found.notes[0] == "left out, because they do not fit: 9999"
    assert "left out: b.mp4: no video" in found.notes
    assert any("6 candidates; an answer agrees when it is the same words" in note for note in found.notes)
    assert any(note.startswith("at a budget of 180 even frames answer more") for note in found.notes)
    reference = found.rows[-1]
    assert reference.setting.method == FULL
    assert not reference.is_on_front
    assert reference.minus_uniform is None


def test_the_text_fits_80_columns() -> None:
    found = report({180: [1, 0] * 20, 720: [1] * 40, 12880: [1] * 40}, [0, 1] * 20)
    text = tune_text(found, COMMAND)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.splitlines()[-1] == COMMAND
    assert text.splitlines()[0] == "40 questions about 1 video: right by the answers given"


def test_points() -> None:
    row = report({180: [1] * 4, 720: [1] * 4}).rows[0]
    assert row.minus_best is not None
    assert points(row.minus_best) == "+0.0 [+0.0, +0.0]"
