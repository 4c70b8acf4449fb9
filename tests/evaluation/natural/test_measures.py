"""Each measurement counts right: answers come from a fake that is told what to say."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from m3video.evaluation.captions import cider_d
from m3video.evaluation.natural import names, pictures, rooms
from m3video.evaluation.natural.asking import Case, answer_likelihoods
from m3video.evaluation.natural.rows import Row
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pack_tokens
from m3video.model.tokenizer import prompt_ids
from m3video.training.natural.photos import Captioned
from tests.evaluation.natural.made import bench, blocks, write_set

DOG = ("A brown dog runs through the snow .", "A dog is running in the snow .") * 2
MEN = ("Two men sit on a bench .", "Two men are sitting on a wooden bench .") * 2
CAT = ("A cat sleeps on a couch .", "The cat is asleep on the couch .") * 2
CAR = ("A red car drives through a tunnel .", "A car is in a dark tunnel .") * 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    flickr = [{"image": f"{n}.jpg", "captions": list((DOG, MEN, CAT, CAR)[n % 4])} for n in range(8)]
    write_set(made, "flickr8k/dev.jsonl", flickr)
    rows = [("how many chairs are there", "2"), ("what is on the bed", "pillow, blanket"), ("what color is it", "red")]
    # Numbers 10 to 19 are one block of the split; 0 to 9 another.
    daquar = [{"image": f"image{n}.jpg", "question": q, "answer": a} for n in range(40) for q, a in rows]
    write_set(made, "daquar/questions.jsonl", daquar)
    return made


def row(found: Sequence[Row], what: str, scale: int) -> Row:
    (one,) = [one for one in found if one.what == what and one.scale == scale]
    return one


def test_captions_are_scored_against_all_of_the_part(
    tiny_chatml: LoadedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {9: "A cat sleeps on a couch."}

    def answers(loaded: LoadedModel, cases: Sequence[Case], **_: Any) -> list[list[str]]:
        return [[said.get(len(case.blocks[0]), "nothing")] for case in cases]

    monkeypatch.setattr(pictures, "greedy_answers", answers)
    monkeypatch.setattr(pictures, "CAPTION_SCALES", (1, 9))
    found = pictures.captions(bench(tiny_chatml, folder, limit=6))
    chosen = pictures.drawn([Captioned(f"{n}.jpg", (DOG, MEN, CAT, CAR)[n % 4]) for n in range(8)], 6, 0)
    corpus = [(DOG, MEN, CAT, CAR)[n % 4] for n in range(8)]
    expected = cider_d([said[9]] * 6, [photo.captions for photo in chosen], corpus=corpus)
    assert row(found, "CIDEr-D", 9).interval.value == pytest.approx(expected.mean)
    assert row(found, "CIDEr-D", 9).interval.value > 0
    assert row(found, "CIDEr-D", 1).interval.value == 0
    assert row(found, "share that no other picture has", 9).interval.value == 0


def test_documents_are_those_of_the_corpus() -> None:
    one, other = ["a dog runs"], ["a cat sits"]
    alone = cider_d(["a dog runs"], [one])
    assert alone.mean == 0  # every word is in every picture
    assert cider_d(["a dog runs"], [one], corpus=[one, other]).mean == cider_d(one + other, [one, other]).each[0] > 0


def test_presence_is_balanced_over_yes_and_no(
    tiny_chatml: LoadedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Yes to everything is right on every yes and wrong on every no."""
    monkeypatch.setattr(pictures, "PRESENCE_SCALES", (1,))
    monkeypatch.setattr(pictures, "first_words", lambda bench, cases: yes_to_all(cases))
    found = pictures.presence(bench(tiny_chatml, folder))
    assert row(found, "balanced accuracy, likelier", 1).interval.value == pytest.approx(0.5)
    assert row(found, "balanced accuracy, greedy", 1).interval.value == pytest.approx(0.5)
    assert row(found, "share of yes, likelier", 1).interval.value == 1
    assert 0.2 < row(found, "share of yes, likelier", 1).beside["true"] < 0.8


def yes_to_all(cases: Sequence[Case]) -> tuple[list[str], list[bool]]:
    count = sum(len(case.questions) for case in cases)
    return ["Yes"] * count, [True] * count


