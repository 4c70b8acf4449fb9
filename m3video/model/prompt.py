"""Prompt templates: where the frames, their times and the question stand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from m3video.errors import UsageError
from m3video.model.text import IMAGE
from m3video.types import clock

_USER = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
_HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions."
)
# Style -> text before and after the user's turn. Source: reference `conversation.py` (vicuna_v1, llava_v1, llava_v0).
TEMPLATES: dict[str, tuple[str, str]] = {
    "vicuna_v1": (f"{_USER} USER: ", " ASSISTANT:"),
    "llava_v1": (f"{_HUMAN} USER: ", " ASSISTANT:"),
    "llava_v0": (f"{_HUMAN}###Human: ", "###Assistant:"),
    "plain": ("", ""),
}


def build_prompt(style: str, question: str, *, num_frames: int, times_seconds: Sequence[float] | None) -> str:
    """The whole prompt with one `<image>` for each frame.

    Args:
        style: one of `TEMPLATES`, or "bundled".
        question: the user's words; must not contain `<image>`.
        num_frames: how many frames are shown.
        times_seconds: their times to write before them, or None for no timestamps.

    Raises:
        UsageError: a question that contains `<image>`.
    """
    if IMAGE in question:
        raise UsageError(f"the question contains {IMAGE}, which stands for a frame: leave it out")
    if times_seconds is not None and len(times_seconds) != num_frames:
        raise ValueError(f"{len(times_seconds)} times for {num_frames} frames")
    if style == "bundled":
        return _bundled(question, num_frames=num_frames, times_seconds=times_seconds)
    before, after = TEMPLATES[style]
    if times_seconds is None:
        frames = f"{IMAGE}\n" * num_frames
    else:
        frames = "".join(f"Frame at {clock(round(time, 1))}: {IMAGE}\n" for time in times_seconds)
    return f"{before}{frames}{question}{after}"


def _bundled(question: str, *, num_frames: int, times_seconds: Sequence[float] | None) -> str:
    """The word-level prompt of the bundled model: `frame 1 0:03 <image> ... question ... answer`."""
    words = []
    for number in range(num_frames):
        words += ["frame", str(number + 1)]
        if times_seconds is not None:
            words.append(whole_clock(times_seconds[number]))
        words.append(IMAGE)
    return " ".join([*words, "question", question, "answer"])


def worded(
    style: str, question: str, times_seconds: Sequence[float] | None, *, timestamps: bool | str
) -> tuple[str, tuple[str, ...]]:
    """The question as a model of this style was taught to read it, and a line for each time in it that was changed.

    Args:
        style: one of `TEMPLATES`, or "bundled".
        question: the user's words.
        times_seconds: the shown frames' times, or None where they are not known.
        timestamps: whether they are written before the frames.
    """
    if style == "bundled" and times_seconds and timestamps:
        return snap_times(question, times_seconds)
    return question, ()


_CLOCK = re.compile(r"\b(?:(\d+):)?(\d+):(\d\d)(?:\.\d+)?\b")


def snap_times(question: str, times_seconds: Sequence[float]) -> tuple[str, tuple[str, ...]]:
    """Each time that a question names ("at 0:07") as the time of the nearest frame that is shown.

    For the bundled model, which was only ever asked about times that stand before a frame.

    Args:
        question: the user's words.
        times_seconds: the shown frames' times.

    Returns:
        The question to ask, and a line for each time that was changed.
    """
    notes = []

    def nearest(found: re.Match[str]) -> str:
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        asked = hours * 3600 + minutes * 60 + seconds
        named = whole_clock(min(times_seconds, key=lambda time: abs(int(time) - asked)))
        if named != whole_clock(asked):
            notes.append(f"no frame is shown at {found[0]}; asked about the nearest shown frame, at {named}")
        return named

    return _CLOCK.sub(nearest, question), tuple(notes)


def whole_clock(value: float) -> str:
    """Whole seconds, rounded down, as the bundled model was taught: `67.9` -> `1:07`; hours from ten minutes on."""
    total = max(0, int(value))
    if total < 600:
        return f"{total // 60}:{total % 60:02d}"
    return f"{total // 3600}:{total % 3600 // 60:02d}:{total % 60:02d}"
