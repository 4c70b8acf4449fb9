"""fetch -> vision tower: projected grids of a video's frames, each made once and cached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from m3video.inference.memory.model import FRAME_GROUP
from m3video.inference.opened_video import OpenedVideo
from m3video.model.m3.square import as_square

if TYPE_CHECKING:
    from torch import Tensor

    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.model.m3.grid_cache import Grids


class FrameGrids:
    """The projected grids of one open video's frames. Shape legend: D decoder width.

    Attributes:
        vision_batch: frames in one run of the tower; made smaller when memory runs out.
        notes: what went wrong with caching them.
    """

    def __init__(self, video: OpenedVideo) -> None:
        """Nothing is decoded yet; grids are cached in memory and, where the video has one, in its cache folder."""
        self._video = video
        self.vision_batch = video.settings.vision_batch
        self._cached: Grids | None = None
        self.notes: list[str] = []

    @property
    def num_bytes(self) -> int:
        """Bytes of the grids in memory."""
        return 0 if self._cached is None else self._cached.num_bytes

    def each(self, pts: Sequence[int], loaded: LoadedModel) -> Iterator[tuple[Tensor, bool]]:
        """Yield the grid of each frame, and whether it was cached.

        Args:
            pts: of the frames, increasing.
            loaded: the model, the same at each call.

        Yields:
            [576, D] on the model's device for each, in order.

        Raises:
            VideoError: a frame cannot be decoded.
        """
        from m3video.model.m3.encoding import encode

        meter, progress = self._video.meter, self._video.progress
        step = max(1, FRAME_GROUP // self.vision_batch) * self.vision_batch
        for first in range(0, len(pts), step):
            wanted = [int(value) for value in pts[first : first + step]]
            with meter.stage("cache"):
                cached = self._cached = self._cached or self._open(loaded)
                found = {value: cached.find(value) for value in wanted}
            missing = [value for value, grid in found.items() if grid is None]
            with meter.stage("fetch"), progress("fetch", None):
                form = loaded.config.pictures
                pictures = [as_square(frame.rgb_HW3, form) for frame in self._video.reader.fetch(missing)]
            with meter.stage("vision tower"), progress("vision tower", len(missing)) as bar:
                made = encode(loaded, pictures, vision_batch=self.vision_batch, on_batch=bar) if missing else ()
            fresh = dict(zip(missing, made, strict=True))
            with meter.stage("cache"):
                for value, grid in fresh.items():
                    cached.keep(value, grid)
            for value in wanted:
                grid = found[value]
                yield (fresh[value], False) if grid is None else (grid.to(loaded.model.device), True)

    def _open(self, loaded: LoadedModel) -> Grids:
        """Return an empty cache; in memory only for damaged files, whose frames depend on how they were reached."""
        from m3video.model.m3.grid_cache import Grids, grids_key

        info, key = self._video.info, None
        cache = None if self._video.reader.damage.is_partial else self._video.cache
        if cache is not None:
            key = grids_key(loaded, fingerprint=info.fingerprint, backend=info.backend)
            if key is None:
                self.notes.append("this model's vision tower is quantized: its features are not cached on disk")
        return Grids(None if key is None else cache, key or {}, about={"video": info.path, "model": loaded.name})
