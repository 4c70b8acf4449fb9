"""What several tests of checkpoints share: a closed network, folders of every layout, a whole LLaVA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model.m3.layouts import editing, save_layouts
from tests.model.tiny import save_original


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub is asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each layout of checkpoint."""
    return save_layouts(tmp_path_factory.mktemp("models"))


@pytest.fixture
def edited(folders: dict[str, Path]) -> Iterator[Any]:
    """`edited(layout, {key: value})` changes a config.json for one test."""
    with editing(folders) as edit:
        yield edit


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A LLaVA in the original layout, its tower beside it."""
    return save_original(tmp_path / "llava")
