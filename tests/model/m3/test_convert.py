"""What `convert` shows while it works, and what it leaves behind for others."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from transformers.utils import logging as transformers_logging

from m3video.errors import CheckpointError
from m3video.model.m3.convert import convert
from tests import command
from tests.model.tiny import save_original, save_tiny


def test_each_long_step_is_shown_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        seen.append(name)
        yield
        seen.append("end of " + name)

    source = save_tiny(tmp_path / "old")
    transformers_logging.enable_progress_bar()
    capfd.readouterr()
    convert(source, tmp_path / "new", stage=stage)
    assert seen == ["load model", "end of load model", "write model", "end of write model"]
    # transformers would draw its own bar into a log; for others in the process it is left as it was.
    assert capfd.readouterr().err == ""
    assert transformers_logging.is_progress_bar_enabled()


def test_a_source_that_cannot_be_loaded_ends_its_step(tmp_path: Path) -> None:
    open_steps: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        open_steps.append(name)
        try:
            yield
        finally:
            open_steps.remove(name)

    source = save_original(tmp_path / "old")
    (source / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError):
        convert(source, tmp_path / "new", stage=stage)
    assert open_steps == []
    assert not (tmp_path / "new").exists()


def test_other_users_can_read_the_folder(tmp_path: Path) -> None:
    target = convert(save_tiny(tmp_path / "old"), tmp_path / "new")
    assert target.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in target.iterdir()} == {0o644}


@pytest.mark.parametrize(("flags", "shown"), [((), True), (("--quiet",), False)])
def test_a_terminal_sees_bars(tmp_path: Path, flags: tuple[str, ...], shown: bool) -> None:
    source, target = save_tiny(tmp_path / "old"), tmp_path / "new"
    ours, theirs = pty.openpty()
    with command.Popen(
        [sys.executable, "-m", "m3video.cli", "convert", str(source), str(target), *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as child:
        os.close(theirs)
        drawn = b"".join(_until_closed(ours))
        assert child.stdout is not None
        assert child.stdout.read() == f"{target}\n"
    assert child.returncode == 0
    assert (b"load model" in drawn) is shown
    assert (b"write model" in drawn) is shown
    assert b"shards" not in drawn
    if not shown:
        assert drawn == b""


def _until_closed(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not data:
            break
        yield data
    os.close(terminal)
