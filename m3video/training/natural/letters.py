"""Stage "letters": the projector's reading channels turn what stands in a cell into the embedding of these letters.

So a page reaches the decoder as a text whose words are cut where cells end ("Th", "is", "pa", "ge"): it has to put
words together, and need not learn letters first. Where nothing stands nothing is added.

Shape legend: C cells, R reading channels, X of the inner channels that see only these, D decoder width, K strings.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3video.model.tokenizer import TextCodec
from m3video.training.loop import autocast, run_stage
from m3video.training.natural.class_channels import directions
from m3video.training.natural.features import NaturalFeatures
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.text_pictures import TextAnswers

STRINGS = 3000
"""Those that stand in a cell most often are told apart; others are not looked at."""
EMPTY_CELLS = 1000
"""Of a step that are kept silent."""


class LetterChannels(nn.Module):
    """The part of the projector that reads, on its own: R -> X -> D."""

    def __init__(self, projector: Any, reading: tuple[int, int], fine: int, strings: int) -> None:
        super().__init__()
        channels, inner = reading
        self.columns, self.rows = slice(fine - channels, fine), slice(projector.linear_1.out_features - inner, None)
        self.inward = nn.Parameter(projector.linear_1.weight[self.rows, self.columns].detach().clone())
        self.bias = nn.Parameter(projector.linear_1.bias[self.rows].detach().clone())
        self.outward = nn.Parameter(projector.linear_2.weight[:, self.rows].detach().clone())
        self.string_bias = nn.Parameter(torch.zeros(strings, device=self.bias.device))
        self.scale = nn.Parameter(torch.tensor(2.0, device=self.bias.device))

    def forward(self, cells_CR: Tensor) -> Tensor:
        """Return what is added to each cell's token, [C, D]."""
        return F.linear(F.gelu(F.linear(cells_CR, self.inward, self.bias)), self.outward)

    @torch.no_grad()
    def put_into(self, projector: Any) -> None:
        """Write the trained weights back."""
        projector.linear_1.weight[self.rows, self.columns] = self.inward
        projector.linear_1.bias[self.rows] = self.bias
        projector.linear_2.weight[:, self.rows] = self.outward


def train_letters(
    projector: Any,
    codec: TextCodec,
    embeddings_VD: Tensor,
    features: NaturalFeatures,
    texts: Mapping[int, TextAnswers],
    recipe: SmallRecipe,
    folder: Path,
    *,
    resume: bool,
) -> None:
    """Train the reading channels of the projector on pages, and nothing else.

    Args:
        projector: of the model; see `start_projector` for its reading channels.
        codec: the decoder's tokenizer.
        embeddings_VD: of the decoder's tokens.
        features: of the pages.
        texts: row of each page -> what is written on it.
        recipe: its `letters` is the stage; `batch` is pages.
        folder: the run folder.
        resume: go on from its checkpoint.
    """
    stage, device = recipe.letters, projector.linear_1.weight.device
    pages = [row for row, text in sorted(texts.items()) if text.cells]
    strings = [s for s, _ in Counter(s for row in pages for s in texts[row].cells.values()).most_common(STRINGS)]
    number_of = {string: number for number, string in enumerate(strings)}
    directions_KD = directions(embeddings_VD.float(), [codec.encode(string) for string in strings])
    spread = float(embeddings_VD.float().std(0).mean())
    length = spread * embeddings_VD.shape[1] ** 0.5  # of an embedding
    reading = recipe.reading_channels, recipe.reading_width
    part = LetterChannels(projector, reading, features.fine_MHWF.shape[-1], len(strings))

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} letters {number}")
        rows = [rng.choice(pages) for _ in range(stage.batch)]
        fine, _ = features.read(rows, device)
        cells_CR = fine[..., part.columns].flatten(0, 2)
        size = len(cells_CR) // len(rows)
        held = {at * size + cell: text for at, row in enumerate(rows) for cell, text in texts[row].cells.items()}
        known = [cell for cell, text in held.items() if text in number_of]
        free = sorted(set(range(len(cells_CR))) - set(held))
        empty = rng.sample(free, min(EMPTY_CELLS, len(free)))
        with autocast(device):
            added = part(cells_CR[torch.tensor(known + empty, device=device)]).float()
        told, silent = added[: len(known)], added[len(known) :]
        truth = torch.tensor([number_of[held[cell]] for cell in known], device=device)
        logits_CK = told @ directions_KD.T * part.scale.exp() / length + part.string_bias
        loss = F.cross_entropy(logits_CK, truth)
        loud = (told.std(-1) / spread).log().square().mean()
        quiet = (silent / spread).square().mean()
        right = float((logits_CK.argmax(1) == truth).float().mean())
        noise = float(quiet.detach())
        return loss + 0.1 * loud + quiet, {"strings": (right, 1.0), "noise": (noise, 1.0)}

    outdates = ("pictures.pt", "reels.pt")
    run_stage("letters", stage, part, folder, resume=resume, step=step, outdates=outdates)
    part.put_into(projector)
