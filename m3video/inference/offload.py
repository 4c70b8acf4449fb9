"""Planned frames that are sent to a model in another process, and the answers it generated.

The model's process does not open the file. So what is sent must be enough to answer, and also to show less where memory
runs out: a smaller plan is then the best one among the frames that were sent.
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
from m3video.inference.decision import PlanDetails
from m3video.inference.memory.fallback import Fallbacks, answer_within_memory
from m3video.inference.memory.fit import least_text
from m3video.model.m3.model_paths import picture_format_here
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
    """The N frames of a plan, ready for the vision tower.

    Attributes:
        plan: their scales.
        squares: N frames as the vision tower takes them, RGB uint8 [S, S, 3], S its side (CLIP: 336): a third of a
            megabyte each, whatever the size of the video. Frames as they are where the model is not on the
            machine that decodes.
        utility_NS: float64 [N, 5], the utility of each frame at each scale.
        pinned: number of a frame that must be shown -> its scale, None where any scale will do.
    """

    plan: TokenPlan
    squares: tuple[NDArray[np.uint8], ...]
    utility_NS: NDArray[np.float64]
    pinned: Mapping[int, int | None]

    def smaller(self, budget: int) -> FrameBatch:
        """Return the best plan of these frames within a smaller budget; none gets a finer scale than it has.

        Frames pinned at a scale keep it, other pinned frames stay; with `every_shot` each shot keeps a frame while the
        budget has a token for each. `max_gap` is not enforced any more.

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
        left = np.flatnonzero(decided.scale_N).tolist()
        plan = replace(
            self.plan,
            budget=budget,
            utility=decided.utility,
            bound=decided.bound,
            method=decided.method,
            frames=tuple(replace(frames[number], scale=int(decided.scale_N[number])) for number in left),
        )
        config, times = plan.config, [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
        text = text_around(config["model"], times_seconds=times, timestamps=config["timestamps"])
        plan = replace(plan, text_tokens=text)
        pinned = {left.index(number): scale for number, scale in self.pinned.items()}
        return FrameBatch(plan, tuple(self.squares[number] for number in left), self.utility_NS[left], pinned)


@dataclass(frozen=True, slots=True)
class Generation:
    """The answers that a model generated from a batch of frames.

    Attributes:
        plan: the frames it was shown: those that were sent, or fewer tokens of them where memory ran out.
        answers: one for each question, or the error in its place.
        notes: a line for each reduction.
        tower_seconds: seconds in the vision tower.
        answer_seconds: seconds in the language model, for each question.
    """

    plan: TokenPlan
    answers: tuple[GeneratedAnswer | M3VideoError, ...]
    notes: tuple[str, ...]
    tower_seconds: float
    answer_seconds: float


Questions = Callable[[TokenPlan], Sequence[str]]
"""The questions about a plan's frames; called again where the plan was made smaller."""


def fetch_batch(reader: VideoReader, details: PlanDetails, *, on_frame: Callable[[], object] = int) -> FrameBatch:
    """Decode the frames of a plan, ready to be sent to a model.

    Args:
        reader: of the video.
        details: the plan with the utility of its frames.
        on_frame: called after each full-size frame.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    form, squares = picture_format_here(details.plan.config["model"]), []
    for frame in reader.fetch([planned.pts for planned in details.plan.frames]):
        squares.append(frame.rgb_HW3 if form is None else as_square(frame.rgb_HW3, form))
        on_frame()
    shown = np.flatnonzero(details.allocation.scale_N).tolist()
    pinned = {shown.index(number): scale for number, scale in details.pinned.items()}
    return FrameBatch(details.plan, tuple(squares), details.utility_CS[shown], pinned)


def ask_batches(
    loaded: LoadedModel, asked: Sequence[tuple[FrameBatch, Questions]], settings: Settings
) -> list[Generation]:
    """Ask about the frames of several videos, all in one run of the language model.

    Videos for which memory runs out are asked again alone: with a smaller vision batch, then with fewer tokens (see
    `answer_within_memory`); their notes say so.

    Args:
        loaded: the model.
        asked: batches of frames, each with its questions.
        settings: resolved settings.

    Raises:
        OutOfMemoryError: not even one frame at one token fits in the memory.
    """
    tower = _Tower(settings.vision_batch)
    generations: list[Generation] = []
    for (batch, questions), found in zip(asked, _ask_together(loaded, asked, settings, tower), strict=True):
        generations.append(
            found if isinstance(found, Generation) else _ask_alone(loaded, batch, questions, settings, tower)
        )
    return generations


@dataclass(slots=True)
class _Tower:
    """The batch size of the vision tower."""

    vision_batch: int


def _ask_alone(
    loaded: LoadedModel, batch: FrameBatch, questions: Questions, settings: Settings, tower: _Tower
) -> Generation:
    """Ask about one video within the available memory."""
    now = batch

    def smaller(budget: int, _: int) -> TokenPlan:
        nonlocal now
        now = now.smaller(budget)  # fewer frames would save nothing: one vision batch at a time is in memory
        return now.plan

    def answer(_: TokenPlan) -> Generation:
        (found,) = _ask_together(loaded, [(now, questions)], settings, tower)
        if isinstance(found, OutOfMemoryError):
            raise found
        return found

    fallbacks = Fallbacks(tower, smaller, lambda: least_text(settings))
    _, generation, notes = answer_within_memory(answer, batch.plan, fallbacks)
    if now is not batch and batch.plan.config.get("max_gap") is not None:
        notes += ("max_gap: fewer frames may stand further apart",)
    return replace(generation, notes=notes)


def _ask_together(
    loaded: LoadedModel, asked: Sequence[tuple[FrameBatch, Questions]], settings: Settings, tower: _Tower
) -> list[Generation | OutOfMemoryError]:
    """Return each video's answers, or the error where memory ran out in one of its questions."""
    from m3video.model.m3.answer import FramesQuestion, answer_batch

    encoded = [_encode(loaded, batch, tower) for batch, _ in asked]
    wanted, counts = [], []
    for (batch, questions), visual in zip(asked, encoded, strict=True):
        if isinstance(visual, OutOfMemoryError):
            counts.append(0)
            continue
        plan = batch.plan
        times, texts = [plan.video.pts_seconds(frame.pts) for frame in plan.frames], questions(plan)
        wanted += [FramesQuestion(visual[0], text, times, plan.shots_seconds) for text in texts]
        counts.append(len(texts))
    start = time.perf_counter()
    answers = iter(
        answer_batch(
            loaded,
            wanted,
            max_new_tokens=settings.max_new_tokens,
            timestamps=settings.timestamps,
            schema=settings.answer_schema,
        )
    )
    each = (time.perf_counter() - start) / max(1, len(wanted))
    found: list[Generation | OutOfMemoryError] = []
    for (batch, _), visual, count in zip(asked, encoded, counts, strict=True):
        if isinstance(visual, OutOfMemoryError):
            found.append(visual)
            continue
        generated = tuple(itertools.islice(answers, count))
        short = next((one for one in generated if isinstance(one, OutOfMemoryError)), None)
        found.append(short or Generation(batch.plan, generated, (), visual[1], each))
    return found


def _encode(loaded: LoadedModel, batch: FrameBatch, tower: _Tower) -> tuple[VisualTokens, float] | OutOfMemoryError:
    """Return the frames' tokens and the seconds they took, or the error where memory ran out."""
    from m3video.model.m3.encoding import encode_pooled

    start = time.perf_counter()
    scales = [frame.scale for frame in batch.plan.frames]
    try:
        visual = encode_pooled(loaded, batch.squares, scales, vision_batch=tower.vision_batch)
    except OutOfMemoryError as error:
        return error.with_traceback(None)  # the traceback keeps alive what filled the memory
    return visual, time.perf_counter() - start
