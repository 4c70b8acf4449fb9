"""What tests share is made once, whole, and by one of the processes that ask for it."""

from __future__ import annotations

import os
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.made_once import FOLDER, made_once


def slow(folder: Path) -> Path:
    with (folder.parent / "makers.txt").open("a") as makers:
        makers.write(f"{os.getpid()}\n")
    path = folder / "made.txt"
    path.write_text("half ")
    time.sleep(0.3)
    path.write_text("half and whole")
    return path


def ask(_: int) -> tuple[Path, str]:
    path = made_once("slow", slow)
    return path, path.read_text()


def test_processes_that_ask_together_get_one_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with get_context("spawn").Pool(2) as pool:
        found = pool.map(ask, range(6), chunksize=1)
    assert found == [(tmp_path / "slow" / "made.txt", "half and whole")] * 6
    assert len((tmp_path / "makers.txt").read_text().splitlines()) == 1


def test_what_was_not_finished_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))

    def fail(folder: Path) -> Path:
        (folder / "made.txt").write_text("half")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        made_once("file", fail)
    path = made_once("file", slow)
    assert path.read_text() == "half and whole"
    assert list(path.parent.iterdir()) == [path]
