"""Models of the Hugging Face hub: the local cache first, then one quick look at the network, then the download."""

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
    "'bundled', a checkpoint folder (original M3/LLaVA, converted, or transformers llava / llava_next), "
    "or a hub name OWNER/NAME"
)
"""What `--model` takes."""

LOOK_SECONDS = 4.0
"""A hub that says nothing for this long is not there; looking up its address counts, which no HTTP timeout does."""

# Any of these tells where a snapshot lies in the cache.
_SIGNS = ("config.json", "adapter_config.json", *WEIGHTS, *PROJECTORS, "tokenizer.model", "tokenizer.json")


def from_hub(name: str, *, revision: str | None = None, only_config: bool = False) -> Path:
    """A hub repository's folder in the local cache; HF_HOME and HF_HUB_OFFLINE are respected.

    A copy that was fetched before is used without asking whether there is a newer one.

    Args:
        name: OWNER/NAME.
        revision: a branch, tag or commit; None is the branch main.
        only_config: a copy with config.json is enough.

    Raises:
        CheckpointError: it is not in the cache, or not all of it, and cannot be fetched.
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
    """The folder of one revision in the local cache, whole or not; None where nothing of it is there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for sign in _SIGNS:
        try:
            held = try_to_load_from_cache(name, sign, revision=revision)
        except HFValidationError:  # no repository can have this name
            return None
        if isinstance(held, str):
            return Path(held).parent
    return None


def what_lacks(folder: Path, *, only_config: bool = False) -> str:
    """What a copy that was not fetched to its end lacks, in words; empty where nothing does."""
    part = part_of(folder)
    if part is None and not (folder / "config.json").is_file():
        return "its config.json is not"
    if only_config or part is not None:
        return ""
    try:
        weight_files(folder)
        # A vision tower has no words of its own.
        is_tower = str(read_json(folder / "config.json").get("model_type")).startswith("clip")
    except CheckpointError as error:
        return str(error).removeprefix(str(folder)).lstrip(":/ ")
    return "" if is_tower or has_text(folder) else "its tokenizer is not"


def _look(name: str, revision: str | None) -> list[str]:
    """Names of the files of a hub repository: asked once, without a word.

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
        except Exception as error:  # raised again where it is waited for
            answers.put(error)

    # A daemon: a resolver that waits for its server must not keep the program from ending.
    threading.Thread(target=ask, name="hub look", daemon=True).start()
    try:
        answer = answers.get(timeout=LOOK_SECONDS + 1)
    except queue.Empty:
        raise TimeoutError(f"the hub does not answer within {LOOK_SECONDS:.0f} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
