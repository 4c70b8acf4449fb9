"""Planned frames on their way to a model in another process, and what it said of them.

The file is open where they were fetched, not where the model is. So what is sent along must be enough to answer, and to
show less where memory runs out: a smaller plan is then the best one among the frames that are there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.errors import M3VideoError, OutOfMemoryError
from m3video.inference.memory.fallback import Fallbacks, answer_within_memory
from m3video.inference.memory.fit import least_text
from m3video.inference.pipeline import PlanDetails
from m3video.model.m3.square import as_square
from m3video.model.m3.text_count import text_around
from m3video.planning.allocate import allocate
from m3video.types import SCALES, TokenPlan

if TYPE_CHECKING:
    from m3video.model.m3.answer import GeneratedAnswer
    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.model.m3.pooling import VisualTokens
    from m3video.video.reader import VideoReader


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """What a model is shown: N frames.

    Attributes:
        plan: their scales.
        squares: N pictures as the vision tower sees them, RGB uint8 [336, 336, 3]: a third of a megabyte each, whatever
            the video's size.
        utility_NS: float64 [N, 5], what each is worth at each scale.
        pinned: number of a frame that must be shown -> its scale, None where any will do.
    """

    plan: TokenPlan
    squares: tuple[NDArray[np.uint8], ...]
    utility_NS: NDArray[np.float64]
    pinned: Mapping[int, int | None]

    def smaller(self, budget: int) -> FrameBatch:
        """The best that these frames are worth within less tokens: none gets more than it has.

        Frames pinned at a scale keep it, other pinned ones are shown; a shot that must be shown stays while the budget
        has a token for each. A greatest gap between frames is not kept.

        Raises:
            UsageError: the pinned frames cost more.
        """
        frames = self.plan.frames
        has_N = np.array([frame.scale for frame in frames])
        utility_NS = np.where(np.array(SCALES) <= has_N[:, None], self.utility_NS, 0.0)
        fixed = {number: scale for number, scale in self.pinned.items() if scale is not None}
        cover = [(number, number + 1) for number, scale in self.pinned.items() if scale is None]
        if self.plan.config.get("every_shot"):
            edges = np.flatnonzero(np.diff([frame.shot for frame in frames], prepend=-1, append=-1)).tolist()
            if len(cover) + len(edges) - 1 + sum(fixed.values()) <= budget:
                cover += itertools.pairwise(edges)
        decided = allocate(utility_NS, budget=budget, fixed=fixed, cover_M2=cover)
        kept = np.flatnonzero(decided.scale_N).tolist()
        plan = replace(
            self.plan,
            budget=budget,
            utility=decided.utility,
            bound=decided.bound,
            method=decided.method,
            frames=tuple(replace(frames[number], scale=int(decided.scale_N[number])) for number in kept),
        )
        config, times = plan.config, [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
        text = text_around(config["model"], times_seconds=times, timestamps=config["timestamps"])
        plan = replace(plan, text_tokens=text)
        pinned = {kept.index(number): scale for number, scale in self.pinned.items()}
        return FrameBatch(plan, tuple(self.squares[number] for number in kept), self.utility_NS[kept], pinned)


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model said of frames.

    Attributes:
        plan: the frames it was shown: those that were sent, or fewer tokens of them where memory ran out.
        answers: one for each question, or why there is none.
        notes: a line for each thing that was made smaller.
        tower_seconds: in the vision tower.
        answer_seconds: in the language model, for each question.
    """

    plan: TokenPlan
    answers: tuple[GeneratedAnswer | M3VideoError, ...]
    notes: tuple[str, ...]
    tower_seconds: float
    answer_seconds: float


Questions = Callable[[TokenPlan], Sequence[str]]
"""What is asked of a plan's frames; a plan may become smaller on the way."""


