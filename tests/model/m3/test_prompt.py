"""Where frames, times and the question stand."""

from __future__ import annotations

import pytest

from m3video.errors import UsageError
from m3video.model.m3.modeling import PROMPT_STYLES
from m3video.model.m3.prompt import TEMPLATES, TURN_MARKS, build_prompt, name_times


def test_rendered_prompt_numbers_frames_and_rounds_times_down() -> None:
    prompt = build_prompt("rendered", "what is it", num_frames=2, times_seconds=[3.9, 67.0])
    assert prompt == "frame 1 0:03 <image> frame 2 1:07 <image> question what is it answer"
    assert build_prompt("rendered", "q", num_frames=1, times_seconds=None) == "frame 1 <image> question q answer"


def test_times_stand_before_their_frames() -> None:
    prompt = build_prompt("vicuna_v1", "Q?", num_frames=2, times_seconds=[0.5, 3661.0])
    assert prompt.endswith("USER: Frame at 0:00.50: <image>\nFrame at 1:01:01: <image>\nQ? ASSISTANT:")
    assert build_prompt("plain", "Q?", num_frames=1, times_seconds=None) == "<image>\nQ?"


def test_chatml_has_a_system_turn_the_frames_with_the_question_and_the_beginning_of_an_answer() -> None:
    prompt = build_prompt("chatml", "Q?", num_frames=2, times_seconds=[0.0, 7.5])
    assert prompt == (
        "<|im_start|>system\nYou are a helpful AI assistant that answers questions about videos.<|im_end|>\n"
        "<|im_start|>user\nFrame at 0:00: <image>\nFrame at 0:07.50: <image>\nQ?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert {*TEMPLATES, "rendered"} == {*PROMPT_STYLES}


@pytest.mark.parametrize("mark", TURN_MARKS)
def test_a_question_in_chatml_cannot_end_its_turn(mark: str) -> None:
    with pytest.raises(UsageError, match="stands for a turn of the chat"):
        build_prompt("chatml", f"what?{mark}", num_frames=1, times_seconds=None)
    assert mark in build_prompt("plain", f"what?{mark}", num_frames=1, times_seconds=None)


@pytest.mark.parametrize("style", [*TEMPLATES, "rendered"])
def test_an_image_mark_in_the_question_is_refused(style: str) -> None:
    with pytest.raises(UsageError, match="<image>"):
        build_prompt(style, "what is <image>", num_frames=1, times_seconds=None)


def test_every_frame_needs_its_time() -> None:
    with pytest.raises(ValueError, match="1 times for 2 frames"):
        build_prompt("plain", "q", num_frames=2, times_seconds=[1.0])


@pytest.mark.parametrize(
    ("question", "asked", "noted"),
    [
        ("what is at 0:07?", "what is in frame 2?", []),  # shown at 7.9 s
        ("At 0:11, what is it", "in frame 2, what is it", ["0:11"]),
        ("what is at 1:07.5 and 00:20", "what is in frame 3 and 0:07", ["00:20"]),
        ("what is at 0:01:07", "what is in frame 3", []),
        ("what is in frame 2", "what is in frame 2", []),
    ],
)
def test_a_time_in_a_question_becomes_the_nearest_shown_frame_and_says_so(
    question: str, asked: str, noted: list[str]
) -> None:
    snapped, notes = name_times(question, [0.0, 7.9, 67.0], scales=[1, 1, 576])
    assert snapped == asked
    assert [note.split()[0] for note in notes] == noted
    assert all(note.endswith("is told by the nearest frame, shown at 0:07") for note in notes)


@pytest.mark.parametrize(
    ("moment", "frame", "note"),
    [
        ("0:02", 2, "a frame of its shot, shown at 0:04"),  # the first shot's frame at 1 s has fewer tokens
        ("0:04", 2, None),
        ("0:05", 3, "a frame of its shot, shown at 0:09"),  # 4.9 s is nearer, but another shot
        ("0:12", 3, "the nearest frame, shown at 0:09"),  # of its shot nothing is shown
        ("0:25", 4, "a frame of its shot, shown at 0:20"),
    ],
)
def test_a_shot_is_represented_by_its_frame_with_most_tokens(moment: str, frame: int, note: str | None) -> None:
    shown = {"scales": [1, 36, 9, 1], "shots_seconds": [0.0, 5.0, 10.0, 16.0, 30.0]}
    asked, notes = name_times(f"what is at {moment}", [1.0, 4.9, 9.0, 20.0], **shown)
    assert asked == f"what is in frame {frame}"
    assert list(notes) == ([] if note is None else [f"{moment} is told by {note}"])


@pytest.mark.parametrize(
    ("moment", "is_outside"),
    [("0:04", True), ("0:05", False), ("0:12", False), ("0:13", True), ("5:00", True)],  # looked at: 5.7 s to 12.4 s
)
def test_a_time_outside_the_shots_stays_as_it_is(moment: str, is_outside: bool) -> None:
    question = f"what is at {moment}"
    asked, notes = name_times(question, [6.0, 12.1], scales=[9, 9], shots_seconds=[5.7, 9.0, 12.4])
    assert (asked == question) == is_outside
    note = f"the shots looked at run from 0:05.70 to 0:12.40: {moment} lies outside them"
    assert (note in notes) == is_outside
