"""A plan together with what it was decided from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from m3video.config import DETAIL, Settings
from m3video.planning.allocate import allocate
from m3video.planning.constraints import Constraints, candidate_constraints, candidates
from m3video.planning.how_many import how_many
from m3video.planning.limits import Limit, limits
from m3video.planning.novelty import NOVELTY_FLOOR, novelty
from m3video.planning.sample import rows_in_range
from m3video.planning.shots import boundaries
from m3video.planning.utility import estimate_name, utility
from m3video.types import (
    FLAG_CORRUPT,
    Allocation,
    Focus,
    FrameStats,
    PlannedFrame,
    Selection,
    TokenPlan,
    VideoInfo,
)
from m3video.utils.clock import clock

LIGHT = frozenset({"rendered", "bundled", "small"})
"""Models that run on a CPU: a frame costs them little."""

EARLY_SECONDS = 1.0
"""A note is written when the first frame shown began at least this long before the range."""


@dataclass(frozen=True, slots=True, eq=False)
class PlanDetails:
    """A plan with all that it was decided from, so that it can be examined without analyzing the video again.

    Attributes:
        plan: the frames to show.
        stats: the analyzed frames, N.
        selection: the candidates, C.
        novelty_C: float64 [C], how much of each candidate no other one shows.
        utility_CS: float64 [C, 5], the utility of each candidate at each scale.
        allocation: the scale of each candidate.
        constraints: what the settings demand of the plan.
        pinned: candidate -> the scale it is pinned at, None where any scale will do.
        settings: those the plan was made with, with the most candidates as a number.
    """

    plan: TokenPlan
    stats: FrameStats
    selection: Selection
    novelty_C: NDArray[np.float64]
    utility_CS: NDArray[np.float64]
    allocation: Allocation
    constraints: Constraints
    pinned: Mapping[int, int | None]
    settings: Settings


def decide(
    info: VideoInfo,
    stats: FrameStats,
    settings: Settings,
    *,
    focus: Focus | None = None,
    share_N: NDArray[np.floating] | None = None,
) -> PlanDetails:
    """sample -> allocate, from stats alone; arguments and errors as for `pipeline.plan_details`."""
    budget = settings.budget - (0 if focus is None else focus.first_tokens)
    most, why = settings.surely_frames, ""
    if settings.max_frames == "auto":
        rows = rows_in_range(stats, settings.start, settings.end)
        most, why = how_many(stats, rows, boundaries(stats), cost="light" if settings.model in LIGHT else "heavy")
        most = max(most, len(settings.pins))
    constraints = Constraints(settings.pins, settings.every_shot, settings.max_gap, DETAIL[settings.detail])
    selection, pinned = candidates(
        stats,
        constraints,
        max_frames=most,
        method=settings.sampling,
        start_seconds=settings.start,
        end_seconds=settings.end,
        fps=settings.fps,
        num_frames=settings.num_frames,
    )
    novelty_C = novelty(stats, selection)
    utility_CS = utility(stats, selection, saliency_N=share_N, model=settings.model, novelty_N=novelty_C)
    obeyed = candidate_constraints(
        stats,
        selection,
        utility_CS,
        constraints,
        budget=budget,
        pinned=pinned,
        start_seconds=settings.start,
        end_seconds=settings.end,
    )
    allocation = allocate(
        utility_CS, budget=budget, max_scale=obeyed.max_scale, fixed=obeyed.fixed, cover_M2=obeyed.cover_M2
    )
    early = _early_frame_note(selection, allocation.scale_N, stats, settings)
    plan = TokenPlan(
        video=info,
        budget=settings.budget,
        frames=planned_frames(selection, allocation.scale_N.tolist()),
        utility=allocation.utility,
        bound=allocation.bound,
        num_candidates=len(selection),
        shots=selection.shots,
        config=settings.model_dump(),
        warnings=(*selection.notes, *obeyed.notes, *early),
        method=allocation.method,
        scan=stats.mode,
        num_analyzed=len(stats),
        estimate=estimate_name(settings.model),
        focus=focus,
        candidates_why=why,
        num_repeats=int((novelty_C <= NOVELTY_FLOOR).sum()),
    )
    limited = settings.model_copy(update={"max_frames": most})
    return PlanDetails(plan, stats, selection, novelty_C, utility_CS, allocation, constraints, pinned, limited)


def _early_frame_note(
    selection: Selection, scale_N: NDArray[np.int64], stats: FrameStats, settings: Settings
) -> tuple[str, ...]:
    """Return a note where the first frame shown began well before the range that was asked for."""
    shown = np.flatnonzero(scale_N)
    if settings.start is None or not len(shown):
        return ()
    since = stats.pts_seconds(int(selection.pts_N[shown[0]]))
    if settings.start - since < EARLY_SECONDS:
        return ()
    if stats.mode != "full":
        return (f"the frame of {clock(since)} is the last that was analyzed before --start ({clock(settings.start)})",)
    return (f"the frame of {clock(since)} is still on screen at --start ({clock(settings.start)})",)


def planned_frames(selection: Selection, scales: Sequence[int]) -> tuple[PlannedFrame, ...]:
    """Return the candidates with their scales; scale 0 leaves one out."""
    return tuple(
        PlannedFrame(pts=int(pts), scale=int(scale), shot=int(shot), reason=reason)
        for pts, scale, shot, reason in zip(selection.pts_N, scales, selection.shot_N, selection.reason_N, strict=True)
        if scale > 0
    )


def with_scales(details: PlanDetails, scales: Sequence[int], *, budget: int | None = None) -> TokenPlan:
    """Return the plan that shows the candidates of `details` at scales of the caller's choice.

    Args:
        details: whose candidates.
        scales: one of 0, 1, 9, 36, 144, 576 for each candidate.
        budget: what the plan names as its budget; by default the tokens it spends.
    """
    frames = planned_frames(details.selection, scales)
    return replace(
        details.plan,
        frames=frames,
        budget=sum(frame.scale for frame in frames) if budget is None else budget,
        utility=0.0,
        bound=0.0,
        method="",
    )


def binding_limits(details: PlanDetails, *, budget_flag: str | None = None) -> tuple[Limit, ...]:
    """Return the limits that keep the utility low, the costliest first; then the one that kept more frames out.

    Args:
        details: the decided plan.
        budget_flag: what raises the budget, where that is not `--budget`.
    """
    settings = details.settings
    found = limits(
        details.stats,
        details.selection,
        details.utility_CS,
        details.constraints,
        details.allocation,
        budget=settings.budget,
        budget_flag=f"--budget {settings.budget}" if budget_flag is None else budget_flag,
        pinned=details.pinned,
        start_seconds=settings.start,
        end_seconds=settings.end,
    )
    rows = rows_in_range(details.stats, settings.start, settings.end)
    intact = int(((details.stats.flags_N[rows] & FLAG_CORRUPT) == 0).sum())
    if len(details.selection) >= intact:
        return found
    # A rate that was set aside, for a gap that needs too many candidates, chose none of them.
    rate = "fps" if settings.fps is not None else None if settings.num_frames is None else "num_frames"
    is_set_aside = rate is not None and rate not in details.selection.reason_N
    if is_set_aside or len(details.selection) >= settings.surely_frames:
        return (*found, Limit(f"--max-frames {settings.max_frames}"))
    if settings.fps is not None:
        return (*found, Limit(f"--fps {settings.fps:g}"))
    if settings.num_frames is not None:
        return (*found, Limit(f"--num-frames {settings.num_frames}"))
    return found
