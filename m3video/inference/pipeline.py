"""The arrows up to a plan, in order: probe -> analyze -> sample -> allocate. `session` has those up to an answer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m3video.config import DETAIL, Settings
from m3video.errors import UsageError, VideoError
from m3video.planning.allocate import allocate
from m3video.planning.analyze import analyze
from m3video.planning.constraints import Constraints, candidate_constraints, candidates
from m3video.planning.limits import Limit, limits
from m3video.planning.novelty import NOVELTY_FLOOR, novelty
from m3video.planning.sample import rows_in_range
from m3video.planning.scan_cache import load_scan, save_scan
from m3video.planning.utility import estimate_name, utility
from m3video.types import (
    FLAG_CORRUPT,
    Allocation,
    Evidence,
    Focus,
    FrameStats,
    PlannedFrame,
    Selection,
    TokenPlan,
    VideoInfo,
    total_tokens,
)
from m3video.utils.cache import Cache, cache_root
from m3video.utils.clock import clock
from m3video.utils.progress import Progress, silent
from m3video.video.reader import VideoReader, open_video

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel


EARLY_SECONDS = 1.0
"""A first frame that began earlier than this before the range is worth a note."""


def open_for(path: str | Path, settings: Settings) -> VideoReader:
    """Open `path` with the backend and the pixel cap of `settings`."""
    return open_video(path, backend=settings.backend, max_pixels=settings.max_pixels)


def analyze_video(reader: VideoReader, *, scan: str = "full", progress: Progress = silent) -> FrameStats:
    """One pass over the whole video, low resolution.

    Args:
        reader: an open video.
        scan: which frames to look at, one of `SCANS`.
        progress: draws bars.

    Raises:
        VideoError: no frame is intact, or frames of this file cannot be skipped safely.
    """
    info = reader.info
    total = {"full": info.num_frames, "keyframes": info.num_keyframes}.get(scan)
    with progress("analyze", total) as bar:
        stats = analyze(
            reader.scan(mode=scan),
            time_base=info.time_base,
            mode=scan,
            origin=info.origin,
            until_pts=info.until_pts,
            on_frame=bar,
        )
    if ((stats.flags_N & FLAG_CORRUPT) > 0).all():
        raise VideoError(f"{info.path}: no frame could be decoded intact ({reader.damage.message}); is it encrypted?")
    return stats


def cache_of(settings: Settings) -> Cache | None:
    """The cache folder of this machine, or None where the settings want none."""
    return Cache(cache_root(), round(settings.cache_gib * 2**30)) if settings.cache else None


def analyze_once(
    reader: VideoReader, *, scan: str, cache: Cache | None, progress: Progress = silent
) -> tuple[FrameStats, bool]:
    """`analyze_video`, or what an earlier pass over the same bytes found; damaged files are read each time.

    Returns:
        The stats, and whether they came from the cache.
    """
    if cache is not None and not reader.damage.is_partial:
        stats = load_scan(cache, reader.info, mode=scan)
        if stats is not None:
            return stats, True
    stats = analyze_video(reader, scan=scan, progress=progress)
    if cache is not None and not reader.damage.is_partial:
        save_scan(cache, reader.info, stats)
    return stats, False


@dataclass(frozen=True, slots=True, eq=False)
class PlanDetails:
    """A plan with all that it was decided from, so that it can be looked at without measuring the video again.

    Attributes:
        plan: the frames shown.
        stats: the analyzed frames, N.
        selection: the candidates, C.
        novelty_C: float64 [C], how much of each candidate no other one shows.
        utility_CS: float64 [C, 5], what each candidate is worth at each scale.
        decided: the scale of each candidate.
        wishes: what had to be shown.
        pinned: candidate -> the scale it is pinned at, None where it is free.
        settings: those the plan was made with.
    """

    plan: TokenPlan
    stats: FrameStats
    selection: Selection
    novelty_C: NDArray[np.float64]
    utility_CS: NDArray[np.float64]
    decided: Allocation
    wishes: Constraints
    pinned: Mapping[int, int | None]
    settings: Settings


def scan_note(info: VideoInfo, stats: FrameStats) -> tuple[str, ...]:
    """What was not looked at, for people; nothing where all was."""
    if stats.mode == "full":
        return ()
    return (f"scan {stats.mode}: {len(stats)} of {info.num_frames} frames were looked at, the others were skipped",)


def plan_stats(info: VideoInfo, stats: FrameStats, settings: Settings) -> TokenPlan:
    """sample -> allocate, from stats alone: no file is opened, so it can be repeated for any budget.

    Raises:
        UsageError: a time range without frames, rates that contradict each other, or pinned frames that are outside
            the range or cost more than the budget.
    """
    return study_stats(info, stats, settings).plan


def study_stats(
    info: VideoInfo,
    stats: FrameStats,
    settings: Settings,
    *,
    focus: Focus | None = None,
    share_N: NDArray[np.floating] | None = None,
) -> PlanDetails:
    """`plan_stats`, together with what the plan was decided from.

    Args:
        info: the file.
        stats: the analyzed frames.
        settings: resolved settings.
        focus: the question the plan is for, and what a first look at its candidates has cost of the budget.
        share_N: each candidate's share of that question; None for a plan as without a question.
    """
    budget = settings.budget - (0 if focus is None else focus.first_tokens)
    wishes = Constraints(settings.pins, settings.every_shot, settings.max_gap, DETAIL[settings.detail])
    selection, pinned = candidates(
        stats,
        wishes,
        max_frames=settings.max_frames,
        method=settings.sampling,
        start_seconds=settings.start,
        end_seconds=settings.end,
        fps=settings.fps,
        num_frames=settings.num_frames,
    )
    new = novelty(stats, selection)
    worth = utility(stats, selection, saliency_N=share_N, novelty_N=new)
    obeyed = candidate_constraints(
        stats,
        selection,
        worth,
        wishes,
        budget=budget,
        pinned=pinned,
        start_seconds=settings.start,
        end_seconds=settings.end,
    )
    decided = allocate(worth, budget=budget, max_scale=obeyed.max_scale, fixed=obeyed.fixed, cover_M2=obeyed.cover_M2)
    early = _came_before(selection, decided.scale_N, stats, settings)
    plan = TokenPlan(
        video=info,
        budget=settings.budget,
        frames=planned_frames(selection, decided.scale_N.tolist()),
        utility=decided.utility,
        bound=decided.bound,
        num_candidates=len(selection),
        shots=selection.shots,
        config=settings.model_dump(),
        warnings=(*selection.notes, *obeyed.notes, *early),
        method=decided.method,
        scan=stats.mode,
        num_analyzed=len(stats),
        estimate=estimate_name(),
        focus=focus,
        num_repeats=int((new <= NOVELTY_FLOOR).sum()),
    )
    return PlanDetails(plan, stats, selection, new, worth, decided, wishes, pinned, settings)


def _came_before(
    selection: Selection, scale_N: NDArray[np.int64], stats: FrameStats, settings: Settings
) -> tuple[str, ...]:
    """A line where the first frame shown is from well before the range that was asked for."""
    shown = np.flatnonzero(scale_N)
    if settings.start is None or not len(shown):
        return ()
    since = stats.pts_seconds(int(selection.pts_N[shown[0]]))
    if settings.start - since < EARLY_SECONDS:
        return ()
    if stats.mode != "full":
        return (f"the frame of {clock(since)} is the last that was looked at before --start ({clock(settings.start)})",)
    return (f"the frame of {clock(since)} is still on screen at --start ({clock(settings.start)})",)


def planned_frames(selection: Selection, scales: Sequence[int]) -> tuple[PlannedFrame, ...]:
    """The candidates that are shown when each gets its scale; 0 leaves one out."""
    return tuple(
        PlannedFrame(pts=int(pts), scale=int(scale), shot=int(shot), reason=reason)
        for pts, scale, shot, reason in zip(selection.pts_N, scales, selection.shot_N, selection.reason_N, strict=True)
        if scale > 0
    )


def binding_limits(study: PlanDetails) -> tuple[Limit, ...]:
    """What keeps the plan from being worth more, the costliest first; then what kept further frames from competing."""
    settings = study.settings
    found = limits(
        study.stats,
        study.selection,
        study.utility_CS,
        study.wishes,
        study.decided,
        budget=settings.budget,
        pinned=study.pinned,
        start_seconds=settings.start,
        end_seconds=settings.end,
    )
    rows = rows_in_range(study.stats, settings.start, settings.end)
    intact = int(((study.stats.flags_N[rows] & FLAG_CORRUPT) == 0).sum())
    if len(study.selection) >= intact:
        return found
    # A rate that was set aside, for a gap that needs too many candidates, chose none of them.
    rate = "fps" if settings.fps is not None else None if settings.num_frames is None else "num_frames"
    is_set_aside = rate is not None and rate not in study.selection.reason_N
    if is_set_aside or len(study.selection) >= settings.max_frames:
        return (*found, Limit(f"--max-frames {settings.max_frames}"))
    if settings.fps is not None:
        return (*found, Limit(f"--fps {settings.fps:g}"))
    if settings.num_frames is not None:
        return (*found, Limit(f"--num-frames {settings.num_frames}"))
    return found


def plan_video(path: str | Path, settings: Settings, *, progress: Progress = silent) -> TokenPlan:
    """probe -> analyze -> sample -> allocate for one file.

    Args:
        path: a local video file.
        settings: resolved settings; the frame layout only (an image grid is chosen by `ask`).
        progress: draws bars.

    Returns:
        The plan, with a warning for each thing that could not be read.

    Raises:
        VideoError: the file is no readable video.
        UsageError: the settings ask for frames that do not exist.
        DoesNotFitError: nothing fits in the memory that the settings name.
    """
    from m3video.inference.memory.fit import fit_settings

    fitted = fit_settings(settings)
    with open_for(path, settings) as reader:
        if fitted is None:
            return plan_reader(reader, settings, progress=progress)
        plan = plan_reader(reader, fitted.settings, progress=progress)
        return replace(plan, warnings=(*fitted.notes, *plan.warnings))


def plan_reader(reader: VideoReader, settings: Settings, *, progress: Progress = silent) -> TokenPlan:
    """`plan_video` on an open reader."""
    return study_reader(reader, settings, progress=progress).plan


def study_reader(
    reader: VideoReader,
    settings: Settings,
    *,
    stats: FrameStats | None = None,
    focus: Focus | None = None,
    share_N: NDArray[np.floating] | None = None,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> PlanDetails:
    """`plan_reader`, together with what the plan was decided from; `stats` where the first pass was made before, else
    `cache` to look for it, `focus` and `share_N` as for `study_stats`."""
    from m3video.model.m3.text_count import text_around

    if settings.layout == "grid":
        raise UsageError("layout grid is no plan of scales: use it with ask, without --plan")
    if stats is None:
        stats, _ = analyze_once(reader, scan=settings.scan, cache=cache, progress=progress)
    study = study_stats(reader.info, stats, settings, focus=focus, share_N=share_N)
    plan = study.plan
    times = [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
    text = text_around(settings.model, times_seconds=times, timestamps=settings.timestamps)
    damage = reader.damage.message
    warnings = (*scan_note(reader.info, stats), *plan.warnings, *([damage] if damage else []))
    return replace(study, plan=replace(plan, video=reader.info_with_damage, text_tokens=text, warnings=warnings))


SAMPLE = Path(__file__).parents[1] / "assets" / "sample.mp4"


def bundled_note(loaded: LoadedModel, path: str | Path) -> tuple[str, ...]:
    """What a person must know who asks the bundled model about footage of their own."""
    if not loaded.is_bundled or Path(path).resolve() == SAMPLE.resolve():
        return ()
    return (
        "the bundled model was trained on clips rendered by m3video only; for other footage name a real checkpoint, "
        "e.g. --model mucai/llava-v1.5-7b-m3",
    )


def evidence(plan: TokenPlan) -> tuple[Evidence, ...]:
    """The time ranges the model is shown: per shot, from its first to its last planned frame.

    A frame that is still on screen where the range of the plan begins counts from there; where a scan skipped frames,
    nobody knows whether it is, and it counts from its own time. Frames of an image grid stand in one picture and are
    of one shot: its tokens are theirs together.
    """
    asked = plan.config.get("start") if plan.scan == "full" else None
    least = -math.inf if asked is None else asked
    ranges = []
    for _, shown in itertools.groupby(plan.frames, key=lambda frame: frame.shot):
        frames = list(shown)
        tokens = total_tokens(frame.scale for frame in frames) if plan.grid_tokens is None else plan.grid_tokens
        ranges.append(
            Evidence(
                start_seconds=max(least, plan.video.pts_seconds(frames[0].pts)),
                end_seconds=max(least, plan.video.pts_seconds(frames[-1].pts)),
                num_frames=len(frames),
                num_tokens=tokens,
            )
        )
    return tuple(ranges)
