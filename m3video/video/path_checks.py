"""Checks that a path must pass before any decoder opens it.

A FIFO makes every decoder hang, a playlist makes some of them open other files, and a header that claims a billion
pixels makes them allocate. So each is refused here, by name, before FFmpeg is called.
"""

from __future__ import annotations

import codecs
import glob
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from m3video.errors import ChangedFileError, VideoError
from m3video.utils.progress import report_alive
from m3video.utils.text import printable

DEFAULT_MAX_PIXELS = 1 << 26
"""Most pixels one frame may have, coded or as displayed: 8192 x 8192."""

_SNIFF_BYTES = 4096
_CHUNK_BYTES = 1 << 20
_RECENT_SECONDS = 60.0
RECENT_WRITE_NOTE = "; it was written to within the last minute: is it complete?"
"""Ends a message about missing data in a file that is that new."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_PLAYLISTS = {
    "#EXTM3U": "an HLS playlist",
    "ffconcat version": "an ffconcat list",
    "<MPD": "a DASH manifest",
    "<SmoothStreamingMedia": "a Smooth Streaming manifest",
    "[playlist]": "a playlist",
}


Identity = tuple[str, int, int, int, int]
"""Absolute path, device, inode, size, time of the last change (ns)."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A path that passed the checks.

    `path` is as the user gave it, `url` what FFmpeg opens (an absolute path after `file:`, so that `:` or `%d` in a
    name have no special meaning), `identity` changes when the file does.
    """

    path: str
    url: str
    identity: Identity

    @property
    def printable(self) -> str:
        """The path as one printable line, for messages."""
        return printable(self.path)


def check_file(path: str | os.PathLike[str]) -> LocalFile:
    """Check that `path` names a readable, non-empty, regular local file that is no playlist.

    Args:
        path: local path; may hold any character that a file name may hold.

    Returns:
        The file, with the URL under which FFmpeg is to open it.

    Raises:
        VideoError: the check that `path` fails, in one line.
    """
    text = os.fspath(path)
    name = printable(text)
    try:
        status = os.stat(text)
    except FileNotFoundError:
        raise VideoError(missing_message(text)) from None
    except (OSError, ValueError) as error:
        raise VideoError(f"{name}: cannot be read ({_reason(error)})") from None
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{name} is {_kind(status.st_mode)}: give the path of a regular video file")
    if status.st_size == 0:
        raise VideoError(f"{name} is empty (0 bytes): give the path of a video file")
    try:
        with open(text, "rb") as stream:
            head = stream.read(_SNIFF_BYTES)
    except OSError as error:
        raise VideoError(f"{name}: cannot be read ({_reason(error)})") from None
    _refuse_playlist(head, name)
    absolute = os.path.abspath(text)
    return LocalFile(path=text, url=f"file:{absolute}", identity=_identity(absolute, status))


def _identity(absolute: str, status: os.stat_result) -> Identity:
    return (absolute, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def absolute(path: str) -> str:
    """Return the absolute form of `path`; a URL is returned as it is, for `check_file` to refuse."""
    return path if is_url(path) and not os.path.exists(path) else os.path.abspath(path)


def is_url(text: str) -> bool:
    """Return whether `text` begins with a scheme, as `https://`."""
    return _URL.match(text) is not None


def missing_message(text: str) -> str:
    """Return a one-line message for a path that does not exist, with a hint where the path shows what was meant."""
    name = printable(text)
    local = text.partition("://")[2]
    if text.lower().startswith("file://") and local.startswith("/"):
        return f"{name} is a URL: give the path alone, {printable(unquote(local))}"
    if is_url(text):
        return f"{name} is a URL: download the video and give the path of the local file"
    if glob.has_magic(text):
        return f"{name}: no such file; if it is a pattern, leave off the quotes, so that the shell fills it in"
    return f"{name}: no such file"


def check_pixels(width: int, height: int, *, max_pixels: int, name: str) -> None:
    """Raise `VideoError` when a `width` x `height` picture exceeds `max_pixels`."""
    if width * height > max_pixels:
        raise VideoError(
            f"{name}: frames of {width}x{height} have {width * height} pixels, more than max_pixels ({max_pixels}); "
            "scale the video down or raise max_pixels"
        )


def fingerprint(file: LocalFile) -> str:
    """Return the hash of all bytes of `file`, `blake2b:` and 32 hex digits; it is cached while the file is unchanged.

    Raises:
        ChangedFileError: the file changed before or while it was read.
    """
    digest = _hash(file)
    check_unchanged(file)  # else the hash may mix two states of the file
    return digest


@lru_cache(maxsize=64)
def _hash(file: LocalFile) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(file.identity[0]).open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                report_alive()
    except OSError as error:
        raise VideoError(f"{file.printable}: cannot be read ({_reason(error)})") from None
    return f"blake2b:{digest.hexdigest()}"


@contextmanager
def unchanged(file: LocalFile, content: str | None = None) -> Iterator[None]:
    """Make sure that what the block reads of `file` is the file that was checked, by comparing identities afterwards.

    Args:
        file: the file as it was opened.
        content: its fingerprint, to tell a file that was only touched from one that was written to.

    Raises:
        ChangedFileError: the file is another one now; it replaces an error that this caused.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, ChangedFileError):
            check_unchanged(file, content, cause=error)
        raise
    check_unchanged(file, content)


def check_unchanged(file: LocalFile, content: str | None = None, *, cause: Exception | None = None) -> None:
    """Raise `ChangedFileError` when `file` is no longer the file that was checked.

    Args:
        file: as for `unchanged`.
        content: as for `unchanged`.
        cause: the error that this explains.
    """
    now = _now(file)
    if now == file.identity:
        return
    more = 0 if now is None else now[3] - file.identity[3]
    if now is not None and content is not None and not more and _hash(replace(file, identity=now)) == content:
        return  # touched, or replaced by a copy
    wait = "wait until it is complete, or give a copy of what is there"
    if now is None:
        what = "was removed or renamed while it was read: give a file that stays, and run the same command again"
    elif now[1:3] != file.identity[1:3]:
        what = "was replaced by another file while it was read: run the same command again"
    elif more > 0:
        what = f"is still growing ({more} bytes more since it was opened): {wait}"
    elif more < 0:
        what = f"became {-more} bytes shorter while it was read: another program is writing to it; {wait}"
    else:
        what = f"is still being written (it was written to after it was opened): {wait}"
    raise ChangedFileError(f"{file.printable} {what}") from cause


def recent_write_note(file: LocalFile) -> str:
    """Return an ending for a message about missing data, where `file` was written to within the last minute; or ""."""
    try:
        age = time.time() - os.stat(file.identity[0]).st_mtime
    except OSError:
        return ""
    return RECENT_WRITE_NOTE if 0 <= age < _RECENT_SECONDS else ""


def _now(file: LocalFile) -> Identity | None:
    """Return the identity of what is now at the path of `file`; None where nothing is."""
    try:
        return _identity(file.identity[0], os.stat(file.identity[0]))
    except OSError:
        return None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO (named pipe)"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    )
    return next((word for test, word in kinds if test(mode)), "not a regular file")


def _refuse_playlist(head: bytes, name: str) -> None:
    encoding = next((e for mark, e in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), "latin-1")
    text = head.decode(encoding, errors="replace").lstrip("﻿\x00 \t\r\n\v\f")
    is_xml = text.startswith("<?xml") or text.startswith("<!--")
    for marker, kind in _PLAYLISTS.items():
        if text.startswith(marker) or (is_xml and marker.startswith("<") and marker in text):
            raise VideoError(f"{name} is {kind}, not a video: give the path of the video file itself")
