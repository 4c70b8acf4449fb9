"""The clock of players: the time of a pts, times as text, and what a time in a question refers to."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Origin = tuple[int, int]
"""Where players show 0:00: the start of the file's earliest stream, in seconds as a numerator and a denominator.
A fraction, because each stream counts in its own ticks, and rounding would shift what starts with another stream."""

FROM_ZERO: Origin = (0, 1)


def clock_seconds(pts: int, time_base: tuple[int, int], origin: Origin) -> float:
    """Return `pts` in seconds as players count them; rounded once.

    Example: `clock_seconds(90000, (1, 90000), (1, 2)) == 0.5`.
    """
    return float(Fraction(int(pts) * time_base[0], time_base[1]) - Fraction(*origin))


def clock_times(pts_N: NDArray[np.int64], time_base: tuple[int, int], origin: Origin) -> NDArray[np.float64]:
    """Return `clock_seconds` of many pts, accurate to a few units in the last place however large they are."""
    if not len(pts_N):
        return np.zeros(0)
    return clock_seconds(pts_N[0], time_base, origin) + (pts_N - pts_N[0]) * (time_base[0] / time_base[1])


def clock(value: float) -> str:
    """Format seconds for display: `75.25` -> `1:15.25`, `3661` -> `1:01:01`, negative with a sign."""
    sign, hundredths = ("-" if value < -0.005 else ""), round(abs(value) * 100)
    whole, hundredths = divmod(hundredths, 100)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
    return sign + text + (f".{hundredths:02d}" if hundredths else "")


def whole_clock(value: float) -> str:
    """Return whole seconds, rounded down, as prompts write them: `67.9` -> `1:07`; with hours from ten minutes on."""
    total = max(0, int(value))
    if total < 600:
        return f"{total // 60}:{total % 60:02d}"
    return f"{total // 3600}:{total % 3600 // 60:02d}:{total % 60:02d}"


CLOCK = re.compile(r"\b(?:(\d+):)?(\d+):(\d\d)(?:\.\d+|,\d{3}(?![\d:]))?\b")
"""A time within a text: `0:07`, `1:02:03`, `0:07.5`, `00:00:07,500` as subtitles have it."""


def whole_seconds(text: str) -> int:
    """Return the time that a text like `CLOCK` names, in whole seconds, rounded down.

    Raises:
        ValueError: it is another text.
    """
    found = CLOCK.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no time like 0:07")
    hours, minutes, secs = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + secs


def is_outside(second: int, first: float, end: float) -> bool:
    """Return whether the second that a time like 0:07 names is over before `first`, or begins after `end`."""
    return second + 1 <= first or second > end


def shot_named(second: int, starts: Sequence[float]) -> int:
    """Return the shot that a time like 0:07 names.

    That is a shot that lies wholly within this second, since no other time names it; else the one on screen when the
    second begins.

    Args:
        second: whole seconds.
        starts: when each shot begins, increasing; each lasts until the next.

    Returns:
        Number of the shot from 0; 0 also before the first.
    """
    within = bisect.bisect_left(starts, second)
    if within + 1 < len(starts) and starts[within + 1] <= second + 1:
        return within
    return max(0, bisect.bisect_right(starts, second) - 1)
