"""Complexity: how much of a picture is lost at each token scale.

The geometry is the model's: the picture is padded to a square, cut into 24x24 cells (the tokens of scale 576), and
every coarser scale averages blocks of cells. A cell is described by its mean Y, Cb, Cr and by its strokes, the strength
of the luma Laplacian inside it. Two things are lost when cells are averaged:

- structure: how far the cell's colour is from its block's;
- strokes: fine lines, as of letters. Grass and gravel are full of them and say little, so what counts is the excess
  over the picture's median cell. Strokes of neighbouring cells do not add up, and the share lost at a grid of side g
  is 1 - g/24: close to the errors of a trained reader of small digits (right .11/.21/.36/.59/.92 of the time at the
  five scales).

The border that padding adds is known beforehand, so it loses nothing: cells are weighted by the share of picture in
them, and a plain colour needs one token at any aspect ratio.

All sums over pixels are sums of whole numbers below 2^24, exact in float32; so a frame's numbers depend on that
frame alone, not on what was measured together with it.

Shape legend: B frames of a batch, S scales, H W picture, R C 24 rows and columns of cells, F the four features, K
signature values.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from m3video.types import FULL_SIDE, GRID_SIDES, SCALES, SCAN_SIDE, SIGNATURE_SIDE, TEXTURE_SIDE

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

CELL = SCAN_SIDE // FULL_SIDE
"""Side of a cell, in pixels of a scan picture."""

STRUCTURE_WEIGHT = 0.25
"""Weight of a colour deviation against an equal excess of strokes: blobs and shading are energy, not text."""

PEAK_SHARE = 0.05
"""Peak loss is the mean over this share of the cells, the worst ones."""

STROKE_UNIT = 16
"""Strokes of a texture cell are stored as this many times the root of grey levels: a step is .06 levels where they are
weak and half a level where they are strong."""

PATTERN: tuple[int, ...] = (1, -1, 1, 1, -1, -1, 1, -1, -1, 1, 1, -1)
"""Signs across a texture cell, and down it: the projection is luma times both, summed. Their sum is 0, so that
a uniform change of light has no effect; nearly all words replaced by others as dark and as strong have."""

PATTERN_STEP = 4
"""Step in which the projection is stored, modulo 256: words change it by 50 to 500, encoding a still picture again by
up to 12. Between two different pictures one of 30 cells looks equal."""

BORDER_GREY = np.array([116, 121, 132], np.float32)
"""Y, Cb, Cr of the border the model pads with, RGB (122, 116, 104)."""


def cell_features(luma_BHW: Bytes, chroma_B2HW: Bytes) -> tuple[Floats, Floats]:
    """Return mean Y, Cb, Cr and strokes of every cell of the model's 24x24 grid.

    Args:
        luma_BHW: uint8, pictures of one size.
        chroma_B2HW: uint8 [B, 2, ceil(H/2), ceil(W/2)].

    Returns:
        features float32 [B, 4, 24, 24] in grey levels (strokes are the root mean square of the Laplacian of luma),
        and the pixels of picture in each cell, float32 [24, 24], 0 where there is only border.
    """
    features, _, area = CellMeter(len(luma_BHW)).features(luma_BHW, chroma_B2HW)
    return features, area


class CellMeter:
    """`cell_features` for many batches of one picture size, in a reused array: clearing a new one takes longer than
    all the sums."""

    def __init__(self, most: int) -> None:
        """Prepare for batches of at most `most` pictures."""
        self._most = most
        self._canvas: Floats | None = None

    def features(self, luma_BHW: Bytes, chroma_B2HW: Bytes) -> tuple[Floats, Bytes, Floats]:
        """Return the features, the pattern of each cell of the 12x12 grid (uint8 [B, 144]), and the area of cells."""
        luma, chroma = _at_scan_size(luma_BHW, chroma_B2HW)
        count, height, width = luma.shape
        rows, columns = _overlap(height, height, 1), _overlap(width, width, 1)
        area = rows.sum(axis=1)[:, None] * columns.sum(axis=1)[None, :]
        features = np.zeros((count, 4, FULL_SIDE, FULL_SIDE), np.float32)
        (top, cell_rows), (left, cell_columns) = _touched_cells(height), _touched_cells(width)
        if self._canvas is None:
            shape = (cell_rows.stop - cell_rows.start, cell_columns.stop - cell_columns.start)
            self._canvas = np.zeros((self._most, shape[0] * CELL, shape[1] * CELL), np.float32)
        canvas = self._canvas[:count]
        inside = canvas[:, top : top + height, left : left + width]
        inside[...] = luma
        features[:, 0, cell_rows, cell_columns] = _cell_sums(canvas)
        pattern = _pattern(height) @ inside @ _pattern(width).T
        for picture, into in zip(luma, inside, strict=True):
            # Half the Laplacian, in whole numbers, keeps the sum of 36 squares below 2^24.
            np.square(cv2.Laplacian(picture, cv2.CV_16S, ksize=1, scale=0.5), out=into, dtype=np.float32)
        features[:, 3, cell_rows, cell_columns] = _cell_sums(canvas)
        half = chroma.shape[2:]
        # Products of this size are too small for a BLAS to start threads: a scan uses one.
        features[:, 1:3] = _overlap(half[0], height, 2) @ chroma.astype(np.float32) @ _overlap(half[1], width, 2).T
        features *= np.float32(1) / np.maximum(area, 1)
        strokes = features[:, 3]
        np.multiply(np.sqrt(strokes, out=strokes), 2, out=strokes)
        steps = np.rint(pattern / PATTERN_STEP).astype(np.int32).astype(np.uint8)  # modulo 256
        return features, steps.reshape(count, -1), area


def _touched_cells(length: int) -> tuple[int, slice]:
    """Return the offset within the first cell, and the cells touched, of `length` pixels centred in `SCAN_SIDE`."""
    start = (SCAN_SIDE - length) // 2
    return start % CELL, slice(start // CELL, -(-(start + length) // CELL))


def _cell_sums(canvas_BHW: Floats) -> Floats:
    """Return the sums of the 6x6 pixels of each cell, [B, H/6, W/6]."""
    count, height, width = canvas_BHW.shape
    lines = _sum_last(np.moveaxis(canvas_BHW.reshape(count, height // CELL, CELL, width), 2, -1))
    return _sum_last(lines.reshape(count, height // CELL, width // CELL, CELL))


def _sum_last(array: Floats) -> Floats:
    """Sum over a short last axis, slice by slice: many times as quick as `sum`, and always in the same order."""
    total = array[..., 0] + array[..., 1]
    for k in range(2, array.shape[-1]):
        total += array[..., k]
    return total


def _at_scan_size(luma_BHW: Bytes, chroma_B2HW: Bytes) -> tuple[Bytes, Bytes]:
    """Enlarge pictures until their longest side is `SCAN_SIDE`, as the model enlarges them."""
    height, width = luma_BHW.shape[1:]
    longest = max(height, width)
    if longest == SCAN_SIDE:
        return luma_BHW, chroma_B2HW
    high, wide = (max(1, round(side * SCAN_SIDE / longest)) for side in (height, width))
    size, half = (wide, high), (-(-wide // 2), -(-high // 2))
    luma = [cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR) for picture in luma_BHW]
    chroma = [[cv2.resize(plane, half, interpolation=cv2.INTER_LINEAR) for plane in pair] for pair in chroma_B2HW]
    return np.array(luma, np.uint8).reshape(-1, high, wide), np.array(chroma, np.uint8).reshape(-1, 2, *half[::-1])


@cache
def _overlap(samples: int, side: int, step: int) -> Floats:
    """Return how many luma pixels of each cell each sample covers, [24, samples].

    The samples, of `step` pixels each, cover a picture of `side` pixels centred in `SCAN_SIDE`.
    """
    start = (SCAN_SIDE - side) // 2
    low = start + step * np.arange(samples)
    high = np.minimum(low + step, start + side)
    edges = np.arange(FULL_SIDE + 1) * CELL
    shared = np.minimum(high[None, :], edges[1:, None]) - np.maximum(low[None, :], edges[:-1, None])
    overlap = np.maximum(shared, 0).astype(np.float32)
    overlap.setflags(write=False)
    return overlap


@cache
def _pattern(side: int) -> Floats:
    """Return the sign of each pixel of a side centred in `SCAN_SIDE` in its texture cell, [12, side]."""
    step = SCAN_SIDE // TEXTURE_SIDE
    place = (SCAN_SIDE - side) // 2 + np.arange(side)
    signs = np.zeros((TEXTURE_SIDE, side), np.float32)
    signs[place // step, np.arange(side)] = np.array(PATTERN, np.float32)[place % step]
    signs.setflags(write=False)
    return signs


def losses(features_BFRC: Floats, area_RC: Floats) -> tuple[Floats, Floats]:
    """Return mean and peak loss at every scale against 24x24.

    Args:
        features_BFRC: float32 [B, 4, 24, 24], grey levels.
        area_RC: float32 [24, 24], pixels of picture in each cell.

    Returns:
        loss_BS and peak_BS float32 [B, 5], squared grey levels, non-increasing in scale, 0 at 576. Peak is the mean
        over the worst 5 % of the cells with picture.
    """
    num_frames = len(features_BFRC)
    weight = _nested(area_RC / area_RC.max())
    worst, total = max(1, round(PEAK_SHARE * float(weight.sum()))), weight.sum()
    cells = _nested(features_BFRC)
    colours, strokes = cells[:, :3], cells[:, 3]
    usual = np.median(strokes[:, weight > 0], axis=1, keepdims=True)
    fine = np.square(np.maximum(strokes - usual, 0)) * weight
    # A structure weight inside the square: its root is a power of two, so that nothing is rounded.
    colours *= STRUCTURE_WEIGHT**0.5
    loss = np.zeros((num_frames, len(SCALES)), np.float32)
    peak = np.zeros((num_frames, len(SCALES)), np.float32)
    sums, weights = colours * weight, weight
    for column in range(len(SCALES) - 2, -1, -1):
        sums, weights = _merge(sums), _merge(weights)
        scale = SCALES[column]
        centre = (sums / np.maximum(weights, 1e-6))[..., None]
        gap = colours.reshape(num_frames, 3, scale, -1) - centre
        gap = np.square(gap, out=gap).reshape(num_frames, 3, -1)
        lost = gap[:, 0] + gap[:, 1]
        lost += gap[:, 2]
        lost *= weight
        lost += (1 - GRID_SIDES[scale] / FULL_SIDE) * fine
        loss[:, column] = lost.sum(axis=-1) / total
        lost.partition(FULL_SIDE**2 - worst, axis=-1)
        peak[:, column] = lost[:, -worst:].sum(axis=-1) / worst
    # Coarser blocks cannot lose less on average (beyond rounding); a single cell can, so the order is enforced.
    for table in (loss, peak):
        table[:] = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    return loss, peak


def _nested(grid: Floats) -> Floats:
    """Flatten [..., 24, 24] to [..., 576] such that the cells of every block of every scale are neighbours."""
    return np.take(grid.reshape(*grid.shape[:-2], -1), _nested_order(), axis=-1)


@cache
def _nested_order() -> NDArray[np.intp]:
    """Return the order of `_nested`: by (third, half, half, half) from coarse to fine, rows and columns alternating."""
    places = np.arange(FULL_SIDE**2).reshape(3, 2, 2, 2, 3, 2, 2, 2)
    return places.transpose(0, 4, 1, 5, 2, 6, 3, 7).ravel()


def _merge(sums: Floats) -> Floats:
    """Return block sums of the next coarser scale, in a fixed order: 576 -> 144 -> 36 -> 9 by fours, 9 -> 1 by nine."""
    step = 9 if sums.shape[-1] == 9 else 4
    return _sum_last(sums.reshape(*sums.shape[:-1], -1, step))


def signatures(features_BFRC: Floats, area_RC: Floats) -> Bytes:
    """Return the 6x6 grid of mean Y, Cb, Cr (row, column, channel), uint8 [B, 108]; pure border is grey."""
    side = FULL_SIDE // SIGNATURE_SIDE
    weighted = (features_BFRC[:, :3] * area_RC).reshape(-1, 3, SIGNATURE_SIDE, side, SIGNATURE_SIDE, side)
    area = area_RC.reshape(SIGNATURE_SIDE, side, SIGNATURE_SIDE, side)
    sums, pixels = _fold(_fold(weighted, 5), 3), _fold(_fold(area, 3), 1)
    means = sums / np.maximum(pixels, 1)
    means = np.where(pixels > 0, means, BORDER_GREY[:, None, None])
    return np.rint(means).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1).reshape(len(means), -1)


def textures(features_BFRC: Floats, area_RC: Floats) -> Bytes:
    """Return strokes of the 12x12 grid's cells, `STROKE_UNIT` times the root of grey levels, uint8 [B, 144]."""
    side = FULL_SIDE // TEXTURE_SIDE
    energy = np.square(features_BFRC[:, 3]) * area_RC
    sums = _fold(_fold(energy.reshape(-1, TEXTURE_SIDE, side, TEXTURE_SIDE, side), 4), 2)
    pixels = _fold(_fold(area_RC.reshape(TEXTURE_SIDE, side, TEXTURE_SIDE, side), 3), 1)
    strokes = np.sqrt(np.sqrt(sums / np.maximum(pixels, 1)))
    return np.rint(STROKE_UNIT * strokes).clip(0, 255).astype(np.uint8).reshape(len(strokes), -1)


def _fold(array: Floats, axis: int) -> Floats:
    """Sum over `axis`, first to last."""
    return _sum_last(np.moveaxis(array, axis, -1))
