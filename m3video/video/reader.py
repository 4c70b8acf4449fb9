"""The contract of every decoder backend, and the two entry points: `open_video` and `probe`.

A reader has an index of the frames that are presented, scans them as small pictures, reads them in full one after the
other, and fetches single frames by their exact pts. It never returns a neighbour of the frame asked for, and no
backend silently replaces another.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from m3video.errors import BackendError, VideoError
from m3video.types import Frame, ScanFrame, Stretch, VideoInfo
from m3video.utils.text import printable
from m3video.video.path_checks import DEFAULT_MAX_PIXELS, check_file

if TYPE_CHECKING:
    from m3video.video.index import FrameIndex

BACKENDS: tuple[str, ...] = ("pyav", "decord", "torchcodec", "opencv")
"""Names that `open_video` accepts; the file of each is `m3video/video/_NAME.py`, its class `Reader`."""


@dataclass(frozen=True, slots=True)
class DamageReport:
    """What the last full pass found wrong with the file; all zero when nothing was.

    `num_damaged_packets` could not be read or decoded, `num_missing_frames` are in the index but were not
    decoded, `num_corrupt_frames` were decoded with errors concealed, `num_unexpected_frames` were decoded but are not
    in the index, or out of its order, and were not returned.
    """

    num_damaged_packets: int = 0
    num_missing_frames: int = 0
    num_corrupt_frames: int = 0
    num_unexpected_frames: int = 0

    @property
    def message(self) -> str | None:
        """One line for users, or None when the file is undamaged."""
        parts = [
            f"{count} {words}"
            for count, words in (
                (self.num_damaged_packets, "damaged packets skipped"),
                (self.num_missing_frames, "indexed frames did not decode"),
                (self.num_corrupt_frames, "frames decoded with errors"),
                (self.num_unexpected_frames, "decoded frames are not in the index, or out of its order"),
            )
            if count
        ]
        return "the file is damaged, results are partial: " + ", ".join(parts) if parts else None

    @property
    def is_partial(self) -> bool:
        """Whether anything is wrong, so that results are partial."""
        return self.message is not None


class VideoReader(ABC):
    """One open video. A context manager; `close` releases the decoder at once.

    Attributes:
        info: what the file states and what was verified.
        index: the presented frames, from one pass over the packets.
    """

    info: VideoInfo
    index: FrameIndex

    @property
    @abstractmethod
    def damage(self) -> DamageReport:
        """Damage found by the last full `scan` or `frames`; before one, by indexing."""

    @property
    def info_with_damage(self) -> VideoInfo:
        """`info`, marked as partial where the last pass found damage."""
        return replace(self.info, partial=True) if self.damage.is_partial else self.info

    @abstractmethod
    def scan(
        self, *, mode: str = "full", start_pts: int | None = None, end_pts: int | None = None
    ) -> Iterator[ScanFrame]:
        """Yield small pictures of the frames with start_pts <= pts < end_pts, in display order.

        Args:
            mode: "full" for all frames, "nonref" to let the decoder skip those that no other frame refers to, or
                "keyframes". For "auto" see `look`.
            start_pts: first pts wanted, ticks; None for the beginning.
            end_pts: first pts not wanted, ticks; None for the end.

        Yields:
            One `ScanFrame` per frame that decodes; all of one size.

        Raises:
            VideoError: frames of this file cannot be skipped safely, or not by this backend.
        """

    def why_not_look(self) -> str | None:
        """Return why `look` could show other pictures than `scan`; None where it is safe."""
        return f"backend {self.info.backend} decodes a whole file before its first frame"

    def look(self, stretches: Sequence[Stretch], *, threads: int = 1) -> Iterator[list[ScanFrame]]:
        """Yield the small pictures of some stretches, as a full `scan` has them.

        Args:
            stretches: in order and without overlaps; each begins at a keyframe.
            threads: stretches that are decoded at the same time.

        Yields:
            The frames of each stretch, in order; none where one that is due cannot be decoded without damage.

        Raises:
            VideoError: the file or the backend allows no such look; see `why_not_look`.
        """
        raise VideoError(f"{printable(self.info.path)}: {self.why_not_look()}; use --scan full")

    @abstractmethod
    def frames(self, *, start_pts: int | None = None, end_pts: int | None = None) -> Iterator[Frame]:
        """Yield full-size frames with start_pts <= pts < end_pts, in display order, each at its own size."""

    @abstractmethod
    def fetch(self, pts: Sequence[int]) -> list[Frame]:
        """Return the frames at exactly `pts`, in the order given; a pts may be given twice.

        Args:
            pts: ticks of `info.time_base`, each one in `index.pts_N`.

        Returns:
            One `Frame` per entry of `pts`.

        Raises:
            VideoError: when a pts is not in the index, or its frame cannot be decoded without damage.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the decoder; using the reader afterwards is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(path: str | Path, *, backend: str = "pyav", max_pixels: int = DEFAULT_MAX_PIXELS) -> VideoReader:
    """Open a local video file for reading.

    Args:
        path: a regular file; URLs, playlists, FIFOs and directories are refused.
        backend: one of `BACKENDS`; no other is tried when it cannot read the file.
        max_pixels: most pixels that one frame may have.

    Returns:
        The reader; use it in a `with` statement.

    Raises:
        VideoError: the file is no readable video.
        BackendError: the backend is unknown, missing, or known to return wrong frames for this file.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend ({backend}) must be one of {', '.join(BACKENDS)}")
    if max_pixels < 1:
        raise VideoError(f"max_pixels ({max_pixels}) must be at least 1")
    file = check_file(path)
    module = importlib.import_module(f"m3video.video._{backend}")
    reader: VideoReader = module.Reader(file, max_pixels=max_pixels)
    return reader


def probe(path: str | Path, *, backend: str = "pyav", max_pixels: int = DEFAULT_MAX_PIXELS) -> VideoInfo:
    """Return what the file states and what reading its packets verified; arguments and errors as for `open_video`."""
    with open_video(path, backend=backend, max_pixels=max_pixels) as reader:
        return reader.info


def check_pts(index: FrameIndex, pts: Sequence[int], path: str) -> list[int]:
    """Return `pts` as Python ints.

    Raises:
        VideoError: one of them is not in `index`.
    """
    wanted = [int(value) for value in pts]
    for value in wanted:
        if index.position(value) is None:
            raise VideoError(
                f"{printable(path)}: pts {value} is no frame of this video (its {len(index)} frames have pts from "
                f"{int(index.pts_N[0])} to {int(index.pts_N[-1])}); take pts from its index"
            )
    return wanted


__all__ = ["BACKENDS", "DEFAULT_MAX_PIXELS", "DamageReport", "VideoReader", "open_video", "probe"]
