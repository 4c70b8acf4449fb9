"""The stages in order, on the shipped sample clip with the rendered model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m3video.config import Settings, load_settings
from m3video.errors import DoesNotFitError, UsageError, VideoError
from m3video.inference.decision import binding_limits
from m3video.inference.evidence import cited_range
from m3video.inference.first_pass import analyze_video
from m3video.inference.memory.fit import fit_settings
from m3video.inference.pipeline import open_for, plan_details, plan_video
from m3video.inference.session import ask
from m3video.model.m3 import checkpoint
from m3video.planning.plan_file import to_json
from m3video.report.plan_plot import EDGE, draw_plan
from m3video.report.plan_text import plan_facts
from m3video.training.sample import sample_clip
from m3video.types import SCALES
from tests.paths import SAMPLE
from tests.video.clips import Clip, write


def test_the_quickstart_answer_is_true(loaded: checkpoint.LoadedModel) -> None:
    answer = ask(SAMPLE, "What colour is the background at 0:03?", Settings(), loaded=loaded)
    assert answer.text == "green"
    assert answer.visual_tokens == answer.plan.total_tokens <= 720
    assert answer.evidence is not None
    (cited,) = answer.evidence.ranges
    assert cited.start_seconds == 3.0  # a shot begins there
    assert answer.evidence.instead not in ("", "green")


def test_a_plan_fits_the_memory_of_its_settings_and_notes_it() -> None:
    fitted = fit_settings(Settings(model="rendered", memory="985MiB"))
    assert fitted is not None
    plan = plan_video(SAMPLE, Settings(memory="985MiB"))
    assert plan.budget == fitted.settings.budget != Settings().budget
    assert plan.warnings[: len(fitted.notes)] == fitted.notes
    with pytest.raises(DoesNotFitError):
        plan_video(SAMPLE, Settings(memory="600MiB"))


@pytest.mark.parametrize("frames", [4, 8])
def test_the_model_distinguishes_the_frames_of_the_sample(loaded: checkpoint.LoadedModel, frames: int) -> None:
    plan, clip = plan_video(SAMPLE, Settings(num_frames=frames)), sample_clip()
    assert len(plan.frames) == frames
    for number, frame in enumerate(plan.frames, 1):
        true = clip.facts(plan.video.pts_seconds(frame.pts))
        for question, answer in (
            ("what colour is the background", true.background),
            ("is it day or night", "night" if true.night else "day"),
        ):
            said = ask(SAMPLE, f"{question} in frame {number}", Settings(), plan=plan, loaded=loaded)
            assert said.text == answer, (number, question)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture at 0 s, one from 10 to 190 s, and two seconds of 25 a second."""
    times = [0, 250, *(4750 + i for i in range(50))]
    path = tmp_path_factory.mktemp("slides") / "slides.mp4"
    return write(path, Clip(numbers=range(len(times)), times=times, b_frames=0))


@pytest.mark.parametrize("scan", ["full", "nonref", "keyframes"])
def test_a_range_within_a_long_frame_shows_it(slides: Path, scan: str) -> None:
    """Its evidence begins with the range, except where skipped frames leave open whether it is still on screen."""
    settings = Settings(start=60, end=120, scan=scan, cache=False)
    with open_for(slides, settings) as reader:
        details = plan_details(reader, settings)
    plan = details.plan
    (frame,), span = plan.frames, cited_range(plan, (0,), 1.0)
    # The second frame is no keyframe: a scan of keyframes has seen the one before.
    since = 0 if scan == "keyframes" else 10
    assert plan.video.pts_seconds(frame.pts) == since
    assert (span.start_seconds, span.end_seconds) == ((60, 120) if scan == "full" else (since, since))
    assert binding_limits(details) == ()
    note = {
        "full": "the frame of 0:10 is still on screen at --start (1:00)",
        "nonref": "the frame of 0:10 is the last that was analyzed before --start (1:00)",
        "keyframes": "the frame of 0:00 is the last that was analyzed before --start (1:00)",
    }
    assert note[scan] in plan.warnings
    axes = {axis.get_label(): axis for axis in draw_plan(details, plan_facts(plan), {}).axes}
    assert axes["scales"].get_xlim() == pytest.approx((60 - 60 * EDGE, 120 + 60 * EDGE))
    (bar,) = axes["scales"].containers[0]
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx(60)


