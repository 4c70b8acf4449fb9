"""The plans of one open video: scanned once, then planned under many settings, with or without a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from m3video.config import PLAN_SETTINGS, Settings, changed_settings
from m3video.errors import DoesNotFitError, OutOfMemoryError, UsageError
from m3video.inference.decision import PlanDetails, with_scales
from m3video.inference.first_pass import Wish, analyze_once, resolved, sees_closely
from m3video.inference.memory.fit import budget_text, fit_settings
from m3video.inference.opened_video import OpenedVideo
from m3video.inference.pipeline import plan_details
from m3video.inference.saliency import Shares, focus_on, named_pins
from m3video.types import Focus, FrameStats, TokenPlan

if TYPE_CHECKING:
    from m3video.model.m3.saliency import QuestionAttention

Attend = Callable[[str, TokenPlan], "tuple[QuestionAttention, tuple[str, ...]]"]
"""(question, plan) -> where the question makes the model attend among the planned frames, and notes."""

Replan = Callable[[int, int], TokenPlan]
"""(budget, most frames) -> the same plan made again, within less memory."""


class Planner:
    """Plans of one open video. The scan is made once, and so is the plan under each settings."""

    def __init__(self, video: OpenedVideo, *, on_damage: Callable[[], None]) -> None:
        """Nothing is decoded yet.

        Args:
            video: the open video.
            on_damage: called when the scan has found damage; frames fetched before may look different now.
        """
        self._video, self._on_damage = video, on_damage
        self._stats: dict[Wish, FrameStats] = {}
        self._closer: dict[Wish, FrameStats] = {}
        self._has_scanned = False  # since the last answer
        self._details: dict[str, PlanDetails] = {}

    def stats(self, settings: Settings | None = None) -> FrameStats:
        """Return the stats of the first pass for the video's settings or others, made once for each wish."""
        video = self._video
        wish = resolved(video.reader, Wish.of(settings or video.settings))
        closer = self._closer.get(replace(wish, at=()))
        if closer is not None and sees_closely(closer, wish):
            return closer
        if wish not in self._stats:
            self._stats[wish], is_cached = analyze_once(video.reader, wish, cache=video.cache, progress=video.progress)
            self._has_scanned |= not is_cached
            if video.reader.damage.is_partial:
                self._on_damage()
        return self._stats[wish]

    def wish(self) -> Wish:
        """Return what the first pass for the video's settings is asked to see."""
        return resolved(self._video.reader, Wish.of(self._video.settings))

    def adopt(self, wish: Wish, stats: FrameStats) -> None:
        """Plan with the stats of a closer look from now on."""
        self._closer[replace(wish, at=())] = stats
        self._details.clear()

    def take_is_scan_cached(self) -> bool:
        """Return whether the stats were needed and no pass was made for them since the last call."""
        is_cached, self._has_scanned = bool(self._stats) and not self._has_scanned, False
        return is_cached

    def details(self, **changes: Any) -> PlanDetails:
        """Plan under the video's settings with `changes`, once for each settings."""
        settings = self._changed(changes)
        key = settings.model_dump_json()
        if key not in self._details:
            self._details[key] = self._plan(settings)
        return self._details[key]

    def has_made(self, plan: TokenPlan) -> bool:
        """Return whether `plan` comes from settings that were planned here."""
        return any(details.plan.config == plan.config for details in self._details.values())

    def plan_for(self, question: str, changes: Mapping[str, Any], attend: Attend) -> tuple[TokenPlan, Replan]:
        """Plan for one question, as the setting `saliency` says.

        Args:
            question: the user's words.
            changes: of the video's settings.
            attend: the coarse attention pass; called where the question names no time.

        Returns:
            The plan, and a function that makes it again within less memory.
        """
        measure = self._video.settings.saliency
        if measure == "off":
            details = self.details(**changes)
            return details.plan, partial(self._replan, details, None, None)
        notes: list[str] = []
        details = self._details_with_named_moments(question, changes, notes)

        def attend_at(scales: list[int]) -> QuestionAttention:
            found, reductions = attend(question, with_scales(details, scales))
            notes.extend(reductions)
            return found

        try:
            found = focus_on(question, details, measure=measure, attend=attend_at)
        except OutOfMemoryError:
            found = None
            notes.append("memory ran out in the coarse attention pass: the frames were chosen without the question")
        final = self.details(**changes) if found is None else self._plan(details.settings, *found)
        plan = replace(final.plan, warnings=(*notes, *final.plan.warnings))
        return plan, partial(self._replan, final, *(found or (None, None)))

    def _details_with_named_moments(self, question: str, changes: Mapping[str, Any], notes: list[str]) -> PlanDetails:
        """Plan with a candidate at each moment that the question names, or without them and with a line in `notes`."""
        pins = named_pins(question, self._video.info, self._changed(changes))
        if pins:
            try:
                return self.details(**{**changes, **pins})
            except UsageError:  # raised again below where the user's own settings are the cause
                details = self.details(**changes)
                notes.append("the frames and tokens that may be shown are too few for all moments that are named")
                return details
        return self.details(**changes)

    def _replan(
        self, details: PlanDetails, focus: Focus | None, share_N: Shares | None, budget: int, max_frames: int
    ) -> TokenPlan:
        """Make the plan of `details` again within a smaller budget and, where that is possible, with fewer frames."""
        less = {"budget": budget + (0 if focus is None else focus.first_tokens)}
        if share_N is None:  # shares belong to these very candidates, which therefore stay
            less["max_frames"] = min(max_frames, details.settings.surely_frames)
        settings = Settings(**{**details.settings.model_dump(exclude_unset=True), **less})
        return self._plan(settings, focus, share_N).plan

    def _plan(self, settings: Settings, focus: Focus | None = None, share_N: Shares | None = None) -> PlanDetails:
        video = self._video
        with video.meter.stage("plan"):
            return plan_details(
                video.reader,
                settings,
                stats=self.stats(settings),
                focus=focus,
                share_N=share_N,
                progress=video.progress,
            )

    def _changed(self, changes: Mapping[str, Any]) -> Settings:
        """Return the video's settings with changes, within the memory they name.

        What fits was found for the video's own budget; a larger one is fitted again.
        """
        if not set(changes) <= {*PLAN_SETTINGS} - {"scan", "layout"}:
            raise ValueError(f"{', '.join(changes)}: a session's plans may differ in {', '.join(PLAN_SETTINGS)} only")
        base, first = self._video.settings, self._video.fitted
        settings = changed_settings(base, changes)
        if first is None or settings.budget <= base.budget:
            return settings
        fitted = fit_settings(changed_settings(first.wanted, {"memory": base.memory, **changes}))
        assert fitted is not None
        if fitted.fit.binds != "request" and fitted.settings.budget < settings.budget:
            raise DoesNotFitError(f"budget ({settings.budget}) is more than fits: {budget_text(fitted)}")
        return settings.model_copy(update={"max_frames": fitted.settings.max_frames})
