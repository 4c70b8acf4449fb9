"""A machine whose package ships `small`, without the language model under it; the user has named nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3video.model.m3 import default_model, small
from m3video.model.m3.small_base import VARIABLE


def make_bare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide this machine's own, with `folder` for cache and what is shipped; return the folder of the latter."""
    part = folder / "part"
    part.mkdir()
    (part / "config.json").write_text("{}")
    for module in (small, default_model):
        monkeypatch.setattr(module, "SMALL_FOLDER", part)
    monkeypatch.setattr("m3video.model.m3.small_base.cached_folder", lambda name: None)
    monkeypatch.setattr("m3video.model.m3.small_base.WHEEL", "no_such_wheel")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("M3VIDEO_CACHE_DIR", str(folder / "cache"))
    monkeypatch.delenv("M3VIDEO_MODEL")
    monkeypatch.delenv(VARIABLE, raising=False)
    return part


def name_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user name a GGUF file, which nothing reads before the model is used."""
    (folder / "base.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv(VARIABLE, str(folder / "base.gguf"))
