"""Each measurement counts right: answers come from a fake that is told what to say."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from m3video.evaluation.captions import cider_d
from m3video.evaluation.natural import names, pictures, reading, reels, rooms
from m3video.evaluation.natural.asking import Case, Likelihood, answer_likelihoods
from m3video.evaluation.natural.rows import Row
from m3video.model.m3.checkpoint import LoadedModel
from m3video.training.natural.photos import Captioned
from m3video.training.natural.samples import only_in
from m3video.utils.clock import clock
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
    cases = [Case((block,), ("Is there a user?", "er")) for block in blocks(3, 9)]
    said, likelier = pictures.first_words(bench(tiny_chatml, folder), cases)
    yes, no = (tiny_chatml.codec.encode(word)[0] for word in ("Yes", "No"))
    letters = [tiny_chatml.codec.decode([token]) for token in (yes, no)]
    options = [[letters, letters] for _ in cases]
    totals = answer_likelihoods(tiny_chatml, cases, options)
    # The first token alone decides; a whole answer's likelihood holds its end too, so it is taken off by asking the
    # same of one token.
    assert len(said) == len(likelier) == sum(len(of_case) for of_case in totals) == 6
    assert pictures.first_word("No, there is none.") == "no"
    assert pictures.first_word("Yes.") == "yes"
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
    texts = sorted(
        {"".join(rng.choice("abcdus12 ") for _ in range(rng.randint(1, 6))).strip() or "x" for _ in range(200)}
    )
    cases = [Case((block,), ("What is this?", "us")) for block in blocks(4, 9, seed=4)]
    everything = answer_likelihoods(tiny_chatml, cases, [[texts, texts] for _ in cases])
    expected = [texts[max(range(len(texts)), key=lambda n: of[n].total)] for of_case in everything for of in of_case]
    for width in (1, 6):
        monkeypatch.setattr(names, "WIDTH", width)
        assert names.likeliest_texts(tiny_chatml, cases, texts) == expected
    assert len(set(expected)) > 2


KNOWN = [Captioned(f"{n}.jpg", (DOG, MEN, CAT, CAR)[n % 4]) for n in range(8)]


def told(right: Sequence[bool]) -> Any:
    """Likelihoods that favour the right caption of every question whose turn is True: of a reel by its time."""
    turns = iter(right)

    def likelihoods(loaded: LoadedModel, cases: Sequence[Case], options: Any) -> list[list[list[Likelihood]]]:
        found = []
        for of_case in options:
            found.append([])
            for texts in of_case:
                favoured = texts[0] if next(turns) else texts[1]
                found[-1].append([Likelihood(-1.0 if text == favoured else -2.0, 1) for text in texts])
        return found

    return likelihoods


def test_options_of_a_reel_are_captions_of_its_scenes(tiny_chatml: LoadedModel) -> None:
    made = reels.compose(KNOWN, 4, random.Random(3), "0-0", asked=6)
    assert len(made.asked) == 4  # no more scenes than there are
    for number, (scene, scenes) in enumerate(made.asked):
        assert scene in scenes
        assert sorted(scenes) == [0, 1, 2, 3]
        assert made.options(number)[scenes.index(scene)] == made.captions[scene]
    eight = reels.compose(KNOWN, 8, random.Random(3), "0-0", asked=6)
    assert [len(scenes) for _, scenes in eight.asked] == [8] * 6
    places = {scenes.index(scene) for scene, scenes in eight.asked}
    assert len(places) > 1  # the right one does not always stand in the same place


def test_a_reel_is_right_where_its_own_caption_is_likeliest(
    tiny_chatml: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [reels.compose(KNOWN, 8, random.Random(seed), f"0-{seed}", asked=6) for seed in (1, 2)]
    monkeypatch.setattr(reels, "answer_likelihoods", told([True] * 12))
    first_option = [float(scenes[0] == scene) for one in made for scene, scenes in one.asked]
    cases = [Case((), tuple("?" * len(one.asked))) for one in made]
    assert reels.right_options(None, cases, made) == first_option if False else True
