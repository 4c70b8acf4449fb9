"""Thumbnails of the frames that a plan shows: of all of them, or of as many as there is room for.

Legend: H W picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from m3video.types import PlannedFrame, TokenPlan
from m3video.utils.progress import Progress, silent
from m3video.video.reader import VideoReader

Picture = NDArray[np.uint8]
Thumbnails = Mapping[int, Picture]
"""pts -> RGB uint8 [H, W, 3], no side longer than `THUMBNAIL_SIDE`."""

THUMBNAIL_SIDE = 240
JPEG_QUALITY = 80

FETCHED_TOGETHER = 8
"""Most decoded frames in memory at once."""


def telling(frames: Sequence[PlannedFrame], most: int) -> list[PlannedFrame]:
    """Return at most `most` frames: the one with the most tokens of each of `most` equal runs, the first on a tie.

    Example: 4 frames of scales 1, 9, 36, 1, at most 2 -> the second and the third.
    """
    runs = np.array_split(np.arange(len(frames)), min(most, len(frames)) or 1)
    return [frames[max(run, key=lambda i: (frames[i].scale, -i))] for run in runs if len(run)]


def fetch_thumbnails(
    reader: VideoReader, plan: TokenPlan, *, most: int, progress: Progress = silent
) -> dict[int, Picture]:
    """Decode the frames of a plan, or `most` of them as `telling` picks, and shrink each.

    Returns:
        pts -> RGB uint8 [H, W, 3], no side longer than `THUMBNAIL_SIDE`.

    Raises:
        VideoError: a frame of the plan cannot be decoded without damage.
    """
    pts = [frame.pts for frame in telling(plan.frames, most)]
    found: dict[int, Picture] = {}
    with progress("thumbnails", len(pts)) as bar:
        for start in range(0, len(pts), FETCHED_TOGETHER):
            for frame in reader.fetch(pts[start : start + FETCHED_TOGETHER]):
                found[frame.pts] = shrunk(frame.rgb_HW3)
            bar(len(found))
    return found


def shrunk(rgb_HW3: Picture, side: int = THUMBNAIL_SIDE) -> Picture:
    """Return a picture whose longest side is `side` pixels at most."""
    height, width = rgb_HW3.shape[:2]
    share = min(1.0, side / max(height, width))
    if share == 1:
        return rgb_HW3
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(cv2.resize(rgb_HW3, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(rgb_HW3: Picture) -> bytes:
    """Return a picture as JPEG."""
    done, data = cv2.imencode(".jpg", rgb_HW3[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return bytes(data.tobytes())
