"""Novelty: how much of a candidate no earlier candidate has shown.

Three things look new and are not: a picture that stands still or comes back, motion or panning within a shot, and the
mixture of two shots in a cross-fade. Two things are new and change little: a small sign in a part of the picture, and
words that are replaced while the signature stays equal.

Shape legend: N frames or candidates, K signature values, R C rows and columns of the signature's blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m3video.planning.news import LEAST_NEW, News, find_news
from m3video.planning.stills import find_stills
from m3video.types import FLAG_CORRUPT, SIGNATURE_SIDE, FrameStats, Selection

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

NOVELTY_FLOOR = 0.002
"""A frame that shows nothing new keeps this share of its utility: its first token ranks after the detail of new frames
at 9 tokens and before their detail at 36. The best value of 0.0005 to 0.02 on the calibration clips."""

NOVELTY_NOISE, NOVELTY_FULL = 3.0, 30.0
"""Distances of signatures, in grey levels over the blocks that differ most: up to the first nothing is new, from the
second on everything is."""

PEAK_BLOCKS = 4
"""Signature blocks (of 36) over which that distance is averaged: a new sign fills a part of the picture only."""

NEIGHBOURS = 4096
"""A candidate is compared with this many candidates before it, and up to 255 more."""

REACH = 1.0
"""Within a shot a block may have moved by this many blocks, in steps of half a block: motion is not novelty."""

MOSTLY_AT_REST = 0.5
"""Where at least this share of a picture's content is at rest, novelty is measured by its cells, not by signatures."""

FADE_SECONDS = 0.5
"""A frame of a cross-fade is a mixture of the frames this long before and after it."""

FADE_LEVEL, FADE_REST, FADE_SHARE = 12.0, 0.25, 0.08
"""Those two differ by at least `FADE_LEVEL` (grey levels, mean over all blocks: an object that moves changes a few); at
most the share `FADE_REST` of their distance is not explained by the mixture, of which each makes up at least the share
`FADE_SHARE`."""


def novelty(stats: FrameStats, selection: Selection) -> Floats:
    """Return how much of each candidate is not shown by an earlier one or by one that shows more, `NOVELTY_FLOOR` to 1.

    The signature is compared with the previous candidate and with the most similar of all earlier ones, allowing for
    motion where they are of one take. Content at rest is compared cell by cell, because words may be replaced while
    the signature stays equal. Where nothing is at rest, a sudden change since the previous candidate counts half, for
    the same reason. Mixtures of two shots show nothing that the shots do not show.

    Returns:
        float64 [N].
    """
    found = np.full(len(selection), NOVELTY_FLOOR)
    unmixed = np.flatnonzero(~mixed(stats, selection.index_N))
    rows, take_N = selection.index_N[unmixed], selection.take_N[unmixed]
    news = find_news(stats, find_stills(stats), rows)
    fresh = _fresh(stats, rows, take_N, is_moving_N=news.still_N < MOSTLY_AT_REST)
    found[unmixed] = np.maximum(_beside(news, stats.signature_NK[rows], fresh, take_N), news.new_N)
    found[found < LEAST_NEW] = NOVELTY_FLOOR
    return found


def _beside(news: News, signature_NK: Bytes, fresh_N: Floats, take_N: Rows) -> Floats:
    """Return novelty beside the content at rest.

    For a picture that is mostly at rest: how much it differs, outside the content at rest, from the candidate that
    shows most of that content too.
    """
    known = np.flatnonzero((news.like_N >= 0) & (news.still_N >= MOSTLY_AT_REST) & (news.new_N < MOSTLY_AT_REST))
    like = news.like_N[known]
    gap = _gaps(signature_NK[known], signature_NK[like])
    gap[news.differ_NB[known]] = 0.0
    unlike = _share(_peak(gap))
    found = fresh_N.copy()
    found[known] = np.minimum(fresh_N[known], unlike)
    # What such a picture seems to show first is credited to a later state of it, which shows more.
    passed_on = (news.new_N[known] < LEAST_NEW) & (like > known) & (take_N[like] == take_N[known])
    np.maximum.at(found, like[passed_on], fresh_N[known[passed_on]])
    return found


