"""`m3video eval confidence` as a user meets it: fit to some questions, measured on others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from m3video.inference.confidence import find_curve
from m3video.inference.evidence import SAMPLE
from m3video.model.m3.model_paths import RENDERED_FOLDER
from m3video.training.sample import sample_clip
from tests import command


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return command.run(
        [sys.executable, "-m", "m3video.cli", "eval", "confidence", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=400,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80"},
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of the user's own: a copy, without a curve."""
    shutil.copytree(RENDERED_FOLDER, tmp_path / "m")
    return tmp_path / "m"


def questions(path: Path) -> Path:
    """About the sample, each with its true answer, or with a wrong one for every third."""
    clip, lines = sample_clip(), []
    for number in range(22):
        second = 0.25 + 0.5 * number
        truth = clip.facts(second).background
        answer = truth if number % 3 else "no such colour"
        question = f"What colour is the background at 0:{int(second):02d}.{int(second % 1 * 100):02d}?"
        lines.append(json.dumps({"question": question, "answer": answer, "video": str(SAMPLE), "id": str(number)}))
    path.write_text("\n".join(lines))
    return path


def test_a_model_is_fitted_and_then_measured(model: Path, tmp_path: Path) -> None:
    asked = questions(tmp_path / "q.jsonl")
    before = run("--model", model, "--questions", asked, "--budgets", 36)
    assert before.returncode == 2
    assert "has no confidence yet: fit it first" in before.stderr
    fitted = run("--model", model, "--questions", asked, "--budgets", 36, "--fit", "-q")
    assert fitted.returncode == 0, fitted.stderr
    assert "| likelihood |" in fitted.stdout
    curve = find_curve(str(model))
    assert curve is not None
    assert (curve.made["answers"], curve.made["budgets"]) == (22, [36])
    measured = run("--model", model, "--questions", asked, "--budgets", 36, "--json", "-q")
    assert measured.returncode == 0, measured.stderr
    value = json.loads(measured.stdout)
    assert value["right"]["answers"] == 22
    assert value["curve"]["measure"] == curve.measure


def test_mistakes_are_one_line(model: Path, tmp_path: Path) -> None:
    open_question = tmp_path / "q.jsonl"
    open_question.write_text(json.dumps({"question": "what is it?", "video": str(SAMPLE)}))
    for arguments, message in (
        (("--model", model, "--questions", open_question, "--fit"), "needs a video and the true answer"),
        (("--model", model, "--fit", "--plot", tmp_path / "p.png"), "leave it out with --fit"),
        (("--model", model, "--budgets", "x"), "--budgets (x)"),
    ):
        done = run(*arguments, "-q")
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
