"""A folder with clips, and one server for tests that only ask."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.paths import SAMPLE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample clip and its copy in a folder below."""
    found = tmp_path_factory.mktemp("videos").resolve()
    (found / "more").mkdir()
    shutil.copy(SAMPLE, found / "sample.mp4")
    shutil.copy(SAMPLE.with_name("natural.mp4"), found / "more" / "natürlich 1.mp4")
    return found


@pytest.fixture(scope="module")
def app(folder: Path, loaded: Any) -> Any:
    from m3video.config import Settings
    from m3video.serve.app import create_app

    return create_app(folder, Settings(model="rendered"), loaded=loaded)


@pytest.fixture(scope="module")
def url(app: Any) -> Iterator[str]:
    from tests.serve.running import running

    with running(app) as address:
        yield address
