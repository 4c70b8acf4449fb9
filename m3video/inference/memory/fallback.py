"""Answering when memory runs out: a smaller vision batch, then a smaller budget, each with a note."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from m3video.errors import OutOfMemoryError, UsageError
from m3video.types import TokenPlan

T = TypeVar("T")


class Batched(Protocol):
    """Anything that runs the vision tower on batches of frames; a change of `vision_batch` takes effect at once."""

    vision_batch: int


@dataclass(frozen=True, slots=True)
class Fallbacks:
    """What may be reduced when memory runs out.

    Attributes:
        tower: owner of the vision batch.
        replan: (budget, most frames) -> a plan; None where the user gave the plan, which then never changes.
        requirement: says what the smallest question needs and what memory is free; part of the error message.
    """

    tower: Batched
    replan: Callable[[int, int], TokenPlan] | None
    requirement: Callable[[], str]


def answer_within_memory(
    answer: Callable[[TokenPlan], T], plan: TokenPlan, fallbacks: Fallbacks
) -> tuple[TokenPlan, T, tuple[str, ...]]:
    """Answer with `plan`, or with a smaller plan that fits.

    When the vision tower runs out of memory, its batch is halved, down to one frame. After that, and when the language
    model runs out, the budget (and with it the frames) is halved by planning again.

    Args:
        answer: encodes the frames of a plan and answers.
        plan: the plan to try first.
        fallbacks: what may be reduced.

    Returns:
        The plan that worked, what `answer` returned, and a note for each reduction.

    Raises:
        OutOfMemoryError: one frame at one token does not fit, or the plan may not change.
    """
    notes: list[str] = []
    while True:
        try:
            return plan, answer(plan), tuple(notes)
        except OutOfMemoryError as error:
            step, message = error.step, str(error)
            # Traceback and context keep the arrays alive that filled the memory.
            error.with_traceback(None).__context__ = None
        _release()
        if step == "vision" and min(fallbacks.tower.vision_batch, len(plan.frames)) > 1:
            was = min(fallbacks.tower.vision_batch, len(plan.frames))
            fallbacks.tower.vision_batch = was // 2
            notes.append(f"memory ran out in the vision tower: vision batch {was // 2} instead of {was}")
            continue
        plan, note = _smaller(plan, fallbacks, step=step, message=message)
        notes.append(note)


def _smaller(plan: TokenPlan, fallbacks: Fallbacks, *, step: str, message: str) -> tuple[TokenPlan, str]:
    """Return a plan with half the tokens, and a note; half the frames too if it was the vision tower that ran out."""
    spent, shown = plan.total_tokens, len(plan.frames)
    most = max(1, shown // 2) if step == "vision" else shown
    if spent <= 1:
        raise OutOfMemoryError(f"{message}; not even one frame at one token fits: {fallbacks.requirement()}", step=step)
    if fallbacks.replan is None:
        raise OutOfMemoryError(
            f"{message}; the plan that was given stays as it is: make one with --budget {spent // 2} or --memory auto",
            step=step,
        )
    try:
        less = fallbacks.replan(spent // 2, most)
    except UsageError as error:
        raise OutOfMemoryError(f"{message}; a smaller plan is not possible: {error}", step=step) from None
    if not less.frames or less.total_tokens >= spent:
        raise OutOfMemoryError(f"{message}; no smaller plan shows a frame: {fallbacks.requirement()}", step=step)
    where = "vision tower" if step == "vision" else "language model"
    return less, (
        f"memory ran out in the {where}: {less.total_tokens} tokens on {len(less.frames)} frames instead of "
        f"{spent} on {shown}"
    )


def _release() -> None:
    """Free the memory of the failed attempt."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
