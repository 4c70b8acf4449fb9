"""Many prompts at once are answered as each alone, whatever their lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from m3video.errors import DoesNotFitError
from m3video.model import generation
from m3video.model.m3.answer import MAX_BATCH, FramesQuestion, GeneratedAnswer, answer_batch
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.encoding import encode
from m3video.model.m3.images import pad_pixels
from m3video.model.m3.pooling import pack
from m3video.model.m3.prefix import Prefix
from m3video.model.m3.square import as_square
from tests.model.tiny import load_tiny


@pytest.fixture(scope="module", params=["rendered", "vicuna_v1"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(tmp_path_factory.mktemp("tiny") / "m", prompt_style=request.param, max_context=512)


def asked(loaded: LoadedModel, count: int) -> list[FramesQuestion]:
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 255, (40, 60, 3)).astype(np.uint8) for _ in range(3)]
    grids = encode(loaded, pictures)
    visuals = [pack(grids[:n], [36, 9, 1][:n]) for n in (1, 2, 3)]
    return [
        FramesQuestion(visuals[n % 3], "is it red " * (1 + n % 4), [1.0, 2.0, 3.0][: 1 + n % 3]) for n in range(count)
    ]


@pytest.mark.parametrize("count", [1, 5, 19])
def test_together_is_as_alone(loaded: LoadedModel, count: int) -> None:
    questions = asked(loaded, count)
    alone = [
        Prefix(loaded, one.visual, times_seconds=one.times_seconds).answer(one.question, max_new_tokens=6)
        for one in questions
    ]
    assert answer_batch(loaded, questions, max_new_tokens=6) == alone
    # Random weights: in the longer template they say the same to all.
    assert count == 1 or loaded.config.prompt_style != "rendered" or len({answer.text for answer in alone}) > 1


def test_one_that_does_not_fit_costs_the_others_nothing(loaded: LoadedModel) -> None:
    questions = asked(loaded, 3)
    questions[1] = FramesQuestion(questions[1].visual, "red " * 600, questions[1].times_seconds)
    first, long, last = answer_batch(loaded, questions, max_new_tokens=4)
    assert isinstance(long, DoesNotFitError)
    assert isinstance(first, GeneratedAnswer)
    assert isinstance(last, GeneratedAnswer)


def test_where_the_gpu_has_no_room_they_go_one_by_one(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    questions, sizes = asked(loaded, 4), []
    expected = answer_batch(loaded, questions, max_new_tokens=4)
    real = generation.run_decoder

    def small(loaded: LoadedModel, cache: Any, **how: Any) -> torch.Tensor:
        if "inputs_embeds" in how:
            sizes.append(len(how["inputs_embeds"]))
            if sizes[-1] > 1:
                raise torch.cuda.OutOfMemoryError
        return real(loaded, cache, **how)

    monkeypatch.setattr(generation, "run_decoder", small)
    assert answer_batch(loaded, questions, max_new_tokens=4) == expected
    assert sizes == [4, 1, 1, 1, 1]
    assert MAX_BATCH >= 4


@pytest.mark.parametrize("size", [(1, 1), (37, 400), (720, 405), (336, 336)])
def test_a_square_is_what_the_tower_sees_of_the_picture(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(2).integers(0, 255, (*size, 3)).astype(np.uint8)
    square = as_square(picture)
    assert square.shape == (336, 336, 3)
    assert torch.equal(pad_pixels([square]), pad_pixels([picture]))
