"""A frame's true content as token embeddings: what the decoder learns to find and read before it ever sees pixels.

Each fact (a background, a shape of a colour, a digit of a sign) has a vector; a frame is the sum of its facts. The
tiles of a board are facts of their cells, so that a board needs as many tokens as it has tiles.
Shape legend: N frames, S tokens of one frame, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from m3video.model.nested import pool
from m3video.training.questions import NUM_TILE_FACTS, board_cells, fact_ids, fact_list
from m3video.training.scenes import Facts


def composed(width: int) -> Tensor:
    """First vectors of all facts, unit variance, [facts, width]: what a fact names ("red", "circle") has one vector,
    turned by a sign pattern for each role, so that what is learned of one red thing helps with the next."""
    draw = torch.Generator().manual_seed(7)
    parts: dict[object, Tensor] = {}
    rows = []
    for role, *named in fact_ids():
        vectors = []
        for place, part in enumerate(named):
            vector = parts.setdefault(("part", part), torch.randn(width, generator=draw))
            sign = parts.setdefault(("role", role, place), torch.randn(width, generator=draw).sign())
            vectors.append(vector * sign)
        own = torch.randn(width, generator=draw)
        together = vectors[0] * vectors[1] if len(vectors) == 2 else own
        rows.append((sum(vectors, own * 0.3) + 0.7 * together) / (len(vectors) + 0.6) ** 0.5)
    return torch.stack(rows)


class Symbols(nn.Module):
    """Vectors of facts, and frames as sums of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.facts = nn.EmbeddingBag(len(fact_ids()), width, mode="sum")
        self.tiles = nn.Embedding(NUM_TILE_FACTS, width)
        with torch.no_grad():
            self.facts.weight.copy_(0.4 * composed(width))
        nn.init.normal_(self.tiles.weight, std=0.6)

    def whole(self, frames: Sequence[Facts]) -> Tensor:
        """What each frame shows as a whole, [N, D]."""
        lists = [fact_list(frame) for frame in frames]
        flat = torch.tensor([fact for facts in lists for fact in facts], device=self.facts.weight.device)
        lengths = torch.tensor([0, *(len(facts) for facts in lists[:-1])], device=flat.device).cumsum(0)
        return self.facts(flat, lengths)

    def tokens(self, frames: Sequence[Facts], scales: Sequence[int]) -> Tensor:
        """All frames' tokens at their scales, packed in order, [sum of scales, D]."""
        blocks = []
        for frame, token_D, scale in zip(frames, self.whole(frames), scales, strict=True):
            block = token_D.expand(scale, -1)
            if frame.board:
                cells = torch.from_numpy(board_cells(frame.board)).to(token_D.device)
                block = block + pool(self.tiles(cells)[None], scale)[0]
            blocks.append(block)
        return torch.cat(blocks)
