"""Plan files of earlier versions, written by hand, of another video, broken, or in places that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m3video.config import parse_pins
from m3video.errors import PlanError
from m3video.planning.plan_file import SCHEMA, check_matches, for_video, from_json, load_plan, save_plan, to_json
from tests.planning.plan_values import LATER_FIELDS, PLAN, VIDEO, written


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


def test_seconds_may_be_left_out_by_whoever_writes_by_hand() -> None:
    data = written()
    for frame in data["frames"]:
        del frame["pts_seconds"]
    assert from_json(data) == PLAN


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


def test_a_place_that_cannot_be_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(PlanError, match="cannot be read"):
            load_plan(path)
    for path in (tmp_path / "no" / "plan.json", Path(), tmp_path):
        with pytest.raises(PlanError, match="cannot be written"):
            save_plan(PLAN, path)
    assert list(tmp_path.iterdir()) == []


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
