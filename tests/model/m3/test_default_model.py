"""Which model an unset setting means: `small` where it needs no download, else `rendered` with one note."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3video.config import ANY_MODEL, Settings
from m3video.errors import CheckpointError
from m3video.model.m3 import checkpoint, small
from m3video.model.m3.default_model import FALLBACK_NOTE, RENAMED_NOTE, DecidedModel, decide_model, with_model
from m3video.model.m3.model_paths import RENDERED_FOLDER, find_folder, find_here
from m3video.model.m3.small_base import INSTALL, VARIABLE
from tests.model.bare import make_bare, name_base


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_bare(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def base(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name_base(bare, monkeypatch)


def test_without_a_base_the_model_of_rendered_clips_answers_with_one_note() -> None:
    decided = decide_model(ANY_MODEL)
    assert (decided.name, decided.notes, decided.is_fallback) == ("rendered", (FALLBACK_NOTE,), True)
    assert INSTALL in FALLBACK_NOTE


def test_with_a_base_small_answers_and_is_not_written_for_the_decision(bare: Path, base: None) -> None:
    assert decide_model(ANY_MODEL) == DecidedModel("small")
    assert not (bare / "cache").exists()


def test_a_base_in_a_wheel_is_enough(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = bare / "a_wheel"
    wheel.mkdir()
    (wheel / "__init__.py").touch()
    (wheel / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(bare)
    monkeypatch.setattr("m3video.model.m3.small_base.WHEEL", "a_wheel")
    assert decide_model(ANY_MODEL).name == "small"


def test_what_was_put_together_before_needs_no_base(bare: Path) -> None:
    made = bare / "cache" / "models" / f"{small._part_key(bare / 'part')}-base"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    assert decide_model(ANY_MODEL).name == "small"
    assert find_here(ANY_MODEL) == made


def test_an_installation_without_small_names_no_command_that_would_not_help(bare: Path) -> None:
    (bare / "part" / "config.json").unlink()
    assert decide_model(ANY_MODEL) == DecidedModel("rendered")


def test_a_base_that_is_none_is_an_error_also_for_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "none")
    with pytest.raises(CheckpointError, match=VARIABLE):
        decide_model(ANY_MODEL)


def test_an_explicit_name_never_falls_back() -> None:
    for name in ("small", "rendered", "./a-folder", "owner/name"):
        assert decide_model(name) == DecidedModel(name)
    with pytest.raises(CheckpointError, match="the model small needs SmolLM2"):
        find_folder("small")


def test_the_former_name_goes_on_and_says_so() -> None:
    assert decide_model("bundled") == DecidedModel("rendered", (RENAMED_NOTE,))
    assert find_here("bundled") == find_folder("bundled") == RENDERED_FOLDER
    loaded = checkpoint.load("bundled", device="cpu")
    assert (loaded.name, loaded.is_rendered, loaded.warnings) == ("rendered", True, (RENAMED_NOTE,))


def test_the_variable_counts_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3VIDEO_MODEL", "a/b")
    assert with_model(Settings())[0].model == "a/b"
    assert with_model(Settings(model="c/d"))[0].model == "c/d"
    assert with_model(Settings(model=ANY_MODEL))[0].model == "rendered"


def test_settings_keep_what_was_given(base: None) -> None:
    settings, decided = with_model(Settings(budget=9))
    assert (settings.model, settings.budget, decided.notes) == ("small", 9, ())
    assert settings.model_fields_set == {"model", "budget"}
    assert with_model(settings) == (settings, DecidedModel("small"))


def test_a_model_in_memory_is_the_one_that_answers(base: None) -> None:
    settings, decided = with_model(Settings(), loaded="./mine")
    assert (settings.model, decided.notes) == ("./mine", ())
