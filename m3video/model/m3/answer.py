"""A model's answers: to one finished prompt, or to a batch of questions, of one video or of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from m3video.errors import DoesNotFitError, M3VideoError
from m3video.model import generation
from m3video.model.generation import Decoded
from m3video.model.json_answers import JsonAnswer, json_answer
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.inputs import Timestamps
from m3video.model.m3.pooling import VisualTokens
from m3video.model.m3.prompt import worded
from m3video.model.out_of_memory import within_memory
from m3video.model.tokenizer import prompt_ids

MAX_BATCH = 8
"""Prompts in one batch: the KV cache of a 7B model takes 0.5 MiB a position, 3 GiB for eight prompts of 720 tokens."""


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """An answer, and the numbers of tokens it took.

    `prompt_tokens` is every position before the answer: `visual_tokens` (the sum of the scales, or the tokens of an
    image grid) and `text_tokens` (words, times, and the end-of-row tokens of LLaVA-NeXT). `reused_tokens` of them were
    read for an earlier question. `logs_A` and `odds_A` are those of `generation.Decoded`.
    """

    text: str
    prompt_tokens: int
    visual_tokens: int
    text_tokens: int
    answer_tokens: int
    warnings: tuple[str, ...] = ()
    reused_tokens: int = 0
    # Their last bits depend on what was read beside the prompt.
    logs_A: tuple[float, ...] = field(default=(), compare=False)
    odds_A: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class FramesQuestion:
    """One question about encoded frames; `times_seconds` and `shots_seconds` as for `Prefix`."""

    visual: VisualTokens
    question: str
    times_seconds: Sequence[float]
    shots_seconds: Sequence[float] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Prompt:
    """A question ready for the decoder, and the numbers of `GeneratedAnswer` about it."""

    embeds_1LD: Tensor
    visual: int
    text: int
    warnings: tuple[str, ...]

    def answer(self, loaded: LoadedModel, decoded: Decoded) -> GeneratedAnswer:
        """Return the answer that the decoder gave."""
        return GeneratedAnswer(
            text=loaded.codec.decode(decoded.ids).strip(),
            prompt_tokens=self.visual + self.text,
            visual_tokens=self.visual,
            text_tokens=self.text,
            answer_tokens=len(decoded.ids),
            warnings=self.warnings,
            logs_A=tuple(decoded.logs_A),
            odds_A=tuple(decoded.odds_A),
        )


def json_constraint(loaded: LoadedModel, schema: str | None) -> JsonAnswer | None:
    """Return the constraint of an answer that obeys a JSON schema; None where there is no schema.

    Raises:
        UsageError: the schema cannot be obeyed, or not with the tokens of this model.
    """
    if schema is None:
        return None
    return json_answer(schema, loaded.codec, vocabulary=loaded.config.text_config.vocab_size, model=loaded.name)


def cut_off_note(schema: str | None, ids: Sequence[int], max_new_tokens: int) -> tuple[str, ...]:
    """Return a note where an answer in JSON was cut off, and so may be none."""
    if schema is None or len(ids) < max_new_tokens:
        return ()
    return (f"the answer was cut off after {max_new_tokens} tokens and may be no JSON: use a larger --max-new-tokens",)


@torch.inference_mode()
def answer_prompt(
    loaded: LoadedModel,
    prompt: str,
    blocks: Sequence[Tensor],
    *,
    max_new_tokens: int = 64,
    visual_tokens: int | None = None,
) -> GeneratedAnswer:
    """Ask with a finished prompt, one block of tokens [T, D] for each `<image>` in it (the image grid uses this).

    Args:
        loaded: the model.
        prompt: the whole text.
        blocks: tokens of each picture, as they are to stand in the prompt.
        max_new_tokens: longest answer.
        visual_tokens: how many of the blocks' tokens count as visual; all of them by default.

    Raises:
        DoesNotFitError: the prompt and the answer exceed the context.
        NotFiniteError: the model's numbers are not finite.
    """
    visual = sum(len(block) for block in blocks) if visual_tokens is None else visual_tokens
    made = _prompt(loaded, prompt, blocks, visual=visual, max_new_tokens=max_new_tokens)
    return made.answer(loaded, generation.generate(loaded, made.embeds_1LD, max_new_tokens=max_new_tokens))


def answer_batch(
    loaded: LoadedModel,
    asked: Sequence[FramesQuestion],
    *,
    max_new_tokens: int = 64,
    timestamps: Timestamps = "auto",
    schema: str | None = None,
) -> list[GeneratedAnswer | M3VideoError]:
    """Ask many questions, of one video or of several, up to `MAX_BATCH` in one run of the decoder.

    Args:
        loaded: the model.
        asked: the questions.
        max_new_tokens: longest answer.
        timestamps: whether times are written before the frames.
        schema: a JSON schema that the answers obey.

    Returns:
        For each question what `Prefix.answer` returns, or the error it raises: one that does not fit in the context,
        or whose numbers are not finite, does not affect the others.
    """
    answers: list[GeneratedAnswer | M3VideoError] = []
    for start in range(0, len(asked), MAX_BATCH):
        answers += _answer_batch(loaded, asked[start : start + MAX_BATCH], max_new_tokens, timestamps, schema)
    return answers


def _answer_batch(
    loaded: LoadedModel,
    asked: Sequence[FramesQuestion],
    max_new_tokens: int,
    timestamps: Timestamps,
    schema: str | None,
) -> list[GeneratedAnswer | M3VideoError]:
    made: list[_Prompt | M3VideoError] = []
    for one in asked:
        try:
            with within_memory("a prompt with its frames", "use a smaller --budget", step="answer"):
                made.append(_frames_prompt(loaded, one, max_new_tokens, timestamps))
        except M3VideoError as error:
            made.append(error)
    embeds = [prompt.embeds_1LD for prompt in made if isinstance(prompt, _Prompt)]
    found: Iterator[Decoded | M3VideoError] = iter(())
    try:
        if embeds:
            own = (json_constraint(loaded, schema) for _ in embeds)
            constraints = [one for one in own if one is not None]
            found = iter(
                generation.generate_batch(loaded, embeds, max_new_tokens=max_new_tokens, constraints=constraints)
            )
    except DoesNotFitError as error:
        if len(embeds) == 1:
            return [error if isinstance(prompt, _Prompt) else prompt for prompt in made]
        # There is no room for all of them at once.
        return [answer for one in asked for answer in _answer_batch(loaded, [one], max_new_tokens, timestamps, schema)]
    answers: list[GeneratedAnswer | M3VideoError] = []
    for prompt in made:
        if isinstance(prompt, M3VideoError):
            answers.append(prompt)
            continue
        decoded = next(found)
        if isinstance(decoded, M3VideoError):
            answers.append(decoded)
        else:
            answer = prompt.answer(loaded, decoded)
            notes = (*answer.warnings, *cut_off_note(schema, decoded.ids, max_new_tokens))
            answers.append(replace(answer, warnings=notes))
    return answers


@torch.inference_mode()
def _frames_prompt(loaded: LoadedModel, one: FramesQuestion, max_new_tokens: int, timestamps: Timestamps) -> _Prompt:
    """Word and count a question as `Prefix.answer` does."""
    question, notes = worded(
        loaded.config.prompt_style,
        one.question,
        one.times_seconds,
        scales=one.visual.scale_N,
        shots_seconds=one.shots_seconds,
        timestamps=timestamps,
    )
    words = inputs.frames_prompt(
        loaded, question, num_frames=len(one.visual), times_seconds=one.times_seconds, timestamps=timestamps
    )
    blocks, visual = inputs.frame_blocks(loaded, one.visual), len(one.visual.tokens_TD)
    return _prompt(loaded, words, blocks, visual=visual, max_new_tokens=max_new_tokens, notes=notes)


def _prompt(
    loaded: LoadedModel,
    words: str,
    blocks: Sequence[Tensor],
    *,
    visual: int,
    max_new_tokens: int,
    notes: tuple[str, ...] = (),
) -> _Prompt:
    ids = prompt_ids(loaded.codec, words)
    text = len(ids) - len(blocks) + sum(len(block) for block in blocks) - visual
    inputs.refuse_beyond(loaded, visual=visual, text=text, answer=max_new_tokens)
    warnings = (*inputs.unknown_words_warning(loaded, words), *notes)
    return _Prompt(inputs.embed(loaded, ids, blocks), visual, text, warnings)
