"""Budgets that do not fit in a memory are left out before anything is loaded, and said to be."""

from __future__ import annotations

import pytest

from m3video.config import Settings
from m3video.errors import DoesNotFitError
from m3video.evaluation.tuning.fitting import FittingBudgets, fit_in_memory

BUDGETS = (180, 720, 7000)


def settings(memory: str | None) -> Settings:
    return Settings(model="rendered", memory=memory, device="cpu", max_frames=16)


def test_without_a_memory_all_are_kept() -> None:
    assert fit_in_memory(BUDGETS, settings(None)) == FittingBudgets(BUDGETS, settings(None))


def test_a_large_memory_drops_nothing_that_the_context_holds() -> None:
    held = fit_in_memory(BUDGETS, settings("64GiB"))
    assert held.budgets == BUDGETS
    assert held.settings.memory is None
    assert held.notes == ()
    assert held.most_visual is not None
    assert held.most_visual >= 7000


def test_a_small_memory_drops_the_large_ones_and_says_so() -> None:
    held = fit_in_memory(BUDGETS, settings("990MiB"))
    assert held.budgets == (180, 720)
    assert held.notes[0].startswith("left out, because they do not fit: --budgets 7000; ")
    assert "990 MiB" in held.notes[0]
    assert held.settings.vision_batch < settings(None).vision_batch
    assert "vision batch" in held.notes[1]
    assert held.most_visual is not None
    assert 720 <= held.most_visual < 7000


def test_nothing_fits() -> None:
    with pytest.raises(DoesNotFitError):
        fit_in_memory(BUDGETS, settings("500MiB"))
