"""Losses are compared with the model's own pooling; then invariants, and pictures whose order is obvious."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from m3video.planning import complexity
from m3video.planning.complexity import cell_features, losses, signatures
from m3video.types import FULL_SIDE, GRID_SIDES, SCALES, SCAN_SIDE
from tests.planning.frames import noise

SIDES = st.integers(1, SCAN_SIDE)
WHOLE = np.full((FULL_SIDE, FULL_SIDE), 36, np.float32)


def neutral(luma_HW: np.ndarray) -> np.ndarray:
    return np.full((2, -(-luma_HW.shape[0] // 2), -(-luma_HW.shape[1] // 2)), 128, np.uint8)


def measured(*luma: np.ndarray, chroma: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Loss and peak, [B, 5] each."""
    pictures = np.stack(luma).astype(np.uint8)
    colours = np.stack([neutral(picture) for picture in pictures]) if chroma is None else chroma
    return losses(*cell_features(pictures, colours))


def pooled(grid_CRC: np.ndarray, scale: int) -> np.ndarray:
    """[C, 24, 24] by the model's pooling to `scale` tokens and back to 24x24."""
    torch = pytest.importorskip("torch")
    from m3video.model.m3.pooling import pool

    tokens = torch.from_numpy(np.ascontiguousarray(grid_CRC.reshape(len(grid_CRC), -1).T))[None]
    side, block = GRID_SIDES[scale], FULL_SIDE // GRID_SIDES[scale]
    coarse = pool(tokens, scale)[0].numpy().T.reshape(-1, side, side)
    return coarse.repeat(block, axis=1).repeat(block, axis=2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(SCALES))
def test_blocks_are_those_that_the_model_pools(seed: int, scale: int) -> None:
    """Without strokes, loss is the distance between the cells and what the model's pooling leaves of them."""
    features = np.random.default_rng(seed).integers(0, 256, (1, 4, FULL_SIDE, FULL_SIDE)).astype(np.float32)
    features[:, 3] = 0
    gap = np.square(features[0, :3] - pooled(features[0, :3], scale)).sum(axis=0)
    loss, peak = losses(features, WHOLE)
    column = SCALES.index(scale)
    assert loss[0, column] == pytest.approx(complexity.STRUCTURE_WEIGHT * gap.mean(), rel=1e-4)
    worst = np.sort(complexity.STRUCTURE_WEIGHT * gap.ravel())[-round(0.05 * gap.size) :].mean()
    # A cell may happen to lose less in a coarser block, so peaks have the order imposed: never below, and often equal.
    assert peak[0, column] >= worst * (1 - 1e-4)
    assert peak[0, SCALES.index(144)] == pytest.approx(
        complexity.STRUCTURE_WEIGHT
        * np.sort(np.square(features[0, :3] - pooled(features[0, :3], 144)).sum(axis=0).ravel())[-29:].mean(),
        rel=1e-4,
    )


@pytest.mark.parametrize("scale", [9, 36, 144])
def test_a_checkerboard_of_blocks_is_lost_below_their_scale_only(scale: int) -> None:
    side = GRID_SIDES[scale]
    board = (np.indices((side, side)).sum(axis=0) % 2 * 200).astype(np.uint8)
    block = FULL_SIDE // side
    features = np.zeros((1, 4, FULL_SIDE, FULL_SIDE), np.float32)
    features[0, 0] = board.repeat(block, axis=0).repeat(block, axis=1)
    loss, peak = losses(features, WHOLE)
    column = SCALES.index(scale)
    assert (loss[0, column:] == 0).all()
    assert (peak[0, column:] == 0).all()
    assert (loss[0, :column] > 1000).all()


def test_strokes_above_the_usual_count_by_the_share_of_the_grid_that_is_missing() -> None:
    features = np.zeros((1, 4, FULL_SIDE, FULL_SIDE), np.float32)
    features[0, 3] = 7
    features[0, 3, :2] = 17
    loss, peak = losses(features, WHOLE)
    share = [1 - GRID_SIDES[scale] / FULL_SIDE for scale in SCALES]
    assert loss[0] == pytest.approx([100 * s * 2 / FULL_SIDE for s in share], rel=1e-5)
    assert peak[0] == pytest.approx([100 * s for s in share], rel=1e-5)


