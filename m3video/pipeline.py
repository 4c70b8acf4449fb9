"""The arrows in order: probe -> analyze -> sample -> allocate -> encode -> answer. Only this layer knows the order."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from m3video.config import Settings
from m3video.errors import PlanError, UsageError
from m3video.planning.allocate import allocate
from m3video.planning.analyze import analyze
from m3video.planning.complexity import utility
from m3video.planning.plan_file import check_matches
from m3video.planning.sample import sample
from m3video.types import (
    Answer,
    Evidence,
    FrameStats,
    PlannedFrame,
    TokenPlan,
    VideoInfo,
    total_tokens,
)
from m3video.video.reader import VideoReader, open_video

if TYPE_CHECKING:
    from m3video.model.checkpoint import LoadedModel


class Bar(Protocol):
    """One running progress bar."""

    def __call__(self, done: int) -> None: ...


class Progress(Protocol):
    """What shows progress; the command line draws bars, a library user gets none."""

    def __call__(self, stage: str, total: int | None) -> AbstractContextManager[Bar]: ...


def silent(stage: str, total: int | None) -> AbstractContextManager[Bar]:
    """A `Progress` that shows nothing."""
    return nullcontext(lambda done: None)


@dataclass(slots=True)
class Meter:
    """Wall seconds of each stage, and the process's peak memory when it ended."""

    stage_seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stage_seconds[name] = time.perf_counter() - start
        self.peak_memory_bytes[name] = peak_memory_bytes()


def peak_memory_bytes() -> int:
    """The process's high-water mark; on CUDA the allocator's, because that is what runs out."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def open_for(path: str | Path, settings: Settings) -> VideoReader:
    """Open `path` with the backend and the pixel cap of `settings`."""
    return open_video(path, backend=settings.backend, max_pixels=settings.max_pixels)


def analyze_video(reader: VideoReader, *, progress: Progress = silent) -> FrameStats:
    """One pass over the whole video, low resolution."""
    info = reader.info
    with progress("analyze", info.num_frames) as bar:
        return analyze(reader.scan(), time_base=info.time_base, on_frame=bar)


def plan_stats(info: VideoInfo, stats: FrameStats, settings: Settings) -> TokenPlan:
    """sample -> allocate, from stats alone: no file is opened, so it can be repeated for any budget.

    Raises:
        UsageError: a time range without frames, or rates that contradict each other.
    """
    selection = sample(
        stats, max_frames=settings.max_frames, method=settings.sampling, start_seconds=settings.start,
        end_seconds=settings.end, fps=settings.fps, num_frames=settings.num_frames,
    )  # fmt: skip
    decided = allocate(utility(stats, selection), budget=settings.budget)
    frames = tuple(
        PlannedFrame(pts=int(pts), scale=int(scale), shot=int(shot), reason=reason)
        for pts, scale, shot, reason in zip(
            selection.pts_N, decided.scale_N, selection.shot_N, selection.reason_N, strict=True
        )
        if scale > 0
    )
    return TokenPlan(
        video=info, budget=settings.budget, frames=frames, utility=decided.utility, bound=decided.bound,
        num_candidates=len(selection), shots=selection.shots, config=settings.model_dump(),
        warnings=tuple(selection.notes),
    )  # fmt: skip


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
    stats = analyze_video(reader, progress=progress)
    return _with_warnings(plan_stats(reader.info, stats, settings), reader)


def ask(
    path: str | Path, question: str, settings: Settings, *, plan: TokenPlan | None = None,
    loaded: LoadedModel | None = None, progress: Progress = silent,
) -> Answer:  # fmt: skip
    """probe -> ... -> answer for one file and one question.

    Args:
        path: a local video file.
        question: in the words a person would use.
        settings: resolved settings.
        plan: show exactly these frames instead of planning.
        loaded: a model that is already in memory; else `settings.model` is loaded.
        progress: draws bars.

    Returns:
        The answer with its evidence, plan, and what each stage cost.

    Raises:
        VideoError: the file is no readable video, or a planned frame cannot be decoded.
        PlanError: `plan` was made for another video, or shows no frame.
        DoesNotFitError: prompt, visual tokens and answer exceed the model's context; raised before the model runs.
    """
    from m3video.model import answering, checkpoint, nested

    if not question.strip():
        raise UsageError("the question is empty: give one in quotes")
    meter = Meter()
    with meter.stage("probe"):
        reader = open_for(path, settings)
    with reader:
        if plan is None:
            with meter.stage("plan"):
                plan = plan_reader(reader, settings, progress=progress)
        else:
            check_matches(plan, reader.info)
        if not plan.frames:
            raise PlanError(f"the plan shows no frame of {path}: give it a larger budget")
        scales = [frame.scale for frame in plan.frames]
        with meter.stage("load model"), progress("load model", None):
            loaded = loaded or checkpoint.load(
                settings.model, device=settings.device, dtype=settings.dtype, vision_tower=settings.vision_tower
            )
        answering.check_fits(
            loaded, scales=scales, question=question, timestamps=settings.timestamps,
            max_new_tokens=settings.max_new_tokens,
        )  # fmt: skip
        with meter.stage("fetch"), progress("fetch", None):
            pictures = [frame.rgb_HW3 for frame in reader.fetch([frame.pts for frame in plan.frames])]
    with meter.stage("vision tower"), progress("vision tower", len(pictures)) as bar:
        grids = answering.encode(loaded, pictures, vision_batch=settings.vision_batch, on_batch=bar)
    with meter.stage("answer"), progress("answer", None):
        said = answering.answer(
            loaded, nested.pack(grids, scales), question,
            times_seconds=[plan.video.pts_seconds(frame.pts) for frame in plan.frames],
            max_new_tokens=settings.max_new_tokens, timestamps=settings.timestamps,
        )  # fmt: skip
    return Answer(
        question=question, text=said.text, evidence=evidence(plan), model=loaded.name,
        visual_tokens=said.visual_tokens, prompt_tokens=said.prompt_tokens, answer_tokens=said.answer_tokens,
        stage_seconds=meter.stage_seconds, peak_memory_bytes=meter.peak_memory_bytes, plan=plan,
        config=settings.model_dump(), warnings=(*plan.warnings, *loaded.warnings, *said.warnings),
    )  # fmt: skip


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


def _with_warnings(plan: TokenPlan, reader: VideoReader) -> TokenPlan:
    damage = reader.damage.message
    return plan if damage is None else replace(plan, warnings=(*plan.warnings, damage))
