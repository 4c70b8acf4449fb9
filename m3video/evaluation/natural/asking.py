"""Ask about frames: greedy answers, and how likely given answers are. Many cases are read in one pass.

Prompts are the product's own, so greedy answers are those of `Prefix.answer`.

Shape legend: T tokens of a picture, K nodes, D decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from m3video.errors import NotFiniteError
from m3video.evaluation.natural.token_forest import ROOT, TokenForest
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pack_tokens
from m3video.model.m3.prompt import worded
from m3video.model.next_token import NextToken
from m3video.model.tokenizer import IMAGE_ID, prompt_ids

MOST_POSITIONS = 768
"""Of prompts in one pass: attention between prompts is computed and thrown away, so that more would cost more; a pass
that adds one token to each costs nearly as much for ten prompts as for thirty."""
ROWS = 512
"""Positions whose scores over the vocabulary are in memory at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Frames and what is asked about them.

    Attributes:
        blocks: the visual tokens of each frame, [T, D].
        questions: at least one.
        times_seconds: the frames' times; None for a picture without one.
    """

    blocks: tuple[Tensor, ...]
    questions: tuple[str, ...]
    times_seconds: tuple[float, ...] | None = None


class Likelihood(NamedTuple):
    """The log-likelihood of an answer with its end token, and over how many tokens it is the sum."""

    total: float
    tokens: int

    @property
    def mean(self) -> float:
        """Return the log-likelihood per token."""
        return self.total / self.tokens


class Read(NamedTuple):
    """Cases that are read: for every question of every case, in order, its last node and the scores [K, V] there."""

    forest: TokenForest
    ends: list[int]
    logits_KV: Tensor


class _Laid(NamedTuple):
    """A case's prompt: ids before the first frame, embeddings [K, D] from there to the last one, and the ids of each
    question after it."""

    head: tuple[int, ...]
    frames_KD: Tensor
    asked: list[list[int]]


def batches(loaded: LoadedModel, cases: Sequence[Case]) -> Iterator[tuple[list[int], Read]]:
    """Read cases, several in one pass.

    Yields:
        The numbers of some cases, and what was read of them.
    """
    laid = [_laid_out(loaded, case) for case in cases]
    sizes = [len(one.frames_KD) + sum(map(len, one.asked)) for one in laid]
    start = 0
    while start < len(cases):
        stop = start + 1
        while stop < len(cases) and sum(sizes[start : stop + 1]) <= MOST_POSITIONS:
            stop += 1
        yield list(range(start, stop)), _read(loaded, laid[start:stop])
        start = stop


def greedy_answers(loaded: LoadedModel, cases: Sequence[Case], *, max_new_tokens: int) -> list[list[str]]:
    """Return the greedy answer to every question of every case, as the product gives it.

    Raises:
        NotFiniteError: logits hold NaN or infinity.
    """
    answers: list[list[str]] = []
    for numbers, read in batches(loaded, cases):
        found = iter(decoded(loaded, read, max_new_tokens=max_new_tokens))
        answers += [[next(found) for _ in cases[number].questions] for number in numbers]
    return answers


def answer_likelihoods(
    loaded: LoadedModel, cases: Sequence[Case], options: Sequence[Sequence[Sequence[str]]]
) -> list[list[list[Likelihood]]]:
    """Return how likely each of the given answers is, for every question of every case.

    Args:
        loaded: the model.
        cases: what is asked.
        options: for each case, for each question, the answers to compare.
    """
    found: list[list[list[Likelihood]]] = []
    for numbers, read in batches(loaded, cases):
        asked = [texts for number in numbers for texts in options[number]]
        scored = iter(_scored(loaded, read, asked))
        found += [[next(scored) for _ in cases[number].questions] for number in numbers]
    return found


def likeliest(found: Sequence[Likelihood]) -> int:
    """Return the number of the answer that is the likeliest per token; of equal ones the first."""
    return max(range(len(found)), key=lambda number: found[number].mean)


def _laid_out(loaded: LoadedModel, case: Case) -> _Laid:
    visual = pack_tokens(case.blocks, [len(block) for block in case.blocks])
    blocks = inputs.frame_blocks(loaded, visual)
    prefix: list[int] = []
    asked = []
    for question in case.questions:
        text, _ = worded(
            loaded.config.prompt_style, question, case.times_seconds, scales=visual.scale_N, timestamps="auto"
        )
        prompt = inputs.frames_prompt(loaded, text, num_frames=len(blocks), times_seconds=case.times_seconds)
        ids = prompt_ids(loaded.codec, prompt)
        cut = len(ids) - ids[::-1].index(IMAGE_ID)
        prefix = ids[:cut]
        asked.append(ids[cut:])
    start = prefix.index(IMAGE_ID)
    return _Laid(tuple(prefix[:start]), inputs.embed(loaded, prefix[start:], blocks)[0], asked)


@torch.inference_mode()
def _read(loaded: LoadedModel, laid: Sequence[_Laid]) -> Read:
    """Read prompts and questions in one pass; the words before the first frame once for all prompts."""
    forest = TokenForest(loaded)
    parts: list[Tensor] = []
    parents: list[int] = []

    def add(embeds_KD: Tensor, after: int) -> int:
        """Add a chain after a node, and return its last node."""
        if not len(embeds_KD):
            return after
        parts.append(embeds_KD)
        parents.extend([after, *range(len(parents), len(parents) + len(embeds_KD) - 1)])
        return len(parents) - 1

    heads: dict[tuple[int, ...], int] = {}
    ends: list[int] = []
    for one in laid:
        if one.head not in heads:
            heads[one.head] = add(inputs.embed(loaded, one.head, ())[0], ROOT)
        last = add(one.frames_KD, heads[one.head])
        ends += [add(inputs.embed(loaded, ids, ())[0], last) for ids in one.asked]
    hidden_KD = forest.read(torch.cat(parts), parents)
    return Read(forest, ends, forest.logits(hidden_KD[ends]))


def decoded(loaded: LoadedModel, read: Read, *, max_new_tokens: int) -> list[str]:
    """Return the greedy answer to every question that was read."""
    next_token = NextToken(loaded.codec)
    answers: list[list[int]] = [[] for _ in read.ends]
    at = dict(enumerate(read.ends))
    logits_KV = read.logits_KV
    for left in range(max_new_tokens, 0, -1):
        scores_KV, finite_K = next_token.scores(logits_KV)
        if not bool(finite_K.all()):
            raise NotFiniteError(f"{loaded.name}: the decoder's logits hold NaN or infinity")
        chosen = dict(zip(at, scores_KV.argmax(-1).tolist(), strict=True))
        going = {row: token for row, token in chosen.items() if token != loaded.codec.eos_id}
        for row, token in going.items():
            answers[row].append(token)
        if not going or left == 1:
            break
        first = len(read.forest)
        hidden_KD = read.forest.read_ids(list(going.values()), [at[row] for row in going])
        at = {row: first + number for number, row in enumerate(going)}
        logits_KV = read.forest.logits(hidden_KD)
    return [loaded.codec.decode(ids).strip() for ids in answers]


@torch.inference_mode()
def _scored(loaded: LoadedModel, read: Read, options: Sequence[Sequence[str]]) -> list[list[Likelihood]]:
    """Return the likelihoods of each question's answers, all read in one pass after the questions."""
    codec = loaded.codec
    first = len(read.forest)
    ids: list[int] = []
    parents: list[int] = []
    targets: list[list[list[int]]] = []
    for end, texts in zip(read.ends, options, strict=True):
        targets.append([[*codec.encode(text), codec.eos_id] for text in texts])
        for answer in targets[-1]:
            for number, token in enumerate(answer[:-1]):
                parents.append(end if number == 0 else first + len(ids) - 1)
                ids.append(token)
    hidden_KD = read.forest.read_ids(ids, parents) if ids else read.logits_KV.new_zeros(0, 1)
    wanted = [token for of_question in targets for answer in of_question for token in answer[1:]]
    later = iter(_log_shares(read.forest, hidden_KD, wanted))
    starts_KV = read.logits_KV.log_softmax(-1)
    return [
        [
            Likelihood(float(start_V[answer[0]]) + sum(next(later) for _ in answer[1:]), len(answer))
            for answer in of_question
        ]
        for start_V, of_question in zip(starts_KV, targets, strict=True)
    ]


def _log_shares(forest: TokenForest, hidden_KD: Tensor, wanted: Sequence[int]) -> list[float]:
    """Return the log-probability of one token after each node."""
    found: list[float] = []
    for start in range(0, len(wanted), ROWS):
        logits_KV = forest.logits(hidden_KD[start : start + ROWS])
        target_K1 = torch.tensor(wanted[start : start + ROWS], device=logits_KV.device)[:, None]
        found += (logits_KV.gather(1, target_K1)[:, 0] - logits_KV.logsumexp(-1)).tolist()
    return found
