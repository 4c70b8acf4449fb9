"""The model's own pooling is the yardstick; then what always holds, and pictures that people can judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from m3video.planning import complexity
from m3video.planning.analyze import analyze
from m3video.planning.complexity import block_distance, cell_features, losses, novelty, signatures, utility
from m3video.planning.sample import sample
from m3video.scales import FULL_SIDE, GRID_SIDES, SCALES
from m3video.types import FLAG_CORRUPT, SCAN_SIDE, FrameStats, Selection
from tests.planning.frames import TIME_BASE, noise, plain, scan_frame, stats_of

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
    from m3video.model.nested import pool

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


@st.composite
def any_stats(draw: st.DrawFn) -> tuple[FrameStats, Selection]:
    """Measured pictures of a few kinds, some damaged, and the candidates among them."""
    kinds = draw(st.lists(st.sampled_from(["black", "grey", "noise", "other", "damaged"]), min_size=1, max_size=30))
    pictures = {"black": plain(0), "grey": plain(120), "noise": noise(1), "other": noise(2), "damaged": noise(3)}
    frames = [scan_frame(i * 40, pictures[kind], corrupt=kind == "damaged") for i, kind in enumerate(kinds)]
    stats = analyze(frames, time_base=TIME_BASE)
    return stats, sample(stats, max_frames=draw(st.integers(1, 30)))


@settings(deadline=None, max_examples=60)
@given(any_stats(), st.data())
def test_utility_is_never_negative_and_never_falls_with_the_scale(
    made: tuple[FrameStats, Selection], data: st.DataObject
) -> None:
    stats, chosen = made
    worth = utility(stats, chosen)
    assert worth.shape == (len(chosen), len(SCALES))
    assert (worth > 0).all()
    assert (np.diff(worth, axis=1) >= 0).all()
    assert np.isfinite(worth).all()
    fresh = novelty(stats, chosen)
    assert fresh[0] == 1
    assert ((fresh >= complexity.NOVELTY_FLOOR) & (fresh <= 1)).all()
    saliency = data.draw(hnp.arrays(np.float64, len(chosen), elements=st.floats(0, 1e6)))
    assert np.allclose(utility(stats, chosen, saliency_N=saliency), worth * saliency[:, None])


@pytest.mark.parametrize("saliency", [[1.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 1.0]]])
def test_saliency_is_checked(saliency: list) -> None:
    stats = stats_of([plain(50), plain(200)])
    with pytest.raises(ValueError, match="2 finite weights"):
        utility(stats, sample(stats, max_frames=2), saliency_N=np.array(saliency))


def fresh_of(stats: FrameStats, *rows: int) -> list[float]:
    every = sample(stats, max_frames=len(stats))
    picked = list(rows)
    chosen = replace(
        every, index_N=every.index_N[picked], pts_N=every.pts_N[picked], shot_N=every.shot_N[picked],
        reason_N=tuple(every.reason_N[row] for row in picked),
    )  # fmt: skip
    return novelty(stats, chosen).tolist()


def test_what_was_shown_before_is_not_new() -> None:
    a, b = noise(1), plain(30)
    stats = stats_of([a] * 10 + [b] * 10 + [a] * 10)
    assert fresh_of(stats, 5, 15) == [1, 1]
    assert fresh_of(stats, 5, 8) == [1, complexity.NOVELTY_FLOOR]
    # It returns with a cut: worth half, because words may have changed under an equal signature.
    assert fresh_of(stats, 5, 15, 25) == [1, 1, 0.5]
    assert fresh_of(stats, 5, 15, 22, 25) == [1, 1, 0.5, complexity.NOVELTY_FLOOR]


def test_new_words_under_an_equal_signature_count_half_motion_does_not() -> None:
    rng = np.random.default_rng(0)
    words = [np.where(rng.random((80, 144)) < 0.5, 40, 210).astype(np.uint8) for _ in range(2)]
    assert block_distance(*(stats_of([picture]).signature_NK for picture in words))[0] < 30
    before, after = fresh_of(stats_of([words[0]] * 10 + [words[1]] * 10), 5, 15)
    assert (before, after) == (1, 0.5)
    restless = stats_of([words[i % 2] for i in range(20)])
    assert fresh_of(restless, 6, 14)[1] == complexity.NOVELTY_FLOOR


def test_damage_between_two_candidates_is_nothing_new() -> None:
    pictures = [noise(1)] * 20
    frames = [scan_frame(i * 40, picture) for i, picture in enumerate(pictures)]
    frames[10] = scan_frame(10 * 40, plain(255), corrupt=True)
    stats = analyze(frames, time_base=TIME_BASE)
    assert (stats.flags_N[10] & FLAG_CORRUPT) > 0
    assert fresh_of(stats, 5, 15) == [1, complexity.NOVELTY_FLOOR]


def test_black_and_corrupt_candidates_are_worth_little() -> None:
    stats = stats_of([plain(0), plain(120)])
    worth = utility(stats, sample(stats, max_frames=2))
    assert worth[0, 0] == pytest.approx(complexity.COVERAGE * complexity.NOVELTY_FLOOR)
    assert worth[1, 0] == pytest.approx(complexity.COVERAGE)


def test_the_nearest_candidate_before_is_found_across_blocks_of_256() -> None:
    rng = np.random.default_rng(7)
    signature = rng.integers(0, 256, (600, 108)).astype(np.uint8)
    signature[599] = signature[3]
    signature[300] = signature[299]
    nearest = complexity._most_similar_before(signature)
    assert nearest[598] == 3
    assert nearest[299] == 299
    gap = signature.astype(np.int64)
    for i in range(1, 600, 37):
        assert nearest[i - 1] == np.square(gap[:i] - gap[i]).sum(axis=1).argmin()


def test_candidates_further_back_than_the_neighbours_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complexity, "NEIGHBOURS", 200)
    signature = np.random.default_rng(7).integers(0, 256, (600, 108)).astype(np.uint8)
    signature[599] = signature[3]
    signature[598] = signature[500]
    nearest = complexity._most_similar_before(signature)
    assert nearest[597] == 500
    assert nearest[598] != 3