def test_a_range_that_begins_within_a_frame_does_not_begin_late(slides: Path) -> None:
    plan = plan_video(slides, Settings(start=60, num_frames=3, cache=False))
    assert [plan.video.pts_seconds(frame.pts) for frame in plan.frames] == [10]  # at 82, 126 and 170 s
    assert "3 frames were asked for, 1 different ones are there to take evenly" in plan.warnings
    late = plan_video(slides, Settings(start=189.5, num_frames=2, cache=False))
    assert [late.video.pts_seconds(frame.pts) for frame in late.frames] == pytest.approx([190.12, 191.36])
    assert not late.warnings


def test_the_rendered_model_warns_about_other_footage(loaded: checkpoint.LoadedModel, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(SAMPLE.read_bytes())
    assert any("rendered by m3video" in w for w in ask(other, "day or night", Settings(), loaded=loaded).warnings)
    assert not ask(SAMPLE, "day or night", Settings(), loaded=loaded).warnings


def test_a_file_without_an_intact_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_for(SAMPLE, Settings()) as reader:
        broken = [replace(frame, is_corrupt=True) for frame in reader.scan()]
        monkeypatch.setattr(reader, "scan", lambda **_: iter(broken))
        with pytest.raises(VideoError, match="no frame could be decoded intact"):
            analyze_video(reader)
        monkeypatch.setattr(reader, "scan", lambda **_: iter([*broken[:-1], replace(broken[-1], is_corrupt=False)]))
        assert len(analyze_video(reader)) == len(broken)


def test_a_grid_is_no_plan() -> None:
    with pytest.raises(UsageError, match="layout grid"):
        plan_video(SAMPLE, Settings(layout="grid"))


def test_plan_details_hold_what_the_plan_was_decided_from() -> None:
    """Plan and details come from one pass over the video."""
    settings = Settings(model="rendered", budget=300, max_frames=20)
    with open_for(SAMPLE, settings) as reader:
        details = plan_details(reader, settings)
    assert to_json(details.plan) == to_json(plan_video(SAMPLE, settings))
    assert len(details.selection) == details.plan.num_candidates == len(details.utility_CS) == 20
    shown = details.allocation.scale_N > 0
    assert [frame.pts for frame in details.plan.frames] == details.selection.pts_N[shown].tolist()
    column = np.searchsorted(SCALES, details.allocation.scale_N[shown])
    assert details.utility_CS[shown, column].sum() == pytest.approx(details.plan.utility)
    assert [limit.name for limit in binding_limits(details)] == ["--budget 300", "--max-frames 20"]


def test_a_rate_that_was_set_aside_is_no_limit(tmp_path: Path) -> None:
    """The gap needs more candidates than there may be, so they are spread evenly and --fps does not count."""
    times = [*range(0, 500, 25), 1000]  # the last frame but one stays for 21 s, in which there are no others
    video = write(tmp_path / "still.mp4", Clip(numbers=range(len(times)), times=times))
    settings = Settings(fps=3, max_gap=0.5, budget=9)
    with open_for(video, settings) as reader:
        details = plan_details(reader, settings)
    assert len(details.selection) < settings.surely_frames
    names = [limit.name for limit in binding_limits(details)]
    assert names[-1] == "--max-frames 16"
    assert "--fps 3" not in names


def test_settings_that_contradict_the_plan_are_noted(loaded: checkpoint.LoadedModel) -> None:
    plan = plan_video(SAMPLE, Settings(budget=100))
    said = ask(SAMPLE, "what", Settings(budget=200, detail="high"), plan=plan, loaded=loaded)
    assert "the plan was made before: budget (200) of the settings is not used" in said.warnings
    assert said.plan.frames == plan.frames
    same = ask(SAMPLE, "what", Settings(budget=100), plan=plan, loaded=loaded)
    assert not any("made before" in warning for warning in same.warnings)
    with pytest.raises(UsageError, match="leave out --option or --plan"):
        ask(SAMPLE, "which", Settings(layout="grid"), plan=plan, options=("a", "b"), loaded=loaded)


def test_the_image_grid_spends_within_its_budget(loaded: checkpoint.LoadedModel) -> None:
    answer = ask(SAMPLE, "what colour is it", Settings(layout="grid", budget=100), loaded=loaded)
    assert answer.visual_tokens == answer.plan.total_tokens == 36
    assert len(answer.plan.frames) == 6
    assert answer.evidence is None
    assert "no evidence: an image grid is one picture" in answer.warnings


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ({"max_frames": 3}, "--max-frames"),
        ({"num_frames": 3}, "--num-frames"),
        ({"fps": 1}, "--fps"),
        ({"sampling": "uniform"}, "--sampling"),
        ({"timestamps": False}, "--no-timestamps"),
    ],
)
def test_the_image_grid_refuses_settings_it_cannot_follow(setting: dict[str, object], flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag} .*leave it out"):
        load_settings({"layout": "grid", **setting})
    with pytest.raises(ValueError, match=flag):
        Settings.model_validate({"layout": "grid", **setting})


