"""The choice of the next token of an answer.

Shape legend: B answers, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m3video.model.tokenizer import TextCodec


class NextToken:
    """The choice of the next token: the likeliest id that the tokenizer has a piece for.

    Many checkpoints round their vocabulary up. The rows beyond the tokenizer's last piece were never trained, stand
    for no text, and may hold anything.
    """

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._without: Tensor | None = None

    def scores(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to choose the greatest of, and whether there is a number to choose by.

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
