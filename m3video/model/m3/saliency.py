"""Which frames the language model attends to for a question: the attention of the prompt's last position.

The answer begins at the last position of the prompt, and its attention, in the layer that attends to the frames most,
shows which frames it uses. Only that one row is computed, from the input of each attention layer and the keys
in the KV cache: whatever attention the model runs (sdpa, flash), no layer's full attention is ever made, and one layer
needs heads x positions numbers. Some frames draw attention whatever the question (the first, the last, bright
ones), so the attention for a neutral question is subtracted.

Shape legend: N frames, L positions, H heads, G key-value heads, K width of a head, Y layers, D decoder width.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m3video.errors import UsageError
from m3video.model.generation import prefill, run_decoder
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import DECODER, not_finite
from m3video.model.m3.inputs import Timestamps
from m3video.model.m3.pooling import VisualTokens
from m3video.model.m3.prefix import cache_bytes, common_length, is_croppable
from m3video.model.m3.prompt import worded
from m3video.model.tokenizer import IMAGE_ID, prompt_ids

NEUTRAL = "what is shown"
"""A question about nothing in particular, in words that the rendered model knows."""

FIRST_LAYER = 0.5
"""Layers before this share of all are ignored: their attention goes to what is near, not to what the question is
about."""


class QuestionAttention(NamedTuple):
    """The frames that a question directs the model's attention to, beyond a neutral question.

    `relevance_N` is float64 [N], >= 0, sum 1 (all equal where the question moves nothing); `moved` is the share of the
    attention that the question moves, 0 to 1: 0 for a question that asks for nothing in particular.
    """

    relevance_N: NDArray[np.float64]
    moved: float


class CoarseAttention:
    """Frames at coarse scales that the model reads once, for the attention of any number of questions."""

    def __init__(
        self,
        loaded: LoadedModel,
        visual: VisualTokens,
        *,
        times_seconds: Sequence[float] | None,
        timestamps: Timestamps = "auto",
    ) -> None:
        """Set up without reading anything yet.

        Args:
            loaded: the model.
            visual: the frames' tokens.
            times_seconds: the frames' times, N numbers, or None where they are not known.
            timestamps: whether times are written before the frames.
        """
        self._loaded, self._visual = loaded, visual
        self._times, self._timestamps = times_seconds, timestamps
        self._blocks = inputs.frame_blocks(loaded, visual)
        self._ids = self._prompt_ids("")
        self._cache: Any = None
        self._neutral_YN: NDArray[np.float64] | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the visual tokens and of what the decoder has read."""
        return int(self._visual.tokens_TD.nbytes) + (0 if self._cache is None else cache_bytes(self._cache))

    @torch.inference_mode()
    def attend(self, question: str) -> QuestionAttention:
        """Return which frames the model attends to for `question`; a further question reads only its own words.

        Raises:
            DoesNotFitError: the prompt exceeds the context.
            NotFiniteError: the model's numbers are not finite.
            UsageError: the question contains an image mark, or the model's attention cannot be watched.
        """
        if self._neutral_YN is None:
            self._neutral_YN = self._attention(NEUTRAL)
        asked_YN = self._attention(question)
        layer = _looking_layer(asked_YN)
        asked_N, neutral_N = (of / max(float(of.sum()), 1e-12) for of in (asked_YN[layer], self._neutral_YN[layer]))
        more_N = np.maximum(asked_N - neutral_N, 0.0)
        moved = float(more_N.sum())
        even_N = np.full(len(more_N), 1 / len(more_N))
        return QuestionAttention(more_N / moved if moved > 1e-6 else even_N, min(1.0, moved))

    def _prompt_ids(self, question: str) -> list[int]:
        asked, _ = worded(
            self._loaded.config.prompt_style,
            question,
            self._times,
            scales=self._visual.scale_N,
            timestamps=self._timestamps,
        )
        prompt = inputs.frames_prompt(
            self._loaded, asked, num_frames=len(self._visual), times_seconds=self._times, timestamps=self._timestamps
        )
        return prompt_ids(self._loaded.codec, prompt)

    def _attention(self, question: str) -> NDArray[np.float64]:
        """Return the last position's attention to each frame in each layer, mean over heads, float64 [Y, N]."""
        ids = self._prompt_ids(question)
        in_blocks, visual = sum(map(len, self._blocks)), len(self._visual.tokens_TD)
        text = len(ids) - len(self._blocks) + in_blocks - visual
        inputs.refuse_beyond(self._loaded, visual=visual, text=text, answer=0)
        # What all questions share is read once. The last token is always read anew: its attention is the result.
        cut = min(common_length(ids, self._ids), len(ids) - 1)
        shown = ids[:cut].count(IMAGE_ID)
        cache, self._cache = self._cache, None  # dropped unless all goes well
        if cache is None or cache.get_seq_length() != _length(ids[:cut], self._blocks):
            cache = prefill(self._loaded, inputs.embed(self._loaded, ids[:cut], self._blocks[:shown]))
        before = cache.get_seq_length()
        after = inputs.embed(self._loaded, ids[cut:], self._blocks[shown:])
        found = last_row(self._loaded, after, cache, inputs.frame_spans(ids, self._blocks))
        if is_croppable(cache):
            cache.crop(before - cache.get_seq_length())
            self._cache = cache
        return found


