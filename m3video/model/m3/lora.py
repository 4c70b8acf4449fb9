"""A LoRA or a projector merged into its base: a sum of matrices, tensor by tensor, in float32.

Shape legend: O rows of a matrix, I its columns, R the rank of its update.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from m3video.errors import CheckpointError
from m3video.model.m3.adapters import ADAPTERS, TRAINED_BESIDE, part_of, projector_beside
from m3video.model.m3.config_json import read_adapter_json
from m3video.model.m3.state_dict import our_name, plain_name, read_folder, read_tensors

FINAL_NORM = "model.language_model.norm.weight"

Keep = Callable[[str], bool]
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(\.\w+)?\.weight")


def with_part(folder: Path, base: Path, keep: Keep) -> Iterator[tuple[str, Tensor]]:
    """Yield the base's tensors, a LoRA added, with the tensors that were trained whole in place of its own."""
    replaced = dict(trained_whole(folder))
    pairs = Pairs(folder, replaced) if part_of(folder) == "lora" else None
    for name, tensor in read_folder(base, keep=lambda name: keep(our_name(name) or name)):
        ours = our_name(name)
        if ours is None or ours in replaced:
            continue
        yield ours, tensor if pairs is None else pairs.added(ours, tensor)
    yield from ((name, tensor) for name, tensor in replaced.items() if keep(name))
    if pairs is not None and keep(FINAL_NORM) and pairs.left:
        raise CheckpointError(f"{folder} changes {min(pairs.left)}, which {base} has not: it is of another base")


def trained_whole(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors beside a LoRA, and those of a projector file."""
    beside = projector_beside(folder)
    files = [folder / name for name in TRAINED_BESIDE if (folder / name).is_file()]
    for file in files if beside is None else [beside, *files]:
        for name, tensor in read_tensors(file):
            ours = our_name(plain_name(name))
            if ours is not None:
                yield ours, tensor


class Pairs:
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
