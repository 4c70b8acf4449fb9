"""A short clip of drawn frames for benchmarks, decoded with what this machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Decode = Callable[[], Iterator[Picture]]


def clip_decoder(pictures: Sequence[Picture], folder: Path) -> tuple[str, Decode]:
    """A clip of `pictures`, and a way to decode it: with PyAV where it is installed, else OpenCV, else drawn frames."""
    for make in (by_pyav, by_opencv):
        try:
            found = make(pictures, folder / "clip.mp4")
        except ImportError:
            continue
        if found is not None:
            return found
    height, width = pictures[0].shape[:2]
    return "no decoder: frames are drawn", lambda: draw(len(pictures), width, height)


def by_pyav(pictures: Sequence[Picture], path: Path) -> tuple[str, Decode]:
    import av

    from m3video.training.footage import encode_h264

    encode_h264(pictures, path, fps=30, crf=23, preset="veryfast")

    def decode() -> Iterator[Picture]:
        with av.open(str(path)) as clip:
            clip.streams.video[0].thread_type = "AUTO"
            for frame in clip.decode(video=0):
                yield frame.to_ndarray(format="rgb24")

    return f"PyAV {av.__version__}, H.264", decode


def by_opencv(pictures: Sequence[Picture], path: Path) -> tuple[str, Decode] | None:
    """None where this build of OpenCV writes no such clip."""
    import cv2

    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (width, height))
    for picture in pictures:
        writer.write(picture[:, :, ::-1])
    writer.release()

    def decode() -> Iterator[Picture]:
        clip = cv2.VideoCapture(str(path))
        while (found := clip.read())[0]:
            yield cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB)
        clip.release()

    return (f"OpenCV {cv2.__version__}, MPEG-4", decode) if sum(1 for _ in decode()) == len(pictures) else None


def draw(count: int, width: int, height: int) -> Iterator[Picture]:
    """Frames with texture and movement, made one at a time."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    slope = np.linspace(0, 190, width, dtype=np.uint8)[None, :, None]
    for n in range(count):
        yield np.roll(noise, 7 * n, axis=1) + np.roll(slope, 13 * n, axis=1)
