"""The five nested token scales of M3, and the rule that nothing else is a scale."""

from __future__ import annotations

SCALES: tuple[int, ...] = (1, 9, 36, 144, 576)
"""Visual tokens one frame may cost, coarse to fine."""

GRID_SIDES: dict[int, int] = {1: 1, 9: 3, 36: 6, 144: 12, 576: 24}
"""Scale -> side of its square token grid."""

FULL_SCALE = 576
FULL_SIDE = 24


def check_scale(scale: int) -> int:
    """Return `scale` when it is one of the five.

    Raises:
        ValueError: for anything else. The reference code turns a scale of 100 into 144 silently; we do not.
    """
    if scale not in GRID_SIDES:
        raise ValueError(f"scale ({scale}) must be one of {', '.join(map(str, SCALES))}")
    return int(scale)
