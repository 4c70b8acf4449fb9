"""Greedy decoding in one loop: of one prompt, of several at once, or of many questions that follow the same prefix.

Shape legend: B prompts or questions, L positions, K positions after a shared prefix, D decoder width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache

from m3video.errors import NotFiniteError
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import DECODER, not_finite
from m3video.model.next_token import NextToken
from m3video.model.out_of_memory import within_memory
from m3video.model.tokenizer import TextCodec

OnIds = Callable[[Sequence[int]], bool]
"""Called after each new token with the ids so far; returns whether the answer goes on. What it raises ends the work."""

_NO_NUMBER = -1
"""Stands for the token of a row whose logits are not finite."""


@dataclass(slots=True)
class Decoded:
    """A greedy answer, and how sure the model was of each of its tokens.

    Attributes:
        ids: without the end token.
        logs_A: log-likelihood of each token, nats, <= 0; of the end token too where the answer has ended by itself.
            None of a constrained answer, whose tokens the model did not choose freely.
        odds_A: nats between it and the next likeliest token, >= 0.
    """

    ids: list[int] = field(default_factory=list)
    logs_A: list[float] = field(default_factory=list)
    odds_A: list[float] = field(default_factory=list)


class Constraint(Protocol):
    """What an answer may be, token by token."""

    def allowed(self, scores_V: Tensor) -> Tensor:
        """Return the scores of the next token, -inf where it is not allowed; the end token may be."""

    def accept(self, token: int) -> None:
        """Go on with a token; not called for the end token."""


def generate(
    loaded: LoadedModel,
    embeds_1LD: Tensor,
    *,
    max_new_tokens: int,
    cache: Any = None,
    on_ids: OnIds | None = None,
    constraint: Constraint | None = None,
) -> Decoded:
    """Return the greedy answer to one prompt.

    Args:
        loaded: the model.
        embeds_1LD: the whole prompt.
        max_new_tokens: longest answer.
        cache: KV cache of the prompt's beginning, which is not read again; it grows.
        on_ids: follows the answer, and may end it.
        constraint: what the answer may be.

    Raises:
        NotFiniteError: the logits hold NaN or infinity.
        OutOfMemoryError: the prompt does not fit in the memory.
        UsageError: as the constraint raises it.
    """
    (answer,) = generate_batch(
        loaded,
        [embeds_1LD],
        max_new_tokens=max_new_tokens,
        cache=cache,
        on_ids=on_ids,
        constraints=() if constraint is None else (constraint,),
    )
    if isinstance(answer, NotFiniteError):
        raise answer
    return answer


@torch.inference_mode()
def generate_batch(
    loaded: LoadedModel,
    prompts: Sequence[Tensor],
    *,
    max_new_tokens: int,
    cache: Any = None,
    on_ids: OnIds | None = None,
    constraints: Sequence[Constraint] = (),
) -> list[Decoded | NotFiniteError]:
    """Return greedy answers to several prompts: each token reads the weights once for all of them.

    Sums over another length may differ in their last bits, so an answer may differ from that to a prompt alone where
    two tokens are nearly tied.

    Args:
        loaded: the model.
        prompts: embeddings [1, L, D], of any lengths.
        max_new_tokens: longest answer.
        cache: as for `generate`; of a single prompt only.
        on_ids: as for `generate`; of a single prompt only.
        constraints: what each answer may be; none where they are free.

    Returns:
        For each prompt what `generate` returns, or the error that it raises: one failure does not affect the other
        prompts.

    Raises:
        OutOfMemoryError: the prompts do not fit in the memory.
    """
    assert on_ids is None or len(prompts) == 1, "only one answer can be followed"
    longest = max(prompt.shape[1] for prompt in prompts)
    what = "a prompt" if len(prompts) == 1 else f"{len(prompts)} prompts"
    with within_memory(f"{what} of {longest} tokens", "use a smaller --budget", step="answer"):
        rows = _PaddedRows(loaded, prompts, cache)
        answers = _decode(
            loaded.codec,
            rows,
            count=len(prompts),
            max_new_tokens=max_new_tokens,
            on_ids=on_ids,
            constraints=constraints,
        )
    return [not_finite(loaded, DECODER) if answer is None else answer for answer in answers]


@torch.inference_mode()
def generate_after(
    loaded: LoadedModel, cache: Any, questions: Sequence[Sequence[int]], *, max_new_tokens: int
) -> list[Decoded]:
    """Return greedy answers to questions that follow the same prefix, all read in one sequence.

    Args:
        loaded: the model.
        cache: KV cache of the prefix; it grows.
        questions: the ids of each prompt after the prefix, at least one.
        max_new_tokens: longest answer.

    Raises:
        NotFiniteError: the logits of a question hold NaN or infinity.
    """
    rows = _SharedPrefix(loaded, cache, questions)
    found: list[Decoded] = []
    for answer in _decode(loaded.codec, rows, count=len(questions), max_new_tokens=max_new_tokens):
        if answer is None:
            raise not_finite(loaded, DECODER)
        found.append(answer)
    return found


@torch.inference_mode()
def generate_from(
    loaded: LoadedModel, cache: Any, embeds_1LD: Tensor, *, position: int, max_new_tokens: int
) -> Decoded:
    """Return the greedy answer after a cache that lacks some positions.

    Args:
        loaded: the model.
        cache: KV cache of what was read; it grows.
        embeds_1LD: the rest of the prompt.
        position: of the first of these embeddings.
        max_new_tokens: longest answer.

    Raises:
        NotFiniteError: the logits hold NaN or infinity.
    """
    rows = _Gapped(loaded, cache, embeds_1LD, position)
    (answer,) = _decode(loaded.codec, rows, count=1, max_new_tokens=max_new_tokens)
    if answer is None:
        raise not_finite(loaded, DECODER)
    return answer


def prefill(loaded: LoadedModel, embeds_1LD: Tensor) -> Any:
    """Return the decoder's KV cache of a prompt's beginning.

    Raises:
        OutOfMemoryError: it does not fit in the memory.
    """
    cache = DynamicCache(config=loaded.config.text_config)
    with within_memory(f"a prompt of {embeds_1LD.shape[1]} tokens", "use a smaller --budget", step="answer"):
        run_decoder(loaded, cache, inputs_embeds=embeds_1LD)
    return cache


def run_decoder(loaded: LoadedModel, cache: Any, **inputs: Any) -> Tensor:
    """Return the hidden states [B, L, D] of new positions, whose keys and values are added to `cache`.

    Args:
        loaded: the model.
        cache: KV cache of all positions before.
        inputs: arguments of the decoder: ids or embeddings, and positions and mask where they are not plain.
    """
    decoder = loaded.model.model.language_model
    hidden: Tensor = decoder(use_cache=True, **{_cache_argument(decoder): cache}, **inputs).last_hidden_state
    return hidden


def _cache_argument(decoder: nn.Module) -> str:
    """transformers 5.24 calls the argument `cache`, versions before it `past_key_values`."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"


