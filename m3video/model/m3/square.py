"""A video frame as the square picture that the vision tower sees.

Loads no torch, unlike `images`: processes that only decode video make these squares too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 336
PADDING_RGB = (122, 116, 104)
"""int(CLIP mean * 255): what LLaVA-1.5 pads with. Black or a centre crop gives other answers."""


def pad_to_square(picture: Image.Image) -> Image.Image:
    """Centre `picture` on a square of CLIP's mean colour (reference `expand2square`)."""
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    square = Image.new("RGB", (side, side), PADDING_RGB)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def as_picture(picture: NDArray[np.uint8] | Image.Image) -> Image.Image:
    """Return a picture as an RGB PIL image."""
    return picture.convert("RGB") if isinstance(picture, Image.Image) else Image.fromarray(picture, "RGB")


def as_square(picture: NDArray[np.uint8] | Image.Image) -> NDArray[np.uint8]:
    """Return the picture padded and resized to RGB uint8 [336, 336, 3], unchanged where it has that size already."""
    if isinstance(picture, np.ndarray) and picture.shape == (SIDE, SIDE, 3):
        return picture
    square = pad_to_square(as_picture(picture))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
