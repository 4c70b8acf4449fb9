"""Pictures with questions as one packed sequence: a question sees its own frames and no other question or answer.

Several samples stand one after the other without padding. A sample's frames are paid for once and answer all of its
questions. The ids are those of the product's own prompt, cut after the last frame.

Shape legend: L positions of the packed sequence, N frames of all its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from m3video.model.m3.prompt import build_prompt
from m3video.model.tokenizer import IMAGE_ID, TextCodec, prompt_ids

IGNORED = -100
"""Label of a position that predicts no token of an answer."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Frames and what is asked of them.

    Attributes:
        rows: the frames' rows in the feature cache.
        scales: their token scales.
        times_seconds: their times; None for a picture without one.
        questions: (question, answer) pairs; those of one question that stand together share its text.
        classes: for each frame the class it is changed to, -1 for its own; empty where all show their own.
    """

    rows: tuple[int, ...]
    scales: tuple[int, ...]
    times_seconds: tuple[float, ...] | None
    questions: tuple[tuple[str, str], ...]
    classes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """One packed sequence.

    Attributes:
        ids_L: token ids, `IMAGE_ID` at each visual token.
        positions_L: of each token in its own prompt.
        labels_L: the token that follows where that is one of an answer's, else `IGNORED`.
        masks: for each sample bfloat16 [l, l] over its own l positions: 0 where the row may attend to the column, else
            minus infinity.
        rows, scales, classes: of all frames, in order.
    """

    ids_L: Tensor
    positions_L: Tensor
    labels_L: Tensor
    masks: tuple[Tensor, ...]
    rows: tuple[int, ...]
    scales: tuple[int, ...]
    classes: tuple[int, ...]


class Branch(NamedTuple):
    """The ids of a question after the frames, and of each of its answers."""

    asked: list[int]
    answers: list[list[int]]


def lay_out(codec: TextCodec, style: str, sample: Sample) -> tuple[list[int], list[Branch]]:
    """Return the ids of the frames' part of the prompt, and a branch for each question."""
    prefix: list[int] = []
    branches = []
    for question, pairs in groupby(sample.questions, key=itemgetter(0)):
        prompt = build_prompt(style, question, num_frames=len(sample.rows), times_seconds=sample.times_seconds)
        ids = prompt_ids(codec, prompt)
        cut = len(ids) - ids[::-1].index(IMAGE_ID)
        prefix = _with_tokens(ids[:cut], sample.scales)
        branches.append(Branch(ids[cut:], [[*codec.encode(answer), codec.eos_id] for _, answer in pairs]))
    return prefix, branches


def length(codec: TextCodec, style: str, sample: Sample) -> int:
    """Return how many positions a sample takes."""
    prefix, branches = lay_out(codec, style, sample)
    return len(prefix) + sum(len(one.asked) - 1 + sum(map(len, one.answers)) for one in branches)


def pack(codec: TextCodec, style: str, samples: Sequence[Sample], device: torch.device) -> Packed:
    """Lay out samples one after the other."""
    ids: list[int] = []
    positions: list[int] = []
    labels: list[int] = []
    masks: list[Tensor] = []
    for sample in samples:
        prefix, branches = lay_out(codec, style, sample)
        ids += prefix
        positions += range(len(prefix))
        labels += [IGNORED] * len(prefix)
        question, answered = [0] * len(prefix), [0] * len(prefix)
        for which, (asked, answers) in enumerate(branches, 1):
            # Every answer has the question's last token of its own, since that one predicts the answer's first.
            shared, last = asked[:-1], asked[-1]
            ids += shared
            positions += range(len(prefix), len(prefix) + len(shared))
            labels += [IGNORED] * len(shared)
            question += [which] * len(shared)
            answered += [0] * len(shared)
            start = len(prefix) + len(shared)
            for number, answer in enumerate(answers, 1):
                ids += [last, *answer[:-1]]
                positions += range(start, start + len(answer))
                labels += answer
                question += [which] * len(answer)
                answered += [number] * len(answer)
        question_l, answered_l = (torch.tensor(of, device=device) for of in (question, answered))
        causal = torch.ones(len(question), len(question), dtype=torch.bool, device=device).tril()
        own = (answered_l[None] == 0) | (answered_l[:, None] == answered_l[None])
        seen = causal & ((question_l[None] == 0) | (question_l[:, None] == question_l[None]) & own)
        masks.append(torch.zeros(seen.shape, dtype=torch.bfloat16, device=device).masked_fill(~seen, -torch.inf))
    return Packed(
        torch.tensor(ids, device=device),
        torch.tensor(positions, device=device),
        torch.tensor(labels, device=device),
        tuple(masks),
        tuple(row for sample in samples for row in sample.rows),
        tuple(scale for sample in samples for scale in sample.scales),
        tuple(wanted for sample in samples for wanted in sample.classes or (-1,) * len(sample.rows)),
    )


def attend_within_samples(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    masks: Sequence[Tensor],
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within each sample of a packed sequence, as an attention implementation of transformers.

    One mask over the whole sequence costs its square: on a CPU a step of 1,800 positions took twice as long with it.
    Plain products, because the backward pass of PyTorch's fused attention is slow on CPUs for short sequences.

    Args:
        module: the attention layer.
        query: [1, heads, L, width].
        key, value: [1, heads of keys and values, L, width].
        attention_mask: not used.
        masks: of `Packed`.
        scaling: factor on the products of queries and keys.
        kwargs: what other implementations take.
    """
    parts, start = [], 0
    scale = scaling or query.shape[-1] ** -0.5
    for mask in masks:
        part = slice(start, start + len(mask))
        queries, keys, values = query[:, :, part], key[:, :, part], value[:, :, part]
        if len(mask) > LONGEST_PLAIN:
            seen = F.scaled_dot_product_attention(
                queries, keys, values, mask.to(query.dtype), scale=scale, enable_gqa=True
            )[0]
        else:
            seen = _plain_attention(queries[0], keys[0], values[0], mask, scale)
        parts.append(seen.transpose(0, 1))
        start = part.stop
    return torch.cat(parts)[None].contiguous(), None


def _plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Return [heads, l, width] from queries [heads, l, width], and keys and values [groups, l, width]."""
    groups, length, width = key.shape
    scores = torch.bmm(query.reshape(groups, -1, width), key.transpose(1, 2)).view(-1, length, length)
    shares = torch.softmax(scores * scale + mask.to(scores.dtype), -1)
    return torch.bmm(shares.view(groups, -1, length), value).view(-1, length, width)


LONGEST_PLAIN = 1200
"""Positions of a sample up to which products are plain: they keep all scores for the backward pass, which is 9 MB a
layer at this length."""
ATTENTION = "within_samples"
"""Name of `attend_within_samples` among the attention implementations of transformers."""

ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend_within_samples)


def _with_tokens(ids: Sequence[int], scales: Sequence[int]) -> list[int]:
    """Return ids with each frame's mark repeated for each of its tokens."""
    left = iter(scales)
    return [token for one in ids for token in ([one] * next(left) if one == IMAGE_ID else [one])]
