"""Find a model's files: the folder of `rendered`, that of `small`, a path, the hub, and a separate vision tower."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from m3video.errors import CheckpointError
from m3video.model.hub import ACCEPTED, cached_folder, from_hub, what_lacks
from m3video.model.m3.adapters import refuse_part
from m3video.model.m3.config_json import check_tower, is_original, read_config_json, read_tower_json
from m3video.model.m3.default_model import RENDERED, decide_model
from m3video.model.m3.picture_format import PictureFormat, picture_format
from m3video.model.m3.small import SMALL, SMALL_FOLDER, find_prepared, prepare_small
from m3video.model.safetensors_headers import weight_files
from m3video.utils.cache import cache_root

RENDERED_FOLDER = Path(__file__).parents[2] / "assets" / "rendered"


def find_model(name_or_path: str, *, revision: str | None = None, vision_tower: str | None = None) -> Path:
    """Return the folder of a whole model, after the checks that need no torch.

    Args:
        name_or_path: "small", "rendered", a folder or a hub name.
        revision: branch, tag or commit of a hub model.
        vision_tower: folder of a separate vision tower, as for loading.

    Raises:
        CheckpointError: there is no such model, only a part of one, a shard or tower is missing, or a config is wrong.
    """
    folder = find_folder(name_or_path, revision=revision)
    raw = read_config_json(folder)
    weight_files(folder)
    if is_original(raw) and not raw.get("unfreeze_mm_vision_tower"):
        check_tower(folder, raw, read_tower_json(find_tower(folder, raw, vision_tower)))
    return folder


def find_source(name_or_path: str, base: str | None, *, vision_tower: str | None = None) -> Path:
    """Return the folder that is converted, or of the base that it is merged into; errors as for `find_model`."""
    if base is None:
        return find_model(name_or_path, vision_tower=vision_tower)
    find_any(name_or_path)
    folder = find_folder(base)
    weight_files(folder)
    return folder


def find_folder(name_or_path: str, *, revision: str | None = None) -> Path:
    """Return the folder of `rendered`, that of `small`, a local folder with a config.json, or one from the hub.

    That of `small` is written when it is asked for first.

    Raises:
        CheckpointError: it is none of these, or only a part of a model.
    """
    folder = find_any(name_or_path, revision=revision)
    refuse_part(folder, name_or_path)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json: it is no checkpoint folder")
    return folder


def find_any(name_or_path: str, *, revision: str | None = None) -> Path:
    """Return the same, with or without a config.json: a LoRA may come without one."""
    name_or_path = decide_model(name_or_path).name
    if name_or_path == RENDERED:
        if not (RENDERED_FOLDER / "config.json").is_file():
            raise CheckpointError(
                f"{RENDERED_FOLDER} holds no model rendered in this installation; name another: {ACCEPTED}"
            )
        return RENDERED_FOLDER
    if name_or_path == SMALL:
        return prepare_small(cache_root())
    path = local_path(name_or_path)
    if path is None:
        return from_hub(name_or_path, revision=revision)
    if not path.is_dir():
        raise CheckpointError(f"model ({name_or_path}) is no folder; name {ACCEPTED}")
    return path


def find_config(name_or_path: str) -> Path:
    """Return a folder with the model's config.json; of a hub model only that file is fetched, not its gigabytes.

    Raises:
        CheckpointError: there is none.
    """
    name_or_path = decide_model(name_or_path).name
    if name_or_path in (RENDERED, SMALL) or local_path(name_or_path) is not None:
        return find_folder(name_or_path)
    return from_hub(name_or_path, only_config=True)


def find_here(name_or_path: str, *, whole: bool = False) -> Path | None:
    """Return the folder or path of a model on this machine; None for a hub model that is not cached.

    Args:
        name_or_path: "small", "rendered", a folder or a hub name.
        whole: a hub model counts only when all of it was downloaded.
    """
    name_or_path = decide_model(name_or_path).name
    if name_or_path == RENDERED:
        return RENDERED_FOLDER
    if name_or_path == SMALL:
        return find_prepared(cache_root())
    path = local_path(name_or_path)
    if path is not None:
        return path
    folder = cached_folder(name_or_path)
    return None if folder is None or (whole and what_lacks(folder)) else folder


def picture_format_here(name: str) -> PictureFormat | None:
    """Return the pictures of a model by its name, from its config.json alone; None where that is not on this machine.

    Args:
        name: "small", "rendered", a folder or a hub name; nothing is downloaded.

    Raises:
        CheckpointError: its config is wrong.
    """
    folder = find_here(name)
    if folder is None and decide_model(name).name == SMALL:
        folder = SMALL_FOLDER  # not put together yet
    if folder is None or not (folder / "config.json").is_file():
        return None
    return picture_format(read_config_json(folder).get("vision_config") or {})


def local_path(name_or_path: str) -> Path | None:
    """Return the path that is meant, whether or not it exists; None where it can only be a hub name."""
    path = Path(os.path.expanduser(name_or_path))  # unlike Path.expanduser it leaves an unknown ~user as it is
    is_path = path.exists() or name_or_path.count("/") != 1 or name_or_path.startswith((".", "/", "~"))
    return path if is_path else None


def find_tower(folder: Path, raw: dict[str, Any], explicit: str | None) -> Path:
    """Return a separate vision tower's folder: as given, as the config says, near the checkpoint, or on the hub."""
    if explicit is not None:
        if (Path(explicit) / "config.json").is_file():
            return Path(explicit)
        if Path(explicit).exists() or explicit.count("/") != 1:
            raise CheckpointError(f"--vision-tower ({explicit}) is no folder with a config.json")
        return find_folder(explicit)
    found = tower_beside(folder, raw)
    if found is not None:
        return found
    named = _tower_named(raw)
    if not named:
        raise CheckpointError(f"{folder} keeps its vision tower apart and does not say where; --vision-tower names it")
    try:
        return find_folder(named)
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder} keeps its vision tower apart; --vision-tower FOLDER names it: {error}"
        ) from None


def _tower_named(raw: dict[str, Any]) -> str:
    return str(raw.get("mm_vision_tower") or raw.get("vision_tower") or "")


def tower_beside(folder: Path, raw: dict[str, Any]) -> Path | None:
    """Return the folder of the tower that the config names, in the working folder or near the checkpoint; else None."""
    named, resolved = _tower_named(raw), folder.resolve()
    for base in (Path.cwd(), resolved, *list(resolved.parents)[:3]):
        for candidate in (base / named, base / Path(named).name):
            if named and (candidate / "config.json").is_file() and candidate != resolved:
                return candidate
    return None