@settings(deadline=None, max_examples=100)
@given(SIDES, SIDES, *[st.integers(0, 255)] * 3)
def test_a_flat_picture_costs_nothing_at_any_scale(height: int, width: int, y: int, cb: int, cr: int) -> None:
    """At any aspect ratio: the border that padding adds is known beforehand."""
    chroma = np.empty((1, 2, -(-height // 2), -(-width // 2)), np.uint8)
    chroma[0, 0], chroma[0, 1] = cb, cr
    loss, peak = measured(np.full((height, width), y), chroma=chroma)
    assert np.abs(loss).max() < 1e-3
    assert np.abs(peak).max() < 1e-3


@settings(deadline=None, max_examples=100)
@given(SIDES, SIDES, st.integers(0, 2**32), st.sampled_from([1, 3, 30]))
def test_loss_never_grows_with_the_scale(height: int, width: int, seed: int, coarse: int) -> None:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (-(-height // coarse), -(-width // coarse)))
    luma = small.repeat(coarse, axis=0).repeat(coarse, axis=1)[:height, :width]
    chroma = rng.integers(0, 256, (1, 2, -(-height // 2), -(-width // 2))).astype(np.uint8)
    for table in measured(luma, chroma=chroma):
        assert np.isfinite(table).all()
        assert (np.diff(table[0]) <= 0).all()
        assert table[0, -1] == 0
    loss, peak = measured(luma, chroma=chroma)
    assert (peak >= loss - 1e-2 * loss[:, :1] - 1e-3).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 9), st.integers(0, 2**32))
def test_a_frames_numbers_do_not_depend_on_its_batch(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    luma = rng.integers(0, 256, (count, 81, SCAN_SIDE)).astype(np.uint8)
    together = measured(*luma)
    for i, picture in enumerate(luma):
        for whole, alone in zip(together, measured(picture), strict=True):
            assert np.array_equal(whole[i], alone[0])


def test_cells_are_the_means_of_six_by_six_pixels() -> None:
    rng = np.random.default_rng(5)
    luma = rng.integers(0, 256, (1, SCAN_SIDE, SCAN_SIDE)).astype(np.uint8)
    chroma = rng.integers(0, 256, (1, 2, SCAN_SIDE // 2, SCAN_SIDE // 2)).astype(np.uint8)
    features, area = cell_features(luma, chroma)
    cut = luma[0].reshape(FULL_SIDE, 6, FULL_SIDE, 6)
    assert np.allclose(features[0, 0], cut.mean(axis=(1, 3)), atol=1e-3)
    halves = chroma[0].reshape(2, FULL_SIDE, 3, FULL_SIDE, 3)
    assert np.allclose(features[0, 1:3], halves.mean(axis=(2, 4)), atol=1e-3)
    lines = np.square(cv2.Laplacian(luma[0].astype(np.float32), cv2.CV_32F, ksize=1))
    strokes = np.sqrt(lines.reshape(FULL_SIDE, 6, FULL_SIDE, 6).mean(axis=(1, 3)))
    assert np.allclose(features[0, 3], strokes, rtol=0.01)
    assert (area == 36).all()


def test_a_wide_picture_stands_in_the_middle_of_its_border() -> None:
    # 144 - 81 = 63 rows of border, 31 of them above: rows 0 to 4 are empty, row 5 holds 5 of 6.
    features, area = cell_features(np.full((1, 81, SCAN_SIDE), 200, np.uint8), np.full((1, 2, 41, 72), 128, np.uint8))
    assert area[:, 0].tolist() == [0] * 5 + [30] + [36] * 12 + [24] + [0] * 5
    assert area.sum() == 81 * SCAN_SIDE
    assert np.allclose(features[0, 0][area > 0], 200)
    grey = signatures(features, area).reshape(6, 6, 3)
    assert (grey[0] == complexity.BORDER_GREY).all()
    assert (grey[1:5] == (200, 128, 128)).all()


def test_the_border_takes_no_part_in_what_is_lost() -> None:
    """Half the picture black, half white: as much is lost in a strip as in a square."""
    square = np.zeros((SCAN_SIDE, SCAN_SIDE), np.uint8)
    square[:, : SCAN_SIDE // 2] = 255
    loss = [measured(square[:height])[0][0] for height in (SCAN_SIDE, 72, 48)]
    assert loss[0][0] > complexity.STRUCTURE_WEIGHT * 127.5**2
    assert loss[1][0] == pytest.approx(loss[0][0], rel=0.02)
    assert loss[2][0] == pytest.approx(loss[0][0], rel=0.02)


def test_pictures_of_any_size_lose_alike() -> None:
    large = cv2.GaussianBlur(noise(3, spread=120), (0, 0), 6)[:72, :144]
    loss = measured(large)[0][0]
    for side in (72, 288):
        other = cv2.resize(large, (side, side // 2), interpolation=cv2.INTER_AREA if side < 144 else cv2.INTER_LINEAR)
        assert measured(other)[0][0][:3] == pytest.approx(loss[:3], rel=0.1)


def photo(name: str) -> np.ndarray:
    """One of scikit-image's own pictures, as a scan picture."""
    grey = np.array(Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("L"))
    height, width = (round(side * SCAN_SIDE / max(grey.shape)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)


def test_text_needs_more_tokens_than_a_landscape_and_a_texture_says_little() -> None:
    peak = {name: measured(photo(name))[1][0] for name in ("page", "text", "moon", "grass", "gravel")}
    at = {scale: SCALES.index(scale) for scale in SCALES}
    # Printed words lose most at 12x12 cells: they are what the finest scale is for.
    for words in ("page", "text"):
        for other in ("moon", "grass", "gravel"):
            assert peak[words][at[144]] > 1.5 * peak[other][at[144]], (words, other)
    # A texture is full of strokes everywhere; only what exceeds its own usual strokes counts.
    plain_sum = {name: float(np.abs(cv2.Laplacian(photo(name), cv2.CV_16S)).mean()) for name in ("grass", "page")}
    assert plain_sum["grass"] > plain_sum["page"]
    # Out of focus, a page is shading only: few tokens hold it, while words need the finest scale.
    blurred = measured(cv2.GaussianBlur(photo("page"), (0, 0), 9))[1][0]
    assert blurred[at[144]] < 0.1 * blurred[at[1]]
    assert peak["page"][at[144]] > 0.4 * peak["page"][at[1]]
    assert blurred[at[144]] < 0.02 * peak["page"][at[144]]
