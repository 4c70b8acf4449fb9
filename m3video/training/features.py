"""Rendered shots whose vision features are computed once: the last stages read them hundreds of times.

Shape legend: M frames of all shots, C 576 cells, V tower width.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.training.facts import local_facts
from m3video.training.footage import normalise_squares, sample_moments, shot_frames
from m3video.training.loop import autocast
from m3video.training.recipe import ScratchRecipe
from m3video.training.scenes import Facts, facts_at
from m3video.training.symbols import FOCUS_SHARE, SymbolicFrame, fine_rows, focus
from m3video.training.vision import tower_features
from m3video.utils.files import replacing

SHOTS_PER_FILE = 50


def _rng(recipe: ScratchRecipe, shot: int) -> random.Random:
    return random.Random(f"{recipe.seed} features {shot}")


@dataclass(frozen=True, eq=False)
class Features:
    """features_MCV float16, each cell's local fact int16 (see `facts.local_facts`), and what is true of each frame."""

    features_MCV: NDArray[np.float16]
    cells_MC: NDArray[np.int16]
    facts_M: tuple[Facts, ...]
    frames_per_shot: int

    def sample(self, rng: random.Random, number: int, *, fine: bool = False) -> list[int]:
        """Draw the rows of a clip's `number` frames: whole shots in a row, some of them shown only once; see
        `Drawn.sample` for `fine`."""
        rows: list[int] = []
        of = (focus(rng, self.fine) if fine else ()) or range(len(self.facts_M))
        while len(rows) < number:
            row = rng.choice(of) if rng.random() < FOCUS_SHARE else rng.randrange(len(self.facts_M))
            shot = row // self.frames_per_shot
            count = rng.randint(1, self.frames_per_shot)
            first = shot * self.frames_per_shot + rng.randint(0, self.frames_per_shot - count)
            rows += range(first, first + count)
        return rows[:number]

    @functools.cached_property
    def fine(self) -> dict[str, Sequence[int]]:
        """Rows by content that takes more than one token."""
        return fine_rows(self.facts_M)

    def frames(self, rows: Sequence[int]) -> list[SymbolicFrame]:
        """Return the facts of the given frames."""
        return [(self.facts_M[row], self.cells_MC[row]) for row in rows]

    def rows(self, rows: list[int], device: torch.device) -> Tensor:
        """Return features of the given frames, float32 [N, 576, V]."""
        return torch.from_numpy(self.features_MCV[rows]).to(device).float()


def _render(recipe: ScratchRecipe, shots: range) -> Iterator[tuple[NDArray[np.float32], list[NDArray[np.int16]]]]:
    for shot in shots:
        squares, labels, _ = shot_frames(_rng(recipe, shot), num_frames=recipe.frames_per_shot, h264=True)
        yield normalise_squares(squares), [local_facts(label) for label in labels]


@torch.no_grad()
def make_features(
    model: M3VideoForConditionalGeneration,
    recipe: ScratchRecipe,
    folder: Path,
    *,
    device: torch.device,
    part: int = 0,
    parts: int = 1,
) -> None:
    """Render and encode every `parts`-th file of shots from `part` on; existing files are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(part * SHOTS_PER_FILE, recipe.cached_shots, parts * SHOTS_PER_FILE)
    for start in starts:
        target = folder / f"shots-{start:06d}.npz"
        if target.exists():
            continue
        features, cells = [], []
        for pixels, frame_cells in _render(recipe, range(start, min(start + SHOTS_PER_FILE, recipe.cached_shots))):
            with autocast(device):
                encoded = tower_features(model, torch.from_numpy(pixels).to(device))
            features.append(encoded.float().cpu().numpy().astype(np.float16))
            cells += frame_cells
        with replacing(target) as unfinished, unfinished.open("wb") as file:
            np.savez(file, features=np.concatenate(features), cells=np.stack(cells))


def load_features(recipe: ScratchRecipe, folder: Path) -> Features:
    """Load all files of the folder in order, with the facts derived again from the shots' seeds."""
    features, cells = [], []
    for start in range(0, recipe.cached_shots, SHOTS_PER_FILE):
        with np.load(folder / f"shots-{start:06d}.npz") as data:
            features.append(data["features"])
            cells.append(data["cells"])
    facts: list[Facts] = []
    for number in range(recipe.cached_shots):
        shot, moments = sample_moments(_rng(recipe, number), num_frames=recipe.frames_per_shot)
        facts += [facts_at(shot, moment) for moment in moments]
    return Features(np.concatenate(features), np.concatenate(cells), tuple(facts), recipe.frames_per_shot)
