"""Two run folders paired: only what both hold, question by question."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from m3video.errors import UsageError
from m3video.evaluation.compare_runs import compare_runs, comparison_json, print_comparison
from m3video.evaluation.records import Record, save_records
from tests.evaluation.made import record, row

ASKED = [record(n, clip=f"c{n % 3}") for n in range(6)]


def run(folder: Path, asked: list[Record], right: int, *, budgets: tuple[int, ...] = (36,)) -> Path:
    folder.mkdir()
    save_records(asked, folder / "records.jsonl")
    rows = [row(one, "adaptive", b, right=n < right, visual=b) for b in budgets for n, one in enumerate(asked)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def test_runs_are_paired(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", ASKED, 2, budgets=(36, 144)), run(tmp_path / "b", ASKED[:5], 4)
    found = compare_runs(first, second)
    (cell,) = comparison_json(found)["cells"]
    assert (cell["method"], cell["budget"], cell["answers"]) == ("adaptive", 36, 5)
    assert cell["first"]["accuracy"]["value"] == pytest.approx(2 / 5)
    assert cell["difference"]["value"] == pytest.approx(2 / 5)
    assert found.notes == (f"1 question of {first} not in both: left out",)
    out = io.StringIO()
    print_comparison(found, Console(file=out, width=160), names=("a", "b"))
    assert "+40.0 [" in out.getvalue()
    (same,) = comparison_json(compare_runs(second, second))["cells"]
    assert same["difference"] == {"value": 0, "low": 0, "high": 0}


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "a", ASKED, 2)
    changed = [record(n, clip=f"c{n % 3}", answer="blue") for n in range(6)]
    with pytest.raises(UsageError, match="differ in question q"):
        compare_runs(first, run(tmp_path / "b", changed, 2))
    with pytest.raises(UsageError, match="share no answered"):
        compare_runs(first, run(tmp_path / "c", ASKED, 2, budgets=(144,)))
    with pytest.raises(UsageError, match="holds no questions of m3video eval"):
        compare_runs(first, tmp_path)
