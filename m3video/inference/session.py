"""One video, many questions: decoded, encoded and read once. `ask` is a session with one question.

    path -> stats -> plan -> grids of its frames -> tokens -> prefix -> answers

Each station is kept: the first pass and the grids in memory and in the cache folder, what the language model has read
of the latest plan in memory. So another question costs only its own words, and another plan or budget neither video
decode nor vision tower for frames that were looked at before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from m3video.config import PLAN_SETTINGS, Settings
from m3video.errors import DoesNotFitError, OutOfMemoryError, PlanError, UsageError
from m3video.inference.features import FrameGrids
from m3video.inference.image_grid import ask_grid, check_options
from m3video.inference.memory.fallback import Fallbacks, answer_within_memory
from m3video.inference.memory.fit import budget_text, fit_settings, least_text
from m3video.inference.pipeline import (
    PlanDetails,
    analyze_once,
    bundled_note,
    cache_of,
    evidence,
    planned_frames,
    study_reader,
)
from m3video.inference.pipeline import open_for as open_reader
from m3video.inference.saliency import Shares, focus_on, named_pins
from m3video.model.m3.model_paths import find_model
from m3video.planning.plan_file import check_matches, for_video
from m3video.types import Answer, Focus, FrameStats, TokenPlan
from m3video.utils.progress import Meter, Progress, silent
from m3video.utils.text import check_text

if TYPE_CHECKING:
    from torch import Tensor

    from m3video.model.m3.answer import GeneratedAnswer
    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.model.m3.pooling import VisualTokens
    from m3video.model.m3.prefix import Prefix
    from m3video.model.m3.saliency import CoarseAttention, Look

Smaller = Callable[[int, int], TokenPlan]
"""(budget, most frames) -> a plan made as another one was, within less memory."""


class VideoSession:
    """An open video, and all that was found out about it. A context manager.

    Attributes:
        path: the file.
        settings: those of the first plan; `plan` may change some.
        info: what the file says.
    """

    def __init__(
        self, path: str | Path, settings: Settings, *, loaded: LoadedModel | None = None, progress: Progress = silent
    ) -> None:
        """Open the video; nothing is decoded and no model loaded yet.

        Args:
            path: a local video file.
            settings: resolved settings.
            loaded: a model that is already in memory; else `settings.model` is loaded when it is needed.
            progress: draws bars.

        Raises:
            VideoError: the file is no readable video.
        """
        fitted = fit_settings(settings)
        settings = settings if fitted is None else fitted.settings
        self.path, self.settings = path, settings
        self._fitted = fitted
        self._loaded, self._progress = loaded, progress
        self._meter = Meter()
        self._cache = cache_of(settings)
        with self._meter.stage("probe"):
            self._reader = open_reader(path, settings)
        self.info = self._reader.info
        self._stats: FrameStats | None = None
        self._has_scanned = False  # since the last answer
        self._studies: dict[str, PlanDetails] = {}
        self._grids = self._no_grids()
        self._prefix: tuple[tuple[Any, ...], Prefix] | None = None
        self._glance: tuple[tuple[Any, ...], CoarseAttention] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder, and bring the cache folder back to its limit."""
        self._reader.close()
        if self._cache is not None:
            self._cache.settle()

    @property
    def loaded(self) -> LoadedModel:
        """The model, loaded when it is first wanted."""
        self.check_model()
        from m3video.model.m3 import checkpoint

        if self._loaded is None:
            settings = self.settings
            with self._meter.stage("load model"), self._progress("load model", None):
                self._loaded = checkpoint.load_for(settings)
        return self._loaded

    def check_model(self) -> None:
        """Refuse a model that cannot be loaded, within a moment: neither torch nor its weights are, only its config.

        Raises:
            CheckpointError: no such model, a part of one, or a config against its rules.
        """
        if self._loaded is None:
            find_model(self.settings.model, vision_tower=self.settings.vision_tower)

    def stats(self) -> FrameStats:
        """The first pass over the video, made once."""
        if self._stats is None:
            self._stats, is_cached = analyze_once(
                self._reader, scan=self.settings.scan, cache=self._cache, progress=self._progress
            )
            self._has_scanned |= not is_cached
            if self._reader.damage.is_partial:
                # Those were fetched before the damage was known.
                self._grids, self._prefix, self._glance = self._no_grids(), None, None
        return self._stats

    def study(self, **changes: Any) -> PlanDetails:
        """A plan with its candidates and what it was decided from.

        Args:
            changes: settings of `PLAN_SETTINGS` that differ from the session's, e.g. `budget=180`; not `scan`.

        Raises:
            UsageError: settings that contradict each other or ask for frames that do not exist.
            DoesNotFitError: a larger budget than the session's that the memory it was given does not hold.
        """
        settings = self._changed(changes)
        key = settings.model_dump_json()
        if key not in self._studies:
            self._studies[key] = self._study(settings)
        return self._studies[key]

    def plan(self, **changes: Any) -> TokenPlan:
        """The plan for the session's settings with `changes`."""
        return self.study(**changes).plan

    def _study(self, settings: Settings, focus: Focus | None = None, share_N: Shares | None = None) -> PlanDetails:
        with self._meter.stage("plan"):
            return study_reader(
                self._reader, settings, stats=self.stats(), focus=focus, share_N=share_N, progress=self._progress
            )

    def _changed(self, changes: Mapping[str, Any]) -> Settings:
        """The session's settings with changes; what fits the memory was told for the session's budget only."""
        if not set(changes) <= {*PLAN_SETTINGS} - {"scan", "layout"}:
            raise ValueError(f"{', '.join(changes)}: a session's plans may differ in {', '.join(PLAN_SETTINGS)} only")
        settings = Settings(**{**self.settings.model_dump(exclude_unset=True), **changes})
        if self._fitted is None or settings.budget <= self.settings.budget:
            return settings
        wanted = {**self._fitted.wanted.model_dump(exclude_unset=True), "memory": self.settings.memory, **changes}
        fitted = fit_settings(Settings(**wanted))
        assert fitted is not None
        if fitted.fit.binds != "wish" and fitted.settings.budget < settings.budget:
            raise DoesNotFitError(f"budget ({settings.budget}) is more than fits: {budget_text(fitted)}")
        return settings.model_copy(update={"max_frames": fitted.settings.max_frames})

    def plan_for(self, question: str, **changes: Any) -> TokenPlan:
        """The plan for one question, as the setting `saliency` says; `changes` as for `study`.

        A question about the whole video gets the plan that `plan` gives, less what a first look has cost; so does every
        question where memory runs out at the first look, and a warning says so.

        Raises:
            DoesNotFitError: the candidates' coarse tokens exceed the context.
        """
        return self._plan_for(question, changes)[0]

    def _plan_for(self, question: str, changes: Mapping[str, Any]) -> tuple[TokenPlan, Smaller]:
        """That plan, and how it is made again within less memory."""
        measure = self.settings.saliency
        if measure == "off":
            study = self.study(**changes)
            return study.plan, partial(self._again, study, None, None)
        notes: list[str] = []
        study = self._study_of_moments(question, changes, notes)
        try:
            found = focus_on(
                question, study, measure=measure, look=lambda scales: self._look(question, study, scales, notes)
            )
        except OutOfMemoryError:
            self._glance = found = None
            notes.append("memory ran out at the first look: the frames were chosen without the question")
        study = self.study(**changes) if found is None else self._study(study.settings, *found)
        plan = replace(study.plan, warnings=(*notes, *study.plan.warnings))
        return plan, partial(self._again, study, *(found or (None, None)))

    def _study_of_moments(self, question: str, changes: Mapping[str, Any], notes: list[str]) -> PlanDetails:
        """The candidates for a question, with frames of the moments that it names, or a line in `notes`."""
        pins = named_pins(question, self.stats(), self._changed(changes))
        if pins:
            try:
                return self.study(**{**changes, **pins})
            except UsageError:  # of the user's own wishes it is raised again without them
                study = self.study(**changes)
                notes.append("the frames and tokens that may be shown are too few for all moments that are named")
                return study
        return self.study(**changes)

    def _again(
        self, study: PlanDetails, focus: Focus | None, share_N: Shares | None, budget: int, max_frames: int
    ) -> TokenPlan:
        """The plan of `study` within less memory; nothing of the larger one is held any more."""
        self._prefix = self._glance = None
        less = {"budget": budget + (0 if focus is None else focus.first_tokens)}
        if share_N is None:  # shares are those of the candidates, which therefore stay
            less["max_frames"] = min(max_frames, study.settings.max_frames)
        settings = Settings(**{**study.settings.model_dump(exclude_unset=True), **less})
        return self._study(settings, focus, share_N).plan

    def _look(self, question: str, study: PlanDetails, scales: Sequence[int], notes: list[str]) -> Look:
        """Where the question makes the model look among the candidates at these scales; `notes` grows."""
        from m3video.model.m3.saliency import CoarseAttention
        from m3video.model.out_of_memory import within_memory

        def look(plan: TokenPlan) -> Look:
            shown = tuple((frame.pts, frame.scale) for frame in plan.frames)
            if self._glance is None or self._glance[0] != shown:
                self._glance = None
                with within_memory("the first look", "use --saliency off", step="vision"):
                    visual, _ = self.tokens(plan)
                self._glance = (
                    shown,
                    CoarseAttention(
                        self.loaded, visual, times_seconds=self._times(plan), timestamps=self.settings.timestamps
                    ),
                )
            room = within_memory("the first look", "use --saliency off", step="answer")
            with self._meter.stage("first look"), self._progress("first look", None), room:
                return self._glance[1].look(question)

        ways = Fallbacks(self._grids, None, lambda: least_text(self.settings))
        _, found, told = answer_within_memory(look, self.plan_with(study, scales), ways)
        notes += told
        return found

    def plan_with(self, study: PlanDetails, scales: Sequence[int], *, budget: int | None = None) -> TokenPlan:
        """The plan that shows the candidates of `study` at scales of the caller's choice.

        Args:
            study: whose candidates.
            scales: one of 0, 1, 9, 36, 144, 576 for each candidate.
            budget: what the plan says was to be spent; by default what it spends.
        """
        frames = planned_frames(study.selection, scales)
        return replace(
            study.plan,
            frames=frames,
            budget=sum(frame.scale for frame in frames) if budget is None else budget,
            utility=0.0,
            bound=0.0,
            method="",
        )

    def check(self, plan: TokenPlan, question: str = "?") -> None:
        """Refuse a plan that is not for this video, or does not fit this model's context; nothing is decoded.

        Raises:
            PlanError: `plan` was made for another video, or shows no frame.
            DoesNotFitError: frames, question and the longest answer exceed the context.
        """
        from m3video.model.m3 import inputs

        check_matches(plan, self.info)
        if not plan.frames:
            raise PlanError(f"the plan shows no frame of {self.info.path}: give it a larger budget")
        inputs.check_fits(
            self.loaded,
            scales=[frame.scale for frame in plan.frames],
            question=question,
            timestamps=self.settings.timestamps,
            times_seconds=self._times(plan),
            max_new_tokens=self.settings.max_new_tokens,
        )

    def grids(self, pts: Sequence[int]) -> Iterator[Tensor]:
        """Projected 24x24 grids of frames, decoded and encoded only where they are not kept yet.

        Args:
            pts: of the frames, increasing; e.g. `study.selection.pts_N` for all candidates.

        Yields:
            [576, D] on the model's device for each, in order; of all of them no more is held than the session keeps.

        Raises:
            VideoError: a frame cannot be decoded.
        """
        for grid, _ in self._grids.each(pts, self.loaded, self._meter):
            yield grid

    def tokens(self, plan: TokenPlan) -> tuple[VisualTokens, int]:
        """The planned frames pooled to their scales and packed, and how many of them came from the cache."""
        from m3video.model.m3 import pooling

        scales, pts = [frame.scale for frame in plan.frames], [frame.pts for frame in plan.frames]
        blocks, cached = [], 0
        for scale, (grid, was_kept) in zip(scales, self._grids.each(pts, self.loaded, self._meter), strict=True):
            # A copy: at 576 tokens pooling returns the grid, a view of all grids that were made with it.
            blocks.append(pooling.pool(grid[None], scale)[0].clone())
            cached += was_kept
        return pooling.pack_tokens(blocks, scales), cached

    def ask(
        self, question: str, *, plan: TokenPlan | None = None, options: Sequence[str] = (), **changes: Any
    ) -> Answer:
        """Answer one question as if it were the only one.

        Args:
            question: in the words a person would use.
            plan: show exactly these frames instead of planning, or fail where they do not fit in the memory.
            options: the answers to choose from (image grid only).
            changes: settings of the plan that is made, as for `study`.

        Returns:
            The answer with its evidence, plan, and what each stage cost since the last answer; `visual_tokens` are
            those of a first look and those of the answer together.

        Raises:
            VideoError: a planned frame cannot be decoded.
            PlanError: `plan` was made for another video, or shows no frame.
            DoesNotFitError: prompt, visual tokens and answer exceed the model's context; raised before the model runs.
        """
        settings = self.settings
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
        self.check_model()  # before the video is looked at
        unused: tuple[str, ...] = ()
        looked = 0
        smaller: tuple[str, ...] = ()
        replan: Smaller | None = None
        if plan is not None:
            plan = for_video(plan, self.info)
            is_of_here = any(study.plan.config == plan.config for study in self._studies.values())
            unused = () if is_of_here else _decided_already(plan, settings)
        elif settings.layout == "frames":
            plan, replan = self._plan_for(question, changes)
            looked = plan.first_tokens
        loaded, cached = self.loaded, 0
        if plan is None:
            plan, said = ask_grid(self._reader, question, settings, options, loaded, self._meter, self._progress)
        else:
            self.check(plan, question)
            ways = Fallbacks(self._grids, replan, lambda: least_text(settings))
            plan, (said, cached), smaller = answer_within_memory(partial(self._answer, question), plan, ways)
            plan = replace(plan, text_tokens=self._text_tokens(plan))
        meter, self._meter = self._meter, Meter()
        fit_notes = () if self._fitted is None else self._fitted.notes
        is_scan_cached, self._has_scanned = self._stats is not None and not self._has_scanned, False
        return Answer(
            question=question,
            text=said.text,
            evidence=evidence(plan),
            model=loaded.name,
            visual_tokens=looked + said.visual_tokens,
            prompt_tokens=said.prompt_tokens,
            answer_tokens=said.answer_tokens,
            stage_seconds=meter.stage_seconds,
            peak_memory_bytes=meter.peak_memory_bytes,
            plan=plan,
            config=settings.model_dump(),
            warnings=(
                *fit_notes,
                *smaller,
                *plan.warnings,
                *unused,
                *loaded.warnings,
                *bundled_note(loaded, self.path),
                *said.warnings,
                *self._take_notes(),
            ),
            cached_frames=cached,
            is_scan_cached=is_scan_cached,
            reused_tokens=said.reused_tokens,
        )

    def _answer(self, question: str, plan: TokenPlan) -> tuple[GeneratedAnswer, int]:
        """fetch -> encode -> answer: the planned frames one after the other, each at its own scale."""
        from m3video.model.m3.prefix import Prefix
        from m3video.model.out_of_memory import within_memory

        shown = (plan.shots, *((frame.pts, frame.scale) for frame in plan.frames))
        cached = len(plan.frames)
        if self._prefix is None or self._prefix[0] != shown:
            self._prefix = None  # one KV cache at a time
            with within_memory(f"the visual tokens of {cached} frames", "show fewer frames", step="vision"):
                visual, cached = self.tokens(plan)
            self._prefix = (
                shown,
                Prefix(
                    self.loaded,
                    visual,
                    times_seconds=self._times(plan),
                    shots_seconds=plan.shots_seconds,
                    timestamps=self.settings.timestamps,
                ),
            )
        room = within_memory(f"a plan of {plan.total_tokens} tokens", "use a smaller --budget", step="answer")
        with self._meter.stage("answer"), self._progress("answer", None), room:
            return self._prefix[1].answer(question, max_new_tokens=self.settings.max_new_tokens), cached

    def _text_tokens(self, plan: TokenPlan) -> int:
        """Positions around the frames, for the model that is asked."""
        from m3video.model.m3 import inputs

        times = self._times(plan)
        return inputs.text_tokens(
            self.loaded, "", num_frames=len(times), times_seconds=times, timestamps=self.settings.timestamps
        )

    def _times(self, plan: TokenPlan) -> list[float]:
        return [self.info.pts_seconds(frame.pts) for frame in plan.frames]

    def _no_grids(self) -> FrameGrids:
        return FrameGrids(self._reader, self.settings, self._cache, self._progress)

    def _take_notes(self) -> tuple[str, ...]:
        """What went wrong with keeping things, told once."""
        told = []
        if self._cache is not None:
            self._cache.settle()
        for notes in (self._grids.notes, [] if self._cache is None else self._cache.notes):
            told += notes
            notes.clear()
        return tuple(told)


def ask(
    path: str | Path,
    question: str,
    settings: Settings,
    *,
    plan: TokenPlan | None = None,
    options: Sequence[str] = (),
    loaded: LoadedModel | None = None,
    progress: Progress = silent,
) -> Answer:
    """probe -> ... -> answer for one file and one question; arguments and errors as for `VideoSession`."""
    with VideoSession(path, settings, loaded=loaded, progress=progress) as session:
        return session.ask(question, plan=plan, options=options)


def _decided_already(plan: TokenPlan, settings: Settings) -> tuple[str, ...]:
    """A line when settings, wherever they were given, ask for another plan than the one that is shown."""
    given = [
        name
        for name in PLAN_SETTINGS
        if name in settings.model_fields_set and getattr(settings, name) != plan.config.get(name)
    ]
    if not given:
        return ()
    values = ", ".join(f"{name} ({getattr(settings, name)})" for name in given)
    return (f"the plan was made before: {values} of the settings {'is' if len(given) == 1 else 'are'} not used",)
