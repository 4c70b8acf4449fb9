"""All questions about one plan at once: the same answers as one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from m3video.errors import DoesNotFitError
from m3video.evaluation.asking import answer_many
from m3video.model.m3 import checkpoint
from m3video.model.m3.encoding import encode
from m3video.model.m3.pooling import pack
from m3video.model.m3.prefix import Prefix
from tests.model.tiny import load_tiny

QUESTIONS = (
    "what colour is the background in frame 1",
    "is it day or night in frame 3",
    "read row 2 of the board in frame 2",
    "what does the sign say in frame 4",
    "when does a board first appear",
    "day or night in frame 2",
)
TIMES = (0.4, 1.4, 2.4, 3.9)


@pytest.fixture(scope="module")
def grids(loaded: checkpoint.LoadedModel) -> torch.Tensor:
    made = torch.Generator().manual_seed(2)
    pixels = torch.rand(4, 1, 1, 3, generator=made).expand(4, 100, 150, 3)
    return encode(loaded, [(picture * 255).byte().numpy() for picture in pixels])


def test_answers_are_those_of_asking_one_by_one(loaded: checkpoint.LoadedModel, grids: torch.Tensor) -> None:
    visual = pack(grids, [9, 144, 1, 36])
    together = answer_many(loaded, [visual.frame(n) for n in range(4)], QUESTIONS, times_seconds=TIMES)
    for question, said in zip(QUESTIONS, together, strict=True):
        alone = Prefix(loaded, visual, times_seconds=TIMES).answer(question)
        assert said.text == alone.text, question
        assert (said.visual_tokens, said.text_tokens) == (190, alone.text_tokens)
        assert said.answer_tokens == alone.answer_tokens
    assert len({said.text for said in together}) > 2, "questions would be mixed up without being noticed"


def test_longest_answer_is_kept(loaded: checkpoint.LoadedModel, grids: torch.Tensor) -> None:
    tokens = [grid[:9] for grid in grids]
    long = answer_many(loaded, tokens, QUESTIONS, times_seconds=TIMES)
    short = answer_many(loaded, tokens, QUESTIONS, times_seconds=TIMES, max_new_tokens=1)
    assert max(said.answer_tokens for said in long) > 1
    assert {said.answer_tokens for said in short} <= {0, 1}


def test_too_long_is_refused_and_nothing_is_no_question(loaded: checkpoint.LoadedModel, grids: torch.Tensor) -> None:
    with pytest.raises(DoesNotFitError, match="context"):
        answer_many(loaded, [*grids, *grids, *grids, *grids], QUESTIONS, times_seconds=TIMES * 4)
    with pytest.raises(ValueError, match="no frame"):
        answer_many(loaded, [], QUESTIONS, times_seconds=())


@pytest.mark.parametrize(
    "shape", [{"prompt_style": "vicuna_v1"}, {"prompt_style": "llava_v0", "use_image_newline": True}]
)
def test_other_prompts_and_rows_that_end_in_a_token(shape: dict[str, object], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = load_tiny(tmp_path / "m", **shape)
    width = model.config.text_config.hidden_size
    visual = pack(torch.randn(3, 576, width), [9, 36, 1])
    asked = ("what colour is it", "is it day", "how many shapes are there in the picture")
    together = answer_many(model, [visual.frame(n) for n in range(3)], asked, times_seconds=TIMES[:3], max_new_tokens=6)
    alone = [Prefix(model, visual, times_seconds=TIMES[:3]).answer(q, max_new_tokens=6) for q in asked]
    assert [said.text for said in together] == [one.text for one in alone]
    assert [said.text_tokens for said in together] == [one.text_tokens for one in alone]
