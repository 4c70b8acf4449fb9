"""Visual tokens of natural pictures at any scale: from features that training computed, or from the model's own tower.

Shape legend: N pictures, S tokens of one, D decoder width, C coarse channels (stride 32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.conv_tower import EfficientNetLiteModel
from m3video.model.m3.encoding import encode
from m3video.model.m3.images import normalise
from m3video.model.m3.pooling import pool
from m3video.model.m3.square import as_square
from m3video.training.natural import photos
from m3video.training.natural.features import Key, NaturalFeatures
from m3video.training.natural.splits import Part
from m3video.training.natural.start import project

BATCH = 8
"""Pictures in one run of tower or projector."""


class Sight:
    """The pictures of a folder as the model sees them; what was computed is kept."""

    def __init__(self, loaded: LoadedModel, folder: Path, features: NaturalFeatures | None = None) -> None:
        """Args:
        loaded: the model.
        folder: of `photos`.
        features: of the same tower; pictures that are not among them go through the tower.
        """
        self._loaded = loaded
        tower: Any = loaded.model.model.vision_tower
        head = getattr(tower, "head", None)
        if features is not None and head is not None:
            features = replace(features, head=(head.weight[:, :, 0, 0].float(), head.bias.float()))
        self._features = features
        self._stored = cache(partial(photos.pictures, folder))
        self._held: dict[tuple[Key, int], Tensor] = {}

    def picture(self, key: Key) -> Image.Image:
        """Return a picture as RGB."""
        source, name = key
        return self._stored(source)(name)

    def block(self, key: Key, scale: int) -> Tensor:
        """Return a picture's tokens, [S, D]; quicker where `prepare` was called for many pictures."""
        if (key, scale) not in self._held:
            self.prepare([key], [scale])
        return self._held[key, scale]

    @torch.inference_mode()
    def prepare(self, keys: Sequence[Key], scales: Sequence[int]) -> None:
        """Compute the tokens of pictures at every one of some scales."""
        lacking = [key for key in dict.fromkeys(keys) if any((key, scale) not in self._held for scale in scales)]
        known = {} if self._features is None else self._features.row_of
        cached, others = [key for key in lacking if key in known], [key for key in lacking if key not in known]
        for start in range(0, len(cached), BATCH):
            part = cached[start : start + BATCH]
            for scale in scales:
                self._keep(part, scale, self._projected(part, scale))
        for start in range(0, len(others), BATCH):
            part = others[start : start + BATCH]
            for scale, blocks in self.blocks_of([self.picture(key) for key in part], scales).items():
                self._keep(part, scale, blocks)

    @torch.inference_mode()
    def blocks_of(self, pictures: Sequence[Image.Image], scales: Sequence[int]) -> dict[int, list[Tensor]]:
        """Return the tokens of pictures at every one of some scales: scale -> [S, D] of each picture."""
        grids_NSD = encode(self._loaded, [np.asarray(one.convert("RGB")) for one in pictures], vision_batch=BATCH)
        return {scale: [block.clone() for block in pool(grids_NSD, scale)] for scale in scales}

    @torch.inference_mode()
    def coarse(self, keys: Sequence[Key]) -> Tensor | None:
        """Return the last map's channels of pictures, float32 [N, 144, C]; None where the tower has none."""
        tower: Any = self._loaded.model.model.vision_tower
        if not isinstance(tower, EfficientNetLiteModel):
            return None
        form, found = self._loaded.config.pictures, []
        for key in keys:
            if self._features is not None and key in self._features.row_of:
                found.append(self._features.read([self._features.row_of[key]], torch.device("cpu"))[1])
                continue
            square = torch.from_numpy(as_square(self.picture(key), form)[None].copy())
            pixels = normalise(square.to(tower.device), form).to(tower.dtype)
            found.append(tower.feature_maps(pixels)[-1].permute(0, 2, 3, 1).float().cpu())
        return torch.cat(found).flatten(1, 2)

    def _projected(self, keys: Sequence[Key], scale: int) -> list[Tensor]:
        assert self._features is not None
        projector: Any = self._loaded.model.model.multi_modal_projector
        maps = self._features.read([self._features.row_of[key] for key in keys], self._loaded.model.device)
        fine, coarse = (of.to(projector.linear_1.weight.dtype) for of in maps)
        return list(project(projector, fine, coarse, [scale] * len(keys)).split(scale))

    def _keep(self, keys: Sequence[Key], scale: int, blocks: Sequence[Tensor]) -> None:
        self._held |= {(key, scale): block for key, block in zip(keys, blocks, strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What every measurement takes.

    Attributes:
        loaded: the model.
        sight: its pictures.
        photos: the folder they are in.
        part: dev or test.
        seed: of what is drawn.
        limit: most pictures (or reels) of a measurement; None for its own default.
    """

    loaded: LoadedModel
    sight: Sight
    photos: Path
    part: Part = "dev"
    seed: int = 0
    limit: int | None = None

    def most(self, default: int) -> int:
        """Return how many pictures a measurement takes."""
        return default if self.limit is None else self.limit
