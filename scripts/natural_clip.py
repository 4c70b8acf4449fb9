"""Make the natural clip that the package ships: four photographs, each looked at by a moving camera for three seconds.

    python scripts/natural_clip.py [m3video/assets/natural.mp4]

Needs scikit-image (pip install scikit-image), whose wheel holds the photographs; all are CC0 or in the public domain.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m3video.training.footage import encode_h264

WIDTH, HEIGHT, FPS = 480, 320, 25
SECONDS_EACH = 3


@dataclass(frozen=True)
class Shot:
    """A photograph of `skimage.data`, and the camera's way over it.

    Attributes:
        name: the function of `skimage.data` that returns it.
        start, end: centre (x, y) and width of what is seen first and last, as shares of the photograph's width and
            height, and of the widest view that fits into it.
    """

    name: str
    start: tuple[float, float, float]
    end: tuple[float, float, float]


SHOTS = (
    Shot("chelsea", (0.5, 0.45, 0.85), (0.52, 0.5, 1.0)),  # a cat
    Shot("coffee", (0.5, 0.5, 1.0), (0.55, 0.55, 0.8)),  # a cup of coffee and a spoon on a wooden table
    Shot("rocket", (0.45, 0.6, 0.75), (0.5, 0.4, 0.9)),  # a rocket on its launch pad at dusk
    Shot("astronaut", (0.45, 0.35, 1.0), (0.42, 0.28, 0.85)),  # a smiling woman in an orange suit
)


def frames(photo: NDArray[np.uint8], shot: Shot) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of one shot, uint8 [HEIGHT, WIDTH, 3]."""
    picture = Image.fromarray(photo)
    widest = min(picture.width, picture.height * WIDTH / HEIGHT)
    count = SECONDS_EACH * FPS
    for number in range(count):
        way = number / (count - 1)
        share = way * way * (3 - 2 * way)  # the camera starts and stops gently
        x, y, zoom = (first + share * (last - first) for first, last in zip(shot.start, shot.end, strict=True))
        width = widest * zoom
        height = width * HEIGHT / WIDTH
        left = min(max(x * picture.width - width / 2, 0), picture.width - width)
        top = min(max(y * picture.height - height / 2, 0), picture.height - height)
        box = (left, top, left + width, top + height)
        yield np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box))


def main() -> None:
    from skimage import data

    target = Path(sys.argv[1] if len(sys.argv) > 1 else "m3video/assets/natural.mp4")
    shown = [frame for shot in SHOTS for frame in frames(getattr(data, shot.name)(), shot)]
    encode_h264(shown, target, fps=FPS, crf=27, preset="veryslow")
    print(f"{target}: {len(shown)} frames, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
