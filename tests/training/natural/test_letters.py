"""The stage "letters": reading channels become the embedding of what stands in a cell, and nothing else changes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from m3video.training.natural.features import NaturalFeatures
from m3video.training.natural.letters import train_letters
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.reel_frames import READABLE, text_scale
from m3video.training.natural.text_pictures import TextAnswers
from m3video.training.recipe import Stage
from m3video.types import SCALES

STRINGS = ("th", "is", "pa", "ge")
READING, INNER, FINE, COARSE, WIDTH = 6, 20, 9, 4, 16


class Codec:
    """Each string is one token of its own."""

    def encode(self, text: str) -> list[int]:
        return [10 + STRINGS.index(text)]


class Projector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(FINE + COARSE, 8 + INNER)
        self.linear_2 = nn.Linear(8 + INNER, WIDTH)


def test_cells_become_the_embeddings_of_their_letters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    fine = np.zeros((3, 24, 24, FINE), np.float16)
    patterns = draw.normal(size=(len(STRINGS), READING))
    texts = {}
    for row in (0, 2):
        cells = {int(cell): STRINGS[int(cell) % 4] for cell in draw.choice(576, 60, replace=False)}
        for cell, text in cells.items():
            fine[row, cell // 24, cell % 24, FINE - READING :] = patterns[STRINGS.index(text)]
        texts[row] = TextAnswers("page", ("this",), 0.05, cells=cells)
    features = NaturalFeatures(fine, np.zeros((3, 12, 12, COARSE), np.float16), {})
    projector = Projector()
    before = {name: tensor.clone() for name, tensor in projector.state_dict().items()}
    embeddings = torch.randn(20, WIDTH)
    recipe = SmallRecipe(
        photos=tmp_path,
        reading_channels=READING,
        reading_width=INNER,
        letters=Stage(steps=150, batch=2, rate=1e-2, save_every=150),
    )
    train_letters(projector, Codec(), embeddings, features, texts, recipe, tmp_path, resume=False)
    rows, columns = slice(8, None), slice(FINE - READING, FINE)

    def added(row: int, cell: int) -> torch.Tensor:
        read = torch.from_numpy(fine[row, cell // 24, cell % 24, columns]).float()
        inner = torch.nn.functional.gelu(
            projector.linear_1.weight[rows, columns] @ read + projector.linear_1.bias[rows]
        )
        return projector.linear_2.weight[:, rows] @ inner

    own = embeddings[10:14] - embeddings[10:14].mean(0)
    for cell, text in texts[2].cells.items():
        assert int((own @ added(2, cell)).argmax()) == STRINGS.index(text)
    empty = next(cell for cell in range(576) if cell not in texts[2].cells)
    assert added(2, empty).norm() < 0.3 * added(2, next(iter(texts[2].cells))).norm()
    after = projector.state_dict()
    changed = {name: tensor != before[name] for name, tensor in after.items()}
    assert not changed["linear_1.weight"][:8].any()
    assert not changed["linear_1.weight"][:, : FINE - READING].any()
    assert not changed["linear_1.bias"][:8].any()
    assert not changed["linear_2.weight"][:, :8].any()
    assert not changed["linear_2.bias"].any()


def test_small_letters_are_shown_at_fine_scales() -> None:
    for cap in (0.03, 0.06, 0.12, 0.3):
        drawn = [text_scale(random.Random(seed), cap) for seed in range(300)]
        assert set(drawn) <= set(SCALES)
        spacing = 0.67 * cap * 24  # cells from one letter to the next
        readable = [spacing * (scale / 576) ** 0.5 >= READABLE or scale == 576 for scale in drawn]
        assert 0.6 < np.mean(readable) < 1
    mean = [np.mean([text_scale(random.Random(seed), cap) for seed in range(300)]) for cap in (0.04, 0.08, 0.3)]
    assert mean == sorted(mean, reverse=True)
