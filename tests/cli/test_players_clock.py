"""All that people read or name in seconds is on one clock: pts less the start of the file's earliest stream."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from m3video.cli.app import app
from m3video.config import Settings
from m3video.distributed.analysis import analyze_long
from m3video.distributed.segments import cut
from m3video.inference.evidence import cited_range
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for, plan_details
from m3video.inference.session import ask
from m3video.inference.summary.summarize import summarize
from m3video.model.m3 import checkpoint
from m3video.planning.plan_file import from_json, to_json
from m3video.planning.stats_file import load_stats
from m3video.report.plan_page import page
from m3video.report.plan_plot import draw_plan
from m3video.report.plan_text import plan_facts, plan_text
from m3video.report.summary_files import FORMATS
from m3video.report.video_text import info_record, info_text
from m3video.types import VideoInfo
from tests.video.clips import Clip, write

LATE = Clip(
    numbers=range(50),
    times=[125 + i for i in range(50)],
    audio=True,
    gop=10,
    b_frames=0,
    format_options={"output_ts_offset": "10"},
)
"""Two seconds of pictures that begin 5 s after the sound, which does not begin at pts 0."""


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("late") / "late.ts", LATE)


@pytest.fixture(scope="module")
def info(late: Path) -> VideoInfo:
    """Where pictures begin is 5 s and what the encoder of the sound adds before its first sample, 1024 of 8000."""
    with open_for(late, Settings()) as reader:
        info = reader.info
    assert info.origin != (0, 1)
    assert info.pts_seconds(info.start_pts) == pytest.approx(5.128, abs=1e-4)
    return info


def run(*arguments: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done


def test_probe_tells_it(info: VideoInfo) -> None:
    record = info_record(info)
    assert (record["start_seconds"], record["end_seconds"]) == pytest.approx((5.128, 7.128), abs=1e-4)
    assert "time     0:05.13 to 0:07.13 (2.000 s)" in info_text(info)
    zero = info.origin[0] / info.origin[1]
    assert f"time base 1/90000, 0:00 is {zero:.6g} s" in info_text(info)
    assert record["start_pts"] / 90000 - zero == pytest.approx(5.128, abs=1e-4)


def test_plans_tell_it_and_are_asked_by_it(late: Path, info: VideoInfo) -> None:
    with open_for(late, Settings()) as reader:
        details = plan_details(
            reader, Settings(start=6.0, end=7.0, at="6.5=576", cache=False, max_frames=4, budget=1200)
        )
        with pytest.raises(Exception, match=r"no frame in the range the start to 5 s: .* from 5.128 s to 7.128 s"):
            plan_details(reader, Settings(end=5.0, cache=False))
    plan = details.plan
    times = {frame.pts: info.pts_seconds(frame.pts) for frame in plan.frames}
    assert all(5.95 <= time < 7.0 for time in times.values())
    pinned = next(frame for frame in plan.frames if frame.reason == "pinned")
    assert times[pinned.pts] <= 6.5 < times[pinned.pts] + 0.04
    assert [frame["pts_seconds"] for frame in to_json(plan)["frames"]] == pytest.approx(list(times.values()), abs=1e-6)
    whole = cited_range(plan, range(len(plan.frames)), 1.0)
    assert (whole.start_seconds, whole.end_seconds) == pytest.approx((6.0, 7.0), abs=0.05)
    text = plan_text(plan)
    assert all(re.search(rf"^ +0:0[56]\.\d\d +{frame.shot + 1} +{frame.scale} ", text, re.M) for frame in plan.frames)
    figure = draw_plan(details, plan_facts(plan), {})
    axes = {axis.get_label(): axis for axis in figure.axes}
    assert 5.9 < axes["scales"].get_xlim()[0] < 6.1
    assert 6.9 < axes["scales"].get_xlim()[1] < 7.1
    assert "<td>0:06.4" in page(details, plan_facts(plan), {})


def test_stats_files_and_segments_keep_it(late: Path, info: VideoInfo, tmp_path: Path) -> None:
    run("analyze", late, "-o", tmp_path / "s.parquet", "--json")
    stats, about = load_stats(tmp_path / "s.parquet")
    assert stats.origin == tuple(about["origin"]) == info.origin
    assert stats.times_N[0] == info.pts_seconds(info.start_pts)
    assert stats.until_pts == info.until_pts
    other = write(tmp_path / "from_ten.mp4", Clip(numbers=range(50), times=[250 + i for i in range(50)], gop=10))
    with open_for(other, Settings()) as reader:
        whole, parts = analyze_video(reader), cut(reader.index, 2)
    assert whole.origin == (10, 1)
    joined = analyze_long(other, Settings(), count=2)
    assert joined.num_segments == len(parts) == 2
    for name in type(whole).__dataclass_fields__:
        assert np.array_equal(getattr(joined.stats, name), getattr(whole, name)), name
    assert [part.printable for part in parts] == ["0:00 - 0:00.80", "0:00.80 - 0:01.96"]


def test_chapters_and_subtitles_tell_it(late: Path, loaded: checkpoint.LoadedModel) -> None:
    made = summarize(late, Settings(cache=False), loaded=loaded)
    assert (made.chapters[0].start_seconds, made.chapters[-1].end_seconds) == pytest.approx((5.128, 7.128), abs=1e-4)
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](made))))
    assert float(rows[-1]["start_seconds"]) == made.chapters[-1].start_seconds
    assert f"00:00:05,128 --> 00:00:0{made.chapters[0].end_seconds:.3f}".replace(".", ",") in FORMATS["srt"](made)
    assert "00:00:05.128 --> " in FORMATS["vtt"](made)
    assert "| 0:05.13 - " in FORMATS["md"](made)


def test_questions_and_prompts_use_the_players_clock(
    late: Path, loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rendered model reads when each frame is, and a time in a question names a frame of that time."""
    from m3video.model.m3 import inputs, processor, prompt, text_count

    seen: list[list[float]] = []
    real = prompt.build_prompt

    def watching(*args: Any, times_seconds: Any, **more: Any) -> str:
        seen.append(list(times_seconds or []))
        return real(*args, times_seconds=times_seconds, **more)

    for module in (inputs, processor, text_count):
        monkeypatch.setattr(module, "build_prompt", watching)
    at_six = Settings(cache=False, saliency="times", max_frames=8)
    answer = ask(late, "What colour is the background at 0:06?", at_six, loaded=loaded)
    assert answer.plan.focus is not None
    (pts, share), *others = answer.plan.focus.weights
    assert (share, others) == (1.0, [])
    assert 6.0 <= answer.plan.video.pts_seconds(pts) < 7.0
    assert all(5.0 < time < 7.2 for times in seen for time in times)
    assert any(seen)
    nowhere = ask(late, "What colour is it at 0:01?", Settings(cache=False, max_frames=8), loaded=loaded)
    assert "the shots looked at run from 0:05.13 to 0:07.13: 0:01 lies outside them" in nowhere.warnings


