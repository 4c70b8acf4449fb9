"""Frames that the language model reads once, for any number of questions about them.

A prompt is cut at the first token that depends on the question. The part before it (system prompt, times, frames) is
read once and its KV cache stays; the positions of a question and its answer are cropped off again. The place of the cut
depends on the frames and the question alone, never on earlier questions, so a follow-up does the same sums on the same
numbers as a first question: its answer is the same token by token.

Shape legend: L positions of the prompt, D decoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from m3video.model import generation
from m3video.model.generation import Decoded
from m3video.model.json_answers import JsonAnswer
from m3video.model.m3 import inputs
from m3video.model.m3.answer import GeneratedAnswer, cut_off_note, json_constraint
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.inputs import Timestamps
from m3video.model.m3.pooling import VisualTokens, pack_tokens, pool_further
from m3video.model.m3.prompt import worded
from m3video.model.tokenizer import IMAGE_ID, prompt_ids

OnText = Callable[[str], bool]
"""Called with the text so far, after each token; returns whether the answer goes on. What it raises ends the work."""


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many ids two prompts share from the beginning."""
    length = min(len(first), len(second))
    return next((n for n in range(length) if first[n] != second[n]), length)


@dataclass(frozen=True, slots=True, eq=False)
class _CachedPrefix:
    """What the decoder has read: the ids, their embeddings, and its KV cache of exactly these positions."""

    ids: list[int]
    embeds_1LD: Tensor
    cache: Any

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        return int(self.embeds_1LD.nbytes) + cache_bytes(self.cache)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A prompt that was answered.

    Attributes:
        ids: of the whole prompt, `IMAGE_ID` for each frame.
        blocks: each frame's tokens as they stand in the prompt.
        cut: ids before the question, whose keys and values `cache` holds.
        cache: of exactly these positions.
        answer_ids: the greedy answer, without the end token.
        has_ended: the answer ended by itself, not by its greatest length.
    """

    ids: Sequence[int]
    blocks: Sequence[Tensor]
    cut: int
    cache: Any
    answer_ids: Sequence[int]
    has_ended: bool

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The positions of each frame's tokens before the question, half-open."""
        return inputs.frame_spans(self.ids[: self.cut], self.blocks)


