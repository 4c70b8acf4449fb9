"""The stages up to a plan, in order: probe -> analyze -> sample -> allocate. `session` goes on to an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings, changed_settings
from m3video.errors import UsageError
from m3video.inference.decision import PlanDetails, decide
from m3video.inference.first_pass import Wish, analyze_once, scan_notes, with_scan_frames
from m3video.inference.memory.fit import fit_settings
from m3video.model.m3.default_model import with_model
from m3video.model.m3.text_count import text_around
from m3video.types import Focus, FrameStats, TokenPlan, VideoInfo
from m3video.utils.cache import Cache, cache_root
from m3video.utils.progress import Progress, silent
from m3video.video.reader import VideoReader, open_video


def open_for(path: str | Path, settings: Settings) -> VideoReader:
    """Open `path` with the backend and the pixel cap of `settings`."""
    return open_video(path, backend=settings.backend, max_pixels=settings.max_pixels)


def cache_of(settings: Settings) -> Cache | None:
    """Return the cache folder of this machine, or None where the settings want none."""
    return Cache(cache_root(), round(settings.cache_gib * 2**30)) if settings.cache else None


def plan_video(
    path: str | Path, settings: Settings | None = None, *, progress: Progress = silent, **changes: Any
) -> TokenPlan:
    """Choose the frames of a video and their token scales: probe -> analyze -> sample -> allocate.

    Args:
        path: a local video file.
        settings: resolved settings, by default those of `Settings()`; the frame layout only (an image grid is chosen
            by `ask`).
        progress: draws bars.
        changes: settings by keyword, e.g. `budget=720`; they override those of `settings`.

    Returns:
        The plan, with a warning for each thing that could not be read.

    Raises:
        VideoError: the file is no readable video.
        UsageError: wrong settings, or settings that ask for frames that do not exist.
        DoesNotFitError: nothing fits in the memory that the settings name.
        CheckpointError: no model is named, and what the environment names as the base of `small` is none.
    """
    settings, decided = with_model(changed_settings(settings, changes))
    fitted = fit_settings(settings)
    with open_for(path, settings) as reader:
        plan = plan_details(reader, settings if fitted is None else fitted.settings, progress=progress).plan
        notes = () if fitted is None else fitted.notes
        return replace(plan, warnings=(*decided.notes, *notes, *plan.warnings))


def plan_details(
    video: VideoReader | VideoInfo,
    settings: Settings,
    *,
    stats: FrameStats | None = None,
    focus: Focus | None = None,
    share_N: NDArray[np.floating] | None = None,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> PlanDetails:
    """Plan a video, and return the plan with all that it was decided from.

    Args:
        video: an open video; or only what is known of one, with `stats`. Then no file is needed, and the plan says
            nothing of text tokens, skipped frames and damage.
        settings: resolved settings.
        stats: the analyzed frames, where the first pass was made before.
        focus: the question that the plan is for, and what a coarse attention pass has cost of the budget.
        share_N: each candidate's share of that question; None for a plan as without a question.
        cache: where to look for the stats, and to store them.
        progress: draws bars.

    Raises:
        VideoError: no frame is intact, or frames of this file cannot be skipped safely.
        UsageError: a time range without frames, rates that contradict each other, or pinned frames that are outside
            the range or cost more than the budget.
    """
    if isinstance(video, VideoInfo):
        assert stats is not None, "planning without an open video needs its stats"
        return decide(video, stats, settings, focus=focus, share_N=share_N)
    settings = with_scan_frames(settings, video)
    if settings.layout == "grid":
        raise UsageError("layout grid is no plan of scales: use it with ask, without --plan")
    if stats is None:
        stats, _ = analyze_once(video, Wish.of(settings), cache=cache, progress=progress)
    details = decide(video.info, stats, settings, focus=focus, share_N=share_N)
    plan = details.plan
    times = [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
    text = text_around(settings.model, times_seconds=times, timestamps=settings.timestamps)
    damage = video.damage.message
    warnings = (*scan_notes(video, stats, scan=settings.scan), *plan.warnings, *([damage] if damage else []))
    return replace(details, plan=replace(plan, video=video.info_with_damage, text_tokens=text, warnings=warnings))
