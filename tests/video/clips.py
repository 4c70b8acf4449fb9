"""Clips whose every picture says its own number, written with PyAV's encoders.

A number is painted as a grid of black and white blocks, big enough to survive any codec. Reading it back from a
decoded picture proves that the picture is the one that belongs to its pts; a wrong turn or flip breaks the code's
fixed corners, so it proves that the picture is upright too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 3, 4
"""12 blocks: three corners are fixed (white, black, black), 9 carry bits, so numbers go up to 511."""

_FIXED = {(0, 0): 1, (0, COLUMNS - 1): 0, (ROWS - 1, 0): 0}
_FREE = [(r, c) for r in range(ROWS) for c in range(COLUMNS) if (r, c) not in _FIXED]
DARK, BRIGHT = 48, 208


def paint(number: int, width: int = 128, height: int = 96) -> NDArray[np.uint8]:
    """RGB uint8 [height, width, 3] that says `number` (0-511)."""
    bits = {**_FIXED, **{place: number >> i & 1 for i, place in enumerate(_FREE)}}
    grid = np.array([[bits[r, c] for c in range(COLUMNS)] for r in range(ROWS)])
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    luma = np.where(grid[np.ix_(rows, columns)] == 1, BRIGHT, DARK).astype(np.uint8)
    return np.repeat(luma[:, :, None], 3, axis=2)


def read(picture: NDArray[np.uint8]) -> int:
    """The number that `picture` ([H, W] luma or [H, W, 3] RGB) says; -1 when the fixed corners are wrong."""
    luma = picture.astype(np.float64)
    if luma.ndim == 3:
        luma = luma.mean(axis=2)
    height, width = luma.shape
    bits = {}
    for r in range(ROWS):
        for c in range(COLUMNS):
            top, bottom = (height * (2 * r + 1)) // (2 * ROWS), (height * (2 * r + 1)) // (2 * ROWS) + 1
            left, right = (width * (2 * c + 1)) // (2 * COLUMNS), (width * (2 * c + 1)) // (2 * COLUMNS) + 1
            dy, dx = height // (ROWS * 5), width // (COLUMNS * 5)
            block = luma[max(0, top - dy) : bottom + dy, max(0, left - dx) : right + dx]
            bits[r, c] = int(block.mean() > (DARK + BRIGHT) / 2)
    if any(bits[place] != value for place, value in _FIXED.items()):
        return -1
    return sum(bits[place] << i for i, place in enumerate(_FREE))


@dataclass(slots=True)
class Clip:
    """How to write a clip; `numbers[i]` is shown at `times[i]` (ticks of `time_base`)."""

    numbers: Sequence[int] = field(default_factory=lambda: range(60))
    times: Sequence[int] | None = None
    time_base: Fraction = Fraction(1, 25)
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = (128, 96)
    gop: int = 15
    b_frames: int = 2
    codec_options: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    format_options: dict[str, str] = field(default_factory=dict)
    aspect: Fraction | None = None
    color_range: int | None = None
    turn: int = 0
    audio: bool = False
    audio_start: float = 0.0
    rate: int = 25


def write(path: Path, clip: Clip) -> Path:
    """Write `clip` to `path`."""
    options: dict[str, Any] = {"options": clip.format_options} if clip.format_options else {}
    with usual_scheduling(), av.open(f"file:{path}", "w", format=clip.format, **options) as out:
        stream = add_stream(out, clip)
        sound = out.add_stream("aac", rate=8000, layout="mono") if clip.audio else None
        if sound is not None:
            write_silence(out, sound, seconds=len(clip.numbers) / clip.rate, start=clip.audio_start)
        for packet in encode(stream, clip):
            out.mux(packet)
    return path


def add_stream(out: Any, clip: Clip) -> Any:
    stream = out.add_stream(clip.codec, rate=clip.rate, options=dict(clip.codec_options))
    stream.width, stream.height = clip.size
    stream.pix_fmt = clip.pixel_format
    stream.time_base = clip.time_base
    context = stream.codec_context
    context.time_base = clip.time_base
    context.thread_count = 1
    if clip.codec not in ("gif", "png", "apng", "mjpeg", "rawvideo", "ffv1", "qtrle", "libsvtav1", "libwebp_anim"):
        context.gop_size = clip.gop
        context.max_b_frames = clip.b_frames
    if clip.codec.startswith("mpeg") or clip.codec in ("mjpeg", "flv", "wmv2"):
        context.bit_rate = 800_000
    if clip.aspect is not None:
        context.sample_aspect_ratio = clip.aspect
    if clip.color_range is not None:
        context.color_range = clip.color_range
    return stream


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Afterwards this thread is scheduled as before.

    For root SVT-AV1 makes the thread that opens it a real-time one (SCHED_FIFO 99) and leaves it so: neither it nor any
    child it starts would share its core with anybody from then on.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def encode(stream: Any, clip: Clip) -> Iterable[Any]:
    times = clip.times if clip.times is not None else range(len(clip.numbers))
    width, height = clip.size
    for number, time in zip(clip.numbers, times, strict=True):
        picture = paint(number, height, width) if clip.turn % 180 else paint(number, width, height)
        picture = np.ascontiguousarray(np.rot90(picture, k=clip.turn // 90))
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format=clip.pixel_format, dst_color_range=clip.color_range or 0)
        frame.pts, frame.time_base = time, clip.time_base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_silence(out: Any, stream: Any, *, seconds: float, start: float = 0.0) -> None:
    for i in range(max(1, round(seconds * 8000 / 1024))):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, round(start * 8000) + i * 1024
        for packet in stream.encode(frame):
            out.mux(packet)
    for packet in stream.encode(None):
        out.mux(packet)
