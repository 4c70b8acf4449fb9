"""A branch that reads, beside a convolutional tower: it starts from the trunk's early maps and ends at 24x24 cells.

A trunk that learned to name photographs hardly keeps letters: by stride 16 they are gone. The branch takes stride 4 and
stride 8, where strokes are still apart, works at 48x48 cells, folds 2x2 of them into one (so that a cell still knows
which letter came first), and then looks far to the left and to the right, because words are wide.

It has layer norms and no batch norm: a checkpoint holds parameters only, and training changes no statistics.

Shape legend: N pictures, C channels, H W rows and columns, W also the width at 48x48, R reading channels.

Source: ConvNeXt (arXiv 2201.03545), figure 4, for the blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3video.model.m3.conv_sizes import READING_EXPANSION, READING_FOLD, READING_KERNELS, ReadingSizes


class ReadingBlock(nn.Module):
    """Cells [N, H, W, C] -> the same, each with what its neighbours said added: a wide filter, then two layers."""

    def __init__(self, width: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.look = nn.Conv2d(width, width, kernel, padding=padding, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, READING_EXPANSION * width)
        self.narrow = nn.Linear(READING_EXPANSION * width, width)

    def forward(self, cells_NHWC: Tensor) -> Tensor:
        # Channels are innermost throughout: both turns are views.
        seen = self.look(cells_NHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return cells_NHWC + self.narrow(F.gelu(self.widen(self.norm(seen))))


class ReadingBranch(nn.Module):
    """Maps of stride 4 and stride 8 -> reading channels of 24x24 cells, loud as a layer norm leaves them."""

    def __init__(self, sizes: ReadingSizes) -> None:
        super().__init__()
        self.early = nn.Conv2d(sizes.width_4, sizes.width, 3, stride=2, padding=1)
        self.middle = nn.Linear(sizes.width_8, sizes.width)
        self.start = nn.LayerNorm(sizes.width)
        fine, coarse = sizes.depths
        self.layers = nn.ModuleList(ReadingBlock(sizes.width, READING_KERNELS[0]) for _ in range(fine))
        self.fold = nn.Linear(READING_FOLD**2 * sizes.width, sizes.channels)
        self.layers.extend(ReadingBlock(sizes.channels, READING_KERNELS[1]) for _ in range(coarse))
        self.end = nn.LayerNorm(sizes.channels)
        self.fine_blocks = fine

    def forward(self, stride_4_NCHW: Tensor, stride_8_NCHW: Tensor) -> Tensor:
        """Return what can be read in each cell.

        Args:
            stride_4_NCHW: [N, width_4, 96, 96], the trunk's last map of stride 4.
            stride_8_NCHW: [N, width_8, 48, 48], its last map of stride 8.

        Returns:
            [N, R, 24, 24].
        """
        cells = self.early(stride_4_NCHW).permute(0, 2, 3, 1)
        cells = self.start(cells + self.middle(stride_8_NCHW.permute(0, 2, 3, 1)))
        for block in self.layers[: self.fine_blocks]:
            cells = block(cells)
        cells = self.fold(folded_cells(cells))
        for block in self.layers[self.fine_blocks :]:
            cells = block(cells)
        return self.end(cells).permute(0, 3, 1, 2)


def folded_cells(cells_NHWC: Tensor) -> Tensor:
    """Return [N, H / 2, W / 2, 4 C]: the channels of 2x2 cells side by side, upper left first, row by row."""
    pictures, rows, columns, channels = cells_NHWC.shape
    pairs = cells_NHWC.reshape(pictures, rows // READING_FOLD, READING_FOLD, columns // READING_FOLD, -1)
    halves = pairs.transpose(2, 3)
    return halves.reshape(pictures, rows // READING_FOLD, columns // READING_FOLD, READING_FOLD**2 * channels)


@torch.no_grad()
def start_reading(module: nn.Module) -> bool:
    """Set the first weights of one layer of a branch, if it is one that a branch has besides convolutions.

    Returns:
        Whether it was one.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(module.bias)
        return True
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
        return True
    return False
