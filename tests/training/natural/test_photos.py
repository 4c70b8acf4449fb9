"""Readers of natural pictures: a small folder of every kind, and what is said about broken ones."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from m3video.errors import UsageError
from m3video.training.natural import photos
from m3video.training.natural.photos import Asked, Captioned, Lettered, Named, Word, WordCrop

ROWS: dict[str, list[dict[str, Any]]] = {
    "flickr8k/train.jsonl": [{"image": "a.jpg", "captions": ["A dog .", "Dogs"]}],
    "flickr8k/dev.jsonl": [{"image": "b.jpg", "captions": ["A man"]}],
    "daquar/questions.jsonl": [
        {"image": "image21.jpg", "question": "what is on the bed", "answer": "pillow, blanket"},
        {"image": "image22.jpg", "question": "how many beds are there", "answer": "1"},
        {"image": "image21.jpg", "question": "what is red", "answer": "garbage_bin"},
    ],
    "icdar2015/words.jsonl": [{"image": "word_1.jpg", "text": "EXIT"}, {"image": "word_4000.jpg", "text": "62-03"}],
    "icdar2015/photos.jsonl": [
        {
            "image": "img_7.jpg",
            "words": [
                {"quad": [0, 0.1, 0.5, 0.1, 0.5, 0.2, 0, 0.2], "text": "SALE"},
                {"quad": [0.6, 0.1, 1.02, 0.1, 1.02, 0.2, 0.6, 0.2], "text": "###"},
            ],
        }
    ],
    "imagenet/one-of-each.jsonl": [
        {"image": "n1_tench.jpg", "index": 0, "wnid": "n1", "name": "tench"},
        {"image": "n2_goldfish.jpg", "index": 1, "wnid": "n2", "name": "goldfish"},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every set, with two pictures in two tar files of flickr8k."""
    where = tmp_path_factory.mktemp("photos")
    for name, rows in ROWS.items():
        (where / name).parent.mkdir(exist_ok=True)
        (where / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, (name, colour) in enumerate((("a.jpg", (250, 0, 0)), ("b.jpg", (0, 0, 250)))):
        with tarfile.open(where / "flickr8k" / f"part-{number}.tar", "w") as tar:
            for inside, data in ((name, jpeg(colour)), (f"cut-{name}", jpeg(colour)[:40])):
                member = tarfile.TarInfo(f"./{inside}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return where


def jpeg(colour: tuple[int, int, int]) -> bytes:
    """Return a small JPEG of one colour."""
    held = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(held, "JPEG")
    return held.getvalue()


def test_each_reader_gives_its_part_only(folder: Path) -> None:
    assert list(photos.flickr8k(folder, "train")) == [Captioned("a.jpg", ("A dog .", "Dogs"))]
    assert list(photos.flickr8k(folder, "dev")) == [Captioned("b.jpg", ("A man",))]
    assert list(photos.flickr8k(folder, "test")) == []
    assert list(photos.icdar_words(folder, "train")) == [WordCrop("word_1.jpg", "EXIT")]
    assert list(photos.icdar_words(folder, "test")) == [WordCrop("word_4000.jpg", "62-03")]
    assert list(photos.imagenet(folder, "train")) == [Named("n1_tench.jpg", 0, "n1", "tench")]
    assert list(photos.imagenet(folder, "test")) == [Named("n2_goldfish.jpg", 1, "n2", "goldfish")]


def test_questions_are_gathered_by_picture(folder: Path) -> None:
    found = [asked for part in ("train", "dev", "test") for asked in photos.daquar(folder, part)]  # type: ignore[arg-type]
    assert found == [
        Asked("image21.jpg", (("what is on the bed", "pillow, blanket"), ("what is red", "garbage_bin"))),
        Asked("image22.jpg", (("how many beds are there", "1"),)),
    ]


def test_corners_come_in_pairs_and_illegible_words_have_no_text(folder: Path) -> None:
    (photo,) = photos.icdar_photos(folder, "train")
    assert photo == Lettered(
        "img_7.jpg",
        (
            Word(((0, 0.1), (0.5, 0.1), (0.5, 0.2), (0, 0.2)), "SALE"),
            Word(((0.6, 0.1), (1.02, 0.1), (1.02, 0.2), (0.6, 0.2)), None),
        ),
    )


def test_pictures_of_several_tars_are_found_by_name_also_in_another_process(folder: Path) -> None:
    held = pickle.loads(pickle.dumps(photos.pictures(folder, "flickr8k")))
    assert len(held) == 4
    for name, strongest in (("a.jpg", 0), ("b.jpg", 2)):
        picture = held(name)
        assert (picture.mode, picture.size) == ("RGB", (24, 16))
        pixel = picture.getpixel((3, 3))
        assert max(range(3), key=pixel.__getitem__) == strongest


def test_what_is_absent_or_broken_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    held = photos.pictures(folder, "flickr8k")
    with pytest.raises(UsageError, match=r'^no picture "c.jpg" in the 4 that were found: is a .tar file missing\?$'):
        held("c.jpg")
    with pytest.raises(UsageError, match=r'^"cut-a.jpg" in .*part-0.tar is no readable picture: '):
        held("cut-a.jpg")
    with pytest.raises(UsageError, match=r"^no .tar file in .*daquar: name the folder that holds daquar$"):
        photos.pictures(tmp_path, "daquar")
    with pytest.raises(UsageError, match=r"^cannot read .*train.jsonl: No such file"):
        list(photos.flickr8k(tmp_path, "train"))
    with pytest.raises(UsageError, match=r'^no part is called "all"; use one of train, dev, test$'):
        list(photos.imagenet(folder, "all"))  # type: ignore[arg-type]
    (tmp_path / "x.tar").write_bytes(b"no tar at all")
    with pytest.raises(UsageError, match=r"^cannot read the pictures in .*x.tar: "):
        photos.Pictures([tmp_path / "x.tar"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"words.jsonl, line 2: Expecting property name"),
        ('{"image": "word_2.jpg"}', r"words.jsonl, line 2: no 'text'$"),
        ('{"image": "word_2.jpg", "text": 7}', r'words.jsonl, line 2: "text" must be text, not 7$'),
        ("[]", r"words.jsonl, line 2: list indices"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "icdar2015").mkdir()
    (tmp_path / "icdar2015" / "words.jsonl").write_text('{"image": "word_1.jpg", "text": "EXIT"}\n' + line + "\n")
    with pytest.raises(UsageError, match=said):
        list(photos.icdar_words(tmp_path, "train"))
