"""Questions about what is named: ImageNet's classes, and DAQUAR's own questions made tidy."""

from __future__ import annotations

import random

import pytest

from m3video.training.natural import photos
from m3video.training.natural.look_at_questions import samples
from m3video.training.natural.named_objects import KIND_RANGES, MADE_KINDS, article, daquar_questions, kind_of, named
from m3video.training.natural.photos import Asked, Named
from tests.paths import PHOTOS

BEAGLE = Named("n02088364_beagle.jpg", 162, "n02088364", "beagle")
GUITAR = Named("n02676566_acoustic_guitar.jpg", 402, "n02676566", "acoustic guitar")
ABACUS = Named("n02666196_abacus.jpg", 398, "n02666196", "abacus")
needs_photos = pytest.mark.skipif(not (PHOTOS / "imagenet").is_dir(), reason=f"needs the pictures in {PHOTOS}")


def found(photo: Named) -> dict[str, set[str]]:
    """Return the answers of each kind of question over many seeds."""
    answers: dict[str, set[str]] = {}
    for seed in range(150):
        for asked in named(photo, random.Random(seed)):
            answers.setdefault(asked.kind, set()).add(asked.answer)
    return answers


def test_an_animal_is_named_with_its_kind() -> None:
    assert found(BEAGLE) == {
        "name": {"beagle", "a beagle", "This is a beagle."},
        "animal": {"dog", "a dog", "It is a dog."},
        "animal yes/no": {"Yes", "No", "Yes, it is a dog.", "No, it is a dog."},
    }


def test_yes_is_for_its_own_kind_and_no_for_one_far_from_it() -> None:
    asked = [q for seed in range(300) for q in named(BEAGLE, random.Random(seed)) if q.kind == "animal yes/no"]
    others = ("cat", "fish", "bear", "bird", "snake", "monkey")
    assert not [q for q in asked if q.answer.startswith("Yes") and any(f" {k}" in q.question for k in others)]
    assert not [q for q in asked if q.answer.startswith("No") and " dog" in q.question]
    assert not [q for q in asked if " wolf" in q.question or " fox" in q.question]
    assert 100 < sum(q.answer.startswith("Yes") for q in asked) < 200


def test_a_thing_is_named_with_what_it_is_one_of() -> None:
    assert found(GUITAR)["name"] == {"an acoustic guitar", "This is an acoustic guitar."}
    assert found(GUITAR)["kind"] == {"a musical instrument", "It is a musical instrument."}
    assert found(ABACUS) == {"name": {"abacus", "an abacus", "This is an abacus."}}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unicycle", "a unicycle"),
        ("ox", "an ox"),
        ("European gallinule", "a European gallinule"),
        ("chocolate sauce", "chocolate sauce"),
        ("sunglasses", "sunglasses"),
        ("parallel bars", "parallel bars"),
        ("crane (bird)", "a crane"),
    ],
)
def test_articles(name: str, said: str) -> None:
    assert article(name) == said


def test_ranges_of_kinds_do_not_overlap() -> None:
    numbers = [number for first, last, _ in KIND_RANGES for number in range(first, last + 1)]
    assert len(numbers) == len(set(numbers))
    assert max(numbers) <= 397


def test_typed_questions_are_made_tidy() -> None:
    photo = Asked("image7.jpg", (("waht is on the wall", "wall_decoration"), ("what is left", "refridgerator, sofa")))
    for seed in range(20):
        first, second = daquar_questions(photo, random.Random(seed))
        assert first.question.lower() == "what is on the wall?"
        assert (first.answer, second.answer) == ("wall decoration", "refrigerator, sofa")


@needs_photos
def test_all_classes_have_the_kind_that_their_name_says() -> None:
    classes = [c for part in ("train", "test") for c in photos.imagenet(PHOTOS, part)]  # type: ignore[arg-type]
    assert len(classes) == 1000
    assert MADE_KINDS.keys() <= {c.name for c in classes}
    for ending, kind in (("terrier", "dog"), ("spaniel", "dog"), ("snake", "snake"), ("spider", "spider")):
        assert {kind_of(c) for c in classes if c.name.split()[-1] == ending} == {kind}
    assert {kind_of(c) for c in classes if c.name == "crane"} == {"bird", None}


@needs_photos
def test_samples_show_captions_and_their_questions() -> None:
    lines = samples(PHOTOS, pictures=3, seed=1, part="dev")
    assert sum(line.startswith("    ") for line in lines) == 15
    assert sum("[description]" in line for line in lines) == 3
    assert all("->" in line for line in lines if line.startswith("  ["))
