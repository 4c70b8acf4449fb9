"""Sources of a model's tensors: one folder, or a LoRA, projector or delta of LLaVA merged into its base.

A part is merged while the base is read, tensor by tensor, in float32: no library is needed and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from m3video.errors import CheckpointError
from m3video.model.m3.adapters import NAMES, OF_M3VIDEO, part_of
from m3video.model.m3.lora import FINAL_NORM, Keep, with_part
from m3video.model.m3.model_paths import find_any, find_source
from m3video.model.m3.state_dict import our_name, read_folder
from m3video.model.safetensors_headers import read_json
from m3video.model.tokenizer import has_text

LEAST_NORM = 0.05
"""The weights of Llama's final norm are about 1 to 2; in a difference between two models they are all near 0."""


class Weights(Protocol):
    """The folders of a model: of its weights, of the config.json that applies, and of its tokenizer."""

    @property
    def folder(self) -> Path: ...

    @property
    def config_folder(self) -> Path: ...

    @property
    def text_folder(self) -> Path: ...

    def read(self, keep: Keep) -> Iterator[tuple[str, Tensor]]:
        """Yield name and tensor of everything that `keep` accepts, under the names of any layout."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A folder with a whole model."""

    folder: Path

    @property
    def config_folder(self) -> Path:
        return self.folder

    @property
    def text_folder(self) -> Path:
        return self.folder

    def read(self, keep: Keep) -> Iterator[tuple[str, Tensor]]:
        return read_folder(self.folder, keep=keep)


@dataclass(frozen=True, slots=True)
class Merged:
    """A part and its base as one model.

    Attributes:
        folder: of the part.
        base: folder of a whole model: an original LLaVA, a converted one, or the language model alone.
        kind: "lora", "projector" or "delta".
        config_folder: the folder whose config.json applies to the merged model.
    """

    folder: Path
    base: Path
    kind: str
    config_folder: Path

    @property
    def text_folder(self) -> Path:
        """The tokenizer's folder: the base, or as in the reference the delta; the other where that has none."""
        first, second = (self.folder, self.base) if self.kind == "delta" else (self.base, self.folder)
        return first if has_text(first) else second

    @property
    def was_trained_on_scales(self) -> bool:
        """Whether the part was trained on pooled tokens: by `m3video train`, or as its config says."""
        own = self.folder / "config.json"
        says_so = own.is_file() and "matryoshka_vis_token_scale" in read_json(own)
        return says_so or (self.folder / OF_M3VIDEO).is_file()

    def read(self, keep: Keep) -> Iterator[tuple[str, Tensor]]:
        if self.kind == "delta":
            return _with_delta(self.folder, self.base, keep)
        return with_part(self.folder, self.base, keep)


def find_merge(name: str, base: str, *, revision: str | None = None) -> Merged:
    """Find a part of a model, and the base that it is to be merged into.

    Args:
        name: folder or hub name of a LoRA, a projector or a delta.
        base: folder or hub name of a whole model.
        revision: branch, tag or commit of `name`.

    Raises:
        CheckpointError: there is no such folder, a whole model in place of a part, a part as the base, or no config.
    """
    folder, base_folder = find_any(name, revision=revision), find_source(name, base)
    kind: str | None = part_of(folder)
    if kind is None:
        norms = read_folder(folder, keep=lambda key: our_name(key) == FINAL_NORM)
        if not any(is_difference(norm) for _, norm in norms):
            raise CheckpointError(f"{name} holds a whole model: --base is for a LoRA, mm_projector.bin or a delta")
        kind = "delta"
    raw = read_json(base_folder / "config.json")
    has_own = (folder / "config.json").is_file()
    if not has_own and raw.get("model_type") == "llama":
        what = NAMES.get(kind, "a delta")
        raise CheckpointError(f"{folder} holds {what} without a config.json, and {base} is a language model alone")
    # A base in a layout of transformers holds tower and projector by other names than an original config expects.
    is_folded = raw.get("model_type") in ("m3video", "llava_next") or "vision_config" in raw
    return Merged(folder, base_folder, kind, folder if has_own and not is_folded else base_folder)


def is_difference(norm_D: Tensor) -> bool:
    """Return whether a final norm is a difference between two models' norms rather than a model's own."""
    return bool(norm_D.float().abs().mean() < LEAST_NORM)


def _with_delta(folder: Path, base: Path, keep: Keep) -> Iterator[tuple[str, Tensor]]:
    """Yield the sum of a delta and its base; tensors and embedding rows that the base lacks are the delta's own.

    Source: `apply_delta.py` of the reference.
    """
    # The files are memory-mapped: a tensor takes memory when it is read.
    base_tensors = {our_name(name): tensor for name, tensor in read_folder(base)}
    for name, tensor in read_folder(folder, keep=lambda name: keep(our_name(name) or name)):
        ours = our_name(name)
        if ours is None:
            continue
        below = base_tensors.get(ours)
        if below is not None:
            rows, columns = len(below), below.shape[1:]
            if tensor.shape[1:] != columns or len(tensor) < rows:
                shapes = f"{list(tensor.shape)}, the base has {list(below.shape)}"
                raise CheckpointError(f"{folder}: the difference of {ours} has shape {shapes}: it is of another base")
            tensor = tensor.to(torch.float32, copy=True)
            tensor[:rows] += below.float()
        yield ours, tensor
