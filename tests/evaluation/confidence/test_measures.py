"""Calibration and right against wrong, on answers whose truth is known because they were drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3video.errors import UsageError
from m3video.evaluation.confidence.asking import Judged
from m3video.evaluation.confidence.measures import auc, auc_over_clips, compare, fit, report, sureness
from m3video.evaluation.confidence.show import compare_text, report_json, report_text
from m3video.inference.confidence import MEASURES, ConfidenceCurve


def judged(log: float, *, right: bool, clip: str = "c") -> Judged:
    return Judged(clip, "background", 720, "red", (log / 2, log / 2), (-log, 1 - log), right)


def drawn(seed: int, count: int = 2000) -> list[Judged]:
    """Answers of which a share of exp(log / 3) is right: the truth that a curve should find."""
    made = np.random.default_rng(seed)
    logs = -made.exponential(2.0, count)
    rights = made.random(count) < np.exp(logs / 3)
    return [judged(logs[n], right=bool(rights[n]), clip=f"c{n % 20}") for n in range(count)]


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    right, wrong = ([value for value, is_right in pairs if is_right == wanted] for wanted in (True, False))
    found = auc(np.array([value for value, _ in pairs], float), np.array([is_right for _, is_right in pairs]))
    if not right or not wrong:
        assert np.isnan(found)
        return
    in_order = [(one > other) + 0.5 * (one == other) for one in right for other in wrong]
    assert found == pytest.approx(np.mean(in_order))


def test_weights_count_answers_several_times() -> None:
    sure, right = np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, True, False, False])
    twice = np.array([1.0, 2.0, 1.0, 1.0])
    assert auc(sure, right, twice) == pytest.approx(auc(sure[[0, 1, 1, 2, 3]], right[[0, 1, 1, 2, 3]]))


def test_a_curve_finds_the_truth_and_holds_on_other_answers() -> None:
    curve = fit(drawn(1, 20_000), "likelihood", {"model": "drawn"})
    for log in (-6.0, -3.0, -1.0, -0.3):
        assert curve.confidence((log / 2, log / 2), (1.0, 1.0)) == pytest.approx(np.exp(log / 3), abs=0.05)
    found = report(drawn(2, 20_000), curve)
    assert found.ece < 0.03
    assert found.auc.low < found.auc.value < found.auc.high
    assert found.auc.value > 0.7
    for one in found.bins:
        assert one.right.value == pytest.approx(one.confidence, abs=0.06)
    rising = [one.right.value for one in found.kept]
    assert rising == sorted(rising)
    assert [one.answered for one in found.kept] == sorted((one.answered for one in found.kept), reverse=True)


def test_answers_that_say_nothing_are_told_apart_no_better_than_by_chance() -> None:
    made = np.random.default_rng(0)
    rows = [judged(-float(made.exponential()), right=n % 4 > 0, clip=f"c{n % 20}") for n in range(2000)]
    found = report(rows, fit(rows[:1000], "likelihood", {}))
    assert found.auc.low < 0.5 < found.auc.high
    overconfident = ConfidenceCurve("likelihood", [-9.0, 0.0], [0.99, 1.0], {})
    assert report(rows, overconfident).ece == pytest.approx(0.25, abs=0.02)


def test_the_measures_are_compared_best_first() -> None:
    found = compare(drawn(3))
    assert set(found) == set(MEASURES)
    values = [one.value for one in found.values()]
    assert values == sorted(values, reverse=True)
    assert found["shortness"].value == 0.5  # all have two tokens
    assert compare_text(found).count("\n") == len(MEASURES) + 1


@pytest.mark.parametrize("measure", MEASURES)
def test_a_greater_measure_means_surer(measure: str) -> None:
    sure = Judged("c", "f", 1, "a", (-0.01,), (9.0,), True)
    unsure = Judged("c", "f", 1, "a b", (-0.7, -0.9), (0.1, 0.2), True)
    one, other = sureness([sure, unsure], measure)
    assert one > other


@pytest.mark.parametrize("rights", [[True] * 50, [False] * 50, [True, False] * 5])
def test_too_little_to_fit_is_refused(rights: list[bool]) -> None:
    with pytest.raises(UsageError, match="give more questions"):
        fit([judged(-n / 10, right=right) for n, right in enumerate(rights)], "likelihood", {})


@given(st.lists(st.tuples(st.floats(-30, 0), st.booleans()), min_size=20, max_size=80))
def test_any_curve_rises_and_is_never_certain(pairs: list[tuple[float, bool]]) -> None:
    if len({right for _, right in pairs}) < 2:
        return
    curve = fit([judged(log, right=right) for log, right in pairs], "likelihood", {})
    for log in (-1e9, -10.0, -1e-9, 0.0):
        assert 0 < curve.confidence((log,), (1.0,)) < 1


def test_a_report_is_text_and_json() -> None:
    rows = drawn(4, 200)
    curve = fit(rows, "least margin", {"model": "drawn"})
    found = report(rows, curve)
    value = json.loads(json.dumps(report_json(found, curve), allow_nan=False))
    assert value["curve"]["measure"] == "least margin"
    assert sum(one["right"]["answers"] for one in value["bins"]) == 200
    text = report_text(found)
    assert "200 answers about 20 clips" in text
    assert "| 0.9 |" in text


def test_one_clip_has_no_interval() -> None:
    rows = [judged(-1.0, right=True), judged(-2.0, right=False)]
    found = auc_over_clips(sureness(rows, "likelihood"), rows)
    assert found.value == 1.0
    assert np.isnan(found.low)


def test_the_diagram_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from m3video.evaluation.confidence.show import save_plot

    rows = drawn(5, 300)
    save_plot(report(rows, fit(rows, "likelihood", {})), "drawn", tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
