"""The next token of an answer: the likeliest id that the tokenizer has a piece for, if there is a number to choose by.

Many checkpoints round their vocabulary up. The rows beyond the tokenizer's last piece were never trained, stand for no
text, and may hold anything.

Shape legend: B prompts, V vocabulary of the output layer, T tokens so far.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from m3video.model.tokenizer import TextCodec


class NextToken(LogitsProcessor):
    """Greedy choices of one run, in a loop of our own (`scores`) or in that of transformers (called at each step).

    Nothing here waits for a GPU: what was found is read when the answers are.

    Attributes:
        failed_B: after a run of transformers, which rows had no number to choose by.
    """

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._without: Tensor | None = None
        self.failed_B: Tensor | None = None

    def scores(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """Logits to choose the greatest of.

        Args:
            logits_BV: of the last positions.

        Returns:
            The logits, -inf where an id has no piece, and bool [B]: whether those of all others are finite.
        """
        if self._without is None:
            ids = list(self._codec.without_piece(logits_BV.shape[-1]))
            self._without = torch.tensor(ids, dtype=torch.long, device=logits_BV.device)
        numbers_BV = chosen_BV = logits_BV
        if len(self._without):
            numbers_BV = logits_BV.index_fill(-1, self._without, 0.0)
            chosen_BV = logits_BV.index_fill(-1, self._without, -torch.inf)
        # NaN is the least and the greatest of all that it is among.
        least_B, greatest_B = torch.aminmax(numbers_BV, dim=-1)
        return chosen_BV, least_B.isfinite() & greatest_B.isfinite()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """What transformers asks at each step: ids so far [B, T] and logits [B, V] to logits [B, V].

        A row without a number ends at once, whatever the others do.
        """
        eos = self._codec.eos_id
        chosen_BV, finite_B = self.scores(scores)
        # What is computed for a row that has ended, while others go on, is no part of its answer.
        failed_B = ~finite_B & ~(input_ids == eos).any(dim=-1)
        self.failed_B = failed_B if self.failed_B is None else self.failed_B | failed_B
        chosen_BV = chosen_BV.masked_fill(~finite_B[:, None], -torch.inf)
        if eos < chosen_BV.shape[-1]:
            chosen_BV[:, eos].masked_fill_(~finite_B, 0.0)
        return chosen_BV
