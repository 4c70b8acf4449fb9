"""Measures of relevance against each other: how often each finds the frame that a question is about.

All look at the same frames, every candidate at the same scale, and say how relevant each is; a hit is a question whose
most relevant frame shows the answer. Shape legend: N frames, L positions, Y layers, A positions of the answer.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from m3video.config import Settings
from m3video.evaluation.clip_runner import refer
from m3video.evaluation.frame_tokens import encode_frames
from m3video.evaluation.methods import ShownFrame
from m3video.evaluation.records import Record
from m3video.evaluation.saliency.questions import reference_kind
from m3video.evaluation.view import ClipView
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from m3video.model.generation import generate, prefill
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pool
from m3video.model.m3.saliency import NEUTRAL, last_row
from m3video.model.tokenizer import IMAGE_ID, prompt_ids
from m3video.utils.progress import Progress, silent

Floats = NDArray[np.float64]
Measures = dict[str, Callable[[str], Floats]]
"""Name -> a question's words to the relevance of each frame, float64 [N]."""

MOST_ANSWER = 8
"""Tokens of an answer whose likelihood is looked at."""


class ScaleReading:
    """Frames at one scale, to be asked about."""

    def __init__(self, loaded: LoadedModel, grids_NSD: Tensor, *, scale: int, times_seconds: Sequence[float]) -> None:
        self.loaded, self.times = loaded, times_seconds
        self.blocks = list(pool(grids_NSD, scale))
        self.first_ND = pool(grids_NSD, 1)[:, 0].float()
        self._rows: dict[str, Floats] = {}

    def measures(self) -> Measures:
        """Return all measures, cheap ones first."""
        layers = len(self.loaded.model.model.language_model.layers)
        found: Measures = {}
        for layer in range(layers):
            found[f"attention, layer {layer + 1} of {layers}"] = functools.partial(self.attention_in, layer=layer)
            found[f"attention, layer {layer + 1}, beyond a neutral question"] = functools.partial(
                self.attention_in, layer=layer, beyond=NEUTRAL
            )
        found["likelihood of the answer without the frame"] = self.removed
        found["certainty of the answer from the frame alone"] = self.alone
        found["likeness of tokens and words"] = self.alike
        return found

    def _ids(self, words: str, frames: Sequence[int] | None = None) -> list[int]:
        times = self.times if frames is None else [self.times[n] for n in frames]
        prompt = inputs.frames_prompt(self.loaded, words, num_frames=len(times), times_seconds=times)
        return prompt_ids(self.loaded.codec, prompt)

    @torch.inference_mode()
    def attention(self, words: str) -> Floats:
        """Return the share of the frames' attention from the last position in each layer, float64 [Y, N]."""
        if words not in self._rows:
            ids = self._ids(words)
            cut = len(ids) - ids[::-1].index(IMAGE_ID)
            cache = prefill(self.loaded, inputs.embed(self.loaded, ids[:cut], self.blocks))
            rows = last_row(
                self.loaded, inputs.embed(self.loaded, ids[cut:], []), cache, inputs.frame_spans(ids, self.blocks)
            )
            self._rows[words] = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)
        return self._rows[words]

    def attention_in(self, words: str, *, layer: int, beyond: str | None = None) -> Floats:
        """Return the attention in one layer, minus that of another question."""
        return self.attention(words)[layer] - (0.0 if beyond is None else self.attention(beyond)[layer])

    @torch.inference_mode()
    def removed(self, words: str) -> Floats:
        """Return the divergence of the answer's words when each frame is hidden from all that follows; N runs of the
        prompt."""
        ids = self._ids(words)
        asked = inputs.embed(self.loaded, ids, self.blocks)
        answer_ids = generate(self.loaded, asked, max_new_tokens=MOST_ANSWER).ids
        whole = torch.cat(
            [asked, self.loaded.model.get_input_embeddings()(torch.tensor([answer_ids], dtype=torch.long))], 1
        )
        first, length = asked.shape[1] - 1, whole.shape[1]
        least = torch.finfo(whole.dtype).min
        mask_LL = torch.full((length, length), least, dtype=whole.dtype).triu(1)
        full = self._log_probs(whole, mask_LL)[first:]
        found = []
        for start, end in inputs.frame_spans(ids, self.blocks):
            hidden = mask_LL.clone()
            hidden[end:, start:end] = least
            found.append(
                float(F.kl_div(self._log_probs(whole, hidden)[first:], full, log_target=True, reduction="sum"))
            )
        return np.array(found)

    @torch.inference_mode()
    def alone(self, words: str) -> Floats:
        """Return minus the entropy of the answer's first word when each frame is shown alone; N short prompts."""
        found = []
        for n, block in enumerate(self.blocks):
            log_probs = self._log_probs(inputs.embed(self.loaded, self._ids(words, [n]), [block]), None)[-1]
            found.append(float((log_probs.exp() * log_probs).sum()))
        return np.array(found)

    @torch.inference_mode()
    def alike(self, words: str) -> Floats:
        """Return the greatest cosine of the frame's one token, minus the mean of all frames, with a word's
        embedding."""
        ids = self._ids(words)
        own = ids[len(ids) - ids[::-1].index(IMAGE_ID) :]
        words_WD = self.loaded.model.get_input_embeddings()(torch.tensor(own)).float()
        frames_ND = self.first_ND - self.first_ND.mean(dim=0)
        return (F.normalize(frames_ND, dim=-1) @ F.normalize(words_WD, dim=-1).T).amax(dim=1).double().numpy()

    def _log_probs(self, embeds_1LD: Tensor, mask_LL: Tensor | None) -> Tensor:
        """Log-probabilities of the next token at each position, float32 [L, vocabulary]."""
        mask = None if mask_LL is None else mask_LL[None, None]
        out = self.loaded.model(inputs_embeds=embeds_1LD, attention_mask=mask)
        return torch.as_tensor(out.logits[0]).float().log_softmax(dim=-1)


def hits(
    records: Sequence[Record], loaded: LoadedModel, *, scale: int, max_frames: int, progress: Progress = silent
) -> dict[str, dict[str, list[bool]]]:
    """Return for each measure and kind of question whether the most relevant candidate shows the answer.

    Questions without a candidate that shows the answer are left out.

    Args:
        records: about moments.
        loaded: the model.
        scale: tokens of every candidate.
        max_frames: most candidates.
        progress: draws a bar.
    """
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    with progress(f"measure at {scale}", len(records)) as bar:
        for video, group in itertools.groupby(sorted(records, key=lambda record: record.video), key=lambda r: r.video):
            with open_for(video, Settings()) as reader:
                view = ClipView(reader.info, analyze_video(reader), max_frames=max_frames, model=loaded.name)
                pts = view.candidates.pts_N.tolist()
                shown = encode_frames(loaded, [frame.rgb_HW3 for frame in reader.fetch(pts)])
                grids = torch.stack([tokens.grid_SD for tokens in shown])
            reading = ScaleReading(loaded, grids, scale=scale, times_seconds=view.seconds(pts))
            plan = tuple(ShownFrame(p, "pool", scale) for p in pts)
            for record in group:
                assert record.evidence is not None
                seconds = np.array(view.seconds(pts))
                shows_N = (seconds >= record.evidence[0] - 1e-6) & (seconds < record.evidence[1] + 1e-6)
                if shows_N.any():
                    words = refer(record, plan, view, "shot", style=loaded.config.prompt_style)
                    for name, measure in reading.measures().items():
                        found[name][reference_kind(record)].append(bool(shows_N[measure(words).argmax()]))
                bar(1)
    return found
