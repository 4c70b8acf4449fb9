"""Stats made up frame by frame: plain pictures, with times, changes, sharpness and flags as a test needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_KEY, SCALES, FrameStats
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


@st.composite
def any_stats(draw: st.DrawFn, *, corrupt: bool = True) -> FrameStats:
    """A few takes of plain pictures, uneven in time, with black, keyframes, damage and leaps in change."""
    takes = draw(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 40)), min_size=1, max_size=8))
    picture = np.repeat([value for value, _ in takes], [count for _, count in takes])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = len(picture)
    flags = FLAG_KEY * (rng.random(n) < 0.1) | FLAG_BLACK * (picture < 20)
    if corrupt:
        flags |= FLAG_CORRUPT * (rng.random(n) < draw(st.sampled_from([0, 0.2, 1])))
    step = rng.choice([1, 33, 40, 5000], n, p=draw(st.sampled_from([(0, 0.5, 0.5, 0), (0.3, 0.3, 0.3, 0.1)])))
    return made(
        picture,
        pts_N=draw(st.integers(-9000, 9000)) + np.cumsum(step),
        flags_N=flags,
        change_N=rng.choice([0, 0.3, 4, 200], n),
        sharpness_N=rng.random(n),
        origin=draw(st.sampled_from([(0, 1), (7, 5), (-1, 3)])),
        last_shown=draw(st.sampled_from([None, 1, 40, 9000])),
    )
