"""What is on a screen, drawn as large as a film is and made as small as the first pass sees it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from m3video.planning.analyze import analyze
from m3video.types import FrameStats, ScanFrame

SIZE = (1280, 720)
SMALL = (144, 81)
TIME_BASE = (1, 1000)


def paper(
    *lines: str, dark: bool = False, left: int = 80, top: int = 140, step: int = 110, scale: float = 1.8
) -> np.ndarray:
    """Lines of words on a page; letters about 40 pixels high, 10 of the model's."""
    picture = np.full(SIZE[::-1], 24 if dark else 255, np.uint8)
    for number, words in enumerate(lines):
        at = (left, top + number * step)
        cv2.putText(picture, words, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 230 if dark else 10, 4, cv2.LINE_AA)
    return picture


def textured(seed: int = 0) -> np.ndarray:
    """A scene as of a camera that hangs on a wall: patches and fine structure everywhere."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(60, 190, (9, 16), dtype=np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.normal(0, 24, (90, 160)), SIZE, interpolation=cv2.INTER_LINEAR)
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def with_box(picture: np.ndarray, left: int, top: int, width: int, height: int, *, seed: int) -> np.ndarray:
    """The same with something dark and textured in a part of it."""
    rng = np.random.default_rng(seed)
    made = picture.copy()
    fine = rng.integers(10, 150, (max(1, height // 16), max(1, width // 16)), dtype=np.uint8)
    made[top : top + height, left : left + width] = cv2.resize(fine, (width, height), interpolation=cv2.INTER_NEAREST)
    return made


def with_words(picture: np.ndarray, words: str, left: int, top: int, *, scale: float = 1.2) -> np.ndarray:
    """The same with white words on a dark plate, as clocks, captions and scores are."""
    made = picture.copy()
    (width, height), base = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, scale, 3)
    cv2.rectangle(made, (left - 10, top - height - 10), (left + width + 10, top + base + 6), 20, -1)
    cv2.putText(made, words, (left, top), cv2.FONT_HERSHEY_SIMPLEX, scale, 240, 3, cv2.LINE_AA)
    return made


def shown(
    pictures: Sequence[np.ndarray],
    *,
    ms: int = 200,
    noise: float = 0.0,
    seed: int = 0,
    pts: Sequence[int] | None = None,
    mode: str = "full",
) -> FrameStats:
    """Stats of pictures shown `ms` each, or at these pts; `noise` in grey levels of the small picture."""
    rng = np.random.default_rng(seed)
    cache: dict[int, np.ndarray] = {}
    neutral = np.full((2, (SMALL[1] + 1) // 2, SMALL[0] // 2), 128, np.uint8)
    frames, skipped = [], int(mode != "full")
    for number, picture in enumerate(pictures):
        if id(picture) not in cache:
            cache[id(picture)] = cv2.resize(picture, SMALL, interpolation=cv2.INTER_AREA)
        small = cache[id(picture)]
        if noise:
            small = np.clip(np.rint(small + rng.normal(0, noise, small.shape)), 0, 255).astype(np.uint8)
        frames.append(
            ScanFrame(
                number * ms if pts is None else pts[number],
                small,
                neutral,
                is_key=number % 50 == 0,
                num_skipped=skipped * (number > 0),
            )
        )
    return analyze(frames, time_base=TIME_BASE, mode=mode)
