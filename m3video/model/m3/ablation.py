"""How likely an answer is when some of the frames that led to it are left out.

Three ways, from cheap to clean. *Masked*: the question and the answer are read again over the kept prefix, and do not
see the keys and values of some frames; later frames still hold what they took from them. *Without*: the prompt is read
again from the first of these frames on, without their tokens, all positions kept: nothing of them is left. *Only*: a
prompt of its own that shows some of the frames and no others, at their own or at smaller scales.

Shape legend: L positions of a prompt, Q of the question and the answer, A tokens of the answer, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from m3video.model import generation
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.prefix import Asked
from m3video.model.next_token import NextToken
from m3video.model.tokenizer import IMAGE_ID


@dataclass(frozen=True, slots=True)
class Reading:
    """How an answer fares in one context.

    Attributes:
        nats: log-likelihood of all its tokens and its end, <= 0.
        odds_A: for each of these tokens, nats between it and the likeliest other one; below 0 where that one would be
            chosen. Unlike a likelihood near 1, odds still tell one context from another.
    """

    nats: float
    odds_A: tuple[float, ...]

    @property
    def stands(self) -> bool:
        """Whether greedy decoding gives this answer."""
        return min(self.odds_A) > 0


@torch.inference_mode()
def masked(loaded: LoadedModel, asked: Asked, groups: Sequence[Sequence[int]]) -> list[Reading]:
    """Read question and answer once for each group of frames, without seeing these frames; all in one pass.

    The kept prefix is left as it was.

    Args:
        loaded: the model.
        asked: what was answered.
        groups: frames to hide, numbered in the order of the prompt; an empty group hides none.
    """
    after = _after(loaded, asked)
    read, count = asked.cache.get_seq_length(), after.shape[1]
    spans = asked.spans
    sees = torch.ones(len(groups), 1, count, read + len(groups) * count, dtype=torch.bool)
    own = torch.tril(torch.ones(count, count, dtype=torch.bool))
    sees[..., read:] = False
    for number, group in enumerate(groups):
        sees[number, ..., read + number * count : read + (number + 1) * count] = own
        for frame in group:
            sees[number, ..., slice(*spans[frame])] = False
    dtype, device = loaded.model.dtype, loaded.model.device
    seen = sees.reshape(1, 1, len(groups) * count, -1).to(device)
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
    positions = torch.arange(read, read + count, device=device).repeat(len(groups))
    hidden = generation.run_decoder(
        loaded,
        asked.cache,
        inputs_embeds=after.repeat(1, len(groups), 1),
        attention_mask=mask,
        position_ids=positions[None],
    )
    asked.cache.crop(read - asked.cache.get_seq_length())
    return [_reading(loaded, asked, one) for one in hidden[0].split(count)]


@torch.inference_mode()
def without(
    loaded: LoadedModel, asked: Asked, frames: Sequence[int], *, max_new_tokens: int
) -> tuple[Reading, str, int]:
    """Read the prompt again from the first of `frames` on, without them, positions kept.

    Returns:
        How the answer fares, the greedy answer in its place, and how many positions were read.
    """
    spans = asked.spans
    start = min(spans[frame][0] for frame in frames)
    embeds = inputs.embed(loaded, asked.ids, asked.blocks)
    keep = torch.ones(embeds.shape[1], dtype=torch.bool)
    keep[:start] = False
    for frame in frames:
        keep[slice(*spans[frame])] = False
    rows = keep.nonzero()[:, 0].to(embeds.device)
    cache = _copied(loaded, asked.cache, start)
    answer = _answer_embeds(loaded, asked)
    positions = torch.cat([rows, embeds.shape[1] + torch.arange(answer.shape[1], device=embeds.device)])
    hidden = generation.run_decoder(
        loaded, cache, inputs_embeds=torch.cat([embeds[:, rows], answer], dim=1), position_ids=positions[None]
    )
    found = _reading(loaded, asked, hidden[0])
    if found.stands:
        return found, loaded.codec.decode(list(asked.answer_ids)).strip(), len(positions)
    cache.crop(-answer.shape[1] - 1)
    ids = generation.generate_from(
        loaded, cache, embeds[:, -1:], position=embeds.shape[1] - 1, max_new_tokens=max_new_tokens
    ).ids
    return found, loaded.codec.decode(ids).strip(), len(positions) + len(ids)


@torch.inference_mode()
def only(loaded: LoadedModel, asked: Asked, prompts: Sequence[tuple[Sequence[int], Sequence[Tensor]]]) -> list[Reading]:
    """Read the answer after prompts of their own, all in one batch.

    Args:
        loaded: the model.
        asked: what was answered.
        prompts: the ids of each prompt, and the tokens of the frames that it shows.
    """
    answer = _answer_embeds(loaded, asked)
    rows = [torch.cat([inputs.embed(loaded, ids, blocks), answer], dim=1) for ids, blocks in prompts]
    longest = max(row.shape[1] for row in rows)
    # Padding stands behind everything that is looked at, so causal attention never sees it.
    embeds = torch.cat([F.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])
    hidden = generation.run_decoder(loaded, DynamicCache(config=loaded.config.text_config), inputs_embeds=embeds)
    return [_reading(loaded, asked, one[: row.shape[1]]) for one, row in zip(hidden, rows, strict=True)]


def question_embeds(loaded: LoadedModel, asked: Asked) -> Tensor:
    """Return the embeddings of what follows the kept prefix."""
    shown = list(asked.ids[: asked.cut]).count(IMAGE_ID)
    return inputs.embed(loaded, asked.ids[asked.cut :], asked.blocks[shown:])


def _answer_embeds(loaded: LoadedModel, asked: Asked) -> Tensor:
    if not asked.answer_ids:
        return inputs.embed(loaded, asked.ids[-1:], ())[:, :0]
    return inputs.embed(loaded, list(asked.answer_ids), ())


def _after(loaded: LoadedModel, asked: Asked) -> Tensor:
    """Return the embeddings of the question and the answer, [1, Q, D]."""
    return torch.cat([question_embeds(loaded, asked), _answer_embeds(loaded, asked)], dim=1)


def _reading(loaded: LoadedModel, asked: Asked, hidden_QD: Tensor) -> Reading:
    """Return how the answer fares, whose last tokens stand at the end of `hidden_QD`."""
    targets = [*asked.answer_ids, *([loaded.codec.eos_id] if asked.has_ended else [])]
    at = hidden_QD[-len(asked.answer_ids) - 1 :][: len(targets)]
    logits_AV, _ = NextToken(loaded.codec).scores(loaded.model.lm_head(at).float())
    logs_AV = logits_AV.log_softmax(dim=-1)
    wanted = torch.tensor(targets, device=logs_AV.device)
    own_A1 = logs_AV.gather(1, wanted[:, None])
    others_A = logs_AV.scatter(1, wanted[:, None], -torch.inf).amax(dim=1)
    return Reading(float(own_A1.sum()), tuple((own_A1[:, 0] - others_A).tolist()))


def _copied(loaded: LoadedModel, cache: Any, length: int) -> Any:
    """Return a copy of the first `length` positions of a KV cache."""
    copy = DynamicCache(config=loaded.config.text_config)
    for number, layer in enumerate(cache.layers):
        copy.update(layer.keys[:, :, :length].clone(), layer.values[:, :, :length].clone(), number)
    return copy
