"""A frame's true content as token embeddings: what the decoder learns to find and read before it ever sees pixels.

Each fact has a vector. A token is the sum of the facts of the whole frame plus the mean of the local facts of its own
cells, so that small or localised content takes enough tokens. No cell has to encode what another cell shows: a tower of
this size learned that badly (one shape's place in 8 % of all frames), but each cell's own content nearly always.
Shape legend: N frames, C 576 cells, S tokens of one frame, D width.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m3video.training.facts import (
    FactKey,
    fact_ids,
    fact_list,
    local_facts,
    local_ids,
    loudness_of,
    renewed,
    token_shares,
)
from m3video.training.render import draw
from m3video.training.scenes import Facts, facts_at, sample_shot

LOUD = 0.4
FOCUS = {"board": 4, "table": 2, "sign": 3, "shapes": 2}
"""How often a clip is about each of these: boards take longest to learn."""
FOCUS_SHARE = 0.85
SymbolicFrame = tuple[Facts, NDArray[np.int16]]
"""The facts of a frame, and the local fact of each of its cells [576] (see `facts.local_facts`)."""


def composed(keys: Iterable[FactKey], width: int) -> Tensor:
    """Return vectors of facts, unit variance, [facts, width].

    What a fact names ("red", "circle") has one vector, times a sign pattern for each role, so that what is learned
    about one red thing helps with the next. Their product binds them together where several facts share a token.
    """
    draw_from = torch.Generator().manual_seed(7)
    parts: dict[object, Tensor] = {}
    rows = []
    for role, *named in keys:
        vectors = []
        for place, part in enumerate(named):
            # Rows and columns are the same thing on a board and in a table.
            grid = role in ("tile", "entry") and place < 2
            vector = parts.setdefault(("part", part, place if grid else -1), torch.randn(width, generator=draw_from))
            sign_key = ("role", "grid" if grid else role, place)
            vectors.append(vector * parts.setdefault(sign_key, torch.randn(width, generator=draw_from).sign()))
        own = torch.randn(width, generator=draw_from)
        bound = [torch.stack(vectors).prod(0) if len(vectors) > 1 else own]
        if role == "here":
            # A question names a shape by its colour or its kind, and asks for another of its three properties.
            bound = [vectors[0] * vectors[1], vectors[0] * vectors[2], vectors[1] * vectors[2]]
        whole = sum(vectors, own * 0.3) + 0.7 * torch.stack(bound).sum(0)
        rows.append(whole / (len(vectors) + 0.09 + 0.49 * len(bound)) ** 0.5)
    return torch.stack(rows)


class Symbols(nn.Module):
    """Vectors of facts, and frames as sums of them; fixed, the same for the vision tower that learns to produce them
    and for the decoder that learns to read them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        facts = LOUD * composed(fact_ids(), width)
        local = LOUD * torch.cat([composed(local_ids(), width), torch.zeros(1, width)])
        self.facts = nn.EmbeddingBag.from_pretrained(facts, mode="sum")
        self.local = nn.Embedding.from_pretrained(local)

    def whole(self, frames: Sequence[Facts]) -> Tensor:
        """Return the sum of each frame's facts, [N, D]."""
        lists = [fact_list(frame) for frame in frames]
        flat = torch.tensor([fact for facts in lists for fact in facts], device=self.facts.weight.device)
        lengths = torch.tensor([0, *(len(facts) for facts in lists[:-1])], device=flat.device).cumsum(0)
        return self.facts(flat, lengths)

    def cells(self, cells_NC: NDArray[np.int16]) -> Tensor:
        """Return the local fact of each cell, zeros where there is none, [N, C, D]."""
        device = self.local.weight.device
        numbers = torch.from_numpy(cells_NC).to(device).long()
        loud = torch.from_numpy(np.stack([loudness_of(cells_C, cells_C) for cells_C in cells_NC])).to(device)
        return self.local(torch.where(numbers < 0, len(local_ids()), numbers)) * loud[..., None]

    def tokens(self, frames: Sequence[SymbolicFrame], scales: Sequence[int]) -> Tensor:
        """Return all frames' tokens at their scales, packed in order, [sum of scales, D]."""
        wholes = self.whole([facts for facts, _ in frames])
        blocks = []
        for (_, cells_C), whole_D, scale in zip(frames, wholes, scales, strict=True):
            block = whole_D.expand(scale, -1)
            seen = np.unique(cells_C[cells_C >= 0])
            if len(seen):
                # The same as pooling `cells`, without a vector for each of 576 cells.
                weights_US = token_shares(seen, cells_C, scale) * loudness_of(seen, cells_C)[:, None]
                numbers = torch.from_numpy(seen).to(whole_D.device).long()
                block = block + torch.from_numpy(weights_US.T).to(whole_D.device) @ self.local(numbers)
            blocks.append(block)
        return torch.cat(blocks)


@dataclass(frozen=True, slots=True)
class FramePool:
    """Frames to make clips of, without their pictures; `fine` holds rows as `fine_rows` returns them."""

    frames: tuple[SymbolicFrame, ...]
    fine: Mapping[str, Sequence[int]]

    def sample(self, rng: random.Random, number: int, *, fine: bool = False) -> list[SymbolicFrame]:
        """Draw a clip's frames: mostly another each time, some shown two or three times in a row; what stands on boards
        and signs is drawn afresh each time. With `fine`, most need more than one token, all for the same reason."""
        frames: list[SymbolicFrame] = []
        rows = (focus(rng, self.fine) if fine else ()) or range(len(self.frames))
        while len(frames) < number:
            row = rng.choice(rows) if rng.random() < FOCUS_SHARE else rng.randrange(len(self.frames))
            frames += [renewed(*self.frames[row], rng)] * rng.choice((1, 1, 1, 2, 3))
        return frames[:number]


def draw_frames(seed: str, number: int) -> FramePool:
    """Draw `number` random frames, the same ones for the same seed."""
    frames: list[SymbolicFrame] = []
    for index in range(number):
        rng = random.Random(f"{seed} drawn {index}")
        shot, moment = sample_shot(rng), rng.random()
        frames.append((facts_at(shot, moment), local_facts(draw(shot, moment)[1])))
    return FramePool(tuple(frames), fine_rows([facts for facts, _ in frames]))


def fine_rows(frames: Sequence[Facts]) -> dict[str, Sequence[int]]:
    """Return the frames with content that takes more than one token, by what it is (keys of `FOCUS`)."""
    tests = {
        "board": lambda f: f.board,
        "table": lambda f: f.table,
        "sign": lambda f: f.sign,
        "shapes": lambda f: len(f.shapes) > 1,
    }
    return {name: [row for row, facts in enumerate(frames) if test(facts)] for name, test in tests.items()}


def focus(rng: random.Random, fine: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """Draw one of those contents and return its rows (the largest group where no frame shows it)."""
    name = rng.choices(list(FOCUS), list(FOCUS.values()))[0]
    return fine[name] or max(fine.values(), key=len)
