"""Where content at rest is replaced, and which changes begin no state."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from m3video.planning.analyze import concat
from m3video.planning.shots import boundaries
from m3video.planning.states import is_lasting, state_changes
from m3video.planning.stills import CELLS, HOLD, find_stills
from m3video.types import FrameStats
from tests.planning.screens import SIZE, paper, shown, textured, with_box, with_words

WORDS = ("harbour", "seven rivers", "a quiet engine", "copper and tin", "the last train", "nine open doors")


def changes(stats: FrameStats) -> list[float]:
    """Seconds at which another state begins."""
    rows = state_changes(stats, find_stills(stats))
    return [round(float(pts) / 1000, 1) for pts in stats.pts_N[rows]]


def lasting(*parts: tuple[np.ndarray, float], ms: int = 200) -> list[np.ndarray]:
    """Each picture for so many seconds."""
    return [picture for picture, seconds in parts for _ in range(round(seconds * 1000 / ms))]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.4, 1.5])
def test_a_number_that_is_replaced_begins_a_state(dark: bool, noise: float) -> None:
    slides = [paper(f"Result of run {i}: {7919 * i} units", dark=dark) for i in range(3, 9)]
    stats = shown(lasting(*((slide, 6.0) for slide in slides)), noise=noise)
    assert changes(stats) == [6.0, 12.0, 18.0, 24.0, 30.0]
    found = boundaries(stats)
    assert found.is_slide_M.tolist() == [False] + [True] * 5


@pytest.mark.parametrize("ms", [33, 40, 100, 200, 500, 1000])
def test_the_frame_rate_does_not_matter(ms: int) -> None:
    stats = shown(lasting((paper("one"), 6), (paper("other"), 6), (paper("third"), 6), ms=ms), ms=ms)
    found = changes(stats)
    assert len(found) == 2
    assert found == pytest.approx([6.0, 12.0], abs=max(0.2, ms / 1000))


def test_a_frame_that_is_shown_for_long_is_a_state() -> None:
    """Variable frame rate: a frame each time that something changes, and none in between."""
    stats = shown([paper(words) for words in WORDS], pts=[0, 30_000, 34_000, 90_000, 91_700, 600_000])
    assert changes(stats) == [30.0, 34.0, 90.0, 91.7, 600.0]


def test_frames_that_were_skipped_are_not_taken_for_stillness() -> None:
    """Keyframes only: one frame between two others tells nothing of how long it was on screen."""
    moving = [with_box(textured(1), 30 * i, 200, 300, 300, seed=i) for i in range(30)]
    assert changes(shown(moving, ms=2000, mode="keyframes")) == []
    still = lasting((paper("one"), 20), (paper("other"), 20), ms=1000)
    assert changes(shown(still, ms=1000, mode="keyframes")) == [20.0]


@pytest.mark.parametrize("count", [2, 4])
def test_a_fade_between_slides_is_one_change(count: int) -> None:
    first, second = paper("harbour", "seven rivers"), paper("copper", "tin and a quiet engine")
    between = [cv2.addWeighted(first, 1 - i / (count + 1), second, i / (count + 1), 0) for i in range(1, count + 1)]
    assert changes(shown([*lasting((first, 8)), *between, *lasting((second, 8))])) == [
        pytest.approx(8 + 0.2 * count, abs=0.41)
    ]


def test_what_changes_all_the_time_begins_no_state() -> None:
    wall, rng = textured(2), np.random.default_rng(5)
    clock = [with_words(wall, f"10:0{i // 60}:{i % 60:02d}", 900, 80) for i in range(60) for _ in range(5)]
    # A new digit of the tens stays for ten seconds; twice in a minute it is taken for new content.
    assert changes(shown(clock, noise=0.5)) == [10.0, 39.6]
    ticker = [with_words(wall, WORDS[1] + WORDS[2], 900 - 12 * i, 660) for i in range(200)]
    assert changes(shown(ticker)) == []
    leaves = [with_box(wall, 0, 0, 400, 720, seed=int(rng.integers(1 << 30))) for _ in range(200)]
    assert changes(shown(leaves, noise=0.5)) == []
    assert changes(shown([wall] * 300, noise=3.0)) == []


def test_light_that_drifts_begins_no_state() -> None:
    wall = textured(3).astype(np.float64)
    assert changes(shown([(wall * (0.7 + 0.3 * i / 400)).astype(np.uint8) for i in range(400)], noise=0.5)) == []


def test_a_cursor_begins_no_state_and_a_window_does() -> None:
    page = paper(*WORDS, step=90)

    def pointed(x: int, y: int) -> np.ndarray:
        made = page.copy()
        cv2.fillPoly(made, [np.array([[x, y], [x, y + 19], [x + 5, y + 15], [x + 12, y + 14]])], 0)
        return made

    rng = np.random.default_rng(4)
    film = [page] * 20
    for _ in range(8):
        x, y = int(rng.integers(700, 1200)), int(rng.integers(60, 640))
        film += [pointed(x - 40 * i, y) for i in range(5)] + [pointed(x, y)] * int(rng.integers(8, 30))
    assert changes(shown(film)) == []
    window = with_box(page, 300, 200, 500, 300, seed=6)
    assert changes(shown(lasting((page, 8), (window, 8), (page, 8)))) == [8.0, 16.0]


@pytest.mark.parametrize("noise", [0.5, 1.5, 2.5])
def test_somebody_who_walks_in_and_stays_is_a_state(noise: float) -> None:
    """2 % of the picture; on the way nothing stays."""
    wall = textured(7)
    place = (600, 300, 100, 190)
    way = [with_box(wall, x, 300, 100, 190, seed=9) for x in range(0, 600, 30)]
    film = [*[wall] * 60, *way, *[with_box(wall, *place, seed=9)] * 100, *[wall] * 60]
    found = changes(shown(film, noise=noise))
    assert any(abs(at - (12 + 0.2 * len(way))) <= 1.0 for at in found)
    assert all(at >= 11.8 for at in found)
    assert len(found) <= 4


def test_captions_on_a_bar_over_a_moving_picture_are_states() -> None:
    """A lower third of 170 pixels: what stands in a cell together with something that moves is not seen to stand."""
    wide = np.concatenate([textured(1), textured(2), textured(3)], axis=1)

    def captioned(i: int) -> np.ndarray:
        picture = wide[:, 14 * i : 14 * i + SIZE[0]].copy()
        picture[530:700] = 20
        cv2.putText(picture, WORDS[i // 25 % 6], (200, 640), cv2.FONT_HERSHEY_SIMPLEX, 2.4, 240, 5, cv2.LINE_AA)
        return picture

    stats = shown([captioned(i) for i in range(150)])
    stills = find_stills(stats)
    came = np.unique(stills.start_Y[is_lasting(stats, stills) & stills.is_new_Y & (stills.content_Y > 10)])
    # Besides the five captions, parts of them and of the moving picture three times look as if they stayed.
    assert came.tolist() == [25, 30, 50, 67, 75, 84, 100, 125]


def test_words_that_are_typed_begin_states_as_they_add_up() -> None:
    """A line each two seconds: the page is another one now and then, not at each letter."""
    film: list[np.ndarray] = []
    for line in range(12):
        for letters in range(1, 11):
            lines = [f"value {n} = call {n * 37}"[: (letters * 2 if n == line else 99)] for n in range(line + 1)]
            film.append(paper(*lines, top=60, step=54, scale=1.4))
    found = changes(shown(film))
    assert 2 <= len(found) <= 12


def test_segments_of_a_video_have_its_states() -> None:
    film = lasting(*((paper(words), 5.0) for words in WORDS))
    whole = shown(film)
    parts = [
        shown(film[start:stop], pts=[i * 200 for i in range(start, stop)])
        for start, stop in itertools.pairwise([0, 37, 38, 90, len(film)])
    ]
    assert changes(concat(parts)) == changes(whole) == [5.0, 10.0, 15.0, 20.0, 25.0]


def test_stays_of_a_cell_follow_each_other() -> None:
    stats = shown(lasting(*((paper(words), 3.0) for words in WORDS * 3)), noise=1.0)
    stills = find_stills(stats)
    assert (stills.start_Y < stills.stop_Y).all()
    assert (stills.stop_Y - stills.start_Y >= HOLD).all()
    assert stills.stop_Y.max() <= len(stills.row_M)
    for cell in range(CELLS):
        mine = stills.cell_Y == cell
        assert (np.diff(stills.start_Y[mine]) > 0).all()
    moments = np.arange(0, len(stills.row_M), 7)
    stay = stills.at(moments)
    for column in range(CELLS):
        for moment, at in zip(moments, stay[:, column], strict=True):
            if at >= 0:
                assert stills.cell_Y[at] == column
                assert stills.start_Y[at] <= moment < stills.stop_Y[at]


@pytest.mark.parametrize("count", [0, 1, 2, HOLD])
def test_hardly_any_frames(count: int) -> None:
    stats = shown([paper("one")] * count) if count else None
    if stats is not None:
        assert changes(stats) == []
        assert len(find_stills(stats).row_M) >= 1
