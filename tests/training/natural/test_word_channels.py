"""The stage "words": channels find the words of captions, and become their embeddings above the other channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from m3video.training.natural.features import NaturalFeatures
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.word_channels import train_words, true_words
from m3video.training.recipe import Stage

THINGS = ("dog", "beach", "snow", "horse")
TRUNK, READING, COARSE, WIDTH = 5, 3, 12, 16
CLASSES, ROOM, READ = 6, 10, 7


class Codec:
    """Each word is one token of its own."""

    def encode(self, text: str) -> list[int]:
        return [10 + THINGS.index(text.strip())]


class Projector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(TRUNK + READING + COARSE, CLASSES + ROOM + READ)
        self.linear_2 = nn.Linear(CLASSES + ROOM + READ, WIDTH)

    def words(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """Return what the channels between the classes and reading add to a picture's mean token."""
        own = slice(CLASSES, CLASSES + len(THINGS))
        cells = torch.cat([fine, coarse.repeat_interleave(2, 0).repeat_interleave(2, 1)], -1).flatten(0, 1)
        inner = nn.functional.gelu(cells @ self.linear_1.weight[own].T + self.linear_1.bias[own])
        return self.linear_2.weight[:, own] @ inner.mean(0)


def pictures(count: int) -> tuple[NaturalFeatures, dict[int, tuple[str, ...]]]:
    """Each word of a picture's caption is a pattern in a quarter of its cells."""
    draw = np.random.default_rng(0)
    patterns = draw.normal(size=(len(THINGS), COARSE))
    fine = draw.normal(size=(count, 24, 24, TRUNK + READING)).astype(np.float16)
    coarse = 0.3 * draw.normal(size=(count, 12, 12, COARSE))
    captions = {}
    for row in range(count):
        shown = draw.permutation(len(THINGS))[: 1 + row % 2]
        for quarter, thing in enumerate(shown):
            coarse[row, 6 * quarter : 6 * quarter + 6, :6] += 2 * patterns[thing]
        captions[row] = ("The " + " and the ".join(THINGS[thing] for thing in shown),)
    return NaturalFeatures(fine, coarse.astype(np.float16), {}), captions


def test_a_picture_becomes_the_embeddings_of_its_words(tmp_path: Path) -> None:
    torch.manual_seed(0)
    features, captions = pictures(60)
    projector = Projector()
    before = {name: tensor.clone() for name, tensor in projector.state_dict().items()}
    embeddings = torch.randn(20, WIDTH)
    stage = Stage(steps=100, batch=20, rate=1e-2, save_every=100)
    recipe = SmallRecipe(photos=tmp_path, words=stage)
    shown = {row: told for row, told in captions.items() if row < 50}
    given = (Codec(), embeddings, features, shown, recipe, tmp_path)
    train_words(projector, *given, classes=CLASSES, reading=(READING, READ), resume=False)

    own = embeddings[10:14] - embeddings[10:14].mean(0)
    right = 0
    for row in range(50, 60):
        token = projector.words(*(of[0] for of in features.read([row], torch.device("cpu"))))
        true = {THINGS.index(word) for word in captions[row][0].split() if word in THINGS}
        right += true == set((own @ token).topk(len(true)).indices.tolist())
    assert right >= 9

    after = projector.state_dict()
    changed = {name: tensor != before[name] for name, tensor in after.items()}
    rows = slice(CLASSES, CLASSES + len(THINGS))
    for name, tensor in changed.items():
        tensor = tensor.T if name == "linear_2.weight" else tensor
        if name == "linear_2.bias":
            assert not tensor.any()
        else:
            assert tensor[rows].any()
            assert not tensor[: rows.start].any()
            assert not tensor[rows.stop :].any()
    assert not after["linear_1.weight"][rows, TRUNK : TRUNK + READING].any()

    again = Projector()
    again.load_state_dict(before)
    train_words(again, *given, classes=CLASSES, reading=(READING, READ), resume=True)
    assert all(torch.equal(tensor, after[name]) for name, tensor in again.state_dict().items())


def test_frequent_words_are_kept() -> None:
    words, true = true_words({3: ("A dog runs.", "The dog is brown."), 5: ("A dog and a horse.",), 8: ("A house.",)}, 2)
    assert words[0] == "dog"
    assert len(words) == 2
    assert true[3][0] == true[5][0] == 0
    assert true[8] == []
