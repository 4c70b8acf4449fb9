"""When frames are shown: an integer pts for each frame of a sequential pass, and where players start to count.

Every frame gets a time, also where the file stores none or contradicts itself.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.video.frame import VideoFrame

from m3video.types import TimeBase
from m3video.utils.clock import Origin

DEFAULT_RATE = Fraction(25)
"""Frames per second where a file names neither timestamps nor a rate (FFmpeg's own default for raw streams)."""

_START_TICKS = 1_000_000
"""Ticks per second of a container's start time, which FFmpeg reports rounded to microseconds."""


class Timeline:
    """The integer pts of every decoded frame of a sequential pass; repeating the pass gives the same times.

    A frame's own pts is used where the file's timestamps are sound. Otherwise: FFmpeg's best-effort rule (pts, or the
    dts of the packet that released the frame, whichever has been less faulty); one nominal frame after the previous
    frame where neither exists; a jump backward by a second or more starts a new stretch right after the previous frame;
    smaller steps backward and repetitions become the previous pts plus one tick.
    """

    def __init__(self, *, nominal_ticks: int, ticks_per_second: int) -> None:
        self._nominal = nominal_ticks
        self._second = max(1, ticks_per_second)
        self._faulty_pts = self._faulty_dts = 0
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._previous: int | None = None
        self._offset = 0
        self.num_missing = self.num_duplicate = self.num_backward = 0

    def stamp(self, frame: VideoFrame) -> int:
        """Return the pts of `frame`, the next one in output order; it is greater than the one before."""
        if frame.pts is None:
            self.num_missing += 1
        guess = self._best_effort(frame.pts, frame.dts)
        value = self._increasing(guess)
        self._previous = value
        return value

    def _best_effort(self, pts: int | None, dts: int | None) -> int | None:
        # Source: guess_correct_pts in FFmpeg's libavcodec/decode.c.
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None):
            return pts
        return dts

    def _increasing(self, guess: int | None) -> int:
        previous = self._previous
        if previous is None:
            return guess if guess is not None else 0
        if guess is None:
            return previous + self._nominal
        value = guess + self._offset
        if value > previous:
            return value
        if value == previous:
            self.num_duplicate += 1
            return previous + 1
        self.num_backward += 1
        if previous - value >= self._second:
            self._offset += previous + self._nominal - value
            return previous + self._nominal
        return previous + 1


def new_timeline(stream: Any) -> Timeline:
    """Return a `Timeline` for a pass over `stream` from its beginning."""
    ticks = 1 / stream.time_base
    return Timeline(nominal_ticks=nominal_ticks(stream), ticks_per_second=round(ticks))


def nominal_ticks(stream: Any) -> int:
    """Return the ticks from one frame to the next by the header's frame rate (25 per second where it names none)."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate or DEFAULT_RATE
    if rate <= 0:
        rate = DEFAULT_RATE
    return max(1, round(1 / (Fraction(rate) * stream.time_base)))


def timeline_notes(timeline: Timeline, stream: Any) -> tuple[str, ...]:
    """Describe, for users, what was unusual about the times that `timeline` gave."""
    notes = ["frames were indexed by decoding, because the packets alone do not tell which are presented"]
    if timeline.num_missing:
        step = nominal_ticks(stream)
        notes.append(
            f"{timeline.num_missing} frames have no pts of their own: their times come from decoding timestamps, "
            f"or else count {step} ticks per frame"
        )
    if timeline.num_duplicate:
        notes.append(f"{timeline.num_duplicate} frames repeat the pts before them: each was moved one tick later")
    if timeline.num_backward:
        notes.append(
            f"pts run backward {timeline.num_backward} times: jumps of a second or more continue right after "
            "the frame before, smaller ones one tick after it"
        )
    return tuple(notes)


def origin_of(container: Any, *, first_pts: int, time_base: TimeBase) -> Origin:
    """Return the exact start of the earliest stream of an open file, in seconds as a fraction in lowest terms.

    Which streams count is FFmpeg's rule, because players and subtitle tools are built on it: audio and video do, cover
    art and data do not, subtitles only where they begin less than a second before all else. FFmpeg's value is rounded,
    so the fraction is that of the stream whose start rounds to it.

    Args:
        container: PyAV container, as `AvStream` opens it.
        first_pts: pts of the first presented frame, ticks; it is the origin where the file stores no times.
        time_base: seconds per tick of `first_pts`.

    Source: update_stream_timings in FFmpeg's libavformat/demux.c.
    """
    if container.start_time is None:
        start = first_pts * Fraction(*time_base)
    else:
        rounded = Fraction(container.start_time, _START_TICKS)
        starts = [
            stream.start_time * stream.time_base
            for stream in container.streams
            if stream.start_time is not None and stream.time_base
        ]
        start = min((exact for exact in starts if abs(exact - rounded) * 2 * _START_TICKS <= 1), default=rounded)
    return start.numerator, start.denominator
