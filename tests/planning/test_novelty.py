"""What is new: pictures that come back, move, pan or fade are not; words under an equal signature are, half."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.planning import novelty as rules
from m3video.planning.analyze import analyze
from m3video.planning.novelty import NOVELTY_FLOOR, block_distance, mixed, moved_distance, novelty
from m3video.planning.sample import sample
from m3video.types import FLAG_CORRUPT, FrameStats
from tests.planning.frames import TIME_BASE, noise, plain, scan_frame, stats_of


def fresh_of(stats: FrameStats, *rows: int) -> list[float]:
    every = sample(stats, max_frames=len(stats))
    picked = list(rows)
    chosen = replace(
        every,
        index_N=every.index_N[picked],
        pts_N=every.pts_N[picked],
        shot_N=every.shot_N[picked],
        reason_N=tuple(every.reason_N[row] for row in picked),
    )
    return novelty(stats, chosen).tolist()


def test_what_was_shown_before_is_not_new() -> None:
    a, b = noise(1), plain(30)
    stats = stats_of([a] * 10 + [b] * 10 + [a] * 10)
    assert fresh_of(stats, 5, 15) == [1, 1]
    assert fresh_of(stats, 5, 8) == [1, NOVELTY_FLOOR]
    # It returns with a cut: counts half, because words may have changed while the signature is equal.
    assert fresh_of(stats, 5, 15, 25) == [1, 1, 0.5]
    assert fresh_of(stats, 5, 15, 22, 25) == [1, 1, 0.5, NOVELTY_FLOOR]


def test_new_words_under_an_equal_signature_count_half_motion_does_not() -> None:
    rng = np.random.default_rng(0)
    words = [np.where(rng.random((80, 144)) < 0.5, 40, 210).astype(np.uint8) for _ in range(2)]
    assert block_distance(*(stats_of([picture]).signature_NK for picture in words))[0] < 30
    before, after = fresh_of(stats_of([words[0]] * 10 + [words[1]] * 10), 5, 15)
    assert (before, after) == (1, 0.5)
    restless = stats_of([words[i % 2] for i in range(20)])
    assert fresh_of(restless, 6, 14)[1] == NOVELTY_FLOOR


def test_damage_between_two_candidates_is_nothing_new() -> None:
    pictures = [noise(1)] * 20
    frames = [scan_frame(i * 40, picture) for i, picture in enumerate(pictures)]
    frames[10] = scan_frame(10 * 40, plain(255), corrupt=True)
    stats = analyze(frames, time_base=TIME_BASE)
    assert (stats.flags_N[10] & FLAG_CORRUPT) > 0
    assert fresh_of(stats, 5, 15) == [1, NOVELTY_FLOOR]


def test_the_nearest_candidate_before_is_found_across_blocks_of_256() -> None:
    rng = np.random.default_rng(7)
    signature = rng.integers(0, 256, (600, 108)).astype(np.uint8)
    signature[599] = signature[3]
    signature[300] = signature[299]
    nearest = rules.most_similar_before(signature)
    assert nearest[598] == 3
    assert nearest[299] == 299
    gap = signature.astype(np.int64)
    for i in range(1, 600, 37):
        assert nearest[i - 1] == np.square(gap[:i] - gap[i]).sum(axis=1).argmin()


def test_candidates_further_back_than_the_neighbours_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "NEIGHBOURS", 200)
    signature = np.random.default_rng(7).integers(0, 256, (600, 108)).astype(np.uint8)
    signature[599] = signature[3]
    signature[598] = signature[500]
    nearest = rules.most_similar_before(signature)
    assert nearest[597] == 500
    assert nearest[598] != 3


def scene(seed: int) -> np.ndarray:
    """Large patches of grey, as a photograph has them."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (4, 6)).astype(np.uint8).repeat(20, axis=0).repeat(24, axis=1)


def fade(first: np.ndarray, second: np.ndarray, frames: int) -> list[np.ndarray]:
    return [np.rint(first + (second - first.astype(float)) * i / frames).astype(np.uint8) for i in range(1, frames)]


@pytest.mark.parametrize("ms", [50, 100, 200])
def test_a_cross_fade_shows_nothing_that_its_shots_do_not(ms: int) -> None:
    a, b = scene(1), scene(2)
    between = fade(a, b, 400 // ms)
    stats = stats_of([a] * 20 + between + [b] * 20, ms=ms)
    rows = np.arange(len(stats))
    inside = (rows >= 20) & (rows < 20 + len(between))
    assert mixed(stats, rows).tolist() == inside.tolist()
    found = fresh_of(stats, 5, 20, 20 + len(between) + 5)
    assert found == [1, NOVELTY_FLOOR, 1]


def test_a_card_between_two_shots_is_no_mixture() -> None:
    stats = stats_of([scene(1)] * 20 + [scene(3)] * 4 + [scene(2)] * 20)
    assert not mixed(stats, np.arange(len(stats))).any()
    assert fresh_of(stats, 5, 21, 30) == [1, 1, 1]


def test_every_frame_of_a_smooth_pan_looks_like_a_mixture_and_none_is_taken_for_one() -> None:
    wide = np.tile(np.linspace(0, 255, 80 * 8)[None], (80, 1))
    pan = [wide[:, 4 * i : 4 * i + 144].astype(np.uint8) for i in range(100)]
    stats = stats_of(pan)
    assert not mixed(stats, np.arange(20, 80)).any()


def test_frames_far_apart_are_no_mixtures() -> None:
    stats = stats_of([scene(1), *fade(scene(1), scene(2), 4), scene(2)], ms=2000)
    assert not mixed(stats, np.arange(len(stats))).any()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(-1, 1), st.integers(-1, 1))
def test_a_picture_that_moved_by_a_block_is_the_same_but_for_its_edge(seed: int, down: int, right: int) -> None:
    rng = np.random.default_rng(seed)
    old = rng.integers(0, 256, (1, 6, 6, 3)).astype(np.uint8)
    padded = np.pad(old, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    new = padded[:, 1 + down : 7 + down, 1 + right : 7 + right]
    assert moved_distance(new.reshape(1, -1), old.reshape(1, -1))[0] == 0
    other = rng.integers(0, 256, (1, 108)).astype(np.uint8)
    assert moved_distance(other, old.reshape(1, -1))[0] <= block_distance(other, old.reshape(1, -1))[0] + 1e-5


def test_motion_within_a_shot_is_not_news_a_new_object_is() -> None:
    def with_square(left: int, top: int) -> np.ndarray:
        picture = plain(60)
        picture[top : top + 28, left : left + 28] = 220
        return picture

    stats = stats_of([with_square(20 + i, 20) for i in range(40)])
    assert max(fresh_of(stats, 0, 10, 20, 30)[1:]) < 0.25
    second = with_square(20, 20)
    second[40:70, 100:130] = 220
    appears = stats_of([with_square(20, 20)] * 20 + [second] * 20)
    assert fresh_of(appears, 5, 30)[1] >= 0.5


def test_a_large_object_that_drifts_is_no_fade() -> None:
    """Its blocks change as a mixture's do, the others not at all."""

    def at(left: int) -> np.ndarray:
        picture = plain(60)
        picture[16:64, left : left + 48] = 220
        return picture

    stats = stats_of([plain(200)] * 10 + [at(20 + i // 2) for i in range(10)])
    assert not mixed(stats, np.arange(len(stats))).any()
    assert fresh_of(stats, 5, 18) == [1, 1]
