"""What single captions say: things with number and colours, and what their subject does."""

from __future__ import annotations

import pytest

from m3video.training.natural.caption_parse import parse, words_of
from m3video.training.natural.nouns import all_kinds, plural, singular, with_article
from m3video.training.natural.verbs import form, gerund, third_person


def test_nouns_are_found_in_singular_and_plural() -> None:
    words = ("dog", "puppies", "boxes", "benches", "buses", "scarves", "men", "people", "sheep", "glasses", "dresses")
    assert [singular(word) for word in words] == [
        ("dog", False),
        ("puppy", True),
        ("box", True),
        ("bench", True),
        ("bus", True),
        ("scarf", True),
        ("man", True),
        ("people", True),
        ("sheep", False),
        ("glasses", False),
        ("dress", True),
    ]
    assert singular("quickly") is None
    assert [plural(noun) for noun in ("puppy", "man", "bench", "person", "sheep", "boy")] == [
        "puppies",
        "men",
        "benches",
        "people",
        "sheep",
        "boys",
    ]
    assert [with_article(noun) for noun in ("dog", "airplane", "snow", "unicycle", "ice_cream")] == [
        "a dog",
        "an airplane",
        "snow",
        "a unicycle",
        "ice cream",
    ]
    assert all_kinds("puppy") == ("puppy", "dog", "animal")


def test_verbs_are_found_in_their_forms() -> None:
    verbs = ("run", "ride", "lie", "catch", "fly", "sit", "play", "go", "carry")
    assert [gerund(verb) for verb in verbs] == [
        "running",
        "riding",
        "lying",
        "catching",
        "flying",
        "sitting",
        "playing",
        "going",
        "carrying",
    ]
    assert [third_person(verb) for verb in verbs] == [
        "runs",
        "rides",
        "lies",
        "catches",
        "flies",
        "sits",
        "plays",
        "goes",
        "carries",
    ]
    assert form("swimming") == ("swim", "gerund")
    assert form("blue") is None


def test_names_of_several_words_are_joined() -> None:
    assert words_of("A German shepherd in front of a boy 's T-shirt, near soccer balls.") == (
        *("a", "german_shepherd", "in_front_of", "a", "boy's", "t-shirt", ",", "near", "soccer_balls", "."),
    )


def test_a_thing_has_an_article_a_number_and_colours() -> None:
    first, second = parse("Two men stand by a black and white dog .").mentions
    assert (first.noun, first.plural, first.count, first.phrase) == ("man", True, 2, "two men")
    assert (second.noun, second.plural, second.count, second.colours) == ("dog", False, 1, ("black", "white"))
    assert second.phrase == "a black and white dog"
    (ball,) = parse("a dark blue and yellow soccer ball").mentions
    assert (ball.noun, ball.colours, ball.text) == (
        "soccer_ball",
        ("dark blue", "yellow"),
        "dark blue and yellow soccer ball",
    )
    assert parse("Man riding bike .").mentions[1].phrase == "a bike"
    assert parse("another dog").mentions[0].another


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("A dog show on a street .", ["street"]),
        ("A street sign near a car race .", ["sign"]),
        ("A dog runs , a dog jumping .", ["dog", "dog"]),
        ("A man watches dogs jump over a swing .", ["man", "dog", "swing"]),
        ("Dogs watch a boy .", ["dog", "boy"]),
        ("A boy swings .", ["boy"]),
        ("A man and a dog stand on a rock .", ["man", "dog", "rock"]),
        ("A girl eats an ice cream cone .", ["girl"]),
        ("A man in a car racing hat .", ["man", "hat"]),
        ("A man in a busy city street .", ["man", "street"]),
    ],
)
def test_a_part_of_a_name_and_a_verb_are_no_things(caption: str, nouns: list[str]) -> None:
    assert [mention.noun for mention in parse(caption).mentions] == nouns


@pytest.mark.parametrize("thing", ["A stuffed dog", "A toy dog", "The statue of a dog", "A dog costume"])
def test_what_only_looks_like_a_thing_is_none(thing: str) -> None:
    assert not [m for m in parse(f"{thing} on a table .").mentions if m.noun == "dog" and m.real]


@pytest.mark.parametrize(
    ("caption", "done"),
    [
        ("A brown dog runs through the deep snow .", "running through the deep snow"),
        ("Two men in red shirts are climbing a rock wall .", "climbing a rock wall"),
        ("A boy wearing a hat is sitting on a bench while his dog sleeps .", "sitting on a bench"),
        ("A woman with long hair sits on a bench reading a book .", "sitting on a bench"),
        ("A man sitting outside reading a book .", "sitting outside reading a book"),
        ("Two dogs swim after a stick .", "swimming after a stick"),
        ("A girl is holding a balloon and smiling .", "holding a balloon and smiling"),
        ("A child dances and a man watches .", "dancing"),
        ("A dog standing on his hind legs has his head up .", "standing on his hind legs"),
        ("A man in an overcoat stands in a yard as snow falls .", "standing in a yard"),
        ("A boy sits on a bench with his arm around a very old lady .", "sitting on a bench"),
        ("A man and a woman dance .", None),
        ("A girl swims in a large body of water .", "swimming in the water"),
        ("A dog in the grass .", None),
    ],
)
def test_what_the_subject_does(caption: str, done: str | None) -> None:
    assert parse(caption).done == done
