"""The loop, end to end with the rendered model on two short clips: encoded once, equal tokens, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m3video.errors import EXIT_INTERRUPTED, DoesNotFitError, UsageError
from m3video.evaluation import clip_runner as running
from m3video.evaluation.clip_runner import refer
from m3video.evaluation.footage_set import FootageSpec, make_footage_records
from m3video.evaluation.methods import ShownFrame, make_methods
from m3video.evaluation.records import Record
from m3video.evaluation.run import InterruptedRunError, run_evaluation
from m3video.evaluation.run_settings import RunSettings, method_budgets
from m3video.evaluation.samples import SampleRow, read_sample_rows, sample_key
from m3video.evaluation.subtitles import Cue
from m3video.model.m3 import checkpoint
from tests.evaluation.made import record, view

NAMES = ("adaptive", "uniform", "merge", "prune", "oracle", "fixed", "resample")
SETTINGS = RunSettings(tuple(make_methods(NAMES, max_frames=4)), (20, 150), 4)
SECONDS = ("plan_seconds", "answer_seconds", "prefill_seconds", "decode_seconds")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    spec = FootageSpec(seed=8, clips=2, questions=4, lengths=((3, 3.5, 6),))
    return make_footage_records(spec, folder=tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def whole(loaded: checkpoint.LoadedModel, records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_evaluation(records, loaded, SETTINGS, tmp_path_factory.mktemp("whole")).folder


def samples(folder: Path) -> list[SampleRow]:
    """Answers in a fixed order, without what differs from run to run."""
    rows = [{k: v for k, v in row.items() if k not in SECONDS} for row in read_sample_rows(folder / "samples.jsonl")]
    return sorted(rows, key=sample_key)


def test_every_question_is_answered_once_by_every_method_within_its_budget(whole: Path, records: list[Record]) -> None:
    rows = samples(whole)
    assert len(rows) == len(method_budgets(SETTINGS)) * len(records) == len({sample_key(row) for row in rows})
    shown = [row for row in rows if "skipped" not in row]
    assert all(0 < row["token_counts"]["visual_tokens"] <= row["budget"] for row in shown)
    assert {row["method"] for row in rows if "skipped" in row and row["budget"] == 150} == {
        "fixed-576",
        "oracle-576",
        "resample",
    }
    assert {row["acc"] for row in shown} == {0.0, 1.0}
    plans = {row["plan"]: row["pieces"] for row in read_sample_rows(whole / "plans.jsonl")}
    for row in shown:
        pieces = plans[row["plan"]]
        assert sum(tokens for _, _, tokens in pieces) == row["token_counts"]["visual_tokens"]
        assert len(pieces) == row["frames"]


def test_the_model_reads_what_it_is_good_at(whole: Path) -> None:
    rows = [r for r in samples(whole) if r["method"] == "fixed-1" and r["family"] in ("background", "light")]
    assert rows
    assert sum(r["acc"] for r in rows) / len(rows) > 0.6


def test_each_frame_is_encoded_once_and_costs_are_noted(
    loaded: checkpoint.LoadedModel, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[int] = Counter()
    original = running.encode_frames

    def counting(model: Any, pictures: Sequence[Any], **kwargs: Any) -> Any:
        counted.update(hash(p.tobytes()) for p in pictures)
        return original(model, pictures, **kwargs)

    monkeypatch.setattr(running, "encode_frames", counting)
    one = [r for r in records if r.clip == records[0].clip]
    folder = run_evaluation(one, loaded, SETTINGS, tmp_path)
    (clip,) = folder.clips()
    assert counted.total() == clip["frames_encoded"]
    assert clip["stage_seconds"].keys() == {"analyze", "fetch", "vision tower", "prefill", "decode"}
    assert all(value > 0 for value in clip["stage_seconds"].values())
    assert clip["peak_memory_bytes"] > 1e8
    counted.clear()
    run_evaluation(one, loaded, SETTINGS, tmp_path)
    assert not counted, "a complete run does nothing"


@pytest.mark.parametrize("after", [1, 9])
def test_a_killed_run_goes_on_and_ends_the_same(
    after: int,
    loaded: checkpoint.LoadedModel,
    records: list[Record],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    original = running.answer_many

    def killed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(running, "answer_many", killed)
        with pytest.raises(InterruptedRunError, match="goes on from there") as caught:
            run_evaluation(records, loaded, SETTINGS, tmp_path)
    assert caught.value.exit_code == EXIT_INTERRUPTED
    kept = samples(tmp_path)
    assert 0 < len(kept) < len(samples(whole))
    assert f"{len(kept)} of {len(samples(whole))} answers" in str(caught.value)
    # As a kill in the middle of writing leaves it.
    path = tmp_path / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    run_evaluation(records, loaded, SETTINGS, tmp_path)
    assert samples(tmp_path) == samples(whole)


def test_more_budgets_go_into_the_same_folder_other_questions_do_not(
    loaded: checkpoint.LoadedModel, records: list[Record], tmp_path: Path
) -> None:
    methods = tuple(make_methods(["fixed"], max_frames=4))
    first = run_evaluation(records[:2], loaded, RunSettings(methods, (4,), 4), tmp_path)
    again = run_evaluation(records[:2], loaded, RunSettings(methods, (4, 36), 4), tmp_path)
    assert len(first.done) == len(methods) * 2
    assert len(again.done) == len(methods) * 4
    with pytest.raises(UsageError, match="questions"):
        run_evaluation(records[:3], loaded, RunSettings(methods, (4,), 4), tmp_path)
    with pytest.raises(UsageError, match="max_frames"):
        run_evaluation(records[:2], loaded, RunSettings(methods, (4,), 8), tmp_path)


def test_a_budget_beyond_the_context_is_refused_before_anything_runs(
    loaded: checkpoint.LoadedModel, records: list[Record], tmp_path: Path
) -> None:
    settings = RunSettings(tuple(make_methods(["fixed"], max_frames=4)), (36, 9000), 4)
    with pytest.raises(DoesNotFitError, match="9000 visual"):
        run_evaluation(records, loaded, settings, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_rates_buy_a_longer_clip_more_tokens_and_do_not_mix_with_budgets(
    loaded: checkpoint.LoadedModel, tmp_path: Path
) -> None:
    spec = FootageSpec(seed=8, clips=2, questions=2, lengths=((2, 2.2, 6), (4, 4.4, 6)))
    records = make_footage_records(spec, folder=tmp_path / "clips")
    methods = tuple(make_methods(["uniform", "full"], max_frames=4, context=1600))
    done = run_evaluation(records, loaded, RunSettings(methods, (36,), 4, per_second=True), tmp_path / "out")
    visual = {(row["clip"], row["method"]): row["token_counts"]["visual_tokens"] for row in done.samples()}
    short, long = sorted({row["clip"] for row in done.samples()})
    for clip, seconds in ((short, (2, 2.5)), (long, (4, 4.7))):
        # The frames share the budget to within one step of one scale.
        assert 36 * seconds[0] - 27 <= visual[clip, "uniform@4"] <= 36 * seconds[1]
        assert visual[clip, "full"] == 2 * 576, "what 1600 positions hold beside the text"
    with pytest.raises(UsageError, match="per_second"):
        run_evaluation(records, loaded, RunSettings(methods, (36,), 4), tmp_path / "out")
    with pytest.raises(DoesNotFitError, match="visual"):
        run_evaluation(records, loaded, RunSettings(methods, (2500,), 4, per_second=True), tmp_path / "new")


def test_a_moment_is_named_as_the_frame_that_shows_most_of_its_shot() -> None:
    clip = view(3, 200, max_frames=32)
    starts = [start for start, _ in clip.candidates.shots]
    assert len(starts) > 3
    inside = [int(p) for p in clip.stats.pts_N if starts[1] <= p < starts[2]]
    before = int(clip.stats.pts_N[0])
    moment = clip.info.pts_seconds(inside[-1])
    about = record(1, question="what is it at 0:01", moment=moment, reference="at 0:01")
    plan = (ShownFrame(before, "pool", 576), ShownFrame(inside[0], "pool", 9), ShownFrame(inside[-2], "pool", 1))
    assert refer(about, plan, clip, "shot", style="rendered") == "what is it in frame 2"
    assert refer(about, plan, clip, "nearest", style="rendered") == "what is it in frame 3"
    assert refer(about, plan, clip, "asked", style="rendered") == "what is it at 0:01"
    assert refer(about, plan[:1], clip, "shot", style="rendered") == "what is it in frame 1", (
        "the nearest, if none is in"
    )
    assert refer(about, plan, clip, "nearest", style="vicuna_v1").startswith("what is it at 0:")
    assert refer(record(1), plan, clip, "shot", style="rendered") == record(1).question


def test_one_question_that_fails_takes_no_other_with_it(
    loaded: checkpoint.LoadedModel, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = [r for r in records if r.clip == records[0].clip]
    methods = tuple(make_methods(["adaptive"], max_frames=4))
    original = running.answer_many

    def choosy(model: Any, tokens: Any, questions: Sequence[str], **kwargs: Any) -> Any:
        if any("WRONG" in text for text in questions):
            raise DoesNotFitError("the prompt is too long")
        return original(model, tokens, questions, **kwargs)

    wrong = replace(one[0], question="WRONG", reference="")
    with monkeypatch.context() as patch:
        patch.setattr(running, "answer_many", choosy)
        folder = run_evaluation([wrong, *one[1:]], loaded, RunSettings(methods, (36,), 4), tmp_path)
    (failure,) = folder.failures()
    assert (failure["doc_id"], failure["error"]) == (wrong.id, "the prompt is too long")
    assert {row["doc_id"] for row in folder.samples()} == {r.id for r in one[1:]}
    again = run_evaluation([wrong, *one[1:]], loaded, RunSettings(methods, (36,), 4), tmp_path)
    assert not again.failures(), "it is tried again"
    assert len(again.samples()) == len(one)


def test_subtitles_of_the_shown_frames_stand_before_the_question(
    loaded: checkpoint.LoadedModel, records: list[Record], tmp_path: Path
) -> None:
    (one,) = records[:1]
    methods = tuple(make_methods(["uniform"], max_frames=4))
    cues = {one.video: [Cue(0, 1000, "word"), Cue(2000, 3000, "never")]}
    settings = RunSettings(methods, (36,), 4, reference="asked")
    folder = run_evaluation([one], loaded, settings, tmp_path, subtitles=cues)
    assert {row["input"] for row in folder.samples()} == {
        f"This video's subtitles are listed below:\nword\n{one.question}"
    }
    with pytest.raises(UsageError, match="subtitles"):
        run_evaluation([one], loaded, settings, tmp_path)
