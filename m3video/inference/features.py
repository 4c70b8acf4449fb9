"""fetch -> vision tower: projected grids of a video's frames, made only where they are not kept yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from m3video.config import Settings
from m3video.inference.memory.model import FRAME_GROUP
from m3video.model.m3.square import as_square
from m3video.utils.cache import Cache
from m3video.utils.progress import Meter, Progress
from m3video.video.reader import VideoReader

if TYPE_CHECKING:
    from torch import Tensor

    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.model.m3.grid_cache import Grids


class FrameGrids:
    """The grids of one open video. Shape legend: D decoder width.

    Attributes:
        vision_batch: frames in one run of the tower; may be made smaller when memory runs out.
        notes: what went wrong with keeping them.
    """

    def __init__(self, reader: VideoReader, settings: Settings, cache: Cache | None, progress: Progress) -> None:
        """Nothing is decoded yet.

        Args:
            reader: the open video.
            settings: vision batch.
            cache: where grids are kept on disk; None for memory only.
            progress: draws bars.
        """
        self._reader, self._cache, self._progress = reader, cache, progress
        self.vision_batch = settings.vision_batch
        self._kept: Grids | None = None
        self.notes: list[str] = []

    def each(self, pts: Sequence[int], loaded: LoadedModel, meter: Meter) -> Iterator[tuple[Tensor, bool]]:
        """Grids of frames, and of each whether it was kept.

        Args:
            pts: of the frames, increasing.
            loaded: the model, always the same.
            meter: measures the stages "cache", "fetch" and "vision tower".

        Yields:
            [576, D] on the model's device for each, in order.

        Raises:
            VideoError: a frame cannot be decoded.
        """
        from m3video.model.m3.encoding import encode

        step = max(1, FRAME_GROUP // self.vision_batch) * self.vision_batch
        for first in range(0, len(pts), step):
            wanted = [int(value) for value in pts[first : first + step]]
            with meter.stage("cache"):
                kept = self._kept = self._kept or self._open(loaded)
                found = {value: kept.find(value) for value in wanted}
            missing = [value for value, grid in found.items() if grid is None]
            with meter.stage("fetch"), self._progress("fetch", None):
                pictures = [as_square(frame.rgb_HW3) for frame in self._reader.fetch(missing)]
            with meter.stage("vision tower"), self._progress("vision tower", len(missing)) as bar:
                made = encode(loaded, pictures, vision_batch=self.vision_batch, on_batch=bar) if missing else ()
            fresh = dict(zip(missing, made, strict=True))
            with meter.stage("cache"):
                for value, grid in fresh.items():
                    kept.keep(value, grid)
            for value in wanted:
                grid = found[value]
                yield (fresh[value], False) if grid is None else (grid.to(loaded.model.device), True)

    def _open(self, loaded: LoadedModel) -> Grids:
        """Damaged files are kept in memory only: how one of their frames was reached decides what it shows."""
        from m3video.model.m3.grid_cache import Grids, grids_key

        info, key = self._reader.info, None
        cache = None if self._reader.damage.is_partial else self._cache
        if cache is not None:
            key = grids_key(loaded, fingerprint=info.fingerprint, backend=info.backend)
            if key is None:
                self.notes.append("this model's vision tower is quantized: its features are not kept on disk")
        return Grids(None if key is None else cache, key or {}, about={"video": info.path, "model": loaded.name})
