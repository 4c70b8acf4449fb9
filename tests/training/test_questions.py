"""Questions are answerable and true, and use no word that the tokenizer lacks."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.training.facts import local_ids, matching_facts
from m3video.training.questions import (
    FAMILIES,
    SHARES,
    Question,
    draw_questions,
    is_certain,
    plain_answer,
    refined,
    when_question,
)
from m3video.training.scenes import Facts, ShapeFact, facts_at, place_of, sample_shot
from m3video.training.sequences import referred, word_ids
from m3video.utils.clock import whole_clock
from tests.training.drawn import CONTENTS, frame_of, keys_of, shot_of

SEEDS = st.integers(0, 2**32)
NUMBERS = local_ids()


def sample_facts(rng: random.Random, number: int) -> list[Facts]:
    return [facts_at(sample_shot(rng, held_out=rng.random() < 0.5), rng.random()) for _ in range(number)]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_every_word_of_questions_and_answers_is_in_the_vocabulary(seed: int) -> None:
    rng = random.Random(seed)
    frames = sample_facts(rng, rng.randint(1, 16))
    for question in draw_questions(frames, [1.3 * n for n in range(len(frames))], rng, number=30, when_share=0.2):
        for word in (*question.question.split(), *question.answer.split()):
            assert word in word_ids(), (word, question)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_question_names_its_frame_and_no_time_that_two_frames_share(seed: int) -> None:
    rng = random.Random(seed)
    frames = sample_facts(rng, rng.randint(2, 16))
    seconds = sorted(rng.uniform(0, 8) for _ in frames)
    named = [whole_clock(second) for second in seconds]
    for question in draw_questions(frames, seconds, rng, number=30, unnamed_share=0.0):
        if question.family in ("when", "first"):
            continue
        number, time = referred(question.question.split())
        assert bool(number) != bool(time)
        if number:
            assert int(number) == question.frame + 1
        else:
            assert named.count(time) == 1
            assert named[question.frame] == time


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_question_that_names_no_frame_has_one_answer_in_all_of_them(seed: int) -> None:
    rng = random.Random(seed)
    frames = sample_facts(rng, rng.randint(2, 6))
    frames.insert(rng.randrange(len(frames)), rng.choice(frames))
    for question in draw_questions(frames, range(len(frames)), rng, number=12, when_share=0.0, unnamed_share=1.0):
        assert referred(question.question.split()) == ("", "")
        for facts in frames:
            asked = [FAMILIES[question.family](facts, random.Random(draw)) for draw in range(60)]
            answers = {a.answer for a in asked if a is not None and a.question == question.question}
            assert answers - {"there is none"} <= {question.answer}


@pytest.mark.parametrize("family", ["shape colour", "place", "row", "sign", "entry"])
def test_every_family_with_a_subject_is_also_asked_without_naming_the_frame(family: str) -> None:
    content = {"row": "board", "sign": "sign", "entry": "table"}.get(family, "shapes")
    frames = [facts_at(shot_of(name, 3), 0.5) for name in ("empty", content, "page")]
    asked = draw_questions(frames, (0.0, 1.0, 2.0), random.Random(0), number=40, families=(family,), when_share=0.0)
    unnamed = [question for question in asked if referred(question.question.split()) == ("", "")]
    assert unnamed
    assert {question.frame for question in unnamed} == {1}
    assert len(unnamed) < len(asked)


def test_a_sign_that_stands_on_two_frames_is_no_subject_unless_it_is_the_same() -> None:
    blank = Facts("green", False, (), None, None, False)
    first, second = blank._replace(sign="exit"), blank._replace(sign="stop")
    assert is_certain("sign", "what does the sign say", [blank, first], 1)
    assert is_certain("sign", "what does the sign say", [first, blank, first], 0)
    assert not is_certain("sign", "what does the sign say", [first, second], 0)
    assert not is_certain("background", "what colour is the background", [first, blank], 0)


@settings(max_examples=120, deadline=None)
@given(SEEDS, st.sampled_from(CONTENTS))
def test_answers_follow_from_the_facts(seed: int, content: str) -> None:
    facts = facts_at(shot_of(content, seed), 0.5)
    for question in draw_questions([facts], [0.0], random.Random(seed), number=30):
        words, answer = question.question.split(), question.answer
        row, column = (int(words[words.index(name) + 1]) if name in words else 0 for name in ("row", "column"))
        if question.family == "background":
            assert answer == facts.background
            assert content not in ("board", "page", "table")
        elif question.family == "light":
            assert answer == ("night" if facts.night else "day")
        elif question.family == "shape colour" and answer != "there is none":
            assert answer in {shape.colour for shape in facts.shapes}
        elif question.family == "tile":
            assert facts.board is not None
            assert answer == facts.board[row - 1][column - 1]
        elif question.family == "entry":
            assert facts.table is not None
            assert answer == facts.table[row - 1][column - 1]
        elif question.family == "row" and facts.board:
            assert "table" not in words
            assert answer.split() == list(facts.board[row - 1])
        elif question.family == "row":
            assert facts.table is not None
            assert "table" in words
            assert plain_answer(answer) == facts.table[row - 1]
        elif question.family == "sign":
            assert plain_answer(answer) == facts.sign
        elif question.family == "what":
            named = {"board": "a board", "table": "a table", "page": "a page", "sign": "a sign", "empty": "nothing"}
            assert content == "shapes" or answer.startswith(named[content])
            lines = facts.board or facts.table
            assert lines is None or str(len(lines)) in answer.split()
        elif question.family == "present":
            there = {"sign": facts.sign, "board": facts.board, "table": facts.table, "page": facts.page}
            thing = next((name for name in there if name in words), "")
            assert answer == ("yes" if (there[thing] if thing else facts.shapes) else "no")


def says(question: Question, number: int, key: tuple[object, ...]) -> bool:
    """Whether a cell's local fact is what word `number` of the answer says."""
    word = question.answer.split()[number].removeprefix("##")
    if question.family == "place":
        return question.answer == key[3]
    if question.family == "sign" and not question.answer[0].isdigit():
        return key[0] == "letter" and question.answer.upper()[int(str(key[1])) - 1] == key[2]
    return (
        word
        == key[{"tile": 3, "entry": 3, "letter": 2, "here": 2 if question.family == "shape kind" else 1}[str(key[0])]]
    )


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.sampled_from(CONTENTS))
def test_the_answer_stands_where_the_question_points(seed: int, content: str) -> None:
    facts, cells = frame_of(shot_of(content, seed))
    shown = keys_of(cells)
    for question in draw_questions([facts], [0.0], random.Random(seed), number=30):
        assert len(question.looks) <= len(question.answer.split())
        fine = question.family in ("tile", "entry", "row", "sign", "place", "shape kind")
        assert not fine or len(question.looks) == len(question.answer.split())
        for number, look in enumerate(question.looks):
            found = [key for key in shown if matching_facts(look)[NUMBERS[key]]]
            assert all(says(question, number, key) for key in found), (question, found)
            # A tile of twelve may lie between the cells' centres, and a shape may be covered.
            assert found or (facts.board and len(facts.board) == 12) or len(facts.shapes) > 1


