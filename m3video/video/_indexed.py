"""What decord, torchcodec and OpenCV have in common: they number frames and return RGB, and they must be verified.

Times, orientation and the list of frames come from our own index. Before the first frame is returned, the file is
decoded once by PyAV (without converting pictures) to be sure that it is complete, and a few pictures are compared. A
backend that would return other frames than those asked for is refused, never corrected and never replaced.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from m3video.errors import BackendError, VideoError
from m3video.types import Frame, ScanFrame
from m3video.video._seek import Seeker
from m3video.video.metadata import FileMetadata, check_by_decoding, inspect_file
from m3video.video.path_checks import LocalFile, unchanged
from m3video.video.reader import DamageReport, VideoReader, check_pts

NUM_COMPARED = 5
"""Frames compared with PyAV's before a backend is trusted."""

MAX_DIFFERENCE = 12.0
"""Mean absolute difference of 32 x 32 pictures, grey levels, above which two pictures are not the same frame."""

_verified: set[tuple[str, tuple[str, int, int, int, int]]] = set()


class IndexedReader(VideoReader):
    """A reader whose decoder addresses frames by number; subclasses decide what they refuse and how they decode."""

    backend = ""

    def __init__(self, file: LocalFile, *, max_pixels: int) -> None:
        self._file, self._max_pixels = file, max_pixels
        self._metadata = inspect_file(file, max_pixels=max_pixels)
        self.index = self._metadata.index
        self.info = replace(self._metadata.info, backend=self.backend)
        self._is_closed = False
        with unchanged(file, self.info.fingerprint):
            if reason := self._refusal(self._metadata):
                self._refuse(reason)
            self._check_by_decoding()
            if (self.backend, file.identity) not in _verified:
                self._verify()
                _verified.add((self.backend, file.identity))

    @abstractmethod
    def _refusal(self, metadata: FileMetadata) -> str | None:
        """Return why the decoder would return wrong frames for this file; None when it is known to be right."""

    @abstractmethod
    def _pick(self, rows: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield upright RGB pictures of the frames numbered `rows` (increasing, from 0, in display order)."""

    @property
    def damage(self) -> DamageReport:
        """Always empty: damaged files are refused by this backend."""
        return DamageReport()

    def scan(
        self, *, mode: str = "full", start_pts: int | None = None, end_pts: int | None = None
    ) -> Iterator[ScanFrame]:
        if mode != "full":
            raise BackendError(
                f"{self._file.printable}: {self.backend} cannot skip frames at the decoder (--scan {mode}); use "
                "--backend pyav or --scan full"
            )
        maker = self._metadata.new_picture_maker()
        for row, picture in self._range(start_pts, end_pts):
            luma, chroma = maker.scan_rgb(picture)
            yield ScanFrame(int(self.index.pts_N[row]), luma, chroma, is_key=bool(self.index.is_key_N[row]))

    def frames(self, *, start_pts: int | None = None, end_pts: int | None = None) -> Iterator[Frame]:
        for row, picture in self._range(start_pts, end_pts):
            yield Frame(int(self.index.pts_N[row]), self._fit(picture))

    def fetch(self, pts: Sequence[int]) -> list[Frame]:
        self._check_open()
        wanted = check_pts(self.index, pts, self._file.path)
        rows = sorted({int(np.searchsorted(self.index.pts_N, value)) for value in wanted})
        times = [int(self.index.pts_N[row]) for row in rows]
        with unchanged(self._file, self.info.fingerprint):
            got = {time: Frame(time, self._fit(picture)) for time, picture in zip(times, self._pick(rows), strict=True)}
        return [got[value] for value in wanted]

    def close(self) -> None:
        self._is_closed = True

    def _range(self, start_pts: int | None, end_pts: int | None) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        self._check_open()
        first = 0 if start_pts is None else int(np.searchsorted(self.index.pts_N, start_pts))
        last = len(self.index) if end_pts is None else int(np.searchsorted(self.index.pts_N, end_pts))
        rows = range(first, last)
        if rows:
            with unchanged(self._file, self.info.fingerprint):
                yield from zip(rows, self._pick(rows), strict=True)

    def _fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return `picture` with square samples: these decoders ignore the sample aspect ratio."""
        size = (self.info.width, self.info.height)
        if picture.shape[1::-1] == size:
            return np.ascontiguousarray(picture)
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)

    def _check_open(self) -> None:
        if self._is_closed:
            raise VideoError(f"{self._file.printable}: the reader is closed; open the video again")

    def _check_by_decoding(self) -> None:
        whole = check_by_decoding(self._file, max_pixels=self._max_pixels)
        if whole.num_damaged or self.index.num_damaged_packets:
            self._refuse("the file is damaged, and this backend hides damage")
        if not whole.is_as_indexed:
            self._refuse("its packets and its frames do not agree")
        if not whole.has_one_size:
            self._refuse("its resolution changes midway")

    def _verify(self) -> None:
        """Compare some frames with PyAV's, far enough apart to make the decoder seek."""
        rows = np.unique(np.linspace(0, len(self.index) - 1, NUM_COMPARED).astype(int)).tolist()
        maker = self._metadata.new_picture_maker()
        seeker = Seeker(self._file, self.index, max_pixels=self._max_pixels)
        try:
            for row, picture in zip(rows, self._pick(rows), strict=True):
                pts = int(self.index.pts_N[row])
                difference = _difference(self._fit(picture), maker.rgb(seeker.reach(pts)))
                if difference > MAX_DIFFERENCE:
                    self._refuse(f"it returned another picture for pts {pts} (mean difference {difference:.0f})")
        finally:
            seeker.close()

    def _refuse(self, reason: str) -> None:
        raise BackendError(
            f"{self._file.printable}: {self.backend} cannot be trusted with this file, because {reason}; "
            "use --backend pyav"
        )


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    if one.shape != other.shape:
        return 255.0
    a, b = (cv2.resize(each, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) for each in (one, other))
    return float(np.abs(a - b).mean())
