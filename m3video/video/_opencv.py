"""The OpenCV backend: it reads from the start to the last frame wanted, and never seeks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from m3video.errors import BackendError
from m3video.video._indexed import IndexedReader
from m3video.video.metadata import FileMetadata

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its FFmpeg would write on stderr; read at the first capture


class Reader(IndexedReader):
    """Reads one file through OpenCV's FFmpeg; see `VideoReader`."""

    backend = "opencv"

    def _refusal(self, metadata: FileMetadata) -> str | None:
        if metadata.info.codec == "av1":
            return "its codec is AV1, of which OpenCV returns no frames"
        if metadata.info.codec in ("mpeg2video", "mpeg1video"):
            return "its codec is MPEG-1/2, of which OpenCV returned wrong pictures when interlaced"
        if metadata.is_hdr:
            return "it is HDR, and OpenCV returns other colours"
        if not metadata.is_first_stream:
            return "it has several video streams and the best is not the first"
        if metadata.orientation.mirrored:
            return "its pictures are mirrored"
        num_frames = self._count()
        if num_frames != len(metadata.index):
            return f"it counts {num_frames} frames where there are {len(metadata.index)}"
        return None

    def _pick(self, rows: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        capture = self._open()
        try:
            at = -1
            for row in rows:
                while at < row:
                    if not capture.grab():
                        raise BackendError(
                            f"{self._file.printable}: OpenCV stopped after frame {at + 1} of {len(self.index)}; "
                            "use --backend pyav"
                        )
                    at += 1
                _, picture = capture.retrieve()
                yield np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
        finally:
            capture.release()

    def _count(self) -> int:
        capture = self._open()
        try:
            count = 0
            while capture.grab():
                count += 1
            return count
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(self._file.identity[0], cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            capture = cv2.VideoCapture(self._file.identity[0], cv2.CAP_FFMPEG)
        return capture
