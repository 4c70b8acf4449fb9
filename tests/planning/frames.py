"""Small scan pictures for the planning tests: no video file is involved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from m3video.planning.analyze import analyze
from m3video.types import FLAG_KEY, SCAN_SIDE, FrameStats, ScanFrame

TIME_BASE = (1, 1000)
HEIGHT, WIDTH = 80, SCAN_SIDE


def scan_frame(pts: int, luma: np.ndarray, *, key: bool = False, corrupt: bool = False, cb: int = 128) -> ScanFrame:
    h, w = luma.shape
    chroma = np.full((2, (h + 1) // 2, (w + 1) // 2), 128, np.uint8)
    chroma[0] = cb
    return ScanFrame(pts, luma.astype(np.uint8), chroma, is_key=key, is_corrupt=corrupt)


def plain(value: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), value, np.uint8)


def noise(seed: int, *, base: int = 120, spread: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(base + rng.normal(0, spread, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8)


def moving_square(step: int, *, ground: int = 60) -> np.ndarray:
    picture = plain(ground)
    left = 5 + step * 2 % (WIDTH - 30)
    picture[20:44, left : left + 24] = 200
    return picture


def video(
    pictures: Sequence[np.ndarray], *, ms: int = 100, start: int = 0, chroma: Sequence[int] | None = None
) -> Iterator[ScanFrame]:
    for i, picture in enumerate(pictures):
        yield scan_frame(start + i * ms, picture, key=i % 12 == 0, cb=128 if chroma is None else chroma[i])


def stats_of(pictures: Sequence[np.ndarray], **kwargs: object) -> FrameStats:
    return analyze(video(pictures, **kwargs), time_base=TIME_BASE)  # type: ignore[arg-type]


def assert_equal(first: FrameStats, second: FrameStats) -> None:
    """Bit for bit."""
    for name in FrameStats.__dataclass_fields__:
        a, b = getattr(first, name), getattr(second, name)
        assert np.array_equal(a, b), name
    assert (first.flags_N & FLAG_KEY).any()
