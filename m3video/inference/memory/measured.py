"""Memory peaks measured on this machine, stored to correct later estimates."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from m3video.inference.memory.model import DeviceSpec
from m3video.model.size import ModelSize
from m3video.utils.cache import cache_root
from m3video.utils.digest import digest_of
from m3video.utils.files import remember, remembered

MOST_RUNS = 8
"""Measurements stored for each model: the latest ones."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The memory peak of one run.

    Attributes:
        frames, visual, text, vision_batch: the shape of the question.
        predicted: estimated bytes, without correction.
        peak: bytes of the whole process (on a GPU: reserved by torch, and the context).
        before: bytes before the model was loaded, part of `peak`.
    """

    frames: int
    visual: int
    text: int
    vision_batch: int
    predicted: int
    peak: int
    before: int


def stored_correction(size: ModelSize, device: DeviceSpec, *, file: Path | None = None) -> int:
    """Return by how many bytes measured peaks of this model exceeded the estimate; 0 where none is stored.

    Where they were below it, at most half the margin is given back: another shape may be estimated better.
    """
    stored = remembered(file or default_file(), _key(size, device))
    try:
        runs = [Measured(**run) for run in stored]
    except TypeError:  # written by another version
        return 0
    return max((max(run.peak - run.predicted, -device.margin // 2) for run in runs), default=0)


def default_file() -> Path:
    """Return the path of the stored peaks."""
    return cache_root() / "memory.json"


def _key(size: ModelSize, device: DeviceSpec) -> str:
    """Hash what a peak depends on besides the shape: the model's size, number formats, the machine, the libraries."""
    numbers = asdict(size)
    del numbers["name"], numbers["notes"]
    libraries = [importlib.metadata.version(name) for name in ("torch", "transformers")]
    facts = [numbers, device.on_gpu, device.dtype, device.quantize, platform.node(), *libraries]
    return digest_of([json.dumps(facts).encode()])


def save_peak(file: Path, size: ModelSize, device: DeviceSpec, found: Measured) -> None:
    """Store a measured peak, replacing one of the same shape.

    Raises:
        OSError: the file cannot be written.
    """
    key = _key(size, device)
    same = (found.frames, found.visual, found.text, found.vision_batch)
    others = [
        run
        for run in remembered(file, key)
        if (run.get("frames"), run.get("visual"), run.get("text"), run.get("vision_batch")) != same
    ]
    remember(file, key, [*others, asdict(found)], most=MOST_RUNS)
