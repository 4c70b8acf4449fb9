"""Which budgets can be tried: those that fit in the memory, before a model is loaded, and in its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3video.config import Settings
from m3video.errors import DoesNotFitError
from m3video.evaluation.records import Record, prompt_text
from m3video.inference.memory.fit import budget_text, fit_settings, reductions
from m3video.types import FULL_SCALE

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel


@dataclass(frozen=True, slots=True)
class FittingBudgets:
    """What is left to try.

    Attributes:
        budgets: those that fit.
        settings: without the memory, with frames and vision batch as they fit.
        most_visual: visual tokens that fit, or None where no memory is named.
        notes: what was left out or made smaller.
    """

    budgets: tuple[int, ...]
    settings: Settings
    most_visual: int | None = None
    notes: tuple[str, ...] = ()


def fit_in_memory(budgets: Sequence[int], settings: Settings) -> FittingBudgets:
    """Return the budgets that fit in `settings.memory`; all of them where it names none.

    Args:
        budgets: visual tokens for a whole video.
        settings: resolved.

    Raises:
        DoesNotFitError: none fits; with the numbers and what to change.
        UsageError: a device that is not there.
        CheckpointError: no such model.
    """
    if settings.memory is None:
        return FittingBudgets(tuple(budgets), settings)
    ceiling = max(*budgets, settings.surely_frames * FULL_SCALE)
    fitted = fit_settings(Settings(**{**settings.model_dump(exclude_unset=True), "budget": ceiling}))
    assert fitted is not None
    most = ceiling if fitted.fit.binds == "request" else fitted.settings.budget
    kept = tuple(budget for budget in budgets if budget <= most)
    dropped = ", ".join(str(budget) for budget in budgets if budget > most)
    if not kept:
        raise DoesNotFitError(f"no budget fits ({dropped}): {budget_text(fitted)}; use --budgets {most} or less")
    left_out = (f"left out, because they do not fit: --budgets {dropped}; {budget_text(fitted)}",) if dropped else ()
    smaller = {name: getattr(fitted.settings, name) for name in ("max_frames", "vision_batch")}
    lean = settings.model_copy(update={"memory": None, **smaller})
    return FittingBudgets(kept, lean, most, (*left_out, *reductions(fitted), *fitted.size.notes))


def fitting_budgets(
    budgets: Sequence[int], asked: Mapping[str, Sequence[Record]], loaded: LoadedModel, settings: Settings
) -> tuple[list[int], tuple[str, ...]]:
    """Return the budgets that the model's context holds beside the longest question, and a note when some are dropped.

    Raises:
        DoesNotFitError: none does.
    """
    left = loaded.context - longest_text(asked, loaded, settings) - settings.max_new_tokens
    kept = [budget for budget in budgets if budget <= left]
    dropped = [str(budget) for budget in budgets if budget > left]
    why = f"the context of {loaded.name} ({loaded.context}) leaves {left} visual tokens beside the longest question"
    if not kept:
        raise DoesNotFitError(f"no budget fits ({', '.join(dropped)}): {why}; use --budgets {max(1, left)} or less")
    return kept, (f"left out, because they do not fit: --budgets {', '.join(dropped)}; {why}",) if dropped else ()


def longest_text(asked: Mapping[str, Sequence[Record]], loaded: LoadedModel, settings: Settings) -> int:
    """Return the text tokens of the longest question about as many frames as may be shown."""
    from m3video.model.m3 import inputs

    texts = sorted({prompt_text(record) for records in asked.values() for record in records}, key=len)
    return max(
        inputs.text_tokens(loaded, text, num_frames=settings.surely_frames, timestamps=settings.timestamps)
        for text in texts[-8:]
    )
