"""What the first pass decodes of a long video: keyframes, and stretches in which packets tell that something is hidden.

Reading the packets costs a sixtieth of decoding them, and a packet is large where its picture could not be made from
the pictures before: at a cut, a new caption, somebody who walks in. So stretches are decoded in order of how much
unforeseen content they hold for what it costs to reach it, until the work is spent. The work is what it costs to fetch
`FETCHED` frames spread evenly over the same video. Everything is decided from the file and from constants, never from
time or the machine, so that every machine decides the same.

Legend: N frames in display order, G groups of pictures (a keyframe and the frames up to the next one).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import percentile_filter

from m3video.types import Stretch

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

FETCHED = 64
"""Frames, spread evenly, whose fetching costs as much as the pass may."""

SHORT = 3600
"""Frames: no longer video is worth a choice, two minutes at 30 frames a second."""

KEY_COST = 4.0
"""Decoding a keyframe, in frames: it has several times the bytes of others, and the decoder is emptied after it."""

COARSE_COST = 0.65
"""Decoding a stretch without the frames that no other is made from, as a share of decoding all of it."""

KEY_SHARE = 0.5
"""Of the work: keyframes take no more, and are thinned evenly where there are more of them."""

AROUND = 45
"""Frames to each side whose packets tell what is usual."""

USUAL, MORE = 90, 1.5
"""Percentile of these packets' sizes, and how many times that is usual: the sizes of frames that others refer to, which
are the largest but keyframes, vary by a fifth where nothing happens but camera noise."""

RAMP = 8
"""Frames after a keyframe that are not judged: encoders spend more on them whatever they show."""

LEAST = 0.01
"""Share of a keyframe's bytes: less unforeseen content is not looked for."""

MOST = 0.1
"""Share of a keyframe's bytes: more is a cut, whatever its size."""

UNLIKE = 30.0
"""Grey levels over the blocks that differ most: keyframes further apart show different things."""

USUAL_LENGTH = 0.95
"""Of the longest group: a shorter one ends with a keyframe that was not due."""

SETTLE_SECONDS = 1.5
"""A stretch is decoded this far beyond what was unforeseen, to see it at rest."""


