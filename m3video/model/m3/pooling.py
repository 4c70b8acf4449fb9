"""Nested pooling 576 -> 144 -> 36 -> 9 -> 1, and packing of frames with different scales. Pure tensors.

Shape legend: N frames, S tokens of one frame, T tokens of all frames, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from m3video.types import FULL_SCALE, FULL_SIDE, GRID_SIDES, check_scale


def pool(grid_NSD: Tensor, scale: int) -> Tensor:
    """Pool row-major 24x24 grids of projected tokens to `scale` tokens each.

    Args:
        grid_NSD: [N, 576, D], row-major.
        scale: one of 1, 9, 36, 144, 576.

    Returns:
        [N, scale, D]; at 576 the grid itself, bit for bit.

    Raises:
        ValueError: the scale is none of these, or the grid has another shape.

    Source: M3 paper section 3; `llava_arch.py` of the reference (average pooling after the projector).
    """
    check_scale(scale)
    if grid_NSD.ndim != 3 or grid_NSD.shape[1] != FULL_SCALE:
        raise ValueError(f"grid has shape {tuple(grid_NSD.shape)}, expected [N, {FULL_SCALE}, D]")
    if scale == FULL_SCALE:
        return grid_NSD
    n, _, d = grid_NSD.shape
    side = GRID_SIDES[scale]
    map_NDHW = grid_NSD.reshape(n, FULL_SIDE, FULL_SIDE, d).permute(0, 3, 1, 2)
    pooled = F.avg_pool2d(map_NDHW, kernel_size=FULL_SIDE // side)
    return pooled.permute(0, 2, 3, 1).reshape(n, scale, d)


def pool_further(tokens_SD: Tensor, scale: int) -> Tensor:
    """Pool a frame's tokens to a smaller scale: means of means, as if its grid had been pooled to it at once.

    Args:
        tokens_SD: [S, D], S one of the scales.
        scale: at most S.
    """
    if scale == len(tokens_SD):
        return tokens_SD
    side, smaller = GRID_SIDES[len(tokens_SD)], GRID_SIDES[scale]
    map_1DHW = tokens_SD.reshape(side, side, -1).permute(2, 0, 1)[None]
    return F.avg_pool2d(map_1DHW, kernel_size=side // smaller)[0].permute(1, 2, 0).reshape(scale, -1)


@dataclass(frozen=True, slots=True, eq=False)
class VisualTokens:
    """The tokens of all shown frames, packed: frame n holds rows `offsets_N[n]` to `offsets_N[n + 1]`."""

    tokens_TD: Tensor
    offsets_N: tuple[int, ...]
    scale_N: tuple[int, ...]

    def __post_init__(self) -> None:
        assert self.offsets_N[0] == 0
        assert self.offsets_N[-1] == len(self.tokens_TD)
        assert len(self.offsets_N) == len(self.scale_N) + 1

    def __len__(self) -> int:
        return len(self.scale_N)

    def frame(self, n: int) -> Tensor:
        """Return the tokens of frame `n`, [tokens of that frame, D]."""
        return self.tokens_TD[self.offsets_N[n] : self.offsets_N[n + 1]]

    def __repr__(self) -> str:
        return f"VisualTokens(N={len(self)}, tokens_TD={list(self.tokens_TD.shape)}, {self.tokens_TD.dtype})"


def pack_tokens(tokens: Sequence[Tensor], scales: Sequence[int]) -> VisualTokens:
    """Pack ready token blocks [T_n, D]; `scales` says at which scale each was pooled."""
    offsets = [0]
    for block in tokens:
        offsets.append(offsets[-1] + len(block))
    return VisualTokens(torch.cat(list(tokens)), tuple(offsets), tuple(scales))


def pack(grid_NSD: Tensor, scales: Sequence[int]) -> VisualTokens:
    """Pool each frame to its own scale and pack the results.

    Args:
        grid_NSD: [N, 576, D] projected grids.
        scales: N scales, in any mix.

    Raises:
        ValueError: no frame, or the numbers of scales and frames differ.
    """
    if len(grid_NSD) != len(scales) or not scales:
        raise ValueError(
            f"{len(grid_NSD)} frames with {len(scales)} scales: one scale for each, and at least one frame"
        )
    # Split at once: the gradient of a slice is as large as all grids, and there would be one for each frame.
    grids = grid_NSD.split(1)
    return pack_tokens([pool(grid, scale)[0] for grid, scale in zip(grids, scales, strict=True)], scales)
