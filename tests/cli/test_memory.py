"""`plan --memory` and `ask --memory` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_app import SAMPLE, one_line_error, run


def test_the_table_says_what_fits_and_why() -> None:
    done = run("plan", SAMPLE, "--memory", "1GiB", "--device", "cpu", COLUMNS="60")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "fits 4," in text or "fits 3," in text
    assert "what the memory allows" in text
    assert "limits --memory (1.0 GiB) (without it" in text
    assert "memory weights 16 MiB (float32)" in text
    assert max(map(len, done.stdout.splitlines())) <= 60


def test_a_plan_that_fits_can_be_saved_and_shown(tmp_path: Path) -> None:
    done = run("plan", SAMPLE, "--memory", "2GiB", "--budget", 144, "--device", "cpu", "--json", "-o", tmp_path / "p")
    plan = json.loads(done.stdout)
    assert plan["budget"] == 144
    assert any(warning.startswith("fits: 144 tokens") for warning in plan["warnings"])
    answer = run("ask", SAMPLE, "day or night?", "--plan", tmp_path / "p", "--json")
    assert json.loads(answer.stdout)["plan"]["frames"] == plan["frames"]


def test_ask_says_which_budget_came_out() -> None:
    done = run("ask", SAMPLE, "day or night?", "--memory", "2GiB", "--budget", 40, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "note: memory: 40 tokens" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--memory", "8"), 2, "--memory (8): size (8) must be a number with a unit, e.g. 8GiB"),
        (("--memory", "-1GiB"), 2, "must be a number with a unit"),
        (("--memory", "600MiB", "--device", "cpu"), 4, "more than the 600 MiB there are: it takes 9"),
        (("--measure",), 2, "give --memory as well"),
        (("--memory", "8GiB", "--model", "./none"), 1, "model (./none) is no folder"),
        (("--memory", "8GiB", "--model", "nobody/nothing"), 1, "not in the cache, and cannot be fetched"),
        (("--quantize", "int3"), 2, "--quantize (int3)"),
    ],
)
def test_user_errors_are_one_line(arguments: tuple[object, ...], code: int, message: str) -> None:
    assert message in one_line_error(run("plan", SAMPLE, *arguments, HF_HUB_OFFLINE="1"), code)


def test_a_peak_that_cannot_be_kept_is_reported_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = run(
        "plan",
        SAMPLE,
        "--memory",
        "1GiB",
        "--device",
        "cpu",
        "--measure",
        "--budget",
        36,
        M3VIDEO_CACHE_DIR=str(tmp_path / "file"),
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    text = "".join(done.stdout.split())
    assert "measuredpeak" in text
    assert f"notkeptforthenextplan:{tmp_path}/file/memory.json:" in text
