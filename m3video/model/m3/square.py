"""A video frame as the square picture that the vision tower sees.

Loads no torch, unlike `images`: processes that only decode video make these squares too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m3video.model.m3.picture_format import CLIP_PICTURES, PictureFormat


def pad_to_square(picture: Image.Image, form: PictureFormat = CLIP_PICTURES) -> Image.Image:
    """Centre `picture` on a square of the tower's mean colour (reference `expand2square`)."""
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    square = Image.new("RGB", (side, side), form.padding_rgb)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def as_picture(picture: NDArray[np.uint8] | Image.Image) -> Image.Image:
    """Return a picture as an RGB PIL image."""
    return picture.convert("RGB") if isinstance(picture, Image.Image) else Image.fromarray(picture, "RGB")


def as_square(picture: NDArray[np.uint8] | Image.Image, form: PictureFormat = CLIP_PICTURES) -> NDArray[np.uint8]:
    """Return the picture padded and resized to the tower's side S, RGB uint8 [S, S, 3]; as it is where it has it."""
    side = form.side
    if isinstance(picture, np.ndarray) and picture.shape == (side, side, 3):
        return picture
    square = pad_to_square(as_picture(picture), form)
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))
