"""What an answer rests on: masking, reading again, and showing alone, each beside the same sums made in another way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from m3video.config import Settings
from m3video.errors import UsageError
from m3video.inference.session import VideoSession
from m3video.model.m3 import ablation, checkpoint, inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pool, pool_further
from m3video.model.m3.prefix import Asked, Prefix
from m3video.model.m3.support import MOST_PARTS, find_support, split
from m3video.training.sample import sample_clip
from m3video.types import SCALES
from tests.model.m3.test_prefix import TIMES, shown
from tests.model.tiny import load_tiny
from tests.paths import SAMPLE

CLOSE = 5e-3
"""Nats by which two ways to the same sums may differ."""


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return checkpoint.load("rendered", device="cpu")


@pytest.fixture
def prefix(loaded: LoadedModel) -> Prefix:
    held = Prefix(loaded, shown(loaded), times_seconds=TIMES)
    held.answer("what colour is the background in frame 2", max_new_tokens=8)
    return held


def asked_of(prefix: Prefix) -> Asked:
    assert prefix.asked is not None
    return prefix.asked


def apart(one: ablation.Reading, other: ablation.Reading) -> float:
    return max(abs(a - b) for a, b in zip((one.nats, *one.odds_A), (other.nats, *other.odds_A), strict=True))


@torch.inference_mode()
def by_hand(loaded: LoadedModel, asked: Asked, left_out: Sequence[int]) -> list[float]:
    """Log-likelihoods of the answer's tokens after one pass without some frames, positions kept."""
    embeds = inputs.embed(loaded, asked.ids, asked.blocks)
    answer = inputs.embed(loaded, list(asked.answer_ids), ())
    keep = torch.ones(embeds.shape[1] + answer.shape[1], dtype=torch.bool)
    for frame in left_out:
        keep[slice(*asked.spans[frame])] = False
    rows = keep.nonzero()[:, 0]
    whole = torch.cat([embeds, answer], dim=1)[:, rows]
    hidden = loaded.model.model(inputs_embeds=whole, position_ids=rows[None]).last_hidden_state[0]
    targets = [*asked.answer_ids, loaded.codec.eos_id]
    logs = loaded.model.lm_head(hidden[-len(targets) :]).float().log_softmax(-1)
    return [float(row[target]) for row, target in zip(logs, targets, strict=True)]


@pytest.mark.parametrize("scale", SCALES)
def test_pooling_further_is_pooling_at_once(scale: int) -> None:
    grid = torch.rand(1, 576, 5, generator=torch.Generator().manual_seed(0))
    for between in (each for each in SCALES if each >= scale):
        torch.testing.assert_close(pool_further(pool(grid, between)[0], scale), pool(grid, scale)[0])


def test_hiding_nothing_changes_nothing(loaded: LoadedModel, prefix: Prefix) -> None:
    asked = asked_of(prefix)
    (nothing,) = ablation.masked(loaded, asked, [()])
    assert nothing.stands
    assert nothing.nats == pytest.approx(sum(by_hand(loaded, asked, ())), abs=CLOSE)
    (alone,) = ablation.only(loaded, asked, [prefix.showing((0, 1, 2))])
    assert apart(nothing, alone) < CLOSE