@pytest.mark.parametrize("number", [1, 5])
def test_the_image_grid_needs_six_frames(number: int, loaded: checkpoint.LoadedModel, tmp_path: Path) -> None:
    video = write(tmp_path / "short.mp4", Clip(numbers=range(number)))
    with pytest.raises(VideoError, match=f"has {number} frames?, an image grid shows 6: leave out --layout grid"):
        ask(video, "what", Settings(layout="grid"), loaded=loaded)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"start": 11.7}, "fewer than the 6 frames of an image grid"),
        ({"start": 60}, "fewer than the 6 frames of an image grid"),
        ({"end": 50}, r"--end \(0:50\) lies beyond the video, which runs from 0:00 to 0:12"),
    ],
)
def test_ranges_without_six_frames_are_refused(
    part: dict[str, float], message: str, loaded: checkpoint.LoadedModel
) -> None:
    with pytest.raises(UsageError, match=message):
        ask(SAMPLE, "what", Settings.model_validate({"layout": "grid", **part}), loaded=loaded)


def test_a_part_of_an_image_grid_may_begin_before_the_video(loaded: checkpoint.LoadedModel) -> None:
    whole, early = (ask(SAMPLE, "what", Settings(layout="grid", start=t), loaded=loaded) for t in (None, -3.0))
    assert early.plan.frames == whole.plan.frames


def test_a_single_option_is_no_choice(loaded: checkpoint.LoadedModel) -> None:
    with pytest.raises(UsageError, match="--option names 1 of the answers to choose from: name 2 to 26, or none"):
        ask(SAMPLE, "which", Settings(layout="grid"), options=("a",), loaded=loaded)


def test_a_time_outside_the_video_is_not_reworded(loaded: checkpoint.LoadedModel) -> None:
    said = ask(SAMPLE, "What colour is the background at 5:00?", Settings(), loaded=loaded)
    assert "the shots looked at run from 0:00 to 0:12: 5:00 lies outside them" in said.warnings
    assert not any("is told by" in warning for warning in said.warnings)


def test_options_need_the_grid(loaded: checkpoint.LoadedModel) -> None:
    with pytest.raises(UsageError, match="--layout grid"):
        ask(SAMPLE, "which", Settings(), options=("a", "b"), loaded=loaded)


def test_too_long_is_refused(loaded: checkpoint.LoadedModel) -> None:
    with pytest.raises(DoesNotFitError, match="context"):
        ask(SAMPLE, "what", Settings(max_new_tokens=9000), loaded=loaded)
