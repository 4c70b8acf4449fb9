"""Shot boundaries on footage whose cuts are known."""

from __future__ import annotations

import numpy as np
import pytest

from m3video.planning.analyze import analyze
from m3video.planning.shots import find_shots
from m3video.types import ScanFrame
from tests.planning.frames import HEIGHT, TIME_BASE, WIDTH, moving_square, plain, scan_frame, stats_of

MS = 33


def scenery(seed: int, width: int = WIDTH) -> np.ndarray:
    """Smooth blobs of light and dark, like an out-of-focus landscape."""
    coarse = np.random.default_rng(seed).uniform(20, 235, (5, 9))
    rows = np.linspace(0, 4, HEIGHT)
    columns = np.linspace(0, 8, width)
    along = np.array([np.interp(columns, np.arange(9), row) for row in coarse])
    return np.array([np.interp(rows, np.arange(5), column) for column in along.T]).T


def shots_of(pictures: list[np.ndarray], *, ms: int = MS) -> list[int]:
    return find_shots(stats_of(pictures, ms=ms)).tolist()


def grain(picture: np.ndarray, count: int, *, spread: float = 3.0, seed: int = 0) -> list[np.ndarray]:
    """`count` frames of a still picture with film grain."""
    rng = np.random.default_rng(seed)
    return [np.clip(picture + rng.normal(0, spread, picture.shape), 0, 255) for _ in range(count)]


def test_cuts_are_found_where_they_are() -> None:
    pictures = [frame for seed in range(5) for frame in grain(scenery(seed), 40, seed=seed)]
    assert shots_of(pictures) == [0, 40, 80, 120, 160]


def test_cuts_between_moving_takes() -> None:
    pictures = [moving_square(i) for i in range(40)] + [moving_square(i, ground=150) for i in range(40)]
    assert shots_of(pictures) == [0, 40]


def test_a_half_second_title_card_is_a_shot_of_its_own() -> None:
    card = plain(0)
    card[30:50, 20:120:3] = 255
    pictures = grain(scenery(1), 60) + grain(card, 15) + grain(scenery(1), 60)
    assert shots_of(pictures) == [0, 60, 75]


def test_words_on_black_between_black() -> None:
    card = plain(2)
    card[38:42, 60:84:2] = 200
    pictures = [plain(2)] * 30 + [card] * 15 + [plain(2)] * 30
    assert shots_of(pictures) == [0, 30, 45]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_flash_is_no_boundary(length: int) -> None:
    pictures = grain(scenery(2), 90)
    for i in range(40, 40 + length):
        pictures[i] = np.clip(pictures[i] + 120, 0, 255)
    assert shots_of(pictures) == [0]


@pytest.mark.parametrize("speed", [1, 4, 10])
def test_a_pan_is_one_shot(speed: int) -> None:
    wide = scenery(3, width=WIDTH + 120 * speed)
    assert shots_of([wide[:, i * speed : i * speed + WIDTH] for i in range(120)]) == [0]


def test_frozen_footage_is_one_shot() -> None:
    assert shots_of([scenery(4)] * 200) == [0]


@pytest.mark.parametrize("length", [12, 30, 45])
def test_a_dissolve_is_one_boundary_in_its_middle(length: int) -> None:
    old, new = scenery(5), scenery(6)
    mix = [old + (new - old) * (i + 1) / (length + 1) for i in range(length)]
    found = shots_of(grain(old, 90) + mix + grain(new, 90))
    assert len(found) == 2
    assert 90 <= found[1] <= 90 + length


def test_a_fade_through_black_makes_black_a_stretch_of_its_own() -> None:
    old, new = scenery(7), scenery(8)
    down = [old * (1 - (i + 1) / 15) for i in range(15)]
    up = [new * ((i + 1) / 15) for i in range(15)]
    found = shots_of(grain(old, 90) + down + [plain(0)] * 20 + up + grain(new, 90))
    assert len(found) == 3
    assert 100 <= found[1] <= 110
    assert 120 <= found[2] <= 128


def test_frames_a_second_apart_are_compared_by_level() -> None:
    pictures = [scenery(seed) for seed in (1, 1, 2, 3, 3, 3)]
    assert shots_of(pictures, ms=1000) == [0, 2, 3]


def test_corrupt_frames_make_no_boundary() -> None:
    pictures = grain(scenery(9), 60)
    frames = [scan_frame(i * MS, picture, key=i == 0) for i, picture in enumerate(pictures)]
    for i in range(20, 30):
        frames[i] = scan_frame(i * MS, plain(255), corrupt=True)
    assert find_shots(analyze(frames, time_base=TIME_BASE)).tolist() == [0]


def test_one_frame_and_all_corrupt() -> None:
    assert shots_of([plain(9)]) == [0]
    frames = [ScanFrame(i, plain(9 * i), np.full((2, 40, 72), 128, np.uint8), is_corrupt=True) for i in range(9)]
    assert find_shots(analyze(frames, time_base=TIME_BASE)).tolist() == [0]


def test_an_hour_of_frames_takes_no_long_time() -> None:
    """Vectorised: 108,000 frames with a cut every 100; a Python loop over comparisons would take minutes."""
    from dataclasses import replace

    base = stats_of([frame for seed in range(2) for frame in grain(scenery(seed), 100)], ms=MS)
    times = 540
    tiled = {
        name: np.tile(getattr(base, name), (times, 1) if getattr(base, name).ndim == 2 else times)
        for name in (
            "loss_NS",
            "peak_NS",
            "change_N",
            "sharpness_N",
            "luma_N",
            "signature_NK",
            "strokes_NC",
            "pattern_NC",
            "flags_N",
            "skipped_N",
        )
    }
    stats = replace(base, pts_N=np.arange(200 * times) * MS, **tiled)
    assert find_shots(stats).tolist() == list(range(0, 200 * times, 100))