def test_a_plan_of_before_is_replayed_on_it(late: Path, info: VideoInfo, loaded: checkpoint.LoadedModel) -> None:
    """Written with seconds from pts 0: the same frames, told by the clock of now, and a line that says so."""
    with open_for(late, Settings()) as reader:
        plan = plan_details(reader, Settings(start=6.0, cache=False, max_frames=4)).plan
    then = {**plan.config, "start": 6.0 + info.origin[0] / info.origin[1]}
    data = json.loads(json.dumps(to_json(replace(plan, video=replace(info, origin=(0, 1)), config=then))))
    data["schema"] = "m3video.plan/1"
    del data["video"]["origin"]
    answer = ask(late, "What is shown?", Settings(cache=False), plan=from_json(data), loaded=loaded)
    assert answer.plan.frames == plan.frames
    assert answer.plan.config["start"] == pytest.approx(6.0)
    assert answer.evidence is not None
    assert all(
        6.0 <= one.start_seconds <= one.end_seconds <= info.pts_seconds(info.until_pts)
        for one in answer.evidence.ranges
    )
    assert any("as players count, its frames are" in note for note in answer.warnings)
    again = ask(late, "What is shown?", Settings(cache=False), plan=plan, loaded=loaded)
    assert not any("as players count" in note for note in again.warnings)
    assert again.text == answer.text
