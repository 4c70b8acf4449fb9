"""A wrong config is refused in the same words by every command and by the Python API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from m3video.cli.app import app
from m3video.config import Settings
from m3video.errors import CheckpointError, M3VideoError
from m3video.model.m3.convert import convert
from m3video.model.m3.model_paths import RENDERED_FOLDER

pytestmark = pytest.mark.usefixtures("offline")

SAMPLE = RENDERED_FOLDER.parent / "sample.mp4"


def questions(folder: Path) -> Path:
    path = folder / "q.jsonl"
    path.write_text(json.dumps({"question": "is it day", "answer": "yes"}) + "\n")
    return path


def recipe(folder: Path, base: Path) -> Path:
    path = folder / "r.yaml"
    path.write_text(f"base: {base}\ndata: [{{conversations: {folder}/none.json, files: {folder}}}]\n")
    return path


WAYS: dict[str, Callable[[str, Path], list[object]]] = {
    "ask": lambda model, _: ["ask", SAMPLE, "what?", "--model", model],
    "ask grid": lambda model, _: ["ask", SAMPLE, "what?", "--layout", "grid", "--model", model],
    "ask memory": lambda model, _: ["ask", SAMPLE, "what?", "--memory", "2GiB", "--model", model],
    "chat": lambda model, _: ["chat", SAMPLE, "--model", model],
    "plan memory": lambda model, _: ["plan", SAMPLE, "--memory", "2GiB", "--model", model],
    "summarize": lambda model, _: ["summarize", SAMPLE, "--model", model],
    "batch ask": lambda model, f: [
        "batch",
        SAMPLE.parent,
        "--task",
        "ask",
        "--question",
        "what?",
        "-o",
        f / "o",
        "--model",
        model,
    ],
    "batch summarize": lambda model, f: [
        "batch",
        SAMPLE.parent,
        "--task",
        "summarize",
        "-o",
        f / "o",
        "--model",
        model,
    ],
    "tune": lambda model, f: ["tune", SAMPLE, "--questions", questions(f), "--model", model],
    "eval": lambda model, _: ["eval", "footage", "--model", model],
    "convert": lambda model, f: ["convert", model, f / "new"],
    "train": lambda model, f: ["train", recipe(f, Path(model)), "--run-dir", f / "run"],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("layout", "key", "value"), [("converted", "max_context", "8192"), ("original", "mm_vision_select_layer", -9)]
)
def test_every_way_in_says_the_same(way: str, layout: str, key: str, value: Any, edited: Any, tmp_path: Path) -> None:
    model = edited(layout, {key: value})
    (tmp_path / "q").mkdir()
    arguments = [str(argument) for argument in WAYS[way](str(model), tmp_path)]
    with pytest.raises(M3VideoError) as error:
        typer.main.get_command(app)(arguments, standalone_mode=False)
    assert type(error.value) is CheckpointError
    assert f"{model / 'config.json'}: {key} ({json.dumps(value)}) must be a whole number from " in str(error.value)
    assert not any((tmp_path / name).exists() for name in ("o", "new", "run"))


def test_the_python_api_says_the_same_before_it_looks_at_the_video(
    edited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m3video.inference import planner, session

    model = edited("converted", {"prompt_style": "llama3"})
    monkeypatch.setattr(planner, "analyze_once", lambda *args, **kwargs: pytest.fail("the video was read"))
    with pytest.raises(CheckpointError, match=r'prompt_style \("llama3"\) must be'):
        session.ask(SAMPLE, "what?", Settings(model=str(model)))
    with pytest.raises(CheckpointError, match=r'prompt_style \("llama3"\) must be'):
        convert(model, model.parent / "new")
