"""The decord backend: plain MP4, MOV, MKV and WebM only, because elsewhere decord 0.6 returns wrong frames.

decord has no notion of an error in the middle of a file, counts frames that an edit list hides, and returns other
pictures by number than in sequence on open GOPs. Such files are refused here. It also decodes ahead without bound, so
every call opens a decoder of its own and drops it at the end.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from m3video.errors import BackendError
from m3video.types import seconds
from m3video.video._gop import is_plain_container, why_not_seekable
from m3video.video._indexed import IndexedReader
from m3video.video.metadata import FileMetadata
from m3video.video.path_checks import LocalFile

CODECS = ("h264", "hevc", "vp8", "vp9", "mpeg4")
"""Codecs whose frames decord was measured to return correctly; it does not know AV1."""

_BATCH = 8
_TIME_TOLERANCE_SECONDS = 2e-3


class Reader(IndexedReader):
    """Reads one file through decord; see `VideoReader`."""

    backend = "decord"

    def __init__(self, file: LocalFile, *, max_pixels: int) -> None:
        self._decord = load()
        super().__init__(file, max_pixels=max_pixels)

    def _refusal(self, metadata: FileMetadata) -> str | None:
        info, index = metadata.info, metadata.index
        if not is_plain_container(info.container):
            return f"its container is {info.container}, and only MP4, MOV, MKV and WebM were measured right"
        if info.codec not in CODECS:
            return f"its codec is {info.codec}, and only {', '.join(CODECS)} were measured right"
        if info.codec == "h264" and "444" in info.pixel_format:
            return "it is 4:4:4 H.264, of which seeking can return garbage"
        if not metadata.is_first_stream:
            return "it has several video streams and the best is not the first"
        if metadata.orientation.mirrored:
            return "its pictures are mirrored"
        if index.source != "packets" or not index.is_regular:
            return "its timestamps are missing, repeated or out of order"
        if info.start_pts != 0:
            return f"its first timestamp is {seconds(info.start_pts, info.time_base):.3f} s, not 0"
        return why_not_seekable(self._file, max_pixels=self._max_pixels) or self._refusal_by_decord(metadata)

    def _refusal_by_decord(self, metadata: FileMetadata) -> str | None:
        try:
            video = self._open()
            num_frames = len(video)
            times_N = np.asarray(video.get_frame_timestamp(range(num_frames)))[:, 0]
            first = video[0].asnumpy()
        except (self._decord.DECORDError, RuntimeError, IndexError, TypeError) as error:
            return f"it cannot open it ({str(error).strip().splitlines()[-1][:120]})"
        if num_frames != len(metadata.index):
            return f"it counts {num_frames} frames where there are {len(metadata.index)}"
        ours_N = metadata.index.pts_N * (metadata.index.time_base[0] / metadata.index.time_base[1])
        if np.abs(times_N - ours_N).max() > _TIME_TOLERANCE_SECONDS:
            return "its timestamps differ from the file's"
        width, height = metadata.coded_size[:: -1 if metadata.orientation.rotation % 180 else 1]
        if first.shape != (height, width, 3):
            return f"it returns pictures of shape {first.shape} for {width}x{height}"
        return None

    def _pick(self, rows: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        video = self._open()
        try:
            # The first frame is decoded before any seek, as for PyAV: some decoders take their parameters from it.
            video[0]
            for start in range(0, len(rows), _BATCH):
                yield from video.get_batch(list(rows[start : start + _BATCH])).asnumpy()
        except self._decord.DECORDError as error:
            reason = str(error).strip().splitlines()[-1][:160]
            raise BackendError(f"{self._file.printable}: decord failed ({reason}); use --backend pyav") from None
        finally:
            del video

    def _open(self):  # type: ignore[no-untyped-def]  # decord has no types
        return self._decord.VideoReader(self._file.identity[0], ctx=self._decord.cpu(0), num_threads=1)


@lru_cache(maxsize=1)
def load() -> ModuleType:
    """Import decord.

    decord loads its libraries with RTLD_GLOBAL, after which PyAV's codecs call into decord's older libvpx and fail;
    RTLD_LOCAL is used instead while decord is imported.

    Raises:
        BackendError: decord is not installed, or does not load.
    """
    visible, ctypes.RTLD_GLOBAL = ctypes.RTLD_GLOBAL, ctypes.RTLD_LOCAL  # type: ignore[misc]
    try:
        import decord
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f"backend decord does not load ({error}): it has wheels for x86-64 Linux and Windows only; "
            "use --backend pyav"
        ) from None
    finally:
        ctypes.RTLD_GLOBAL = visible  # type: ignore[misc]
    decord.logging.set_level(decord.logging.QUIET)
    module: ModuleType = decord
    return module
