"""Durations in integer ticks, and read-only arrays."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

TimeBase = tuple[int, int]


def seconds(ticks: int, time_base: TimeBase) -> float:
    """Convert a duration in ticks to seconds; for the time of a pts see `clock_seconds`.

    Example: `seconds(90000, (1, 90000)) == 1.0`.
    """
    return float(Fraction(int(ticks) * time_base[0], time_base[1]))


def frozen_array(value: Any, dtype: Any, shape: tuple[int | None, ...], name: str) -> NDArray[Any]:
    """Copy `value` to a read-only array of `dtype`.

    Raises:
        ValueError: its shape does not match `shape` (None: any length).
    """
    array = np.array(value, dtype=dtype)
    fits = array.ndim == len(shape) and all(w is None or w == g for w, g in zip(shape, array.shape, strict=True))
    if not fits:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    array.setflags(write=False)
    return array
