"""Plan files: what is written is what is read, also by older versions and for the same video elsewhere."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.config import parse_pins
from m3video.errors import PlanError
from m3video.planning.allocate import allocate
from m3video.planning.plan_file import SCHEMA, check_matches, for_video, from_json, load_plan, save_plan, to_json
from m3video.planning.sample import sample
from m3video.planning.utility import utility
from m3video.types import METHODS, SCALES, SCANS, PlannedFrame, TokenPlan, VideoInfo
from tests.planning.frames import TIME_BASE, noise, plain, stats_of
from tests.planning.plans import JSON_VALUES, LATER_FIELDS, NUMBERS, PLAN, TEXTS, VIDEO, written


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
        candidates_why=draw(TEXTS),
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
        "candidates_why",
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


def test_a_plan_from_before_the_proof_was_written_is_read() -> None:
    data = written()
    for name in LATER_FIELDS:
        del data[name]
    assert from_json(data) == replace(PLAN, method="", text_tokens=None, scan="full", num_analyzed=None)


def old(**config: Any) -> dict[str, Any]:
    """A plan as `m3video.plan/1` had it: its seconds count from pts 0."""
    data = written()
    data["schema"] = "m3video.plan/1"
    del data["video"]["origin"]
    data["config"].update(config)
    return data


def test_a_plan_of_the_schema_before_is_read_and_brought_on_the_clock_of_its_file() -> None:
    """Its integers are exact; what it says in seconds is what they were then, and moves with the file's clock."""
    data = old(start=0.5, end=9.0, at="0:01=576,2,500")
    assert data["frames"][1]["pts_seconds"] == 1.000011
    plan = from_json(data)
    assert (plan.frames, plan.shots, plan.warnings) == (PLAN.frames, PLAN.shots, PLAN.warnings)
    assert plan.video.pts_seconds(90001) == pytest.approx(1.000011, abs=1e-6)
    here = for_video(plan, replace(VIDEO, origin=(-3000, 90000)))
    assert here.frames == PLAN.frames
    assert here.video.pts_seconds(-3000) == 0.0
    assert (here.config["start"], here.config["end"]) == pytest.approx((0.5 + 1 / 30, 9 + 1 / 30))
    assert [scale for _, scale in parse_pins(here.config["at"])] == [576, None, None]
    assert [time for time, _ in parse_pins(here.config["at"])] == pytest.approx([1 + 1 / 30, 2 + 1 / 30, 500 + 1 / 30])
    assert here.warnings[:-1] == PLAN.warnings
    assert "as players count, its frames are 0.033 s later than it says" in here.warnings[-1]
    again = from_json(json.loads(json.dumps(to_json(here))))
    assert again == here
    assert for_video(again, replace(VIDEO, origin=(-3000, 90000))) == here


def test_a_plan_of_the_schema_before_may_be_on_the_clock_already() -> None:
    """Where the earliest stream starts at 0, nothing moves and nothing is said."""
    plan = from_json(old(start=0.5))
    assert for_video(plan, VIDEO) == plan
    assert json.loads(json.dumps(to_json(plan)))["schema"] == SCHEMA


@pytest.mark.parametrize("value", [None, True, "0:01", [1], {"a": 1}, 10**30])
def test_settings_that_somebody_has_edited_do_not_stop_a_plan(value: Any) -> None:
    plan = from_json(old(start=value, end=value, at="1:99" if value is None else value))
    late = for_video(plan, replace(VIDEO, origin=(7, 5)))
    assert late.frames == PLAN.frames
    with pytest.raises(PlanError, match=r"the content of film\.mp4 is not the same"):
        for_video(plan, replace(VIDEO, fingerprint="sha256:2"))


def test_seconds_may_be_left_out() -> None:
    data = written()
    for frame in data["frames"]:
        del frame["pts_seconds"]
    assert from_json(data) == PLAN


def test_a_failed_write_leaves_the_old_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    save_plan(PLAN, path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(PlanError, match="cannot be written: No space left on device"):
        save_plan(replace(PLAN, utility=1.0), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


def test_a_file_name_that_is_no_utf8_survives(tmp_path: Path) -> None:
    plan = replace(PLAN, video=replace(VIDEO, path=b"\xe4\xff-\xc3\xa4.mp4".decode("utf-8", "surrogateescape")))
    save_plan(plan, tmp_path / "plan.json")
    assert "für alle" in (tmp_path / "plan.json").read_text(encoding="utf-8")
    assert load_plan(tmp_path / "plan.json") == plan


def test_another_video_is_refused_and_the_same_one_under_another_name_is_not() -> None:
    check_matches(PLAN, replace(VIDEO, path="copy.mp4", backend="decord"))
    with pytest.raises(PlanError, match=r"made for film.mp4, and the content of other.mp4 is not the same") as caught:
        check_matches(PLAN, replace(VIDEO, path="other.mp4", fingerprint="sha256:2"))
    assert "\n" not in str(caught.value)
    with pytest.raises(PlanError, match=r"ticks of 1/1000 s, but those of film.mp4 are 1/90000 s"):
        check_matches(replace(PLAN, video=replace(VIDEO, time_base=(1, 1000))), VIDEO)
