"""Stage "reading_tower": the tower's branch learns letters from drawn pages, cell by cell; the trunk is frozen.

A linear head names up to three characters of each of the 24x24 cells, from left to right. It is no part of the model:
it stays in the checkpoint as a probe, and the decoder learns to read the same channels.

Shape legend: N pages, R reading channels, G = 24 cells of a side, S = 3 characters of a cell, K classes.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from m3video.errors import UsageError
from m3video.model.m3.conv_tower import EfficientNetLiteConfig, EfficientNetLiteModel
from m3video.model.m3.images import normalise
from m3video.model.m3.picture_format import picture_format
from m3video.model.m3.square import as_square
from m3video.training.loop import autocast, run_stage
from m3video.training.natural import photos
from m3video.training.natural.overlaid_text import fonts
from m3video.training.natural.page_words import NONE, NUM_CLASSES, WordMaker
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.splits import Part
from m3video.training.natural.text_pages import SLOTS, CellTexts, Page, PageMaker, cell_texts
from m3video.training.pretrained_tower import load_pretrained_tower
from m3video.training.recipe import Stage
from m3video.utils.text import first_line

CHECKPOINT = "reading_tower"
DEV_FAMILIES = ("Caladea", "Source Sans Pro")
"""Families of the training part that this stage leaves out, to be measured on."""
DEV_PACKAGES = "font-caladea font-source-sans-pro"
BACKGROUNDS = 400
"""Photographs behind the pages, kept in memory."""
EMPTY_WEIGHT = 0.1
"""A place without a character counts this much of one with a character: most places have none."""


WARM_STEPS, FLOOR = 100, 0.05
FALL = 0.25
"""Share of the steps, the last ones, over which the learning rate falls."""


def reading_rate(step: int, stage: Stage) -> float:
    """Return the learning rate before `step` (0-based): warmed up, held, and at the end a straight line down to a
    twentieth. A run may be made longer from any checkpoint before its fall, as if it had been so from the start."""
    warm, fall = WARM_STEPS, max(1, round(stage.steps * FALL))
    left = (stage.steps - step) / fall
    return stage.rate * min((step + 1) / warm, max(FLOOR, min(1.0, left)))


class PageReader(nn.Module):
    """What is trained: the tower's branch, and the head that reads it."""

    def __init__(self, branch: nn.Module, channels: int) -> None:
        super().__init__()
        self.reading = branch
        self.slots = nn.Linear(channels, SLOTS * (NUM_CLASSES + 2))

    def forward(self, stride_4: Tensor, stride_8: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what each cell holds: logits of classes [N, G, G, S, K], of a capital and of a word's beginning
        [N, G, G, S]."""
        return self.read(self.reading(stride_4, stride_8).permute(0, 2, 3, 1))

    def read(self, cells_NGGR: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same from the branch's output, channels last."""
        logits = self.slots(cells_NGGR).float().unflatten(-1, (SLOTS, NUM_CLASSES + 2))
        return logits[..., :NUM_CLASSES], logits[..., -2], logits[..., -1]


@dataclass(frozen=True, slots=True, eq=False)
class CellTargets:
    """Labels of a batch, as tensors on its device; see `CellTexts`."""

    classes: Tensor
    upper: Tensor
    starts: Tensor

    @classmethod
    def of(cls, texts: Sequence[CellTexts], device: torch.device) -> CellTargets:
        """Return the labels of some pages, each [N, G, G, S]."""
        stacked = [
            np.stack([getattr(text, name) for text in texts]) for name in ("classes_GGS", "upper_GGS", "starts_GGS")
        ]
        return cls(*(torch.from_numpy(one).to(device) for one in stacked))


def with_reading(tower: EfficientNetLiteModel, channels: int) -> EfficientNetLiteModel:
    """Return a tower with a fresh branch of so many channels beside the given one's trunk, whose weights it shares."""
    config = EfficientNetLiteConfig(**{**tower.config.to_dict(), "reading_channels": channels})
    made = EfficientNetLiteModel(config)
    made.load_state_dict({**made.state_dict(), **tower.state_dict()})
    return made.eval()


def reading_loss(
    logits: tuple[Tensor, Tensor, Tensor], targets: CellTargets
) -> tuple[Tensor, dict[str, tuple[float, float]]]:
    """Return the loss of naming what stands in each cell, and (right, of all) by kind.

    "letters" counts characters without regard to case, "exact" with it, "starts" beginnings of words among characters,
    "phantoms" are characters seen where there is none.
    """
    classes, upper, starts = logits
    weight = torch.ones(NUM_CLASSES, device=classes.device)
    weight[NONE] = EMPTY_WEIGHT
    by_class = F.cross_entropy(classes.flatten(0, -2), targets.classes.flatten(), weight)
    full = targets.classes != NONE
    total = by_class
    if full.any():
        for part, wanted in ((upper, targets.upper), (starts, targets.starts)):
            total = total + 0.5 * F.binary_cross_entropy_with_logits(part[full], wanted[full].float())
    with torch.no_grad():
        named = classes.argmax(-1)
        letters = (named == targets.classes)[full]
        exact = letters & ((upper > 0) == targets.upper)[full]
        begun = ((starts > 0) == targets.starts)[full]
        phantoms = (named != NONE)[~full]
    counted = {"letters": letters, "exact": exact, "starts": begun, "phantoms": phantoms}
    return total, {name: (float(of.sum()), float(of.numel())) for name, of in counted.items()}


def page_maker(folder: Path, part: Part, words: Iterable[str], *, count: int = BACKGROUNDS) -> PageMaker:
    """Return a maker of pages: for `train`, of photographs, words and fonts to learn from; for `dev`, of others.

    Args:
        folder: photographs, as in a recipe.
        part: `train` or `dev`.
        words: to draw; those of other parts are skipped.
        count: photographs behind the pages.

    Raises:
        UsageError: there are no photographs, or no font of the part is installed.
    """
    stored = photos.pictures(folder, "flickr8k")
    names = [photo.image for photo in photos.flickr8k(folder, part)]
    names = random.Random("backgrounds").sample(names, min(count, len(names)))
    files = [path for family, path in fonts("train") if (family in DEV_FAMILIES) == (part == "dev")]
    if not files:
        raise UsageError(f"no font of {' or '.join(DEV_FAMILIES)} is installed: pip install {DEV_PACKAGES}")
    return PageMaker([np.asarray(stored(name)) for name in names], WordMaker(words, part), files)


def page_pixels(tower: EfficientNetLiteModel, squares: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Return square pictures as the tower takes them, [N, 3, H, W] in its number format."""
    form = picture_format(tower.config.to_dict())
    pixels = torch.from_numpy(np.stack([as_square(square, form) for square in squares])).to(device)
    return normalise(pixels, form).to(tower.stem.weight.dtype)


def train_reading_tower(
    tower: EfficientNetLiteModel,
    words: Iterable[str],
    recipe: SmallRecipe,
    folder: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Run the stage; the tower's branch is trained in place, its trunk stays as it is.

    Args:
        tower: with a branch.
        words: to draw on the pages, besides numbers and random strings.
        recipe: its `reading_tower` is the stage; `batch` is pages.
        folder: run folder.
        device: where to train.
        resume: go on from the checkpoint where there is one.
    """
    stage = recipe.reading_tower
    assert stage is not None
    assert tower.reading is not None
    torch.manual_seed(recipe.seed)
    reader = PageReader(tower.reading, tower.config.reading_channels).to(device)
    trunk = copy.deepcopy(tower).to(device, torch.bfloat16)  # four times as quick as float32 on a CPU, and frozen
    maker = page_maker(recipe.photos, "train", words)

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} reading {number}")
        pages = [maker.page(rng) for _ in range(stage.batch)]
        with torch.no_grad():
            early = trunk.early_maps(page_pixels(trunk, [page.picture for page in pages], device))
        with autocast(device):
            logits = reader(*early)
        return reading_loss(logits, CellTargets.of([cell_texts(page) for page in pages], device))

    outdates = ("features", "words.pt", "letters.pt", "pictures.pt", "reels.pt")
    run_stage(CHECKPOINT, stage, reader, folder, resume=resume, step=step, rate=reading_rate, outdates=outdates)


def load_tower(file: Path, trunk: EfficientNetLiteModel | None = None) -> tuple[EfficientNetLiteModel, PageReader]:
    """Return the tower with the branch of a checkpoint of the stage, and its reader, which shares the branch.

    Args:
        file: the checkpoint.
        trunk: a tower without a branch; None for the released one.

    Raises:
        UsageError: the file is no such checkpoint, or the released weights are not installed.
    """
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")["module"]
        channels = len(state["reading.end.weight"])
    except (OSError, KeyError, TypeError, RuntimeError, UnpicklingError) as error:
        raise UsageError(f"{file} is no checkpoint of the stage {CHECKPOINT}: {first_line(error)}") from None
    tower = with_reading(load_pretrained_tower()[0] if trunk is None else trunk, channels)
    assert tower.reading is not None
    reader = PageReader(tower.reading, channels)
    reader.load_state_dict(state)
    return tower, reader.eval()


@torch.no_grad()
def read_pictures(
    tower: EfficientNetLiteModel, reader: PageReader, squares: Sequence[NDArray[np.uint8]], *, batch: int = 8
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield for each picture the classes of its cells' characters and which are capitals, each [G, G, S]."""
    device = tower.stem.weight.device
    for first in range(0, len(squares), batch):
        pixels = page_pixels(tower, squares[first : first + batch], device)
        with autocast(device):
            classes, upper, _ = reader(*tower.early_maps(pixels))
        yield from zip(classes.argmax(-1).cpu().numpy(), (upper > 0).cpu().numpy(), strict=True)


def accuracy_by_height(
    found: Iterable[tuple[NDArray[Any], NDArray[Any]]], pages: Sequence[Page], edges: Sequence[float]
) -> list[tuple[float, float, int]]:
    """Return, between each two edges of the capitals' height, the share of characters that are named in their place
    without and with regard to case, and their number."""
    texts = [cell_texts(page) for page in pages]
    classes, upper = (np.stack(values) for values in zip(*found, strict=True))
    true, capital, caps = (np.stack([getattr(t, n) for t in texts]) for n in ("classes_GGS", "upper_GGS", "caps_GGS"))
    right = classes == true
    out = []
    for low, high in pairwise(edges):
        at = (true != NONE) & (caps >= low) & (caps < high)
        count = max(int(at.sum()), 1)
        exact = right & (upper == capital)
        out.append((float(right[at].sum() / count), float(exact[at].sum() / count), int(at.sum())))
    return out
