"""What is measured of reading: words read off cells, and letters found in pooled tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m3video.training.natural.measure_reading import read_off
from m3video.training.natural.page_words import classes_of
from m3video.training.natural.scale_probe import LETTERS, letters_of_tokens, probe, share_named
from m3video.training.natural.text_pages import Page
from m3video.types import SCALES


def page_of(text: str, centres: list[tuple[float, float]]) -> Page:
    count = len(text)
    picture = np.zeros((384, 384, 3), np.uint8)
    return Page(picture, text, np.array(centres), np.full(count, 0.05), np.zeros(count, bool))


def test_a_word_is_read_along_its_row_though_it_lies_between_two() -> None:
    classes, upper = np.zeros((24, 24, 3), np.int64), np.zeros((24, 24, 3), bool)
    for (row, column, slot), letter in {
        (7, 3, 0): "H",
        (7, 3, 1): "o",
        (8, 4, 0): "t",
        (7, 5, 0): "e",
        (7, 5, 1): "l",
    }.items():
        classes[row, column, slot] = classes_of(letter)[0]
        upper[row, column, slot] = letter.isupper()
    classes[20, 1, 0] = classes_of("x")[0]  # far away: another text
    assert read_off(classes, upper) == "Hotel"
    assert read_off(np.zeros_like(classes), upper) == ""


@pytest.mark.parametrize("scale", SCALES)
def test_letters_belong_to_the_token_that_covers_their_place(scale: int) -> None:
    page = page_of("aA7!z", [(8, 8), (40, 8), (200, 8), (100, 100), (380, 380)])
    found = letters_of_tokens(page, scale)
    side = round(scale**0.5)
    cell = 384 / side
    wanted: dict[int, set[int]] = {}
    for letter, (x, y) in zip("aa7z", [(8, 8), (40, 8), (200, 8), (380, 380)], strict=True):
        number = int(y // cell) * side + int(x // cell)
        wanted.setdefault(number, set()).add(int(classes_of(letter)[0]) - 1)
    assert {number: set(one.nonzero()[:, 0].tolist()) for number, one in found.items()} == wanted


def test_a_probe_finds_letters_that_tokens_hold_and_none_that_they_do_not() -> None:
    torch.manual_seed(0)
    letters = torch.rand(600, LETTERS) < 0.08
    letters[letters.sum(1) == 0, 3] = True
    mix = torch.randn(LETTERS, 50)
    held, noise = letters.float() @ mix + 0.05 * torch.randn(600, 50), torch.randn(600, 50)
    train, dev = slice(0, 500), slice(500, 600)
    right, chance = probe((held[train], letters[train]), (held[dev], letters[dev]))
    blind, same = probe((noise[train], letters[train]), (noise[dev], letters[dev]))
    assert right > 0.95
    assert chance == same < 0.5
    assert blind < chance + 0.1
    assert share_named(letters.float(), letters) == 1
    assert share_named(-letters.float(), letters) == 0
