"""Many prompts and all that may follow them in one sequence: a forest of tokens, each of which sees its ancestors only.

Frames are read once for all questions about them, a question once for all answers that are compared, and several
pictures are read in one pass, without padding: on a CPU a pass costs as much for one token as for thirty.

Shape legend: K new nodes, n nodes in all, D decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from m3video.model.generation import run_decoder
from m3video.model.m3.checkpoint import LoadedModel

ROOT = -1
"""Parent of a prompt's first token."""


class TokenForest:
    """Nodes are numbered in the order in which they are read; a node's parent is read before it or with it."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._cache: Any = DynamicCache(config=loaded.config.text_config)
        self._depths: list[int] = []
        self._seen: list[NDArray[np.bool_]] = []

    def __len__(self) -> int:
        return len(self._depths)

    @torch.inference_mode()
    def read(self, embeds_KD: Tensor, parents: Sequence[int]) -> Tensor:
        """Read new nodes in one pass of the decoder.

        Args:
            embeds_KD: their embeddings.
            parents: the number of each one's parent, which may be among them; `ROOT` for a prompt's first token.

        Returns:
            [K, D] hidden states, from which `logits` makes the scores of what follows.

        Raises:
            ValueError: a parent comes after its child.
        """
        first = len(self)
        for number, parent in enumerate(parents, first):
            if not ROOT <= parent < number:
                raise ValueError(f"node {number} has node {parent} for a parent, which is not read before it")
            own = np.zeros(number + 1, np.bool_)
            own[number] = True
            if parent != ROOT:
                own[: parent + 1] = self._seen[parent]
            self._seen.append(own)
            self._depths.append(0 if parent == ROOT else self._depths[parent] + 1)
        # One prompt alone needs no mask, and attention takes its fastest way.
        is_chain = first == 0 and list(parents) == list(range(ROOT, len(parents) - 1))
        device = self._loaded.model.device
        hidden_1KD = run_decoder(
            self._loaded,
            self._cache,
            inputs_embeds=embeds_KD[None],
            attention_mask=None if is_chain else self._mask(first),
            position_ids=torch.tensor([self._depths[first:]], device=device),
        )
        return hidden_1KD[0]

    @torch.inference_mode()
    def read_ids(self, ids: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Read new nodes that are words; otherwise as `read`."""
        table: Any = self._loaded.model.get_input_embeddings()
        return self.read(table(torch.tensor(ids, dtype=torch.long, device=self._loaded.model.device)), parents)

    @torch.inference_mode()
    def logits(self, hidden_KD: Tensor) -> Tensor:
        """Return the scores of what follows, float32 [K, V]."""
        scores: Tensor = self._loaded.model.lm_head(hidden_KD)
        return scores.float()

    def _mask(self, first: int) -> Tensor:
        """Return what is added to the attention scores of the nodes from `first` on, [1, 1, K, n]."""
        seen = np.zeros((len(self) - first, len(self)), np.bool_)
        for row, own in zip(seen, self._seen[first:], strict=True):
            row[: len(own)] = own
        model = self._loaded.model
        mask = torch.zeros(seen.shape, dtype=model.dtype, device=model.device)
        hidden = torch.from_numpy(~seen).to(model.device)
        return mask.masked_fill_(hidden, torch.finfo(model.dtype).min)[None, None]
