"""Choice of candidates: the frames that compete for tokens.

Their number is limited because the vision tower costs the same for each, whatever scale it gets later.

Legend: N frames or candidates, M shots.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3video.errors import UsageError
from m3video.planning.decode_cost import cheapest_like, frames_before
from m3video.planning.shots import Boundaries, boundaries
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_KEY, FrameStats, Selection
from m3video.utils.clock import clock

Rows = NDArray[np.int64]
Floats = NDArray[np.floating]

NEARLY_AS_SHARP = 0.9
"""Frames with at least this share of the sharpness of the sharpest frame of their stretch are equally good. Among them
a keyframe is preferred, because it is the cheapest to decode; else the one nearest to the middle, or one that shows the
same and comes sooner after a keyframe."""

CHANGE_CAP = 20.0
"""Change is clipped to this many grey levels per frame, so that one cut or flash does not attract all candidates."""

STILLNESS = 30.0
"""Grey levels a second by which a still picture counts as changing (one per frame at 30 frames a second): a mean over
the picture says little of a word in its corner. So motion of 100 levels a second attracts twice as many candidates as
stillness, and a fade or a fast pan (at 30 frames a second) at most 4.6 times as many."""

MAX_FPS = 1e6

TIME_TOLERANCE = 1e-6
"""Seconds of tolerance, because times such as 1/3 s have no exact decimals."""


def sample(
    stats: FrameStats,
    *,
    max_frames: int,
    method: Literal["shots", "uniform"] = "shots",
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    fps: float | None = None,
    num_frames: int | None = None,
    required: Sequence[int] = (),
    reserved: int = 0,
    shot_starts: Boundaries | None = None,
) -> Selection:
    """Choose candidate frames.

    With `fps` or `num_frames` they are evenly spaced in time; otherwise `method` decides: "uniform" spaces them evenly
    too, "shots" gives every shot a candidate and the rest to long shots with much change. Corrupt frames are candidates
    only when there are no others.

    Args:
        stats: the analyzed frames.
        max_frames: most candidates, >= 1.
        method: "shots" or "uniform".
        start_seconds: start of the range, in seconds as players count; the frame on screen then belongs to it. None for
            the beginning.
        end_seconds: end of the range, not included; None for the end.
        fps: candidates per second of video, > 0.
        num_frames: number of candidates, >= 1.
        required: rows that the caller adds as candidates; they count towards `max_frames` and for their shots.
        reserved: number of further candidates that the caller will add; with `required` fewer than `max_frames`. Their
            shots are not known here, so shots without a candidate are not noted.
        shot_starts: `boundaries(stats)`, where the caller has them already.

    Returns:
        The candidates with a reason each, and notes on what could not be met in full.

    Raises:
        UsageError: `fps` together with `num_frames`, a value out of range, or a time range without a frame.
    """
    _check(max_frames, method, fps, num_frames)
    num_left = max_frames - reserved - len(required)
    limit_text = f"max_frames ({max_frames})"
    if num_left < max_frames:
        limit_text = f"the {num_left} that pins and gaps leave of {limit_text}"
    rows, times, _, end = on_screen(stats, start_seconds, end_seconds)
    notes: list[str] = []
    shot_starts = boundaries(stats) if shot_starts is None else shot_starts
    clean = rows[(stats.flags_N[rows] & FLAG_CORRUPT) == 0]
    if len(clean) == 0:
        notes.append("every frame in the range is corrupt: corrupt frames are shown")
        clean = rows
    if fps is not None:
        wanted = _at_rate(times[rows], fps, num_left, limit_text, notes)
        chosen, reason = shown_at(times, clean, wanted), "fps"
        if len(chosen) < len(wanted):
            notes.append(f"fps ({fps:g}): {len(wanted) - len(chosen)} of {len(wanted)} times show no further frame")
    elif num_frames is not None:
        count = min(num_frames, num_left)
        if count < num_frames:
            notes.append(f"num_frames ({num_frames}) is above {limit_text}: {count} candidates are taken")
        chosen, reason = _evenly(times, rows, clean, count, end), "num_frames"
        if len(chosen) < count:
            notes.append(f"{count} frames were asked for, {len(chosen)} different ones are there to take evenly")
    elif method == "uniform":
        chosen, reason = _evenly(times, rows, clean, num_left, end), "uniform"
    else:
        return _by_shots(
            stats, times, end, rows, clean, shot_starts, num_left, required, None if reserved else max_frames, notes
        )
    return selection_of(stats, rows, shot_starts, chosen, [reason] * len(chosen), "uniform", notes)


def _check(max_frames: int, method: str, fps: float | None, num_frames: int | None) -> None:
    if fps is not None and num_frames is not None:
        raise UsageError("fps and num_frames contradict each other: give one of them")
    if max_frames < 1:
        raise UsageError(f"max_frames ({max_frames}) must be at least 1")
    if num_frames is not None and num_frames < 1:
        raise UsageError(f"num_frames ({num_frames}) must be at least 1")
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"fps ({fps}) must be a number above 0")
    if fps is not None and fps > MAX_FPS:
        raise UsageError(f"fps ({fps:g}) must be at most {MAX_FPS:,.0f}")
    if method not in ("shots", "uniform"):
        raise UsageError(f"sampling method ({method}) must be shots or uniform")


def rows_in_range(stats: FrameStats, start: float | None, end: float | None) -> Rows:
    """Return the rows on screen at some time from `start` to before `end`: the first may have appeared before `start`.

    Where a scan skipped frames, each analyzed one stands for those until the next.

    Args:
        stats: the analyzed frames.
        start: seconds as players count; None for the beginning.
        end: likewise; None for the end.

    Raises:
        UsageError: nothing is on screen in the range.
    """
    return on_screen(stats, start, end).rows


class OnScreen(NamedTuple):
    """What is on screen in a range of time.

    Seconds count from the first frame of the whole video, so that rounding does not depend on where its clock starts.

    Attributes:
        rows: the frames, as returned by `rows_in_range`.
        times_N: when each frame appears; for a frame that appeared before the range, the start of the range.
        begin, end: the range, as far as there are frames.
    """

    rows: Rows
    times_N: Floats
    begin: float
    end: float


def on_screen(stats: FrameStats, start: float | None, end: float | None) -> OnScreen:
    """Return what is on screen from `start` to before `end`; arguments and errors as for `rows_in_range`."""
    tick, base = stats.time_base[0] / stats.time_base[1], stats.pts_seconds(int(stats.pts_N[0]))
    times = (stats.pts_N - stats.pts_N[0]) * tick
    until = float((_end(stats) - stats.pts_N[0]) * tick)
    row = 0 if start is None else max(0, int(np.searchsorted(times, start - base + TIME_TOLERANCE, side="right")) - 1)
    stop = len(times) if end is None else int(np.searchsorted(times, end - base - TIME_TOLERANCE))
    begin = float(times[row]) if start is None else max(float(times[row]), start - base)
    last = float(times[stop]) if stop < len(times) else until
    last = last if end is None else min(last, end - base)
    if stop <= row or last <= begin:
        asked = f"{'the start' if start is None else f'{start:g} s'} to {'the end' if end is None else f'{end:g} s'}"
        raise UsageError(
            f"no frame in the range {asked}: the video's frames run from {base:.3f} s to {base + until:.3f} s "
            f"({clock(base)} to {clock(base + until)})"
        )
    return OnScreen(np.arange(row, stop), np.maximum(times, begin), begin, last)


def begin_pts(stats: FrameStats, start: float | None, rows: Rows) -> int:
    """Return where the range begins, ticks: at `start`, or at the first of its rows where that is later."""
    first = int(stats.pts_N[rows[0]])
    if start is None:
        return first
    return max(first, math.floor((Fraction(start) + Fraction(*stats.origin)) / Fraction(*stats.time_base)))


def _at_rate(times_N: Floats, fps: float, num_left: int, limit_text: str, notes: list[str]) -> Floats:
    """Return times `1 / fps` apart over the range, thinned evenly when they are more than `num_left`."""
    count = int((times_N[-1] - times_N[0]) * fps + 1e-6) + 1
    wanted = times_N[0] + np.arange(min(count, num_left)) / fps
    if count > num_left:
        notes.append(
            f"fps ({fps:g}) asks for {count} candidates, above {limit_text}: every {count / num_left:.2f}th is taken"
        )
        wanted = times_N[0] + (np.arange(num_left) * count // num_left) / fps
    return wanted


def _evenly(times_N: Floats, rows: Rows, clean: Rows, count: int, end: float) -> Rows:
    """Return the frames on screen in the middle of `count` equal stretches of time; all when there are no more."""
    if len(clean) <= count:
        return clean
    first = times_N[rows[0]]
    return shown_at(times_N, clean, first + (np.arange(count) + 0.5) * (end - first) / count)


def shown_at(times_N: Floats, clean: Rows, wanted: Floats) -> Rows:
    """Return the rows of the clean frames on screen at the wanted times, without repeats."""
    place = np.searchsorted(times_N[clean], wanted + TIME_TOLERANCE, side="right") - 1
    return clean[np.unique(np.maximum(place, 0))]


def _by_shots(
    stats: FrameStats,
    times_N: Floats,
    end: float,
    rows: Rows,
    clean: Rows,
    shot_starts: Boundaries,
    num_left: int,
    required: Sequence[int],
    max_frames: int | None,
    notes: list[str],
) -> Selection:
    """Choose a candidate for every shot, then more for long shots with much change.

    Where `max_frames` is None, shots without a candidate are not noted.
    """
    shot_of = np.searchsorted(shot_starts.row_M, clean, side="right") - 1
    shots, first, capacity = np.unique(shot_of, return_index=True, return_counts=True)
    if len(clean) <= num_left:
        return selection_of(stats, rows, shot_starts, clean, _reasons(shot_of, shot_starts), "shots", notes)
    progress = _progress(stats, clean, np.diff(times_N[clean], append=end), first)
    weight = np.add.reduceat(progress, first)
    black = np.minimum.reduceat((stats.flags_N[clean] & FLAG_BLACK) > 0, first)
    required_M = np.searchsorted(
        shots, np.searchsorted(shot_starts.row_M, np.array(required, np.int64), side="right") - 1
    )
    required_M = np.bincount(required_M, minlength=len(shots))
    share = _apportion(weight, capacity, black, num_left, required_M)
    served = int((share + required_M > 0).sum())
    if served < len(shots) and max_frames is not None:
        notes.append(
            f"{len(shots)} shots, but max_frames is {max_frames}: {len(shots) - served} shots have no candidate"
        )
    cost = frames_before(stats)
    chosen = [
        _best_of_shot(stats, clean[at : at + size], progress[at : at + size], int(count), cost)
        for at, size, count in zip(first, capacity, share, strict=True)
        if count > 0
    ]
    picked = np.concatenate([np.zeros(0, np.int64), *chosen])
    shot_of = np.searchsorted(shot_starts.row_M, picked, side="right") - 1
    return selection_of(stats, rows, shot_starts, picked, _reasons(shot_of, shot_starts), "shots", notes)


def _progress(stats: FrameStats, rows: Rows, shown_N: Floats, first: Rows) -> Floats:
    """Return how much each frame contributes to progress; candidates stand at equal steps of its sum.

    A candidate represents the frames around it. At a density d of candidates these differ from it by about speed / d,
    speed being change per second; for a given number of candidates the mean difference is least where d is
    proportional to the root of the speed.

    Source: the levels of a quantizer, Bennett (1948) and Panter and Dite (1951), here for the mean absolute error.

    Args:
        stats: the analyzed frames.
        rows: those that may be candidates.
        shown_N: seconds each is on screen, > 0.
        first: which of them begin a shot; the cut itself is no change inside the shot.
    """
    change = np.minimum(stats.change_N[rows].astype(np.float64), CHANGE_CAP)
    change[first] = 0.0
    return np.sqrt(change / shown_N + STILLNESS) * shown_N


def _reasons(shot_N: Rows, shot_starts: Boundaries) -> list[str]:
    """Return "shot" or "slide" for the first candidate of each shot, "change" for the further ones."""
    starts = np.diff(shot_N, prepend=-1) > 0
    words = np.where(shot_starts.is_slide_M[shot_N], "slide", "shot")
    return [str(word) if is_first else "change" for word, is_first in zip(words, starts, strict=True)]


def _apportion(weight_M: Floats, capacity_M: Rows, black_M: NDArray[np.bool_], total: int, required_M: Rows) -> Rows:
    """Return how many of `total` candidates each shot gets.

    First, one for each shot without a required one, as far as they suffice: black shots last, otherwise those with the
    greatest weight first, so that what is left out is short and spread. The rest by the highest quotients
    weight / (2 count + 1) (Sainte-Lague).
    """
    count = np.zeros(len(weight_M), np.int64)
    lit = np.flatnonzero(~black_M & (required_M == 0))
    if len(lit) > total:
        count[lit[_spread(weight_M[lit], total)]] = 1
        return count
    count[lit] = 1
    count[np.flatnonzero(black_M & (required_M == 0))[: total - len(lit)]] = 1
    growing = np.flatnonzero((count + required_M > 0) & ~black_M & (capacity_M > count + required_M))
    queue = [(-weight_M[i] / (2 * (count[i] + required_M[i]) + 1), int(i)) for i in growing]
    heapq.heapify(queue)
    for _ in range(total - int(count.sum())):
        if not queue:
            break
        _, i = heapq.heappop(queue)
        count[i] += 1
        if count[i] + required_M[i] < capacity_M[i]:
            heapq.heappush(queue, (-weight_M[i] / (2 * (count[i] + required_M[i]) + 1), i))
    return count


def _spread(weight_M: Floats, total: int) -> Rows:
    """Choose `total` of more shots: systematic sampling in proportion to size.

    Shots that outweigh an equal share of the remaining weight are certain; of the others, in their order, those in
    the middle of such a share.
    """
    order = np.argsort(-weight_M, kind="stable")
    left = np.cumsum(weight_M[order][::-1])[::-1]
    sure = int(np.argmax(weight_M[order][:total] < left[:total] / np.arange(total, 0, -1)))
    rest = np.sort(order[sure:])
    done = np.cumsum(weight_M[rest])
    middles = done[-1] * (np.arange(total - sure) + 0.5) / (total - sure)
    return np.concatenate([order[:sure], rest[np.searchsorted(done, middles)]])


def _best_of_shot(stats: FrameStats, rows: Rows, progress_N: Floats, count: int, cost_N: Rows) -> Rows:
    """Return `count` frames of one shot: the best of as many stretches of equal progress."""
    if count >= len(rows):
        return rows
    done = np.cumsum(progress_N)
    # A frame belongs to the stretch that contains its middle.
    edges = np.searchsorted(done - progress_N / 2, done[-1] * np.arange(1, count) / count)
    # Every stretch has at least one frame, whatever jumps there are in progress.
    edges = np.maximum(edges, np.arange(1, count))
    edges = np.maximum.accumulate(edges - np.arange(count - 1)) + np.arange(count - 1)
    edges = np.minimum(edges, len(rows) - count + np.arange(1, count))
    return np.array([_best_frame(stats, piece, cost_N) for piece in np.split(rows, edges)], np.int64)


def _best_frame(stats: FrameStats, rows: Rows, cost_N: Rows) -> int:
    """Return a sharp frame near the middle that is not black and cheap to decode."""
    lit = rows[(stats.flags_N[rows] & FLAG_BLACK) == 0]
    rows = lit if len(lit) else rows
    sharp = stats.sharpness_N[rows]
    good = rows[sharp >= NEARLY_AS_SHARP * sharp.max()]
    keys = good[(stats.flags_N[good] & FLAG_KEY) > 0]
    near = keys if len(keys) else good
    middle = (rows[0] + rows[-1]) / 2
    choice = int(near[np.argmin(np.abs(near - middle))])
    return choice if len(keys) else cheapest_like(stats, choice, good, cost_N)


def selection_of(
    stats: FrameStats,
    rows: Rows,
    shot_starts: Boundaries,
    chosen: Rows,
    reasons: list[str],
    method: str,
    notes: list[str],
) -> Selection:
    """Make the selection, with the shots of the range numbered from 0."""
    begin_M, is_slide_M = shot_starts
    low = int(np.searchsorted(begin_M, rows[0], side="right") - 1)
    high = int(np.searchsorted(begin_M, rows[-1], side="right"))
    starts = stats.pts_N[begin_M[low:high]].tolist()
    after = stats.pts_N[begin_M[high]] if high < len(begin_M) else _end(stats)
    return Selection(
        index_N=chosen,
        pts_N=stats.pts_N[chosen],
        shot_N=np.searchsorted(begin_M, chosen, side="right") - 1 - low,
        reason_N=tuple(reasons),
        shots=tuple(zip(starts, [*starts[1:], int(after)], strict=True)),
        began_M=tuple("slide" if is_slide else "cut" for is_slide in is_slide_M[low:high]),
        method=method,
        notes=tuple(notes),
    )


def _end(stats: FrameStats) -> int:
    """Return when the last frame leaves the screen, ticks; where unknown, after the usual time between frames."""
    if stats.until_pts is not None:
        return max(stats.until_pts, int(stats.pts_N[-1]) + 1)
    usual = int(np.median(np.diff(stats.pts_N))) if len(stats) > 1 else 1
    return int(stats.pts_N[-1]) + max(1, usual)
