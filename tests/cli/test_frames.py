"""`m3video frames`: what is written is the plan's frames, at their times, within their tokens."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from m3video import plan_video
from m3video.planning.plan_file import save_plan
from m3video.report.frame_files import CELL, picture_size
from m3video.types import TokenPlan
from m3video.types.scales import SCALES
from m3video.utils.clock import clock
from tests.cli.test_app import SAMPLE, one_line_error, run


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenPlan, Path]:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    plan = plan_video(SAMPLE, budget=720)
    save_plan(plan, path)
    return plan, path


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from(SCALES))
def test_a_picture_never_costs_more_than_its_scale(height: int, width: int, tokens: int) -> None:
    high, wide = picture_size(height, width, tokens)
    assert high % CELL == 0 == wide % CELL
    assert 1 <= (high // CELL) * (wide // CELL) <= tokens
    assert high <= max(height, CELL)
    assert wide <= max(width, CELL)


def test_example_of_the_docstring() -> None:
    assert picture_size(1080, 1920, 36) == (112, 224)


def test_folder(planned: tuple[TokenPlan, Path], tmp_path: Path) -> None:
    plan, path = planned
    done = run("frames", SAMPLE, "--plan", path, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "enlarges" in done.stderr or all(frame.scale >= 4 for frame in plan.frames)
    rows = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert [(row["pts"], row["scale"]) for row in rows] == [(frame.pts, frame.scale) for frame in plan.frames]
    for row in rows:
        with Image.open(tmp_path / "out" / row["file"]) as picture:
            assert picture.size == (row["width"], row["height"])
            assert picture.width * picture.height <= row["scale"] * CELL**2
    again = run("frames", SAMPLE, "--plan", path, "-o", tmp_path / "out")
    assert "cannot be written" in one_line_error(again, 2)


def test_messages(planned: tuple[TokenPlan, Path], tmp_path: Path) -> None:
    plan, path = planned
    done = run("frames", SAMPLE, "--plan", path, "-o", tmp_path / "m.json", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    (message,) = json.loads((tmp_path / "m.json").read_text())
    texts, pictures = message["content"][::2], message["content"][1::2]
    times = [clock(plan.video.pts_seconds(frame.pts)) for frame in plan.frames]
    assert [part["text"] for part in texts] == [f"Frame at {time}:" for time in times]
    for part, frame in zip(pictures, plan.frames, strict=True):
        head, data = part["image_url"]["url"].split(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.width * picture.height <= frame.scale * CELL**2


@pytest.mark.parametrize(("output", "says"), [("out.txt", "end in .json"), ("-", "must be a folder")])
def test_outputs_that_are_refused(planned: tuple[TokenPlan, Path], output: str, says: str) -> None:
    assert says in one_line_error(run("frames", SAMPLE, "--plan", planned[1], "-o", output), 2)


def test_a_plan_of_another_video_is_refused(planned: tuple[TokenPlan, Path], tmp_path: Path) -> None:
    other = SAMPLE.with_name("natural.mp4")
    done = run("frames", other, "--plan", planned[1], "-o", tmp_path / "out")
    assert "the content of" in one_line_error(done, 1)
    assert not (tmp_path / "out").exists()
