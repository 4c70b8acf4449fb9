"""Clips of rendered shots: compression, padding, and the file that goes through a real encoder.

A clip is a list of shots, each shown for some seconds; cuts or short cross-fades stand between them.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m3video.training.render import CellLabels, Picture, draw
from m3video.training.scenes import Facts, Shot, facts_at, sample_shot

SIDE = 336
PADDING = (122, 116, 104)
MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
FADE_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class FootageClip:
    """Shots with their lengths in seconds; `fades[i]` says whether shot i fades into shot i + 1."""

    shots: tuple[Shot, ...]
    seconds: tuple[float, ...]
    fades: tuple[bool, ...]

    @property
    def duration(self) -> float:
        return sum(self.seconds)

    def where(self, time: float) -> tuple[int, float]:
        """Return the shot shown at `time` and the moment (0..1) within it."""
        for number, length in enumerate(self.seconds):
            if time < length or number == len(self.seconds) - 1:
                return number, min(1.0, time / length)
            time -= length
        raise AssertionError("a clip has at least one shot")

    def facts(self, time: float) -> Facts:
        """Return the facts at `time` seconds."""
        number, moment = self.where(time)
        return facts_at(self.shots[number], moment)


def random_clip(rng: random.Random, *, num_shots: int, held_out: bool = False) -> FootageClip:
    """Draw a random clip; all shots share one picture size."""
    shots = [sample_shot(rng, held_out=held_out) for _ in range(num_shots)]
    size = shots[0].size
    return FootageClip(
        tuple(replace(shot, size=size) for shot in shots),
        tuple(rng.uniform(1.5, 6.0) for _ in shots),
        tuple(rng.random() < 0.3 for _ in shots),
    )


def clip_frames(clip: FootageClip, *, fps: float) -> Iterator[tuple[float, Picture]]:
    """Yield every frame of `clip` with its time in seconds."""
    for index in range(int(clip.duration * fps)):
        time = index / fps
        number, moment = clip.where(time)
        picture = draw(clip.shots[number], moment)[0]
        left = sum(clip.seconds[: number + 1]) - time
        if clip.fades[number] and left < FADE_SECONDS and number + 1 < len(clip.shots):
            share = 1 - left / FADE_SECONDS
            picture = cv2.addWeighted(draw(clip.shots[number + 1], 0.0)[0], share, picture, 1 - share, 0).astype(
                np.uint8
            )
        yield time, picture


def encode_h264(
    pictures: Sequence[Picture] | Iterator[Picture],
    target: Path | io.BytesIO,
    *,
    fps: int,
    crf: int,
    preset: str = "medium",
) -> None:
    """Write pictures of one even size as H.264 yuv420p in an mp4 container."""
    import av

    with av.open(target if isinstance(target, io.BytesIO) else str(target), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": preset})
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def through_h264(pictures: Sequence[Picture], *, crf: int) -> list[Picture]:
    """Return the pictures after encoding to H.264 and decoding."""
    import av

    buffer = io.BytesIO()
    encode_h264(pictures, buffer, fps=8, crf=crf, preset="ultrafast")
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def compress(pictures: Sequence[Picture], rng: random.Random, *, h264: bool) -> list[Picture]:
    """Compress pictures as footage is: H.264 (when `h264`), JPEG or not at all, at a random quality."""
    choice = rng.random()
    if choice < 0.4 and h264:
        return through_h264(pictures, crf=rng.randint(18, 34))
    if choice < 0.7:
        quality = rng.randint(35, 92)
        coded = [cv2.imencode(".jpg", p[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for p in pictures]
        decoded: list[Any] = [cv2.imdecode(c, cv2.IMREAD_COLOR) for c in coded]
        return [np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8) for picture in decoded]
    return list(pictures)


def square(picture: Picture) -> NDArray[np.uint8]:
    """Pad to a square with CLIP's mean colour and resize to 336, as LLaVA-1.5 does; uint8 [336, 336, 3]."""
    height, width = picture.shape[:2]
    side = max(height, width)
    padded = np.empty((side, side, 3), np.uint8)
    padded[:] = PADDING
    top, left = (side - height) // 2, (side - width) // 2
    padded[top : top + height, left : left + width] = picture
    if side == SIDE:
        return padded
    return np.asarray(Image.fromarray(padded).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def normalise_squares(squares_N: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalise uint8 [N, 336, 336, 3] to float32 [N, 3, 336, 336] with CLIP's mean and deviation."""
    scaled = (squares_N.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def sample_moments(
    rng: random.Random, *, num_frames: int, held_out: bool = False, content: str | None = None
) -> tuple[Shot, list[float]]:
    """Draw a random shot and the increasing moments (0..1) at which it is shown."""
    shot = sample_shot(rng, held_out=held_out, content=content)
    return shot, sorted(rng.random() for _ in range(num_frames))


def shot_frames(
    rng: random.Random, *, num_frames: int, h264: bool, held_out: bool = False, content: str | None = None
) -> tuple[NDArray[np.uint8], list[CellLabels], list[Facts]]:
    """Draw frames of one random shot as training sees them: uint8 [N, 336, 336, 3], with the labels and facts of
    each."""
    shot, moments = sample_moments(rng, num_frames=num_frames, held_out=held_out, content=content)
    drawn = [draw(shot, moment) for moment in moments]
    pictures = compress([picture for picture, _ in drawn], rng, h264=h264)
    squares = np.stack([square(picture) for picture in pictures])
    return squares, [labels for _, labels in drawn], [facts_at(shot, moment) for moment in moments]
