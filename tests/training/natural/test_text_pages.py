"""Pages that teach letters: what the labels say stands there is what is drawn there, and of the part it should be."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from m3video.training.natural import text_pages
from m3video.training.natural.overlaid_text import fonts
from m3video.training.natural.page_words import (
    CHARACTERS,
    NONE,
    NUM_CLASSES,
    OTHER,
    WordMaker,
    character_of,
    classes_of,
    known_words,
)
from m3video.training.natural.splits import PARTS, Part, part_of
from m3video.training.natural.text_pages import CAP_HEIGHTS, SLOTS, Page, PageMaker, cell_texts
from tests.training.natural.drawing import fonts_installed

WORDS = "dog runs through the snow while two men sit on a wooden bench near Garden river market 7up".split()


pytestmark = pytest.mark.skipif(not fonts_installed(), reason="needs fonts: matplotlib brings some")


@pytest.fixture(scope="module")
def maker() -> PageMaker:
    """Its photographs are plain grey, so that whatever differs is drawn."""
    photos = [np.full((240, 320, 3), 120, np.uint8)]
    return PageMaker(photos, WordMaker(WORDS, "train"), [path for _, path in fonts("train")])


@pytest.fixture(scope="module")
def pages(maker: PageMaker) -> list[Page]:
    return [maker.page(random.Random(seed)) for seed in range(40)]


def test_every_character_has_a_class_and_the_class_its_character() -> None:
    text = CHARACTERS + "Å" + "AZ"
    found = classes_of(text)
    assert found.max() == OTHER == NUM_CLASSES - 1
    assert NONE not in found
    assert found[-1] == classes_of("z")[0]
    back = [character_of(number, upper=letter.isupper()) for number, letter in zip(found, text, strict=True)]
    assert "".join(back) == CHARACTERS + "\N{REPLACEMENT CHARACTER}" + "AZ"
    assert character_of(NONE, upper=True) == ""


def test_only_words_and_numbers_of_the_part_are_drawn() -> None:
    known = {part: known_words(["Dog", "dog", "x", "7up", "naïve", "a-b"], part) for part in PARTS}
    assert known == {part: ["dog"] if part_of("texts", "dog") == part else [] for part in PARTS}
    parts: tuple[Part, ...] = ("train", "dev")
    for part in parts:
        words, rng = WordMaker([f"w{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"], part), random.Random(1)
        assert words.words
        seen = [words.word(rng, rng.choice(text_pages.CASES)) for _ in range(400)]
        plain = [word for word in seen if word.isalnum() and word.isascii()]
        assert all(part_of("texts", word) == part for word in plain)
        assert sum(word.isdigit() for word in plain) > 20
        assert any(word.isupper() for word in plain)
        assert len(plain) < len(seen)


def test_pages_depend_on_their_seed_alone(maker: PageMaker, pages: list[Page]) -> None:
    again = maker.page(random.Random(7))
    assert np.array_equal(again.picture, pages[7].picture)
    assert again.text == pages[7].text
    assert len({page.text for page in pages}) > 35


def test_characters_are_inside_and_as_large_as_said(pages: list[Page]) -> None:
    for page in pages:
        assert page.picture.shape == (384, 384, 3)
        assert page.picture.dtype == np.uint8
        assert len(page.text) == len(page.centres_K2) == len(page.caps_K) == len(page.starts_K)
        assert " " not in page.text
        assert ((page.centres_K2 >= 0) & (page.centres_K2 < 384)).all()
    caps = np.concatenate([page.caps_K for page in pages])
    assert CAP_HEIGHTS[0] * 0.8 < caps.min() < 0.05
    assert 0.08 < caps.max() < CAP_HEIGHTS[1] * 1.2


def test_where_a_character_stands_there_is_ink(pages: list[Page]) -> None:
    """Around its centre the picture has contrast: much more often than at places where none stands."""

    def contrast(page: Page, x: float, y: float, half: float) -> float:
        rows, columns = slice(int(max(y - half, 0)), int(y + half) + 1), slice(int(max(x - half, 0)), int(x + half) + 1)
        part = page.picture[rows, columns] @ np.array([0.3, 0.59, 0.11])
        return float(part.max() - part.min())

    there, anywhere = [], []
    rng = random.Random(0)
    for page in pages:
        for letter, (x, y), cap in zip(page.text, page.centres_K2, page.caps_K, strict=True):
            if not letter.isalnum():
                continue
            half = max(cap * 384 / 2, 4)
            there.append(contrast(page, x, y, half))
            anywhere.append(contrast(page, rng.uniform(0, 383), rng.uniform(0, 383), half))
    assert np.mean(np.array(there) > 40) > 0.97
    assert np.mean(np.array(anywhere) > 40) < 0.75


def test_pages_seen_from_aside_keep_their_labels_on_the_letters(maker: PageMaker) -> None:
    """A page of one word: after the corners moved, the changed pixels are centred where the characters are."""
    canvas = text_pages.Image.new("RGB", (384, 384), (0, 0, 0))
    lines = text_pages._Lines(canvas, maker, random.Random(3))
    font = lines.font(24)
    lines.draw.text((150, 200), "HHHHHH", fill=(255, 255, 255), font=font, anchor="ls")
    lines._note("HHHHHH", 150, 200, font)
    centres = np.array(lines.centres)
    for seed in range(5):
        moved, where = text_pages._seen_from_aside(canvas, centres, random.Random(seed))
        rows, columns = np.nonzero(np.asarray(moved)[..., 0] > 128)
        assert abs(columns.mean() - where[:, 0].mean()) < 4
        assert abs(rows.mean() - where[:, 1].mean()) < 4


def test_cells_hold_their_characters_from_left_to_right(pages: list[Page]) -> None:
    centres = np.array([[20.0, 40.0], [24.0, 40.0], [30.0, 40.0], [31.9, 40.0], [32.1, 40.0]])
    starts = np.array([True, False, True, False, False])
    page = Page(np.zeros((384, 384, 3), np.uint8), "aB7cd", centres, np.full(5, 0.04), starts)
    texts = cell_texts(page)
    assert texts.classes_GGS[2, 1].tolist() == classes_of("aB7").tolist(), "a fourth one is left out"
    assert texts.upper_GGS[2, 1].tolist() == [False, True, False]
    assert texts.starts_GGS[2, 1].tolist() == [True, False, True]
    assert texts.classes_GGS[2, 2].tolist() == [classes_of("d")[0], NONE, NONE]
    assert (texts.classes_GGS != NONE).sum() == 4
    assert (texts.caps_GGS > 0).sum() == 4
    empty = Page(page.picture, "", np.zeros((0, 2)), np.zeros(0), np.zeros(0, bool))
    assert (cell_texts(empty).classes_GGS == NONE).all()
    for drawn in pages:
        found = cell_texts(drawn).classes_GGS
        assert found.shape == (24, 24, SLOTS)
        for earlier, later in pairwise(np.moveaxis(found, 2, 0)):
            assert not ((earlier == NONE) & (later != NONE)).any(), "slots are filled from the left"
