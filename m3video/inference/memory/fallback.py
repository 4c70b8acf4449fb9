"""When memory runs out while a question is answered: a smaller vision batch, then a smaller budget, and say so."""

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
    """What sends frames through the vision tower; setting the batch takes effect at once."""

    vision_batch: int


@dataclass(frozen=True, slots=True)
class Fallbacks:
    """What can be made smaller.

    Attributes:
        tower: its batch.
        replan: (budget, most frames) -> a plan; None where the plan was given and must stay as it is.
        numbers: says what the smallest question takes and what there is.
    """

    tower: Batched
    replan: Callable[[int, int], TokenPlan] | None
    numbers: Callable[[], str]


def answer_within_memory(
    answer: Callable[[TokenPlan], T], plan: TokenPlan, ways: Fallbacks
) -> tuple[TokenPlan, T, tuple[str, ...]]:
    """Answer by `plan`, or by what of it fits.

    Out of memory in the vision tower: its batch is halved, down to one frame; then, and in the language model, budget
    and with it frames are halved by planning again.

    Args:
        answer: encodes the frames of a plan and answers.
        plan: the first to try.
        ways: what can be made smaller.

    Returns:
        The plan that went through, what `answer` returned, and a line for each thing that was made smaller.

    Raises:
        OutOfMemoryError: one frame at one token does not fit, or the plan may not change.
    """
    notes: list[str] = []
    while True:
        try:
            return plan, answer(plan), tuple(notes)
        except OutOfMemoryError as error:
            step, message = error.step, str(error)
            # What it refers to holds the arrays that filled the memory.
            error.with_traceback(None).__context__ = None
        _release()
        if step == "vision" and min(ways.tower.vision_batch, len(plan.frames)) > 1:
            was = min(ways.tower.vision_batch, len(plan.frames))
            ways.tower.vision_batch = was // 2
            notes.append(f"memory ran out in the vision tower: vision batch {was // 2} instead of {was}")
            continue
        plan, note = _smaller(plan, ways, step=step, message=message)
        notes.append(note)


def _smaller(plan: TokenPlan, ways: Fallbacks, *, step: str, message: str) -> tuple[TokenPlan, str]:
    """Half the tokens; after the vision tower, where they do not matter, half the frames too."""
    spent, shown = plan.total_tokens, len(plan.frames)
    most = max(1, shown // 2) if step == "vision" else shown
    if spent <= 1:
        raise OutOfMemoryError(f"{message}; not even one frame at one token fits: {ways.numbers()}", step=step)
    if ways.replan is None:
        raise OutOfMemoryError(
            f"{message}; the plan that was given stays as it is: make one with --budget {spent // 2} or --memory auto",
            step=step,
        )
    try:
        less = ways.replan(spent // 2, most)
    except UsageError as error:
        raise OutOfMemoryError(f"{message}; a smaller plan is not possible: {error}", step=step) from None
    if not less.frames or less.total_tokens >= spent:
        raise OutOfMemoryError(f"{message}; no smaller plan shows a frame: {ways.numbers()}", step=step)
    where = "vision tower" if step == "vision" else "language model"
    return less, (
        f"memory ran out in the {where}: {less.total_tokens} tokens on {len(less.frames)} frames instead of "
        f"{spent} on {shown}"
    )


def _release() -> None:
    """Give back what the failed attempt held."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
