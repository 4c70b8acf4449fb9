"""What the tests of fine-tuning share: data with good and broken rows, a checkpoint, a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.training.tuning import CONTEXT, Make, said, tiny
from tests.video.clips import Clip, write


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, a video of 3 seconds, four rows that are fine, and a broken one of every kind."""
    folder = tmp_path_factory.mktemp("data")
    for name, colour in (("red.png", (250, 10, 10)), ("blue.png", (10, 10, 250))):
        Image.fromarray(np.full((40, 60, 3), colour, np.uint8)).save(folder / name)
    write(folder / "v.mp4", Clip(numbers=list(range(6)), times=[0, 12, 25, 37, 50, 62]))
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "no.mp4").write_bytes(b"this is no video" * 50)
    good = [
        {"id": "p", "image": "red.png", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "q", "image": "blue.png", "conversations": said("what is it\n<image>", "it is")},
        {"id": "v", "video": "v.mp4", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "t", "conversations": [*said("what", "it"), *said("is it red", "it is red")]},
    ]
    bad = [
        {"id": "cut", "image": "cut.png", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "no", "video": "no.mp4", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "gone", "image": "gone.png", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "long", "conversations": said("what is it " * CONTEXT, "red")},
        {"id": "half", "conversations": said("what is it", "red")[:1]},
    ]
    (folder / "good.json").write_text(json.dumps(good))
    (folder / "all.json").write_text(json.dumps(good + bad))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def recipe_file(tmp_path: Path, data: Path, base: Path) -> Make:
    def make(**more: Any) -> Path:
        values = {
            "base": str(base),
            "data": [{"conversations": str(data / "good.json"), "files": str(data)}],
            "batch": 4,
            "micro_batch": 2,
            "rate": 5e-3,
            "projector_rate": 5e-3,
            "tower_rate": 0,
            "epochs": 6,
            "precision": "float32",
            "save_dtype": "float32",
            "gradient_checkpointing": False,
            "max_frames": 3,
            "visual_tokens": 600,
            "workers": 1,
            "save_every": 2,
            **more,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    return make
