"""Many questions about the same frames: the prompt up to the last frame is read once, then all questions together.

Greedy decoding, as `model.answering` does it. Shape legend: L new positions, K positions after the prefix, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from m3video.model.m3 import answering
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import DECODER, not_finite
from m3video.model.m3.pooling import pack_tokens
from m3video.model.m3.prefix import cache_name, prefill
from m3video.model.next_token import NextToken
from m3video.model.tokenizer import IMAGE_ID, prompt_ids


@dataclass(frozen=True, slots=True)
class Generation:
    """An answer and what it cost. `text_tokens` are all positions of the prompt that are not visual tokens."""

    text: str
    visual_tokens: int
    text_tokens: int
    answer_tokens: int


@torch.inference_mode()
def answer_many(
    loaded: LoadedModel,
    tokens: Sequence[Tensor],
    questions: Sequence[str],
    *,
    times_seconds: Sequence[float],
    max_new_tokens: int = 32,
    timestamps: answering.Timestamps = "auto",
) -> list[Generation]:
    """Ask several questions about frames whose tokens are ready.

    Args:
        loaded: the model.
        tokens: for each frame its tokens [K, D], of any number.
        questions: words.
        times_seconds: the frames' times.
        max_new_tokens: longest answer.
        timestamps: whether times are written.

    Returns:
        One answer for each question, the same as `Prefix.answer` gives for it alone.

    Raises:
        DoesNotFitError: a prompt and its answer exceed the context.
        NotFiniteError: the model's numbers are not finite.
    """
    if not tokens or not questions:
        raise ValueError("no frame, or no question")
    visual = sum(len(block) for block in tokens)
    blocks = answering.frame_blocks(loaded, pack_tokens(tokens, [len(block) for block in tokens]))
    in_blocks = sum(len(block) for block in blocks)
    prompts = [
        prompt_ids(
            loaded.codec,
            answering.frames_prompt(
                loaded, question, num_frames=len(tokens), times_seconds=times_seconds, timestamps=timestamps
            ),
        )
        for question in questions
    ]
    end = len(prompts[0]) - prompts[0][::-1].index(IMAGE_ID)
    text = [len(ids) - len(blocks) + in_blocks - visual for ids in prompts]
    answering.refuse_beyond(loaded, visual=visual, text=max(text), answer=max_new_tokens)
    if any(ids[:end] != prompts[0][:end] for ids in prompts):
        raise AssertionError("a prompt template puts the question before the frames")
    cache = prefill(loaded, answering.embed(loaded, prompts[0][:end], blocks))
    answers = _decode(loaded, cache, [ids[end:] for ids in prompts], max_new_tokens=max_new_tokens)
    return [
        Generation(loaded.codec.decode(ids).strip(), visual, words, len(ids))
        for ids, words in zip(answers, text, strict=True)
    ]


def _decode(loaded: LoadedModel, cache: Any, suffixes: Sequence[list[int]], *, max_new_tokens: int) -> list[list[int]]:
    """Greedy answers to all suffixes over one cache: each position sees the prefix and its own question only."""
    model, eos, next_token = loaded.model, loaded.codec.eos_id, NextToken(loaded.codec)
    prefix = cache.get_seq_length()
    answers: list[list[int]] = [[] for _ in suffixes]
    ids = [token for suffix in suffixes for token in suffix]
    owner = [number for number, suffix in enumerate(suffixes) for _ in suffix]
    places = [prefix + offset for suffix in suffixes for offset in range(len(suffix))]
    owners = torch.empty(0, dtype=torch.long)
    for _ in range(max_new_tokens):
        new = torch.tensor(owner)
        owners = torch.cat([owners, new])
        hidden = _step(loaded, cache, ids, places, _own_only(new, owners))
        # The last position of each question predicts its next token.
        rows = {number: row for row, number in enumerate(owner)}
        scores, finite = next_token.scores(model.lm_head(hidden[list(rows.values())]))
        if not finite.all():
            raise not_finite(loaded, DECODER)
        chosen = scores.argmax(-1).tolist()
        ends = {number: places[row] for number, row in rows.items()}
        going = [(number, token) for number, token in zip(rows, chosen, strict=True) if token != eos]
        for number, token in going:
            answers[number].append(token)
        if not going:
            break
        owner, ids = [number for number, _ in going], [token for _, token in going]
        places = [ends[number] + 1 for number in owner]
    return answers


def _own_only(new_L: Tensor, owners_K: Tensor) -> Tensor:
    """Bool [L, K]: new positions (the last L of K) may look at earlier positions of the same question."""
    order = torch.arange(len(owners_K))
    return (new_L[:, None] == owners_K) & (order <= order[-len(new_L) :, None])


def _step(loaded: LoadedModel, cache: Any, ids: list[int], places: list[int], seen_LK: Tensor) -> Tensor:
    """Hidden states [L, D] of new positions that see the whole prefix and, after it, what `seen_LK` says."""
    model, decoder = loaded.model, loaded.model.model.language_model
    prefix = cache.get_seq_length() - (seen_LK.shape[1] - len(ids))
    seen = F.pad(seen_LK, (prefix, 0), value=True).to(model.device)
    # Added to the scores, so that every attention implementation reads it alike.
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=model.device)
    mask.masked_fill_(~seen, torch.finfo(model.dtype).min)
    out = decoder(
        input_ids=torch.tensor([ids], device=model.device),
        attention_mask=mask[None, None],
        position_ids=torch.tensor([places], device=model.device),
        use_cache=True,
        **{cache_name(decoder): cache},
    )
    hidden: Tensor = out.last_hidden_state[0]
    return hidden
