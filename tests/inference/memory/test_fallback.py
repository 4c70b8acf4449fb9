"""Memory that runs out: what is reduced, in which order, and the notes on it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from m3video.config import Settings
from m3video.errors import DoesNotFitError, OutOfMemoryError
from m3video.inference.pipeline import plan_video
from m3video.inference.session import VideoSession, ask
from m3video.model.m3 import checkpoint
from tests.inference.memory.scarce import Limit, limit_batch, limit_tokens
from tests.paths import SAMPLE

QUESTION = "What colour is the background at 0:03?"


@pytest.fixture(scope="module")
def loaded() -> checkpoint.LoadedModel:
    return checkpoint.load("rendered", device="cpu")


def test_the_vision_batch_is_halved_and_the_answer_says_so(
    loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_batch(monkeypatch, 2)
    settings = Settings(cache=False, max_frames=8, budget=72)
    answer = ask(SAMPLE, QUESTION, settings, loaded=loaded)
    assert answer.text == "green"
    said = [warning for warning in answer.warnings if "memory ran out" in warning]
    assert said == [
        "memory ran out in the vision tower: vision batch 4 instead of 8",
        "memory ran out in the vision tower: vision batch 2 instead of 4",
    ]
    assert len(answer.plan.frames) == 8 == len(plan_video(SAMPLE, settings).frames)


def test_then_the_budget_is_lowered_by_planning_again(
    loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_tokens(monkeypatch, 130)
    answer = ask(SAMPLE, QUESTION, Settings(cache=False, max_frames=4, budget=500), loaded=loaded)
    assert answer.plan.total_tokens + (answer.plan.text_tokens or 0) <= 130
    said = [warning for warning in answer.warnings if "memory ran out in the language model" in warning]
    assert said
    assert said[-1].startswith(
        f"memory ran out in the language model: {answer.plan.total_tokens} tokens on {len(answer.plan.frames)} frames"
    )
    assert answer.plan.config["budget"] >= answer.plan.total_tokens
    alone = plan_video(SAMPLE, Settings(max_frames=4, budget=answer.plan.budget))
    assert alone.frames == answer.plan.frames, "it is the best plan for what is left"


@pytest.mark.parametrize("limit", [limit_batch, limit_tokens])
def test_nothing_fits(limit: Limit, loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 0)
    with pytest.raises(DoesNotFitError) as error:
        ask(SAMPLE, QUESTION, Settings(cache=False, max_frames=4, budget=72), loaded=loaded)
    assert "not even one frame at one token fits: it takes about" in str(error.value)
    assert "are free now" in str(error.value)
    assert error.value.exit_code == 4


def test_a_plan_that_was_given_stays_as_it_is(loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_tokens(monkeypatch, 130)
    settings = Settings(cache=False, max_frames=4, budget=500)
    plan = plan_video(SAMPLE, settings)
    with pytest.raises(DoesNotFitError, match="the plan that was given stays as it is: make one with --budget"):
        ask(SAMPLE, QUESTION, settings, plan=plan, loaded=loaded)


def test_a_plan_that_the_session_made_stays_when_it_is_given(
    loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_tokens(monkeypatch, 130)
    with VideoSession(SAMPLE, Settings(cache=False, max_frames=4, budget=500), loaded=loaded) as session:
        details = session.plan_details()
        for given in (session.plan_with(details, [144, 0, 144, 36]), details.plan):
            with pytest.raises(OutOfMemoryError, match="the plan that was given stays as it is"):
                session.ask(QUESTION, plan=given)
        assert session.ask(QUESTION).plan.total_tokens < 130


def test_a_smaller_plan_is_about_the_same_question(
    loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_tokens(monkeypatch, 130)
    answer = ask(SAMPLE, QUESTION, Settings(cache=False, budget=144, saliency="times"), loaded=loaded)
    assert answer.text == "green"
    assert answer.plan.focus is not None
    assert answer.plan.total_tokens < 130
    assert [frame for frame in answer.plan.frames if 3 <= answer.plan.video.pts_seconds(frame.pts) < 4]
    with VideoSession(SAMPLE, Settings(cache=False), loaded=loaded) as session:
        changed = session.ask("what is shown", start=6.0, detail="medium", budget=288).plan
        assert changed.total_tokens < 130
        assert (changed.config["start"], changed.config["detail"]) == (6.0, "medium")
        assert all(changed.video.pts_seconds(frame.pts) >= 6 for frame in changed.frames)


def test_out_of_memory_in_the_coarse_attention_pass_plans_without_it(
    loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m3video.model.m3 import saliency

    settings = Settings(cache=False, budget=360, saliency="attention")
    with monkeypatch.context() as patch:
        limit_batch(patch, 2)
        halved = ask(SAMPLE, "what does the sign say", settings, loaded=loaded)
    assert halved.plan.focus is not None
    assert "memory ran out in the vision tower: vision batch 4 instead of 8" in halved.warnings

    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr(saliency, "last_row", full)
    answer = ask(SAMPLE, "what does the sign say", settings, loaded=loaded)
    assert answer.plan.focus is None
    assert answer.plan.frames == plan_video(SAMPLE, Settings(budget=360)).frames
    assert "memory ran out in the coarse attention pass: the frames were chosen without the question" in answer.warnings


def test_pinned_frames_are_not_given_up(loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_tokens(monkeypatch, 130)
    with pytest.raises(DoesNotFitError, match="a smaller plan is not possible: --budget"):
        ask(SAMPLE, QUESTION, Settings(cache=False, max_frames=4, budget=600, at="0:03=576"), loaded=loaded)


LIMITED = """
import json, resource, sys
from m3video.config import Settings
from m3video.model.m3 import checkpoint
from m3video.inference.session import VideoSession, ask
loaded = checkpoint.load("rendered", device="cpu")
first = ask(sys.argv[1], "day or night?", Settings(cache=False, budget=4, max_frames=1), loaded=loaded)
data = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (data * 1024 + (70 << 20), resource.RLIM_INFINITY))
answer = ask(sys.argv[1], "day or night?", Settings(cache=False, budget=5760), loaded=loaded)
print(json.dumps([first.text, answer.text, answer.plan.total_tokens, list(answer.warnings)]))
"""


def test_a_real_limit_of_the_system_costs_tokens_and_not_the_answer() -> None:
    """70 MiB beyond what the process has: 5,760 tokens take 95."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(SAMPLE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    first, text, tokens, warnings = json.loads(done.stdout)
    assert text == first
    assert 1 < tokens < 4000
    assert any(warning.startswith("memory ran out in the ") for warning in warnings)
