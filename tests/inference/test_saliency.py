"""Two-pass ask, from the flag to the plan: honest tokens, no focus where there is none, and replay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from m3video.cli.app import app
from m3video.config import Settings, load_settings
from m3video.distributed.tasks import make_task
from m3video.errors import UsageError
from m3video.inference.decision import PlanDetails
from m3video.inference.evidence import SAMPLE
from m3video.inference.saliency import focus_on, named_pins
from m3video.inference.session import VideoSession, ask
from m3video.inference.summary.summarize import refuse_ranges
from m3video.model.m3.saliency import QuestionAttention
from m3video.planning.plan_file import from_json, load_plan, save_plan, to_json
from m3video.planning.saliency import coarse_scales
from m3video.report.plan_text import plan_facts
from m3video.types import Answer

RUN = CliRunner()
SETTINGS = Settings(model="rendered", budget=360, cache=False)


@pytest.fixture(scope="module")
def session() -> VideoSession:
    return VideoSession(SAMPLE, SETTINGS)


@pytest.fixture(scope="module")
def details(session: VideoSession) -> PlanDetails:
    return session.plan_details()


@pytest.fixture(scope="module")
def attended(session: VideoSession) -> Answer:
    settings = Settings(**{**SETTINGS.model_dump(), "saliency": "attention"})
    return ask(SAMPLE, "what does the sign say", settings, loaded=session.loaded)


def looking(relevance: Sequence[float], moved: float, seen: list[Sequence[int]]):  # type: ignore[no-untyped-def]
    """A coarse pass that attends to the first frames it is shown like this, and to no others."""

    def attend(scales: Sequence[int]) -> QuestionAttention:
        seen.append(scales)
        shown = np.count_nonzero(scales)
        return QuestionAttention(np.array([*relevance, *[0.0] * (shown - len(relevance))]), moved)

    return attend


def test_a_named_time_needs_no_coarse_pass(details: PlanDetails) -> None:
    seen: list[Sequence[int]] = []
    found = focus_on("what is shown at 0:03", details, measure="attention", attend=looking([1], 1.0, seen))
    assert found is not None
    focus, share = found
    assert (focus.measure, focus.first_tokens, seen) == ("times", 0, [])
    assert share is not None
    times = [details.plan.video.pts_seconds(pts) for pts, _ in focus.weights]
    assert [int(time) for time in times] == [3]


def test_measure_times_never_runs_the_coarse_pass(details: PlanDetails) -> None:
    seen: list[Sequence[int]] = []
    assert focus_on("what is shown", details, measure="times", attend=looking([1], 1.0, seen)) is None
    assert seen == []


def test_the_coarse_pass_is_counted_whatever_it_finds(details: PlanDetails) -> None:
    cost = int(coarse_scales(details.utility_CS, budget=details.settings.budget).sum())
    for relevance, moved in (([1.0], 0.9), ([0.5, 0.0, 0.0, 0.0, 0.5], 0.9), ([1.0], 0.0)):
        found = focus_on("what is it", details, measure="attention", attend=looking(relevance, moved, []))
        assert found is not None
        assert found[0].first_tokens == cost
        assert (found[1] is None) == (found[0].weights == ())


def test_pinned_frames_keep_their_tokens(session: VideoSession) -> None:
    seen: list[Sequence[int]] = []
    pinned = session.plan_details(at="0:01=144,0:08=144")
    focus_on("what is it", pinned, measure="attention", attend=looking([1.0], 1.0, seen))
    assert sum(seen[0]) <= (360 - 288) / 4


def test_a_time_within_the_video_is_made_a_candidate(session: VideoSession) -> None:
    info = session.info
    assert named_pins("what is shown at 0:03", info, SETTINGS) == {"at": "3.500"}
    assert named_pins("at 0:03 and 0:59", info, replace_settings(at="0:01")) == {"at": "0:01, 3.500"}
    assert named_pins("at 0:59", info, SETTINGS) == {}
    assert named_pins("what is shown", info, SETTINGS) == {}
    assert named_pins("at 0:03", info, replace_settings(scan="keyframes")) == {}
    assert named_pins("at 0:03", info, replace_settings(end=2.0)) == {}


def replace_settings(**changes: object) -> Settings:
    return Settings(**{**SETTINGS.model_dump(), **changes})


@pytest.mark.parametrize(
    ("question", "settings"),
    [
        ("what is shown at 0:05?", {"start": 5.8, "budget": 36}),
        ("what colour is it at 0:01 and 0:04?", {"budget": 1}),
        ("what colour is it at 0:01 and 0:04?", {"max_frames": 1}),
    ],
)
def test_moments_that_cannot_all_be_shown_are_no_error(question: str, settings: dict[str, float]) -> None:
    with VideoSession(SAMPLE, Settings(cache=False, saliency="times", **settings)) as video:
        plan = video.plan_for(question)
    is_told = "the frames and tokens that may be shown are too few for all moments that are named" in plan.warnings
    assert is_told == ("start" not in settings)
    assert 1 <= len(plan.frames) <= settings.get("max_frames", 16)
    assert plan.video.pts_seconds(plan.frames[0].pts) >= settings.get("start", 0)


def test_named_moments_stand_beside_what_was_pinned(session: VideoSession) -> None:
    with VideoSession(SAMPLE, Settings(cache=False, saliency="times", budget=400)) as video:
        plan = video.plan_for("what colour is it at 0:04?", at="0:08=36", start=2.0)
    assert plan.config["at"] == "0:08=36, 4.500"
    assert {frame.scale for frame in plan.frames if plan.video.pts_seconds(frame.pts) >= 7.5} == {36}


def test_all_tokens_are_within_the_budget_and_reported(attended: Answer) -> None:
    plan = attended.plan
    assert plan.focus is not None
    assert 0 < plan.first_tokens <= 90
    assert plan.first_tokens + plan.total_tokens == attended.visual_tokens <= 360
    assert "first look" in attended.stage_seconds
    facts = dict(plan_facts(plan))
    assert facts["tokens"] == f"{plan.total_tokens} of 360, and {plan.first_tokens} in a coarse attention pass"
    assert facts["question"].startswith("about ")


def test_a_plan_with_a_focus_is_written_read_and_replayed(
    attended: Answer, session: VideoSession, tmp_path: Path
) -> None:
    save_plan(attended.plan, tmp_path / "plan.json")
    loaded = load_plan(tmp_path / "plan.json")
    assert loaded == attended.plan
    again = ask(SAMPLE, attended.question, SETTINGS, plan=loaded, loaded=session.loaded)
    assert again.text == attended.text
    assert again.visual_tokens == loaded.total_tokens  # a replay does not look again
    assert again.plan.focus == loaded.focus


def test_plans_from_before_are_still_plans(session: VideoSession) -> None:
    data = to_json(session.plan())
    assert data["focus"] is None
    del data["focus"]
    assert from_json(data) == session.plan()


def test_a_coarse_pass_beyond_the_budget_is_no_plan(attended: Answer) -> None:
    assert attended.plan.focus is not None
    with pytest.raises(ValueError, match="more than its budget"):
        replace(attended.plan, focus=replace(attended.plan.focus, first_tokens=360))


def test_off_is_the_plan_without_a_question(session: VideoSession) -> None:
    assert session.plan_for("what is shown at 0:03") == session.plan()


def test_follow_ups_plan_for_each_question(session: VideoSession) -> None:
    settings = replace_settings(saliency="times")
    with VideoSession(SAMPLE, settings, loaded=session.loaded) as asked:
        for second in (3, 7):
            frames = asked.ask(f"what colour is the background at 0:0{second}", budget=144).plan.frames
            assert [int(session.info.pts_seconds(frame.pts)) for frame in frames] == [second]
        assert asked.ask("what is shown", budget=144).plan.frames == session.plan(budget=144).frames


def test_command_line() -> None:
    wrong = RUN.invoke(app, ["ask", str(SAMPLE), "is there a sign", "--saliency", "atention"])
    assert isinstance(wrong.exception, UsageError)
    assert str(wrong.exception).startswith("--saliency (atention): ")
    question = "what colour is the background at 0:03"
    done = RUN.invoke(app, ["ask", str(SAMPLE), question, "--saliency", "times", "--json", "-q"])
    plan = json.loads(done.stdout)["plan"]
    assert plan["focus"]["measure"] == "times"
    assert [int(frame["pts_seconds"]) for frame in plan["frames"]] == [3]
    assert plan["config"]["saliency"] == "times"
    decided = RUN.invoke(app, ["ask", str(SAMPLE), question, "--saliency", "times", "--plan", "plan.json"])
    assert "already decides --saliency" in str(decided.exception)


def test_what_plans_for_all_questions_refuses_saliency() -> None:
    settings = replace_settings(saliency="times")
    for refused in (lambda: make_task("ask", settings), lambda: refuse_ranges(settings)):
        with pytest.raises(UsageError, match="single questions"):
            refused()


def test_yaml_off_is_off(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("saliency: off\n")
    assert load_settings({}, config=tmp_path / "settings.yaml").saliency == "off"
