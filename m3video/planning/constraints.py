"""Constraints on a plan: frames pinned by the user, a frame of every shot, no long gap, a greatest scale.

They act twice. `candidates` makes sure that frames which can meet them are among the candidates.
`candidate_constraints` translates them for the allocation: candidates with a fixed scale, and intervals of candidates
of which at least one must be shown. Where the budget cannot pay for all, pinned frames come first, then shots, then
the gap; what is not met is noted.

Legend: N candidates, S scales, M intervals. Times in ticks unless they are called seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.errors import UsageError
from m3video.planning.core import minimal, unmet
from m3video.planning.cover import cheapest_cover
from m3video.planning.sample import (
    TIME_TOLERANCE,
    OnScreen,
    begin_pts,
    on_screen,
    rows_in_range,
    sample,
    selection_of,
    shown_at,
)
from m3video.planning.shots import boundaries
from m3video.types import FLAG_CORRUPT, FULL_SCALE, SCALES, FrameStats, Selection
from m3video.utils.clock import clock

Ints = NDArray[np.int64]
Pairs = list[tuple[int, int]]

LONGEST_TICKS = 2.0**62
"""Longer than any video; a pts minus this is still an int64."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """What the user requires of a plan.

    Attributes:
        pins: (time in seconds as players count, scale or None) of frames that are always shown; at that scale, or at
            the one that is best for the whole plan.
        every_shot: at least one frame of each shot.
        max_gap_seconds: greatest distance between frames shown, and from these to the start and the last frame of the
            range.
        max_scale: greatest scale of a frame that is not pinned at a scale.
    """

    pins: tuple[tuple[float, int | None], ...] = ()
    every_shot: bool = False
    max_gap_seconds: float | None = None
    max_scale: int = FULL_SCALE


@dataclass(frozen=True, slots=True)
class CandidateConstraints:
    """The constraints as arguments of `allocate`, and a note for each that cannot be met in full."""

    max_scale: int
    fixed: dict[int, int]
    cover_M2: Pairs
    notes: tuple[str, ...] = ()


def candidates(
    stats: FrameStats,
    constraints: Constraints,
    *,
    max_frames: int,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    **how: Any,
) -> tuple[Selection, dict[int, int | None]]:
    """Choose candidates as `sample` does, together with the frames that the constraints need.

    Args:
        stats: the analyzed frames.
        constraints: what is required of the plan.
        max_frames: most candidates.
        start_seconds: as for `sample`.
        end_seconds: as for `sample`.
        how: the other arguments of `sample`.

    Returns:
        The candidates, and which of them are pinned, each with its scale (None: free).

    Raises:
        UsageError: a pin outside the range, two scales for one frame, or more pins than `max_frames`.
    """
    how |= {"start_seconds": start_seconds, "end_seconds": end_seconds, "shot_starts": boundaries(stats)}
    if not constraints.pins and not constraints.every_shot and constraints.max_gap_seconds is None:
        return sample(stats, max_frames=max_frames, **how), {}
    visible = on_screen(stats, start_seconds, end_seconds)
    rows = visible.rows
    clean = rows[(stats.flags_N[rows] & FLAG_CORRUPT) == 0]
    clean = clean if len(clean) else rows
    notes: list[str] = []
    pinned = _pinned_rows(stats, visible, clean, constraints.pins, notes)
    if len(pinned) > max_frames:
        raise UsageError(f"--at names {len(pinned)} frames, more than --max-frames ({max_frames}): raise it")
    # What came before the range is on screen where it begins.
    pts_N = np.maximum(stats.pts_N, begin_pts(stats, start_seconds, rows))
    base, fill = _fitting(stats, pts_N, rows, clean, constraints, sorted(pinned), max_frames, how, notes)
    reasons = dict.fromkeys(fill, "gap")
    reasons |= {} if base is None else dict(zip(base.index_N.tolist(), base.reason_N, strict=True))
    reasons |= dict.fromkeys(pinned, "pinned")
    chosen = np.array(sorted(reasons), np.int64)
    method = "uniform" if base is None else base.method
    notes = [*(() if base is None else base.notes), *notes]
    made = selection_of(
        stats, rows, how["shot_starts"], chosen, [reasons[row] for row in chosen.tolist()], method, notes
    )
    missing = len(made.shots) - len(np.unique(made.shot_N))
    if (
        missing
        and (constraints.every_shot or method == "shots")
        and not any("have no candidate" in note for note in notes)
    ):
        note = f"{missing} of {len(made.shots)} shots have none of the {len(made)} candidates"
        made = replace(made, notes=(*made.notes, note))
    return made, {int(np.searchsorted(chosen, row)): scale for row, scale in pinned.items()}


def _pinned_rows(
    stats: FrameStats, visible: OnScreen, clean: Ints, pins: Sequence[tuple[float, int | None]], notes: list[str]
) -> dict[int, int | None]:
    """Return the row on screen at each pinned time, with its scale."""
    base = stats.pts_seconds(int(stats.pts_N[0]))
    # The time at which the video ends stands for its last frame.
    until = visible.end + (TIME_TOLERANCE if visible.rows[-1] + 1 == len(stats) else -TIME_TOLERANCE)
    found: dict[int, int | None] = {}
    for at, scale in pins:
        if not visible.begin - TIME_TOLERANCE <= at - base < until:
            raise UsageError(
                f"--at ({clock(at)}) is outside the range, {clock(visible.begin + base)} to before "
                f"{clock(visible.end + base)}: name a time in it"
            )
        wanted = np.array([at - base])
        row = int(shown_at(visible.times_N, clean, wanted)[0])
        if row != shown_at(visible.times_N, visible.rows, wanted)[0]:
            shown = clock(stats.pts_seconds(int(stats.pts_N[row])))
            notes.append(f"the frame at {clock(at)} is corrupt: the one at {shown} is pinned")
        named = found.get(row)
        if named is not None and scale is not None and named != scale:
            raise UsageError(f"--at names two scales ({named}, {scale}) for the frame at {clock(at)}: give one")
        found[row] = scale if named is None else named
    return found


def _fitting(
    stats: FrameStats,
    pts_N: Ints,
    rows: Ints,
    clean: Ints,
    constraints: Constraints,
    pinned: list[int],
    max_frames: int,
    how: Mapping[str, Any],
    notes: list[str],
) -> tuple[Selection | None, list[int]]:
    """Return what `sample` chooses beside the pinned frames, and frames that then close gaps; `max_frames` in all.

    `pts_N`: when each frame begins to be on screen in the range.
    """

    def base(reserved: int, **changed: Any) -> Selection | None:
        if len(pinned) + reserved >= max_frames:
            return None
        return sample(stats, max_frames=max_frames, required=pinned, reserved=reserved, **{**how, **changed})

    if constraints.max_gap_seconds is None:
        return base(0), []
    gap = _ticks(constraints.max_gap_seconds, stats.time_base)
    alone = _closing(pts_N, rows, clean, pinned, gap)
    if len(pinned) + len(alone) > max_frames:
        notes.append(
            f"max_gap ({constraints.max_gap_seconds:g} s) needs {len(pinned) + len(alone)} candidates, above "
            f"max_frames ({max_frames}): candidates are spread evenly"
        )
        return base(0, method="uniform", fps=None, num_frames=None), []
    # Other candidates close gaps too, so reserve as few for that as suffice, by bisection. `len(alone)` always does.

    def closed(reserved: int) -> tuple[Selection | None, list[int], int]:
        chosen = base(reserved)
        selected = sorted({*pinned, *([] if chosen is None else chosen.index_N.tolist())})
        fill = _closing(pts_N, rows, clean, selected, gap)
        return chosen, fill, len(selected) + len(fill)

    low, high = -1, len(alone)
    found = closed(high)
    while high - low > 1:
        middle = (low + high) // 2
        tried = closed(middle)
        if tried[2] <= max_frames:
            found, high = tried, middle
        else:
            low = middle
    return found[:2]


def _closing(pts_N: Ints, rows: Ints, clean: Ints, selected: Sequence[int], gap: int) -> list[int]:
    """Return the fewest further rows with which no gap between rows, or to the ends of the range, exceeds `gap`."""
    added: list[int] = []
    at = int(pts_N[rows[0]])
    pts = pts_N[clean]
    for stop in [*pts_N[list(selected)].tolist(), int(pts_N[rows[-1]])]:
        while stop - at > gap:
            place = int(np.searchsorted(pts, at + gap, side="right")) - 1
            if place < 0 or pts[place] <= at:
                place += 1  # none within reach: take the next one
            if place >= len(pts) or pts[place] >= stop:
                break
            added.append(int(clean[place]))
            at = int(pts[place])
        at = stop
    return added


def candidate_constraints(
    stats: FrameStats,
    selection: Selection,
    utility_NS: NDArray[np.floating],
    constraints: Constraints,
    *,
    budget: int,
    pinned: Mapping[int, int | None],
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> CandidateConstraints:
    """Translate the constraints for the allocation, relaxed as far as the budget requires.

    Args:
        stats: the analyzed frames.
        selection: the candidates.
        utility_NS: utility of each candidate at each scale; decides which shots are left out.
        constraints: what is required of the plan.
        budget: most tokens in all.
        pinned: candidate -> its scale, None where it is free.
        start_seconds: as for `sample`.
        end_seconds: as for `sample`.

    Raises:
        UsageError: the pinned frames alone cost more than the budget.
    """
    fixed = {frame: scale for frame, scale in pinned.items() if scale is not None}
    cover: Pairs = [(frame, frame + 1) for frame, scale in sorted(pinned.items()) if scale is None]
    least = sum(fixed.values()) + SCALES[0] * len(cover)
    if least > budget:
        raise UsageError(
            f"--budget ({budget}) is below the {least} tokens of the frames pinned with --at: raise it, or name "
            "smaller scales"
        )
    notes: list[str] = []
    if constraints.every_shot:
        cover += _shots_to_show(selection, utility_NS, pinned, budget, budget - least, notes)
    if constraints.max_gap_seconds is not None:
        rows = rows_in_range(stats, start_seconds, end_seconds)
        begin = begin_pts(stats, start_seconds, rows)
        span = (begin, max(begin, int(stats.pts_N[rows[-1]])))
        cover += _gaps_to_close(
            selection, constraints.max_gap_seconds, stats.time_base, span, fixed, cover, budget, notes
        )
    return CandidateConstraints(constraints.max_scale, fixed, cover, tuple(notes))


def _shots_to_show(
    selection: Selection,
    utility_NS: NDArray[np.floating],
    pinned: Mapping[int, int | None],
    budget: int,
    left: int,
    notes: list[str],
) -> Pairs:
    """Return the candidates of each shot as an interval; of as many shots as the budget can pay, the best first."""
    edges = np.flatnonzero(np.diff(selection.shot_N, prepend=-1)).tolist()
    shots = list(zip(edges, [*edges[1:], len(selection)], strict=True))
    open_ = [shot for shot in shots if not any(shot[0] <= frame < shot[1] for frame in pinned)]
    num_affordable = left // SCALES[0]
    if len(open_) <= num_affordable:
        return open_
    # All that is left goes into one coarsest token per shot, so that the best of these makes the best plan.
    best_utility = np.array([utility_NS[start:stop, 0].max() for start, stop in open_])
    chosen = np.sort(np.argsort(-best_utility, kind="stable")[:num_affordable])
    shown = len(shots) - len(open_) + num_affordable
    notes.append(f"every_shot: a budget of {budget} tokens shows {shown} of {len(selection.shots)} shots")
    return [open_[i] for i in chosen]


def _gaps_to_close(
    selection: Selection,
    max_gap: float,
    time_base: tuple[int, int],
    span: tuple[int, int],
    fixed: Mapping[int, int],
    cover: Pairs,
    budget: int,
    notes: list[str],
) -> Pairs:
    """Return the intervals of candidates of which one must be shown, for the least gap that the budget can pay."""
    times = np.array([span[0], *np.maximum(selection.pts_N, span[0]), span[1]], np.int64)
    wanted = _ticks(max_gap, time_base)
    widest = int(np.diff(times).max())
    if widest > wanted:
        notes.append(f"max_gap ({max_gap:g} s): candidates stand up to {_seconds_text(widest, time_base)} s apart")

    def affordable(gap: int) -> bool:
        return _least_tokens(len(selection), fixed, [*cover, *_stretches(times, gap)]) <= budget

    gap, free = wanted, int(times[-1] - times[0]) + 1
    if not affordable(gap):
        low = gap
        gap = free
        while gap - low > 1:
            middle = (low + gap) // 2
            low, gap = (low, middle) if affordable(middle) else (middle, gap)
        reached = "none can be kept" if gap == free else f"{_seconds_text(gap, time_base)} s is kept"
        reached += " where candidates allow" if gap < widest else ""
        notes.append(f"max_gap ({max_gap:g} s): a budget of {budget} tokens cannot show frames that densely; {reached}")
    return _stretches(times, gap)


def _stretches(times: Ints, gap: int) -> Pairs:
    """Return the intervals of candidates of which one must be shown so that no gap exceeds `gap`, where they allow it.

    `times` holds the start of the range, the candidates' times and the end of the range. The frame shown before
    times[i] must be within `gap` of it, or else be the one just before it.
    """
    before = np.minimum(np.searchsorted(times, times[1:] - gap, side="left"), np.arange(len(times) - 1))
    stop = np.arange(len(times) - 1)
    needed = before > 0  # else the start of the range itself is near enough
    return list(zip((before[needed] - 1).tolist(), stop[needed].tolist(), strict=True))


def _least_tokens(num_candidates: int, fixed: Mapping[int, int], cover: Pairs) -> int:
    """Return the tokens of the cheapest plan that meets the constraints."""
    edges = np.array(cover, np.int64).reshape(-1, 2)
    shown = np.zeros(num_candidates, bool)
    shown[list(fixed)] = True
    open_ = edges[unmet((edges[:, 0], edges[:, 1]), shown)]
    path = cheapest_cover(np.full(num_candidates, SCALES[0]), minimal(open_[:, 0], open_[:, 1]))
    return sum(fixed.values()) + SCALES[0] * len(path)


def _ticks(seconds: float, time_base: tuple[int, int]) -> int:
    """Convert seconds to ticks, rounded down, with a small tolerance for times such as 1/3 s."""
    return math.floor(min(seconds * time_base[1] / time_base[0] * (1 + 1e-9) + 1e-9, LONGEST_TICKS))


def _seconds_text(ticks: int, time_base: tuple[int, int]) -> str:
    """Format ticks as seconds, rounded up, because a gap that is reported must hold."""
    return f"{math.ceil(ticks * time_base[0] * 100 / time_base[1]) / 100:.2f}"
