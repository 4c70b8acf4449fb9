"""A list of pictures as a video: one frame a second, without loss."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from m3video.config import Settings
from m3video.serve.errors import RequestError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def as_video(pictures: Sequence[bytes]) -> bytes:
    """Return a Matroska file whose frames are the pictures, pixel by pixel.

    Args:
        pictures: files of `FORMATS`, at least one; all of one size once they are upright.

    Raises:
        RequestError: one of them is no such picture (422), has too many pixels (413), or another size (400).
    """
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        stream = None
        for number, data in enumerate(pictures):
            picture = _opened(data, number)
            if stream is None:
                stream = file.add_stream("ffv1", rate=1)
                stream.width, stream.height, stream.pix_fmt = *picture.size, "bgr0"
            if picture.size != (stream.width, stream.height):
                raise RequestError(
                    f"picture {number + 1} is {picture.size[0]}x{picture.size[1]}, the first is "
                    f"{stream.width}x{stream.height}: frames of a video have one size; scale or pad them"
                )
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            file.mux(stream.encode(frame))
        assert stream is not None, "no picture"
        file.mux(stream.encode())
    return out.getvalue()


def _opened(data: bytes, number: int) -> Image.Image:
    """Return one picture, upright, as RGB without transparency."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            pixels = picture.width * picture.height
            if pixels > Settings().max_pixels:
                raise RequestError(
                    f"picture {number + 1} has {pixels} pixels, more than {Settings().max_pixels}: scale it down",
                    status=413,
                )
            upright = ImageOps.exif_transpose(picture)
            return upright.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(
            f"picture {number + 1} cannot be read ({' '.join(str(error).split())[:100]}): give PNG, JPEG or WebP",
            status=422,
        ) from None
