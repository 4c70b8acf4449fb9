"""The frames of a plan for other models: as JPEG files, or as the content of one chat message.

Legend: H W picture.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m3video.report.thumbnails import FETCHED_TOGETHER, Picture, jpeg
from m3video.types import PlannedFrame, TokenPlan
from m3video.utils.clock import clock
from m3video.utils.files import new_folder, replacing
from m3video.utils.progress import Progress, silent
from m3video.utils.text import json_text
from m3video.video.reader import VideoReader

CELL = 28
"""Side of the square that is one visual token in Qwen2-VL and Qwen2.5-VL, pixels."""

LEAST_TOKENS = 4
"""Tokens of the smallest picture that these models take as it is: at least 56 x 56 pixels."""

INDEX_FILE = "frames.json"


def picture_size(height: int, width: int, tokens: int) -> tuple[int, int]:
    """Return (height, width) of a picture of at most `tokens` cells of `CELL` pixels, of about the same shape.

    Sides are rounded down to whole cells, one at least.

    Example: 1080 x 1920 at 36 tokens -> 4 x 8 cells, 112 x 224 pixels.
    """
    share = min(1.0, math.sqrt(tokens * CELL**2 / (height * width)))
    # A long side that is cut off at `tokens` cells keeps the product within them where the short side is one cell.
    rows = min(tokens, max(1, math.floor(height * share / CELL)))
    columns = max(1, min(math.floor(width * share / CELL), tokens // rows))
    return rows * CELL, columns * CELL


def frame_pictures(
    reader: VideoReader, plan: TokenPlan, *, progress: Progress = silent
) -> Iterator[tuple[PlannedFrame, Picture]]:
    """Decode the frames of a plan one after the other, each resized to `picture_size`.

    Yields:
        The planned frame and its picture, RGB uint8 [H, W, 3].

    Raises:
        VideoError: a frame of the plan cannot be decoded without damage.
    """
    with progress("frames", len(plan.frames)) as bar:
        for start in range(0, len(plan.frames), FETCHED_TOGETHER):
            planned = plan.frames[start : start + FETCHED_TOGETHER]
            for frame, decoded in zip(planned, reader.fetch([frame.pts for frame in planned]), strict=True):
                full_height, full_width = decoded.rgb_HW3.shape[:2]
                height, width = picture_size(full_height, full_width, frame.scale)
                small = cv2.resize(decoded.rgb_HW3, (width, height), interpolation=cv2.INTER_AREA)
                yield frame, np.asarray(small, np.uint8)
            bar(start + len(planned))


def save_folder(reader: VideoReader, plan: TokenPlan, folder: Path, *, progress: Progress = silent) -> None:
    """Write each frame as a JPEG file, and `INDEX_FILE` with the pts, time, scale and size of each.

    Raises:
        VideoError: a frame cannot be decoded.
        OSError: `folder` cannot be written, or holds files already.
    """
    with new_folder(folder) as work:
        rows = []
        for number, (frame, picture) in enumerate(frame_pictures(reader, plan, progress=progress)):
            name = f"{number:05d}.jpg"
            (work / name).write_bytes(jpeg(picture))
            height, width = picture.shape[:2]
            seconds = plan.video.pts_seconds(frame.pts)
            rows.append({"file": name, "pts": frame.pts, "pts_seconds": seconds, "scale": frame.scale})
            rows[-1] |= {"width": width, "height": height}
        (work / INDEX_FILE).write_text(json_text(rows, indent=2) + "\n", encoding="utf-8")


def save_messages(reader: VideoReader, plan: TokenPlan, file: Path, *, progress: Progress = silent) -> None:
    """Write the frames as `messages` of an OpenAI chat request: before each picture its time, as text.

    The question is for the caller to add, as one more text part at the end.

    Raises:
        VideoError: a frame cannot be decoded.
        OSError: `file` cannot be written.
    """
    parts: list[dict[str, Any]] = []
    for frame, picture in frame_pictures(reader, plan, progress=progress):
        url = "data:image/jpeg;base64," + base64.b64encode(jpeg(picture)).decode("ascii")
        parts.append({"type": "text", "text": f"Frame at {clock(plan.video.pts_seconds(frame.pts))}:"})
        parts.append({"type": "image_url", "image_url": {"url": url}})
    with replacing(file) as part:
        part.write_text(json_text([{"role": "user", "content": parts}]) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[..., None]] = {"": save_folder, ".json": save_messages}
"""Suffix of the output -> what writes it."""
