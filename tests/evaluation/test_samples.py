"""The folder of a run: nothing is lost, nothing is mixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3video.errors import UsageError
from m3video.evaluation.samples import RunFolder, read_sample_rows
from tests.evaluation.made import record, row

IDENTITY = {"model": "rendered", "max_frames": 16}
ROWS = [row(record(n), "adaptive", 720, right=True) for n in range(3)]


def test_answers_come_back_in_the_next_run(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "a" / "run", IDENTITY)
    assert first.done == set()
    first.add_samples(ROWS)
    first.add_plan("p", [(1, "pool", 9)])
    first.add_plan("p", [(1, "pool", 9)])
    again = RunFolder(tmp_path / "a" / "run", IDENTITY)
    assert again.done == {("adaptive", 720, f"q{n}") for n in range(3)} == first.done
    again.add_plan("p", [(1, "pool", 9)])
    assert again.samples() == ROWS
    assert read_sample_rows(tmp_path / "a" / "run" / "plans.jsonl") == [{"plan": "p", "pieces": [[1, "pool", 9]]}]


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_torn_line_is_cut_off_and_the_answer_is_asked_again(tmp_path: Path, left: int) -> None:
    RunFolder(tmp_path, IDENTITY).add_samples(ROWS)
    path = tmp_path / "samples.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:left])
    again = RunFolder(tmp_path, IDENTITY)
    assert len(again.done) == 2
    again.add_samples(ROWS[2:])
    assert RunFolder(tmp_path, IDENTITY).samples() == ROWS


def test_a_damaged_line_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    RunFolder(tmp_path, IDENTITY).add_samples(ROWS)
    path = tmp_path / "samples.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"q1"', b'"q1', 1))
    with pytest.raises(UsageError, match="line 2 is damaged"):
        RunFolder(tmp_path, IDENTITY)


@pytest.mark.parametrize("other", [{**IDENTITY, "model": "other"}, {"model": "rendered"}])
def test_other_settings_need_another_folder(tmp_path: Path, other: dict[str, object]) -> None:
    RunFolder(tmp_path, IDENTITY)
    with pytest.raises(UsageError, match="give another --out"):
        RunFolder(tmp_path, other)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        RunFolder(tmp_path, IDENTITY)
