"""What one run does: methods, budgets, and how questions are put."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from m3video.evaluation.methods import Method
from m3video.types import VideoInfo

Reference = Literal["shot", "nearest", "asked"]
"""How a question names its moment to the model. "shot": as the frame with most tokens in the detected shot around the
moment, else the nearest frame. "nearest": as the nearest frame. "asked": in the question's own words."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What one run does. Budgets and methods may grow from run to run in one folder, the rest may not change.

    `budgets` are visual tokens for a whole video, or for each second of it when `per_second`. `deadline` is the most
    seconds of one step, or None: the first pass over a video, or one method's answers to all questions about it.
    """

    methods: tuple[Method, ...]
    budgets: tuple[int, ...]
    max_frames: int
    per_second: bool = False
    reference: Reference = "shot"
    max_new_tokens: int = 32
    vision_batch: int = 16
    deadline: float | None = None


MethodBudget = tuple[Method, int]


def method_budgets(settings: RunSettings) -> list[MethodBudget]:
    """Return every method with every budget; a method without one counts as budget 0."""
    return [
        (method, budget)
        for method in settings.methods
        for budget in (sorted(set(settings.budgets)) if method.has_budget else (0,))
    ]


def tokens_for(budget: int, info: VideoInfo, settings: RunSettings) -> int:
    """Return the visual tokens that `budget` means for one video; 0 for methods without a budget."""
    return max(1, round(budget * info.duration_seconds)) if settings.per_second and budget else budget
