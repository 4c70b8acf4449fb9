"""The symbolic stage's clips: their times and scales, and that only what the tokens can tell is asked."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.training.decoder import (
    FINE,
    LONGEST_PREFIX,
    Mode,
    can_tell,
    needed_scales,
    sample_mode,
    sample_scales,
    sample_times,
    symbolic_clip,
)
from m3video.training.facts import is_readable
from m3video.training.questions import Question, draw_questions
from m3video.training.recipe import ScratchRecipe
from m3video.training.sequences import word_ids
from m3video.training.symbols import FramePool, SymbolicFrame, draw_frames
from m3video.types import SCALES
from m3video.utils.clock import whole_clock
from tests.training.drawn import KEYS, frame_of, shot_of

RECIPE = ScratchRecipe(questions=12)


@pytest.fixture(scope="module")
def drawn() -> FramePool:
    return draw_frames("clips", 120)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 16, 32, 64]))
def test_times_increase_and_have_a_word_each(seed: int, number: int) -> None:
    times = sample_times(random.Random(seed), number)
    assert len(times) == number
    assert list(times) == sorted(set(times))
    assert all(whole_clock(time) in word_ids() for time in times)


@pytest.mark.parametrize("most", [1 * 16, 100, 720, 3000])
def test_sampled_scales_keep_to_their_budget(most: int) -> None:
    rng = random.Random(most)
    seen: set[int] = set()
    for _ in range(300):
        scales = sample_scales(rng, 16, most=most)
        assert len(scales) == 16
        assert sum(scales) <= most
        seen |= set(scales)
    assert 1 in seen
    assert most < 3000 or seen == {1, 9, 36, 144, 576}


def test_no_sampled_scale_is_finer_than_the_finest() -> None:
    rng = random.Random(0)
    assert {scale for _ in range(200) for scale in sample_scales(rng, 3, most=3000, finest=144)} == {1, 9, 36, 144}


def test_finding_comes_before_reading_and_both_before_their_mixture() -> None:
    rng = random.Random(0)
    seen = [{sample_mode(rng, share) for _ in range(100)} for share in (0.0, 0.3, 0.9)]
    assert seen == [{"find"}, {"find", "read"}, {"find", "read", "mix", "wide"}]


def smallest(frame: SymbolicFrame) -> int:
    """Index of the coarsest of the scales from 9 on at which all that a frame's cells say can be read."""
    looks = [KEYS[number] for number in np.unique(frame[1][frame[1] >= 0])]
    return next((n for n, s in enumerate(SCALES) if s > 1 and is_readable(looks, frame[1], s)), len(SCALES) - 1)


def test_a_frame_gets_the_scale_that_it_needs_or_the_next_one(drawn: FramePool) -> None:
    rng = random.Random(3)
    bumped: Counter[int] = Counter()
    frames = drawn.frames[:60]
    needed = [smallest(frame) for frame in frames]
    for _ in range(6):
        scales = needed_scales(rng, frames, most=576 * len(frames))
        for (_, cells), least, scale in zip(frames, needed, scales, strict=True):
            if (cells < 0).all():
                assert scale in (1, 9)
            elif scale < 576:
                bumped[SCALES.index(scale) - least] += 1
            else:
                assert least >= SCALES.index(144)
    assert set(bumped) == {0, 1}
    assert bumped[0] > 2 * bumped[1]


@pytest.mark.parametrize("most", [12, 60, LONGEST_PREFIX["read"], LONGEST_PREFIX["wide"]])
def test_needed_scales_keep_to_their_budget(drawn: FramePool, most: int) -> None:
    rng = random.Random(most)
    for _ in range(40):
        frames = drawn.sample(rng, 5, fine=True)
        scales = needed_scales(rng, frames, most=most)
        assert len(scales) == 5
        assert sum(scales) <= most
        assert set(scales) <= set(SCALES)


def asked_about(content: str, seed: int, *, board: int = 0) -> tuple[SymbolicFrame, list[Question]]:
    frame = frame_of(shot_of(content, seed, board=board))
    return frame, draw_questions([frame[0]], [0.0], random.Random(seed), number=30)


@pytest.mark.parametrize(("side", "dumb", "telling"), [(3, 1, 36), (6, 1, 144), (12, 9, 576)])
def test_a_board_is_asked_about_where_its_tiles_have_a_token_each(side: int, dumb: int, telling: int) -> None:
    seen = 0
    for seed in range(4):
        frame, questions = asked_about("board", seed, board=side)
        for question in questions:
            fine = question.family in FINE
            seen += fine
            assert can_tell(question, [frame], [dumb]) == (not fine)
            if side < 12:
                assert can_tell(question, [frame], [telling])
    assert seen > 20


def test_the_asked_frame_decides() -> None:
    frame, questions = asked_about("board", 0, board=6)
    tile = next(question for question in questions if question.family == "tile")
    frames = [frame_of(shot_of("empty", 0)), frame]
    second = tile._replace(frame=1)
    assert can_tell(second, frames, [1, 576])
    assert not can_tell(second, frames, [576, 1])
    assert not can_tell(tile, frames, [576, 576])


@pytest.mark.parametrize("mode", ["find", "read", "mix", "wide"])
def test_clips_ask_only_what_their_tokens_tell(drawn: FramePool, mode: Mode) -> None:
    rng = random.Random(mode)
    families: Counter[str] = Counter()
    for _ in range(40):
        clip, frames = symbolic_clip(rng, drawn, RECIPE, share=0.9, mode=mode)
        assert len(frames) == len(clip.scales) == len(clip.seconds) == len(clip.cells)
        assert all(cells is frame[1] for cells, frame in zip(clip.cells, frames, strict=True))
        assert sum(clip.scales) <= LONGEST_PREFIX[mode]
        assert len(clip.questions) <= RECIPE.questions
        assert all(can_tell(question, frames, clip.scales) for question in clip.questions)
        families.update(question.family for question in clip.questions)
        assert mode != "find" or set(clip.scales) == {1}
        assert mode != "read" or len(frames) <= 5
    asked = {family for family in FINE if families[family]}
    assert mode == "find" or len(asked) > 2
    assert mode != "read" or asked == set(FINE)
    assert not {"tile", "entry"} & set(families) or mode != "find"


def test_clips_grow_longer() -> None:
    few = draw_frames("short", 12)
    lengths = []
    for share in (0.0, 0.15, 0.3, 0.9):
        rng = random.Random(1)
        made = (symbolic_clip(rng, few, RECIPE, share=share, mode="find")[1] for _ in range(60))
        lengths.append(max(map(len, made)))
    assert lengths == sorted(set(lengths))
    assert lengths[0] <= 4
    assert lengths[-1] <= RECIPE.max_frames
