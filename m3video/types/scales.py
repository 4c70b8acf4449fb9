"""The five nested token scales of M3, and the check that a number is one of them."""

from __future__ import annotations

SCALES: tuple[int, ...] = (1, 9, 36, 144, 576)
"""Visual tokens one frame may cost, coarse to fine."""

GRID_SIDES: dict[int, int] = {1: 1, 9: 3, 36: 6, 144: 12, 576: 24}
"""Side of the square token grid of each scale."""

FULL_SCALE = 576
FULL_SIDE = 24


def check_scale(scale: int) -> int:
    """Return `scale` when it is one of `SCALES`.

    Raises:
        ValueError: it is not. (The reference code silently turns a scale of 100 into 144.)
    """
    if scale not in GRID_SIDES:
        raise ValueError(f"scale ({scale}) must be one of {', '.join(map(str, SCALES))}")
    return int(scale)
