"""Reading a segment of a video, in this process or another, so that every frame is as in a pass over the whole.

That holds where decoding can start at each keyframe and the container can seek to it by its pts. `why_not_split` says
where it does not. A `KnownVideo` carries the index and the fingerprint to workers, which need not make them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m3video.video._gop import is_plain_container, why_not_seekable
from m3video.video._pyav import Reader
from m3video.video.metadata import FileMetadata, inspect_file
from m3video.video.path_checks import LocalFile, check_file, check_unchanged

BACKEND = "pyav"
"""The backend that reads segments: the others decode the whole file before they return its first frame."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownVideo:
    """A file and its metadata, as sent to workers (about 17 bytes per frame)."""

    file: LocalFile
    metadata: FileMetadata
    max_pixels: int


def inspect_video(path: str | Path, *, max_pixels: int) -> KnownVideo:
    """Index and hash `path`, so that workers can read segments of it.

    Raises:
        VideoError: as for `open_video`.
    """
    file = check_file(path)
    return KnownVideo(file, inspect_file(file, max_pixels=max_pixels), max_pixels)


def open_known(known: KnownVideo) -> Reader:
    """Open a known video without indexing it.

    Raises:
        VideoError: the file does not exist.
        ChangedFileError: it is another file now.
    """
    here = check_file(known.file.identity[0])
    check_same_file(known, here)
    return Reader(here, max_pixels=known.max_pixels, metadata=known.metadata)


def check_same_file(known: KnownVideo, here: LocalFile) -> None:
    """Raise `ChangedFileError` when `here` is surely another file; on another machine only its size can show that."""
    is_same_file = here.identity[:3] == known.file.identity[:3]
    if is_same_file or here.identity[3] != known.file.identity[3]:
        check_unchanged(known.file, known.metadata.info.fingerprint)


def why_not_split(known: KnownVideo) -> str | None:
    """Return why segments read on their own may differ from a pass over the whole; None when they do not."""
    index, info = known.metadata.index, known.metadata.info
    if not is_plain_container(info.container):
        return f"its container ({info.container}) does not lead to a frame by its pts"
    if not index.is_seekable or index.source != "packets":
        return "its timestamps are missing, repeated or do not tell which frames are shown"
    if index.num_damaged_packets:
        return f"it is damaged ({index.num_damaged_packets} packets)"
    if info.num_keyframes < 2:
        return "it has one keyframe"
    return why_not_seekable(known.file, max_pixels=known.max_pixels)
