"""The torchcodec backend: optional (`pip install "m3video[torchcodec]"`); it needs FFmpeg's libraries on the system.

Its own exact index is compared with ours, frame for frame, and files on which the two differ are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from m3video.errors import BackendError
from m3video.utils.text import first_line
from m3video.video._indexed import IndexedReader
from m3video.video.metadata import FileMetadata
from m3video.video.path_checks import LocalFile

_BATCH = 8


class Reader(IndexedReader):
    """Reads one file through torchcodec; see `VideoReader`."""

    backend = "torchcodec"

    def __init__(self, file: LocalFile, *, max_pixels: int) -> None:
        self._decoders = load()
        super().__init__(file, max_pixels=max_pixels)

    def _refusal(self, metadata: FileMetadata) -> str | None:
        if metadata.orientation.mirrored:
            return "its pictures are mirrored"
        if not metadata.index.is_regular:
            return "its timestamps are missing, repeated or out of order"
        try:
            decoder = self._open()
            num_frames = len(decoder)
        except (RuntimeError, ValueError, TypeError) as error:
            return f"it cannot open it ({first_line(error, limit=160)})"
        if num_frames != len(metadata.index):
            return f"it counts {num_frames} frames where there are {len(metadata.index)}"
        return None

    def _pick(self, rows: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        tick = self.index.time_base[0] / self.index.time_base[1]
        try:
            decoder = self._open()
            decoder.get_frame_at(0)
            for start in range(0, len(rows), _BATCH):
                chosen = list(rows[start : start + _BATCH])
                batch = decoder.get_frames_at(indices=chosen)
                ours_N = self.index.pts_N[chosen] * tick
                if np.abs(batch.pts_seconds.numpy() - ours_N).max() > tick / 2 + 1e-5:
                    self._refuse("its timestamps differ from the file's")
                yield from batch.data.numpy()
        except (RuntimeError, IndexError, ValueError) as error:
            reason = first_line(error, limit=160)
            raise BackendError(f"{self._file.printable}: torchcodec failed ({reason}); use --backend pyav") from None

    def _open(self):  # type: ignore[no-untyped-def]  # torchcodec may be absent
        return self._decoders.VideoDecoder(
            self._file.identity[0],
            stream_index=self._metadata.stream_index,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
        )


@lru_cache(maxsize=1)
def load() -> ModuleType:
    """Import torchcodec's decoders.

    Raises:
        BackendError: torchcodec is not installed, or does not find FFmpeg's libraries.
    """
    try:
        import torchcodec.decoders
    except ImportError as error:
        raise BackendError(
            f"backend torchcodec does not import ({first_line(error, limit=160)}); install it with pip install "
            '"m3video[torchcodec]", or use --backend pyav'
        ) from None
    except (RuntimeError, OSError) as error:
        raise BackendError(
            f"backend torchcodec is installed but does not load ({first_line(error, limit=160)}): it needs FFmpeg 4-8 "
            "as system libraries and a torch it was built for; use --backend pyav"
        ) from None
    module: ModuleType = torchcodec.decoders
    return module
