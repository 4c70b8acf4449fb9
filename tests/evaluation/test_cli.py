"""`m3video eval footage` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m3video.cli.eval import parse_budgets
from m3video.errors import UsageError
from tests import command

COMMAND = (sys.executable, "-m", "m3video.cli", "eval", "footage")
SMALL = ("--clips", "1", "--questions", "4", "--max-frames", "4", "--budgets", "12,36")


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return command.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=400,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def test_help_has_an_example_and_fits_80_columns() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "Example: m3video eval footage" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budgets", "1,x"), "--budgets (1,x)"),
        (("--budgets", "0"), "--budgets (0)"),
        (("--methods", "adaptve"), "did you mean adaptive"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_budgets() -> None:
    assert parse_budgets("720, 144,144") == [144, 720]
    with pytest.raises(UsageError):
        parse_budgets("")


def test_a_small_run_prints_json_and_leaves_its_answers(tmp_path: Path) -> None:
    where = ("--out", tmp_path / "out", "--cache", tmp_path / "cache")
    done = run(*SMALL, *where, "--methods", "adaptive,uniform", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["results"].keys() == {f"footage_{m}_{b}" for m in ("adaptive", "uniform") for b in (12, 36)}
    assert value == json.loads((tmp_path / "out" / "results.json").read_text())
    assert (tmp_path / "out" / "records.jsonl").read_text().count("\n") == 4
    assert "answers go to" in done.stderr
    again = run(*SMALL, *where, "--methods", "adaptive,uniform", "--quiet")
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert "budget 36 tokens: per cent right" in again.stdout


def test_ctrl_c_ends_in_one_line_and_keeps_answers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--clips", "2", "--budgets", "144,288,720,1440", "--out", str(out), "--cache", str(tmp_path / "cache")]
    # A shell starts background jobs with SIGINT ignored, and children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 300
    while not (out / "samples.jsonl").exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.1)
    assert child.poll() is None, "it ended before it could be interrupted"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=200)
    assert child.returncode == 130
    assert "Traceback" not in said
    assert "goes on from there" in said.splitlines()[-1]
    assert (out / "samples.jsonl").read_text().endswith("\n")
