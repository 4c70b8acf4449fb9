"""The split of natural data is the same everywhere, overlaps nowhere, and keeps neighbours together."""

from __future__ import annotations

from collections import Counter

import pytest

from m3video.errors import UsageError
from m3video.training.natural.splits import PARTS, font_families, hashed, part_of, splits


def test_hashes_are_the_same_on_every_machine() -> None:
    # by sha256sum of "a" and of "texts exit" and so on
    assert hashed("a", 10) == 0xCA978112CA1B % 10
    assert [hashed(f"texts {word}", 10) for word in ("exit", "stop", "open", "taxi")] == [
        1,
        1,
        9,
        1,
    ]


def test_pictures_go_where_they_always_went() -> None:
    assert part_of("flickr8k", "train.jsonl") == "train"
    assert part_of("flickr8k", "dev.jsonl") == "dev"
    assert part_of("flickr8k", "other.jsonl") is None
    assert [part_of("imagenet", str(index)) for index in (0, 1, 998, 999)] == ["train", "test"] * 2
    assert part_of("icdar2015/words", "word_3500.png") == "train"
    assert part_of("icdar2015/words", "word_3501.png") == "dev"
    assert part_of("icdar2015/words", "word_4468.png") == "test"
    assert part_of("icdar2015/photos", "img_401.jpg") == "test"
    assert {part_of(source, "davis-goat.mp4") for source in ("clips", "fall", "videos")} == {"test"}


def test_neighbours_of_one_room_are_in_one_part() -> None:
    tens = [{part_of("daquar", f"image{10 * ten + one}.jpg") for one in range(10)} for ten in range(145)]
    assert all(len(parts) == 1 for parts in tens)
    counts = Counter(part for parts in tens for part in parts)
    assert counts == {"train": 129, "dev": 7, "test": 9}


def test_a_tenth_of_texts_is_never_drawn_in_training() -> None:
    counts = Counter(part_of("texts", f"{number:04d}") for number in range(10_000))
    assert set(counts) == set(PARTS)
    assert 900 < counts["test"] < 1100
    assert 900 < counts["dev"] < 1100
    assert part_of("texts", "Exit") == part_of("texts", "EXIT")


def test_no_font_is_in_two_parts() -> None:
    families = [family for part in PARTS for family in font_families(part)]
    assert len(families) == len(set(families)) >= 18
    assert all(part_of("fonts", family) == "train" for family in font_families("train"))
    assert part_of("fonts", "Comic Sans MS") is None


def test_what_has_no_rule_is_said() -> None:
    with pytest.raises(UsageError, match=r'no split is known for "coco"; use one of flickr8k, daquar'):
        part_of("coco", "1.jpg")
    with pytest.raises(UsageError, match=r'split of daquar goes by number, and "image.jpg" has none'):
        part_of("daquar", "image.jpg")
    assert set(splits()) >= {"flickr8k", "daquar", "imagenet", "fonts", "texts"}
