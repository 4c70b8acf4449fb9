"""Prompt templates: the places of the frames, their times and the question."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence

from m3video.errors import UsageError
from m3video.utils.clock import CLOCK, clock, is_outside, shot_named, whole_clock, whole_seconds

IMAGE = "<image>"
"""Stands for a picture in the text of a prompt."""

_USER = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
_HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions."
)
# The first words are those of the system turn that SmolLM2 was trained with; after others it may answer with nonsense.
_HELPFUL = "You are a helpful AI assistant that answers questions about videos."
# Style -> text before and after the user's turn. Source: reference `conversation.py` (vicuna_v1, llava_v1, llava_v0);
# chatml as the template of SmolLM2 writes it.
TEMPLATES: dict[str, tuple[str, str]] = {
    "vicuna_v1": (f"{_USER} USER: ", " ASSISTANT:"),
    "llava_v1": (f"{_HUMAN} USER: ", " ASSISTANT:"),
    "llava_v0": (f"{_HUMAN}###Human: ", "###Assistant:"),
    "plain": ("", ""),
    "chatml": (
        f"<|im_start|>system\n{_HELPFUL}<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
}
TURN_MARKS = ("<|im_start|>", "<|im_end|>")
"""Single tokens that begin and end a turn in the style "chatml"."""


FORMER_STYLE = "bundled"
"""What the style "rendered" is called in folders that were written before it had this name."""


def style_named(name: str) -> str:
    """Return the prompt style that a config names, by its name of today."""
    return "rendered" if name == FORMER_STYLE else name


def build_prompt(style: str, question: str, *, num_frames: int, times_seconds: Sequence[float] | None) -> str:
    """Return the whole prompt, with one `<image>` for each frame.

    Args:
        style: one of `TEMPLATES`, or "rendered".
        question: the user's words; must not contain `<image>`.
        num_frames: how many frames are shown.
        times_seconds: their times to write before them, or None for no timestamps.

    Raises:
        UsageError: the question contains `<image>`, or a mark of the style's turns.
    """
    if IMAGE in question:
        raise UsageError(f"the question contains {IMAGE}, which stands for a frame: leave it out")
    if style == "chatml" and (mark := next((mark for mark in TURN_MARKS if mark in question), None)):
        raise UsageError(f"the question contains {mark}, which stands for a turn of the chat: leave it out")
    if times_seconds is not None and len(times_seconds) != num_frames:
        raise ValueError(f"{len(times_seconds)} times for {num_frames} frames")
    if style == "rendered":
        return _rendered(question, num_frames=num_frames, times_seconds=times_seconds)
    before, after = TEMPLATES[style]
    if times_seconds is None:
        frames = f"{IMAGE}\n" * num_frames
    else:
        frames = "".join(f"Frame at {clock(round(time, 1))}: {IMAGE}\n" for time in times_seconds)
    return f"{before}{frames}{question}{after}"


def _rendered(question: str, *, num_frames: int, times_seconds: Sequence[float] | None) -> str:
    """Return the word-level prompt of the rendered model: `frame 1 0:03 <image> ... question ... answer`."""
    words = []
    for number in range(num_frames):
        words += ["frame", str(number + 1)]
        if times_seconds is not None:
            words.append(whole_clock(times_seconds[number]))
        words.append(IMAGE)
    return " ".join([*words, "question", question, "answer"])


def worded(
    style: str,
    question: str,
    times_seconds: Sequence[float] | None,
    *,
    scales: Sequence[int],
    shots_seconds: Sequence[float] = (),
    timestamps: bool | str,
) -> tuple[str, tuple[str, ...]]:
    """Return the question in the form that a model of this style was trained on, and notes on times in it.

    There is a note for each time that is replaced by that of another frame, or by none.

    Args:
        style: one of `TEMPLATES`, or "rendered".
        question: the user's words.
        times_seconds: the shown frames' times, or None where they are not known.
        scales: the shown frames' token scales.
        shots_seconds: when each shot begins and when the last one ends, increasing; empty where that is not known.
        timestamps: whether times are written before the frames.
    """
    if style == "rendered" and times_seconds and timestamps:
        return name_times(question, times_seconds, scales=scales, shots_seconds=shots_seconds)
    return question, ()


_AT_CLOCK = re.compile(rf"(\bat )?({CLOCK.pattern})", re.IGNORECASE)


def name_times(
    question: str, times_seconds: Sequence[float], *, scales: Sequence[int], shots_seconds: Sequence[float] = ()
) -> tuple[str, tuple[str, ...]]:
    """Replace each time in a question ("at 0:07") by a frame that is shown ("in frame 3").

    This is for the model `rendered`, which was trained on questions about numbered frames. A time is replaced by the
    frame of its shot with most tokens; where no frame of the shot is shown, by the nearest frame. A time outside the
    shots stays as it is.

    Args:
        question, times_seconds, scales, shots_seconds: as for `worded`.

    Returns:
        The question to ask, and a line for each time that is replaced by another one, or by none.
    """
    notes = []

    def named(found: re.Match[str]) -> str:
        at, asked = found[1], found[2]
        start = whole_seconds(asked)
        if shots_seconds and is_outside(start, shots_seconds[0], shots_seconds[-1]):
            span = " to ".join(clock(time) for time in (shots_seconds[0], shots_seconds[-1]))
            notes.append(f"the shots looked at run from {span}: {asked} lies outside them")
            return found[0]
        frame, is_of_shot = _telling(start, times_seconds, scales, shots_seconds)
        clock_text = whole_clock(times_seconds[frame])
        if clock_text != whole_clock(start):
            why = f"{asked} is told by a frame of its shot," if is_of_shot else f"{asked} is told by the nearest frame,"
            notes.append(f"{why} shown at {clock_text}")
        return f"in frame {frame + 1}" if at else clock_text

    return _AT_CLOCK.sub(named, question), tuple(notes)


def _telling(second: int, times: Sequence[float], scales: Sequence[int], shots: Sequence[float]) -> tuple[int, bool]:
    """Return the shown frame that stands for the second from `second` on, and whether it is of the same shot."""
    near = sorted(range(len(times)), key=lambda frame: abs(times[frame] - second - 0.5))
    starts = shots[:-1]
    shot = shot_named(second, starts)
    inside = [frame for frame in near if shots and max(0, bisect.bisect_right(starts, times[frame]) - 1) == shot]
    return (max(inside, key=lambda frame: scales[frame]), True) if inside else (near[0], False)