class _Rows(Protocol):
    """Sequences that grow by one token at a time."""

    def read(self) -> Tensor:
        """Read all prompts; return the logits [B, V] of their last positions."""

    def append(self, tokens: Mapping[int, int]) -> Tensor:
        """Read a token of some rows (row number -> id); return their logits, in the order of `tokens`."""


def _decode(
    codec: TextCodec,
    rows: _Rows,
    *,
    count: int,
    max_new_tokens: int,
    on_ids: OnIds | None = None,
    constraints: Sequence[Constraint] = (),
) -> list[Decoded | None]:
    """Return what each row goes on with, up to its end token; None where its logits are not finite."""
    next_token = NextToken(codec)
    answers: list[Decoded | None] = [Decoded() for _ in range(count)]
    running = list(range(count))
    logits_BV = rows.read()
    for left in range(max_new_tokens, 0, -1):
        scores_BV, finite_B = next_token.scores(logits_BV.float())
        if constraints:
            own = [constraints[row].allowed(scores_V) for row, scores_V in zip(running, scores_BV, strict=True)]
            scores_BV = torch.stack(own)
        chosen_B = scores_BV.argmax(dim=-1).masked_fill(~finite_B, _NO_NUMBER)
        first_B, second_B = scores_BV.topk(2, dim=-1).values.unbind(-1)
        sure_2B = torch.stack([first_B - scores_BV.logsumexp(dim=-1), first_B - second_B])
        # The only place where a GPU is waited for, but for constraints. Ids are whole in float64.
        chosen, logs, odds = torch.cat([chosen_B[None].double(), sure_2B.double()]).tolist()
        tokens: dict[int, int] = {}
        for row, number, log, odd in zip(running, chosen, logs, odds, strict=True):
            answer, token = answers[row], int(number)
            if token == _NO_NUMBER or answer is None:
                answers[row] = None
                continue
            if not constraints:
                answer.logs_A.append(log)
                answer.odds_A.append(odd)
            if token != codec.eos_id:
                answer.ids.append(token)
                tokens[row] = token
                if constraints:
                    constraints[row].accept(token)
        goes_on = on_ids is None or not tokens or on_ids(answers[0].ids if answers[0] else ())
        if not tokens or left == 1 or not goes_on:
            break
        running = list(tokens)
        logits_BV = rows.append(tokens)
    return answers


