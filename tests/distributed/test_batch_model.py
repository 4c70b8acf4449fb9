"""A batch that names no model decides once; a later start goes on with the same one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3video.cli.app import _run
from m3video.config import Settings
from m3video.distributed.batch_model import decide_for_batch, keep_model, kept_model
from m3video.distributed.tasks import make_task
from m3video.errors import DiskFullError
from m3video.model.m3.default_model import FALLBACK_NOTE
from tests.model.bare import make_bare, name_base
from tests.paths import SAMPLE


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_bare(tmp_path, monkeypatch)
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").symlink_to(SAMPLE)
    return tmp_path


def plans(folder: Path, output: str, *more: str) -> int:
    """Run a batch of plans, for which no weights are needed."""
    arguments = [str(folder / "films"), "--task", "plan", "-o", str(folder / output), "--workers", "1"]
    return _run(["batch", *arguments, "--budget", "18", *more])


def models(folder: Path, output: str) -> list[str]:
    lines = (folder / output / "results.jsonl").read_text().splitlines()
    return [json.loads(line)["config"]["model"] for line in lines]


def test_a_batch_goes_on_with_the_model_it_began_with(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert plans(bare, "out") == 0
    assert capfd.readouterr().err.count(FALLBACK_NOTE) == 1
    name_base(bare, monkeypatch)  # meanwhile the language model of `small` is installed
    assert plans(bare, "out") == 0
    said = capfd.readouterr()
    assert "0 items done, 1 were done before" in said.out
    assert "began with the model rendered and goes on with it; --model small begins anew" in said.err
    assert plans(bare, "out", "--model", "small") == 0
    assert "1 items done" in capfd.readouterr().out
    assert models(bare, "out") == ["rendered", "small"]
    assert plans(bare, "new") == 0
    assert FALLBACK_NOTE not in capfd.readouterr().err
    assert models(bare, "new") == ["small"]
    monkeypatch.delenv("M3VIDEO_SMALL_BASE")
    assert plans(bare, "new") == 0
    assert "1 were done before" in capfd.readouterr().out


def test_a_named_model_is_not_kept(bare: Path) -> None:
    assert plans(bare, "out", "--model", "rendered") == 0
    assert kept_model(str(bare / "out")) is None
    settings, notes = decide_for_batch(Settings(model="./mine"), str(bare / "out"))
    assert (settings.model, notes) == ("./mine", ())


def test_a_dry_run_decides_and_writes_nothing(bare: Path) -> None:
    assert plans(bare, "out", "--dry-run") == 0
    assert not (bare / "out").exists()


def test_what_a_kill_tore_counts_as_missing(bare: Path) -> None:
    (bare / "model.json").write_text('{"mod')
    assert kept_model(str(bare)) is None
    keep_model(str(bare), "small")
    keep_model(str(bare), "rendered")  # the first decision stays
    assert kept_model(str(bare)) == "small"


def test_a_folder_that_cannot_be_written_is_one_line(bare: Path) -> None:
    (bare / "file").write_text("")
    with pytest.raises(DiskFullError, match=r"model\.json cannot be written"):
        keep_model(str(bare / "file"), "small")


def test_a_task_names_the_decided_model_and_analysis_none(bare: Path) -> None:
    assert make_task("plan", Settings()).settings.model == "rendered"
    assert make_task("analyze", Settings()).settings.model == "auto"