def _fresh(stats: FrameStats, rows: Rows, take_N: Rows, *, is_moving_N: NDArray[np.bool_]) -> Floats:
    """Return novelty by signatures; where everything moves, a sudden change counts half."""
    if len(rows) < 2:
        return np.ones(len(rows))
    signature = stats.signature_NK[rows]
    before, near = np.arange(len(rows) - 1), most_similar_before(signature)
    distance = np.minimum(
        *(
            np.where(
                take_N[1:] == take_N[other],
                moved_distance(signature[1:], signature[other]),
                block_distance(signature[1:], signature[other]),
            )
            for other in (before, near)
        )
    )
    jump = np.maximum.reduceat(_sudden(_true_change(stats))[: rows[-1] + 1], rows[:-1] + 1)
    sudden = np.where(is_moving_N[1:], np.minimum(_share(jump), 0.5), 0.0)
    return np.concatenate([[1.0], np.maximum(_share(distance), sudden)])


def _share(distance_N: Floats) -> Floats:
    """Map distances in grey levels to novelty, `NOVELTY_FLOOR` to 1."""
    return np.clip((distance_N - NOVELTY_NOISE) / (NOVELTY_FULL - NOVELTY_NOISE), NOVELTY_FLOOR, 1.0)


def block_distance(first_NK: Bytes, second_NK: Bytes) -> Floats:
    """Return the mean distance of signatures over the `PEAK_BLOCKS` blocks that differ most, grey levels, [N]."""
    return _peak(_gaps(first_NK, second_NK))


def _gaps(first_NK: Bytes, second_NK: Bytes) -> NDArray[np.float32]:
    """Return the distance of each block in grey levels, [N, 36]."""
    gap = first_NK.astype(np.float32) - second_NK
    return np.asarray(np.sqrt(np.square(gap).reshape(len(gap), SIGNATURE_SIDE**2, 3).sum(axis=-1)))


def moved_distance(new_NK: Bytes, old_NK: Bytes) -> Floats:
    """Return `block_distance` after motion, float64 [N]; never more than `block_distance`.

    Each block of the new picture is compared with the best of all places in the old one from which it may have moved.
    """
    shape = (-1, SIGNATURE_SIDE, SIGNATURE_SIDE, 3)
    new, old = (grid.astype(np.float32).reshape(shape) for grid in (new_NK, old_NK))
    least = np.full(new.shape[:3], np.inf, np.float32)
    steps = np.arange(-REACH, REACH + 0.25, 0.5)
    for down in steps:
        shifted = _shifted(old, down, axis=1)
        for right in steps:
            gap = np.square(new - _shifted(shifted, right, axis=2)).sum(axis=-1)
            np.minimum(least, gap, out=least)
    return _peak(np.sqrt(least).reshape(len(least), -1))


def _shifted(grid: NDArray[np.float32], step: float, *, axis: int) -> NDArray[np.float32]:
    """Shift the grid by a number of blocks, repeating the edge; half a block is the mean of two."""
    side = grid.shape[axis]
    low, high = (np.clip(np.arange(side) + move, 0, side - 1) for move in (int(np.floor(step)), int(np.ceil(step))))
    both: NDArray[np.float32] = np.take(grid, low, axis=axis) + np.take(grid, high, axis=axis)
    return both / np.float32(2)


def _peak(blocks_NB: NDArray[np.float32]) -> Floats:
    return np.partition(blocks_NB, -PEAK_BLOCKS, axis=-1)[:, -PEAK_BLOCKS:].mean(axis=-1, dtype=np.float64)


