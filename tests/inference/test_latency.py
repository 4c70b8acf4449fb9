"""Estimated times: none without a measurement, close to the measurements with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.inference.latency import MOST_RUNS, Run, estimate, predict, remember
from m3video.types import Answer, TokenPlan
from tests.planning.plans import PLAN


def answer(*, seconds: float = 1.0, plan: TokenPlan = PLAN) -> Answer:
    return Answer(
        question="?",
        text="!",
        evidence=None,
        model="m",
        visual_tokens=720,
        prompt_tokens=762,
        answer_tokens=2,
        stage_seconds={"load model": seconds, "fetch": seconds, "vision tower": seconds, "answer": seconds},
        peak_memory_bytes={},
        plan=plan,
    )


def test_nothing_is_estimated_before_something_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "times.json"
    assert estimate(PLAN, Settings(), file) is None
    remember(answer(), Settings(model="other"), file)
    remember(answer(), Settings(device="cpu"), file)
    assert estimate(PLAN, Settings(), file) is None
    remember(answer(), Settings(), file)
    found = estimate(PLAN, Settings(), file)
    assert found is not None
    assert found.num_runs == 1
    # The same work again takes what it took.
    assert found.seconds == pytest.approx(4.0)
    assert estimate(replace(PLAN, text_tokens=None), Settings(), file) is None


def test_only_the_latest_runs_are_stored(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    for seconds in [9.0] * MOST_RUNS + [1.0] * MOST_RUNS:
        remember(answer(seconds=seconds), Settings(), file)
    found = estimate(PLAN, Settings(), file)
    assert found is not None
    assert (found.num_runs, found.seconds) == (MOST_RUNS, pytest.approx(4.0))


@pytest.mark.parametrize("text", ["", "[1]", "{", "{}"])
def test_a_damaged_file_holds_nothing_and_is_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "times.json"
    file.write_text(text)
    assert estimate(PLAN, Settings(), file) is None
    remember(answer(), Settings(), file)
    assert estimate(PLAN, Settings(), file) is not None


def test_costs_of_prompt_and_answer_tokens_are_separated() -> None:
    """0.01 s a prompt token, 0.1 s an answer token, 0.5 s a frame, 2 s to load."""
    runs = [
        Run(n, p, a, 2.0, 0.1 * n, 0.4 * n, 0.01 * p + 0.1 * a) for n, p, a in [(2, 100, 5), (4, 900, 5), (8, 300, 9)]
    ]
    found = predict(runs, frames=10, prompt_tokens=1000)
    assert found is not None
    assert found.seconds == pytest.approx(2.0 + 5.0 + 10.0 + 0.5)
    assert predict([], frames=1, prompt_tokens=1) is None
