"""Frames that were sent to a model: its answers, and what happens when memory runs out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from m3video.config import Settings
from m3video.distributed.failures import failure_of
from m3video.errors import NotFiniteError, OutOfMemoryError, UsageError
from m3video.inference.offload import FrameBatch, Generation, ask_batches, fetch_batch
from m3video.inference.pipeline import open_for, plan_details
from m3video.inference.session import ask
from m3video.inference.summary.summarize import summarize
from m3video.model import generation
from m3video.model.m3 import checkpoint, inputs
from m3video.planning.allocate import allocate
from m3video.types import TokenPlan
from tests.inference.memory.scarce import Limit, limit_batch
from tests.paths import SAMPLE

QUESTION = "What colour is the background at 0:03?"
SETTINGS = Settings(model="rendered", cache=False, max_frames=8, budget=500, vision_batch=8)


@pytest.fixture(scope="module")
def loaded() -> checkpoint.LoadedModel:
    return checkpoint.load("rendered", device="cpu")


def shown(settings: Settings = SETTINGS) -> FrameBatch:
    with open_for(SAMPLE, settings) as reader:
        return fetch_batch(reader, plan_details(reader, settings))


def ask_it(loaded: checkpoint.LoadedModel, *frames: FrameBatch, settings: Settings = SETTINGS) -> list[Generation]:
    return ask_batches(loaded, [(one, lambda _: [QUESTION, "day or night?"]) for one in frames], settings)


def limit_positions(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The language model has room for so many positions, in all prompts of one run."""
    whole = generation.generate_batch

    def generate_batch(loaded: checkpoint.LoadedModel, prompts: list[torch.Tensor], **more: Any) -> Any:
        if sum(one.shape[1] for one in prompts) > most:
            raise OutOfMemoryError("a prompt needs more memory than there is", step="answer")
        return whole(loaded, prompts, **more)

    monkeypatch.setattr(generation, "generate_batch", generate_batch)


def test_answers_equal_those_of_ask(loaded: checkpoint.LoadedModel) -> None:
    alone = ask(SAMPLE, QUESTION, SETTINGS, loaded=loaded)
    for said in ask_it(loaded, shown(), shown()):
        first, second = said.answers
        assert (said.plan.frames, said.notes) == (alone.plan.frames, ())
        assert getattr(first, "text", first) == alone.text == "green"
        assert getattr(second, "text", second) in ("day", "night")


def test_a_question_without_finite_numbers_fails_alone(loaded: checkpoint.LoadedModel) -> None:
    (whole,) = ask_it(loaded, shown())
    table = loaded.model.get_input_embeddings().weight
    (word,) = loaded.codec.encode("night")
    kept = table[word].clone()
    with torch.inference_mode():
        table[word] = torch.nan
        try:
            both = ask_it(loaded, shown(), shown())
        finally:
            table[word] = kept
    for said in both:
        first, second = said.answers
        assert first == whole.answers[0]
        assert isinstance(second, NotFiniteError)
        assert failure_of(second).kind == "input"
        assert "embed_tokens.weight" in failure_of(second).message


