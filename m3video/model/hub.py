"""Models of the Hugging Face hub: the local cache first, then one quick request to the hub, then the download."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

from m3video.errors import CheckpointError
from m3video.model.m3.adapters import PROJECTORS, TRAINED_BESIDE, part_of
from m3video.model.safetensors_headers import WEIGHTS, read_json, weight_files
from m3video.model.tokenizer import has_text
from m3video.utils.text import first_line

ACCEPTED = (
    "'small', 'rendered', a checkpoint folder (original M3/LLaVA, converted, or transformers llava / llava_next), "
    "or a hub name OWNER/NAME"
)
"""What `--model` takes."""

LOOK_SECONDS = 4.0
"""How long the hub may take to answer. Looking up its address counts, which no HTTP timeout covers."""

# Any of these files, if cached, shows the folder of a snapshot.
_SIGNS = ("config.json", "adapter_config.json", *WEIGHTS, *PROJECTORS, "tokenizer.model", "tokenizer.json")


def from_hub(name: str, *, revision: str | None = None, only_config: bool = False) -> Path:
    """Return a hub repository's folder in the local cache, downloading what is missing.

    HF_HOME and HF_HUB_OFFLINE are respected. A complete copy is used without asking whether there is a newer one.

    Args:
        name: OWNER/NAME.
        revision: a branch, tag or commit; None is the branch main.
        only_config: config.json is enough.

    Raises:
        CheckpointError: it is not in the cache, or incomplete there, and cannot be fetched.
    """
    from huggingface_hub import constants, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    folder, lacks = None, ""
    try:
        folder = cached_folder(name, revision=revision)
        if folder is not None:
            lacks = what_lacks(folder, only_config=only_config)
            if not lacks:
                return folder
        if constants.is_offline_mode():
            raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
        files = _look(name, revision)
        if only_config:
            return Path(hf_hub_download(name, "config.json", revision=revision)).parent
        # Many repositories hold the same weights twice; one copy is enough.
        weights = "*.safetensors" if any(file.endswith(".safetensors") for file in files) else "*.bin"
        wanted = ["*.json", "*.model", weights, *PROJECTORS, *TRAINED_BESIDE]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
        httpx.HTTPError,
    ) as error:
        reason = first_line(error)
    at = "" if revision is None else f" at revision {revision}"
    if folder is not None:
        raise CheckpointError(
            f"model ({name}){at} is in the cache, but {lacks}, and the rest cannot be fetched ({reason})"
        ) from None
    raise CheckpointError(
        f"model ({name}){at} is no folder here, not in the cache, and cannot be fetched ({reason}); name {ACCEPTED}"
    )


def cached_folder(name: str, *, revision: str | None = None) -> Path | None:
    """Return the folder of one revision in the local cache, complete or not; None where none of it is cached."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for sign in _SIGNS:
        try:
            cached = try_to_load_from_cache(name, sign, revision=revision)
        except HFValidationError:  # no repository can have this name
            return None
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def what_lacks(folder: Path, *, only_config: bool = False) -> str:
    """Return what an incomplete copy lacks, in words; empty for a complete one."""
    part = part_of(folder)
    if part is None and not (folder / "config.json").is_file():
        return "its config.json is not"
    if only_config or part is not None:
        return ""
    try:
        weight_files(folder)
        # A vision tower has no tokenizer.
        is_tower = str(read_json(folder / "config.json").get("model_type")).startswith("clip")
    except CheckpointError as error:
        return str(error).removeprefix(str(folder)).lstrip(":/ ")
    return "" if is_tower or has_text(folder) else "its tokenizer is not"


def _look(name: str, revision: str | None) -> list[str]:
    """Return the file names of a hub repository, in one request without progress output.

    Raises:
        TimeoutError: no answer within `LOOK_SECONDS`.
        OSError, httpx.HTTPError, HfHubHTTPError: no network, or no such repository.
    """
    from huggingface_hub import HfApi

    answers: queue.Queue[list[str] | Exception] = queue.Queue()

    def ask() -> None:
        try:
            found = HfApi().model_info(name, revision=revision, timeout=LOOK_SECONDS)
            answers.put([one.rfilename for one in found.siblings or []])
        except Exception as error:  # raised again by the caller's thread
            answers.put(error)

    # A daemon: a resolver that waits for its server must not keep the program from exiting.
    threading.Thread(target=ask, name="hub look", daemon=True).start()
    try:
        answer = answers.get(timeout=LOOK_SECONDS + 1)
    except queue.Empty:
        raise TimeoutError(f"the hub does not answer within {LOOK_SECONDS:.0f} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
