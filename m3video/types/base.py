"""Times in integer ticks, and arrays that cannot be written to."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

TimeBase = tuple[int, int]


def seconds(ticks: int, time_base: TimeBase) -> float:
    """How long `ticks` last. Example: `seconds(90000, (1, 90000)) == 1.0`; when a pts is, `clock_seconds` tells."""
    return float(Fraction(int(ticks) * time_base[0], time_base[1]))


def frozen_array(value: Any, dtype: Any, shape: tuple[int | None, ...], name: str) -> NDArray[Any]:
    """A read-only array of `dtype` whose shape matches `shape` (None = any length)."""
    array = np.array(value, dtype=dtype)
    fits = array.ndim == len(shape) and all(w is None or w == g for w, g in zip(shape, array.shape, strict=True))
    if not fits:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    array.setflags(write=False)
    return array