def test_first_words_are_those_of_the_answer(tiny_chatml: LoadedModel, folder: Path) -> None:
    questions = ("Is there a user?", "er", "12")
    cases = [Case((block,), questions) for block in blocks(3, 9)]
    said, likelier = pictures.first_words(bench(tiny_chatml, folder), cases)
    yes, no = (tiny_chatml.codec.encode(word)[0] for word in ("Yes", "No"))
    expected = []
    for case in cases:
        visual = pack_tokens(case.blocks, [9])
        for question in questions:
            prompt = inputs.frames_prompt(tiny_chatml, question, num_frames=1, times_seconds=None)
            embeds = inputs.embed(tiny_chatml, prompt_ids(tiny_chatml.codec, prompt), [visual.tokens_TD])
            with torch.inference_mode():
                expected.append(tiny_chatml.model(inputs_embeds=embeds).logits[0, -1])
    assert likelier == [bool(logits[yes] > logits[no]) for logits in expected]
    assert said == [tiny_chatml.codec.decode([int(logits.argmax())]).strip() for logits in expected]
    assert len(set(likelier)) == 2


def test_the_first_word_of_an_answer() -> None:
    assert pictures.first_word("No, there is none.") == "no"
    assert pictures.first_word("Yes.") == "yes"
    assert pictures.first_word("Nobody") == "nobody"
    assert pictures.first_word("12") == ""


def test_rooms_beside_the_commonest_answer(
    tiny_chatml: LoadedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"how": "2.", "what is": "A blanket, pillow", "what color": "blue"}

    def answers(loaded: LoadedModel, cases: Sequence[Case], **_: Any) -> list[list[str]]:
        return [[said[next(k for k in said if q.lower().startswith(k))] for q in case.questions] for case in cases]

    monkeypatch.setattr(rooms, "greedy_answers", answers)
    monkeypatch.setattr(rooms, "SCALES_SHOWN", (9,))
    monkeypatch.setattr(rooms, "common_answers", lambda pairs: {"count": "1", "colour": "red", "object": "bed"})
    part = next(p for p in ("dev", "test") if list(rooms.photos.daquar(folder, p)))
    found = rooms.rooms(bench(tiny_chatml, folder, part=part))
    assert {o.what: o.interval.value for o in found if o.what.startswith("exact match, ")} == {
        "exact match, all": pytest.approx(2 / 3),
        "exact match, count": 1,
        "exact match, colour": 0,
        "exact match, object": 1,
    }
    assert row(found, "exact match, all", 9).beside == {"commonest answer": pytest.approx(1 / 3)}


def test_short_answers_are_compared_by_what_they_name() -> None:
    assert rooms.exact("The table.", "table") == 1
    assert rooms.exact("blanket, pillow", "pillow, blanket") == 1
    assert rooms.exact("table lamp", "lamp") == 0
    assert rooms.token_f1("table lamp", "lamp") == pytest.approx(2 / 3)
    assert rooms.token_f1("", "lamp") == 0
    assert rooms.common_answers([("How many?", "2"), ("how many beds", "2"), ("number of beds", "1")]) == {"count": "2"}


def test_the_search_finds_the_likeliest_of_all_names(tiny_chatml: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    texts = sorted({"".join(rng.choice("bcdfgh") for _ in range(4)) for _ in range(60)})
    cases = [Case((block,), ("What is this?", "12 us er")) for block in blocks(4, 9, seed=4)]
    everything = answer_likelihoods(tiny_chatml, cases, [[texts, texts] for _ in cases])
    expected = [texts[max(range(len(texts)), key=lambda n: of[n].total)] for of_case in everything for of in of_case]
    for width in (1, 6):
        monkeypatch.setattr(names, "WIDTH", width)
        assert names.likeliest_texts(tiny_chatml, cases, texts) == expected
    assert len(set(expected)) > 1


def test_a_beginning_is_dropped_only_when_it_cannot_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first token of the best name is not the likeliest one."""
    search = names._Search()
    tree = names.branches([(1, 9), (2, 9), (2, 3, 9)])
    search.grow(0.0, (), 0, tree, [1.0, 1.5], 9)  # 1 is likelier than 2
    (first, second) = search.next()
    search.grow(first[0], first[1], 1, first[3], [2.0], 9)  # 1, end: 3.0
    search.grow(second[0], second[1], 2, second[3], [1.0, 0.5], 9)  # 2, end: 2.5; 2, 3: 2.0
    assert search.ids == (2, 9)
    (last,) = search.next()  # 2, 3 may still win
    search.grow(last[0], last[1], 3, last[3], [0.1], 9)
    assert (search.ids, search.best) == ((2, 3, 9), pytest.approx(2.1))
    assert search.next() == []
