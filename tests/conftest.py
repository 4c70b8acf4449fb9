"""For all tests."""

import atexit
import os
import signal
import tempfile

import pytest

# A shell that runs tests in the background has them ignore Ctrl-C, and every program that they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test reads or writes the cache of whoever runs it. A name of our own, since other programs keep things in XDG's.
_FOLDER = tempfile.TemporaryDirectory(prefix="m3video-tests-")
atexit.register(_FOLDER.cleanup)
os.environ["M3VIDEO_CACHE_DIR"] = _FOLDER.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (`-n`) the tests of a file stay together, for what they share, and so do all that start Ray: a
    cluster must not find another one."""
    for item in items:
        group = "ray" if "ray" in item.path.stem else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
