"""How readable a word is at each of the five scales: linear probes of pooled tokens, with the branch and without it.

    python -m m3video.training.natural.scale_probe PHOTOS RUN_DIR/reading_tower.pt

One word is drawn over each photograph. A token is asked which letters and digits stand in its part of the picture. As
many as do are named, the likeliest first, and the share of right ones is counted; "chance" names the most frequent.

Shape legend: N pictures, C channels, T tokens with a character in them, L = 36 letters and digits.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from m3video.model.m3.conv_sizes import CELL
from m3video.model.m3.conv_tower import EfficientNetLiteModel, to_cells
from m3video.model.m3.pooling import pool
from m3video.training.natural.page_words import classes_of
from m3video.training.natural.reading_tower import load_tower, page_maker, page_pixels
from m3video.training.natural.splits import Part
from m3video.training.natural.text_pages import Page
from m3video.training.natural.train_small import caption_words
from m3video.types import FULL_SIDE, SCALES

LETTERS = 36
STEPS, RATE, DECAY = 400, 0.02, 0.01


def letters_of_tokens(page: Page, scale: int) -> dict[int, Tensor]:
    """Return which letters and digits stand in each token that has one: its number -> bool [L]."""
    side = round(scale**0.5)
    places = np.floor(page.centres_K2 / CELL).astype(int) * side // FULL_SIDE
    found: dict[int, Tensor] = {}
    for (column, row), one in zip(places.tolist(), classes_of(page.text).tolist(), strict=True):
        if one <= LETTERS:
            found.setdefault(row * side + column, torch.zeros(LETTERS, dtype=torch.bool))[one - 1] = True
    return found


@torch.no_grad()
def tokens_of_pages(trunk: EfficientNetLiteModel, pages: Sequence[Page]) -> dict[int, tuple[Tensor, Tensor]]:
    """Return for each scale the tokens that have a letter in them, [T, C], and which letters those are, bool [T, L].

    The channels are those that the projector reads, pooled: the projector's first layer comes before pooling in the
    model, so that it could keep a little more than a linear probe finds here.
    """
    tokens: dict[int, list[Tensor]] = {scale: [] for scale in SCALES}
    letters: dict[int, list[Tensor]] = {scale: [] for scale in SCALES}
    for page in pages:
        maps = trunk.feature_maps(page_pixels(trunk, [page.picture], trunk.stem.weight.device))
        cells = torch.cat([to_cells(one) for one in maps], 1).flatten(2).transpose(1, 2).float()
        for scale in SCALES:
            pooled = pool(cells, scale)[0]
            for number, found in letters_of_tokens(page, scale).items():
                tokens[scale].append(pooled[number])
                letters[scale].append(found)
    return {scale: (torch.stack(tokens[scale]), torch.stack(letters[scale])) for scale in SCALES}


def share_named(scores_TL: Tensor, letters_TL: Tensor) -> float:
    """Return the share of right ones among as many letters as each token has, the likeliest."""
    order = scores_TL.argsort(1, descending=True).argsort(1)
    return float(((order < letters_TL.sum(1, keepdim=True)) & letters_TL).sum() / letters_TL.sum())


def probe(train: tuple[Tensor, Tensor], dev: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return `share_named` on dev tokens of a linear probe fitted to the training tokens, and of letters' frequency."""
    (seen, labels), (unseen, asked) = train, dev
    mean, spread = seen.mean(0), seen.std(0) + 1e-3
    weight = torch.zeros(seen.shape[1], LETTERS, requires_grad=True)
    bias = torch.logit(labels.float().mean(0).clamp(1e-3, 0.999)).requires_grad_()
    start = bias.detach().clone()
    optimizer = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=DECAY)
    inputs = (seen - mean) / spread
    for number in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - number / STEPS)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(inputs @ weight + bias, labels.float()).backward()
        optimizer.step()
    with torch.no_grad():
        scores = (unseen - mean) / spread @ weight + bias
    return share_named(scores, asked), share_named(start.expand_as(scores), asked)


def main() -> None:
    """Print a line for each scale."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("photos", type=Path, help="folder of photographs, as in a recipe")
    options.add_argument("checkpoint", type=Path, help="reading_tower.pt of a run")
    options.add_argument("--train", type=int, default=1500, help="pictures that the probes are fitted to")
    options.add_argument("--dev", type=int, default=400, help="pictures in other fonts, with other words")
    given = options.parse_args()
    tower, _ = load_tower(given.checkpoint)
    trunk = copy.deepcopy(tower).to(torch.bfloat16)
    words = caption_words(given.photos)
    counts: dict[Part, int] = {"train": given.train, "dev": given.dev}
    sets = {}
    for part, count in counts.items():
        maker = page_maker(given.photos, part, words)
        pages = [maker.page(random.Random(f"{part} {number}"), style="word") for number in range(count)]
        sets[part] = tokens_of_pages(trunk, pages)
    own = tower.config.reading_channels
    fine = next(map_.shape[1] for map_ in trunk.feature_maps(torch.zeros(1, 3, 384, 384, dtype=torch.bfloat16)))
    without = [number for number in range(sets["dev"][1][0].shape[1]) if not fine - own <= number < fine]
    for scale in SCALES:
        train, dev = (sets[part][scale] for part in ("train", "dev"))
        with_branch, chance = probe(train, dev)
        alone, _ = probe((train[0][:, without], train[1]), (dev[0][:, without], dev[1]))
        print(
            f"scale {scale:3d}: {len(dev[0])} tokens, {float(dev[1].sum(1).float().mean()):.1f} letters in each; "
            f"right with the branch {with_branch:.3f}, without {alone:.3f}, chance {chance:.3f}"
        )


if __name__ == "__main__":
    main()
