"""EfficientNet-Lite as a vision tower beside CLIP: its features at 24x24 cells, as a transformers model.

At 384 pixels stride 16 is M3's 24x24 grid, and stride 32 a 12x12 grid of more meaning in each cell. A visual token is
the features of both at its place. Where the config has `reading_channels`, those of a branch that reads letters stand
behind the channels of stride 16. Every convolution has the batch norm that followed it folded into it: there are no
running statistics, so training never changes any, and a checkpoint holds parameters only.

Shape legend: N pictures, C channels, H W rows and columns.

Source: tensorflow/tpu, models/official/efficientnet/lite; see `conv_sizes` for the papers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from m3video.model.m3.conv_sizes import (
    CELL,
    EFFICIENTNET_LITE,
    LITE0,
    STEM_KERNEL,
    STEM_STRIDE,
    ConvBlock,
    conv_blocks,
    feature_blocks,
    feature_width,
    reading_blocks,
    reading_sizes,
)
from m3video.model.m3.reading_branch import ReadingBranch, start_reading
from m3video.types import FULL_SIDE


class EfficientNetLiteConfig(PreTrainedConfig):
    """Sizes of an EfficientNet-Lite tower; the defaults are Lite0's, at 384 pixels.

    Attributes:
        image_size: side of the square pictures, 384: stride 16 is then 24x24.
        stem_width: channels of the first convolution.
        blocks: groups of blocks: repeats, kernel, stride of the first, expansion, channels in, channels out.
        feature_strides: strides whose features make a visual token, of 8, 16 and 32.
        head_channels: of a last 1x1 convolution, whose output then stands for the last map's; 0 for a tower without it.
            The released network has 1,280, and names a picture by their mean.
        reading_channels: of each cell from a branch that reads letters; 0 for a tower without it.
        reading_width, reading_depths: channels of that branch at 48x48 cells, its blocks there and at 24x24.
        image_mean, image_std: of red, green and blue as shares of 255, for normalising pictures.
        initializer_range: deviation of random first weights, as a share of the usual one for ReLU.
    """

    model_type = EFFICIENTNET_LITE
    base_config_key = "vision_config"

    image_size: int = LITE0["image_size"]
    num_channels: int = 3
    stem_width: int = LITE0["stem_width"]
    blocks: list[Any] | tuple[Any, ...] = LITE0["blocks"]
    feature_strides: list[int] | tuple[int, ...] = LITE0["feature_strides"]
    head_channels: int = LITE0["head_channels"]
    reading_channels: int = LITE0["reading_channels"]
    reading_width: int = LITE0["reading_width"]
    reading_depths: list[int] | tuple[int, ...] = LITE0["reading_depths"]
    image_mean: list[float] | tuple[float, ...] = LITE0["image_mean"]
    image_std: list[float] | tuple[float, ...] = LITE0["image_std"]
    initializer_range: float = 1.0

    @property
    def hidden_size(self) -> int:
        """Channels of a visual token: what the projector reads."""
        return feature_width(self.sizes)

    @property
    def sizes(self) -> dict[str, Any]:
        """What `conv_sizes` reads."""
        return {key: getattr(self, key) for key in LITE0}


class _Block(nn.Module):
    """An inverted bottleneck [N, C, H, W] -> [N, C', H / stride, W / stride]."""

    def __init__(self, sizes: ConvBlock) -> None:
        super().__init__()
        self.skips = sizes.skips
        self.expand = nn.Conv2d(sizes.width_in, sizes.inner, 1) if sizes.expands else None
        self.depthwise = same_conv(sizes.inner, sizes.inner, sizes.kernel, sizes.stride, groups=sizes.inner)
        self.project = nn.Conv2d(sizes.inner, sizes.width_out, 1)

    def forward(self, given: Tensor) -> Tensor:
        # In place where nothing else reads it: these arrays are the peak of the tower's memory.
        inner = given if self.expand is None else F.relu6(self.expand(given), inplace=True)
        inner = pad_same(inner, self.depthwise)
        inner = F.relu6(self.depthwise(inner), inplace=True)
        out = self.project(inner)
        return out.add_(given) if self.skips else out


def same_conv(width_in: int, width_out: int, kernel: int, stride: int, *, groups: int = 1) -> nn.Conv2d:
    """Return a convolution that pads itself where all sides are padded alike; else `pad_same` goes before it."""
    padding = kernel // 2 if stride == 1 else 0
    return nn.Conv2d(width_in, width_out, kernel, stride, padding=padding, groups=groups)


def pad_same(inputs: Tensor, conv: nn.Conv2d) -> Tensor:
    """Pad [N, C, H, W] as TensorFlow's "same" does: an odd pixel goes to the right and to the bottom.

    Where the stride is 1 the convolution pads itself, and nothing is copied.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    if stride == 1:
        return inputs
    sides: list[int] = []
    for size in (inputs.shape[-1], inputs.shape[-2]):
        lacking = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [lacking // 2, lacking - lacking // 2]
    return F.pad(inputs, sides)


class EfficientNetLiteModel(PreTrainedModel):
    """EfficientNet-Lite without its head: pictures to the features of 24x24 cells."""

    config_class = EfficientNetLiteConfig
    config: EfficientNetLiteConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    # It has no attention: whichever implementation the decoder is to run is right for it.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = same_conv(config.num_channels, config.stem_width, STEM_KERNEL, STEM_STRIDE)
        self.blocks = nn.ModuleList(_Block(sizes) for sizes in conv_blocks(config.blocks))
        self.feature_blocks, self.reading_blocks = feature_blocks(config.sizes), reading_blocks(config.sizes)
        last = conv_blocks(config.blocks)[-1].width_out
        self.head = nn.Conv2d(last, config.head_channels, 1) if config.head_channels else None
        reading = reading_sizes(config.sizes)
        self.reading = None if reading is None else ReadingBranch(reading)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Start at the scale that keeps the loudness of features through ReLUs (He et al., arXiv 1502.01852)."""
        if getattr(getattr(module, "weight", None), "_is_hf_initialized", False) or start_reading(module):
            return
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            module.weight.mul_(self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def feature_maps(self, pixels_NCHW: Tensor) -> list[Tensor]:
        """Return the features of each of `feature_strides`, [N, C, side / stride, side / stride].

        Behind the channels of stride 16 stand those of the branch that reads, where there is one. Where there is a last
        1x1 convolution, its output is the last map.
        """
        found: dict[int, Tensor] = {}
        early: list[Tensor] = []
        letters = None
        for number, values in enumerate(self._outputs(pixels_NCHW)):
            if number in self.feature_blocks:
                found[number] = values
            if number in self.reading_blocks:
                early.append(values)
            if self.reading is not None and len(early) == len(self.reading_blocks):
                letters = self.reading(*early)
                early = []
        maps = [found[number] for number in self.feature_blocks]
        if self.head is not None:
            maps[-1] = F.relu6(self.head(maps[-1]), inplace=True)
        if letters is not None:
            at = list(self.config.feature_strides).index(CELL)
            maps[at] = torch.cat([maps[at], letters], dim=1)
        return maps

    def early_maps(self, pixels_NCHW: Tensor) -> list[Tensor]:
        """Return what the branch that reads starts from, the maps of stride 4 and 8; later blocks are not run."""
        outputs = enumerate(islice(self._outputs(pixels_NCHW), max(self.reading_blocks) + 1))
        return [values for number, values in outputs if number in self.reading_blocks]

    def _outputs(self, pixels_NCHW: Tensor) -> Iterator[Tensor]:
        """Yield what each block gives."""
        # With channels innermost, convolutions on a CPU need no second copy in a layout of their own.
        values = pixels_NCHW.contiguous(memory_format=torch.channels_last)
        values = F.relu6(self.stem(pad_same(values, self.stem)), inplace=True)
        for block in self.blocks:
            values = block(values)
            yield values

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutput:
        """Return the features of 24x24 cells, row-major.

        Args:
            pixel_values: [N, 3, image_size, image_size], normalised with the config's mean and deviation.
            kwargs: what LLaVA passes to any tower (which hidden states to keep); there is one, so nothing to choose.

        Returns:
            `last_hidden_state` [N, 576, hidden_size], also the only one of `hidden_states`: `vision_feature_layer` is
            -1. There is no class token: `vision_feature_select_strategy` is "full".
        """
        grids = [to_cells(features) for features in self.feature_maps(pixel_values)]
        tokens = torch.cat(grids, dim=1).flatten(2).transpose(1, 2).contiguous()
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))


def to_cells(features_NCHW: Tensor) -> Tensor:
    """Return features at 24x24 cells: coarser ones repeated, finer ones averaged.

    A linear layer commutes with both: it may run on the 12x12 cells of stride 32 instead.
    """
    side = features_NCHW.shape[-1]
    if side < FULL_SIDE and FULL_SIDE % side == 0:
        return F.interpolate(features_NCHW, size=(FULL_SIDE, FULL_SIDE), mode="nearest")
    if side > FULL_SIDE and side % FULL_SIDE == 0:
        return F.avg_pool2d(features_NCHW, side // FULL_SIDE)
    if side != FULL_SIDE:
        raise ValueError(
            f"features of {side}x{side} cells do not fit {FULL_SIDE}x{FULL_SIDE}: pictures have a side of "
            f"{FULL_SIDE * CELL} pixels"
        )
    return features_NCHW


AutoConfig.register(EFFICIENTNET_LITE, EfficientNetLiteConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel, exist_ok=True)
