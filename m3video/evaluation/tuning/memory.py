"""Which budgets fit in a memory, told before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m3video.config import Settings
from m3video.errors import DoesNotFitError
from m3video.inference.memory.fit import budget_text, fit_settings, reductions
from m3video.types import FULL_SCALE


@dataclass(frozen=True, slots=True)
class Held:
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


def hold_in_memory(budgets: Sequence[int], settings: Settings) -> Held:
    """The budgets that fit in `settings.memory`; all of them where it names none.

    Args:
        budgets: visual tokens for a whole video.
        settings: resolved.

    Raises:
        DoesNotFitError: none fits; with the numbers and what to change.
        UsageError: a device that is not there.
        CheckpointError: no such model.
    """
    if settings.memory is None:
        return Held(tuple(budgets), settings)
    ceiling = max(*budgets, settings.max_frames * FULL_SCALE)
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
    return Held(kept, lean, most, (*left_out, *reductions(fitted), *fitted.size.notes))
