"""What becomes of an answer when frames that it rests on show something else: those of another clip in their place."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from m3video.inference.session import VideoSession
from m3video.model.m3.pooling import pack_tokens, pool_further
from m3video.model.m3.prefix import Prefix
from m3video.types import SCALES, Answer

MOST_FOREIGN = 8
"""Frames of the other clip, which take the places in turn."""

MOST_ANSWER = 16
"""Tokens."""


@dataclass(frozen=True, slots=True)
class Swapped:
    """Answers to the same question.

    Attributes:
        text: with the frames of another clip in the places of some.
        foreign: when these frames of the other clip are all that is shown. Where it is the answer itself, both clips
            show the same, and nothing should change.
    """

    text: str
    foreign: str


def swap_frames(session: VideoSession, answer: Answer, pts: Collection[int], other: VideoSession) -> Swapped:
    """Ask again with frames of another clip in the places of some, at the same times and scales.

    Args:
        session: that gave the answer.
        answer: about a sequence of frames.
        pts: frames of its plan that are replaced; at least one.
        other: the other clip, with the same model.
    """
    visual, _ = session.tokens(answer.plan)
    details = other.plan_details(max_frames=MOST_FOREIGN)
    foreign, _ = other.tokens(other.plan_with(details, [max(SCALES)] * len(details.selection)))
    frames = answer.plan.frames
    places = [number for number, frame in enumerate(frames) if frame.pts in pts]
    blocks = {n: pool_further(foreign.frame(n % len(foreign)), frames[n].scale) for n in places}

    def asked_of(numbers: Collection[int]) -> str:
        shown = [blocks[n] if n in blocks else visual.frame(n) for n in numbers]
        prefix = Prefix(
            session.loaded,
            pack_tokens(shown, [len(block) for block in shown]),
            times_seconds=[answer.plan.video.pts_seconds(frames[n].pts) for n in numbers],
            shots_seconds=answer.plan.shots_seconds,
        )
        return prefix.answer(answer.question, max_new_tokens=MOST_ANSWER).text

    return Swapped(text=asked_of(range(len(frames))), foreign=asked_of(places))
