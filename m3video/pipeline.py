"""The arrows in order: probe -> analyze -> sample -> allocate -> encode -> answer. Only this layer knows the order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m3video.config import DETAIL, PLAN_SETTINGS, Settings
from m3video.errors import PlanError, UsageError, VideoError
from m3video.image_grid import ask_grid
from m3video.planning.allocate import allocate
from m3video.planning.analyze import analyze
from m3video.planning.limits import Limit, limits
from m3video.planning.plan_file import check_matches
from m3video.planning.sample import rows_in_range
from m3video.planning.wishes import Wishes, candidates, rules
from m3video.planning.worth import estimate_name, utility
from m3video.progress import Meter, Progress, silent
from m3video.types import (
    FLAG_CORRUPT,
    Allocation,
    Answer,
    Evidence,
    FrameStats,
    PlannedFrame,
    Selection,
    TokenPlan,
    VideoInfo,
    total_tokens,
)
from m3video.video.reader import VideoReader, open_video

if TYPE_CHECKING:
    from m3video.model.answering import GeneratedAnswer
    from m3video.model.checkpoint import LoadedModel


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
        stats = analyze(reader.scan(mode=scan), time_base=info.time_base, mode=scan, on_frame=bar)
    if ((stats.flags_N & FLAG_CORRUPT) > 0).all():
        raise VideoError(f"{info.path}: no frame could be decoded intact ({reader.damage.message}); is it encrypted?")
    return stats


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A plan with all that it was decided from, so that it can be looked at without measuring the video again.

    Attributes:
        plan: the frames shown.
        stats: the analyzed frames, N.
        selection: the candidates, C.
        utility_CS: float64 [C, 5], what each candidate is worth at each scale.
        decided: the scale of each candidate.
        wishes: what had to be shown.
        pinned: candidate -> the scale it is pinned at, None where it is free.
        settings: those the plan was made with.
    """

    plan: TokenPlan
    stats: FrameStats
    selection: Selection
    utility_CS: NDArray[np.float64]
    decided: Allocation
    wishes: Wishes
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


def study_stats(info: VideoInfo, stats: FrameStats, settings: Settings) -> Study:
    """`plan_stats`, together with what the plan was decided from."""
    wishes = Wishes(settings.pins, settings.every_shot, settings.max_gap, DETAIL[settings.detail])
    selection, pinned = candidates(
        stats, wishes, max_frames=settings.max_frames, method=settings.sampling, start_seconds=settings.start,
        end_seconds=settings.end, fps=settings.fps, num_frames=settings.num_frames,
    )  # fmt: skip
    worth = utility(stats, selection)
    obeyed = rules(
        stats, selection, worth, wishes, budget=settings.budget, pinned=pinned, start_seconds=settings.start,
        end_seconds=settings.end,
    )  # fmt: skip
    decided = allocate(
        worth, budget=settings.budget, max_scale=obeyed.max_scale, fixed=obeyed.fixed, cover_M2=obeyed.cover_M2
    )
    frames = tuple(
        PlannedFrame(pts=int(pts), scale=int(scale), shot=int(shot), reason=reason)
        for pts, scale, shot, reason in zip(
            selection.pts_N, decided.scale_N, selection.shot_N, selection.reason_N, strict=True
        )
        if scale > 0
    )
    plan = TokenPlan(
        video=info, budget=settings.budget, frames=frames, utility=decided.utility, bound=decided.bound,
        num_candidates=len(selection), shots=selection.shots, config=settings.model_dump(),
        warnings=(*selection.notes, *obeyed.notes), method=decided.method, scan=stats.mode,
        num_analyzed=len(stats), estimate=estimate_name(),
    )  # fmt: skip
    return Study(plan, stats, selection, worth, decided, wishes, pinned, settings)


