"""The closed vocabulary, its tokenizer, and that the prompt of training is the prompt of inference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3video.model.m3.prompt import build_prompt
from m3video.model.tokenizer import IMAGE_ID, load_text, prompt_ids
from m3video.training.questions import plain_answer, spell
from m3video.training.sequences import clip_words, word_ids
from m3video.training.words import BOS, EOS, IMAGE, PAD, UNK, save_tokenizer, vocabulary
from m3video.utils.clock import whole_clock
from tests.paths import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(path)
    return path


def test_special_tokens_have_their_fixed_ids() -> None:
    assert [word_ids()[word] for word in (PAD, BOS, EOS, UNK, IMAGE)] == [0, 1, 2, 3, 4]
    assert len(set(vocabulary())) == len(vocabulary())


def test_every_word_is_one_token_and_bos_is_not_added(folder: Path) -> None:
    codec = load_text(folder)
    words = [word for word in vocabulary() if not word.startswith(("<", "##"))]
    assert codec.encode(" ".join(words)) == [word_ids()[word] for word in words]


def test_case_and_punctuation_do_not_matter_but_the_colon_of_a_time_does(folder: Path) -> None:
    codec = load_text(folder)
    assert codec.encode("What COLOUR is the background, at 0:07?!") == codec.encode(
        "what colour is the background at 0:07"
    )
    assert codec.encode("0:07") == [word_ids()["0:07"]]


def test_a_word_outside_the_vocabulary_is_named(folder: Path) -> None:
    assert load_text(folder).unknown_words("what colour is the zeppelin") == ["zeppelin"]


@pytest.mark.parametrize("sign", ["stop", "7", "47", "4721", "0"])
def test_sign_texts_are_spelled_in_tokens_and_decode_to_themselves(folder: Path, sign: str) -> None:
    ids = [word_ids()[token] for token in spell(sign).split()]
    assert load_text(folder).decode([*ids, word_ids()[EOS]]) == sign == plain_answer(spell(sign))


@pytest.mark.parametrize("seconds", [0.0, 3.99, 59.999, 60.0, 599.9, 600.0, 3661.2])
def test_a_time_below_ten_minutes_is_one_token(seconds: float) -> None:
    assert (whole_clock(seconds) in word_ids()) == (seconds < 600)


def test_training_and_inference_write_a_prompt_alike(folder: Path) -> None:
    seconds, scales, question = (0.4, 7.9, 61.0), (1, 9, 1), "what colour is the background in frame 2"
    prompt = build_prompt("rendered", question, num_frames=3, times_seconds=seconds)
    inference: list[int] = []
    left = list(scales)
    for token in prompt_ids(load_text(folder), prompt):
        inference += [word_ids()[IMAGE]] * left.pop(0) if token == IMAGE_ID else [token]
    training = [*clip_words(seconds, scales), "question", *question.split(), "answer"]
    assert inference == [word_ids()[word] for word in training]


def test_the_rendered_tokenizer_is_this_vocabulary() -> None:
    path = ROOT / "m3video" / "assets" / "rendered" / "tokenizer.json"
    assert json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"] == word_ids()
