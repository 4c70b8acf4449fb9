"""What is asked about natural frames, how answers are counted, and what a fit to them may tell apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3video.evaluation.estimators import natural
from m3video.evaluation.estimators.natural import (
    CONSTANT,
    TOKENS_EACH,
    AskedFrame,
    ask_frames,
    by_family,
    fit_natural,
    picture_stats,
    predictions,
    share_right,
)
from m3video.evaluation.estimators.natural_frames import WRONG, Choice, KnownFrame, known_frames
from m3video.evaluation.natural.asking import Likelihood
from m3video.model.m3.checkpoint import LoadedModel
from m3video.training.natural.splits import part_of
from m3video.types import SCALES
from tests.evaluation.natural.made import bench, chatml_model, write_set

CAPTIONS = ("A brown dog runs through the snow .", "Two men sit on a bench .", "A cat sleeps on a couch .")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
YES_NO = Choice("presence", "Is there a dog?", ("Yes",), ("No",))
OF_FOUR = Choice("caption", "What is shown?", ("A dog.", "A hound."), ("A cat.", "A car.", "A man."))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return chatml_model(tmp_path_factory.mktemp("chatml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    words = " ".join(f"{a}{b}e" for a in LETTERS for b in "aeiou")
    rows = [{"image": f"{n}.jpg", "captions": [CAPTIONS[n % 3], f"{CAPTIONS[n % 3]} {words}"]} for n in range(40)]
    write_set(made, "flickr8k/dev.jsonl", rows)
    asked = [("how many chairs are there", "2"), ("what is on the bed", "pillow"), ("what color is it", "red")]
    rooms = [{"image": f"image{n}.jpg", "question": q, "answer": a} for n in range(200) for q, a in asked]
    write_set(made, "daquar/questions.jsonl", rooms)
    return made


def test_frames_are_of_all_kinds_and_of_the_part_dev(model: LoadedModel, folder: Path) -> None:
    frames = known_frames(bench(model, folder), 40)
    kinds = [frame.kind for frame in frames]
    assert {kind: kinds.count(kind) for kind in kinds} == {"photo": 16, "text": 10, "room": 8, "drawn": 6}
    assert len({frame.key for frame in frames}) == 40
    assert {part_of("daquar", frame.name) for frame in frames if frame.kind == "room"} == {"dev"}
    for frame in frames:
        for choice in frame.choices:
            assert 1 <= len(choice.wrong) <= WRONG
            assert not {*choice.right} & {*choice.wrong}
    # The same again, so that stored answers are found; and kinds are mixed, so that any part is a sample of all.
    again = known_frames(bench(model, folder), 40)
    assert [frame.key for frame in again] == [frame.key for frame in frames]
    assert len(set(kinds[:20])) == 4


def likely(*values: float) -> list[Likelihood]:
    return [Likelihood(2 * value, 2) for value in values]


def test_right_answers_must_beat_all_wrong_ones() -> None:
    assert share_right(likely(-1, -5, -2, -4, -3), 2) == 0.5
    assert share_right(likely(-1, -1), 1) == 0  # no better than the wrong one
    assert share_right(likely(-1, -2), 1) == 1


def made_frame(number: int, right_QS: Sequence[Sequence[float]], *choices: Choice, detail: float = 9) -> AskedFrame:
    picture = np.random.default_rng(number).normal(128, detail, (72, 96, 3)).clip(0, 255).astype(np.uint8)
    frame = KnownFrame(f"{number}.jpg", "photo", picture, choices)
    return AskedFrame(frame, picture_stats(picture), np.array(right_QS, np.float64))


def test_shares_are_corrected_for_guessing_and_families_weigh_the_same() -> None:
    right = [[1] * 5, [0] * 5, [0.25, 0.25, 1, 1, 1]]
    one = made_frame(0, right, YES_NO, YES_NO, OF_FOUR)
    assert one.share_S == pytest.approx([0, 0, 0.5, 0.5, 0.5])
    assert by_family([one])["presence"][0].value == 0.5
    assert by_family([one])["presence"][0].answers == 2


def test_answers_are_asked_once(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    frames = known_frames(bench(model, folder), 8)[:3]
    store = tmp_path / "new" / "answers.jsonl"
    first = list(ask_frames(bench(model, folder), frames, store))
    assert len(store.read_text().strip().split("\n\n")) == 3
    for one in first:
        assert one.right_QS.shape == (len(one.frame.choices), len(SCALES))
        assert ((one.right_QS >= 0) & (one.right_QS <= 1)).all()
    store.write_text(store.read_text()[:-20])  # killed while it wrote the last line
    asked: list[str] = []

    def right(_: Any, frame: KnownFrame) -> Any:
        asked.append(frame.name)
        return first[2].right_QS

    monkeypatch.setattr(natural, "_right", right)
    again = list(ask_frames(bench(model, folder), frames, store))
    assert asked == [frames[2].name]
    assert all(np.array_equal(a.right_QS, b.right_QS) for a, b in zip(first, again, strict=True))
    assert json.loads(store.read_text().splitlines()[-1])["key"] == frames[2].key
    list(ask_frames(bench(model, folder), frames, store))
    assert len(asked) == 1


EQUAL, RISING = [0.8] * 5, [0.6, 0.65, 0.75, 0.85, 1.0]
LESS = [0.55] * 5


def frames_of(clean: list[float], noisy: list[float], number: int = 60) -> list[AskedFrame]:
    """Answers that are right by chance, as often as is said of clean and of noisy pictures at each scale."""
    rng = np.random.default_rng(3)
    made = []
    for n in range(number):
        right = (rng.random((6, 5)) < (noisy if n % 2 else clean)).astype(float)
        made.append(made_frame(n, right, *[YES_NO] * 6, detail=60 if n % 2 else 5))
    return made


@pytest.mark.parametrize(
    ("clean", "noisy", "apart"),
    [
        (EQUAL, EQUAL, "nothing"),
        (RISING, RISING, "scales"),
        (EQUAL, LESS, "frames and scales"),
        (RISING, LESS, "frames and scales"),
    ],
)
def test_a_fit_tells_apart_only_what_answers_do(clean: list[float], noisy: list[float], apart: str) -> None:
    asked = frames_of(clean, noisy)
    fitted = fit_natural(asked, made={"model": "one"})
    assert fitted.made["tells_apart"] == apart
    assert (fitted.made["model"], fitted.made["frames"], fitted.made["kinds"]) == ("one", 60, {"photo": 60})
    share_FS = fitted.share_right(natural.frame_signals(asked))
    assert (np.ptp(share_FS, axis=1).mean() > 0.15) == (clean is RISING)
    assert (np.ptp(share_FS, axis=0).max() > 0.1) == ("frames" in apart)


def test_predictions_are_held_against_one_share_for_all() -> None:
    known = frames_of(RISING, LESS)
    found = {row.name: row for row in predictions(fit_natural(known, made={}), known, known)}
    assert list(found) == ["fitted", CONSTANT, "that of rendered", "true shares"]
    constant = found[CONSTANT]
    assert constant.gain is not None
    assert constant.gain.value == 0
    best, fitted = found["true shares"], found["fitted"]
    assert fitted.error is not None
    assert constant.error is not None
    assert fitted.error.value < constant.error.value
    assert best.error is None
    assert len(best.bought) == len(TOKENS_EACH)
    for budget in range(len(TOKENS_EACH)):
        assert best.bought[budget].value >= max(row.bought[budget].value for row in found.values())
