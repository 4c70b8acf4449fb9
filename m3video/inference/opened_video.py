"""An open video, with what every stage that works on it shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from m3video.config import Settings
from m3video.inference.first_pass import with_scan_frames
from m3video.inference.memory.fit import FittedSettings, fit_settings
from m3video.inference.pipeline import cache_of, open_for
from m3video.planning.sample import TIME_TOLERANCE
from m3video.types import Frame, TokenPlan, VideoInfo
from m3video.utils.cache import Cache
from m3video.utils.clock import clock_times
from m3video.utils.progress import Meter, Progress
from m3video.video.reader import VideoReader

OpenReader = Callable[[str | Path, Settings], VideoReader]
"""Opens a path as the settings say."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenedVideo:
    """An open video and what all stages share.

    Attributes:
        path: the file.
        settings: resolved, and reduced to what fits in the memory they name.
        fitted: how they were reduced; None where they name no memory.
        reader: the decoder.
        cache: the cache folder; None where the settings want none.
        meter: seconds and peak memory of each stage.
        progress: draws bars.
    """

    path: str | Path
    settings: Settings
    fitted: FittedSettings | None
    reader: VideoReader
    cache: Cache | None
    meter: Meter
    progress: Progress

    @classmethod
    def open(
        cls, path: str | Path, settings: Settings, *, progress: Progress, open_reader: OpenReader = open_for
    ) -> Self:
        """Fit `settings` to their memory and open `path`; no frame is decoded.

        Raises:
            VideoError: the file is no readable video.
            DoesNotFitError: nothing fits in the memory that the settings name.
        """
        fitted = fit_settings(settings)
        settings = settings if fitted is None else fitted.settings
        cache, meter = cache_of(settings), Meter()
        with meter.stage("probe"):
            reader = open_reader(path, settings)
            settings = with_scan_frames(settings, reader)
        return cls(path, settings, fitted, reader, cache, meter, progress)

    def close(self) -> None:
        """Release the decoder, and bring the cache folder back to its limit."""
        self.reader.close()
        if self.cache is not None:
            self.cache.settle()

    @property
    def info(self) -> VideoInfo:
        """What the file says."""
        return self.reader.info

    def frame_at(self, seconds: float) -> Frame:
        """Return the frame on screen at a time; the first one before all, the last one after all.

        Args:
            seconds: as of `VideoInfo.pts_seconds`.

        Raises:
            VideoError: it cannot be decoded.
        """
        index = self.reader.index
        times = clock_times(index.pts_N, index.time_base, index.origin)
        row = max(0, int(np.searchsorted(times, seconds + TIME_TOLERANCE, side="right")) - 1)
        return self.reader.fetch([int(index.pts_N[row])])[0]

    def seconds(self, plan: TokenPlan) -> list[float]:
        """Return the time of each planned frame."""
        return [self.info.pts_seconds(frame.pts) for frame in plan.frames]