def mixed(stats: FrameStats, rows: Rows) -> NDArray[np.bool_]:
    """Return which frames are mixtures of two others shortly before and after them that are not, bool like `rows`.

    In a cross-fade they are. In a smooth pan each frame looks like a mixture too, but so do the frames around it.
    """
    clean = np.flatnonzero((stats.flags_N & FLAG_CORRUPT) == 0)
    if len(clean) == 0:
        return np.zeros(len(rows), bool)
    found = _is_mixture(stats, clean, rows)
    for end in _around(stats, clean, rows):
        found &= ~_is_mixture(stats, clean, end)
    return found


def _is_mixture(stats: FrameStats, clean: Rows, rows: Rows) -> NDArray[np.bool_]:
    before, after = _around(stats, clean, rows)
    return _between(stats.signature_NK, before, rows, after)


def _around(stats: FrameStats, clean: Rows, rows: Rows) -> tuple[Rows, Rows]:
    """Return the intact frames furthest from each within `FADE_SECONDS` before and after."""
    # Counted from the first frame, so that rounding does not depend on where the clock starts.
    times = (stats.pts_N - stats.pts_N[0]) * (stats.time_base[0] / stats.time_base[1])
    before = np.searchsorted(times[clean], times[rows] - FADE_SECONDS - 1e-6)
    after = np.searchsorted(times[clean], times[rows] + FADE_SECONDS + 1e-6, side="right") - 1
    return clean[before.clip(0, len(clean) - 1)], clean[after.clip(0, len(clean) - 1)]


def _between(signature_NK: Bytes, before: Rows, rows: Rows, after: Rows) -> NDArray[np.bool_]:
    """Return whether each signature lies on the line between those of two different frames; with motion it does not."""
    start, end = signature_NK[before].astype(np.float32), signature_NK[after].astype(np.float32)
    line, here = end - start, signature_NK[rows] - start
    length = np.maximum(np.square(line).sum(axis=1), 1e-6)
    share = (here * line).sum(axis=1) / length
    rest = np.sqrt(np.square(here - share[:, None] * line).sum(axis=1) / length)
    far = np.sqrt(np.square(line).reshape(len(line), SIGNATURE_SIDE**2, 3).sum(axis=-1)).mean(axis=-1) >= FADE_LEVEL
    return far & (share > FADE_SHARE) & (share < 1 - FADE_SHARE) & (rest < FADE_REST)


def most_similar_before(signature_NK: Bytes) -> Rows:
    """Return, for each candidate but the first, the earlier one with the least squared distance, int64 [N-1]."""
    values = signature_NK.astype(np.float32)
    square = np.square(values).sum(axis=1)
    nearest = np.empty(len(values) - 1, np.int64)
    for start in range(1, len(values), 256):
        stop = min(start + 256, len(values))
        low = max(0, start - NEIGHBOURS)
        apart = square[low:stop] - 2 * (values[start:stop] @ values[low:stop].T)
        apart[np.arange(low, stop)[None, :] >= np.arange(start, stop)[:, None]] = np.inf
        nearest[start - 1 : stop - 1] = low + apart.argmin(axis=1)
    return nearest


def _true_change(stats: FrameStats) -> NDArray[np.float32]:
    """Return the change without that into and out of corrupt frames, which is no change of the video."""
    corrupt = (stats.flags_N & FLAG_CORRUPT) > 0
    return np.where(corrupt | np.concatenate([[False], corrupt[:-1]]), np.float32(0), stats.change_N)


def _sudden(change_N: NDArray[np.float32]) -> Floats:
    """Return the change beyond that of neighbouring frames: motion and noise last, a cut or a new caption does not."""
    change = change_N.astype(np.float64)
    padded = np.concatenate([[0.0, 0.0], change, [0.0, 0.0]])
    around = np.stack([padded[:-4], padded[1:-3], padded[3:-1], padded[4:]])
    return change - np.partition(around, 2, axis=0)[2]
