"""A video file, its frames, and the small pictures of the first pass.

Shape legend: N frames, S the five scales of `SCALES`, H W picture height and width, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3video.types.base import TimeBase, seconds
from m3video.utils.clock import FROM_ZERO, Origin, clock_seconds


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a file states about its video and what reading its packets verified.

    `width` and `height` are as displayed: after rotation and sample aspect ratio. `num_frames`, `start_pts` and
    `end_pts` come from the packets, `num_frames_from_header` and `duration_seconds_from_header` from the header
    (None where it stores none). `end_pts` is the pts of the last frame, `last_duration` how long it is shown (ticks).
    `fingerprint` is a hash of the file's bytes. `pts_seconds` counts from `origin`. `partial`: frames of the file are
    missing or damaged.
    """

    path: str
    fingerprint: str
    backend: str
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    time_base: TimeBase
    start_pts: int
    end_pts: int
    last_duration: int
    num_frames: int
    num_keyframes: int
    num_frames_from_header: int | None = None
    duration_seconds_from_header: float | None = None
    num_damaged_packets: int = 0
    notes: tuple[str, ...] = ()
    origin: Origin = FROM_ZERO
    partial: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"display size ({self.width}x{self.height}) must be at least 1x1")
        if self.time_base[0] < 1 or self.time_base[1] < 1:
            raise ValueError(f"time_base ({self.time_base}) must be two positive integers")
        if self.origin[1] < 1:
            raise ValueError(f"origin ({self.origin}) must be an integer and a positive one")
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"rotation ({self.rotation}) must be 0, 90, 180 or 270 degrees clockwise")

    @property
    def until_pts(self) -> int:
        """When the last frame leaves the screen, ticks."""
        return self.end_pts + self.last_duration

    @property
    def duration_seconds(self) -> float:
        """Seconds from the first frame's pts to the end of the last frame."""
        return seconds(self.until_pts - self.start_pts, self.time_base)

    def pts_seconds(self, pts: int) -> float:
        """Return `pts` in seconds as players count them: 0 is the start of the file's earliest stream."""
        return clock_seconds(pts, self.time_base, self.origin)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture: `rgb_HW3` uint8, upright, at its exact `pts`."""

    pts: int
    rgb_HW3: NDArray[np.uint8]

    def __repr__(self) -> str:
        return f"Frame(pts={self.pts}, rgb_HW3=uint8{list(self.rgb_HW3.shape)})"


@dataclass(frozen=True, slots=True, eq=False)
class ScanFrame:
    """One small picture of the first pass, upright, aspect kept, longest side `SCAN_SIDE` at most.

    `luma_HW` uint8 [h, w]; `chroma_2HW` uint8 [2, ceil(h/2), ceil(w/2)] (Cb, Cr), 128 = neutral. `num_skipped`: frames
    of the video right before this one that were not decoded.
    """

    pts: int
    luma_HW: NDArray[np.uint8]
    chroma_2HW: NDArray[np.uint8]
    is_key: bool = False
    is_corrupt: bool = False
    num_skipped: int = 0

    def __repr__(self) -> str:
        return f"ScanFrame(pts={self.pts}, luma_HW=uint8{list(self.luma_HW.shape)}, key={self.is_key})"


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """Rows of a frame index that are decoded together: from `start`, a keyframe, to before `stop`.

    Where not `every` frame is wanted, those that no other is made from may be left out.
    """

    start: int
    stop: int
    every: bool = True

    @property
    def num_frames(self) -> int:
        """How many rows it spans."""
        return self.stop - self.start


SCAN_SIDE = 144
"""Longest side of a scan picture: 6 pixels for each cell of the 24x24 grid."""

SCANS: tuple[str, ...] = ("auto", "full", "nonref", "keyframes")
"""Modes of the first pass: keyframes and what hides between them, every frame, those that other frames refer to, or
keyframes only."""
