"""A model that answers questions about one open video: its frames are encoded once, its latest plan is read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from m3video.errors import OutOfMemoryError, PlanError
from m3video.inference.features import FrameGrids
from m3video.inference.image_grid import ask_grid
from m3video.inference.memory.fallback import Fallbacks, answer_within_memory
from m3video.inference.memory.fit import least_text, refuse_evidence
from m3video.inference.opened_video import OpenedVideo
from m3video.inference.planner import Replan
from m3video.model.m3.model_paths import find_here, find_model
from m3video.model.m3.small import SMALL
from m3video.planning.plan_file import check_matches
from m3video.types import TokenPlan

if TYPE_CHECKING:
    from torch import Tensor

    from m3video.model.m3.answer import GeneratedAnswer
    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.model.m3.pooling import VisualTokens
    from m3video.model.m3.prefix import OnText, Prefix
    from m3video.model.m3.saliency import CoarseAttention, QuestionAttention
    from m3video.model.m3.support import Support

Shown = tuple[Any, ...]
"""What a prompt's frames are known by: two plans with the same one give the same prompt."""


class Answerer:
    """A model, and what it has computed for one video.

    It caches the grids of all frames, the prefix of the latest prompt, and the latest coarse attention pass.
    """

    def __init__(self, video: OpenedVideo, loaded: LoadedModel | None) -> None:
        """Nothing is loaded or decoded yet.

        Args:
            video: the open video.
            loaded: a model that is already in memory; else the one that the settings name is loaded when needed.
        """
        self._video, self._loaded = video, loaded
        self._grids = FrameGrids(video)
        self._prefix: tuple[Shown, Prefix] | None = None
        self._coarse: tuple[Shown, CoarseAttention] | None = None

    @property
    def loaded(self) -> LoadedModel:
        """The model, loaded at first use."""
        self.check_model()
        from m3video.model.m3 import checkpoint

        if self._loaded is None:
            video = self._video
            with video.meter.stage("load model"), video.progress("load model", None):
                self._loaded = checkpoint.load_for(video.settings)
        return self._loaded

    def check_model(self) -> None:
        """Refuse a model that cannot be loaded, by its config only: neither torch nor the weights are loaded.

        The first use of `small` puts it together, which takes both, and about ten seconds.

        Raises:
            CheckpointError: the model does not exist, lacks a part, or has a config against its rules.
        """
        if self._loaded is not None:
            return
        video, name = self._video, self._video.settings.model
        if name == SMALL and find_here(name) is None:
            with video.meter.stage("prepare model"), video.progress("prepare model", None):
                find_model(name)
        find_model(name, vision_tower=video.settings.vision_tower)

    @property
    def num_bytes(self) -> int:
        """Bytes that are kept in memory for further questions: grids, prompts that were read, their visual tokens."""
        prompts = (kept[1].num_bytes for kept in (self._prefix, self._coarse) if kept is not None)
        return self._grids.num_bytes + sum(prompts)

    def check(self, plan: TokenPlan, question: str, *, max_new_tokens: int | None = None) -> None:
        """Refuse a plan that is not for this video, or does not fit this model's context; nothing is decoded.

        Raises:
            PlanError: `plan` was made for another video, or shows no frame.
            DoesNotFitError: frames, question and the longest answer exceed the context.
        """
        from m3video.model.m3 import inputs

        check_matches(plan, self._video.info)
        if not plan.frames:
            raise PlanError(f"the plan shows no frame of {self._video.info.path}: give it a larger budget")
        inputs.check_fits(
            self.loaded,
            scales=[frame.scale for frame in plan.frames],
            question=question,
            timestamps=self._video.settings.timestamps,
            times_seconds=self._video.seconds(plan),
            max_new_tokens=max_new_tokens or self._video.settings.max_new_tokens,
        )

    def grids(self, pts: Sequence[int]) -> Iterator[Tensor]:
        """Yield the projected grid [576, D] of each frame, decoded and encoded only where it is not cached."""
        for grid, _ in self._grids.each(pts, self.loaded):
            yield grid

    def tokens(self, plan: TokenPlan) -> tuple[VisualTokens, int]:
        """Return the planned frames pooled to their scales and packed, and how many of them came from the cache."""
        from m3video.model.m3 import pooling

        scales, pts = [frame.scale for frame in plan.frames], [frame.pts for frame in plan.frames]
        blocks, cached = [], 0
        for scale, (grid, is_cached) in zip(scales, self._grids.each(pts, self.loaded), strict=True):
            # A copy: at 576 tokens pooling returns the grid, a view of all grids that were made with it.
            blocks.append(pooling.pool(grid[None], scale)[0].clone())
            cached += is_cached
        return pooling.pack_tokens(blocks, scales), cached

    def answer(
        self,
        question: str,
        plan: TokenPlan,
        replan: Replan | None,
        *,
        max_new_tokens: int | None = None,
        on_text: OnText | None = None,
        schema: str | None = None,
    ) -> tuple[TokenPlan, GeneratedAnswer, int, tuple[str, ...]]:
        """Answer from the planned frames, or from fewer tokens where memory runs out.

        Args:
            question: the user's words.
            plan: the frames to show.
            replan: makes a smaller plan; None where the plan must not change.
            max_new_tokens: longest answer; None for that of the settings.
            on_text: follows the answer, and may end it.
            schema: a JSON schema that the answer obeys; None for that of the settings.

        Returns:
            The plan that was answered from, the answer, how many frames came from the cache, and notes.
        """

        def smaller(budget: int, max_frames: int) -> TokenPlan:
            assert replan is not None
            self.drop_prompts()  # nothing of the larger plan stays in memory
            return replan(budget, max_frames)

        self.check(plan, question, max_new_tokens=max_new_tokens)
        settings = self._video.settings
        schema = schema or settings.answer_schema
        ask = partial(self._answer, question, max_new_tokens or settings.max_new_tokens, on_text, schema)
        fallbacks = self._fallbacks(None if replan is None else smaller)
        plan, (generated, cached), notes = answer_within_memory(ask, plan, fallbacks)
        return replace(plan, text_tokens=self._text_tokens(plan)), generated, cached, notes

    def support(self, plan: TokenPlan) -> Support | None:
        """Test what the latest answer rests on, which was given from these frames; the kept prefix stays.

        Returns:
            None where the model keeps nothing that could be tested, or has answered from other frames since.

        Raises:
            DoesNotFitError: the memory that the settings name does not hold a second KV cache.
            OutOfMemoryError: memory ran out.
        """
        from m3video.model.m3.support import find_support
        from m3video.model.out_of_memory import within_memory

        video = self._video
        if self._prefix is None or self._prefix[0] != _shown(plan):
            return None
        refuse_evidence(video.fitted, plan)
        room = within_memory("a second KV cache", "use --no-evidence", step="answer")
        with video.meter.stage("evidence"), video.progress("evidence", None), room:
            shots = [frame.shot for frame in plan.frames]
            return find_support(self.loaded, self._prefix[1], shots, max_new_tokens=video.settings.max_new_tokens)

    def answer_grid(self, question: str, options: Sequence[str]) -> tuple[TokenPlan, GeneratedAnswer]:
        """Answer from one image grid, with the option that was chosen where `options` are given."""
        return ask_grid(self._video, question, options, self.loaded)

    def attend(self, question: str, plan: TokenPlan) -> tuple[QuestionAttention, tuple[str, ...]]:
        """Run the coarse attention pass over the planned frames.

        Returns:
            Where the question makes the model attend, and notes on what was reduced for want of memory.

        Raises:
            OutOfMemoryError: these frames do not fit.
        """
        try:
            _, look, notes = answer_within_memory(partial(self._attend, question), plan, self._fallbacks(None))
        except OutOfMemoryError:
            self._coarse = None
            raise
        return look, notes

    def drop_prompts(self) -> None:
        """Forget the prompts that were read, and free their KV caches."""
        self._prefix = self._coarse = None

    def drop_frames(self) -> None:
        """Forget the frames that were encoded, and the prompts made of them."""
        self._grids = FrameGrids(self._video)
        self.drop_prompts()

    def take_notes(self) -> list[str]:
        """Return once what went wrong with caching."""
        notes, cache = [], self._video.cache
        if cache is not None:
            cache.settle()
        for found in (self._grids.notes, [] if cache is None else cache.notes):
            notes += found
            found.clear()
        return notes

    def _fallbacks(self, replan: Replan | None) -> Fallbacks:
        return Fallbacks(self._grids, replan, lambda: least_text(self._video.settings))

    def _answer(
        self, question: str, max_new_tokens: int, on_text: OnText | None, schema: str | None, plan: TokenPlan
    ) -> tuple[GeneratedAnswer, int]:
        """fetch -> encode -> answer: the planned frames one after the other, each at its own scale."""
        from m3video.model.m3.prefix import Prefix
        from m3video.model.out_of_memory import within_memory

        video, settings = self._video, self._video.settings
        shown = _shown(plan)
        cached = len(plan.frames)
        if self._prefix is None or self._prefix[0] != shown:
            self._prefix = None  # one KV cache at a time
            with within_memory(f"the visual tokens of {cached} frames", "show fewer frames", step="vision"):
                visual, cached = self.tokens(plan)
            prefix = Prefix(
                self.loaded,
                visual,
                times_seconds=video.seconds(plan),
                shots_seconds=plan.shots_seconds,
                timestamps=settings.timestamps,
            )
            self._prefix = (shown, prefix)
        room = within_memory(f"a plan of {plan.total_tokens} tokens", "use a smaller --budget", step="answer")
        with video.meter.stage("answer"), video.progress("answer", None), room:
            answer = self._prefix[1].answer
            return answer(question, max_new_tokens=max_new_tokens, on_text=on_text, schema=schema), cached

    def _attend(self, question: str, plan: TokenPlan) -> QuestionAttention:
        """fetch -> encode -> attention: the planned frames are read once for all questions."""
        from m3video.model.m3.saliency import CoarseAttention
        from m3video.model.out_of_memory import within_memory

        video, what, instead = self._video, "the coarse attention pass", "use --saliency off"
        shown = tuple((frame.pts, frame.scale) for frame in plan.frames)
        if self._coarse is None or self._coarse[0] != shown:
            self._coarse = None
            with within_memory(what, instead, step="vision"):
                visual, _ = self.tokens(plan)
            coarse = CoarseAttention(
                self.loaded, visual, times_seconds=video.seconds(plan), timestamps=video.settings.timestamps
            )
            self._coarse = (shown, coarse)
        room = within_memory(what, instead, step="answer")
        # "first look" is a key of stage_seconds in printed results, so it stays.
        with video.meter.stage("first look"), video.progress("first look", None), room:
            return self._coarse[1].attend(question)

    def _text_tokens(self, plan: TokenPlan) -> int:
        """Count the text positions around the frames, for the model that is asked."""
        from m3video.model.m3 import inputs

        times = self._video.seconds(plan)
        return inputs.text_tokens(
            self.loaded, "", num_frames=len(times), times_seconds=times, timestamps=self._video.settings.timestamps
        )


def _shown(plan: TokenPlan) -> Shown:
    """Return what the frames of a plan are known by."""
    return (plan.shots, *((frame.pts, frame.scale) for frame in plan.frames))
