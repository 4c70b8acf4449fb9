"""Plan files: what is written is what is read, and nothing else is."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.errors import PlanError
from m3video.planning.allocate import allocate
from m3video.planning.plan_file import SCHEMA, check_matches, from_json, load_plan, save_plan, to_json
from m3video.planning.sample import sample
from m3video.planning.utility import utility
from m3video.types import METHODS, SCALES, SCANS, PlannedFrame, TokenPlan, VideoInfo
from tests.planning.frames import TIME_BASE, noise, plain, stats_of
from tests.planning.plan_values import LATER_FIELDS, PLAN, VIDEO, written

TEXTS = st.text(max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def any_plan(draw: st.DrawFn) -> TokenPlan:
    start = draw(st.integers(-(2**60), 2**60))
    edges = sorted(draw(st.sets(st.integers(start, start + 2**40), min_size=2, max_size=30)))
    video = VideoInfo(
        path=draw(TEXTS),
        fingerprint=draw(TEXTS),
        backend=draw(TEXTS),
        container=draw(TEXTS),
        codec=draw(TEXTS),
        pixel_format=draw(TEXTS),
        width=draw(st.integers(1, 9999)),
        height=draw(st.integers(1, 9999)),
        rotation=draw(st.sampled_from([0, 90, 180, 270])),
        time_base=draw(st.tuples(st.integers(1, 2000), st.integers(1, 10**9))),
        start_pts=edges[0],
        end_pts=edges[-1],
        last_duration=draw(st.integers(0, 9999)),
        num_frames=draw(st.integers(1, 10**9)),
        num_keyframes=1,
        num_frames_from_header=draw(st.none() | st.integers(0, 10**9)),
        duration_seconds_from_header=draw(st.none() | NUMBERS),
        num_damaged_packets=draw(st.integers(0, 99)),
        notes=tuple(draw(st.lists(TEXTS, max_size=3))),
        origin=draw(st.tuples(st.integers(-(10**6), 10**6), st.integers(1, 10**6))),
    )
    shots = tuple(itertools.pairwise(edges))
    shown = sorted(draw(st.sets(st.sampled_from(edges))))
    frames = tuple(
        PlannedFrame(pts, draw(st.sampled_from(SCALES)), draw(st.integers(0, len(shots) - 1)), draw(TEXTS))
        for pts in shown
    )
    spent = sum(frame.scale for frame in frames)
    return TokenPlan(
        video=video,
        budget=spent + draw(st.integers(0, 999)),
        frames=frames,
        utility=draw(NUMBERS),
        bound=draw(NUMBERS),
        num_candidates=draw(st.integers(0, 4096)),
        shots=shots,
        config=draw(
            st.dictionaries(TEXTS, JSON_VALUES, max_size=4).filter(
                lambda made: made.get("layout") != "grid" and "scan" not in made
            )
        ),
        warnings=tuple(draw(st.lists(TEXTS, max_size=3))),
        method=draw(st.sampled_from(["", *METHODS])),
        text_tokens=draw(st.none() | st.integers(0, 9999)),
        scan=draw(st.sampled_from(SCANS)),
        num_analyzed=draw(st.none() | st.integers(1, video.num_frames)),
        estimate=draw(TEXTS),
        num_repeats=draw(st.none() | st.just(0)),
    )


@settings(deadline=None, max_examples=200)
@given(any_plan())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, plan: TokenPlan) -> None:
    path = tmp_path_factory.getbasetemp() / "plan.json"
    save_plan(plan, path)
    again = load_plan(path)
    assert again == plan
    assert again.video.time_base == plan.video.time_base
    first = path.read_bytes()
    save_plan(again, path)
    assert path.read_bytes() == first


def test_the_layout_is_the_documented_one() -> None:
    data = written()
    assert list(data) == [
        "schema",
        "video",
        "backend",
        "budget",
        "total_tokens",
        "utility",
        "bound",
        "gap",
        "method",
        "text_tokens",
        "scan",
        "num_analyzed",
        "num_candidates",
        "num_repeats",
        "estimate",
        "config",
        "warnings",
        "focus",
        "shots",
        "frames",
    ]
    assert data["schema"] == SCHEMA == "m3video.plan/2"
    assert data["video"]["origin"] == [0, 1]
    assert data["video"]["time_base"] == [1, 90000]
    assert data["total_tokens"] == 720
    assert data["frames"][1] == {"pts": 90001, "pts_seconds": 1.000011, "scale": 576, "shot": 1, "reason": "change"}


def test_a_real_plan_is_replayed_exactly(tmp_path: Path) -> None:
    stats = stats_of([noise(i // 10) if i // 10 % 2 else plain(20 * i // 10) for i in range(60)])
    chosen = sample(stats, max_frames=12)
    decided = allocate(utility(stats, chosen), budget=700)
    video = replace(VIDEO, time_base=TIME_BASE, start_pts=int(stats.pts_N[0]), end_pts=int(stats.pts_N[-1]))
    frames = tuple(
        PlannedFrame(int(pts), int(scale), int(shot), reason)
        for pts, scale, shot, reason in zip(chosen.pts_N, decided.scale_N, chosen.shot_N, chosen.reason_N, strict=True)
        if scale
    )
    plan = TokenPlan(
        video=video,
        budget=700,
        frames=frames,
        utility=decided.utility,
        bound=decided.bound,
        num_candidates=len(chosen),
        shots=chosen.shots,
        warnings=chosen.notes,
    )
    assert len({frame.shot for frame in frames}) > 1
    save_plan(plan, tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    check_matches(again, video)
    assert [(f.pts, f.scale, f.shot) for f in again.frames] == [(f.pts, f.scale, f.shot) for f in frames]
    assert (again.utility, again.bound) == (decided.utility, decided.bound)


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
        (spoiled(scan="some"), r"plan: scan \(some\) must be one of full, nonref, keyframes"),
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
def test_whatever_stands_in_a_field_is_read_or_refused(place: tuple[Any, ...], value: Any) -> None:
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
