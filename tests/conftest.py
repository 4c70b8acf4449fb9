"""For all tests."""

import atexit
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.made_once import FOLDER

# A shell that runs tests in the background has them ignore Ctrl-C, and every program that they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test reads or writes the cache of whoever runs it. A name of our own, since other programs keep things in XDG's.
_FOLDER = tempfile.TemporaryDirectory(prefix="m3video-tests-")
atexit.register(_FOLDER.cleanup)
os.environ["M3VIDEO_CACHE_DIR"] = _FOLDER.name

# The first process of a session makes the folder that the others, its workers, share.
if FOLDER not in os.environ:
    _SHARED = tempfile.TemporaryDirectory(prefix="m3video-tests-shared-")
    atexit.register(_SHARED.cleanup)
    os.environ[FOLDER] = _SHARED.name


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
