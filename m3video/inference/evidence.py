"""What goes with an answer: the time ranges it rests on, and a caution about the model `rendered`."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from m3video.types import Evidence, TokenPlan, total_tokens

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel

SAMPLE = Path(__file__).parents[1] / "assets" / "sample.mp4"


def rendered_note(loaded: LoadedModel, path: str | Path) -> tuple[str, ...]:
    """Return a caution for users who ask the model of rendered clips about their own footage."""
    if not loaded.is_rendered or Path(path).resolve() == SAMPLE.resolve():
        return ()
    return (
        "the model rendered was trained on clips rendered by m3video only; for other footage use --model small, or a "
        "larger checkpoint, e.g. --model mucai/llava-v1.5-7b-m3",
    )


def evidence(plan: TokenPlan) -> tuple[Evidence, ...]:
    """Return the time ranges that the model saw: for each shot, from its first to its last planned frame.

    A frame that is still on screen where the range of the plan begins counts from there. Where a scan skipped frames it
    is not known whether it still is, and it counts from its own time. The frames of an image grid count as one shot and
    share the tokens of the grid.
    """
    asked = plan.config.get("start") if plan.scan == "full" else None
    least = -math.inf if asked is None else asked
    ranges = []
    for _, shown in itertools.groupby(plan.frames, key=lambda frame: frame.shot):
        frames = list(shown)
        tokens = total_tokens(frame.scale for frame in frames) if plan.grid_tokens is None else plan.grid_tokens
        ranges.append(
            Evidence(
                start_seconds=max(least, plan.video.pts_seconds(frames[0].pts)),
                end_seconds=max(least, plan.video.pts_seconds(frames[-1].pts)),
                num_frames=len(frames),
                num_tokens=tokens,
            )
        )
    return tuple(ranges)
