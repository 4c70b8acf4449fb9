"""IG-VLM: six frames in one picture, its prompts, and the parsing of its answers, as in M3's video results.

Source: IG-VLM's evaluation scripts as the M3 repository uses them, quirks included.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m3video.errors import VideoError

NUM_FRAMES = 6
WHITE = 255
_GRID_VIEW = "The provided image arranges keyframes from a video in a grid view. "


def igvlm_indices(
    duration_seconds: float,
    fps: float,
    *,
    num_frames: int = NUM_FRAMES,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> list[int]:
    """Return the numbers, in display order, of the frames that the reference shows.

    Args:
        duration_seconds: of the whole video, as its container says.
        fps: frames per second, as the container says.
        num_frames: pictures in the grid.
        start_seconds: beginning of the part to show; None for the whole video.
        end_seconds: its end.

    Returns:
        The starts (not the centres) of `num_frames` equal segments. Example: 376 frames at 15 a second count as 377,
        so the step is 62 and the frames are 0, 62, ..., 310.

    Raises:
        VideoError: fewer frames than pictures; the reference skips such a video.

    Source: `total = int(duration * fps) + 1`, one more than there are.
    """
    first = int((start_seconds or 0.0) * fps)
    total = int((duration_seconds if end_seconds is None else end_seconds) * fps) - first + 1
    step = total // num_frames
    if step < 1:
        raise VideoError(f"an image grid needs {num_frames} frames; this part of the video has {max(0, total - 1)}")
    return [first + step * n for n in range(num_frames)]


def make_grid(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return frames as one picture, row by row, in `round(sqrt(N))` columns.

    Args:
        frames: N RGB uint8 [H, W, 3] arrays; where sizes differ, all are resized to the smallest.

    Returns:
        RGB uint8 [rows * H, columns * W, 3]; cells without a frame are white.
    """
    import cv2

    if not frames:
        raise ValueError("an image grid needs at least one frame")
    columns = round(math.sqrt(len(frames)))
    rows = math.ceil(len(frames) / columns)
    height, width = min(frame.shape[0] for frame in frames), min(frame.shape[1] for frame in frames)
    grid = np.full((rows * height, columns * width, 3), WHITE, dtype=np.uint8)
    for number, frame in enumerate(frames):
        fitted = frame if frame.shape[:2] == (height, width) else cv2.resize(frame, (width, height))
        top, left = number // columns * height, number % columns * width
        grid[top : top + height, left : left + width] = fitted
    return grid


def mc_prompt(question: str, options: Sequence[str]) -> str:
    """Return the multiple-choice prompt; the reference has five options, other numbers are lettered the same way.

    Args:
        question: without the options.
        options: 2 to 26 texts, without letters.
    """
    if not 2 <= len(options) <= len(string.ascii_uppercase):
        raise ValueError(f"options ({len(options)}) must be 2 to 26")
    lettered = "".join(f"{letter}:{option}. " for letter, option in zip(string.ascii_uppercase, options, strict=False))
    return (
        f"Select correct option to answer the question. USER: <image>\n{_GRID_VIEW}Question: {question} {lettered}\n"
        "Select the correct answer from the options. \nASSISTANT:\nAnswer:"
    )


def oe_prompt(question: str) -> str:
    """Return the open-ended prompt; a question mark at the question's end is not doubled."""
    return (
        f"USER: <image>\n{_GRID_VIEW}Answer concisely with overall content and context of the video, highlighting any "
        "significant events, characters, or objects that appear throughout the frames. "
        f"Question: {question.rstrip().removesuffix('?')}? \nASSISTANT:\nAnswer: In the video,"
    )


def parse_mc(text: str, num_options: int = 5) -> int | None:
    """Return the option that an answer names, from 0; None when it names none.

    Args:
        text: what the model said, prompt or not (everything up to the last "ASSISTANT:" is left out).
        num_options: how many options there were, 1 to 26.

    Returns:
        The first letter when it is an option's; overridden by the first option, in letter order, whose `A:` or `A)`
        appears in the text from "answer is" on, or in the whole text where it lacks those words.
    """
    letters = string.ascii_uppercase[:num_options]
    said = text.split("ASSISTANT:")[-1].strip()
    chosen = letters.find(said[0]) if said else -1
    if "answer is " in said:
        said = said[said.index("answer is") :]
    for number, letter in enumerate(letters):
        if f"{letter}:" in said or f"{letter})" in said:
            chosen = number
            break
    return None if chosen < 0 else chosen