@dataclass(frozen=True, eq=False)
class Packets:
    """What the packets tell of the frames of a video, in display order; the first is a keyframe.

    Attributes:
        seconds_N: float64, when each frame is shown, from the first.
        is_key_N: bool.
        size_N: bytes.
        effort: times the usual work.
        most: frames of work at most, whatever is usual; None for no limit.
        marks_references: frames that no other is made from can be left out.
    """

    seconds_N: Floats
    is_key_N: NDArray[np.bool_]
    size_N: Rows
    marks_references: bool = False
    effort: float = 1.0
    most: int | None = None

    def __len__(self) -> int:
        return len(self.size_N)

    @cached_property
    def first_G(self) -> Rows:
        """Row of each keyframe."""
        return np.flatnonzero(self.is_key_N)

    @cached_property
    def stop_G(self) -> Rows:
        """Row after the last frame of each group."""
        return np.append(self.first_G[1:], len(self))

    @property
    def key_cost(self) -> float:
        """Cost of a keyframe alone, in frames."""
        return 1.0 if len(self.first_G) == len(self) else KEY_COST

    def work(self, rows: range) -> float:
        """Return what may be spent on `rows`, in frames: what it costs to fetch `FETCHED` spread evenly, as a rule."""
        wanted = rows.start + np.unique((np.arange(FETCHED) + 0.5) * len(rows) // FETCHED).astype(np.int64)
        group = np.searchsorted(self.first_G, wanted, side="right") - 1
        reach = np.zeros(len(self.first_G), np.int64)
        np.maximum.at(reach, group, wanted - self.first_G[group] + 1)
        usual = self.effort * float(reach.sum())
        return usual if self.most is None else min(usual, float(self.most))

    @cached_property
    def unforeseen_N(self) -> NDArray[np.float32]:
        """Bytes of each packet beyond those usual around it, as a share of a keyframe's; 0 for keyframes."""
        found = np.zeros(len(self), np.float32)
        between = np.flatnonzero(~self.is_key_N)
        if not len(between):
            return found
        size = self.size_N[between].astype(np.float32)
        usual = percentile_filter(size, USUAL, size=2 * AROUND + 1, mode="nearest")
        keys = percentile_filter(self.size_N[self.first_G].astype(np.float32), 50, size=9, mode="nearest")
        group = np.searchsorted(self.first_G, between, side="right") - 1
        found[between] = np.maximum(size - MORE * usual, 0) / np.maximum(keys[group], 1)
        found[between[between - self.first_G[group] <= RAMP]] = 0
        return found


def is_read_whole(packets: Packets, rows: range) -> bool:
    """Return whether a pass over every frame of `rows` costs no more than looking here and there."""
    short = SHORT if packets.most is None else min(SHORT, packets.most)
    return len(rows) <= max(short, packets.work(rows))


def keyframes_seen(packets: Packets, rows: range) -> Rows:
    """Return the rows of keyframes that are decoded in any case, among those of `rows`."""
    keys = packets.first_G[(packets.first_G >= rows.start) & (packets.first_G < rows.stop)]
    share = 1.0 if packets.key_cost == 1.0 else KEY_SHARE
    most = max(1, int(share * packets.work(rows) / packets.key_cost))
    if len(keys) <= most:
        return keys
    wanted = rows.start + (np.arange(most) + 0.5) * len(rows) / most
    return keys[np.unique(np.searchsorted(keys, wanted, side="right") - 1).clip(0)]


def close_looks(packets: Packets, rows: range, *, keys: Rows, unlike: Floats, named: Rows) -> list[Stretch]:
    """Return the stretches to decode, in order, without overlaps; each begins at a keyframe.

    First come those with unforeseen content, then those between unlike keyframes.

    Args:
        packets: of the whole video.
        rows: the part of the video that is looked at.
        keys: rows of the keyframes that were decoded alone.
        unlike: how much each but the last of these differs from the next, grey levels.
        named: rows that must be seen among their neighbours, whatever that costs.
    """
    left = packets.work(rows) - len(keys) * packets.key_cost
    share = COARSE_COST if packets.marks_references else 1.0
    stop_G = np.zeros(len(packets.first_G), np.int64)
    group = np.searchsorted(packets.first_G, named, side="right") - 1
    stop_G[group] = packets.stop_G[group]
    left -= float((stop_G[group] - packets.first_G[group]).sum())
    value_G, reach_G = _hidden(packets, rows)
    differ_G = _unexplained(packets, keys, unlike)
    reach_G = np.where(value_G >= LEAST, reach_G, packets.stop_G)
    cost_G = share * (reach_G - packets.first_G)
    order = np.lexsort((-differ_G / cost_G, -np.where(value_G >= LEAST, value_G, 0) / cost_G))
    for one in order:
        if value_G[one] < LEAST and differ_G[one] == 0:
            break
        if stop_G[one] == 0 and cost_G[one] <= left:
            stop_G[one] = reach_G[one]
            left -= float(cost_G[one])
    is_named = np.isin(np.arange(len(stop_G)), group)
    return [
        Stretch(int(packets.first_G[one]), int(stop_G[one]), every=bool(is_named[one]) or share == 1)
        for one in np.flatnonzero(stop_G)
    ]


def _unexplained(packets: Packets, keys: Rows, unlike: Floats) -> Floats:
    """Return for each group how much the keyframe after it differs from its own, where that is not a cut.

    Encoders put a keyframe at a cut, so a group that is shorter than others ends with one.
    """
    found = np.zeros(len(packets.first_G))
    place = np.searchsorted(packets.first_G, keys[:-1])
    length = packets.stop_G - packets.first_G
    is_next = packets.stop_G[place] == keys[1:]
    is_usual = length[place] >= USUAL_LENGTH * length.max(initial=0)
    found[place] = np.where(is_next & is_usual & (unlike > UNLIKE), unlike, 0.0)
    return found


def _hidden(packets: Packets, rows: range) -> tuple[Floats, Rows]:
    """Return how much unforeseen content each group holds, and the row up to which it is worth decoding."""
    unforeseen = np.minimum(packets.unforeseen_N, MOST)
    peak_G = np.maximum.reduceat(unforeseen, packets.first_G).astype(np.float64)
    inside = (packets.first_G >= rows.start) & (packets.first_G < rows.stop)
    large = np.flatnonzero(unforeseen >= np.maximum(LEAST, peak_G / 2)[np.cumsum(packets.is_key_N) - 1])
    last_G = packets.first_G.copy()
    np.maximum.at(last_G, np.searchsorted(packets.first_G, large, side="right") - 1, large)
    settled = np.searchsorted(packets.seconds_N, packets.seconds_N[last_G] + SETTLE_SECONDS, side="right")
    return np.where(inside, peak_G, 0.0), np.minimum(settled, packets.stop_G)
