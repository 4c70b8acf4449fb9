"""Where players begin to count: the start of a file's earliest stream."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from m3video.types import TimeBase
from m3video.utils.clock import Origin

_TOLD_IN = 1_000_000
"""FFmpeg tells a container's start in microseconds, rounded."""


def origin_of(container: Any, *, first_pts: int, time_base: TimeBase) -> Origin:
    """The start of the earliest stream of an open file, exact, in seconds as a fraction in lowest terms.

    Which streams count is FFmpeg's rule, because players and the tools that put subtitles back into a file are built on
    it: sound and pictures do, cover art and data do not, subtitles only where they begin less than a second before all
    else. What it tells is rounded, so the fraction is that of the stream whose start rounds to it.

    Args:
        container: PyAV's, as `AvStream` opens it.
        first_pts: of the first presented frame, ticks; the origin where the file stores no times.
        time_base: of `first_pts`.

    Source: update_stream_timings in FFmpeg's libavformat/demux.c.
    """
    if container.start_time is None:
        start = first_pts * Fraction(*time_base)
    else:
        told = Fraction(container.start_time, _TOLD_IN)
        starts = [
            stream.start_time * stream.time_base
            for stream in container.streams
            if stream.start_time is not None and stream.time_base
        ]
        start = min((exact for exact in starts if abs(exact - told) * 2 * _TOLD_IN <= 1), default=told)
    return start.numerator, start.denominator
