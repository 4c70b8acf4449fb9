"""Pictures with questions as one packed sequence: a question sees its own frames and no other question.

Several samples stand one after the other without padding. A sample's frames are paid for once and answer all of its
questions. The ids are those of the product's own prompt, cut after the last frame.

Shape legend: L positions of the packed sequence, N frames of all its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
        questions: (question, answer) pairs.
    """

    rows: tuple[int, ...]
    scales: tuple[int, ...]
    times_seconds: tuple[float, ...] | None
    questions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """One packed sequence.

    Attributes:
        ids_L: token ids, `IMAGE_ID` at each visual token.
        positions_L: of each token in its own prompt.
        labels_L: the token that follows where that is one of an answer's, else `IGNORED`.
        mask_LL: True where the row may attend to the column.
        sample_L, question_L: which sample, and which of its questions from 1 on (0: its frames).
        rows, scales: of all frames, in order.
    """

    ids_L: Tensor
    positions_L: Tensor
    labels_L: Tensor
    mask_LL: Tensor
    sample_L: Tensor
    question_L: Tensor
    rows: tuple[int, ...]
    scales: tuple[int, ...]


def lay_out(codec: TextCodec, style: str, sample: Sample) -> tuple[list[int], list[tuple[list[int], list[int]]]]:
    """Return the ids of the frames' part of the prompt, and for each question those of its rest and of its answer."""
    prefix: list[int] = []
    branches = []
    for question, answer in sample.questions:
        prompt = build_prompt(style, question, num_frames=len(sample.rows), times_seconds=sample.times_seconds)
        ids = prompt_ids(codec, prompt)
        cut = len(ids) - ids[::-1].index(IMAGE_ID)
        prefix = _with_tokens(ids[:cut], sample.scales)
        branches.append((ids[cut:], [*codec.encode(answer), codec.eos_id]))
    return prefix, branches


def length(codec: TextCodec, style: str, sample: Sample) -> int:
    """Return how many positions a sample takes."""
    prefix, branches = lay_out(codec, style, sample)
    return len(prefix) + sum(len(asked) + len(answer) - 1 for asked, answer in branches)


def pack(codec: TextCodec, style: str, samples: Sequence[Sample], device: torch.device) -> Packed:
    """Lay out samples one after the other."""
    ids: list[int] = []
    positions: list[int] = []
    labels: list[int] = []
    owner: list[int] = []
    question: list[int] = []
    for number, sample in enumerate(samples):
        prefix, branches = lay_out(codec, style, sample)
        ids += prefix
        positions += range(len(prefix))
        labels += [IGNORED] * len(prefix)
        question += [0] * len(prefix)
        for which, (asked, answer) in enumerate(branches, 1):
            size = len(asked) + len(answer) - 1
            ids += asked + answer[:-1]
            positions += range(len(prefix), len(prefix) + size)
            labels += [IGNORED] * (len(asked) - 1) + answer
            question += [which] * size
        owner += [number] * (len(ids) - len(owner))
    owner_L, question_L = (torch.tensor(values, device=device) for values in (owner, question))
    causal = torch.ones(len(ids), len(ids), dtype=torch.bool, device=device).tril()
    seen = (question_L[None] == 0) | (question_L[:, None] == question_L[None])
    return Packed(
        torch.tensor(ids, device=device),
        torch.tensor(positions, device=device),
        torch.tensor(labels, device=device),
        causal & seen & (owner_L[:, None] == owner_L[None]),
        owner_L,
        question_L,
        tuple(row for sample in samples for row in sample.rows),
        tuple(scale for sample in samples for scale in sample.scales),
    )


def _with_tokens(ids: Sequence[int], scales: Sequence[int]) -> list[int]:
    """Return ids with each frame's mark repeated for each of its tokens."""
    left = iter(scales)
    return [token for one in ids for token in ([one] * next(left) if one == IMAGE_ID else [one])]
