"""Peaks that were measured on this machine, kept for the next prediction."""

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

KEPT = 8
"""Measured shapes of each model; the latest."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A shape that was run.

    Attributes:
        frames, visual, text, vision_batch: the shape.
        predicted: bytes, without any correction.
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


def kept_correction(size: ModelSize, place: DeviceSpec, *, file: Path | None = None) -> int:
    """By how much measured peaks of this model in this place were above the prediction; 0 where none is kept.

    Below it, at most half the margin is given back: another shape may be predicted better.
    """
    held = remembered(file or default_file(), _key(size, place))
    try:
        runs = [Measured(**run) for run in held]
    except TypeError:  # written by another version
        return 0
    return max((max(run.peak - run.predicted, -place.margin // 2) for run in runs), default=0)


def default_file() -> Path:
    """Where measured peaks are kept."""
    return cache_root() / "memory.json"


def _key(size: ModelSize, place: DeviceSpec) -> str:
    """What a peak depends on besides the shape: the model's numbers, how it is held, the machine, the libraries."""
    numbers = asdict(size)
    del numbers["name"], numbers["notes"]
    libraries = [importlib.metadata.version(name) for name in ("torch", "transformers")]
    facts = [numbers, place.on_gpu, place.dtype, place.quantize, platform.node(), *libraries]
    return digest_of([json.dumps(facts).encode()])


def keep(file: Path, size: ModelSize, place: DeviceSpec, found: Measured) -> None:
    """Keep a measured peak; one of the same shape takes its place.

    Raises:
        OSError: the file cannot be written.
    """
    key = _key(size, place)
    same = (found.frames, found.visual, found.text, found.vision_batch)
    others = [
        run
        for run in remembered(file, key)
        if (run.get("frames"), run.get("visual"), run.get("text"), run.get("vision_batch")) != same
    ]
    remember(file, key, [*others, asdict(found)], most=KEPT)
