"""Stats of footage whose story is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from m3video.types import SCALES, FrameStats
from tests.planning.frames import TIME_BASE

MS = 40
"""25 frames a second."""


def made(
    picture_N: Any,
    *,
    pts_N: Any = None,
    change_N: Any = None,
    sharpness_N: Any = None,
    flags_N: Any = None,
    origin: tuple[int, int] = (0, 1),
    last_shown: int | None = None,
) -> FrameStats:
    """Stats of frames that each show one of 256 plain pictures; all else may be given, ticks of 1/1000 s."""
    picture = np.asarray(picture_N, np.uint8)
    n = len(picture)
    pts_N = np.arange(n) * MS if pts_N is None else np.asarray(pts_N)
    steps = np.abs(np.diff(picture.astype(np.float32), prepend=picture[:1].astype(np.float32)))
    return FrameStats(
        pts_N=pts_N,
        loss_NS=np.zeros((n, len(SCALES))),
        peak_NS=np.zeros((n, len(SCALES))),
        change_N=steps if change_N is None else change_N,
        sharpness_N=np.ones(n) if sharpness_N is None else sharpness_N,
        luma_N=picture,
        signature_NK=np.repeat(picture[:, None], 108, axis=1),
        flags_N=np.zeros(n) if flags_N is None else flags_N,
        strokes_NC=np.zeros((n, 144)),
        pattern_NC=np.zeros((n, 144)),
        edge_2HW=np.zeros((2, 144, 144)),
        time_base=TIME_BASE,
        origin=origin,
        until_pts=None if last_shown is None else int(pts_N[-1]) + last_shown,
    )
