"""Files that many tests read, made once a session: processes that run tests side by side share them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

FOLDER = "TESTS_SHARED_FOLDER"
"""Environment variable, set by the first process of a session (tests/conftest.py) and inherited by its workers."""


def made_once(name: str, make: Callable[[Path], Path]) -> Path:
    """Return what `make` wrote into a folder, which it is given once in a session.

    Args:
        name: of what is made; the same name is the same thing.
        make: writes into an empty folder and returns the path to open, in that folder or elsewhere.
    """
    shared = Path(os.environ[FOLDER])
    folder, done = shared / name, shared / f"{name}.done"
    if not done.exists():
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                _make(folder, done, make)
    return Path(os.fsdecode(done.read_bytes()))


def _make(folder: Path, done: Path, make: Callable[[Path], Path]) -> None:
    """Make it in its place, since links and playlists name it, and tell of it when it is whole."""
    if folder.exists():  # by a process that was ended meanwhile
        folder.rename(tempfile.mkdtemp(dir=folder.parent))
    folder.mkdir()
    path = make(folder)
    part = done.with_suffix(".part")
    part.write_bytes(os.fsencode(path))
    part.rename(done)
