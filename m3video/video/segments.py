"""Reading a part of a video, in this process or another, such that every frame is as in a pass over the whole.

That holds where each keyframe starts the decoder afresh and the container leads to it by its pts. `why_one_piece`
says where it does not; a `KnownVideo` carries what was found out about the file, so that a worker neither indexes it
nor hashes it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m3video.video._gop import is_plain_container, why_not_seekable
from m3video.video._pyav import Reader
from m3video.video.metadata import FileFacts, inspect_file
from m3video.video.path_checks import LocalFile, check_file, check_unchanged

BACKEND = "pyav"
"""The backend that reads parts: the others decode a whole file before they hand out its first frame."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownVideo:
    """A file and its facts; it travels to workers (about 17 bytes per frame)."""

    file: LocalFile
    facts: FileFacts
    max_pixels: int


def know(path: str | Path, *, max_pixels: int) -> KnownVideo:
    """What a worker needs to read parts of `path`; errors as for `open_video`."""
    file = check_file(path)
    return KnownVideo(file, inspect_file(file, max_pixels=max_pixels), max_pixels)


def open_known(known: KnownVideo) -> Reader:
    """Open a known video without indexing it.

    Raises:
        VideoError: the file is not there.
        ChangedFileError: it is not the one that is known.
    """
    here = check_file(known.file.identity[0])
    check_same(known, here)
    return Reader(here, max_pixels=known.max_pixels, facts=known.facts)


def check_same(known: KnownVideo, here: LocalFile) -> None:
    """Raise `ChangedFileError` when `here` is certainly another file: on another machine only its size can tell."""
    is_same_file = here.identity[:3] == known.file.identity[:3]
    if is_same_file or here.identity[3] != known.file.identity[3]:
        check_unchanged(known.file, known.facts.info.fingerprint)


def why_one_piece(known: KnownVideo) -> str | None:
    """Why parts of this video may differ from the whole when they are read alone; None when they do not."""
    index, info = known.facts.index, known.facts.info
    if not is_plain_container(info.container):
        return f"its container ({info.container}) does not lead to a frame by its pts"
    if not index.is_seekable or index.source != "packets":
        return "its timestamps are missing, repeated or do not tell which frames are shown"
    if index.num_damaged_packets:
        return f"it is damaged ({index.num_damaged_packets} packets)"
    if info.num_keyframes < 2:
        return "it has one keyframe"
    return why_not_seekable(known.file, max_pixels=known.max_pixels)