def fetch_shown(reader: VideoReader, study: PlanDetails, *, on_frame: Callable[[], object] = int) -> FrameBatch:
    """The frames of a plan, ready to be sent to a model.

    Args:
        reader: of the video.
        study: the plan with what its frames are worth.
        on_frame: called after each full-size frame.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    squares = []
    for frame in reader.fetch([planned.pts for planned in study.plan.frames]):
        squares.append(as_square(frame.rgb_HW3))
        on_frame()
    shown = np.flatnonzero(study.decided.scale_N).tolist()
    pinned = {shown.index(number): scale for number, scale in study.pinned.items()}
    return FrameBatch(study.plan, tuple(squares), study.utility_CS[shown], pinned)


def ask_shown(
    loaded: LoadedModel, asked: Sequence[tuple[FrameBatch, Questions]], settings: Settings
) -> list[Generation]:
    """Ask about the frames of several videos, all in one run of the language model.

    Where memory runs out, those that it hits are asked again alone: with a smaller vision batch, then with fewer tokens
    (see `answer_within_memory`), and their notes say so.

    Args:
        loaded: the model.
        asked: frames, and what is asked of them.
        settings: resolved.

    Raises:
        OutOfMemoryError: not even one frame at one token fits in the memory.
    """
    tower = _Tower(settings.vision_batch)
    made: list[Generation] = []
    for (shown, questions), found in zip(asked, _together(loaded, asked, settings, tower), strict=True):
        made.append(found if isinstance(found, Generation) else _alone(loaded, shown, questions, settings, tower))
    return made


@dataclass(slots=True)
class _Tower:
    """How many frames go through the vision tower at once."""

    vision_batch: int


def _alone(
    loaded: LoadedModel, shown: FrameBatch, questions: Questions, settings: Settings, tower: _Tower
) -> Generation:
    """One video, within the memory that is there."""
    now = shown

    def smaller(budget: int, _: int) -> TokenPlan:
        nonlocal now
        now = now.smaller(budget)  # fewer frames would save nothing: one vision batch at a time is held
        return now.plan

    def answer(_: TokenPlan) -> Generation:
        (found,) = _together(loaded, [(now, questions)], settings, tower)
        if isinstance(found, OutOfMemoryError):
            raise found
        return found

    ways = Fallbacks(tower, smaller, lambda: least_text(settings))
    _, said, notes = answer_within_memory(answer, shown.plan, ways)
    if now is not shown and shown.plan.config.get("max_gap") is not None:
        notes += ("max_gap: fewer frames may stand further apart",)
    return replace(said, notes=notes)


def _together(
    loaded: LoadedModel, asked: Sequence[tuple[FrameBatch, Questions]], settings: Settings, tower: _Tower
) -> list[Generation | OutOfMemoryError]:
    """Each video's answers, or that memory ran out in one of its questions."""
    from m3video.model.m3.answer import FramesQuestion, answer_batch

    seen = [_see(loaded, shown, tower) for shown, _ in asked]
    wanted, counts = [], []
    for (shown, questions), visual in zip(asked, seen, strict=True):
        if isinstance(visual, OutOfMemoryError):
            counts.append(0)
            continue
        plan = shown.plan
        times, texts = [plan.video.pts_seconds(frame.pts) for frame in plan.frames], questions(plan)
        wanted += [FramesQuestion(visual[0], text, times, plan.shots_seconds) for text in texts]
        counts.append(len(texts))
    start = time.perf_counter()
    answers = iter(answer_batch(loaded, wanted, max_new_tokens=settings.max_new_tokens, timestamps=settings.timestamps))
    each = (time.perf_counter() - start) / max(1, len(wanted))
    found: list[Generation | OutOfMemoryError] = []
    for (shown, _), visual, count in zip(asked, seen, counts, strict=True):
        if isinstance(visual, OutOfMemoryError):
            found.append(visual)
            continue
        said = tuple(itertools.islice(answers, count))
        short = next((one for one in said if isinstance(one, OutOfMemoryError)), None)
        found.append(short or Generation(shown.plan, said, (), visual[1], each))
    return found


def _see(loaded: LoadedModel, shown: FrameBatch, tower: _Tower) -> tuple[VisualTokens, float] | OutOfMemoryError:
    """The frames' tokens, and the seconds they took."""
    from m3video.model.m3.encoding import encode_pooled

    start = time.perf_counter()
    scales = [frame.scale for frame in shown.plan.frames]
    try:
        visual = encode_pooled(loaded, shown.squares, scales, vision_batch=tower.vision_batch)
    except OutOfMemoryError as error:
        return error.with_traceback(None)  # its frames hold what filled the memory
    return visual, time.perf_counter() - start
