"""What goes with an answer: what it rests on, and a caution about the model `rendered`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from m3video.types import CitedRange, Evidence, TokenPlan

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.model.m3.support import Support

SAMPLE = Path(__file__).parents[1] / "assets" / "sample.mp4"


def rendered_note(loaded: LoadedModel, path: str | Path) -> tuple[str, ...]:
    """Return a caution for users who ask the model of rendered clips about their own footage."""
    if not loaded.is_rendered or Path(path).resolve() == SAMPLE.resolve():
        return ()
    return (
        "the model rendered was trained on clips rendered by m3video only; for other footage use --model small, or a "
        "larger checkpoint, e.g. --model mucai/llava-v1.5-7b-m3",
    )


def evidence_of(support: Support, plan: TokenPlan, *, seconds: float) -> Evidence:
    """Return what was found of an answer in terms of the video.

    Args:
        support: what the frames of the plan do for the answer.
        plan: the frames that were shown.
        seconds: what finding it took.
    """
    pts = [frame.pts for frame in plan.frames]
    verdict: Literal["cited", "spread", "unsupported"] = "cited"
    ranges = [cited_range(plan, group, nats) for group, nats in zip(support.groups, support.group_nats, strict=True)]
    if not support.groups:
        verdict = "unsupported" if support.stands_on_nothing else "spread"
    if verdict == "spread":
        first, last = cited_range(plan, (0,), 0.0), cited_range(plan, (len(pts) - 1,), 0.0)
        ranges = [CitedRange(first.start_seconds, last.end_seconds, tuple(pts), support.nats)]
    return Evidence(
        verdict=verdict,
        ranges=tuple(ranges),
        nats=support.nats,
        masked_nats=support.masked_nats,
        instead=support.instead,
        stands_alone=support.stands_alone,
        needs_tokens=support.needs_tokens,
        stands_without_frames=support.stands_on_nothing,
        tested=tuple((pts[frame], nats) for frame, nats in support.tested_nats.items()),
        passes=support.passes,
        read_tokens=support.read_tokens,
        seconds=seconds,
    )


def cited_range(plan: TokenPlan, frames: Sequence[int], nats: float) -> CitedRange:
    """Return the range of some frames that follow each other.

    It is widened to the shot where the frame beside it is of another one, else halfway to that frame. Where the first
    pass skipped frames, nobody knows what is between, and it is not widened.
    """
    video, shown = plan.video, plan.frames
    first, last = shown[frames[0]], shown[frames[-1]]
    pts = tuple(shown[frame].pts for frame in frames)
    start, end = video.pts_seconds(first.pts), video.pts_seconds(last.pts)
    if plan.scan != "full":
        return CitedRange(start, end, pts, nats)
    before, after = (shown[n] if 0 <= n < len(shown) else None for n in (frames[0] - 1, frames[-1] + 1))
    if before is not None and before.shot == first.shot:
        start = (start + video.pts_seconds(before.pts)) / 2
    else:
        since = plan.config.get("start")
        start = max(video.pts_seconds(plan.shots[first.shot][0]), -math.inf if since is None else since)
    if after is not None and after.shot == last.shot:
        end = (end + video.pts_seconds(after.pts)) / 2
    else:
        until = plan.config.get("end")
        end = max(end, min(video.pts_seconds(plan.shots[last.shot][1]), math.inf if until is None else until))
    return CitedRange(min(start, end), end, pts, nats)
