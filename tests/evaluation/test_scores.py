"""From answers to comparisons, on tables small enough to work out by hand."""

from __future__ import annotations

import math

import pytest

from m3video.evaluation.samples import SampleRow
from m3video.evaluation.scores import (
    Guesses,
    accuracy_difference,
    corrected,
    equal_cell,
    gap_closed,
    granularity_report,
    make_cells,
)
from m3video.types import SCALES
from tests.evaluation.made import record, row

FOUR = [record(n, clip=f"c{n // 2}", answer=answer) for n, answer in enumerate(("red", "blue", "red", "green"))]


def rows(method: str, budget: int, right: str, *, shown_as: str | None = None, visual: int = 10) -> list[SampleRow]:
    """One row for each of the four questions: `right` has a 1 for each right answer."""
    return [
        row(r, method, budget, right=mark == "1", shown_as=shown_as, visual=visual)
        for r, mark in zip(FOUR, right, strict=True)
    ]


def test_the_best_mix_is_shown_and_the_cheaper_of_equals() -> None:
    table = [
        *rows("uniform@4", 720, "1000", shown_as="uniform"),
        *rows("uniform@8", 720, "1101", shown_as="uniform"),
        *rows("uniform@16", 720, "0111", shown_as="uniform", visual=9),
        *rows("adaptive", 720, "1111"),
        *rows("adaptive", 144, "0001"),
    ]
    cells = make_cells(table, FOUR)
    assert [(c.method, c.variant, c.budget) for c in cells] == [
        ("adaptive", "adaptive", 144),
        ("uniform", "uniform@16", 720),
        ("adaptive", "adaptive", 720),
    ]
    assert [c.accuracy().value for c in cells] == [0.25, 0.75, 1.0]
    assert cells[1].mean("visual") == 9


def test_a_cell_with_missing_or_skipped_answers_is_not_shown() -> None:
    skipped = [*rows("fixed-576", 100, "1111")[:3], {**rows("fixed-576", 100, "1111")[3], "skipped": "no frame"}]
    assert make_cells(rows("adaptive", 144, "1111")[:3], FOUR) == []
    assert make_cells(skipped, FOUR) == []


def oracle_rows(budget: int, right_by_scale: dict[int, str]) -> list[SampleRow]:
    return [
        r
        for scale, right in right_by_scale.items()
        for r in rows(f"oracle-{scale}", budget, right, shown_as="oracle", visual=scale)
    ]


def test_the_oracle_takes_the_smallest_scale_that_is_right() -> None:
    table = oracle_rows(720, {1: "1000", 9: "1100", 36: "0100", 144: "0010", 576: "0000"})
    (cell,) = make_cells(table, FOUR)
    assert cell.accuracy().value == 0.75
    assert [a.visual for a in cell.answers] == [1, 9, 144, 1], "what nothing answers costs the least"
    assert make_cells(table[:-4], FOUR) == [], "an oracle that did not try all scales is none"
    without = [{**r, "skipped": "no frame"} if r["method"] == "oracle-576" else r for r in table]
    assert make_cells(without, FOUR)[0].accuracy().value == 0.75, "a scale above the budget is not tried"


def test_guesses_are_judged_against_other_clips() -> None:
    guesses = Guesses(FOUR)
    # Question 0 is about clip 0; clip 1 holds the answers red and green.
    assert guesses.chance(FOUR[0], ["red"]) == 0.5
    assert guesses.chance(FOUR[0], ["blue"]) == 0.0, "its own clip does not count"
    assert guesses.chance(FOUR[0], ["red", "red"]) == 0.5, "a repeated guess is one guess"
    assert guesses.chance(FOUR[0], ["red", "green"]) == 1.0
    assert guesses.chance(record(9, clip="c9", family="lonely"), ["red"]) == 0.0
    assert corrected(0.75, 0.5) == 0.5
    assert corrected(0.5, 0.5) == 0.0


def test_difference_and_gap_by_hand() -> None:
    table = [
        *rows("adaptive", 720, "1101"),
        *rows("uniform@4", 720, "1001", shown_as="uniform"),
        *oracle_rows(720, dict.fromkeys(SCALES, "1111")),
    ]
    cells = {c.method: c for c in make_cells(table, FOUR)}
    ours, uniform, oracle = cells["adaptive"], cells["uniform"], cells["oracle"]
    assert accuracy_difference(ours, uniform).value == pytest.approx(0.25)
    assert gap_closed(ours, uniform, oracle).value == pytest.approx(0.5)
    assert gap_closed(oracle, uniform, oracle).value == pytest.approx(1)
    assert math.isnan(gap_closed(ours, oracle, oracle).value), "no gap, no share"
    # Chance: adaptive says red .5, blue 0, wrong 0, green 0; uniform likewise; oracle red .5, blue 0, red .5, green 0.
    assert [c.mean("guessed") for c in (ours, uniform, oracle)] == [0.125, 0.125, 0.25]
    share = (corrected(0.75, 0.125) - corrected(0.5, 0.125)) / (corrected(1, 0.25) - corrected(0.5, 0.125))
    assert gap_closed(ours, uniform, oracle, correct=True).value == pytest.approx(share)


def test_granularity_by_hand() -> None:
    right = {1: "1000", 9: "1100", 36: "1110", 144: "1110", 576: "0110"}
    table = [
        r for scale, marks in right.items() for r in rows(f"granularity-{scale}", 0, marks, shown_as="granularity")
    ]
    whole, family = granularity_report(table, FOUR)
    assert (whole.family, family.family) == ("all", "background")
    assert [whole.by_scale[s].value for s in SCALES] == [0.25, 0.5, 0.75, 0.75, 0.5]
    assert whole.enough == 36
    assert whole.oracle_tokens == (1 + 9 + 36 + 1) / 4
    assert whole.oracle == 0.75
    assert granularity_report(table[:4], FOUR) == []
    assert make_cells(table, FOUR) == [], "granularity has no budget to compare at"


def test_uniform_at_equal_tokens_has_spent_as_much() -> None:
    asked = [record(n, clip=f"c{n}") for n in range(4)]
    rows = []
    for n, one in enumerate(asked):
        rows += [
            row(one, "adaptive", 36, right=n < 3, visual=36),
            row(one, "uniform@2", 36, right=True, shown_as="uniform", visual=18),
            row(one, "uniform@4", 36, right=n < 2, shown_as="uniform", visual=36),
            row(one, "uniform@8", 36, right=n < 1, shown_as="uniform", visual=36),
        ]
    cells = {cell.method: cell for cell in make_cells(rows, asked)}
    assert cells["uniform"].variant == "uniform@2"
    equal = equal_cell(rows, asked, cells["adaptive"])
    assert equal is not None
    assert (equal.variant, equal.mean("visual")) == ("uniform@4", 36)
    assert equal_cell([r for r in rows if r["method"] in ("adaptive", "uniform@2")], asked, cells["adaptive"]) is None
