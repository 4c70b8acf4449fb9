"""Which of several frames that show the same is the cheapest to decode.

To decode a frame, all frames since the keyframe before it are decoded, so a keyframe costs one frame and the last of a
GOP of 250 costs 250.

Legend: N frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m3video.planning.novelty import NOVELTY_NOISE, block_distance
from m3video.planning.utility import DEFAULT, ESTIMATORS
from m3video.types import FLAG_KEY, FrameStats

Rows = NDArray[np.int64]

MAX_LOSS = 0.01
"""Greatest share of its utility that a cheaper frame may lack, at any scale."""


def frames_before(stats: FrameStats) -> Rows:
    """Return how many analyzed frames each frame is after its keyframe, int64 [N]; 0 before the first keyframe."""
    rows = np.arange(len(stats))
    last_key = np.maximum.accumulate(np.where((stats.flags_N & FLAG_KEY) > 0, rows, -1))
    return np.where(last_key < 0, 0, rows - last_key)


def cheapest_like(stats: FrameStats, choice: int, rows: Rows, cost_N: Rows) -> int:
    """Return the frame of least cost that shows as much as `choice`, with nothing new in between.

    Args:
        stats: the analyzed frames.
        choice: a row of `stats`, one of `rows`.
        rows: the frames to choose from, increasing.
        cost_N: `frames_before(stats)`.

    Returns:
        One of `rows`; `choice` itself when no other is cheaper.
    """
    low, high = _still_around(stats, choice, int(rows[0]), int(rows[-1]))
    near = rows[(rows >= low) & (rows <= high)]
    shown = ESTIMATORS[DEFAULT](stats, near)
    wanted = shown[np.searchsorted(near, choice)]
    near = near[(shown >= (1 - MAX_LOSS) * wanted).all(axis=1)]
    return int(near[np.lexsort((np.abs(near - choice), cost_N[near]))[0]])


def _still_around(stats: FrameStats, choice: int, first: int, last: int) -> tuple[int, int]:
    """Return the first and last row around `choice`, from `first` to `last`, between which nothing new is shown.

    No step from frame to frame, and no difference from the signature of `choice`, is more than noise there.
    """
    span = np.arange(first, last + 1)
    signature = stats.signature_NK[span]
    is_new = block_distance(signature, np.broadcast_to(stats.signature_NK[choice], signature.shape)) > NOVELTY_NOISE
    is_step = stats.change_N[span] > NOVELTY_NOISE
    at = choice - first
    # Going back from a frame crosses the step into it, going forward the step into the next one.
    back = np.flatnonzero(is_new[:at] | is_step[1 : at + 1])
    ahead = np.flatnonzero(is_new[at + 1 :] | is_step[at + 1 :])
    low = choice if at == 0 else first + (int(back[-1]) + 1 if len(back) else 0)
    return low, choice + (int(ahead[0]) if len(ahead) else last - choice)
