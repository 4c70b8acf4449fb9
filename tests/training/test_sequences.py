"""The block mask: many questions on one clip are worth as many prompts of one question."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import nn

from m3video.model.m3 import checkpoint
from m3video.model.m3.pooling import pack
from m3video.model.m3.prefix import Prefix
from m3video.training.decoder import sample_scales, sample_times
from m3video.training.facts import shares
from m3video.training.footage import normalise_squares, shot_frames
from m3video.training.questions import draw_questions, plain_answer
from m3video.training.recipe import ScratchRecipe
from m3video.training.rendered import build_model
from m3video.training.sequences import (
    LOOKUP_HEADS,
    LOOKUP_LAYER,
    Batch,
    Binder,
    TrainingClip,
    answers_right,
    clip_loss,
    make_batch,
    pointer_loss,
    word_ids,
)
from m3video.utils.clock import whole_clock
from tests.training.drawn import CONTENTS, frame_of, shot_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Any:
    built = build_model(ScratchRecipe())
    with torch.no_grad():
        # Louder weights: at its birth a model says nearly the same whatever it is asked.
        for parameter in built.model.language_model.layers.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return built.eval()


def make_clip(
    seed: int, *, contents: Sequence[str] = CONTENTS, most: int = 60, number: int = 6
) -> tuple[TrainingClip, torch.Tensor]:
    rng = random.Random(seed)
    frames = [frame_of(shot_of(rng.choice(contents), rng.randrange(100))) for _ in range(4)]
    seconds, scales = sample_times(rng, 4), sample_scales(rng, 4, most=most)
    questions = draw_questions([facts for facts, _ in frames], seconds, rng, number=number)
    clip = TrainingClip(seconds, scales, tuple(questions), tuple(cells for _, cells in frames))
    return clip, torch.randn(sum(scales), 192, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: Any, clip: TrainingClip, visual: torch.Tensor, group: int) -> torch.Tensor:
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
        alone = logits(model, TrainingClip(clip.seconds, clip.scales, (question,)), visual, 1)
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
            _, metrics = clip_loss(decoder, head, binder, batch, tokens)
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
        batch = make_batch([TrainingClip(clip.seconds, clip.scales, (asked,))], CPU)
        step = logits(model, TrainingClip(clip.seconds, clip.scales, (asked,)), visual, 1)
        position = int((batch.labels_BL[0][batch.group_BL[0] == 1] == -100).sum()) + len(said)
        said.append(words[int(step[position].argmax())])
    for words_said in (said, [*said[:-1], "red" if said[-1] != "red" else "blue"]):
        asked = question._replace(answer=" ".join(words_said))
        one = TrainingClip(clip.seconds, clip.scales, (asked,))
        step = logits(model, one, visual, 1)
        ends = words[int(step[-1].argmax())] == "</s>"
        right = answers_right(decoder, head, make_batch([one], CPU), visual)
        assert right == [words_said == said and ends]


def slots_of(batch: Batch, clip: TrainingClip, row: int = 0) -> list[range]:
    """Where each frame's tokens stand in the clip's sequence."""
    slots = torch.nonzero(batch.ids_BL[row] == word_ids()["<image>"])[:, 0].tolist()
    ends = list(accumulate(clip.scales))
    return [range(slots[end - scale], slots[end - 1] + 1) for end, scale in zip(ends, clip.scales, strict=True)]


def test_every_position_is_bound_to_its_own_frame() -> None:
    clip, _ = make_clip(0)
    batch = make_batch([clip], CPU)
    words = list(word_ids())
    slots = (batch.group_BL[0] == 0) & (batch.number_BL[0] >= 0)
    assert torch.nonzero(slots)[:, 0].tolist() == [n for frame in slots_of(batch, clip) for n in frame]
    expected = [n for n, scale in enumerate(clip.scales) for _ in range(scale)]
    assert [words[i] for i in batch.number_BL[0][slots].tolist()] == [str(n + 1) for n in expected]
    assert [words[i] for i in batch.time_BL[0][slots].tolist()] == [whole_clock(clip.seconds[n]) for n in expected]


@pytest.mark.parametrize("seed", range(6))
def test_every_token_of_an_answer_is_looked_up_in_the_asked_frame(seed: int) -> None:
    clips = [make_clip(seed, most=900, number=12)[0], make_clip(seed + 100)[0]]
    batch = make_batch(clips, CPU)
    for row, clip in enumerate(clips):
        rows_A, here_AP = batch.looks[row]
        assert rows_A.tolist() == torch.nonzero(batch.labels_BL[row] != -100)[:, 0].tolist()
        assert here_AP.shape == (len(rows_A), int((batch.group_BL[row] == 0).sum()))
        slots = slots_of(batch, clip, row)
        for position, here_P in zip(rows_A.tolist(), here_AP, strict=True):
            question = clip.questions[int(batch.group_BL[row, position]) - 1]
            found = torch.nonzero(here_P)[:, 0].tolist()
            assert found
            assert set(found) <= set(slots[question.frame])
            if not question.looks or batch.labels_BL[row, position] == word_ids()["</s>"]:
                assert found == list(slots[question.frame])


@pytest.mark.parametrize("content", ["board", "table", "sign", "shapes"])
def test_what_has_its_place_is_looked_up_in_the_tokens_that_show_it(content: str) -> None:
    narrow = wide = 0
    for seed in range(6):
        clip, _ = make_clip(seed, contents=(content,), most=1200, number=20)
        batch = make_batch([clip], CPU)
        rows_A, here_AP = batch.looks[0]
        places = iter(here_AP)
        for question in clip.questions:
            slots, scale = slots_of(batch, clip)[question.frame], clip.scales[question.frame]
            of_words = [next(places)[slots.start : slots.stop] for _ in (*question.answer.split(), "end")]
            for look, here_S in zip(question.looks, of_words, strict=False):
                found = torch.from_numpy(shares(look, clip.cells[question.frame], scale))
                if here_S.all():
                    wide += 1
                    continue
                narrow += 1
                assert (found[here_S] > 0).all()
                assert here_S[found.argmax()]
                assert found[~here_S].max() < found[here_S].min()
        assert len(rows_A) == len(here_AP)
    assert narrow > 20
    assert wide > 0


def test_tiles_that_drown_and_frames_of_one_token_are_looked_up_as_a_whole() -> None:
    frame = frame_of(shot_of("board", 0, board=12))
    (tile,) = draw_questions([frame[0]], [0.0], random.Random(0), number=1, families=("tile",), when_share=0)
    for scale, words in ((1, 1), (9, 9), (576, 0)):
        clip = TrainingClip((0.0,), (scale,), (tile,), (frame[1],))
        counts = make_batch([clip], CPU).looks[0][1].sum(1).tolist()
        assert counts[-1] == scale
        assert counts[0] == words if words else 0 < counts[0] <= 6
    untold = make_batch([TrainingClip((0.0,), (576,), (tile,))], CPU).looks[0][1]
    assert untold.sum(1).tolist() == [576, 576]


@torch.no_grad()
def test_the_pointer_measures_the_attention_of_its_layer(model: Any) -> None:
    clips = [make_clip(seed, most=200)[0] for seed in (0, 1)]
    batch = make_batch(clips, CPU)
    decoder = model.model.language_model
    embeds = decoder.get_input_embeddings()(batch.ids_BL)
    embeds = embeds + torch.randn(embeds.shape, generator=torch.Generator().manual_seed(0))
    away = torch.zeros(batch.mask().shape).masked_fill(~batch.mask(), torch.finfo(torch.float32).min)
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    out = decoder(
        inputs_embeds=embeds,
        attention_mask=away,
        position_ids=batch.positions_BL,
        use_cache=False,
        output_hidden_states=True,
        output_attentions=True,
    )
    decoder.set_attn_implementation(before)
    weights = out.attentions[LOOKUP_LAYER][:, :LOOKUP_HEADS]
    expected = torch.cat(
        [
            (weights[row][:, rows_A, : here_AP.shape[1]] * here_AP).sum(-1).log().mean(0)
            for row, (rows_A, here_AP) in enumerate(batch.looks)
        ]
    )
    loss, (found, count) = pointer_loss(decoder, out.hidden_states[LOOKUP_LAYER], batch)
    assert float(loss) == pytest.approx(-float(expected.mean()), rel=1e-3)
    assert count == len(expected) == int((batch.labels_BL != -100).sum())
    assert found == int((expected.exp() > 0.5).sum())


def test_the_pointer_can_be_learned() -> None:
    clip, visual = make_clip(0, number=3)
    batch = make_batch([clip], CPU)
    torch.manual_seed(0)
    model = build_model(ScratchRecipe())
    decoder, binder = model.model.language_model, Binder(192)
    optimizer = torch.optim.Adam(nn.ModuleList([decoder, model.lm_head, binder]).parameters(), 2e-3)
    shares_seen = []
    for _ in range(20):
        loss, metrics = clip_loss(decoder, model.lm_head, binder, batch, visual)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shares_seen.append(metrics["looked up"][0] / metrics["looked up"][1])
    assert shares_seen[0] < 0.6
    assert shares_seen[-1] > 0.9


def test_clips_without_questions_lose_nothing(model: Any) -> None:
    clip, visual = make_clip(0)
    empty = TrainingClip(clip.seconds, clip.scales, (), clip.cells)
    batch = make_batch([empty, clip], CPU)
    assert [len(rows_A) for rows_A, _ in batch.looks] == [0, int((batch.labels_BL[1] != -100).sum())]
    with torch.no_grad():
        decoder, head, binder = model.model.language_model, model.lm_head, Binder(192)
        _, both = clip_loss(decoder, head, binder, batch, torch.cat([visual, visual]))
        _, alone = clip_loss(decoder, head, binder, make_batch([clip], CPU), visual)
    assert both["answers"][0] == pytest.approx(alone["answers"][0], rel=1e-4)
    assert both["looked up"] == alone["looked up"]


def test_one_question_stands_where_inference_puts_it() -> None:
    clip, _ = make_clip(0)
    batch = make_batch([TrainingClip(clip.seconds, clip.scales, clip.questions[:1])], CPU)
    assert batch.positions_BL[0].tolist() == list(range(batch.ids_BL.shape[1]))


def test_the_rendered_model_says_what_answers_right_measures() -> None:
    """The evaluation's short cut against the product's own greedy decoding, on the shipped weights."""
    loaded = checkpoint.load("rendered", device="cpu")
    squares, _, facts = shot_frames(random.Random(8), num_frames=3, h264=False, content="shapes", held_out=True)
    with torch.inference_mode():
        visual = pack(loaded.model.visual_grids(torch.from_numpy(normalise_squares(squares))), (1, 9, 36))
    seconds = (0.2, 1.7, 3.9)
    questions = draw_questions(facts, seconds, random.Random(9), number=12, when_share=0.0)
    batch = make_batch([TrainingClip(seconds, (1, 9, 36), tuple(questions))], CPU)
    measured = answers_right(loaded.model.model.language_model, loaded.model.lm_head, batch, visual.tokens_TD)
    held = Prefix(loaded, visual, times_seconds=seconds)
    said = [held.answer(question.question).text for question in questions]
    assert measured == [text == plain_answer(question.answer) for text, question in zip(said, questions, strict=True)]
    assert any(measured)
