"""Text drawn over photographs: it is where the box says, changes nothing else, and is of its part."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from m3video.errors import UsageError
from m3video.training.natural.overlaid_text import (
    CAP_HEIGHTS,
    KINDS,
    SMALLEST,
    choose_text,
    fonts,
    overlaid,
    reading_questions,
)
from m3video.training.natural.splits import part_of
from tests.training.natural.drawing import fonts_installed

WORDS = "Exit Taxi Hotel Museum Station Garden River Market Bridge Window Letter Paper School Coffee Music".split()


pytestmark = pytest.mark.skipif(
    not (fonts_installed("train") and fonts_installed("test")),
    reason="needs fonts of both parts: matplotlib brings some",
)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A mid-grey picture with a little texture."""
    noise = np.random.default_rng(0).integers(110, 140, (240, 320, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["Exit", "4721", "garden river taxi hotel paper"])
def test_letters_are_inside_the_box_and_the_box_inside_the_picture(photo: Image.Image, kind: str, text: str) -> None:
    before = np.asarray(photo).copy()
    for seed in range(4):
        shown = overlaid(photo, text, kind=kind, part="train", rng=random.Random(seed))
        again = overlaid(photo, text, kind=kind, part="train", rng=random.Random(seed))
        assert np.array_equal(np.asarray(shown.picture), np.asarray(again.picture))
        left, top, right, bottom = shown.box
        assert -0.001 <= left < right <= 1.001
        assert -0.001 <= top < bottom <= 1.001
        assert CAP_HEIGHTS[kind][0] * SMALLEST * 0.8 <= shown.cap_height <= CAP_HEIGHTS[kind][1] * 1.01
        after = np.asarray(shown.picture).astype(int)
        inside = after[int(top * 240) : int(bottom * 240) + 1, int(left * 320) : int(right * 320) + 1]
        assert inside.max() - inside.min() > 120, "letters and what is behind them are far apart"
    assert np.array_equal(np.asarray(photo), before), "the photograph itself is not changed"


def test_the_box_is_where_the_letters_are(photo: Image.Image) -> None:
    for seed in range(8):
        one = overlaid(photo, "WWWW", kind="subtitle", part="train", rng=random.Random(seed))
        changed = np.any(np.asarray(one.picture) != np.asarray(photo), axis=2)
        rows, columns = np.where(changed.any(1))[0], np.where(changed.any(0))[0]
        edges = (columns[0] / 320, rows[0] / 240, (columns[-1] + 1) / 320, (rows[-1] + 1) / 240)
        assert np.abs(np.subtract(edges, one.box)).max() < 0.02


def test_a_sign_seen_from_aside_has_its_letters_in_the_box(photo: Image.Image) -> None:
    """Two drawings of one sign differ only by the text: where they differ is inside the box."""
    for seed in range(8):
        full = overlaid(photo, "HHHH", kind="sign", part="train", rng=random.Random(seed))
        left, top, right, bottom = full.box
        picture = np.asarray(full.picture).astype(int)
        board = picture[min(int((top + bottom) / 2 * 240), 239), min(int(right * 320) + 2, 319)]
        crop = picture[int(top * 240) : int(bottom * 240), int(left * 320) : int(right * 320)]
        inked = np.abs(crop - board).sum(2) > 200
        assert 0.1 < inked.mean() < 0.8, f"seed {seed}"


def test_fonts_and_texts_of_test_are_never_drawn_in_training() -> None:
    train, test = ({family for family, _ in fonts(part)} for part in ("train", "test"))
    assert train
    assert test
    assert not train & test
    rng = random.Random(3)
    kinds = set()
    for _ in range(300):
        text = choose_text(WORDS, "train", rng)
        kinds.add("number" if text.isdigit() else len(text.split()))
        assert all(part_of("texts", word) == "train" for word in text.split())
        assert not text.isdigit() or len(text) == 4
    assert kinds == {"number", 1, 5}


def test_what_cannot_be_drawn_is_said(photo: Image.Image) -> None:
    with pytest.raises(UsageError, match=r'no kind of text is called "poster"; use one of subtitle, lower third'):
        overlaid(photo, "a", kind="poster", part="train", rng=random.Random(0))
    with pytest.raises(UsageError, match=r"is too long for a subtitle in a picture of 320 x 240: give a shorter one"):
        overlaid(photo, "word " * 60, kind="subtitle", part="train", rng=random.Random(0))
    # a third of the texts are numbers, which need no words: this seed asks for a word
    with pytest.raises(UsageError, match=r"too few of the 1 words are of the train part: give more"):
        choose_text(["4th"], "train", random.Random(1))


def test_questions_are_answered_by_the_text_as_drawn(photo: Image.Image) -> None:
    for text, wanted in (("7301", {"7301"}), ("EXIT", {"EXIT"}), ("Garden river", {"Garden river"})):
        found = set()
        shown = overlaid(photo, text, kind="sign", part="test", rng=random.Random(1))
        for seed in range(60):
            (asked,) = reading_questions(shown.text, shown.kind, random.Random(seed))
            found.add(asked.answer)
        quoted = {answer for answer in found if f'says "{text}".' in answer}
        assert found - quoted == wanted
        assert quoted
