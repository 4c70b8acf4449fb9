"""The block mask: many questions on one clip are worth as many prompts of one question."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.model import checkpoint
from m3video.model.answering import answer
from m3video.model.nested import pack, pool
from m3video.training.build import build_model
from m3video.training.decoder import sample_facts, sample_scales, sample_times
from m3video.training.footage import normalise, shot_frames
from m3video.training.questions import ask, plain
from m3video.training.recipe import Recipe
from m3video.training.sequences import Binder, Clip, answer_loss, answers_right, make_batch, word_ids
from m3video.training.symbols import Symbols
from m3video.training.words import clock_words

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Any:
    built = build_model(Recipe())
    with torch.no_grad():
        # Louder weights: at its birth a model says nearly the same whatever it is asked.
        for parameter in built.model.language_model.layers.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return built.eval()


def make_clip(seed: int) -> tuple[Clip, torch.Tensor]:
    rng = random.Random(seed)
    facts, seconds = sample_facts(rng, 4), sample_times(rng, 4)
    scales = sample_scales(rng, 4, most=60)
    clip = Clip(seconds, scales, tuple(ask(facts, seconds, rng, number=6)))
    return clip, torch.randn(sum(scales), 192, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: Any, clip: Clip, visual: torch.Tensor, group: int) -> torch.Tensor:
    batch = make_batch([clip], CPU)
    decoder = model.model.language_model
    embeds = decoder.get_input_embeddings()(batch.ids_BL)
    embeds = embeds.masked_scatter((batch.ids_BL == word_ids()["<image>"])[..., None], visual)
    hidden = decoder(
        inputs_embeds=embeds, attention_mask=batch.mask(), position_ids=batch.positions_BL
    ).last_hidden_state
    return model.lm_head(hidden[0][batch.group_BL[0] == group])


@pytest.mark.parametrize("seed", range(3))
def test_a_question_among_many_is_answered_as_when_asked_alone(model: Any, seed: int) -> None:
    clip, visual = make_clip(seed)
    for group, question in enumerate(clip.questions, 1):
        alone = logits(model, Clip(clip.seconds, clip.scales, (question,)), visual, 1)
        assert torch.allclose(logits(model, clip, visual, group), alone, atol=1e-4)
    other = logits(model, clip, visual + 1, 1)
    assert not torch.allclose(other, logits(model, clip, visual, 1), atol=1e-2)


def test_padding_changes_nothing(model: Any) -> None:
    (short, visual), (long, more) = make_clip(1), make_clip(2)
    if sum(short.scales) > sum(long.scales):
        (short, visual), (long, more) = (long, more), (short, visual)
    binder = Binder(192)
    with torch.no_grad():
        decoder, head = model.model.language_model, model.lm_head
        losses = []
        for clips, tokens in (([short], visual), ([long], more), ([short, long], torch.cat([visual, more]))):
            batch = make_batch(clips, CPU)
            _, metrics = answer_loss(decoder, head, binder, batch, tokens)
            losses.append((metrics["answers"][0], int((batch.labels_BL != -100).sum())))
    (a, n), (b, m), (both, k) = losses
    assert k == n + m
    assert both == pytest.approx((a * n + b * m) / k, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_answers_right_is_what_greedy_decoding_says(model: Any, seed: int) -> None:
    """Teach the labels: a question whose answer is set to the greedy continuation is right, and any other is wrong."""
    clip, visual = make_clip(seed)
    decoder, head = model.model.language_model, model.lm_head
    words = list(word_ids())
    question = clip.questions[0]
    said: list[str] = []
    for _ in range(3):
        asked = question._replace(answer=" ".join([*said, "red"]))
        batch = make_batch([Clip(clip.seconds, clip.scales, (asked,))], CPU)
        step = logits(model, Clip(clip.seconds, clip.scales, (asked,)), visual, 1)
        position = int((batch.labels_BL[0][batch.group_BL[0] == 1] == -100).sum()) + len(said)
        said.append(words[int(step[position].argmax())])
    for words_said in (said, [*said[:-1], "red" if said[-1] != "red" else "blue"]):
        asked = question._replace(answer=" ".join(words_said))
        one = Clip(clip.seconds, clip.scales, (asked,))
        step = logits(model, one, visual, 1)
        ends = words[int(step[-1].argmax())] == "</s>"
        right = answers_right(decoder, head, make_batch([one], CPU), visual)
        assert right == [words_said == said and ends]


def test_every_position_is_bound_to_its_own_frame() -> None:
    clip, _ = make_clip(0)
    batch = make_batch([clip], CPU)
    words = list(word_ids())
    slots = (batch.group_BL[0] == 0) & (batch.frame_BL[0] >= 0)
    assert int(slots.sum()) == sum(clip.scales)
    expected = [n for n, scale in enumerate(clip.scales) for _ in range(scale)]
    assert batch.frame_BL[0][slots].tolist() == expected
    assert [words[i] for i in batch.number_BL[0][slots].tolist()] == [str(n + 1) for n in expected]


@pytest.mark.parametrize("scale", [1, 9, 36, 144, 576])
def test_symbols_pool_like_real_tokens(scale: int) -> None:
    """A frame's symbols at a scale are its symbols at 576, pooled: what the projector is aligned to, at every scale."""
    rng = random.Random(4)
    symbols = Symbols(32)
    for facts in sample_facts(rng, 12):
        with torch.no_grad():
            full, coarse = symbols.tokens([facts], [576]), symbols.tokens([facts], [scale])
        assert coarse.shape == (scale, 32)
        assert torch.allclose(pool(full[None], scale)[0], coarse, atol=1e-5)


