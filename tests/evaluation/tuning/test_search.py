"""The loop on a real clip and the rendered model: one decoding for all budgets, the same answers as `ask`."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.errors import DoesNotFitError, OutOfMemoryError, UsageError, VideoError
from m3video.evaluation.records import Record
from m3video.evaluation.tuning.fitting import fitting_budgets
from m3video.evaluation.tuning.search import FULL, BudgetMethod, tune
from m3video.inference.evidence import SAMPLE
from m3video.inference.session import VideoSession, ask
from m3video.model.m3.checkpoint import LoadedModel
from m3video.video._pyav import Reader
from tests.evaluation.made import record
from tests.inference.memory.scarce import limit_tokens

SETTINGS = Settings(max_frames=4, max_new_tokens=8, cache=False)
VIDEO = str(SAMPLE)


def questions(*answers: str, video: str = VIDEO) -> list[Record]:
    words = ("is it day or night at 0:01", "what colour is the background at 0:02")
    return [
        record(n, video=video, clip=video, question=word, answer=answer)
        for n, (word, answer) in enumerate(zip(words, answers, strict=False))
    ]


def test_all_budgets_share_one_decoding_and_answer_as_ask(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    encoded: list[int] = []
    fetch, grids = Reader.fetch, loaded.model.visual_grids
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "fetch", lambda reader, pts: fetched.extend(pts) or fetch(reader, pts))
        patch.setattr(
            loaded.model, "visual_grids", lambda pixels, **more: encoded.append(len(pixels)) or grids(pixels, **more)
        )
        found = tune({VIDEO: questions("day", "")}, [36, 180], loaded, SETTINGS)
    assert len(fetched) == len(set(fetched)) == sum(encoded) == found.costs[0].num_frames
    ways = {(o.setting.method, o.setting.budget) for o in found.outcomes}
    assert {way for way in ways if way[0] != FULL} == {(m, b) for m in ("adaptive", "uniform") for b in (36, 180)}
    assert all(o.visual <= o.setting.budget for o in found.outcomes)
    for outcome in found.outcomes:
        if outcome.setting.method == "adaptive":
            settings = SETTINGS.model_copy(update={"budget": outcome.setting.budget})
            assert outcome.text == ask(VIDEO, outcome.record.question, settings, loaded=loaded).text
    reference = {o.record.id: o for o in found.outcomes if o.setting.method == FULL}
    assert {o.visual for o in reference.values()} == {4 * 576}
    for outcome in found.outcomes:
        if not outcome.record.answer:
            assert outcome.right == float(outcome.text == reference[outcome.record.id].text)
    assert found.reference == "full tokens: up to 4 candidates of each video at 576 tokens"
    assert [o.is_first for o in found.outcomes[:2]] == [True, False]
    cost = found.costs[0]
    assert min(cost.analyze, cost.fetch, cost.vision, *cost.plan.values()) > 0
    assert cost.peak_memory_bytes is not None
    assert len(cost.peak_memory_bytes) == 5


def test_a_way_that_runs_out_of_memory_is_not_reported_as_if_it_had_run(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_tokens(monkeypatch, 130)
    with pytest.raises(OutOfMemoryError, match=r"^adaptive, 300 tokens: a prompt needs more memory .* --budgets$"):
        tune({VIDEO: questions("day")}, [36, 300], loaded, SETTINGS)


def test_with_answers_no_reference_is_asked(loaded: LoadedModel) -> None:
    found = tune({VIDEO: questions("day")}, [2], loaded, SETTINGS)
    assert {o.setting.method for o in found.outcomes} == {"adaptive", "uniform"}
    assert found.reference == ""
    # Fewer tokens than candidates: even frames, as many as there are tokens.
    assert {o.frames for o in found.outcomes if o.setting.method == "uniform"} == {2}


def test_the_reference_is_cut_to_the_context(loaded: LoadedModel) -> None:
    with VideoSession(VIDEO, SETTINGS, loaded=loaded) as session:
        from m3video.evaluation.tuning.search import _plan

        plan = _plan(session, BudgetMethod(FULL, 2 * 576))
        candidates = session.plan_details(budget=2 * 576).selection.pts_N.tolist()
    assert [frame.scale for frame in plan.frames] == [576, 576]
    assert [candidates.index(frame.pts) for frame in plan.frames] == [1, 3]


def test_budgets_beyond_the_context_are_dropped(loaded: LoadedModel) -> None:
    asked = {VIDEO: questions("day")}
    kept, notes = fitting_budgets([36, 10**6], asked, loaded, SETTINGS)
    assert kept == [36]
    assert "--budgets 1000000" in notes[0]
    assert fitting_budgets([36], asked, loaded, SETTINGS) == ([36], ())
    with pytest.raises(DoesNotFitError, match=r"no budget fits \(1000000\).*use --budgets \d+ or less"):
        fitting_budgets([10**6], asked, loaded, SETTINGS)


def test_a_bad_video_costs_itself_only(loaded: LoadedModel, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    asked = {str(bad): questions("day", video=str(bad)), VIDEO: questions("day")}
    found = tune(asked, [36], loaded, SETTINGS)
    assert [cost.video for cost in found.costs] == [VIDEO]
    assert {o.record.clip for o in found.outcomes} == {VIDEO}
    assert "bad.mp4" in found.failed[0]
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        tune({str(bad): asked[str(bad)]}, [36], loaded, SETTINGS)
    with pytest.raises(VideoError, match="none of the 2 videos"):
        tune({str(bad): asked[str(bad)], str(bad) + "x": asked[str(bad)]}, [36], loaded, SETTINGS)


def test_a_grid_has_no_budgets_to_compare(loaded: LoadedModel) -> None:
    with pytest.raises(UsageError, match="grid"):
        tune({VIDEO: questions("day")}, [36], loaded, Settings(layout="grid"))
