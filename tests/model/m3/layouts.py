"""One tiny checkpoint in each layout, whose config.json a test edits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m3video.model.m3.config_rules import CONVERTED_ONLY
from tests.model.tiny import save_original, save_tiny

GONE = object()
"""Stands for a key that is left out."""


def save_layouts(root: Path) -> dict[str, Path]:
    """Write one tiny checkpoint in each layout."""
    found = {"converted": save_tiny(root / "converted"), "original": save_original(root / "original")}
    hugging_face = shutil.copytree(found["converted"], root / "llava")
    config = json.loads((hugging_face / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in CONVERTED_ONLY}
    (hugging_face / "config.json").write_text(json.dumps({**config, "model_type": "llava"}))
    return {**found, "llava": hugging_face, "tower": root / "tower"}


@contextmanager
def editing(folders: dict[str, Path]) -> Iterator[Callable[[str, dict[str, Any]], Path]]:
    """Yield `edit(layout, {key: value})`, which changes a config.json until the block ends; "a.b" is key b of a."""
    before = {folder / "config.json": (folder / "config.json").read_bytes() for folder in folders.values()}

    def edit(layout: str, changes: dict[str, Any]) -> Path:
        path = folders[layout] / "config.json"
        raw = json.loads(path.read_text())
        for key, value in changes.items():
            target, leaf = raw, key
            if "." in key:
                outer, leaf = key.split(".")
                target = raw[outer]
            if value is GONE:
                target.pop(leaf, None)
            else:
                target[leaf] = value
        path.write_text(json.dumps(raw))
        return folders["original" if layout == "tower" else layout]

    try:
        yield edit
    finally:
        for path, content in before.items():
            path.write_bytes(content)