@pytest.mark.parametrize("most", [1 * 16, 100, 720, 3000])
def test_sampled_scales_keep_to_their_budget(most: int) -> None:
    rng = random.Random(most)
    seen: set[int] = set()
    for _ in range(300):
        scales = sample_scales(rng, 16, most=most)
        assert len(scales) == 16
        assert sum(scales) <= most
        seen |= set(scales)
    assert 1 in seen
    assert most < 3000 or seen == {1, 9, 36, 144, 576}


def test_one_question_stands_where_inference_puts_it() -> None:
    clip, _ = make_clip(0)
    batch = make_batch([Clip(clip.seconds, clip.scales, clip.questions[:1])], CPU)
    assert batch.positions_BL[0].tolist() == list(range(batch.ids_BL.shape[1]))


def test_the_bundled_model_says_what_answers_right_measures() -> None:
    """The evaluation's short cut against the product's own greedy decoding, on the shipped weights."""
    loaded = checkpoint.load("bundled", device="cpu")
    squares, _, facts = shot_frames(random.Random(8), num_frames=3, h264=False, content="shapes", held_out=True)
    with torch.inference_mode():
        visual = pack(loaded.model.visual_grids(torch.from_numpy(normalise(squares))), (1, 9, 36))
    seconds = (0.2, 1.7, 3.9)
    questions = ask(facts, seconds, random.Random(9), number=12, when_share=0.0)
    batch = make_batch([Clip(seconds, (1, 9, 36), tuple(questions))], CPU)
    measured = answers_right(loaded.model.model.language_model, loaded.model.lm_head, batch, visual.tokens_TD)
    said = [answer(loaded, visual, question.question, times_seconds=seconds).text for question in questions]
    assert measured == [text == plain(question.answer) for text, question in zip(said, questions, strict=True)]
    assert any(measured)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 16, 32, 64]))
def test_times_increase_and_have_a_word_each(seed: int, number: int) -> None:
    times = sample_times(random.Random(seed), number)
    assert len(times) == number
    assert list(times) == sorted(set(times))
    assert all(clock_words(time) in word_ids() for time in times)
