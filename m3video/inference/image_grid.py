"""Answering from an image grid: six frames in one picture, as in the M3 paper, at one scale."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from m3video.config import Settings
from m3video.errors import UsageError, VideoError
from m3video.inference.opened_video import OpenedVideo
from m3video.types import SCALES, PlannedFrame, TokenPlan
from m3video.utils.clock import clock
from m3video.video.reader import VideoReader

if TYPE_CHECKING:
    from m3video.model.m3.answer import GeneratedAnswer
    from m3video.model.m3.checkpoint import LoadedModel


MOST_OPTIONS = len(string.ascii_uppercase)
"""One letter for each."""


def check_options(options: Sequence[str]) -> None:
    """Refuse too few or too many answers to choose from."""
    if not 2 <= len(options) <= MOST_OPTIONS:
        raise UsageError(
            f"--option names {len(options)} of the answers to choose from: name 2 to {MOST_OPTIONS}, or none"
        )


def ask_grid(
    video: OpenedVideo, question: str, options: Sequence[str], loaded: LoadedModel
) -> tuple[TokenPlan, GeneratedAnswer]:
    """Answer by the IG-VLM protocol of the M3 paper, at the finest scale that the budget allows.

    Args:
        video: the open video.
        question: the user's words.
        options: the answers to choose from; none for an open question.
        loaded: the model.

    Returns:
        The six frames as a plan, and the answer.

    Raises:
        VideoError: the video has fewer frames than a grid.
        UsageError: the budget is below the coarsest grid, or the time range has fewer frames.
        DoesNotFitError: prompt, grid and answer exceed the context.
    """
    from m3video.model.m3 import image_grid, inputs
    from m3video.model.m3.answer import answer_prompt
    from m3video.model.tokenizer import prompt_ids

    reader, settings, meter, progress = video.reader, video.settings, video.meter, video.progress
    info, pts = reader.info, _grid_pts(reader, settings)
    # Sizes are known before anything is decoded: six equal frames in two columns.
    width, height = info.width * 2, info.height * 3
    costs = {scale: inputs.image_tokens(loaded, size_wh=(width, height), scale=scale) for scale in SCALES}
    fitting = [scale for scale, cost in costs.items() if cost <= settings.budget]
    if not fitting:
        raise UsageError(f"--budget ({settings.budget}) is below the {min(costs.values())} tokens of the coarsest grid")
    scale = fitting[-1]
    prompt = image_grid.mc_prompt(question, options) if options else image_grid.oe_prompt(question)
    words = len(prompt_ids(loaded.codec, prompt)) - 1
    inputs.refuse_beyond(loaded, visual=costs[scale], text=words, answer=settings.max_new_tokens)
    with meter.stage("fetch"), progress("fetch", None):
        picture = image_grid.make_grid([frame.rgb_HW3 for frame in reader.fetch(pts)])
    with meter.stage("vision tower"), progress("vision tower", None):
        block = inputs.encode_image(loaded, picture, scale=scale)
    with meter.stage("answer"), progress("answer", None):
        generated = answer_prompt(loaded, prompt, [block], max_new_tokens=settings.max_new_tokens)
    if options:
        chosen = image_grid.parse_mc(generated.text, len(options))
        generated = replace(generated, text="no option named: " + generated.text if chosen is None else options[chosen])
    plan = TokenPlan(
        video=info,
        budget=settings.budget,
        grid_tokens=len(block),
        num_candidates=len(pts),
        utility=0.0,
        bound=0.0,
        frames=tuple(PlannedFrame(pts=p, scale=scale, reason="grid") for p in pts),
        shots=((info.start_pts, info.end_pts + info.last_duration),),
        config=settings.model_dump(),
    )
    return plan, generated


def _grid_pts(reader: VideoReader, settings: Settings) -> list[int]:
    """Return the pts of the six frames that the reference shows of the video, or of the range in the settings."""
    from m3video.model.m3 import image_grid

    info, pts_N = reader.info, reader.index.pts_N
    if len(pts_N) < image_grid.NUM_FRAMES:
        raise VideoError(
            f"{info.path} has {len(pts_N)} frame{'s'[: len(pts_N) - 1]}, an image grid shows "
            f"{image_grid.NUM_FRAMES}: leave out --layout grid"
        )
    start, end = (info.pts_seconds(pts) for pts in (info.start_pts, info.end_pts))
    fps = (len(pts_N) - 1) / (end - start)
    # A part may begin before the video does, as in every other layout.
    first, last = (None if t is None else max(0.0, t - start) for t in (settings.start, settings.end))
    # Rounded: the reference multiplies the container's own duration and rate, whose product is a whole number.
    duration = round(len(pts_N) / fps, 6) + 1e-6
    try:
        numbers = image_grid.igvlm_indices(duration, fps, start_seconds=first, end_seconds=last)
    except VideoError:
        numbers = []
    if numbers and numbers[-1] < len(pts_N):
        return [int(pts_N[number]) for number in numbers]
    if last is not None and int(last * fps) > len(pts_N):
        raise UsageError(
            f"--end ({clock(start + last)}) lies beyond the video, which runs from {clock(start)} to "
            f"{clock(start + duration)}: name a time in it"
        )
    # Also where the reference, which counts one frame too many, would find a sixth that is not there.
    raise UsageError(
        f"the part that --start and --end name has fewer than the {image_grid.NUM_FRAMES} frames of an image grid: "
        "name a longer one"
    )
