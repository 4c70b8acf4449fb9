"""Rendered shots whose vision features are computed once: the last stages read them hundreds of times.

Shape legend: M frames of all shots, C 576 cells, V tower width.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3video.files import replacing
from m3video.model.m3 import M3VideoForConditionalGeneration
from m3video.training.build import autocast
from m3video.training.footage import normalise, sample_moments, shot_frames
from m3video.training.recipe import Recipe
from m3video.training.render import CellLabels
from m3video.training.scenes import Facts, facts_at
from m3video.training.vision import tower_features
from m3video.training.words import BACKGROUND_COLOURS, COLOURS

SHOTS_PER_FILE = 50


def _rng(recipe: Recipe, shot: int) -> random.Random:
    return random.Random(f"{recipe.seed} features {shot}")


def tile_facts(labels: CellLabels) -> NDArray[np.int16]:
    """Which tile fact each cell carries, [576], -1 for none: (row * 12 + column) * colours + colour."""
    tile, colour = labels.tile_GG.reshape(-1), labels.colour_GG.reshape(-1)
    names = np.array([BACKGROUND_COLOURS.index(c) if c in BACKGROUND_COLOURS else 0 for c in ("red", *COLOURS)])
    return np.where(tile >= 0, tile * len(BACKGROUND_COLOURS) + names[colour], -1).astype(np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """features_MCV float16, tiles_MC int16 (see `tile_facts`), and the facts of each shot's frames."""

    features_MCV: NDArray[np.float16]
    tiles_MC: NDArray[np.int16]
    shots: tuple[tuple[Facts, ...], ...]
    frames_per_shot: int

    def sample(self, rng: random.Random, number: int) -> tuple[list[int], list[Facts]]:
        """Rows and facts of a clip's `number` frames: whole shots in a row, some of them shown only once."""
        rows: list[int] = []
        facts: list[Facts] = []
        while len(rows) < number:
            shot = rng.randrange(len(self.shots))
            count = rng.randint(1, self.frames_per_shot)
            first = rng.randint(0, self.frames_per_shot - count)
            for frame in range(first, first + count):
                rows.append(shot * self.frames_per_shot + frame)
                facts.append(self.shots[shot][frame])
        return rows[:number], facts[:number]

    def rows(self, rows: list[int], device: torch.device) -> Tensor:
        """Features of the named frames, float32 [N, 576, V]."""
        return torch.from_numpy(self.features_MCV[rows]).to(device).float()


def _render(recipe: Recipe, shots: range) -> Iterator[tuple[NDArray[np.float32], list[NDArray[np.int16]]]]:
    for shot in shots:
        squares, labels, _ = shot_frames(_rng(recipe, shot), num_frames=recipe.frames_per_shot, h264=True)
        yield normalise(squares), [tile_facts(label) for label in labels]


@torch.no_grad()
def make_features(
    model: M3VideoForConditionalGeneration, recipe: Recipe, folder: Path, *, device: torch.device, part: int = 0,
    parts: int = 1,
) -> None:  # fmt: skip
    """Render and encode every `parts`-th file of shots from `part` on; files that exist are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(part * SHOTS_PER_FILE, recipe.cached_shots, parts * SHOTS_PER_FILE)
    for start in starts:
        target = folder / f"shots-{start:06d}.npz"
        if target.exists():
            continue
        features, tiles = [], []
        for pixels, cells in _render(recipe, range(start, min(start + SHOTS_PER_FILE, recipe.cached_shots))):
            with autocast(device):
                encoded = tower_features(model, torch.from_numpy(pixels).to(device))
            features.append(encoded.float().cpu().numpy().astype(np.float16))
            tiles += cells
        with replacing(target) as unfinished, unfinished.open("wb") as file:
            np.savez(file, features=np.concatenate(features), tiles=np.stack(tiles))


def load_features(recipe: Recipe, folder: Path) -> Features:
    """All files of the folder, in order, with the facts made again from the shots' seeds."""
    features, tiles = [], []
    for start in range(0, recipe.cached_shots, SHOTS_PER_FILE):
        with np.load(folder / f"shots-{start:06d}.npz") as data:
            features.append(data["features"])
            tiles.append(data["tiles"])
    shots = []
    for number in range(recipe.cached_shots):
        shot, moments = sample_moments(_rng(recipe, number), num_frames=recipe.frames_per_shot)
        shots.append(tuple(facts_at(shot, moment) for moment in moments))
    return Features(np.concatenate(features), np.concatenate(tiles), tuple(shots), recipe.frames_per_shot)