@pytest.mark.parametrize("frames", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_reading_again_is_a_pass_that_never_saw_the_frames(
    loaded: LoadedModel, prefix: Prefix, frames: tuple[int, ...]
) -> None:
    asked = asked_of(prefix)
    found, text, _ = ablation.without(loaded, asked, frames, max_new_tokens=8)
    assert found.nats == pytest.approx(sum(by_hand(loaded, asked, frames)), abs=CLOSE)
    assert (text == loaded.codec.decode(list(asked.answer_ids)).strip()) == found.stands


def test_of_the_last_frame_nothing_leaks(loaded: LoadedModel, prefix: Prefix) -> None:
    """Later frames hold something of a masked one; after the last there are none, so both ways agree."""
    asked = asked_of(prefix)
    masked = ablation.masked(loaded, asked, [(2,), (0,)])
    again = [ablation.without(loaded, asked, frames, max_new_tokens=8)[0] for frames in ((2,), (0,))]
    assert apart(masked[0], again[0]) < CLOSE < apart(masked[1], again[1])


def test_prompts_of_different_lengths_do_not_touch_each_other(loaded: LoadedModel, prefix: Prefix) -> None:
    asked = asked_of(prefix)
    prompts = [prefix.showing(()), prefix.showing((0, 1)), prefix.showing((2,)), prefix.showing((0, 1), scale=1)]
    together = ablation.only(loaded, asked, prompts)
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = ablation.only(loaded, asked, [prompt])
        assert apart(found, alone) < CLOSE
    assert [len(block) for block in prompts[3][1]] == [1, 1]


def test_the_kept_prefix_stays_as_it_was(loaded: LoadedModel, prefix: Prefix) -> None:
    question = "is it day or night in frame 3"
    before = [layer.keys.clone() for layer in asked_of(prefix).cache.layers]
    find_support(loaded, prefix, (0, 1, 1), max_new_tokens=8)
    assert all(torch.equal(one, layer.keys) for one, layer in zip(before, asked_of(prefix).cache.layers, strict=True))
    fresh = Prefix(loaded, shown(loaded), times_seconds=TIMES).answer(question, max_new_tokens=8)
    assert prefix.answer(question, max_new_tokens=8).text == fresh.text


def test_parts_are_cut_between_shots_first() -> None:
    shots = [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert split(tuple(range(9)), shots) == [(0, 1, 2), (3, 4), (5, 6, 7, 8)]
    assert split((5, 6, 7, 8), shots) == [(5,), (6,), (7,), (8,)]
    assert split((3,), shots) == []
    for count in (2, 7, 8, 9, 31, 64, 128):
        parts = split(tuple(range(count)), [0] * count)
        assert sum(parts, ()) == tuple(range(count))
        assert len(parts) == min(MOST_PARTS, count)


def test_the_answer_rests_on_the_shot_that_the_question_names(loaded: LoadedModel) -> None:
    """The sample's truth is known for every moment: what is cited shows it, and without it the answer is another."""
    clip, changed = sample_clip(), 0
    with VideoSession(SAMPLE, Settings(cache=False), loaded=loaded) as session:
        for second in (1, 3, 5, 8):
            answer = session.ask(f"What colour is the background at 0:0{second}?")
            assert answer.text == clip.facts(second + 0.5).background
            found = answer.evidence
            assert found is not None
            assert found.verdict == "cited"
            (cited,) = found.ranges
            times = [answer.plan.video.pts_seconds(pts) for pts in cited.pts]
            assert all(clip.facts(time).background == answer.text for time in times)
            assert all(cited.start_seconds <= time <= cited.end_seconds for time in times)
            changed += found.instead != answer.text
            assert found.nats > 1
            assert found.stands_alone
            assert found.passes <= 8
    assert changed >= 3  # blue is what the model says where it knows nothing


def test_evidence_does_not_change_answers_and_belongs_to_the_latest(loaded: LoadedModel) -> None:
    with VideoSession(SAMPLE, Settings(cache=False), loaded=loaded) as session:
        first = session.ask("what is it", evidence=False)
        assert first.evidence is None
        tested = session.with_evidence(first)
        assert tested.evidence is not None
        assert (tested.text, tested.plan, tested.warnings) == (first.text, first.plan, first.warnings)
        assert tested.stage_seconds["evidence"] > 0
        session.ask("is it day or night", evidence=False)
        with pytest.raises(UsageError, match="of the latest answer only"):
            session.with_evidence(first)


def test_random_weights_and_every_template(tmp_path: Path) -> None:
    """A model that knows nothing is tested like any other; one that ends every row with a token of its own too."""
    for style in ("vicuna_v1", "llava_v0", "plain", "chatml"):
        tiny = load_tiny(tmp_path / style, prompt_style=style)
        held = Prefix(tiny, shown(tiny), times_seconds=TIMES)
        held.answer("what is it", max_new_tokens=4)
        found = find_support(tiny, held, (0, 1, 2), max_new_tokens=4)
        assert found is not None
        assert found.passes <= 8
        assert set(found.tested_nats) == {0, 1, 2}
