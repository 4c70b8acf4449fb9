"""Sources of a model's tensors: one folder, or a LoRA, projector or delta of LLaVA merged into its base.

A part is merged while the base is read, tensor by tensor, in float32: no library is needed and nothing is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from m3video.errors import CheckpointError
from m3video.model.m3.adapters import ADAPTERS, NAMES, OF_M3VIDEO, TRAINED_BESIDE, part_of, projector_beside
from m3video.model.m3.config_json import read_adapter_json
from m3video.model.m3.model_paths import find_any, find_source
from m3video.model.m3.state_dict import our_name, plain_name, read_folder, read_tensors
from m3video.model.safetensors_headers import read_json
from m3video.model.tokenizer import has_text

FINAL_NORM = "model.language_model.norm.weight"
LEAST_NORM = 0.05
"""The weights of Llama's final norm are about 1 to 2; in a difference between two models they are all near 0."""

Keep = Callable[[str], bool]
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(\.\w+)?\.weight")


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
        return _with_part(self.folder, self.base, keep)


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


def _with_part(folder: Path, base: Path, keep: Keep) -> Iterator[tuple[str, Tensor]]:
    """Yield the base's tensors, a LoRA added, with the tensors that were trained whole in place of its own."""
    replaced = dict(_trained_whole(folder))
    pairs = _Pairs(folder, replaced) if part_of(folder) == "lora" else None
    for name, tensor in read_folder(base, keep=lambda name: keep(our_name(name) or name)):
        ours = our_name(name)
        if ours is None or ours in replaced:
            continue
        yield ours, tensor if pairs is None else pairs.added(ours, tensor)
    yield from ((name, tensor) for name, tensor in replaced.items() if keep(name))
    if pairs is not None and keep(FINAL_NORM) and pairs.left:
        raise CheckpointError(f"{folder} changes {min(pairs.left)}, which {base} has not: it is of another base")


def _trained_whole(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors beside a LoRA, and those of a projector file."""
    beside = projector_beside(folder)
    files = [folder / name for name in TRAINED_BESIDE if (folder / name).is_file()]
    for file in files if beside is None else [beside, *files]:
        for name, tensor in read_tensors(file):
            ours = our_name(plain_name(name))
            if ours is not None:
                yield ours, tensor


class _Pairs:
    """The two factors of a LoRA for each matrix it changes.

    Attributes:
        left: matrices that were not found in the base yet.
    """

    def __init__(self, folder: Path, replaced: dict[str, Tensor]) -> None:
        file = next((folder / name for name in ADAPTERS if (folder / name).is_file()), None)
        if file is None:
            raise CheckpointError(f"{folder} is a LoRA without its weights: {' or '.join(ADAPTERS)} is missing")
        self.file, self._config = file, read_adapter_json(folder)
        self._factors: dict[str, dict[str, tuple[str, Tensor]]] = {}
        for name, tensor in read_tensors(file):
            found = _LORA.fullmatch(name)
            if found is not None:
                module = plain_name(found["module"])
                ours = our_name(f"{module}.weight") or module
                self._factors.setdefault(ours, {})[found["side"]] = module, tensor
            else:
                replaced[our_name(plain_name(name)) or name] = tensor
        for name, factors in self._factors.items():
            if len(factors) < 2:
                raise CheckpointError(f"{file}: {name} has only one of lora_A and lora_B")
        self.left = set(self._factors)

    def added(self, name: str, tensor: Tensor) -> Tensor:
        """Return W + s B A in float32 where the LoRA changes this matrix, else W.

        Source: LoRA (arXiv 2106.09685), section 4.1; s = alpha / r, or alpha / sqrt(r) for rsLoRA (2312.03732).
        """
        if name not in self._factors:
            return tensor
        self.left.discard(name)
        (module, down_RI), (_, up_OR) = self._factors[name]["A"], self._factors[name]["B"]
        if (up_OR.shape[0], down_RI.shape[-1]) != tuple(tensor.shape) or up_OR.shape[-1] != down_RI.shape[0]:
            made = f"{list(up_OR.shape)} x {list(down_RI.shape)}"
            raise CheckpointError(f"{self.file}: {name} is changed by {made}, the base has {list(tensor.shape)}")
        return tensor.float() + self._scale(module, len(down_RI)) * (up_OR.float() @ down_RI.float())

    def _scale(self, module: str, rank: int) -> float:
        alpha = self._config.get("lora_alpha", 8)
        for pattern, special in (self._config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                alpha = special
                break
        return float(alpha) / (math.sqrt(rank) if self._config.get("use_rslora") else rank)


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
