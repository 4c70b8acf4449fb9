"""Several prompts in one run of the decoder: each token then reads the weights once for all of them.

Shape legend: B prompts, L positions of the longest, D decoder width. Shorter prompts are padded on the left and the
padding is masked. Sums over another length may differ in their last bits, so a word may differ where two are a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from m3video.errors import DoesNotFitError, M3VideoError, NotFiniteError
from m3video.model.m3 import answering
from m3video.model.m3.answering import GeneratedAnswer, Timestamps
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import VisualTokens
from m3video.model.m3.prompt import worded
from m3video.model.out_of_memory import within_memory
from m3video.model.tokenizer import prompt_ids

MOST_TOGETHER = 8
"""Prompts in one run: a 7B model keeps 0.5 MiB for each position, 3 GiB for eight prompts of 720 visual tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One question about frames that are encoded; `times_seconds` and `shots_seconds` as for `Prefix`."""

    visual: VisualTokens
    question: str
    times_seconds: Sequence[float]
    shots_seconds: Sequence[float] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Prompt:
    """A question ready for the decoder; what `GeneratedAnswer` counts beside it."""

    embeds_1LD: torch.Tensor
    visual: int
    text: int
    warnings: tuple[str, ...]


def answer_together(
    loaded: LoadedModel, asked: Sequence[Asked], *, max_new_tokens: int = 64, timestamps: Timestamps = "auto"
) -> list[GeneratedAnswer | M3VideoError]:
    """Ask many questions, of one video or of several.

    Args:
        loaded: the model.
        asked: the questions.
        max_new_tokens: longest answer.
        timestamps: whether times are written before the frames.

    Returns:
        For each question what `Prefix.answer` returns, or the error it raises: one that does not fit in the context,
        or whose numbers are not finite, costs the others nothing.
    """
    answers: list[GeneratedAnswer | M3VideoError] = []
    for start in range(0, len(asked), MOST_TOGETHER):
        answers += _run(loaded, asked[start : start + MOST_TOGETHER], max_new_tokens, timestamps)
    return answers


def _run(
    loaded: LoadedModel, asked: Sequence[Asked], max_new_tokens: int, timestamps: Timestamps
) -> list[GeneratedAnswer | M3VideoError]:
    made: list[_Prompt | M3VideoError] = []
    for one in asked:
        try:
            with within_memory("a prompt with its frames", "use a smaller --budget", step="answer"):
                made.append(_prompt(loaded, one, max_new_tokens, timestamps))
        except M3VideoError as error:
            made.append(error)
    prompts = [prompt for prompt in made if isinstance(prompt, _Prompt)]
    try:
        said = iter(_generate(loaded, [prompt.embeds_1LD for prompt in prompts], max_new_tokens) if prompts else [])
    except DoesNotFitError as error:
        if len(prompts) == 1:
            return [error if isinstance(prompt, _Prompt) else prompt for prompt in made]
        # The GPU has no room for all of them at once.
        return [answer for one in asked for answer in _run(loaded, [one], max_new_tokens, timestamps)]
    answers: list[GeneratedAnswer | M3VideoError] = []
    for prompt in made:
        if isinstance(prompt, M3VideoError):
            answers.append(prompt)
            continue
        ids = next(said)
        if isinstance(ids, NotFiniteError):
            answers.append(ids)
            continue
        answers.append(
            GeneratedAnswer(
                text=loaded.codec.decode(ids).strip(),
                prompt_tokens=prompt.visual + prompt.text,
                visual_tokens=prompt.visual,
                text_tokens=prompt.text,
                answer_tokens=len(ids),
                warnings=prompt.warnings,
            )
        )
    return answers


@torch.inference_mode()
def _prompt(loaded: LoadedModel, one: Asked, max_new_tokens: int, timestamps: Timestamps) -> _Prompt:
    """As `Prefix.answer` words and counts it."""
    question, notes = worded(
        loaded.config.prompt_style,
        one.question,
        one.times_seconds,
        scales=one.visual.scale_N,
        shots_seconds=one.shots_seconds,
        timestamps=timestamps,
    )
    words = answering.frames_prompt(
        loaded, question, num_frames=len(one.visual), times_seconds=one.times_seconds, timestamps=timestamps
    )
    blocks, ids = answering.frame_blocks(loaded, one.visual), prompt_ids(loaded.codec, words)
    visual = len(one.visual.tokens_TD)
    text = len(ids) - len(blocks) + sum(len(block) for block in blocks) - visual
    answering.refuse_beyond(loaded, visual=visual, text=text, answer=max_new_tokens)
    warnings = (*answering.unknown_words_warning(loaded, words), *notes)
    return _Prompt(answering.embed(loaded, ids, blocks), visual, text, warnings)


@torch.inference_mode()
def _generate(
    loaded: LoadedModel, embeds: Sequence[torch.Tensor], max_new_tokens: int
) -> list[list[int] | NotFiniteError]:
    """Greedy answers to prompts [1, L, D] of any lengths."""
    longest = max(one.shape[1] for one in embeds)
    padded_BLD = torch.cat([F.pad(one, (0, 0, longest - one.shape[1], 0)) for one in embeds])
    mask_BL = torch.stack(
        [torch.arange(longest, device=padded_BLD.device) >= longest - one.shape[1] for one in embeds]
    ).long()
    return answering.generate_rows(loaded, padded_BLD, mask_BL, max_new_tokens=max_new_tokens)
