"""Where the videos of a batch come from: a folder, or a list.

Nothing here grows with the number of videos: they are walked again whenever they are wanted.
"""

from __future__ import annotations

import codecs
import glob
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import unquote

from m3video.errors import UsageError
from m3video.utils.text import SNIFF_BYTES, encoding_of, printable, way_to_utf8
from m3video.video.path_checks import is_url, missing_message

SUFFIXES = frozenset(
    ".264 .265 .266 .3g2 .3gp .3gp2 .3gpp .amv .asf .avc .avi .avs2 .avs3 .dav .dif .divx .dv .dvd .dvr-ms .evo .f4v "
    ".flv .gif .gxf .h261 .h263 .h264 .h265 .h266 .hevc .imx .insv .ismv .ivf .ivr .kux .lrv .m1v .m2p .m2t .m2ts .m2v "
    ".m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mod .mov .mp4 .mp4v .mpe .mpeg .mpg .mpv .mts .mxf .mxg .nut .obu .ogm .ogv "
    ".ogx .psp .qt .rec .rm .rmvb .swf .tod .tp .trp .ts .ty .viv .vob .vro .vvc .webm .wmv .wtv .xmv .y4m".split()
)
"""What counts as a video in a folder: endings of what the decoders open, but for sound and still pictures. A list may
name anything."""

_LONGEST_NAME = 4096
"""Bytes of a path that the kernel takes (PATH_MAX)."""

_MOST_ENDINGS = 6
"""Of what is left out, so that a line stays one."""


class Source(Protocol):
    """Videos of a batch, in an order that does not change while the files do not."""

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Every file below `root` whose name ends like a video's, sorted; hidden names are left.

    Folders that links lead to come after those that are really there, each folder once: a loop ends, and a video is
    found at its own path first.
    """

    root: Path

    def __iter__(self) -> Iterator[str]:
        return _walk(os.fspath(self.root), Counter())

    def left_out(self) -> Counter[str]:
        """How many files are not taken, by what they are: "hidden", ".txt", "without an ending"."""
        left: Counter[str] = Counter()
        for _ in _walk(os.fspath(self.root), left):
            pass
        return left


def _walk(root: str, left: Counter[str]) -> Iterator[str]:
    """The videos below `root`; `left` counts what is no video."""
    seen: set[tuple[int, int]] = set()
    linked = [root]
    for folder in linked:  # grows as links are met
        yield from _walk_real(folder, seen, linked, left)


def _walk_real(folder: str, seen: set[tuple[int, int]], linked: list[str], left: Counter[str]) -> Iterator[str]:
    """The videos below `folder` without following links: those go to `linked`."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"folder {printable(folder)} cannot be read: {error.strerror}") from None
    for entry in entries:
        ending = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith("."):
            left["hidden"] += 1
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk_real(entry.path, seen, linked, left)
        elif entry.is_symlink() and os.path.isdir(entry.path):
            linked.append(entry.path)
        elif ending in SUFFIXES:
            yield entry.path
        elif entry.is_symlink() and not os.path.exists(entry.path):
            left["broken link"] += 1
        else:
            left[printable(ending) if ending.strip(".") else "without an ending"] += 1


def left_of_folder(source: Source) -> tuple[str, ...]:
    """A line for what a folder holds and is not taken; none where all is taken, or `source` is a list."""
    left = source.left_out() if isinstance(source, Folder) else None
    if not left:
        return ()
    ranked = sorted(left.items(), key=lambda pair: (-pair[1], pair[0]))
    parts = [f"{count} {_plural(kind, count)}" for kind, count in ranked[:_MOST_ENDINGS]]
    rest = sum(count for _, count in ranked[_MOST_ENDINGS:])
    parts += [f"{rest} of other endings"] if rest else []
    assert isinstance(source, Folder)
    # Nobody misses hidden files and sidecars of a kind that no decoder knows, but a list takes them too.
    return (f"left out of {printable(source.root)}: {', '.join(parts)} (a list of paths takes any file)",)


def _plural(kind: str, count: int) -> str:
    return "broken links" if kind == "broken link" and count > 1 else kind


@dataclass(slots=True)
class Listed:
    """Paths as `find`, `find -print0` and `ls` print them: relative to the working folder, one a line or with zeros
    between them. Only empty lines are no paths: a name may begin with #, so there are no comments."""

    file: Path
    separator: bytes = b"\n"
    kept: IO[bytes] | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[str]:
        try:
            with self.file.open("rb") as file:
                for number, piece in enumerate(_pieces(file, self.separator)):
                    name = piece if number else piece.removeprefix(codecs.BOM_UTF8)
                    name = name.removesuffix(b"\r") if self.separator == b"\n" else name
                    if name.strip():
                        yield _meant(os.fsdecode(name))
        except OSError as error:
            raise UsageError(f"list {printable(self.file)} cannot be read: {error.strerror}") from None


def _pieces(file: IO[bytes], separator: bytes) -> Iterator[bytes]:
    """What stands between the separators, without holding the whole file."""
    left = b""
    while chunk := file.read(SNIFF_BYTES):
        *whole, left = (left + chunk).split(separator)
        yield from whole
    if left:
        yield left


def _meant(name: str) -> str:
    """The path that a line of a list means: as it stands where such a file is there, else without what programs put
    around it: spaces, quotes, `~`, `file://`."""
    if os.path.lexists(name):
        return name
    bare = name.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
        bare = bare[1:-1]
    local = unquote(bare[len("file://") :]) if bare.lower().startswith("file:///") else os.path.expanduser(bare)
    return local if os.path.lexists(local) else bare if is_url(bare) else name


def _listed(file: Path, called: str, kept: IO[bytes] | None = None) -> Listed:
    """A list, whose form is told by how it begins; UsageError for what is none."""
    try:
        with file.open("rb") as stream:
            head = stream.read(SNIFF_BYTES)
    except OSError as error:
        raise UsageError(f"list {called} cannot be read: {error.strerror}") from None
    encoding = encoding_of(head)
    if encoding is not None:
        raise UsageError(f"list {called} cannot be read: {way_to_utf8(encoding)}")
    if b"\0" not in head:
        return Listed(file, kept=kept)
    names = head.removesuffix(b"\0").split(b"\0")
    if any(not name or len(name) > _LONGEST_NAME or set(name) & _NEVER_IN_NAMES for name in names):
        raise UsageError(f"{called} is no list of videos: it is not text; a single video is for m3video summarize")
    return Listed(file, b"\0", kept)


_NEVER_IN_NAMES = frozenset({*range(1, 9), *range(14, 27), *range(28, 32)})
"""Control characters that people do not type: with zeros beside them they are a binary file."""


def open_source(text: str) -> Source:
    """`FOLDER`, a file that lists videos, or `-` for a list on stdin.

    Raises:
        UsageError: nothing of that name, a video where a list is expected, or a list that is not UTF-8 or not text.
    """
    if text == "-":
        # Kept on disk: the list is walked more than once, and may be longer than memory likes.
        kept = tempfile.NamedTemporaryFile(prefix="m3video-list-")  # noqa: SIM115 - lives as long as the source
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        return _listed(Path(kept.name), "on stdin", kept)
    path, name = Path(text), printable(text)
    if path.is_dir():
        return Folder(path)
    if not os.path.lexists(path) and (is_url(text) or glob.has_magic(text)):
        raise UsageError(missing_message(text))
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(f"{name} is a video: give the folder it is in, a list of videos, or use m3video summarize")
    if not path.is_file():
        raise UsageError(f"{name} is neither a folder nor a file that lists videos")
    return _listed(path, name)
