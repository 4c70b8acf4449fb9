"""Statistics of each frame from the first pass, and the candidates chosen from them.

Shape legend: N frames, S the five scales of `SCALES`, H W picture height and width, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.types.base import TimeBase, frozen_array
from m3video.types.scales import SCALES
from m3video.types.video import SCANS
from m3video.utils.clock import FROM_ZERO, Origin, clock_seconds, clock_times

SIGNATURE_SIDE = 6
"""A frame's signature is a 6x6 grid of mean Y, Cb, Cr: 108 bytes, so hours of video stay small."""

TEXTURE_SIDE = 12
"""A frame's texture is a 12x12 grid, two bytes a cell: it shows where something changed, however small."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameStats:
    """Struct of arrays over the analyzed frames of one video, in display order.

    Attributes:
        pts_N: int64, strictly increasing.
        loss_NS: float32 [N, 5], mean loss of the frame at each scale against 24x24 (0 at 576), in squared grey levels.
        peak_NS: float32 [N, 5], the same over the worst 5 % of cells: small text shows here, not in the mean.
        change_N: float32, mean absolute luma difference to the row before, grey levels; 0 for the first.
        sharpness_N: float32, mean squared gradient of luma.
        luma_N: float32, mean luma 0-255.
        signature_NK: uint8 [N, 108], the 6x6 grid of mean Y, Cb, Cr (row, column, channel).
        strokes_NC: uint8 [N, 144], strength of strokes in each of 12x12 cells, 16 times the root of grey levels.
        pattern_NC: uint8 [N, 144], each cell's luma projected on a fixed pattern, modulo 256: differs where other words
            or lines stand, though they may be as strong and as dark.
        flags_N: uint8, bits of `FLAG_KEY`, `FLAG_CORRUPT`, `FLAG_BLACK`, `FLAG_FROZEN` (only where the frame before was
            decoded too).
        edge_2HW: uint8 [2, h, w], first and last luma picture; `concat` computes the change between segments from them.
        mode: which frames were read, one of `SCANS`.
        origin: where players start to count; `times_N` counts from there.
        until_pts: when the last frame of the video leaves the screen, ticks; None where that is not known.
        skipped_N: int32, frames of the video between the row before and this one, which were not decoded; by default
            none of a full scan, and one of others.
    """

    pts_N: NDArray[np.int64]
    loss_NS: NDArray[np.float32]
    peak_NS: NDArray[np.float32]
    change_N: NDArray[np.float32]
    sharpness_N: NDArray[np.float32]
    luma_N: NDArray[np.float32]
    signature_NK: NDArray[np.uint8]
    strokes_NC: NDArray[np.uint8]
    pattern_NC: NDArray[np.uint8]
    flags_N: NDArray[np.uint8]
    edge_2HW: NDArray[np.uint8]
    time_base: TimeBase
    mode: str = "full"
    origin: Origin = FROM_ZERO
    until_pts: int | None = None
    skipped_N: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    def __post_init__(self) -> None:
        if self.mode not in SCANS:
            raise ValueError(f"mode ({self.mode}) must be one of {', '.join(SCANS)}")
        n = len(self.pts_N)
        if not len(self.skipped_N):
            object.__setattr__(self, "skipped_N", np.arange(n) > 0 if self.mode != "full" else np.zeros(n))
        columns: tuple[tuple[str, Any, tuple[int | None, ...]], ...] = (
            ("pts_N", np.int64, (n,)),
            ("loss_NS", np.float32, (n, len(SCALES))),
            ("peak_NS", np.float32, (n, len(SCALES))),
            ("change_N", np.float32, (n,)),
            ("sharpness_N", np.float32, (n,)),
            ("luma_N", np.float32, (n,)),
            ("signature_NK", np.uint8, (n, SIGNATURE_SIDE * SIGNATURE_SIDE * 3)),
            ("strokes_NC", np.uint8, (n, TEXTURE_SIDE**2)),
            ("pattern_NC", np.uint8, (n, TEXTURE_SIDE**2)),
            ("flags_N", np.uint8, (n,)),
            ("skipped_N", np.int32, (n,)),
            ("edge_2HW", np.uint8, (2, None, None)),
        )
        for name, dtype, shape in columns:
            object.__setattr__(self, name, frozen_array(getattr(self, name), dtype, shape, name))
        if n > 1 and not (np.diff(self.pts_N) > 0).all():
            raise ValueError("pts_N must be strictly increasing")

    def __len__(self) -> int:
        return len(self.pts_N)

    def pts_seconds(self, pts: int) -> float:
        """Return `pts` in seconds as players count them."""
        return clock_seconds(pts, self.time_base, self.origin)

    @property
    def times_N(self) -> NDArray[np.float64]:
        """Time of each frame in seconds as players count them."""
        return clock_times(self.pts_N, self.time_base, self.origin)

    def __repr__(self) -> str:
        return f"FrameStats(N={len(self)}, time_base={self.time_base}, mode={self.mode!r})"


FLAG_KEY, FLAG_CORRUPT, FLAG_BLACK, FLAG_FROZEN = 1, 2, 4, 8


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The candidate frames, and why each was chosen.

    Attributes:
        index_N: int64, rows of the `FrameStats` the candidates come from, increasing.
        pts_N: int64, their pts.
        shot_N: int64, number of the shot each candidate belongs to, from 0.
        reason_N: one word per candidate, e.g. "uniform", "shot", "change".
        shots: (first pts, end pts) of every shot, half-open, in ticks.
        began_M: how each of them begins: "cut" (also a dissolve, black, or the first) or "slide", where content at rest
            is replaced by other content at rest.
        method: "shots" or "uniform".
        notes: one line for users for each requirement that could not be met in full.
    """

    index_N: NDArray[np.int64]
    pts_N: NDArray[np.int64]
    shot_N: NDArray[np.int64]
    reason_N: tuple[str, ...]
    shots: tuple[tuple[int, int], ...]
    began_M: tuple[str, ...]
    method: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.pts_N)
        for name in ("index_N", "pts_N", "shot_N"):
            object.__setattr__(self, name, frozen_array(getattr(self, name), np.int64, (n,), name))
        if len(self.reason_N) != n:
            raise ValueError(f"reason_N has {len(self.reason_N)} entries for {n} candidates")
        if len(self.began_M) != len(self.shots):
            raise ValueError(f"began_M has {len(self.began_M)} entries for {len(self.shots)} shots")
        if n > 1 and not (np.diff(self.pts_N) > 0).all():
            raise ValueError("pts_N must be strictly increasing")

    def __len__(self) -> int:
        return len(self.pts_N)

    @property
    def take_N(self) -> NDArray[np.int64]:
        """Number of each candidate's camera take: slides do not begin a take."""
        return (np.cumsum([began != "slide" for began in self.began_M]) - 1)[self.shot_N]

    def __repr__(self) -> str:
        return f"Selection(N={len(self)}, shots={len(self.shots)}, method={self.method!r})"