class Prefix:
    """Questions about the same frames at the same scales."""

    def __init__(
        self,
        loaded: LoadedModel,
        visual: VisualTokens,
        *,
        times_seconds: Sequence[float] | None,
        shots_seconds: Sequence[float] = (),
        timestamps: Timestamps = "auto",
    ) -> None:
        """Set up without reading anything yet.

        Args:
            loaded: the model.
            visual: the frames' tokens, one scale for each.
            times_seconds: the frames' times, N numbers, or None where they are not known.
            shots_seconds: when each shot begins and when the last one ends; a time in a question is replaced
                by a frame of its shot.
            timestamps: whether times are written before the frames.
        """
        self._loaded, self._visual = loaded, visual
        self._times, self._shots, self._timestamps = times_seconds, shots_seconds, timestamps
        self._blocks = inputs.frame_blocks(loaded, visual)
        self._without_question = self._ids(self._prompt(""))
        self._cached: _CachedPrefix | None = None
        self._question = ""
        self.asked: Asked | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the visual tokens and of what the decoder has read."""
        return int(self._visual.tokens_TD.nbytes) + (0 if self._cached is None else self._cached.num_bytes)

    def answer(
        self, question: str, *, max_new_tokens: int = 64, on_text: OnText | None = None, schema: str | None = None
    ) -> GeneratedAnswer:
        """Answer one question as if it were the only one; `reused_tokens` of its prompt were not read again.

        Args:
            question: the user's words.
            max_new_tokens: longest answer.
            on_text: follows the answer, and may end it.
            schema: a JSON schema that the answer obeys.

        Raises:
            DoesNotFitError: the prompt and the answer exceed the context; nothing is ever cut off.
            NotFiniteError: the model's numbers are not finite.
            UsageError: the question contains an image mark, or the schema cannot be obeyed.
        """
        self._question = question
        asked, notes = worded(
            self._loaded.config.prompt_style,
            question,
            self._times,
            scales=self._visual.scale_N,
            shots_seconds=self._shots,
            timestamps=self._timestamps,
        )
        prompt = self._prompt(asked)
        ids = self._ids(prompt)
        in_blocks, visual = sum(map(len, self._blocks)), len(self._visual.tokens_TD)
        text = len(ids) - len(self._blocks) + in_blocks - visual
        inputs.refuse_beyond(self._loaded, visual=visual, text=text, answer=max_new_tokens)
        constraint = json_constraint(self._loaded, schema)
        decoded, reused, more = self._generate(ids, max_new_tokens, on_text, constraint)
        cut_note = cut_off_note(schema, decoded.ids, max_new_tokens)
        return GeneratedAnswer(
            text=self._loaded.codec.decode(decoded.ids).strip(),
            prompt_tokens=visual + text,
            visual_tokens=visual,
            text_tokens=text,
            answer_tokens=len(decoded.ids),
            reused_tokens=reused,
            warnings=(*inputs.unknown_words_warning(self._loaded, prompt), *notes, *more, *cut_note),
            logs_A=tuple(decoded.logs_A),
            odds_A=tuple(decoded.odds_A),
        )

    @property
    def scale_N(self) -> tuple[int, ...]:
        """Tokens of each frame."""
        return self._visual.scale_N

    def showing(self, frames: Sequence[int], *, scale: int | None = None) -> tuple[list[int], list[Tensor]]:
        """Return the ids and frame tokens of the latest question asked of some of the frames only.

        Args:
            frames: their numbers, increasing; none for the question alone.
            scale: show none of them with more tokens than this.
        """
        visual = self._visual
        scales = [min(visual.scale_N[n], scale or visual.scale_N[n]) for n in frames]
        times = None if self._times is None else [self._times[n] for n in frames]
        asked, _ = worded(
            self._loaded.config.prompt_style,
            self._question,
            times,
            scales=scales,
            shots_seconds=self._shots,
            timestamps=self._timestamps,
        )
        prompt = inputs.frames_prompt(
            self._loaded, asked, num_frames=len(frames), times_seconds=times, timestamps=self._timestamps
        )
        blocks = [pool_further(visual.frame(n), to) for n, to in zip(frames, scales, strict=True)]
        made = inputs.frame_blocks(self._loaded, pack_tokens(blocks, scales)) if blocks else []
        return self._ids(prompt), made

    def _prompt(self, question: str) -> str:
        return inputs.frames_prompt(
            self._loaded,
            question,
            num_frames=len(self._visual),
            times_seconds=self._times,
            timestamps=self._timestamps,
        )

    def _ids(self, prompt: str) -> list[int]:
        return prompt_ids(self._loaded.codec, prompt)

    @torch.inference_mode()
    def _generate(
        self, ids: list[int], max_new_tokens: int, on_text: OnText | None, constraint: JsonAnswer | None
    ) -> tuple[Decoded, int, tuple[str, ...]]:
        """Return the answer, how many positions were cached, and a warning when the next question cannot reuse them."""
        # The last token has to be read in any case: its output is the first word of the answer.
        cut = min(common_length(ids, self._without_question), len(ids) - 1)
        # Dropped unless all goes well: an interrupted pass leaves the layers uneven.
        cached, self._cached, self.asked = self._cached, None, None
        if cached is not None and cached.ids != ids[:cut]:
            cached = None
        reused = 0 if cached is None else cached.embeds_1LD.shape[1]
        shown = ids[:cut].count(IMAGE_ID)
        if cached is None:
            embeds = inputs.embed(self._loaded, ids[:cut], self._blocks[:shown])
            cached = _CachedPrefix(ids[:cut], embeds, generation.prefill(self._loaded, embeds))
        after = inputs.embed(self._loaded, ids[cut:], self._blocks[shown:])
        whole = torch.cat([cached.embeds_1LD, after], dim=1)
        is_stopped = False

        def follow(new: Sequence[int]) -> bool:
            nonlocal is_stopped
            is_stopped = on_text is not None and not on_text(self._loaded.codec.decode(list(new)).strip())
            return not is_stopped

        decoded = generation.generate(
            self._loaded,
            whole,
            max_new_tokens=max_new_tokens,
            cache=cached.cache,
            on_ids=None if on_text is None else follow,
            constraint=constraint,
        )
        if not is_croppable(cached.cache):
            return decoded, reused, ("this model's KV cache cannot be cropped: every question reads all frames again",)
        cached.cache.crop(cached.embeds_1LD.shape[1] - cached.cache.get_seq_length())
        self._cached = cached
        if shown < len(self._blocks):
            return decoded, reused, ("this prompt puts the question before frames: they are read again for each",)
        if constraint is not None:
            return decoded, reused, ()  # what such an answer rests on is not tested: the rest of it may be forced
        has_ended = len(decoded.ids) < max_new_tokens and not is_stopped
        self.asked = Asked(ids, self._blocks, cut, cached.cache, decoded.ids, has_ended)
        return decoded, reused, ()


def cache_bytes(cache: Any) -> int:
    """Return the bytes of a KV cache."""
    layers = [layer for layer in cache.layers if layer.is_initialized]
    return sum(int(layer.keys.nbytes) + int(layer.values.nbytes) for layer in layers)


def is_croppable(cache: Any) -> bool:
    """Return whether every layer stores all positions, so that the latest can be cropped; sliding windows do not."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)
