"""Many cases in one pass give what the product gives one by one."""

from __future__ import annotations

import pytest
import torch

from m3video.evaluation.natural import asking
from m3video.evaluation.natural.asking import Case, Likelihood, answer_likelihoods, greedy_answers, likeliest
from m3video.evaluation.natural.token_forest import ROOT, TokenForest
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pack_tokens
from m3video.model.m3.prefix import Prefix
from m3video.model.tokenizer import prompt_ids
from tests.evaluation.natural.made import blocks

CASES = (
    Case((blocks(1, 9)[0],), ("What is it?", "Is there a user?")),
    Case(tuple(blocks(3, 1, seed=1)), ("When?", "What is shown at 0:12?", "12"), (0.0, 3.0, 12.0)),
    Case((blocks(1, 144, seed=2)[0],), ("Describe the picture.",)),
    Case((blocks(1, 1, seed=3)[0], blocks(1, 36, seed=3)[0]), ("er", "us"), (70.0, 75.5)),
)


def product_answers(loaded: LoadedModel, case: Case, length: int) -> list[str]:
    visual = pack_tokens(case.blocks, [len(block) for block in case.blocks])
    prefix = Prefix(loaded, visual, times_seconds=case.times_seconds)
    return [prefix.answer(question, max_new_tokens=length).text for question in case.questions]


@pytest.mark.parametrize("most", [1, 60, 10_000])
def test_greedy_answers_are_the_products(tiny_chatml: LoadedModel, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(asking, "MOST_POSITIONS", most)
    expected = [product_answers(tiny_chatml, case, 7) for case in CASES]
    assert greedy_answers(tiny_chatml, CASES, max_new_tokens=7) == expected
    assert len({text for of_case in expected for text in of_case}) > 4  # they depend on what is shown and asked


def alone(loaded: LoadedModel, case: Case, question: str, answer: str) -> Likelihood:
    """The likelihood of one answer, from one whole prompt."""
    visual = pack_tokens(case.blocks, [len(block) for block in case.blocks])
    prompt = inputs.frames_prompt(loaded, question, num_frames=len(visual), times_seconds=case.times_seconds)
    ids = prompt_ids(loaded.codec, prompt)
    wanted = [*loaded.codec.encode(answer), loaded.codec.eos_id]
    embeds = inputs.embed(loaded, ids + wanted[:-1], inputs.frame_blocks(loaded, visual))
    with torch.inference_mode():
        logits = loaded.model(inputs_embeds=embeds).logits[0, -len(wanted) :]
    shares = logits.log_softmax(-1)[range(len(wanted)), wanted]
    return Likelihood(float(shares.sum()), len(wanted))


@pytest.mark.parametrize("most", [1, 10_000])
def test_likelihoods_are_those_of_whole_prompts(
    tiny_chatml: LoadedModel, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(asking, "MOST_POSITIONS", most)
    monkeypatch.setattr(asking, "ROWS", 7)
    options = [[["a user", "12", "er"], ["x"]][: len(case.questions)] for case in CASES]
    options[1].append(["user 12", "us", "Yes, there is."])
    found = answer_likelihoods(tiny_chatml, CASES, options)
    for case, of_case, texts in zip(CASES, found, options, strict=True):
        for question, of_question, answers in zip(case.questions, of_case, texts, strict=True):
            for likelihood, answer in zip(of_question, answers, strict=True):
                expected = alone(tiny_chatml, case, question, answer)
                assert likelihood.total == pytest.approx(expected.total, abs=2e-3)
                assert likelihood.tokens == expected.tokens


def test_the_likeliest_is_so_per_token() -> None:
    assert likeliest([Likelihood(-4.0, 4), Likelihood(-3.0, 1), Likelihood(-9.0, 10)]) == 2


def test_a_node_sees_its_ancestors_only(tiny_chatml: LoadedModel) -> None:
    forest = TokenForest(tiny_chatml)
    # Two prompts, and two ways to go on from the first, one of them read later.
    hidden = forest.read_ids([5, 6, 7, 8, 9], [ROOT, 0, ROOT, 2, 1])
    later = forest.read_ids([10, 11], [1, 5])
    for path, of_last in (([5, 6, 9], hidden[4]), ([7, 8], hidden[3]), ([5, 6, 10, 11], later[1])):
        chain = TokenForest(tiny_chatml).read_ids(path, [ROOT, *range(len(path) - 1)])
        assert torch.allclose(chain[-1], of_last, atol=1e-4)
    with pytest.raises(ValueError, match="not read before"):
        forest.read_ids([1], [7])
