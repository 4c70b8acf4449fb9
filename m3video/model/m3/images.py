"""Preprocess RGB pictures for the vision tower, bit-equal to the reference: PIL bicubic, never torchvision.

Shape legend: N pictures, P tiles of one picture, H W = the tower's side (CLIP: 336), V 256 grey levels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from m3video.model.m3.picture_format import CLIP_PICTURES, PictureFormat
from m3video.model.m3.square import as_picture, as_square

SIDE = CLIP_PICTURES.side
"""Of the tiles of anyres, which only CLIP's towers have."""

Size = tuple[int, int]


@functools.cache
def image_processor(form: PictureFormat) -> CLIPImageProcessorPil:
    """Return transformers' own preprocessing of pictures of this form."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": form.side},
        crop_size={"height": form.side, "width": form.side},
        image_mean=list(form.mean),
        image_std=list(form.std),
    )


def to_pixels(pictures: Sequence[Image.Image], form: PictureFormat = CLIP_PICTURES) -> Tensor:
    """Return square pictures after transformers' own preprocessing, float32 [N, 3, H, W]."""
    pixels = image_processor(form)(images=list(pictures), return_tensors="np")["pixel_values"]
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))


def pad_pixels(pictures: Sequence[NDArray[np.uint8] | Image.Image], form: PictureFormat = CLIP_PICTURES) -> Tensor:
    """Preprocess pictures as LLaVA-1.5 does, and as every video frame is.

    Args:
        pictures: RGB uint8 [H, W, 3] arrays or PIL pictures, of any sizes.
        form: the pictures that the vision tower takes.

    Returns:
        [N, 3, H, W] float32.
    """
    return normalise(torch.from_numpy(np.stack([as_square(picture, form) for picture in pictures])), form)


def normalise(squares_NHW3: Tensor, form: PictureFormat = CLIP_PICTURES) -> Tensor:
    """Normalise square pictures with the tower's mean and deviation; on every device the numbers of `to_pixels`.

    Args:
        squares_NHW3: uint8 [N, H, W, 3], on any device.
        form: the pictures that the vision tower takes.

    Returns:
        [N, 3, H, W] float32, on the same device.
    """
    table_3V = _levels(squares_NHW3.device, form)
    channels = torch.arange(3, device=squares_NHW3.device)[:, None, None]
    levels_N3HW = squares_NHW3.permute(0, 3, 1, 2).to(torch.int32, memory_format=torch.contiguous_format)
    return table_3V[channels, levels_N3HW]


@functools.cache
def _levels(device: torch.device, form: PictureFormat) -> Tensor:
    """Return the preprocessed value of each grey level, float32 [3, V]; cached, since a copy to a GPU blocks."""
    square = np.zeros((form.side**2, 3), np.uint8)
    square[:256] = np.arange(256)[:, None]
    pixels = to_pixels([Image.fromarray(square.reshape(form.side, form.side, 3), "RGB")], form)
    with torch.inference_mode(False):  # training uses it too
        return pixels[0].reshape(3, -1)[:, :256].clone().to(device)


def best_size(size_wh: Size, pinpoints_wh: Sequence[Sequence[int]]) -> Size:
    """Return the (width, height) of `pinpoints_wh` that retains most of the picture and wastes least.

    Source: reference `select_best_resolution`. It reads pinpoints as (width, height); transformers reads them as
    (height, width) and so picks another grid at ties.
    """
    width, height = size_wh
    best, best_area, least_waste = None, 0, math.inf
    for grid_w, grid_h in pinpoints_wh:
        scale = min(grid_w / width, grid_h / height)
        area = min(int(width * scale) * int(height * scale), width * height)
        waste = grid_w * grid_h - area
        if area > best_area or (area == best_area and waste < least_waste):
            best, best_area, least_waste = (int(grid_w), int(grid_h)), area, waste
    assert best is not None
    return best


def anyres_tiles(picture: Image.Image, pinpoints_wh: Sequence[Sequence[int]]) -> list[Image.Image]:
    """Return the whole picture stretched to 336x336, then the tiles of its best grid, row-major.

    Source: reference `process_anyres_image`.
    """
    width, height = picture.size
    grid_w, grid_h = best_size(picture.size, pinpoints_wh)
    if grid_w / width < grid_h / height:
        new_w, new_h = grid_w, min(math.ceil(height * (grid_w / width)), grid_h)
    else:
        new_w, new_h = min(math.ceil(width * (grid_h / height)), grid_w), grid_h
    canvas = Image.new("RGB", (grid_w, grid_h), (0, 0, 0))
    canvas.paste(picture.resize((new_w, new_h)), ((grid_w - new_w) // 2, (grid_h - new_h) // 2))
    tiles = [
        canvas.crop((left, top, left + SIDE, top + SIDE))
        for top in range(0, grid_h, SIDE)
        for left in range(0, grid_w, SIDE)
    ]
    return [picture.resize((SIDE, SIDE)), *tiles]


def anyres_pixels(picture: NDArray[np.uint8] | Image.Image, pinpoints_wh: Sequence[Sequence[int]]) -> Tensor:
    """Preprocess one picture as LLaVA-NeXT does: [P, 3, 336, 336], the base tile first."""
    return to_pixels(anyres_tiles(as_picture(picture), pinpoints_wh))


def merge_tiles(tokens_PSD: Tensor, size_wh: Size, pinpoints_wh: Sequence[Sequence[int]], newline_D: Tensor) -> Tensor:
    """Merge pooled tiles: the base tile, then the grid row by row without padding, a newline ending each row.

    Args:
        tokens_PSD: [P, scale, D], each tile pooled to the same scale.
        size_wh: width and height of the original picture.
        pinpoints_wh: the model's grids, (width, height).
        newline_D: the model's learned end-of-row token.

    Returns:
        [T, D]; at scale 1 unpadding may remove every tile row (320x240 leaves one token).

    Source: reference `prepare_inputs_labels_for_multimodal`, `spatial_unpad`.
    """
    grid_w, grid_h = best_size(size_wh, pinpoints_wh)
    columns, rows = grid_w // SIDE, grid_h // SIDE
    side, width = math.isqrt(tokens_PSD.shape[1]), tokens_PSD.shape[2]
    grid = tokens_PSD[1:].reshape(rows, columns, side, side, width)
    map_HWD = grid.permute(0, 2, 1, 3, 4).reshape(rows * side, columns * side, width)
    map_HWD = unpad(map_HWD, size_wh)
    ends = newline_D.to(map_HWD.dtype).expand(map_HWD.shape[0], 1, width)
    return torch.cat([tokens_PSD[0], torch.cat([map_HWD, ends], dim=1).reshape(-1, width)])


def unpad(map_HWD: Tensor, size_wh: Size) -> Tensor:
    """Cut off the rows or columns that are only padding.

    Source: reference `unpad_image`; it truncates where transformers rounds to seven digits first.
    """
    width, height = size_wh
    rows, columns = map_HWD.shape[:2]
    if width / height > columns / rows:
        border = (rows - int(height * (columns / width))) // 2
        return map_HWD[border : rows - border]
    border = (columns - int(width * (rows / height))) // 2
    return map_HWD[:, border : columns - border]
