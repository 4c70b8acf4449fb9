"""Estimate token needs from a picture alone, to be compared with those that were measured on the model.

Each returns a table [B, 5] of the loss at every scale, in units of its own: non-negative, non-increasing in scale.
`losses` of `complexity` (mean and peak) are two more of them. `scripts/eval_estimators.py` compares them all.

Shape legend: B frames, T the 576 tokens or cells of a frame (raster order), D width, S scales, R C 24 rows and columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m3video.planning.complexity import PEAK_SHARE
from m3video.types import FULL_SIDE, GRID_SIDES, SCALES

Floats = NDArray[np.float32]

BIT_STEP = 8.0
"""Grey levels: the step of the quantizer whose bits are counted, about that of H.264 at a middling quality."""


def distortion(grid_BTD: Floats, weight_T: Floats) -> tuple[Floats, Floats]:
    """Return the squared distance of cells from the mean of their block: what the model's pooling discards.

    Args:
        grid_BTD: float32 [B, 576, D], cells of pixels or the model's own visual tokens.
        weight_T: float32 [576], the share of each cell that is picture, 0 to 1.

    Returns:
        float32 [B, 5] twice: the mean over cells, and the mean over the worst 5 % of them.
    """
    mean = np.zeros((len(grid_BTD), len(SCALES)), np.float32)
    peak = np.zeros_like(mean)
    worst = max(1, round(PEAK_SHARE * float(weight_T.sum())))
    for column, scale in enumerate(SCALES[:-1]):
        gap = np.square(grid_BTD - block_means(grid_BTD, weight_T, scale)).sum(axis=-1) * weight_T
        mean[:, column] = gap.sum(axis=-1) / weight_T.sum()
        peak[:, column] = np.partition(gap, -worst, axis=-1)[:, -worst:].mean(axis=-1)
    return _in_order(mean), _in_order(peak)


def block_means(grid_BTD: Floats, weight_T: Floats, scale: int) -> Floats:
    """Return the weighted mean of each block of `scale`, repeated for all its cells, float32 [B, 576, D]."""
    side = GRID_SIDES[scale]
    block = FULL_SIDE // side
    blocks = (grid_BTD * weight_T[:, None]).reshape(-1, side, block, side, block, grid_BTD.shape[-1])
    weight = weight_T.reshape(side, block, side, block).sum(axis=(1, 3))
    means = blocks.sum(axis=(2, 4)) / np.maximum(weight, 1e-6)[..., None]
    return means.repeat(block, axis=1).repeat(block, axis=2).reshape(grid_BTD.shape)


def coded_bits(grid_BTD: Floats, weight_T: Floats) -> Floats:
    """Return the bits of the detail that each scale leaves out, in a coder of the nested pyramid.

    The pyramid predicts each block from the block above; a difference d costs about log2(1 + |d| / step) bits.

    Args:
        grid_BTD: float32 [B, 576, D], grey levels.
        weight_T: float32 [576], the share of each cell that is picture.

    Returns:
        float32 [B, 5], bits; 0 at 576.
    """
    means = [block_means(grid_BTD, weight_T, scale) for scale in SCALES]
    lost = np.zeros((len(grid_BTD), len(SCALES)), np.float32)
    for column in range(len(SCALES) - 2, -1, -1):
        finer = SCALES[column + 1]
        bits = np.log2(1 + np.abs(means[column + 1] - means[column]) / BIT_STEP).sum(axis=-1)
        # Every block of the finer scale stands in all its cells: count it once.
        lost[:, column] = lost[:, column + 1] + (bits * weight_T).sum(axis=-1) * finer / FULL_SIDE**2
    return lost


def stroke_energy(strokes_BT: Floats, weight_T: Floats) -> Floats:
    """Return the mean squared strokes of the cells, lost in proportion to the missing part of the grid's side.

    Args:
        strokes_BT: float32 [B, 576], root mean square of the Laplacian of luma in each cell.
        weight_T: float32 [576], the share of each cell that is picture.
    """
    energy = (np.square(strokes_BT) * weight_T).sum(axis=-1) / weight_T.sum()
    return energy[:, None] * missing_sides()


def missing_sides() -> Floats:
    """Return 1 - side / 24 for every scale: the share of fine lines that is lost, float32 [5]."""
    return np.array([1 - GRID_SIDES[scale] / FULL_SIDE for scale in SCALES], np.float32)


def _in_order(table_BS: Floats) -> Floats:
    """Make losses non-increasing in scale, which rounding, and single cells for peaks, may violate."""
    return np.maximum.accumulate(table_BS[:, ::-1], axis=1)[:, ::-1]
