"""Checkpoints of random weights in the original layout: they load and answer as real ones do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from m3video import ask
from tests.paths import PARITY, SAMPLE, SCRIPTS

LIKE, TOWER = PARITY / "llava-v1.5-tiny-m3" / "safetensors", PARITY / "openai" / "clip-vit-large-patch14-336"


def write(out: Path, *, like: Path = LIKE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "random_checkpoint.py"), str(out), "--like", str(like)]
    return subprocess.run(
        [*command, "--tower", str(TOWER), "--shape", "tiny"], capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(not PARITY.is_dir(), reason=f"no checkpoints in {PARITY}")
def test_it_answers_from_the_planned_tokens(tmp_path: Path) -> None:
    done = write(tmp_path / "new")
    assert done.returncode == 0, done.stderr
    folders = [str(tmp_path / "new" / name) for name in ("llava", "tower")]
    answer = ask(SAMPLE, "What is it?", model=folders[0], vision_tower=folders[1], budget=36, max_new_tokens=3)
    assert answer.visual_tokens == answer.plan.total_tokens == 36
    assert answer.answer_tokens == 3


@pytest.mark.skipif(not PARITY.is_dir(), reason=f"no checkpoints in {PARITY}")
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    done = write(tmp_path / "new", like=tmp_path)
    assert done.returncode == 2
    assert "tokenizer.model" in done.stderr
    assert "Traceback" not in done.stderr