def _length(ids: Sequence[int], blocks: Sequence[Tensor]) -> int:
    """Return the number of positions of a prompt's beginning."""
    shown = list(ids).count(IMAGE_ID)
    return len(ids) - shown + sum(map(len, blocks[:shown]))


def _looking_layer(attention_YN: NDArray[np.float64]) -> int:
    """Return the later layer whose last position attends to the frames most."""
    first = int(len(attention_YN) * FIRST_LAYER)
    return first + int(attention_YN[first:].sum(axis=1).argmax())


def last_row(
    loaded: LoadedModel, embeds_1LD: Tensor, cache: Any, spans: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    """Run the decoder over the rest of a prompt and return its last position's attention to the frames.

    Args:
        loaded: the model.
        embeds_1LD: the embeddings that follow the cached positions.
        cache: the KV cache of the prompt's beginning; it grows.
        spans: each frame's positions in the whole prompt, half-open.

    Returns:
        float64 [Y, N]: in each layer the mean over heads of the attention to all tokens of each frame.

    Raises:
        NotFiniteError: the attention holds NaN.
        UsageError: a decoder whose attention layers have other parts.
    """
    decoder = loaded.model.model.language_model
    with _last_queries(loaded) as queries:
        run_decoder(loaded, cache, inputs_embeds=embeds_1LD)
    rows = []
    for layer, query_HK in enumerate(queries):
        keys_GLK = cache.layers[layer].keys[0]
        attention_L = attention_row(query_HK, keys_GLK, scaling=decoder.layers[layer].self_attn.scaling)
        rows.append([float(attention_L[start:end].sum()) for start, end in spans])
    found_YN = np.array(rows, np.float64)
    if not np.isfinite(found_YN).all():
        raise not_finite(loaded, DECODER)
    return found_YN


def attention_row(query_HK: Tensor, keys_GLK: Tensor, *, scaling: float) -> Tensor:
    """Return the attention of the last of L positions, mean over heads, float32 [L].

    Args:
        query_HK: the last position's queries, rotated; H a multiple of G.
        keys_GLK: all keys, rotated; each serves H / G heads (grouped-query attention).
        scaling: of the scores.
    """
    grouped = query_HK.float().reshape(len(keys_GLK), -1, query_HK.shape[-1])
    scores = grouped @ keys_GLK.float().transpose(1, 2) * scaling
    return scores.softmax(dim=-1).mean(dim=(0, 1))


@contextmanager
def _last_queries(loaded: LoadedModel) -> Iterator[list[Tensor]]:
    """Fill a list with each layer's queries [H, K] of the last position, rotated, as the decoder runs."""
    found: list[Tensor] = []

    def watch(attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        cos, sin = kwargs["position_embeddings"] if "position_embeddings" in kwargs else args[1]
        query = attention.q_proj(hidden[:, -1:]).view(1, 1, -1, attention.head_dim).transpose(1, 2)
        rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
        found.append(rotate(query, query, cos[:, -1:], sin[:, -1:])[0][0, :, 0])

    layers = list(loaded.model.model.language_model.layers)
    for layer in layers:
        _refuse_unknown(loaded, layer.self_attn)
    hooks = [layer.self_attn.register_forward_pre_hook(watch, with_kwargs=True) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _refuse_unknown(loaded: LoadedModel, attention: nn.Module) -> None:
    """Refuse attention whose queries are not computed as in Llama and Mistral."""
    known = hasattr(attention, "q_proj") and hasattr(attention, "head_dim") and not hasattr(attention, "q_norm")
    if not known:
        raise UsageError(
            f"--saliency attention cannot watch the attention of {loaded.name} ({type(attention).__name__}): "
            "use --saliency off"
        )
