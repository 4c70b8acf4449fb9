"""Where shots begin, from the stats of a first pass.

There are four kinds of boundary: a cut (the picture changes suddenly, far more than around it, and stays changed), a
dissolve (it is still, changes over about a second, and is still again), black (the picture goes to black or returns
from it), and a slide (content at rest is replaced by other content at rest, in however small a part of the picture).
A flash returns to the picture before it, a pan changes all the time: neither is a boundary.

Comparisons span times, not frame numbers, so that variable and low frame rates are handled correctly.

Legend: N frames, K signature values, M shots.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3video.planning.states import state_changes
from m3video.planning.stills import find_stills
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, SIGNATURE_SIDE, FrameStats

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]

CUT_LEVEL = 24.0
"""Least difference of signatures across a cut, grey levels. Re-encoded still pictures stay below 4."""

CUT_RATIO = 4.0
"""A cut changes at least this many times more than frames around it do."""

LONE_RATIO = 2.0
"""A cut changes at least this many times more than frames two or three away. Fast motion does not."""

AROUND, AROUND_SECONDS = 12, 0.9
"""Frames on each side that count as around a cut, when they are that near in time. Frames a second apart have no motion
to compare with: there the level alone decides."""

FLASH_SECONDS = 0.15
"""A picture that lasts less than twice this time is a flash, not a shot."""

BLOCK = 16384
"""Frames compared at once, to bound memory."""

DISSOLVE_SECONDS = 1.0
"""Half the length of the longest dissolve that is recognised."""

DISSOLVE_LEVEL, DISSOLVE_RATIO = 30.0, 4.0
"""Least difference across a dissolve, and how many times more that is than in half its length before and after it (in a
steady pan it is twice as much)."""

BLACK_SECONDS = 0.1
"""Black for a shorter time is no boundary."""


class Boundaries(NamedTuple):
    """Rows of the stats where shots begin, int64 [M], increasing from 0, and which of them are slides, bool [M]."""

    row_M: Rows
    is_slide_M: NDArray[np.bool_]


@lru_cache(maxsize=1)
def boundaries(stats: FrameStats) -> Boundaries:
    """Find where shots begin, and how.

    Args:
        stats: analyzed frames; corrupt ones are left out of the comparison.

    Returns:
        The boundaries; the first shot begins at row 0. Empty where there are no frames.
    """
    cuts = _takes(stats)
    if len(cuts) == 0:
        return Boundaries(cuts, np.zeros(0, bool))
    changes = state_changes(stats, find_stills(stats))
    # A cut changes the state too, but is one boundary.
    times = (stats.pts_N - stats.pts_N[0]) * (stats.time_base[0] / stats.time_base[1])
    after = np.searchsorted(cuts, changes, side="right")
    apart = np.minimum(
        np.abs(times[changes] - times[cuts[after - 1]]),
        np.abs(times[changes] - np.append(times[cuts], np.inf)[after]),
    )
    slides = changes[apart > DISSOLVE_SECONDS]
    order = np.argsort(np.concatenate([cuts, slides]), kind="stable")
    return Boundaries(np.concatenate([cuts, slides])[order], (np.arange(len(order)) >= len(cuts))[order])


def find_shots(stats: FrameStats) -> Rows:
    """Return the rows of `stats` where shots begin, int64, increasing from 0; empty when there are no frames."""
    return boundaries(stats).row_M


def _takes(stats: FrameStats) -> Rows:
    """Return the rows where camera takes begin: all boundaries but slides."""
    if len(stats) == 0:
        return np.zeros(0, np.int64)
    clean = np.flatnonzero((stats.flags_N & FLAG_CORRUPT) == 0)
    if len(clean) < 2:
        return np.zeros(1, np.int64)
    signature = _picture_blocks(stats)[clean]
    seconds = (stats.pts_N[clean] - stats.pts_N[0]) * (stats.time_base[0] / stats.time_base[1])
    black = (stats.flags_N[clean] & FLAG_BLACK) > 0
    sudden = _cuts(signature, seconds) | _black_edges(black, seconds)
    # A fade into black or a cut is one boundary, not two.
    near_sudden = _near_max(sudden.astype(np.float64), seconds, 1.5 * DISSOLVE_SECONDS) > 0
    begins = sudden | (_dissolves(signature, seconds) & ~near_sudden)
    return np.concatenate([[0], clean[1:][begins[1:]]])


def _cuts(signature_NK: NDArray[np.uint8], seconds_N: Floats) -> NDArray[np.bool_]:
    """Find sudden, lasting changes; True at the first frame after the cut."""
    n = len(seconds_N)
    step = np.zeros(n)
    step[1:] = _distance(signature_NK[1:], signature_NK[:-1])
    # The nearest frames outside a flash around each frame; its direct neighbours when frames are far apart.
    before = np.searchsorted(seconds_N, seconds_N - FLASH_SECONDS, side="left") - 1
    before = np.clip(before, 0, np.maximum(np.arange(n) - 1, 0))
    after = np.minimum(np.searchsorted(seconds_N, seconds_N + FLASH_SECONDS, side="left"), n - 1)
    sparse = np.diff(seconds_N, append=seconds_N[-1]) > FLASH_SECONDS
    after = np.where(sparse, np.arange(n), after)
    lasting = _distance(signature_NK[after], signature_NK[before])
    level = np.minimum(step, lasting)
    is_cut = (level >= CUT_LEVEL) & (step >= CUT_RATIO * _usual_step(step, seconds_N))
    is_cut &= (step >= LONE_RATIO * _nearby_step(step, seconds_N)) & (lasting >= step / 3)
    # Of the frames of one quick transition, only the one that changes most begins a shot.
    return is_cut & (step >= _near_max(np.where(is_cut, step, 0.0), seconds_N, FLASH_SECONDS))


def _nearby_step(step_N: Floats, seconds_N: Floats) -> Floats:
    """Return the greatest step two or three frames away; the next frame may be the second half of a blended cut."""
    nearby = np.zeros(len(step_N))
    for away in (2, 3):
        near = seconds_N[away:] - seconds_N[:-away] <= FLASH_SECONDS
        np.maximum(nearby[away:], np.where(near, step_N[:-away], 0.0), out=nearby[away:])
        np.maximum(nearby[:-away], np.where(near, step_N[away:], 0.0), out=nearby[:-away])
    return nearby


def _usual_step(step_N: Floats, seconds_N: Floats) -> Floats:
    """Return the median step of the neighbours of each frame, without its own; 0 when there are none."""
    usual = np.zeros(len(step_N))
    steps = np.lib.stride_tricks.sliding_window_view(np.pad(step_N, AROUND, constant_values=np.nan), 2 * AROUND + 1)
    times = np.lib.stride_tricks.sliding_window_view(np.pad(seconds_N, AROUND, constant_values=np.nan), 2 * AROUND + 1)
    for start in range(0, len(step_N), BLOCK):
        rows = slice(start, start + BLOCK)
        apart = np.abs(times[rows] - seconds_N[rows, None])
        near = np.where(apart <= AROUND_SECONDS, steps[rows], np.nan)
        near[:, AROUND] = np.nan
        num_near = np.isfinite(near).sum(axis=1)
        ordered = np.sort(near, axis=1)  # nan last
        usual[rows] = np.where(num_near > 0, ordered[np.arange(len(near)), num_near // 2], 0.0)
    return usual


def _dissolves(signature_NK: NDArray[np.uint8], seconds_N: Floats) -> NDArray[np.bool_]:
    """Find gradual changes between two still stretches; True in the middle of the change."""
    half = DISSOLVE_SECONDS
    n = len(seconds_N)

    def at(offset: float) -> Rows:
        return np.clip(np.searchsorted(seconds_N, seconds_N + offset, side="left"), 0, n - 1)

    left, right, far_left, far_right = at(-half), at(half), at(-2 * half), at(2 * half)
    inside = (seconds_N - half > seconds_N[0]) & (seconds_N + half < seconds_N[-1]) & (right - left >= 4)
    across = _distance(signature_NK[right], signature_NK[left])
    calm = np.maximum(
        _distance(signature_NK[left], signature_NK[far_left]), _distance(signature_NK[far_right], signature_NK[right])
    )
    # A cut within the window would explain the change: without its greatest step the rest must still be large.
    step = np.zeros(n)
    step[1:] = _distance(signature_NK[1:], signature_NK[:-1])
    gradual = across - _window_max(step, left + 1, right + 1) >= 0.6 * across
    found = inside & gradual & (across >= DISSOLVE_LEVEL) & (across >= DISSOLVE_RATIO * calm)
    # The score is nearly constant while the window spans the whole change: the middle of that stretch is the middle
    # of the change.
    score = np.where(found, across - calm, 0.0)
    level = found & (score >= 0.9 * _near_max(score, seconds_N, 2 * half))
    starts = np.flatnonzero(level & ~np.concatenate([[False], level[:-1]]))
    ends = np.flatnonzero(level & ~np.concatenate([level[1:], [False]]))
    begins = np.zeros(n, bool)
    begins[(starts + ends) // 2] = True
    # A noisy score may fall apart into several stretches: one dissolve has one boundary.
    begins &= score >= _near_max(np.where(begins, score, 0.0), seconds_N, 2 * half)
    return begins


def _black_edges(black_N: NDArray[np.bool_], seconds_N: Floats) -> NDArray[np.bool_]:
    """Find where black begins and ends, for black that lasts."""
    edge = np.concatenate([[False], black_N[1:] != black_N[:-1]])
    starts = np.concatenate([[0], np.flatnonzero(edge)])
    ends = np.concatenate([starts[1:], [len(black_N)]])
    lasts = seconds_N[np.minimum(ends, len(seconds_N) - 1)] - seconds_N[starts] >= BLACK_SECONDS
    short = black_N[starts] & ~lasts
    begins = np.zeros(len(black_N), bool)
    begins[starts[~short & ~np.concatenate([[False], short[:-1]])]] = True
    begins[0] = False
    return begins


def _distance(first_NK: NDArray[np.uint8], second_NK: NDArray[np.uint8]) -> Floats:
    """Return the difference of signatures: |dY| + |dCb| + |dCr| in grey levels, mean over the blocks."""
    out = np.empty(len(first_NK))
    for start in range(0, len(first_NK), BLOCK):
        gap = first_NK[start : start + BLOCK].astype(np.int16) - second_NK[start : start + BLOCK]
        out[start : start + BLOCK] = np.abs(gap, out=gap).sum(axis=1, dtype=np.int64) / (first_NK.shape[1] // 3)
    return out


def _picture_blocks(stats: FrameStats) -> NDArray[np.uint8]:
    """Return signatures without the blocks that hold only border, which never change, [N, 3 x blocks]."""
    height, width = stats.edge_2HW.shape[1:]
    spans = [_spanned(side, max(height, width)) for side in (height, width)]
    grid = stats.signature_NK.reshape(-1, SIGNATURE_SIDE, SIGNATURE_SIDE, 3)
    return np.ascontiguousarray(grid[:, spans[0], spans[1]]).reshape(len(grid), -1)


def _spanned(side: int, longest: int) -> slice:
    """Return the blocks that a picture of this side covers when it is centred in a square of the longest side."""
    margin = (longest - side) / 2 * SIGNATURE_SIDE / longest
    return slice(int(margin), SIGNATURE_SIDE - int(margin))


def _near_max(value_N: Floats, seconds_N: Floats, reach: float) -> Floats:
    """Return the greatest value within `reach` seconds of each frame."""
    low = np.searchsorted(seconds_N, seconds_N - reach, side="left")
    high = np.searchsorted(seconds_N, seconds_N + reach, side="right")
    return _window_max(value_N, low, high)


def _window_max(value_N: Floats, low_N: Rows, high_N: Rows) -> Floats:
    """Return max(value[low:high]) for each pair, by a table of maxima over powers of two; 0 for empty windows."""
    n = len(value_N)
    high_N = np.minimum(high_N, n)
    length = high_N - low_N
    result = np.zeros(len(low_N))
    level = value_N.astype(np.float64)
    width = 1
    while width <= int(length.max(initial=0)):
        mine = (length >= width) & (length < 2 * width)
        result[mine] = np.maximum(level[low_N[mine]], level[high_N[mine] - width])
        wider = level.copy()
        wider[: n - width] = np.maximum(level[: n - width], level[width:])
        level, width = wider, 2 * width
    return result
