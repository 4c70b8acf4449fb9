"""One video, many questions: scanned, decoded, encoded and read once. `ask` is a session with one question.

    path -> stats -> plan -> grids of its frames -> tokens -> prefix -> answers
            '-- planner --'  '------------- answerer -------------------'

Every intermediate result is cached: stats and grids in memory and in the cache folder, the prefix of the latest plan in
memory. So another question costs only its own words, and another plan or budget decodes and encodes only new frames.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from m3video.config import Settings, changed_settings
from m3video.errors import DoesNotFitError, OutOfMemoryError, UsageError
from m3video.inference.answerer import Answerer
from m3video.inference.closer_look import CloserLook
from m3video.inference.confidence import with_confidence
from m3video.inference.decision import PlanDetails, with_scales
from m3video.inference.evidence import evidence_of, rendered_note
from m3video.inference.opened_video import OpenedVideo, OpenReader
from m3video.inference.pipeline import open_for
from m3video.inference.planner import Planner, Replan
from m3video.inference.question_checks import check_question, unused_settings
from m3video.model.m3.default_model import with_model
from m3video.planning.plan_file import for_video
from m3video.types import Answer, Frame, FrameStats, TokenPlan
from m3video.utils.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from m3video.model.m3.answer import GeneratedAnswer
    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.model.m3.pooling import VisualTokens
    from m3video.model.m3.prefix import OnText


class VideoSession:
    """An open video that any number of questions can be asked about. A context manager.

    Attributes:
        path: the file.
        settings: those of the first plan; `plan` and `ask` may change some.
        info: what the file says.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Settings | None = None,
        *,
        loaded: LoadedModel | None = None,
        keeps_looking: bool = True,
        open_reader: OpenReader = open_for,
        progress: Progress = silent,
        **changes: Any,
    ) -> None:
        """Open the video; nothing is decoded and no model loaded yet.

        Args:
            path: a local video file.
            settings: resolved settings, by default those of `Settings()`.
            loaded: a model that is already in memory; else `settings.model` is loaded when it is needed.
            keeps_looking: look at a long video more closely after the first answer, in the background; see `refresh`.
            open_reader: opens the file; a server has it read by another process.
            progress: draws bars.
            changes: settings by keyword, e.g. `budget=720`; they override those of `settings`.

        Raises:
            VideoError: the file is no readable video.
            UsageError: wrong settings.
            CheckpointError: no model is named, and what the environment names as the base of `small` is none.
            DoesNotFitError: nothing fits in the memory that the settings name.
        """
        settings, self._decided = with_model(
            changed_settings(settings, changes), loaded=None if loaded is None else loaded.name
        )
        self._video = OpenedVideo.open(path, settings, progress=progress, open_reader=open_reader)
        self.path, self.settings, self.info = path, self._video.settings, self._video.info
        self._meter = self._video.meter
        self._answerer = Answerer(self._video, loaded)
        # Frames that were fetched before the damage was known may look different now.
        self._planner = Planner(self._video, on_damage=self._answerer.drop_frames)
        self._keeps_looking = keeps_looking
        self._closer: CloserLook | None = None
        self._has_refreshed = False
        self._latest: Answer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder, end a closer look, and bring the cache folder back to its limit."""
        if self._closer is not None:
            self._closer.cancel()
        self._video.close()

    @property
    def loaded(self) -> LoadedModel:
        """The model, loaded at first use."""
        return self._answerer.loaded

    @property
    def num_bytes(self) -> int:
        """Bytes that are kept in memory for further questions, without the model."""
        return self._answerer.num_bytes

    def check_model(self) -> None:
        """Refuse a model that cannot be loaded, by its config only: neither torch nor the weights are loaded.

        Raises:
            CheckpointError: the model does not exist, lacks a part, or has a config against its rules.
        """
        self._answerer.check_model()

    def stats(self) -> FrameStats:
        """Return the stats of the first pass over the video, made once."""
        return self._planner.stats()

    def frame_at(self, seconds: float) -> Frame:
        """Return the frame on screen at a time, seconds as of `info.pts_seconds`; raise VideoError as `grids` does."""
        return self._video.frame_at(seconds)

    def refresh(self, *, wait: bool = False) -> bool:
        """Plan with what a closer look has found since the first answer, from the next question on.

        Until then the same frames are shown, so that the model need not read them again for each question.

        Args:
            wait: for the look to end.

        Returns:
            Whether something new is known. False also while the look goes on.
        """
        closer = self._closer
        if closer is None:
            return False
        if wait:
            closer.wait()
        if closer.stats is None or self._has_refreshed:
            return False
        self._planner.adopt(self._planner.wish(), closer.stats)
        self._has_refreshed = True
        return True

    def plan_details(self, **changes: Any) -> PlanDetails:
        """Return a plan with its candidates and all that it was decided from.

        Args:
            changes: settings of `PLAN_SETTINGS` that differ from the session's, e.g. `budget=180`; not `scan`.

        Raises:
            UsageError: settings that contradict each other or ask for frames that do not exist.
            DoesNotFitError: a larger budget than the session's that the memory it was given does not hold.
        """
        return self._planner.details(**changes)

    def plan(self, **changes: Any) -> TokenPlan:
        """Return the plan for the session's settings with `changes`, as for `plan_details`."""
        return self.plan_details(**changes).plan

    def plan_for(self, question: str, **changes: Any) -> TokenPlan:
        """Return the plan for one question, as the setting `saliency` says; `changes` as for `plan_details`.

        A question about the whole video gets the plan of `plan`, less what a coarse attention pass has cost. So does
        every question for which that pass runs out of memory, with a warning.

        Raises:
            DoesNotFitError: the candidates' coarse tokens exceed the context.
        """
        return self._planner.plan_for(question, changes, self._answerer.attend)[0]

    def plan_with(self, details: PlanDetails, scales: Sequence[int], *, budget: int | None = None) -> TokenPlan:
        """Return the plan that shows the candidates of `details` at scales of the caller's choice.

        Args:
            details: whose candidates.
            scales: one of 0, 1, 9, 36, 144, 576 for each candidate.
            budget: what the plan names as its budget; by default the tokens it spends.
        """
        return with_scales(details, scales, budget=budget)

    def check(self, plan: TokenPlan, question: str = "?") -> None:
        """Refuse a plan that is not for this video, or does not fit this model's context; nothing is decoded.

        Raises:
            PlanError: `plan` was made for another video, or shows no frame.
            DoesNotFitError: frames, question and the longest answer exceed the context.
        """
        self._answerer.check(plan, question)

    def grids(self, pts: Sequence[int]) -> Iterator[Tensor]:
        """Yield projected 24x24 grids of frames, decoded and encoded only where they are not cached.

        Args:
            pts: of the frames, increasing; e.g. `plan_details().selection.pts_N` for all candidates.

        Yields:
            [576, D] on the model's device for each, in order; no more of them stay in memory than are cached.

        Raises:
            VideoError: a frame cannot be decoded.
        """
        return self._answerer.grids(pts)

    def tokens(self, plan: TokenPlan) -> tuple[VisualTokens, int]:
        """Return the planned frames pooled to their scales and packed, and how many of them came from the cache."""
        return self._answerer.tokens(plan)

    def ask(
        self,
        question: str,
        *,
        plan: TokenPlan | None = None,
        options: Sequence[str] = (),
        evidence: bool = True,
        max_new_tokens: int | None = None,
        on_text: OnText | None = None,
        schema: str | None = None,
        **changes: Any,
    ) -> Answer:
        """Answer one question as if it were the only one.

        Args:
            question: in plain words.
            plan: show exactly these frames instead of planning, or fail where they do not fit in the memory.
            options: the answers to choose from (image grid only).
            evidence: test what the answer rests on; False leaves that out, or to `with_evidence`.
            max_new_tokens: longest answer; None for that of the settings (not for an image grid).
            on_text: called with the text so far after each token; returns whether the answer goes on, and what it
                raises ends the work (not for an image grid).
            schema: a JSON schema that the answer obeys; None for that of the settings (not for an image grid).
            changes: settings of the plan that is made, as for `plan_details`.

        Returns:
            The answer with its evidence, plan, and what each stage cost since the last answer; `visual_tokens` are
            those of a coarse attention pass and those of the answer together.

        Raises:
            VideoError: a planned frame cannot be decoded.
            PlanError: `plan` was made for another video, or shows no frame.
            UsageError: an empty question, or options without an image grid.
            DoesNotFitError: prompt, visual tokens and answer exceed the model's context; raised before the model runs.
        """
        check_question(question, plan, options, self.settings)
        self.check_model()  # before the video is decoded
        unused: tuple[str, ...] = ()
        replan: Replan | None = None
        coarse_tokens = 0
        if plan is not None:
            plan = for_video(plan, self.info)
            unused = () if self._planner.has_made(plan) else unused_settings(plan, self.settings)
        elif self.settings.layout == "frames":
            plan, replan = self._planner.plan_for(question, changes, self._answerer.attend)
            coarse_tokens = plan.first_tokens
        reductions: tuple[str, ...] = ()
        cached_frames = 0
        if plan is None:
            plan, generated = self._answerer.answer_grid(question, options)
        else:
            plan, generated, cached_frames, reductions = self._answerer.answer(
                question, plan, replan, max_new_tokens=max_new_tokens, on_text=on_text, schema=schema
            )
        warnings = (*reductions, *plan.warnings, *unused, *self._closer_notes())
        answer = self._to_answer(
            question, plan, generated, coarse_tokens=coarse_tokens, cached_frames=cached_frames, warnings=warnings
        )
        self._latest = answer
        if self._keeps_looking and self._closer is None and plan.scan == "auto":
            self._closer = CloserLook(self.path, self._planner.wish(), self.settings, self._video.cache)
        return self.with_evidence(answer) if evidence else answer

    def with_evidence(self, answer: Answer) -> Answer:
        """Test what the latest answer of this session rests on: some of its frames are left out, and it is read again.

        The answer and the prompt that is kept for further questions stay as they are.

        Returns:
            The answer with its evidence, or with a warning that says why there is none; a withheld answer as it is.

        Raises:
            UsageError: another question was asked since.
        """
        if answer is not self._latest:
            raise UsageError("evidence can be tested of the latest answer only: ask again")
        if answer.withheld is not None:
            return answer
        if answer.plan.grid_tokens is not None:
            return replace(answer, warnings=(*answer.warnings, "no evidence: an image grid is one picture"))
        start = time.perf_counter()
        why = "this model's prompt or KV cache, or a JSON schema, does not allow frames to be left out"
        try:
            support = self._answerer.support(answer.plan)
        except OutOfMemoryError:
            support, why = None, "memory ran out while frames were left out"
        except DoesNotFitError as error:
            support, why = None, str(error)
        if support is None:
            return replace(answer, warnings=(*answer.warnings, f"no evidence: {why}"))
        found = evidence_of(support, answer.plan, seconds=time.perf_counter() - start)
        measured = self._meter.take()
        return replace(
            answer,
            evidence=found,
            stage_seconds={**answer.stage_seconds, **measured.stage_seconds},
            peak_memory_bytes={**answer.peak_memory_bytes, **measured.peak_memory_bytes},
        )

    def _closer_notes(self) -> tuple[str, ...]:
        """Return a note where a closer look has found something that is not used yet, or failed."""
        return () if self._closer is None or self._has_refreshed else self._closer.notes()

    def _to_answer(
        self,
        question: str,
        plan: TokenPlan,
        generated: GeneratedAnswer,
        *,
        coarse_tokens: int,
        cached_frames: int,
        warnings: Sequence[str],
    ) -> Answer:
        """Put together an answer and what it cost since the last one."""
        measured, loaded, fitted = self._meter.take(), self.loaded, self._video.fitted
        answer = Answer(
            question=question,
            text=generated.text,
            evidence=None,
            model=loaded.name,
            visual_tokens=coarse_tokens + generated.visual_tokens,
            prompt_tokens=generated.prompt_tokens,
            answer_tokens=generated.answer_tokens,
            stage_seconds=measured.stage_seconds,
            peak_memory_bytes=measured.peak_memory_bytes,
            plan=plan,
            config=self.settings.model_dump(),
            warnings=tuple(
                dict.fromkeys(
                    (
                        *(() if fitted is None else fitted.notes),
                        *warnings,
                        *self._decided.notes,
                        *loaded.warnings,
                        *(() if self._decided.is_fallback else rendered_note(loaded, self.path)),
                        *generated.warnings,
                        *self._answerer.take_notes(),
                    )
                )
            ),
            cached_frames=cached_frames,
            is_scan_cached=self._planner.take_is_scan_cached(),
            reused_tokens=generated.reused_tokens,
        )
        return with_confidence(answer, generated, self.settings)


def ask(
    path: str | Path,
    question: str,
    settings: Settings | None = None,
    *,
    plan: TokenPlan | None = None,
    options: Sequence[str] = (),
    evidence: bool = True,
    loaded: LoadedModel | None = None,
    progress: Progress = silent,
    **changes: Any,
) -> Answer:
    """Answer one question about one file: probe -> ... -> answer -> evidence.

    Args:
        path: a local video file.
        question: in plain words.
        settings: resolved settings, by default those of `Settings()`.
        plan: show exactly these frames instead of planning.
        options: the answers to choose from (image grid only).
        evidence: test what the answer rests on.
        loaded: a model that is already in memory; else `settings.model` is loaded.
        progress: draws bars.
        changes: settings by keyword, e.g. `budget=720`; they override those of `settings`.

    Returns:
        As for `VideoSession.ask`.

    Raises:
        M3VideoError: as for `VideoSession` and `VideoSession.ask`.
    """
    with VideoSession(path, settings, loaded=loaded, keeps_looking=False, progress=progress, **changes) as session:
        return session.ask(question, plan=plan, options=options, evidence=evidence)
