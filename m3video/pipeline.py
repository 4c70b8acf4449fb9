"""The arrows in order: probe -> analyze -> sample -> allocate -> encode -> answer. Only this layer knows the order."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from m3video.config import DETAIL, Settings
from m3video.errors import PlanError, UsageError, VideoError
from m3video.planning.allocate import allocate
from m3video.planning.analyze import analyze
from m3video.planning.complexity import utility
from m3video.planning.plan_file import check_matches
from m3video.planning.wishes import Wishes, candidates, rules
from m3video.scales import SCALES
from m3video.types import (
    FLAG_CORRUPT,
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
    from m3video.model.answering import GeneratedAnswer
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
    return TokenPlan(
        video=info, budget=settings.budget, frames=frames, utility=decided.utility, bound=decided.bound,
        num_candidates=len(selection), shots=selection.shots, config=settings.model_dump(),
        warnings=(*scan_note(info, stats), *selection.notes, *obeyed.notes), method=decided.method, scan=stats.mode,
        num_analyzed=len(stats),
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
    from m3video.model.text_count import text_around

    if settings.layout == "grid":
        raise UsageError("layout grid is no plan of scales: use it with ask, without --plan")
    stats = analyze_video(reader, scan=settings.scan, progress=progress)
    plan = plan_stats(reader.info, stats, settings)
    times = [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
    text = text_around(settings.model, times_seconds=times, timestamps=settings.timestamps)
    return _with_warnings(replace(plan, text_tokens=text), reader)


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
    if options and settings.layout != "grid":
        raise UsageError("--option belongs to --layout grid: give both, or write the options into the question")
    meter = Meter()
    with meter.stage("probe"):
        reader = open_for(path, settings)
    with reader:
        if plan is not None:
            check_matches(plan, reader.info)
        elif settings.layout == "frames":
            with meter.stage("plan"):
                plan = plan_reader(reader, settings, progress=progress)
        with meter.stage("load model"), progress("load model", None):
            loaded = loaded or checkpoint.load(
                settings.model, device=settings.device, dtype=settings.dtype, vision_tower=settings.vision_tower
            )
        if plan is None:
            plan, said = _ask_grid(reader, question, settings, options, loaded, meter, progress)
        else:
            plan = replace(plan, text_tokens=_text_tokens(plan, settings, loaded))
            said = _ask_frames(reader, question, settings, plan, loaded, meter, progress)
    return Answer(
        question=question, text=said.text, evidence=evidence(plan), model=loaded.name,
        visual_tokens=said.visual_tokens, prompt_tokens=said.prompt_tokens, answer_tokens=said.answer_tokens,
        stage_seconds=meter.stage_seconds, peak_memory_bytes=meter.peak_memory_bytes, plan=plan,
        config=settings.model_dump(),
        warnings=(*plan.warnings, *loaded.warnings, *_bundled_note(loaded, path), *said.warnings),
    )  # fmt: skip


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


def _ask_grid(
    reader: VideoReader, question: str, settings: Settings, options: Sequence[str], loaded: LoadedModel, meter: Meter,
    progress: Progress,
) -> tuple[TokenPlan, GeneratedAnswer]:  # fmt: skip
    """The IG-VLM protocol of the M3 paper: six frames in one picture, at the finest scale the budget allows."""
    from m3video.model import answering, grid
    from m3video.model.text import prompt_ids

    info, pts_N = reader.info, reader.index.pts_N
    fps = (info.num_frames - 1) / max(1e-9, info.pts_seconds(info.end_pts) - info.pts_seconds(info.start_pts))
    first, last = (None if t is None else t - info.pts_seconds(info.start_pts) for t in (settings.start, settings.end))
    # Rounded: the reference multiplies the container's own duration and rate, whose product is a whole number.
    numbers = grid.igvlm_indices(
        round(info.num_frames / fps, 6) + 1e-6, fps, start_seconds=first, end_seconds=last
    )  # fmt: skip
    if numbers[-1] >= len(pts_N):
        raise UsageError(f"--end ({settings.end} s) lies beyond the video's {info.duration_seconds:.2f} s")
    pts = [int(pts_N[number]) for number in numbers]
    # Sizes are known before anything is decoded: six equal frames in two columns.
    width, height = info.width * 2, info.height * 3
    costs = {scale: answering.image_tokens(loaded, size_wh=(width, height), scale=scale) for scale in SCALES}
    fitting = [scale for scale, cost in costs.items() if cost <= settings.budget]
    if not fitting:
        raise UsageError(f"--budget ({settings.budget}) is below the {min(costs.values())} tokens of the coarsest grid")
    scale = fitting[-1]
    prompt = grid.mc_prompt(question, options) if options else grid.oe_prompt(question)
    words = len(prompt_ids(loaded.codec, prompt)) - 1
    answering.refuse_beyond(loaded, visual=costs[scale], text=words, answer=settings.max_new_tokens)
    with meter.stage("fetch"), progress("fetch", None):
        picture = grid.make_grid([frame.rgb_HW3 for frame in reader.fetch(pts)])
    with meter.stage("vision tower"), progress("vision tower", None):
        block = answering.encode_image(loaded, picture, scale=scale)
    with meter.stage("answer"), progress("answer", None):
        said = answering.answer_prompt(loaded, prompt, [block], max_new_tokens=settings.max_new_tokens)
    if options:
        chosen = grid.parse_mc(said.text, len(options))
        said = replace(said, text="no option named: " + said.text if chosen is None else options[chosen])
    plan = TokenPlan(
        video=info, budget=settings.budget, grid_tokens=len(block), num_candidates=len(pts), utility=0.0, bound=0.0,
        frames=tuple(PlannedFrame(pts=p, scale=scale, reason="grid") for p in pts),
        shots=((info.start_pts, info.end_pts + info.last_duration),), config=settings.model_dump(),
    )  # fmt: skip
    return plan, said


SAMPLE = Path(__file__).parent / "assets" / "sample.mp4"


def _bundled_note(loaded: LoadedModel, path: str | Path) -> tuple[str, ...]:
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


def _with_warnings(plan: TokenPlan, reader: VideoReader) -> TokenPlan:
    damage = reader.damage.message
    return plan if damage is None else replace(plan, warnings=(*plan.warnings, damage))
