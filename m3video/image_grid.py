"""The image grid: six frames in one picture, as the M3 paper shows a video; no plan of scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from m3video.config import Settings
from m3video.errors import UsageError
from m3video.progress import Meter, Progress
from m3video.scales import SCALES
from m3video.types import PlannedFrame, TokenPlan
from m3video.video.reader import VideoReader

if TYPE_CHECKING:
    from m3video.model.answering import GeneratedAnswer
    from m3video.model.checkpoint import LoadedModel


def ask_grid(
    reader: VideoReader, question: str, settings: Settings, options: Sequence[str], loaded: LoadedModel, meter: Meter,
    progress: Progress,
) -> tuple[TokenPlan, GeneratedAnswer]:  # fmt: skip
    """The IG-VLM protocol of the M3 paper: six frames in one picture, at the finest scale the budget allows."""
    from m3video.model import answering, grid
    from m3video.model.text import prompt_ids

    info, pts_N = reader.info, reader.index.pts_N
    fps = (info.num_frames - 1) / max(1e-9, info.pts_seconds(info.end_pts) - info.pts_seconds(info.start_pts))
    first, last = (None if t is None else t - info.pts_seconds(info.start_pts) for t in (settings.start, settings.end))
    # Rounded: the reference multiplies the container's own duration and rate, whose product is a whole number.
    numbers = grid.igvlm_indices(
        round(info.num_frames / fps, 6) + 1e-6, fps, start_seconds=first, end_seconds=last
    )  # fmt: skip
    if numbers[-1] >= len(pts_N):
        raise UsageError(f"--end ({settings.end} s) lies beyond the video's {info.duration_seconds:.2f} s")
    pts = [int(pts_N[number]) for number in numbers]
    # Sizes are known before anything is decoded: six equal frames in two columns.
    width, height = info.width * 2, info.height * 3
    costs = {scale: answering.image_tokens(loaded, size_wh=(width, height), scale=scale) for scale in SCALES}
    fitting = [scale for scale, cost in costs.items() if cost <= settings.budget]
    if not fitting:
        raise UsageError(f"--budget ({settings.budget}) is below the {min(costs.values())} tokens of the coarsest grid")
    scale = fitting[-1]
    prompt = grid.mc_prompt(question, options) if options else grid.oe_prompt(question)
    words = len(prompt_ids(loaded.codec, prompt)) - 1
    answering.refuse_beyond(loaded, visual=costs[scale], text=words, answer=settings.max_new_tokens)
    with meter.stage("fetch"), progress("fetch", None):
        picture = grid.make_grid([frame.rgb_HW3 for frame in reader.fetch(pts)])
    with meter.stage("vision tower"), progress("vision tower", None):
        block = answering.encode_image(loaded, picture, scale=scale)
    with meter.stage("answer"), progress("answer", None):
        said = answering.answer_prompt(loaded, prompt, [block], max_new_tokens=settings.max_new_tokens)
    if options:
        chosen = grid.parse_mc(said.text, len(options))
        said = replace(said, text="no option named: " + said.text if chosen is None else options[chosen])
    plan = TokenPlan(
        video=info, budget=settings.budget, grid_tokens=len(block), num_candidates=len(pts), utility=0.0, bound=0.0,
        frames=tuple(PlannedFrame(pts=p, scale=scale, reason="grid") for p in pts),
        shots=((info.start_pts, info.end_pts + info.last_duration),), config=settings.model_dump(),
    )  # fmt: skip
    return plan, said