def test_the_vision_batch_is_halved_with_a_note(
    loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = shown()
    (whole,) = ask_it(loaded, frames)
    limit_batch(monkeypatch, 2)
    first, second = ask_it(loaded, frames, frames)
    assert len(frames.squares) == 8
    assert first.answers == second.answers == whole.answers
    assert first.notes == (
        "memory ran out in the vision tower: vision batch 4 instead of 8",
        "memory ran out in the vision tower: vision batch 2 instead of 4",
    )
    assert second.notes == (), "its batch was small from the start"


def test_then_the_same_frames_get_fewer_tokens(loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, small = shown(), shown(Settings(model="rendered", cache=False, max_frames=4, budget=36))
    (untouched,) = ask_it(loaded, small)
    limit_positions(monkeypatch, 300)
    said, other = ask_it(loaded, frames, small)
    assert (other.plan, other.answers, other.notes) == (small.plan, untouched.answers, ())
    assert said.plan.total_tokens <= said.plan.budget == frames.plan.total_tokens // 2
    assert said.notes == (
        f"memory ran out in the language model: {said.plan.total_tokens} tokens on {len(said.plan.frames)} frames "
        f"instead of {frames.plan.total_tokens} on {len(frames.plan.frames)}",
    )
    assert getattr(said.answers[0], "visual_tokens", None) == said.plan.total_tokens
    times = [said.plan.video.pts_seconds(frame.pts) for frame in said.plan.frames]
    assert said.plan.text_tokens == inputs.text_tokens(loaded, "", num_frames=len(times), times_seconds=times)
    assert {frame.pts for frame in said.plan.frames} <= {frame.pts for frame in frames.plan.frames}


@pytest.mark.parametrize("limit", [limit_batch, limit_positions])
def test_nothing_fits(limit: Limit, loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 0)
    with pytest.raises(OutOfMemoryError, match="not even one frame at one token fits: it takes about") as error:
        ask_it(loaded, shown())
    assert failure_of(error.value).kind == "memory", "a batch tries it again in a fresh process"


@pytest.mark.parametrize("budget", [1, 7, 8, 60, 250, 499])
def test_a_smaller_plan_is_the_best_of_these_frames(budget: int) -> None:
    frames = shown()
    less = frames.smaller(budget)
    scales = [frame.scale for frame in less.plan.frames]
    assert 0 < sum(scales) <= budget == less.plan.budget
    assert len(less.squares) == len(less.utility_NS) == len(scales)
    at = [[frame.pts for frame in frames.plan.frames].index(frame.pts) for frame in less.plan.frames]
    for row, number in enumerate(at):
        np.testing.assert_array_equal(less.squares[row], frames.squares[number])
        assert scales[row] <= frames.plan.frames[number].scale
    # Of this clip no frame would get more than it has, so what is best freely is best here.
    assert less.plan.utility == allocate(frames.utility_NS, budget=budget).utility


def test_pinned_frames_and_shots_stay() -> None:
    pinned = shown(Settings(max_frames=8, budget=500, at="0:03=144"))
    kept = pinned.smaller(200).plan.frames
    assert [frame.scale for frame in kept if frame.reason == "pinned"] == [144]
    with pytest.raises(UsageError):
        pinned.smaller(100)
    free = shown(Settings(max_frames=2, budget=600, at="0:07"))
    (kept_frame,) = [frame for frame in free.smaller(2).plan.frames if frame.reason == "pinned"]
    assert free.smaller(2).smaller(1).plan.frames == (replace(kept_frame, scale=1),), "at any scale, but it stays"
    every = shown(Settings(max_frames=8, budget=500, every_shot=True))
    shots = {frame.shot for frame in every.plan.frames}
    assert {frame.shot for frame in every.smaller(len(shots)).plan.frames} == shots
    assert every.smaller(len(shots) - 1).plan.total_tokens == len(shots) - 1


def test_a_chapter_within_little_memory(loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(max_frames=2, budget=360)
    whole = summarize(SAMPLE, settings, loaded=loaded)
    limit_positions(monkeypatch, 200)
    made = summarize(SAMPLE, settings, loaded=loaded)
    assert [chapter.visual_tokens for chapter in whole.chapters] != [c.visual_tokens for c in made.chapters]
    assert all(chapter.visual_tokens <= 180 for chapter in made.chapters)
    said = [note for note in made.warnings if "memory ran out" in note]
    second = whole.chapters[1].visual_tokens
    assert said == [
        f"0:05.80 - 0:12: memory ran out in the language model: {made.chapters[1].visual_tokens} tokens on 2 frames "
        f"instead of {second} on 2"
    ]


def test_questions_follow_the_plan_that_is_shown(
    loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def questions(plan: TokenPlan) -> list[str]:
        asked.append(plan.total_tokens)
        return ["day or night?"]

    limit_positions(monkeypatch, 300)
    frames = shown()
    (said,) = ask_batches(loaded, [(frames, questions)], SETTINGS)
    assert asked == [frames.plan.total_tokens, frames.plan.total_tokens, said.plan.total_tokens]
