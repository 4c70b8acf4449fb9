"""Where a model's files lie: the bundled folder, a path, the hub, and the vision tower that is kept apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from m3video.errors import CheckpointError
from m3video.model.text import first_line

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent.parent / "assets" / "bundled"
ACCEPTED = (
    f"'{BUNDLED}', a checkpoint folder (original M3/LLaVA, converted, or transformers llava / llava_next), "
    "or a hub name OWNER/NAME"
)


def find_folder(name_or_path: str, *, revision: str | None = None) -> Path:
    """The bundled folder, a local folder with a config.json, or one downloaded from the hub.

    Raises:
        CheckpointError: none of these.
    """
    if name_or_path == BUNDLED:
        if not (BUNDLED_FOLDER / "config.json").is_file():
            raise CheckpointError(
                f"{BUNDLED_FOLDER} holds no bundled model in this installation; name another: {ACCEPTED}"
            )
        return BUNDLED_FOLDER
    path = local_path(name_or_path)
    if path is None:
        return _download(name_or_path, revision=revision)
    if not path.is_dir():
        raise CheckpointError(f"model ({name_or_path}) is no folder; name {ACCEPTED}")
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{path} holds no config.json: it is no checkpoint folder")
    return path


def local_path(name_or_path: str) -> Path | None:
    """The path that is meant, whether or not it is there; None where it can only be a hub name."""
    path = Path(os.path.expanduser(name_or_path))  # unlike Path.expanduser it leaves an unknown ~user as it is
    is_path = path.exists() or name_or_path.count("/") != 1 or name_or_path.startswith((".", "/", "~"))
    return path if is_path else None


def _download(name: str, *, revision: str | None) -> Path:
    """A hub repository's folder in the local cache; HF_HOME and HF_HUB_OFFLINE are respected."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    failures = (
        HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError, httpx.HTTPError
    )  # fmt: skip
    offline = constants.is_offline_mode()
    reason = "HF_HUB_OFFLINE is set and it is not in the local cache"
    if not offline:
        try:
            files = HfApi().list_repo_files(name, revision=revision)
            # Many repositories hold the same weights twice; one copy is enough.
            weights = "*.safetensors" if any(file.endswith(".safetensors") for file in files) else "*.bin"
            wanted = ["*.json", "*.model", weights]
            return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        except failures as error:
            reason = first_line(error)
    try:
        # Without a network, what was fetched before still serves, as everywhere in huggingface_hub.
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except failures:
        raise CheckpointError(
            f"model ({name}) is no folder here and cannot be fetched ({reason}); name {ACCEPTED}"
        ) from None


def find_tower(folder: Path, raw: dict[str, Any], explicit: str | None) -> Path:
    """Where a separate vision tower lies: as told, as the config says, beside the checkpoint, or on the hub."""
    if explicit is not None:
        if (Path(explicit) / "config.json").is_file():
            return Path(explicit)
        if Path(explicit).exists() or explicit.count("/") != 1:
            raise CheckpointError(f"--vision-tower ({explicit}) is no folder with a config.json")
        return find_folder(explicit)
    found = tower_beside(folder, raw)
    if found is not None:
        return found
    try:
        return find_folder(_tower_named(raw))
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder} keeps its vision tower apart; --vision-tower FOLDER names it: {error}"
        ) from None


def _tower_named(raw: dict[str, Any]) -> str:
    return str(raw.get("mm_vision_tower") or raw.get("vision_tower") or "")


def tower_beside(folder: Path, raw: dict[str, Any]) -> Path | None:
    """The tower the config names, in the working folder or near the checkpoint; None when it is nowhere here."""
    named, resolved = _tower_named(raw), folder.resolve()
    for base in (Path.cwd(), resolved, *list(resolved.parents)[:3]):
        for candidate in (base / named, base / Path(named).name):
            if named and (candidate / "config.json").is_file() and candidate != resolved:
                return candidate
    return None
