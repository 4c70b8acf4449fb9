"""A first look at a file, for lists of many: what its header says and one picture, without reading its packets."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3video.errors import VideoError
from m3video.video._avstream import AvStream
from m3video.video.path_checks import DEFAULT_MAX_PIXELS, check_file
from m3video.video.picture import PictureMaker, orientation_of

PICTURE_AT = 0.1
"""Share of the length at which the picture is taken: the first frame is often black."""


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What a list shows of a file.

    `rgb_HW3` uint8 is upright, at full size. `seconds` is the duration that the header states, None where it states
    none; `codec` is the name that FFmpeg uses.
    """

    seconds: float | None
    codec: str
    rgb_HW3: NDArray[np.uint8]


def preview(path: str | os.PathLike[str], *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Preview:
    """Read the header of a video and decode one keyframe near its beginning.

    Args:
        path: a local video file.
        max_pixels: most pixels that one frame may have.

    Raises:
        VideoError: the file is no readable video, or no frame decodes.
    """
    file = check_file(path)
    with AvStream(file, max_pixels=max_pixels) as source:
        container = source.container
        seconds = container.duration / 1e6 if container.duration and container.duration > 0 else None
        if seconds is not None:
            ticks = seconds * PICTURE_AT / float(source.stream.time_base)
            source.seek(round((source.stream.start_time or 0) + ticks))
        frame = next(source.frames(), None)
        if frame is None and seconds is not None and source.seek(source.stream.start_time or 0):
            frame = next(source.frames(), None)
        if frame is None:
            raise VideoError(f"{file.printable}: no frame of it can be decoded")
        orientation = orientation_of(frame, aspect=source.stream.sample_aspect_ratio, max_pixels=max_pixels)
        maker = PictureMaker(orientation, width=frame.width, height=frame.height)
        return Preview(seconds, source.stream.codec_context.codec.canonical_name, maker.rgb(frame))
