"""Answers, plans and summaries where no model is named: the one that was decided stands in them, with one note."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings
from m3video.errors import CheckpointError
from m3video.inference.pipeline import plan_video
from m3video.inference.session import VideoSession, ask
from m3video.inference.summary.summarize import summarize
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.default_model import FALLBACK_NOTE, RENAMED_NOTE
from tests.model.bare import make_bare, name_base
from tests.paths import SAMPLE

FEW: dict[str, Any] = {"budget": 36, "max_frames": 4, "device": "cpu"}


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip that is not the shipped one, on a machine that lacks the base of `small`."""
    make_bare(tmp_path, monkeypatch)
    return Path(shutil.copy(SAMPLE, tmp_path / "film.mp4"))


def test_a_fallback_is_noted_once_and_named_everywhere(clip: Path) -> None:
    answer = ask(clip, "day or night", **FEW)
    assert answer.warnings == (FALLBACK_NOTE,), "and no second note on the same model"
    assert (answer.model, answer.config["model"], answer.plan.config["model"]) == ("rendered",) * 3


def test_a_plan_names_the_model_and_is_not_noted_twice(clip: Path) -> None:
    plan = plan_video(clip, **FEW)
    assert (plan.warnings, plan.config["model"]) == ((FALLBACK_NOTE,), "rendered")
    assert ask(clip, "day or night", plan=plan, device="cpu").warnings == (FALLBACK_NOTE,)


def test_a_summary_says_so(clip: Path) -> None:
    made = summarize(clip, Settings(**FEW))
    assert (made.model, made.config["model"], made.warnings.count(FALLBACK_NOTE)) == ("rendered", "rendered", 1)


def test_the_former_name_is_noted_beside_the_caution(clip: Path) -> None:
    answer = ask(clip, "day or night", model="bundled", **FEW)
    assert answer.model == answer.config["model"] == "rendered"
    assert answer.warnings[0] == RENAMED_NOTE
    assert ["--model small" in note for note in answer.warnings] == [False, True]


def test_an_explicit_small_is_refused_before_anything_is_decoded(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoSession(clip, model="small") as session:
        monkeypatch.setattr(session._video.reader, "scan", None)
        with pytest.raises(CheckpointError, match="the model small needs SmolLM2"):
            session.ask("what is it")


def test_a_plan_for_small_needs_no_weights(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_base(clip.parent, monkeypatch)
    plan = plan_video(clip, **FEW)
    assert (plan.config["model"], plan.warnings) == ("small", ())


def test_a_model_in_memory_is_the_one_that_stands_in_the_result(clip: Path, loaded: LoadedModel) -> None:
    answer = ask(clip, "day or night", loaded=loaded, **FEW)
    assert (answer.config["model"], FALLBACK_NOTE in answer.warnings) == (loaded.name, False)
