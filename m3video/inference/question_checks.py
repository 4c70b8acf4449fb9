"""What a question is refused for, and what a plan that was made before leaves unused."""

from __future__ import annotations

from collections.abc import Sequence

from m3video.config import PLAN_SETTINGS, Settings
from m3video.errors import UsageError
from m3video.inference.confidence import refuse_abstain
from m3video.inference.image_grid import check_options
from m3video.types import TokenPlan
from m3video.utils.text import check_text


def check_question(question: str, plan: TokenPlan | None, options: Sequence[str], settings: Settings) -> None:
    """Refuse an empty question, text that is no UTF-8, options where no image grid is shown, and a confidence to ask
    for where there is none."""
    if not question.strip():
        raise UsageError("the question is empty: give one in quotes")
    for text, what in ((question, "question"), *((option, "--option") for option in options)):
        check_text(text, what)
    if options and plan is not None:
        raise UsageError("--option belongs to the image grid, which shows no plan: leave out --option or --plan")
    if options and settings.layout != "grid":
        raise UsageError("--option belongs to --layout grid: give both, or write the options into the question")
    if options:
        check_options(options)
    refuse_abstain(settings)


def unused_settings(plan: TokenPlan, settings: Settings) -> tuple[str, ...]:
    """Return a note where settings, wherever they were given, ask for another plan than the one that is shown."""
    given = [
        name
        for name in PLAN_SETTINGS
        if name in settings.model_fields_set and getattr(settings, name) != plan.config.get(name)
    ]
    if not given:
        return ()
    values = ", ".join(f"{name} ({getattr(settings, name)})" for name in given)
    return (f"the plan was made before: {values} of the settings {'is' if len(given) == 1 else 'are'} not used",)
