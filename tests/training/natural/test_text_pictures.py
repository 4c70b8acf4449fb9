"""Pictures with text, by number: the same each time, with the words that are drawn, and questions that they answer."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m3video.training.natural.overlaid_text import KINDS
from m3video.training.natural.splits import part_of
from m3video.training.natural.text_pages import cell_texts
from m3video.training.natural.text_pictures import (
    FIRST_WORDS,
    MOST_WORDS,
    TextAnswers,
    TextPictures,
    cell_strings,
    load_texts,
    page_words,
    write_texts,
)
from tests.training.natural.drawing import fonts_installed

WORDS = "dog runs through the snow while two men sit on a wooden bench near garden river market".split()


pytestmark = pytest.mark.skipif(not fonts_installed(), reason="needs fonts: matplotlib brings some")


@pytest.fixture(scope="module")
def drawer(tmp_path_factory: pytest.TempPathFactory) -> TextPictures:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "flickr8k").mkdir()
    (folder / "flickr8k" / "train.jsonl").write_text(json.dumps({"image": "a.jpg", "captions": ["A dog ."]}) + "\n")
    stored = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(stored, "JPEG")
    with tarfile.open(folder / "flickr8k" / "train.tar", "w") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = len(stored.getvalue())
        tar.addfile(member, io.BytesIO(stored.getvalue()))
    return TextPictures(folder, WORDS, "train", seed=1)


def test_a_number_always_shows_the_same(drawer: TextPictures) -> None:
    for source in ("page", "overlay"):
        once, again = (dict(drawer.pictures(source, 3)) for _ in range(2))
        assert len(once) == 3
        drawn = {key: np.asarray(read()) for key, read in once.items()}
        assert all(np.array_equal(np.asarray(again[key]()), picture) for key, picture in drawn.items())
        assert drawer.answers(source, 1) == drawer.answers(source, 1)
        assert len({picture.tobytes() for picture in drawn.values()}) == 3


def test_words_and_cells_hold_the_letters_that_are_drawn(drawer: TextPictures) -> None:
    for number in range(5):
        page, answers = drawer.page(number), drawer.answers("page", number)
        assert "".join(answers.words) == page.text
        assert len(answers.words) >= page.starts_K.sum()
        assert answers.words == page_words(page)
        filled = (cell_texts(page).classes_GGS[..., 0] > 0).ravel()
        assert sorted(answers.cells) == np.flatnonzero(filled).tolist()
        assert set("".join(answers.cells.values())) <= set(page.text)
        assert cell_strings(page).shape == (24, 24)


def test_overlays_hold_texts_of_the_part(drawer: TextPictures) -> None:
    for number in range(8):
        answers = drawer.answers("overlay", number)
        assert answers.overlaid_kind in KINDS
        assert 0.01 < answers.cap < 0.3
        assert all(part_of("texts", word) == "train" for word in answers.words)


def test_questions_are_answered_by_the_text() -> None:
    words = tuple(f"w{number}" for number in range(MOST_WORDS + 9))
    page = TextAnswers("page", words, 0.05)
    whole, first = (asked.answer for asked in page.questions(random.Random(0)))
    assert whole.split() == list(words[:MOST_WORDS])
    assert first.split() == list(words[:FIRST_WORDS])
    (asked,) = TextAnswers("overlay", ("1234",), 0.05, "sign").questions(random.Random(1))
    assert "1234" in asked.answer
    assert "number" in asked.question.lower()


def test_texts_are_kept_in_a_file(drawer: TextPictures, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    write_texts(drawer, {"page": 2, "overlay": 3}, file)
    found = load_texts(file)
    assert len(found) == 5
    assert found[drawer.key("page", 1)] == drawer.answers("page", 1)
    assert found[drawer.key("overlay", 2)] == drawer.answers("overlay", 2)
    before = file.stat().st_mtime_ns
    write_texts(drawer, {"page": 2, "overlay": 3}, file)
    assert file.stat().st_mtime_ns == before
