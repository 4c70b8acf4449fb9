"""Content at rest counts as new once: in the candidate that shows most of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from m3video.planning.news import LEAST_NEW, find_news
from m3video.planning.novelty import NOVELTY_FLOOR, novelty
from m3video.planning.sample import sample
from m3video.planning.stills import find_stills
from m3video.planning.utility import utility
from m3video.types import FrameStats
from tests.planning.screens import SMALL, paper, shown, textured, with_box, with_words
from tests.planning.test_states import lasting

LONG = (
    "the harbour is empty in the winter",
    "seven rivers meet below the town",
    "a quiet engine turns all night",
    "copper and tin were found in the hill",
    "the last train leaves before nine",
    "nine open doors and no key",
)


def middles(*seconds: float, ms: int = 200) -> np.ndarray:
    """Rows at these seconds."""
    return np.array([round(second * 1000 / ms) for second in seconds])


def news_of(stats: FrameStats, rows: np.ndarray) -> np.ndarray:
    return find_news(stats, find_stills(stats), rows).new_N


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_each_slide_of_a_lecture_is_new_and_no_repeat_is(dark: bool, noise: float) -> None:
    slides = [paper(f"Result of run {i}: {7919 * i} units", dark=dark) for i in range(12)]
    stats = shown(lasting(*((slide, 6.0) for slide in slides)), noise=noise)
    new = news_of(stats, middles(*np.arange(1.0, 72.0, 2.0))).reshape(12, 3)
    assert (new.max(axis=1) > 0.05).all()
    assert (np.sort(new, axis=1)[:, :2] < 2 * LEAST_NEW).all()


def test_of_a_slide_to_which_lines_are_added_the_last_state_counts() -> None:
    states = [paper("Plan", *LONG[:count], step=100) for count in range(1, 6)]
    stats = shown(lasting(*((state, 5.0) for state in states), (paper("Questions", *LONG[5:]), 5.0)))
    rows = middles(2.5, 7.5, 12.5, 17.5, 22.5, 27.5)
    new = news_of(stats, rows)
    assert new[4] > 0.8
    assert new[5] > 0.5
    assert new[:4].max() < 0.1


def test_a_slide_with_more_words_does_not_hide_one_with_others() -> None:
    first, second = paper("Plan", LONG[0], step=100), paper("Plan", *LONG[1:5], step=100)
    new = news_of(shown(lasting((first, 6.0), (second, 6.0))), middles(3.0, 9.0))
    assert new.min() > 0.3


def test_a_slide_that_comes_back_is_not_new() -> None:
    slides = [paper(*LONG[i : i + 2]) for i in range(5)]
    order = [0, 1, 2, 0, 3, 4, 1, 0]
    stats = shown(lasting(*((slides[i], 5.0) for i in order)), noise=0.5)
    new = news_of(stats, middles(*(2.5 + 5.0 * i for i in range(8))))
    for slide in range(5):
        mine = np.sort(new[[place for place, shown_ in enumerate(order) if shown_ == slide]])
        assert mine[-1] > 0.2
        assert (mine[:-1] < 2 * LEAST_NEW).all()


def test_new_content_is_measured_as_a_share_of_the_picture() -> None:
    wall = textured(3)
    small, large = with_box(wall, 560, 300, 130, 200, seed=5), wall.copy()
    large[100:600, 300:940] = paper(*LONG[:3], top=220)[100:600, :640]  # a window with words
    stats = shown(lasting((wall, 8.0), (small, 8.0), (wall, 8.0), (large, 8.0)), noise=0.5)
    new = news_of(stats, middles(4.0, 12.0, 20.0, 28.0))
    # The wall counts once, with whichever has it first; somebody in front of it, or the wall behind, counts for little.
    little, more, most = np.sort(new[:3])
    assert little == 0
    assert LEAST_NEW < more < 0.12
    assert most > 0.15
    assert new[3] > 0.15


def test_a_talking_face_beside_the_slides_makes_no_repeat_new() -> None:
    """A face in a corner that never stops: the slides count once each, and no frame for the face."""
    faces = [with_box(paper(), 0, 0, 200, 200, seed=seed)[:200, :200] for seed in range(40)]
    film = []
    for slide in range(4):
        page = paper(*LONG[slide : slide + 2], top=300)
        for i in range(40):
            picture = page.copy()
            picture[500:700, 1060:1260] = faces[(7 * i + slide) % 40]
            film.append(picture)
    stats = shown(film)
    chosen = sample(stats, max_frames=24)
    found = novelty(stats, chosen)
    seen: dict[int, float] = {}
    repeats = []
    for row, value in sorted(zip(chosen.index_N.tolist(), found.tolist(), strict=True), key=lambda pair: -pair[1]):
        if row // 40 in seen:
            repeats.append(value)
        seen.setdefault(row // 40, value)
    assert set(seen) == {0, 1, 2, 3}
    assert min(seen.values()) > 0.3
    assert np.mean(repeats) < 0.1 * min(seen.values())


def test_a_clock_makes_nothing_new() -> None:
    wall = textured(8)
    film = [with_words(wall, f"10:00:{i:02d}", 980, 70) for i in range(60) for _ in range(5)]
    stats = shown(film, noise=0.5)
    new = news_of(stats, np.arange(10, 300, 7))
    assert (new > LEAST_NEW).sum() <= 7  # the picture itself, and at most each other digit of the tens


def test_frames_of_a_fade_are_not_new() -> None:
    first, second = paper(*LONG[:3]), paper(*LONG[3:6])
    between = [cv2.addWeighted(first, 1 - i / 5, second, i / 5, 0) for i in range(1, 5)]
    stats = shown([*lasting((first, 8)), *between, *lasting((second, 8))])
    new = news_of(stats, np.array([20, 40, 41, 42, 43, 60]))
    assert min(new[0], new[-1]) > 0.3
    assert new[1:5].max() < LEAST_NEW


def test_detail_of_new_slides_has_utility_and_of_repeats_has_none() -> None:
    """From pictures to utility: of twelve frames those of new slides gain by detail, the others do not."""
    slides = [paper(f"Result of run {i}: {7919 * i} units") for i in range(3, 9)]
    stats = shown(lasting(*((slide, 10.0) for slide in slides)))
    chosen = sample(stats, max_frames=18)
    assert [reason for reason in chosen.reason_N if reason != "change"] == ["shot"] + ["slide"] * 5
    utilities = utility(stats, chosen)
    gains = (utilities[:, -1] > utilities[:, 0]).reshape(-1)
    slide_N = chosen.index_N // 50
    assert [int(gains[slide_N == slide].sum()) for slide in range(6)] == [1] * 6
    assert (novelty(stats, chosen)[~gains] == NOVELTY_FLOOR).all()


def test_many_candidates_take_no_long_time() -> None:
    """4,000 candidates, each tenth of them new: no comparison of all with all."""
    pages = [cv2.resize(paper(f"{a} {a * 7919}"), SMALL, interpolation=cv2.INTER_AREA) for a in range(400)]
    stats = shown([pages[i // 10] for i in range(4000)])
    new = news_of(stats, np.arange(4000))
    assert 350 <= (new > LEAST_NEW).sum() <= 450
