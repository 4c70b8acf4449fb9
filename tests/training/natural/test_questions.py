"""Facts that captions prove together, what they leave in doubt, and the questions that come of them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.question_style import (
    NaturalQuestion,
    Told,
    as_sentence,
    as_typed,
    shaped,
    with_typo,
    yes_or_no,
)
from m3video.training.natural.questions import ASKED, QuestionMaker, actions, animals, colours, counts, objects, scenes

DOG = (
    "A black dog running through the snow .",
    "a black dog runs across the snow .",
    "A black dog wearing a blue collar is running through the snow .",
    "A black dog with a blue collar is running in the snow .",
    "The black dog has a blue collar on .",
)
CYCLIST = (
    "A man in a red shirt rides a bike .",
    "A man is riding a bicycle down a street .",
    "A man riding his bike on the street .",
    "The man wears a white helmet .",
    "Man on a bike .",
)
GIRLS = (
    "Two girls are playing soccer at night .",
    "Two girls kick a soccer ball .",
    "Two young girls play soccer .",
    "Girls with a ball on a grassy field .",
    "Two girls in uniforms .",
)
PICTURES = [DOG, CYCLIST, GIRLS] * 20


def answers(made: list[NaturalQuestion], kind: str) -> set[str]:
    """Return the answers of a kind, whatever length was asked for."""
    return {asked.answer for asked in made if asked.kind == kind}


def test_what_is_named_and_what_is_absent() -> None:
    dog, man, girls = Facts.of(DOG), Facts.of(CYCLIST), Facts.of(GIRLS)
    assert [dog.is_named(kind) for kind in ("dog", "animal", "snow", "cat", "person")] == [True] * 3 + [False] * 2
    assert [dog.is_absent(kind) for kind in ("cat", "person", "car", "dog", "animal", "snow")] == [True] * 3 + [
        False
    ] * 3
    assert man.is_named("bicycle")
    assert not man.is_absent("motorcycle"), "a bike may be one"
    assert not man.is_absent("car"), "there is a street"
    assert man.is_absent("woman")
    assert not girls.is_named("boy")
    assert not girls.is_absent("child")
    assert not girls.is_absent("man"), "somebody else may be there"


def test_a_picture_without_people_may_hide_none() -> None:
    hidden = ("A dog on a leash .", "A dog with its owner .", "A dog runs .", "A brown dog .", "A dog .")
    assert not Facts.of(hidden).is_absent("person")
    assert Facts.of(["A dog runs ."] * 5).is_absent("person")
    assert not Facts.of(["The street is empty ."] * 5).is_absent("person"), "no caption has a subject of its own"


def test_colours_need_one_thing_and_agreement() -> None:
    assert Facts.of(DOG).colour("dog") == "black"
    assert Facts.of((*DOG[:2], "A brown dog .")).colour("dog") is None
    assert Facts.of(("A black dog and a white dog .", "A black dog .")).colour("dog") is None
    assert Facts.of(("A grey cat .", "A gray cat .")).colour("cat") == "grey"
    assert Facts.of(("A yellow ball .", "A multicolored ball .")).colour("ball") is None


def test_numbers_need_agreement() -> None:
    assert Facts.of(GIRLS).count("girl") is None, "one caption says `girls` without a number"
    assert Facts.of(GIRLS[:3]).count("girl") == 2
    assert Facts.of(("Two dogs .", "Three dogs .")).count("dog") is None
    assert Facts.of(["A dog runs ."] * 3).count("dog") == 1
    assert Facts.of(["A dog runs ."] * 2).count("dog") is None
    assert Facts.of(("Two people .", "Two people .", "A crowd .")).count("person") is None


def test_scene_light_and_place() -> None:
    assert Facts.of(DOG).scene() == "outdoors"
    assert Facts.of(("A cat on a couch .", "A cat sleeps .")).scene() == "indoors"
    assert Facts.of(("A cat on a couch .", "A couch on the street .")).scene() is None
    assert Facts.of(("A man .", "A dog runs .")).scene() is None
    assert Facts.of(GIRLS).light() == "night"
    assert Facts.of(("A sunny day .",)).light() == "day"
    assert Facts.of(DOG).light() is None
    assert set(Facts.of(DOG).places()) == {("in", "the snow")}
    assert Facts.of(("A man looks at a dog in the snow .",)).places() == [("in", "the snow")]
    assert Facts.of(("A man with a dog in the snow .",)).places() == []


def test_questions_about_a_dog() -> None:
    facts, made = Facts.of(DOG), []
    for seed in range(60):
        rng = random.Random(seed)
        made += [*animals(facts, rng), *colours(facts, rng), *actions(facts, rng), *scenes(facts, rng)]
    assert answers(made, "animal") == {"dog", "a dog", "It is a dog."}
    assert answers(made, "colour") == {"black", "The dog is black."}
    assert answers(made, "colour yes/no") <= {"Yes", "No", "Yes, the dog is black.", "No, the dog is black."}
    assert answers(made, "action") == {
        *("running", "running through the snow", "running across the snow", "running in the snow"),
        *("The dog is running through the snow.", "The dog is running across the snow."),
        "The dog is running in the snow.",
    }
    assert answers(made, "where") == {"in the snow", "This is in the snow."}
    assert all("?" in asked.question or "." in asked.question for asked in made)


def test_questions_about_a_cyclist() -> None:
    facts, made = Facts.of(CYCLIST), []
    for seed in range(60):
        rng = random.Random(seed)
        made += [*objects(facts, rng), *counts(facts, rng)]
    assert answers(made, "object") == {
        *("a bike", "bike", "The man is riding a bike.", "bicycle", "a bicycle", "The man is riding a bicycle."),
        *("his bike", "The man is riding his bike.", "helmet", "a white helmet", "The man is wearing a white helmet."),
    }
    assert answers(made, "who") == {"man", "a man", "A man is riding a bike.", "A man is riding a bicycle."}
    assert answers(made, "count") <= {"one", "There is one man in the picture."}


def test_each_thing_is_there_as_often_as_not() -> None:
    maker, rng, said = QuestionMaker(PICTURES), random.Random(0), Counter[tuple[str, bool]]()
    for facts in [Facts.of(captions) for captions in PICTURES[:3]]:
        for _ in range(400):
            for asked in maker.presence(facts, rng):
                thing = next(kind for kind in ("bicycle", "bike", *ASKED) if f" {kind}" in asked.question)
                said[thing, asked.answer.startswith("Yes")] += 1
    things = {thing for thing, _ in said}
    assert {"dog", "man", "animal"} <= things
    for thing in things:
        yes, no = said[thing, True], said[thing, False]
        assert abs(yes - no) < 4 * (yes + no) ** 0.5, f"{thing}: {yes} yes, {no} no"


def test_one_seed_gives_the_same_questions_again() -> None:
    maker = QuestionMaker(PICTURES)
    first = [maker.all_of(captions, random.Random(7)) for captions in PICTURES[:3]]
    assert first == [maker.all_of(captions, random.Random(7)) for captions in PICTURES[:3]]
    assert first[0] != maker.all_of(DOG, random.Random(8))


def test_what_is_absent_is_said_to_be() -> None:
    maker, found = QuestionMaker(PICTURES), set()
    for seed in range(80):
        found |= {
            (a.question, a.answer) for a in maker.absences(Facts.of(DOG), random.Random(seed)) if a.kind == "absent"
        }
    assert found
    for question, answer in found:
        thing = answer.removeprefix("There is no ").removesuffix(".").removesuffix(" in the picture")
        assert f"the {thing}" in question
        assert thing not in {"dog", "animal", "snow"}


def test_an_answer_is_as_long_as_asked_for() -> None:
    told = Told("dog", "a dog", "it is a dog")
    for seed in range(100):
        asked = shaped("animal", ["What is it?"], told, random.Random(seed))
        wish = asked.question.removeprefix("What is it?").strip().lower()
        if "sentence" in wish:
            assert asked.answer == "It is a dog."
        else:
            assert asked.answer == ("dog" if "word" in wish and "few words" not in wish else "a dog")
    long = [
        shaped("where", ["Where?"], Told("", "in the snow", "it is in the snow"), random.Random(s)) for s in range(99)
    ]
    assert not any("one word" in asked.question for asked in long)
    assert {yes_or_no("x", ["Is it?"], False, "it is not", random.Random(s)).answer for s in range(40)} == {
        "No",
        "No, it is not.",
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a dog runs .", "A dog runs."), ("A man 's dog , wet", "A man's dog, wet."), (" Two dogs", "Two dogs.")],
)
def test_captions_become_sentences(text: str, sentence: str) -> None:
    assert as_sentence(text) == sentence


def test_questions_are_typed_as_people_do_at_the_stated_rates() -> None:
    rng, asked = random.Random(1), NaturalQuestion("What Animal is this?", "a dog", "animal")
    typed = [as_typed(asked, rng) for _ in range(4000)]
    assert {question.answer for question in typed} == {"a dog"}
    plain = asked.question.lower().rstrip("?")
    wrong = sum(question.question.lower().rstrip("?") != plain for question in typed) / 4000
    assert 0.035 < wrong < 0.065
    assert 0.12 < sum(question.question.islower() for question in typed) / 4000 < 0.18
    assert 0.08 < sum(not question.question.endswith("?") for question in typed) / 4000 < 0.12


def test_a_typo_spares_quotes_and_short_words() -> None:
    assert with_typo("is it so", random.Random(0)) == "is it so"
    for seed in range(50):
        typed = with_typo('Is the word "taxi rank" there', random.Random(seed))
        assert '"taxi rank"' in typed
        assert typed != 'Is the word "taxi rank" there'
        assert abs(len(typed) - len('Is the word "taxi rank" there')) <= 1
