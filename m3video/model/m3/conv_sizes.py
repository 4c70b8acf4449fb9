"""Sizes of a convolutional vision tower (EfficientNet-Lite), from its config alone. Loads no torch.

Source: MobileNetV2 (arXiv 1801.04381) section 3 for the blocks, EfficientNet (arXiv 1905.11946) table 1 for their
numbers; EfficientNet-Lite leaves out squeeze-and-excitation and has ReLU6 for swish. `reading_branch` is ours.
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
READING_STRIDES = (CELL // 4, CELL // 2)
"""Strides of the two maps that a reading branch starts from."""
READING_FOLD, READING_EXPANSION = 2, 2
READING_KERNELS = ((5, 5), (3, 9))
"""Rows and columns of a reading block's filter, at 48x48 cells and at 24x24."""

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
    "head_channels": 0,
    "reading_channels": 0,
    "reading_width": 64,
    "reading_depths": (4, 3),
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


class ReadingSizes(NamedTuple):
    """Sizes of a branch that reads.

    Attributes:
        width_4, width_8: channels of the trunk's maps of stride 4 and 8.
        width: channels at 48x48 cells.
        channels: of what it gives for each of the 24x24 cells.
        depths: blocks at 48x48 and at 24x24.
    """

    width_4: int
    width_8: int
    width: int
    channels: int
    depths: tuple[int, int]

    @property
    def weights(self) -> int:
        """How many there are, biases and norms included."""
        folded = READING_FOLD**2 * self.width
        total = (9 * self.width_4 + 1) * self.width + (self.width_8 + 1) * self.width + 2 * self.width
        for width, depth, kernel in zip((self.width, self.channels), self.depths, READING_KERNELS, strict=True):
            inner = READING_EXPANSION * width
            total += depth * (width * (kernel[0] * kernel[1] + 1) + 2 * width + 2 * width * inner + inner + width)
        return total + (folded + 1) * self.channels + 2 * self.channels


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
    return _last_blocks(vision, "feature_strides", vision["feature_strides"])


def reading_blocks(vision: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the blocks that a reading branch starts from, those of stride 4 and 8; none without it.

    Raises:
        ValueError: no block has such a stride, or there are no features of stride 16 to stand beside.
    """
    channels = vision["reading_channels"]
    if not channels:
        return []
    if CELL not in vision["feature_strides"]:
        raise ValueError(f"reading_channels ({channels}) need feature_strides with {CELL}: they stand beside it")
    return _last_blocks(vision, f"reading_channels ({channels}), which need strides", READING_STRIDES)


def _last_blocks(vision: Mapping[str, Any], what: str, strides: Sequence[int]) -> list[int]:
    last = {block.total_stride: number for number, block in enumerate(conv_blocks(vision["blocks"]))}
    if lacking := [stride for stride in strides if stride not in last]:
        raise ValueError(f"{what} ({list(strides)}): no block has stride {lacking[0]}, only {sorted(last)}")
    return [last[stride] for stride in strides]


def reading_sizes(vision: Mapping[str, Any]) -> ReadingSizes | None:
    """Return the sizes of the branch that reads; None where there is none."""
    if not (numbers := reading_blocks(vision)):
        return None
    blocks = conv_blocks(vision["blocks"])
    fine, coarse = vision["reading_depths"]
    width_4, width_8 = (blocks[number].width_out for number in numbers)
    return ReadingSizes(width_4, width_8, vision["reading_width"], vision["reading_channels"], (fine, coarse))


def feature_width(vision: Mapping[str, Any]) -> int:
    """Return the channels of a visual token: those of all `feature_strides`, one after the other, and of reading."""
    blocks = conv_blocks(vision["blocks"])
    widths = [blocks[number].width_out for number in feature_blocks(vision)]
    if vision["head_channels"]:
        widths[-1] = int(vision["head_channels"])
    return sum(widths) + int(vision["reading_channels"])


def count_weights(vision: Mapping[str, Any]) -> int:
    """Return the number of weights; each convolution has a bias, which holds its folded batch norm."""
    stem = int(vision["stem_width"])
    total = 3 * STEM_KERNEL**2 * stem + stem
    for block in conv_blocks(vision["blocks"]):
        if block.expands:
            total += block.width_in * block.inner + block.inner
        total += block.kernel**2 * block.inner + block.inner
        total += block.inner * block.width_out + block.width_out
    total += (conv_blocks(vision["blocks"])[-1].width_out + 1) * int(vision["head_channels"])
    reading = reading_sizes(vision)
    return total + (0 if reading is None else reading.weights)


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
    kept = early = 0
    wanted, starts, reading = feature_blocks(vision), reading_blocks(vision), reading_sizes(vision)
    for number, block in enumerate(conv_blocks(vision["blocks"])):
        small = side // block.stride
        given, wide = block.width_in * side**2, block.inner * side**2 if block.expands else 0
        padded = block.inner * (side + block.kernel - block.stride) ** 2 if block.stride > 1 else 0
        filtered, out = block.inner * small**2, block.width_out * small**2
        held = kept + early + given
        yield held + wide + padded
        yield held + (padded or wide) + filtered
        yield held + filtered + out
        side = small
        if number in wanted:
            kept += out
        if number in starts:
            early += out
        if reading is not None and number == starts[-1]:
            # A block's cells, and twice its widened ones.
            yield kept + early + (1 + 2 * READING_EXPANSION) * reading.width * small**2
            kept, early = kept + reading.channels * FULL_SCALE, 0
    kept += int(vision["head_channels"]) * side**2
    # Features are brought to 24x24, then laid side by side.
    yield kept + 2 * FULL_SCALE * feature_width(vision)
