"""Plan files that are refused: each wrong or missing field is named in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.errors import PlanError
from m3video.planning.plan_file import from_json, load_plan, save_plan, to_json
from tests.planning.plans import JSON_VALUES, LATER_FIELDS, PLAN, written


def spoiled(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(data: dict[str, Any]) -> None:
        data.update(changes)

    return spoil


def in_frame(index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["frames"][index].update(changes)


def in_video(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["video"].update(changes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoiled(schema="m3video.plan/3"), r"schema \(m3video.plan/3\) is not m3video.plan/2: write the plan again"),
        (spoiled(schema="m3video.plan/1"), "plan.video.origin is not a field"),
        (spoiled(schema="two\nlines"), r"schema \(two lines\) is not"),
        (spoiled(budgets=1), "plan.budgets is not a field of m3video.plan/2"),
        (in_frame(0, weight=1), r"plan.frames\[0\].weight is not a field"),
        (in_video(fps=30), "plan.video.fps is not a field"),
        (spoiled(budget=719), "plan spends 720 tokens, more than its budget of 719"),
        (spoiled(total_tokens=144), r"plan.total_tokens \(144\) is not the sum of the frames' scales \(720\)"),
        (in_frame(0, scale=100), r"plan.frames\[0\]: scale \(100\) must be one of 1, 9, 36, 144, 576"),
        (in_frame(0, scale=0), r"scale \(0\) must be one of"),
        (in_frame(0, scale=True), r"plan.frames\[0\].scale must be an integer, not true"),
        (in_frame(0, scale=144.0), r"plan.frames\[0\].scale must be an integer, not 144.0"),
        (in_frame(0, pts="5"), r'plan.frames\[0\].pts must be an integer, not "5"'),
        (in_frame(1, pts=-3000, pts_seconds=-3000 / 90000), "strictly increasing pts"),
        (in_frame(1, pts=900001), r"plan.frames\[1\].pts \(900001\) is outside the video, -3000 to 900000"),
        (in_frame(1, pts=90002, pts_seconds=2.0), r"pts_seconds \(2\) is not the time of its pts \(1.000022\)"),
        (in_frame(1, pts_seconds="1:00"), r"plan.frames\[1\].pts_seconds must be a number"),
        (in_frame(1, shot=2), r"plan.frames\[1\].shot \(2\) must be one of the plan's 2 shots"),
        (in_frame(1, shot=-1), r"plan.frames\[1\].shot \(-1\)"),
        (spoiled(frames={}), "plan.frames must be a list, not {}"),
        (spoiled(frames=[5]), r"plan.frames\[0\] must be a JSON object, not 5"),
        (spoiled(video=None), "plan.video must be an object, not null"),
        (in_video(rotation=45), r"plan.video: rotation \(45\)"),
        (in_video(width=0), "plan.video: display size"),
        (in_video(time_base=[1, 0]), "plan.video: time_base"),
        (in_video(origin=[1, 0]), "plan.video: origin"),
        (in_video(origin=[1.5, 1]), r"plan.video.origin must be an integer, not 1.5"),
        (in_video(origin=None), "plan.video.origin must be a list"),
        (in_video(time_base=[1]), r"plan.video.time_base must be a list of two integers, not \[1\]"),
        (in_video(notes=[1]), r"plan.video.notes\[0\] must be a text, not 1"),
        (spoiled(shots=[[1, 2, 3]]), r"plan.shots\[0\] must be a list of two integers"),
        (spoiled(warnings=[None]), r"plan.warnings\[0\] must be a text, not null"),
        (spoiled(utility=float("nan")), r"plan.utility \(nan\) must be a finite number"),
        (spoiled(bound=float("inf")), r"plan.bound \(inf\) must be a finite number"),
        (spoiled(bound=10**400), r"plan.bound \(10{36}\.\.\.\) must fit in 64 bits"),
        (in_video(time_base=[10**400, 1]), r"plan.video.time_base \(10{36}\.\.\.\) must fit in 64 bits"),
        (spoiled(gap=0.5), r"plan.gap \(0.5\) is not that of its utility and bound \(0.0196078\)"),
        (spoiled(method="guess"), r"plan: method \(guess\) must be one of fits, hull, dp, gap"),
        (spoiled(text_tokens=-1), r"plan: text_tokens \(-1\) must be 0 or more"),
        (spoiled(text_tokens="4"), 'plan.text_tokens must be an integer, not "4"'),
        (spoiled(scan="some"), r"plan: scan \(some\) must be one of auto, full, nonref, keyframes"),
        (spoiled(scan=3), "plan.scan must be a text, not 3"),
        (spoiled(scan="full", config={"scan": "nonref"}), r'plan.scan \(full\) is not that of its config \("nonref"\)'),
        (spoiled(num_analyzed=0), r"plan: num_analyzed \(0\) must be 1 to num_frames \(302\)"),
        (spoiled(num_analyzed=303), r"plan: num_analyzed \(303\) must be 1 to num_frames \(302\)"),
        (spoiled(num_repeats=10**6), r"plan: num_repeats \(1000000\) must be 0 to num_candidates"),
        (spoiled(num_analyzed=1.5), "plan.num_analyzed must be an integer, not 1.5"),
        (spoiled(utility=False), "plan.utility must be a number, not false"),
        (spoiled(config="x" * 99), r'plan.config must be an object, not "x{36}\.\.\.$'),
        (spoiled(config={"layout": "grid"}), "the plan of an image grid cannot be replayed"),
    ],
)
def test_a_spoiled_plan_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], message: str
) -> None:
    data = written()
    assert from_json(copy.deepcopy(data)) == PLAN
    spoil(data)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data))
    with pytest.raises(PlanError, match=message) as caught:
        load_plan(path)
    assert str(caught.value).startswith(f"plan file {path}: ")
    assert "\n" not in str(caught.value)


FIELDS = [(name,) for name in written() if name not in LATER_FIELDS]
FIELDS += [("video", name) for name in written()["video"] if name != "partial"]
FIELDS += [("frames", 0, name) for name in written()["frames"][0] if name != "pts_seconds"]


@pytest.mark.parametrize("place", FIELDS, ids=str)
def test_every_field_is_needed(place: tuple[Any, ...]) -> None:
    data = written()
    holder: Any = data
    for step in place[:-1]:
        holder = holder[step]
    del holder[place[-1]]
    with pytest.raises(PlanError, match=rf"\.{place[-1]} is missing"):
        from_json(data)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([*FIELDS, ("video", "partial"), *((name,) for name in LATER_FIELDS)]),
    JSON_VALUES | st.just(10**400),
)
def test_any_value_of_a_field_is_read_or_refused(place: tuple[Any, ...], value: Any) -> None:
    data = written()
    holder: Any = data
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    try:
        plan = from_json(data)
    except PlanError:
        return
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"9" * 10_000, "is not JSON"),
        (b"null", "plan must be a JSON object, not null"),
        (b"[]", r"plan must be a JSON object, not \[\]"),
        (b"{}", "plan.schema is missing"),
        (b'{"schema": "m3video.plan/1", "budget": 1, "budget": 720}', "budget stands there twice"),
    ],
)
def test_a_file_that_holds_no_plan(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(PlanError, match=message) as caught:
        load_plan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(PlanError, match="cannot be read"):
            load_plan(path)
    for path in (tmp_path / "no" / "plan.json", Path(), tmp_path):
        with pytest.raises(PlanError, match="cannot be written"):
            save_plan(PLAN, path)
    assert list(tmp_path.iterdir()) == []