class _PaddedRows:
    """Prompts as the rows of one batch, the shorter ones padded on the left; rows that have ended go on as padding."""

    def __init__(self, loaded: LoadedModel, prompts: Sequence[Tensor], cache: Any) -> None:
        self._loaded = loaded
        self._cache = DynamicCache(config=loaded.config.text_config) if cache is None else cache
        longest = max(prompt.shape[1] for prompt in prompts)
        padding_B = torch.tensor([longest - prompt.shape[1] for prompt in prompts], device=prompts[0].device)
        mask_BL = (torch.arange(longest, device=padding_B.device) >= padding_B[:, None]).long()
        positions_BL = (mask_BL.cumsum(-1) - 1).masked_fill(mask_BL == 0, 0)
        self._count, self._last_B1 = len(prompts), positions_BL[:, -1:]
        # Without a mask attention takes its fastest way.
        self._mask_BL = None if all(prompt.shape[1] == longest for prompt in prompts) else mask_BL
        embeds_BLD = prompts[0]
        if len(prompts) > 1:
            embeds_BLD = torch.cat([F.pad(prompt, (0, 0, longest - prompt.shape[1], 0)) for prompt in prompts])
        unread = longest - self._cache.get_seq_length()
        self._positions_BL: Tensor = positions_BL[:, -unread:]
        self._embeds_BLD: Tensor | None = embeds_BLD[:, -unread:]

    def read(self) -> Tensor:
        embeds_BLD, self._embeds_BLD = self._embeds_BLD, None
        return self._logits(inputs_embeds=embeds_BLD, position_ids=self._positions_BL)

    def append(self, tokens: Mapping[int, int]) -> Tensor:
        pad = self._loaded.codec.pad_id
        ids_B1 = torch.tensor([[tokens.get(row, pad)] for row in range(self._count)], device=self._last_B1.device)
        self._last_B1 = self._last_B1 + 1
        if self._mask_BL is not None:
            self._mask_BL = torch.cat([self._mask_BL, self._mask_BL.new_ones(self._count, 1)], dim=-1)
        logits_BV = self._logits(input_ids=ids_B1, position_ids=self._last_B1)
        return logits_BV if len(tokens) == self._count else logits_BV[list(tokens)]

    def _logits(self, **inputs: Any) -> Tensor:
        hidden_BLD = run_decoder(self._loaded, self._cache, attention_mask=self._mask_BL, **inputs)
        logits: Tensor = self._loaded.model.lm_head(hidden_BLD[:, -1:])
        return logits[:, -1]


class _Gapped:
    """One prompt whose positions are given, because some before it were left out."""

    def __init__(self, loaded: LoadedModel, cache: Any, embeds_1LD: Tensor, position: int) -> None:
        self._loaded, self._cache, self._embeds, self._next = loaded, cache, embeds_1LD, position

    def read(self) -> Tensor:
        return self._logits(self._embeds.shape[1], inputs_embeds=self._embeds)

    def append(self, tokens: Mapping[int, int]) -> Tensor:
        return self._logits(1, input_ids=torch.tensor([[tokens[0]]], device=self._loaded.model.device))

    def _logits(self, count: int, **inputs: Any) -> Tensor:
        positions = torch.arange(self._next, self._next + count, device=self._loaded.model.device)
        self._next += count
        hidden = run_decoder(self._loaded, self._cache, position_ids=positions[None], **inputs)
        logits: Tensor = self._loaded.model.lm_head(hidden[:, -1])
        return logits


class _SharedPrefix:
    """Questions in one sequence after the prefix: each position sees the prefix and its own question only."""

    def __init__(self, loaded: LoadedModel, cache: Any, questions: Sequence[Sequence[int]]) -> None:
        self._loaded, self._cache, self._questions = loaded, cache, questions
        self._prefix = cache.get_seq_length()
        self._lengths = dict.fromkeys(range(len(questions)), 0)
        self._owners_K = torch.empty(0, dtype=torch.long)

    def read(self) -> Tensor:
        return self._logits(dict(enumerate(self._questions)))

    def append(self, tokens: Mapping[int, int]) -> Tensor:
        return self._logits({number: [token] for number, token in tokens.items()})

    def _logits(self, new: Mapping[int, Sequence[int]]) -> Tensor:
        """Read new ids of some questions; the last position of each predicts its next token."""
        ids: list[int] = []
        positions: list[int] = []
        owners: list[int] = []
        last: list[int] = []
        for number, tokens in new.items():
            start = self._prefix + self._lengths[number]
            ids += tokens
            positions += range(start, start + len(tokens))
            owners += [number] * len(tokens)
            last.append(len(ids) - 1)
            self._lengths[number] += len(tokens)
        new_L = torch.tensor(owners)
        self._owners_K = torch.cat([self._owners_K, new_L])
        device = self._loaded.model.device
        hidden_1LD = run_decoder(
            self._loaded,
            self._cache,
            input_ids=torch.tensor([ids], device=device),
            attention_mask=self._mask(new_L)[None, None],
            position_ids=torch.tensor([positions], device=device),
        )
        logits: Tensor = self._loaded.model.lm_head(hidden_1LD[0][last])
        return logits

    def _mask(self, new_L: Tensor) -> Tensor:
        """Return what is added to the attention scores [L, prefix + K]: every implementation reads that alike."""
        model = self._loaded.model
        order_K = torch.arange(len(self._owners_K))
        own_LK = (new_L[:, None] == self._owners_K) & (order_K <= order_K[-len(new_L) :, None])
        seen = F.pad(own_LK, (self._prefix, 0), value=True).to(model.device)
        mask = torch.zeros(seen.shape, dtype=model.dtype, device=model.device)
        return mask.masked_fill_(~seen, torch.finfo(model.dtype).min)
