"""Finds the parity set and turns its goldens into cases; knows its layout, not its content."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from m3video.model.m3 import checkpoint, inputs
from m3video.model.m3.images import anyres_pixels, pad_pixels
from m3video.model.m3.pooling import pack, pool
from tests.paths import PARITY

ROOT = PARITY
GOLDENS = ROOT / "goldens"
ABSENT = f"no parity set at {ROOT}: M3VIDEO_PARITY_DIR names one"
FORMATS = ("safetensors", "bin")


@dataclass(frozen=True)
class Case:
    """One golden case of one checkpoint."""

    checkpoint: str
    name: str
    golden: dict[str, Any]

    @property
    def images(self) -> list[str]:
        return self.golden.get("images") or [self.golden["image"]]

    @property
    def scales(self) -> list[int]:
        """One for each picture; null means 576."""
        return self.golden.get("scales") or [self.golden["scale"] or 576] * len(self.images)

    def array(self, key: str) -> np.ndarray | None:
        """An array stored with the case, or None."""
        stored = arrays(self.checkpoint)
        name = f"{self.name.replace('/', '|')}|{key}"
        return stored.get(name)


def read(name: str) -> Any:
    """One golden JSON file; empty where the set has none."""
    path = GOLDENS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


@functools.cache
def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def checkpoints() -> list[str]:
    """Every checkpoint folder of the set."""
    if not GOLDENS.is_dir():
        return []
    return sorted(
        path.name for path in ROOT.iterdir() if any((path / form / "config.json").is_file() for form in FORMATS)
    )


def cases() -> list[Case]:
    """Every case of every checkpoint."""
    return [Case(name, case, golden) for name in checkpoints() for case, golden in read(name).items()]


def folders(name: str) -> list[Path]:
    """The formats that a checkpoint comes in."""
    return [ROOT / name / form for form in FORMATS if (ROOT / name / form / "config.json").is_file()]


@functools.cache
def loaded(name: str) -> checkpoint.LoadedModel:
    """A checkpoint in float32 on the CPU, from its first format."""
    return checkpoint.load(str(folders(name)[0]), device="cpu", dtype="float32")


@functools.cache
def picture(image: str) -> np.ndarray:
    with Image.open(ROOT / image) as opened:
        return np.array(opened.convert("RGB"))


@functools.cache
def grids(name: str, image: str, preprocess: str) -> Tensor:
    """Projected grids of a picture, kept because every scale starts from them."""
    model = loaded(name)
    if preprocess == "pad":
        return model.model.visual_grids(pad_pixels([picture(image)])).detach()
    return model.model.visual_grids(anyres_pixels(picture(image), model.config.image_grid_pinpoints)).detach()


def blocks(case: Case) -> list[Tensor]:
    """The pictures' tokens as they stand in the prompt."""
    from torch import cat

    model, kind = loaded(case.checkpoint), case.golden["kind"]
    anyres = model.config.image_aspect_ratio == "anyres"
    if anyres and kind in ("single", "igvlm", "multi_anyres", "chat2"):
        return [_merged(case, image, scale) for image, scale in zip(case.images, case.scales, strict=True)]
    frames = cat([grids(case.checkpoint, image, "pad") for image in case.images])
    visual = pack(frames, case.scales)
    if kind == "oneslot":
        return [visual.tokens_TD]
    if kind == "multi_tile_4d":
        return [visual.frame(n) for n in range(len(visual))]
    return inputs.frame_blocks(model, visual)


def _merged(case: Case, image: str, scale: int) -> Tensor:
    from m3video.model.m3.images import merge_tiles

    model = loaded(case.checkpoint)
    height, width = picture(image).shape[:2]
    tiles = pool(grids(case.checkpoint, image, "anyres"), scale)
    return merge_tiles(
        tiles, (width, height), model.config.image_grid_pinpoints, model.model.model.image_newline
    ).detach()
