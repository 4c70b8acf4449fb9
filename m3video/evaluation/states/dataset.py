"""How much of what the clips of lasting states show a plan shows: plans at each budget, scored against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m3video.config import Settings
from m3video.evaluation.methods import MIX_FRAMES, even_scales
from m3video.evaluation.states.clips import StatesClip, render_states_clip
from m3video.evaluation.states.truth import Score, Truth, score
from m3video.evaluation.view import ClipView
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from m3video.types import VideoInfo
from m3video.utils.progress import Progress, silent

ADAPTIVE = "adaptive"

AMPLE = 20_000
"""Tokens that pay for everything in any of these clips."""

PRICES: dict[str, float] = {"1x": 1.0, "1.5x": 1.5, "2x": 2.0}
"""Budgets, in tokens that the distinct states of a clip need together; "ample" is `AMPLE` tokens for each."""

BUDGETS: tuple[str, ...] = (*PRICES, "ample")


def budgets_of(truth: Truth) -> dict[str, int]:
    """Return the tokens of each of `BUDGETS` for one clip."""
    return {**{name: round(truth.price * factor) for name, factor in PRICES.items()}, "ample": AMPLE}


def even_counts(max_frames: int) -> tuple[int, ...]:
    """Return the frame counts that uniform may choose between."""
    return tuple(sorted({min(frames, max_frames) for frames in (*MIX_FRAMES, max_frames)}))


def plans(view: ClipView, budget: int) -> dict[str, list[tuple[int, int]]]:
    """Return (pts, scale) of the frames that each method shows for a budget.

    "adaptive" is the product's planner, "uniform@n" n even frames at the two adjacent scales that spend the budget.
    """
    found = {ADAPTIVE: [(frame.pts, frame.scale) for frame in view.planned(budget).frames]}
    for frames in even_counts(view.max_frames):
        pts = view.evenly(min(frames, budget))
        found[f"uniform@{frames}"] = list(zip(pts, even_scales(len(pts), budget), strict=True))
    return found


@dataclass(frozen=True, slots=True)
class StatesRow:
    """What one method showed of one clip at one of `BUDGETS`; `budget` in tokens."""

    clip: str
    kind: str
    method: str
    price: str
    budget: int
    score: Score


def score_clip(clip: StatesClip, *, max_frames: int) -> list[StatesRow]:
    """Analyze a clip, plan it at each budget with each method, and score the plans against the truth."""
    with open_for(clip.path, Settings()) as reader:
        info, stats = reader.info, analyze_video(reader)
    view = ClipView(info, stats, max_frames=max_frames)
    rows = []
    for price, budget in budgets_of(clip.truth).items():
        for method, plan in plans(view, budget).items():
            found = score(clip.truth, [(_seconds(info, pts), scale) for pts, scale in plan])
            rows.append(StatesRow(clip.name, clip.truth.kind, method, price, budget, found))
    return rows


def _seconds(info: VideoInfo, pts: int) -> float:
    return (pts - info.start_pts) * info.time_base[0] / info.time_base[1]


def run_states(
    kinds: Sequence[str], *, seed: int, clips: int, max_frames: int, folder: Path, progress: Progress = silent
) -> tuple[list[StatesClip], list[StatesRow]]:
    """Render the missing ones of `clips` clips of each kind, and score all methods on them."""
    jobs = [(kind, index) for kind in kinds for index in range(clips)]
    found, rows = [], []
    with progress("states", len(jobs)) as bar:
        for number, (kind, index) in enumerate(jobs):
            found.append(render_states_clip(kind, seed=seed, index=index, folder=folder))
            rows += score_clip(found[-1], max_frames=max_frames)
            bar(number + 1)
    return found, rows


def best_uniform(rows: Sequence[StatesRow]) -> str:
    """Return the uniform method that shows the most states in all `rows`; of equals the one that wastes the least."""
    totals: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.method != ADAPTIVE:
            shown, wasted = totals.get(row.method, (0, 0))
            totals[row.method] = shown + row.score.shown, wasted - row.score.wasted
    return max(totals, key=lambda method: totals[method])
