"""For all tests."""

import atexit
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.made_once import FOLDER
from tests.order import rank

# A shell that runs tests in the background has them ignore Ctrl-C, and every program that they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test reads or writes the cache of whoever runs it. A name of our own, since other programs keep things in XDG's.
_FOLDER = tempfile.TemporaryDirectory(prefix="m3video-tests-")
atexit.register(_FOLDER.cleanup)
os.environ["M3VIDEO_CACHE_DIR"] = _FOLDER.name

# The model that is always whole: an unset one would be another where the base of `small` is installed. Tests of
# `small`, and of what an unset model means, say so.
os.environ["M3VIDEO_MODEL"] = "rendered"

# The first process of a session makes the folder that the others, its workers, share.
if FOLDER not in os.environ:
    _SHARED = tempfile.TemporaryDirectory(prefix="m3video-tests-shared-")
    atexit.register(_SHARED.cleanup)
    os.environ[FOLDER] = _SHARED.name


@pytest.fixture(scope="session")
def loaded() -> Iterator[Any]:
    """The model `rendered`, for tests that do not change it; those that do load their own."""
    from m3video.model.m3 import checkpoint

    model = checkpoint.load("rendered", device="cpu")
    before = _sums(model)
    yield model
    assert _sums(model) == before, "a test has changed the weights of the model that all tests share"


def _sums(loaded: Any) -> dict[str, Any]:
    tensors = [*loaded.model.named_parameters(), *loaded.model.named_buffers()]
    return {name: (str(tensor.device), tensor.dtype, tensor.double().sum().item()) for name, tensor in tensors}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long go first, so that workers end together."""
    items.sort(key=lambda item: rank(item.path.stem, getattr(item, "module", None)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Side by side (`-n`) the tests of a file stay together, for what they share, and so do all that start Ray: a
    cluster must not find another one. (pytest-xdist 3.8 does not see its own groups with pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if "ray" in Path(file).stem else file

    return ByFile(config, log)
