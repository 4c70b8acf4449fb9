"""Questions are answerable and true, and use no word that the tokenizer lacks."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.training.questions import FAMILIES, ask, board_cells, fact_ids, fact_list, when_question
from m3video.training.scenes import Facts, ShapeFact, facts_at, place_of, sample_shot
from m3video.training.sequences import referred, word_ids
from m3video.training.words import BACKGROUND_COLOURS, clock_words

SEEDS = st.integers(0, 2**32)


def sample_facts(rng: random.Random, number: int) -> list[Facts]:
    return [facts_at(sample_shot(rng, held_out=rng.random() < 0.5), rng.random()) for _ in range(number)]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_every_word_of_questions_and_answers_is_in_the_vocabulary(seed: int) -> None:
    rng = random.Random(seed)
    frames = sample_facts(rng, rng.randint(1, 16))
    for question in ask(frames, [1.3 * n for n in range(len(frames))], rng, number=30, when_share=0.2):
        for word in (*question.question.split(), *question.answer.split()):
            assert word in word_ids(), (word, question)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_question_names_its_frame_and_no_time_that_two_frames_share(seed: int) -> None:
    rng = random.Random(seed)
    frames = sample_facts(rng, rng.randint(2, 16))
    seconds = sorted(rng.uniform(0, 8) for _ in frames)
    named = [clock_words(second) for second in seconds]
    for question in ask(frames, seconds, rng, number=30):
        if question.family == "when":
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
def test_answers_follow_from_the_facts(seed: int) -> None:
    rng = random.Random(seed)
    (facts,) = sample_facts(rng, 1)
    for question in ask([facts], [0.0], rng, number=30):
        words, answer = question.question.split(), question.answer
        if question.family == "background":
            assert answer == facts.background
            assert not facts.board
            assert not facts.page
        elif question.family == "light":
            assert answer == ("night" if facts.night else "day")
        elif question.family == "shape colour" and answer != "there is none":
            assert answer in {shape.colour for shape in facts.shapes}
        elif question.family == "tile":
            assert facts.board is not None
            row, column = (int(words[words.index(name) + 1]) for name in ("row", "column"))
            assert answer == facts.board[row - 1][column - 1]
        elif question.family == "sign":
            assert answer.replace(" ##", "") == facts.sign


def test_a_kind_that_stands_twice_is_not_asked_for_its_colour() -> None:
    twins = (ShapeFact("red", "circle", "left", True), ShapeFact("blue", "circle", "right", True))
    facts = Facts("green", False, twins, None, None, False)
    assert all(FAMILIES["shape colour"](facts, random.Random(seed)) is None for seed in range(40))


def test_when_names_the_first_frame_of_several() -> None:
    empty, sign = Facts("red", False, (), None, None, False), Facts("red", False, (), "stop", None, False)
    frames, times = [empty, sign, sign], ["0:00", "0:02", "0:04"]
    asked = [when_question(frames, times, random.Random(seed)) for seed in range(40)]
    answers = Counter(question.answer for question in asked if question)
    assert set(answers) == {"0:02", "frame 2"}
    assert {question.frame for question in asked if question} == {1}


def test_places_near_a_border_are_not_clear() -> None:
    assert place_of(0.5, 0.5) == ("middle", True)
    assert place_of(0.1, 0.9) == ("bottom left", True)
    assert place_of(1 / 3 + 0.01, 0.5) == ("middle", False)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_facts_are_numbered_and_tell_the_frame_apart(seed: int) -> None:
    (facts,) = sample_facts(random.Random(seed), 1)
    numbers = fact_list(facts)
    assert len(set(numbers)) == len(numbers)
    assert fact_ids()[("night", facts.night)] in numbers
    assert fact_ids()[("night", not facts.night)] not in numbers


def test_a_board_is_the_tile_facts_of_its_cells() -> None:
    board = tuple(tuple(BACKGROUND_COLOURS[(r + c) % 8] for c in range(6)) for r in range(6))
    cells = board_cells(board).reshape(24, 24)
    assert np.array_equal(cells[0:4, 4:8], np.full((4, 4), 1 * 8 + 1))
    assert len(np.unique(cells)) == 36