def binding_limits(study: Study) -> tuple[Limit, ...]:
    """What keeps the plan from being worth more, the costliest first; then what kept further frames from competing."""
    settings = study.settings
    found = limits(
        study.stats, study.selection, study.utility_CS, study.wishes, study.decided, budget=settings.budget,
        pinned=study.pinned, start_seconds=settings.start, end_seconds=settings.end,
    )  # fmt: skip
    rows = rows_in_range(study.stats, settings.start, settings.end)
    intact = int(((study.stats.flags_N[rows] & FLAG_CORRUPT) == 0).sum())
    if len(study.selection) >= intact:
        return found
    if len(study.selection) >= settings.max_frames:
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
    """
    with open_for(path, settings) as reader:
        return plan_reader(reader, settings, progress=progress)


def plan_reader(reader: VideoReader, settings: Settings, *, progress: Progress = silent) -> TokenPlan:
    """`plan_video` on an open reader."""
    return study_reader(reader, settings, progress=progress).plan


def study_reader(reader: VideoReader, settings: Settings, *, progress: Progress = silent) -> Study:
    """`plan_reader`, together with what the plan was decided from."""
    from m3video.model.text_count import text_around

    if settings.layout == "grid":
        raise UsageError("layout grid is no plan of scales: use it with ask, without --plan")
    stats = analyze_video(reader, scan=settings.scan, progress=progress)
    study = study_stats(reader.info, stats, settings)
    plan = study.plan
    times = [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
    text = text_around(settings.model, times_seconds=times, timestamps=settings.timestamps)
    damage = reader.damage.message
    warnings = (*scan_note(reader.info, stats), *plan.warnings, *([damage] if damage else []))
    return replace(study, plan=replace(plan, text_tokens=text, warnings=warnings))


def ask(
    path: str | Path, question: str, settings: Settings, *, plan: TokenPlan | None = None, options: Sequence[str] = (),
    loaded: LoadedModel | None = None, progress: Progress = silent,
) -> Answer:  # fmt: skip
    """probe -> ... -> answer for one file and one question.

    Args:
        path: a local video file.
        question: in the words a person would use.
        settings: resolved settings.
        plan: show exactly these frames instead of planning.
        options: the answers to choose from (image grid only).
        loaded: a model that is already in memory; else `settings.model` is loaded.
        progress: draws bars.

    Returns:
        The answer with its evidence, plan, and what each stage cost.

    Raises:
        VideoError: the file is no readable video, or a planned frame cannot be decoded.
        PlanError: `plan` was made for another video, or shows no frame.
        DoesNotFitError: prompt, visual tokens and answer exceed the model's context; raised before the model runs.
    """
    from m3video.model import checkpoint

    if not question.strip():
        raise UsageError("the question is empty: give one in quotes")
    if options and plan is not None:
        raise UsageError("--option belongs to the image grid, which shows no plan: leave out --option or --plan")
    if options and settings.layout != "grid":
        raise UsageError("--option belongs to --layout grid: give both, or write the options into the question")
    meter = Meter()
    unused: tuple[str, ...] = ()
    with meter.stage("probe"):
        reader = open_for(path, settings)
    with reader:
        if plan is not None:
            check_matches(plan, reader.info)
            unused = _decided_already(plan, settings)
        elif settings.layout == "frames":
            with meter.stage("plan"):
                plan = plan_reader(reader, settings, progress=progress)
        with meter.stage("load model"), progress("load model", None):
            loaded = loaded or checkpoint.load(
                settings.model, device=settings.device, dtype=settings.dtype, vision_tower=settings.vision_tower
            )
        if plan is None:
            plan, said = ask_grid(reader, question, settings, options, loaded, meter, progress)
        else:
            plan = replace(plan, text_tokens=_text_tokens(plan, settings, loaded))
            said = _ask_frames(reader, question, settings, plan, loaded, meter, progress)
    return Answer(
        question=question, text=said.text, evidence=evidence(plan), model=loaded.name,
        visual_tokens=said.visual_tokens, prompt_tokens=said.prompt_tokens, answer_tokens=said.answer_tokens,
        stage_seconds=meter.stage_seconds, peak_memory_bytes=meter.peak_memory_bytes, plan=plan,
        config=settings.model_dump(),
        warnings=(*plan.warnings, *unused, *loaded.warnings, *bundled_note(loaded, path), *said.warnings),
    )  # fmt: skip


def _decided_already(plan: TokenPlan, settings: Settings) -> tuple[str, ...]:
    """A line when settings, wherever they were given, ask for another plan than the one that is shown."""
    given = [
        name for name in PLAN_SETTINGS
        if name in settings.model_fields_set and getattr(settings, name) != plan.config.get(name)
    ]  # fmt: skip
    if not given:
        return ()
    values = ", ".join(f"{name} ({getattr(settings, name)})" for name in given)
    return (f"the plan was made before: {values} of the settings {'is' if len(given) == 1 else 'are'} not used",)


def _text_tokens(plan: TokenPlan, settings: Settings, loaded: LoadedModel) -> int:
    """Positions around the frames, for the model that is asked."""
    from m3video.model import answering

    times = [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
    return answering.text_tokens(
        loaded, "", num_frames=len(times), times_seconds=times, timestamps=settings.timestamps
    )  # fmt: skip


def _ask_frames(
    reader: VideoReader, question: str, settings: Settings, plan: TokenPlan, loaded: LoadedModel, meter: Meter,
    progress: Progress,
) -> GeneratedAnswer:  # fmt: skip
    """fetch -> encode -> answer: the planned frames one after the other, each at its own scale."""
    from m3video.model import answering, nested

    if not plan.frames:
        raise PlanError(f"the plan shows no frame of {reader.info.path}: give it a larger budget")
    scales = [frame.scale for frame in plan.frames]
    times = [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
    answering.check_fits(
        loaded, scales=scales, question=question, timestamps=settings.timestamps, times_seconds=times,
        max_new_tokens=settings.max_new_tokens,
    )  # fmt: skip
    with meter.stage("fetch"), progress("fetch", None):
        pictures = [frame.rgb_HW3 for frame in reader.fetch([frame.pts for frame in plan.frames])]
    with meter.stage("vision tower"), progress("vision tower", len(pictures)) as bar:
        grids = answering.encode(loaded, pictures, vision_batch=settings.vision_batch, on_batch=bar)
    with meter.stage("answer"), progress("answer", None):
        return answering.answer(
            loaded, nested.pack(grids, scales), question, times_seconds=times,
            max_new_tokens=settings.max_new_tokens, timestamps=settings.timestamps,
        )  # fmt: skip


SAMPLE = Path(__file__).parent / "assets" / "sample.mp4"


def bundled_note(loaded: LoadedModel, path: str | Path) -> tuple[str, ...]:
    """What a person must know who asks the bundled model about footage of their own."""
    if not loaded.is_bundled or Path(path).resolve() == SAMPLE.resolve():
        return ()
    return (
        "the bundled model was trained on clips rendered by m3video only; for other footage name a real checkpoint, "
        "e.g. --model mucai/llava-v1.5-7b-m3",
    )


def evidence(plan: TokenPlan) -> tuple[Evidence, ...]:
    """The time ranges the model is shown: per shot, from its first to its last planned frame."""
    ranges = []
    for _, shown in itertools.groupby(plan.frames, key=lambda frame: frame.shot):
        frames = list(shown)
        ranges.append(
            Evidence(
                start_seconds=plan.video.pts_seconds(frames[0].pts),
                end_seconds=plan.video.pts_seconds(frames[-1].pts),
                num_frames=len(frames),
                num_tokens=total_tokens(frame.scale for frame in frames),
            )
        )
    return tuple(ranges)
