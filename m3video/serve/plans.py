"""Plans for the page: what a first pass saw over time, and plans that are made anew while a slider moves.

Legend: N analyzed frames, C candidates, S scales, M shots.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from m3video.config import Settings, changed_settings
from m3video.errors import M3VideoError, UsageError
from m3video.inference.decision import PlanDetails, binding_limits
from m3video.inference.first_pass import unseen_ranges
from m3video.inference.latency import default_file, estimate
from m3video.inference.memory.fit import plan_memory
from m3video.inference.pipeline import plan_details
from m3video.planning.novelty import NOVELTY_FLOOR
from m3video.planning.plan_file import to_json
from m3video.planning.shots import boundaries
from m3video.report.plan_plot import COLOURS
from m3video.report.plan_text import plan_facts
from m3video.serve.decoding import Looked
from m3video.serve.files import VideoFolder
from m3video.serve.frames import Video
from m3video.serve.looks import Looks
from m3video.types import SCALES
from m3video.utils.units import size_text

PAGE_SETTINGS = ("budget", "max_frames", "start", "end", "detail", "every_shot", "max_gap", "at")
"""Settings that the page may change in a plan; the others are those of the server."""


class PlanRequest(Video):
    """A request for a plan; `settings` by the names of `Settings`."""

    settings: dict[str, Any] = Field(default_factory=dict)


def timeline_record(looked: Looked) -> dict[str, Any]:
    """Return what the timeline draws, as JSON values.

    Returns:
        `start` and `end` in seconds as players count; `times` of the N analyzed frames; `lost`: for each scale but the
        finest what is lost in the worst 5 % of each frame, grey levels; `colours` of the scales; `shots`: start of
        each; `unseen`: ranges that were judged by keyframes and packets alone; `notes` for users; `is_partial`:
        frames are missing or damaged.
    """
    info, stats = looked.info, looked.stats
    times_N = stats.times_N
    lost_NS = np.sqrt(stats.peak_NS[:, : len(SCALES) - 1])
    return {
        "start": info.pts_seconds(info.start_pts),
        "end": info.pts_seconds(info.until_pts),
        "frame_seconds": info.duration_seconds / info.num_frames,
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "num_frames": info.num_frames,
        "num_analyzed": len(stats),
        "is_partial": info.partial,
        "times": times_N.round(6).tolist(),
        "lost": {str(scale): lost_NS[:, s].astype(np.float64).round(1).tolist() for s, scale in enumerate(SCALES[:-1])},
        "colours": {str(scale): colour for scale, colour in COLOURS.items()},
        "shots": times_N[boundaries(stats).row_M].round(6).tolist(),
        "unseen": [[round(a, 4), round(b, 4)] for a, b in unseen_ranges(info, stats)],
        "notes": [*info.notes, *looked.notes],
    }


def plan_record(looked: Looked, settings: Settings, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Plan from what a first pass found.

    Args:
        looked: the first pass.
        settings: those of the server.
        changes: settings of `PAGE_SETTINGS` that differ.

    Returns:
        `plan` as in plan.json; `facts` as the command prints them; `limits` that bind, with the utility that each
        costs; `left_out`: the candidates that are not shown, and why each was one; `most_tokens`: with more, nothing
        changes; `answer_seconds`: estimate for an answer, None where none was timed; `memory`: estimate for it with
        the model, as people read it, None where the size of the model is not known; `milliseconds` that planning took.

    Raises:
        UsageError: a setting that the page cannot change, a wrong value, or settings that contradict each other.
    """
    for name in changes:
        if name in Settings.model_fields and name not in PAGE_SETTINGS:
            raise UsageError(f"setting {name} cannot be changed in a plan of the page: give it to m3video serve")
    begun = time.perf_counter()
    settings = changed_settings(settings, changes)
    details = plan_details(looked.info, settings, stats=looked.stats)
    limits = binding_limits(details)
    took = time.perf_counter() - begun
    plan = details.plan
    timed = estimate(plan, settings, default_file())
    return {
        "plan": to_json(plan),
        "facts": [[label, text] for label, text in plan_facts(plan, limits) if label != "text"],
        "limits": [{"name": limit.name, "gain": limit.gain} for limit in limits],
        "left_out": [
            {"pts_seconds": round(plan.video.pts_seconds(int(details.selection.pts_N[c])), 6), **_why(details, int(c))}
            for c in np.flatnonzero(details.allocation.scale_N == 0)
        ],
        "most_tokens": most_tokens(details),
        "answer_seconds": None if timed is None else timed.seconds,
        "memory": _memory(settings, frames=len(plan.frames), visual=plan.total_tokens),
        "milliseconds": round(1000 * took, 1),
    }


def _memory(settings: Settings, *, frames: int, visual: int) -> str | None:
    try:
        return size_text(plan_memory(settings, frames=frames, visual=visual).total)
    except M3VideoError:  # a model whose size no file states; its answers say what is wrong, if anything is
        return None


def _why(details: PlanDetails, candidate: int) -> dict[str, Any]:
    """Return why a frame is a candidate, and whether it shows nothing that another one does not."""
    selection = details.selection
    return {
        "shot": int(selection.shot_N[candidate]),
        "reason": selection.reason_N[candidate],
        "is_repeat": bool(details.novelty_C[candidate] <= NOVELTY_FLOOR),
    }


def most_tokens(details: PlanDetails) -> int:
    """Return the tokens with which every candidate has its best scale; more change nothing."""
    best = details.constraints.max_scale
    allowed = [s for s, scale in enumerate(SCALES) if scale <= best]
    chosen = np.argmax(details.utility_CS[:, allowed], axis=1)  # the coarsest of equally good ones
    return int(np.array(SCALES)[chosen].sum())


def plan_routes(folder: VideoFolder, settings: Settings, looks: Looks) -> APIRouter:
    """Return the routes of first passes and plans."""
    router = APIRouter()

    @router.post("/api/look")
    def start_look(request: Video) -> dict[str, Any]:
        return looks.start(str(folder.find_video(request.video))).record()

    @router.delete("/api/look")
    def cancel_look(video: str) -> dict[str, Any]:
        looks.cancel(str(folder.find_video(video)))
        return {"state": "cancelled"}

    @router.get("/api/timeline")
    def timeline(video: str) -> JSONResponse:
        # Made here: the framework would look at each of a million numbers first.
        return JSONResponse(timeline_record(looks.found(str(folder.find_video(video)))))

    @router.post("/api/plan")
    def plan(request: PlanRequest) -> dict[str, Any]:
        return plan_record(looks.found(str(folder.find_video(request.video))), settings, request.settings)

    return router