def test_all_that_cells_tell_is_asked_with_a_place_to_look_at() -> None:
    asked: Counter[str] = Counter()
    for content in CONTENTS:
        for seed in range(10):
            facts = facts_at(shot_of(content, seed), 0.5)
            asked.update(q.family for q in draw_questions([facts], [0.0], random.Random(seed), number=30) if q.looks)
    assert set(asked) == {"shape colour", "shape kind", "place", "sign", "row", "tile", "entry"}
    assert min(asked.values()) > 10
    assert set(SHARES) == set(FAMILIES)


def test_a_kind_that_stands_twice_is_not_asked_for_its_colour() -> None:
    twins = (ShapeFact("red", "circle", "left", True), ShapeFact("blue", "circle", "right", True))
    facts = Facts("green", False, twins, None, None, False)
    assert all(FAMILIES["shape colour"](facts, random.Random(seed)) is None for seed in range(40))


def test_when_names_the_first_frame_of_several() -> None:
    empty, sign = Facts("red", False, (), None, None, False), Facts("red", False, (), "stop", None, False)
    frames, times = [empty, sign, sign], ["0:00", "0:02", "0:04"]
    asked = [when_question(frames, times, random.Random(seed)) for seed in range(40)]
    answers = Counter(question.answer for question in asked if question)
    # Nothing else is to be seen: there are no two things to compare.
    assert set(answers) == {"0:02", "frame 2"}
    assert {question.frame for question in asked if question} == {1}


def shows(facts: Facts, noun: str) -> bool:
    whole = {"a sign": facts.sign, "a board": facts.board, "a table": facts.table, "a page of text": facts.page}
    if noun in whole:
        return bool(whole[noun])
    return any(noun == f"a {shape.colour} {shape.kind}" for shape in facts.shapes)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_what_comes_first_is_named_with_its_frame(seed: int) -> None:
    rng = random.Random(seed)
    frames = sample_facts(rng, rng.randint(2, 10))
    times = [f"time {n}" for n in range(len(frames))]
    for _ in range(12):
        question = when_question(frames, times, rng)
        if question is None:
            continue
        assert question.looks == ()
        if question.family == "when":
            noun = question.question.split(" does ")[1].removesuffix(" first appear")
            assert question.answer in (times[question.frame], f"frame {question.frame + 1}")
            assert [shows(facts, noun) for facts in frames].index(True) == question.frame
            continue
        assert question.family == "first"
        nouns = question.question.split(" first ")[1].split(" or ")
        assert question.answer in nouns
        began = {noun: [shows(facts, noun) for facts in frames].index(True) for noun in nouns}
        assert question.frame == began[question.answer] == min(began.values())
        assert len(set(began.values())) == 2


def test_the_thing_that_comes_first_is_named_first_as_often_as_last() -> None:
    sign, board = Facts("red", False, (), "stop", None, False), Facts("red", False, (), None, (("red",),), False)
    asked = [when_question([sign, board], ["0:00", "0:02"], random.Random(seed)) for seed in range(400)]
    firsts = [question for question in asked if question and question.family == "first"]
    assert {(question.answer, question.frame) for question in firsts} == {("a sign", 0)}
    share = sum(question.question.endswith(" a board or a sign") for question in firsts) / len(firsts)
    assert len(firsts) > 30
    assert 0.3 < share < 0.7


@pytest.mark.parametrize(
    ("content", "family", "name"),
    [("table", "row", "row table"), ("table", "entry", "entry"), ("empty", "shape colour", "shape colour none")],
)
def test_families_are_named_by_what_makes_them_hard(content: str, family: str, name: str) -> None:
    assert refined(family, facts_at(shot_of(content, 0), 0.5)) == name
    board = facts_at(shot_of("board", 0, board=6), 0.5)
    assert [refined(f, board) for f in ("row", "tile", "light")] == ["row 6x6", "tile 6x6", "light"]


def test_places_near_a_border_are_not_clear() -> None:
    assert place_of(0.5, 0.5) == ("middle", True)
    assert place_of(0.1, 0.9) == ("bottom left", True)
    assert place_of(1 / 3 + 0.01, 0.5) == ("middle", False)
