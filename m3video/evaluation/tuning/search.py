"""Every budget on a person's own videos and questions: what is answered, and what one answer costs.

For each video the first pass, the decoder and the vision tower run once for all budgets; each plan's prompt is read
once for all questions. Every answer is what `m3video ask` gives for that plan.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3video.config import DETAIL, Settings
from m3video.errors import DoesNotFitError, OutOfMemoryError, UsageError, VideoError
from m3video.evaluation.methods import even_scales
from m3video.evaluation.records import Record, prompt_text
from m3video.evaluation.tuning.fitting import longest_text
from m3video.evaluation.tuning.questions import is_right_or_agrees
from m3video.inference.session import VideoSession
from m3video.types import FULL_SCALE, Answer, TokenPlan
from m3video.utils.progress import Progress, peak_memory_bytes, silent
from m3video.utils.system import reset_peak_memory

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel

FULL = "full tokens"
"""What stands for the truth where it is not known: candidates at 576 tokens, as many as the context holds."""


@dataclass(frozen=True, slots=True)
class BudgetMethod:
    """A way to spend a budget: "adaptive" (the product's plan), "uniform", or `FULL`."""

    method: str
    budget: int


@dataclass(frozen=True, slots=True)
class TuneAnswer:
    """One answer. `seconds` is that of the stage "answer"; `is_first` where the frames had to be read for it."""

    setting: BudgetMethod
    record: Record
    text: str
    right: float
    visual: int
    prompt: int
    frames: int
    seconds: float
    is_first: bool


@dataclass(frozen=True, slots=True)
class VideoCost:
    """What one video costs beside the answers.

    Attributes:
        video: path.
        num_frames: decoded and encoded once, for all settings together.
        analyze, fetch, vision: seconds of the first pass, of decoding and of encoding these frames.
        plan: seconds that planning takes, by setting.
        peak_memory_bytes: while answering, by setting; None where the machine cannot tell it for each.
        vision_peak_bytes: while decoding and encoding.
    """

    video: str
    num_frames: int
    analyze: float
    fetch: float
    vision: float
    plan: Mapping[BudgetMethod, float]
    peak_memory_bytes: Mapping[BudgetMethod, int] | None
    vision_peak_bytes: int


@dataclass(frozen=True, slots=True)
class TuneResult:
    """All answers and costs. `failed`: one line for each video that could not be used; `reference`: what stood for the
    truth where it is not known, or ""."""

    outcomes: tuple[TuneAnswer, ...]
    costs: tuple[VideoCost, ...]
    failed: tuple[str, ...]
    reference: str


def tune(
    asked: Mapping[str, Sequence[Record]],
    budgets: Sequence[int],
    loaded: LoadedModel,
    settings: Settings,
    *,
    most_visual: int | None = None,
    progress: Progress = silent,
) -> TuneResult:
    """Answer every question with every budget, adaptive and uniform.

    Args:
        asked: video -> its questions, at least one each.
        budgets: increasing; all fit (`fitting_budgets`).
        loaded: the model.
        settings: everything else; the cache folder is not used, so that every stage is measured.
        most_visual: no more visual tokens fit in the memory; None where only the context counts.
        progress: draws a bar over the answers.

    Raises:
        VideoError: no video can be used.
        UsageError: settings that only hold for one layout or one plan.
    """
    if settings.layout == "grid":
        raise UsageError("layout grid is no plan of scales: leave it out, budgets are compared in the frames layout")
    settings = settings.model_copy(update={"cache": False})
    room = loaded.context - longest_text(asked, loaded, settings) - settings.max_new_tokens
    room = min(room, room if most_visual is None else most_visual) // FULL_SCALE
    needs_reference = any(not record.answer for records in asked.values() for record in records)
    ways = [BudgetMethod(method, budget) for budget in budgets for method in ("adaptive", "uniform")]
    if needs_reference:
        if room < 1:
            raise DoesNotFitError(
                f"questions without an answer are compared with a frame at {FULL_SCALE} tokens, which does not fit "
                f"in the memory or the context of {loaded.name} ({loaded.context}): give answers"
            )
        ways.insert(0, BudgetMethod(FULL, min(room, settings.surely_frames) * FULL_SCALE))
    outcomes: list[TuneAnswer] = []
    costs, failed = [], []
    with progress("tune", len(ways) * sum(map(len, asked.values()))) as bar:
        for video, records in asked.items():
            answers: list[TuneAnswer] = []
            try:
                with VideoSession(video, settings, loaded=loaded, keeps_looking=False) as session:
                    run = _VideoRun(session, ways, records)
                    for way in ways:
                        answers += run.answer(way)
                        bar(len(outcomes) + len(answers))
            except VideoError as error:
                if len(asked) == 1:
                    raise
                failed.append(str(error))
                continue
            outcomes += answers
            costs.append(run.cost())
    if not costs:
        raise VideoError(f"none of the {len(asked)} videos can be used, e.g. {failed[0]}")
    reference = (
        f"{FULL}: up to {min(room, settings.surely_frames)} candidates of each video at {FULL_SCALE} tokens"
        if needs_reference
        else ""
    )
    return TuneResult(tuple(outcomes), tuple(costs), tuple(failed), reference)


class _VideoRun:
    """One open video: its plans, then its answers."""

    def __init__(self, session: VideoSession, ways: Sequence[BudgetMethod], records: Sequence[Record]) -> None:
        self._session, self._records = session, records
        start = time.perf_counter()
        session.stats()
        self._analyze = time.perf_counter() - start
        self._plan_seconds: dict[BudgetMethod, float] = {}
        self._plans: dict[BudgetMethod, TokenPlan] = {}
        for way in ways:
            start = time.perf_counter()
            self._plans[way] = _plan(session, way)
            self._plan_seconds[way] = time.perf_counter() - start
        self._references: dict[str, str] = {}
        self._peaks: dict[BudgetMethod, int] = {}
        pts = sorted({frame.pts for plan in self._plans.values() for frame in plan.frames})
        self._num_frames, self._stages = len(pts), {"fetch": 0.0, "vision tower": 0.0}
        self._has_peaks = reset_peak_memory()
        for _ in session.grids(pts):
            pass
        self._vision_peak = peak_memory_bytes()

    def answer(self, way: BudgetMethod) -> list[TuneAnswer]:
        """Answer every question with one plan."""
        reset_peak_memory()
        plan, made = self._plans[way], []
        for number, record in enumerate(self._records):
            try:
                reply = self._session.ask(prompt_text(record), plan=plan)
            except OutOfMemoryError as error:
                raise OutOfMemoryError(
                    f"{way.method}, {way.budget} tokens: {error}; or leave that out of --budgets", step=error.step
                ) from None
            for stage in self._stages:
                self._stages[stage] += reply.stage_seconds.get(stage, 0.0)
            self._num_frames += len(plan.frames) - reply.cached_frames
            if way.method == FULL:
                self._references[record.id] = reply.text
            made.append(self._outcome(way, record, reply, is_first=number == 0))
        self._peaks[way] = peak_memory_bytes()
        return made

    def _outcome(self, way: BudgetMethod, record: Record, reply: Answer, *, is_first: bool) -> TuneAnswer:
        reference = None if record.answer else self._references[record.id]
        return TuneAnswer(
            way,
            record,
            reply.text,
            float(is_right_or_agrees(record, reply.text, reference)),
            reply.visual_tokens,
            reply.prompt_tokens,
            len(reply.plan.frames),
            reply.stage_seconds["answer"],
            is_first,
        )

    def cost(self) -> VideoCost:
        return VideoCost(
            str(self._session.path),
            self._num_frames,
            self._analyze,
            self._stages["fetch"],
            self._stages["vision tower"],
            self._plan_seconds,
            self._peaks if self._has_peaks else None,
            self._vision_peak,
        )


def _plan(session: VideoSession, way: BudgetMethod) -> TokenPlan:
    """Return the plan of a method. Uniform frames are even in time; the reference takes the planner's candidates."""
    if way.method == "adaptive":
        return session.plan(budget=way.budget)
    if way.method == FULL:
        details = session.plan_details(budget=way.budget)
        count = len(details.selection)
        shown = min(count, way.budget // FULL_SCALE)
        chosen = {int((n + 0.5) * count / shown) for n in range(shown)}
        return session.plan_with(details, [FULL_SCALE * (n in chosen) for n in range(count)], budget=way.budget)
    free = {"at": None, "every_shot": False, "max_gap": None, "sampling": "uniform"}
    details = session.plan_details(budget=way.budget, **free)
    if len(details.selection) > way.budget:
        details = session.plan_details(budget=way.budget, **{**free, "fps": None, "num_frames": way.budget})
    most = DETAIL[session.settings.detail]
    scales = [min(scale, most) for scale in even_scales(len(details.selection), way.budget)]
    return session.plan_with(details, scales, budget=way.budget)
