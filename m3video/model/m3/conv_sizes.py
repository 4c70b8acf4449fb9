"""Sizes of a convolutional vision tower (EfficientNet-Lite), from its config alone. Loads no torch.

Source: MobileNetV2 (arXiv 1801.04381) section 3 for the blocks, EfficientNet (arXiv 1905.11946) table 1 for their
numbers; EfficientNet-Lite leaves out squeeze-and-excitation and has ReLU6 for swish.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from m3video.types import FULL_SCALE, FULL_SIDE

EFFICIENTNET_LITE = "efficientnet_lite"
CELL = 16
"""Pixels of a side of one of the 24x24 cells."""
CONV_SIDE = FULL_SIDE * CELL
STEM_KERNEL, STEM_STRIDE = 3, 2
FEATURE_STRIDES = (CELL // 2, CELL, 2 * CELL)

LITE0: dict[str, Any] = {
    "image_size": CONV_SIDE,
    "stem_width": 32,
    # repeats, kernel, stride of the first of them, expansion, channels in, channels out
    "blocks": (
        (1, 3, 1, 1, 32, 16),
        (2, 3, 2, 6, 16, 24),
        (2, 5, 2, 6, 24, 40),
        (3, 3, 2, 6, 40, 80),
        (3, 5, 1, 6, 80, 112),
        (4, 5, 2, 6, 112, 192),
        (1, 3, 1, 6, 192, 320),
    ),
    "feature_strides": (CELL, 2 * CELL),
    # (grey level - 127) / 128, as shares of 255.
    "image_mean": (127 / 255,) * 3,
    "image_std": (128 / 255,) * 3,
}
"""EfficientNet-Lite0, at the picture size whose stride 16 is M3's 24x24 grid."""


class ConvBlock(NamedTuple):
    """An inverted bottleneck: a 1x1 convolution widens, one for each channel filters, another 1x1 narrows.

    Attributes:
        kernel, stride: of the filter.
        width_in, inner, width_out: channels; the first convolution is left out where `inner` equals `width_in`.
        total_stride: pixels of the picture between two of its outputs.
    """

    kernel: int
    stride: int
    width_in: int
    inner: int
    width_out: int
    total_stride: int

    @property
    def expands(self) -> bool:
        return self.inner != self.width_in

    @property
    def skips(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.width_in == self.width_out


def conv_blocks(groups: Sequence[Sequence[int]]) -> list[ConvBlock]:
    """Return the blocks one by one, given groups of them as in `LITE0`."""
    found: list[ConvBlock] = []
    total = STEM_STRIDE
    for repeats, kernel, first_stride, expansion, width_in, width_out in groups:
        for number in range(repeats):
            stride, width = (first_stride, width_in) if number == 0 else (1, width_out)
            total *= stride
            found.append(ConvBlock(kernel, stride, width, width * expansion, width_out, total))
    return found


def feature_blocks(vision: Mapping[str, Any]) -> list[int]:
    """Return the number of the block that gives the features of each of `feature_strides`: the last of that stride.

    Raises:
        ValueError: no block has such a stride.
    """
    last = {block.total_stride: number for number, block in enumerate(conv_blocks(vision["blocks"]))}
    strides = list(vision["feature_strides"])
    if lacking := [stride for stride in strides if stride not in last]:
        raise ValueError(f"feature_strides ({strides}): no block has stride {lacking[0]}, only {sorted(last)}")
    return [last[stride] for stride in strides]


def feature_width(vision: Mapping[str, Any]) -> int:
    """Return the channels of a visual token: those of all `feature_strides`, one after the other."""
    blocks = conv_blocks(vision["blocks"])
    return sum(blocks[number].width_out for number in feature_blocks(vision))


def count_weights(vision: Mapping[str, Any]) -> int:
    """Return the number of weights; each convolution has a bias, which holds its folded batch norm."""
    stem = int(vision["stem_width"])
    total = 3 * STEM_KERNEL**2 * stem + stem
    for block in conv_blocks(vision["blocks"]):
        if block.expands:
            total += block.width_in * block.inner + block.inner
        total += block.kernel**2 * block.inner + block.inner
        total += block.inner * block.width_out + block.width_out
    return total


def peak_values(vision: Mapping[str, Any]) -> int:
    """Return the most values that are in memory at once for one picture, besides its pixels.

    A block's input stays until its output is done. Its widened array is clamped in place; where its sides are not
    padded alike, a padded copy is made, and the array itself is dropped only then.
    """
    return max(_held(vision))


def _held(vision: Mapping[str, Any]) -> Iterator[int]:
    """Yield the values held at each step of the tower."""
    side = int(vision["image_size"])
    yield 3 * (side + 1) ** 2 + int(vision["stem_width"]) * (side // STEM_STRIDE) ** 2
    side //= STEM_STRIDE
    kept = 0
    wanted = feature_blocks(vision)
    for number, block in enumerate(conv_blocks(vision["blocks"])):
        small = side // block.stride
        given, wide = block.width_in * side**2, block.inner * side**2 if block.expands else 0
        padded = block.inner * (side + block.kernel - block.stride) ** 2 if block.stride > 1 else 0
        filtered, out = block.inner * small**2, block.width_out * small**2
        yield kept + given + wide + padded
        yield kept + given + (padded or wide) + filtered
        yield kept + given + filtered + out
        side = small
        if number in wanted:
            kept += out
    # Features are brought to 24x24, then laid side by side.
    yield kept + 2 * FULL_SCALE * feature_width(vision)
