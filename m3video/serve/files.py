"""Which files may be read: regular files of one folder, wherever links in it lead as long as they stay inside."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from m3video.distributed.sources import SUFFIXES, Folder
from m3video.errors import UsageError
from m3video.serve.errors import RequestError
from m3video.utils.text import printable

UNFINISHED = Path(".m3video") / "unfinished"
"""Where files lie in the folder while they are written."""

LEFT_SECONDS = 3600.0


class VideoFolder:
    """The folder that is served.

    Attributes:
        root: its path without links.
    """

    def __init__(self, folder: Path) -> None:
        """Raise UsageError where `folder` is no folder."""
        try:
            self.root = folder.resolve(strict=True)
        except OSError as error:
            raise UsageError(f"folder {printable(folder)} cannot be read: {error.strerror}") from None
        if not self.root.is_dir():
            raise UsageError(f"{printable(folder)} is no folder: give the folder that holds the videos")

    def find(self, name: str) -> Path:
        """Return the path, without links, of a file of the folder.

        Args:
            name: an absolute path, or one relative to the folder.

        Raises:
            RequestError: 404, the same whether it does not exist, is outside or is no regular file: nobody learns
                what else is on this machine.
        """
        missing = _missing(name)
        if not name or "\0" in name or ".." in Path(name).parts:
            raise missing
        try:
            path = Path(os.path.realpath(self.root / name, strict=True))
            is_file = path.is_relative_to(self.root) and stat.S_ISREG(path.stat().st_mode)
        except (OSError, ValueError, RuntimeError):
            raise missing from None
        if not is_file:
            raise missing
        return path

    def without_root(self, message: str) -> str:
        """Return a message for a client: files by their names in the folder, not by where the folder is."""
        return message.replace(f"{str(printable(self.root)).rstrip('/')}/", "")

    def find_video(self, name: str) -> Path:
        """Return the path, without links, of a video by its name in `videos`.

        Raises:
            RequestError: as for `find`; also for other files of the folder, and for those below a hidden name.
        """
        path = self.find(name)
        parts = Path(name).parts
        if Path(name).is_absolute() or any(part.startswith(".") for part in parts) or not _is_video(name):
            raise _missing(name)
        return path

    def videos(self) -> Iterator[str]:
        """Yield the relative paths of the videos, sorted; hidden ones and links that lead out are left."""
        for found in Folder(self.root):
            if _is_video(found) and Path(os.path.realpath(found)).is_relative_to(self.root):
                yield os.path.relpath(found, self.root)


def unfinished(root: Path, ending: str) -> Path:
    """Return a new path for a file that will be moved to its place when it is whole.

    Those that nobody has written to for `LEFT_SECONDS` were left by a server that was killed, and are removed.

    Args:
        root: the folder that is served; the path is on the same disk, below a hidden name.
        ending: of the file's name.

    Raises:
        OSError: the folder cannot be written.
    """
    place = root / UNFINISHED
    place.mkdir(parents=True, exist_ok=True)
    for left in place.iterdir():
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                left.unlink()
    return place / f"{secrets.token_hex(8)}{ending}"


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _missing(name: str) -> RequestError:
    return RequestError(
        f"{printable(name)}: no such file in the folder that is served", status=404, code="file_not_found"
    )
