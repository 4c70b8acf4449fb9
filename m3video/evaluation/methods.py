"""Ways to spend the same token budget on a clip. Each says which frames it shows and how many tokens each gets.

A method never sees the truth, except the two that are told where to look and say so: `oracle` and `granularity`.
It returns pieces, not tokens, so that what it spends is known before the vision tower runs, and two methods that
decide alike are answered once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from m3video.errors import UsageError
from m3video.evaluation.records import Record
from m3video.evaluation.view import ClipView
from m3video.inference.pipeline import plan_details
from m3video.inference.saliency import focus_on, named_pins
from m3video.types import FULL_SCALE, SCALES
from m3video.utils.text import nearest

if TYPE_CHECKING:
    from m3video.model.m3.saliency import QuestionAttention

MIX_FRAMES: tuple[int, ...] = (2, 4, 8, 16, 32)
"""Frame counts that uniform, prune and merge may choose between; the report takes the best one per budget."""

RESAMPLED_TOKENS = 256
GRANULARITY_FRAMES = 8

FRAME_TEXT = 16
"""Positions of a frame's time, at most."""

TEXT_ROOM = 256
"""Positions left for the question and the answer where frames are counted against a model's context."""


class ShownFrame(NamedTuple):
    """One frame that is shown: its pts, the name of the reduction, and its tokens."""

    pts: int
    how: str
    tokens: int


ShownFrames = tuple[ShownFrame, ...]
"""In order of pts, `COARSE` pieces before all others; empty when the budget cannot hold a single frame."""

COARSE = "coarse"
"""How a frame is read that only the coarse attention pass of a two-pass ask sees: its tokens are spent, but the answer
does not read them."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to spend a budget.

    Attributes:
        name: unique, e.g. "uniform@16".
        family: what the report shows it under, e.g. "uniform"; of several with one family the report makes one.
        plan: clip, budget and question to pieces; the question is only read when `is_of_question`.
        is_told: it knows the moment that a question is about.
        reads_question: it knows the question's words, as a user's program would.
        has_budget: False when it spends what it needs.
    """

    name: str
    family: str
    plan: Callable[[ClipView, int, Record], ShownFrames]
    is_told: bool = False
    reads_question: bool = False
    has_budget: bool = True

    @property
    def is_of_question(self) -> bool:
        """Whether each question has its own plan."""
        return self.is_told or self.reads_question


def read_by_answer(plan: ShownFrames) -> ShownFrames:
    """Return the frames that the answer reads, without those of the coarse pass."""
    return tuple(piece for piece in plan if piece.how != COARSE)


def tokens_spent(plan: ShownFrames) -> int:
    """Return the visual tokens of a plan."""
    return sum(piece.tokens for piece in plan)


def adaptive(view: ClipView, budget: int, record: Record) -> ShownFrames:
    """Plan with the product's planner."""
    return tuple(ShownFrame(frame.pts, "pool", frame.scale) for frame in view.planned(budget).frames)


def salient(view: ClipView, budget: int, record: Record, *, measure: str) -> ShownFrames:
    """Plan with the product's planner and `--saliency`: "times", "attention" (times where they are named, else
    attention), or "look" (attention whatever is named; no setting of the product)."""
    words = record.question if measure != "look" else record.question.replace(record.reference, "")
    details = view.details(budget, **named_pins(words, view.info, view.details(budget).settings))
    coarse: list[ShownFrame] = []

    def attend(scales: Sequence[int]) -> QuestionAttention:
        assert view.attend is not None, "this method needs a model to attend with"
        candidates = zip(details.selection.pts_N, scales, strict=True)
        coarse.extend(ShownFrame(int(pts), COARSE, int(scale)) for pts, scale in candidates if scale)
        return view.attend(record, [piece.pts for piece in coarse], [piece.tokens for piece in coarse])

    found = focus_on(words, details, measure="times" if measure == "times" else "attention", attend=attend)
    if found is None:
        return adaptive(view, budget, record)
    focus, share_N = found
    frames = plan_details(view.info, details.settings, stats=view.stats, focus=focus, share_N=share_N).plan.frames
    return (*coarse, *(ShownFrame(frame.pts, "pool", frame.scale) for frame in frames))


def uniform(view: ClipView, budget: int, record: Record, *, frames: int) -> ShownFrames:
    """Show even frames at the two adjacent scales that spend the budget; the finer ones are spread evenly."""
    pts = view.evenly(min(frames, budget))
    return tuple(ShownFrame(p, "pool", scale) for p, scale in zip(pts, even_scales(len(pts), budget), strict=True))


def even_scales(frames: int, budget: int) -> list[int]:
    """Return scales of at most `budget` frames: the two adjacent ones that spend it best, the finer ones spread
    evenly."""
    if not frames:
        return []
    fitting = [scale for scale in SCALES if frames * scale <= budget]
    scales = np.full(frames, fitting[-1])
    if fitting[-1] < FULL_SCALE:
        finer = SCALES[len(fitting)]
        count = (budget - frames * fitting[-1]) // (finer - fitting[-1])
        scales[((np.arange(count) + 0.5) * frames / max(1, count)).astype(int)] = finer
    return [int(scale) for scale in scales]


def fixed(view: ClipView, budget: int, record: Record, *, scale: int) -> ShownFrames:
    """Show as many even frames at one scale as fit; 576 is plain LLaVA."""
    return tuple(ShownFrame(p, "pool", scale) for p in view.evenly(budget // scale))


def proportional(view: ClipView, budget: int, record: Record) -> ShownFrames:
    """Share the budget in proportion to each candidate's utility at 576, rounded down to a scale; the rest raises
    candidates by one scale, the largest unmet share first."""
    value_N = view.utility_NS[:, -1] + 1e-9
    share = budget * value_N / value_N.sum()
    level = np.searchsorted(SCALES, share, side="right") - 1  # -1: left out
    cost = np.array([0, *SCALES])
    left = budget - int(cost[level + 1].sum())
    while True:
        open_rows = [n for n in np.argsort(-(share - cost[level + 1]), kind="stable") if level[n] + 1 < len(SCALES)]
        row = next((n for n in open_rows if cost[level[n] + 2] - cost[level[n] + 1] <= left), None)
        if row is None:
            break
        left -= int(cost[level[row] + 2] - cost[level[row] + 1])
        level[row] += 1
    pts = view.candidates.pts_N
    return tuple(ShownFrame(int(p), "pool", int(cost[k + 1])) for p, k in zip(pts, level, strict=True) if k >= 0)


def reduced(view: ClipView, budget: int, record: Record, *, frames: int, how: str) -> ShownFrames:
    """Show even frames with equal shares of the budget, each frame's tokens pruned or merged to its share."""
    pts = view.evenly(min(frames, budget))
    if not pts:
        return ()
    base, extra = divmod(budget, len(pts))
    return tuple(ShownFrame(p, how, min(FULL_SCALE, base + (n < extra))) for n, p in enumerate(pts))


def resample(view: ClipView, budget: int, record: Record) -> ShownFrames:
    """Show as many even frames of 256 tokens as fit."""
    return tuple(ShownFrame(p, "resample", RESAMPLED_TOKENS) for p in view.evenly(budget // RESAMPLED_TOKENS))


def full(view: ClipView, budget: int, record: Record, *, frames: int) -> ShownFrames:
    """Show even frames with all of LLaVA's tokens, as many as the context holds (`frames`); the budget is ignored."""
    return fixed(view, frames * FULL_SCALE, record, scale=FULL_SCALE)


def oracle(view: ClipView, budget: int, record: Record, *, scale: int) -> ShownFrames:
    """Show the frame with the answer at `scale`, and other even frames at one token each; the method knows which frame.

    A question about the whole video has no such frame: then all frames at `scale`.
    """
    if scale > budget:
        return ()
    if record.moment is None:
        return fixed(view, budget, record, scale=scale)
    key = view.nearest(record.moment)
    rest = [p for p in view.evenly(min(view.max_frames - 1, budget - scale)) if p != key]
    return tuple(sorted([ShownFrame(key, "pool", scale), *(ShownFrame(p, "pool", 1) for p in rest)]))


def granularity(
    view: ClipView, budget: int, record: Record, *, scale: int, frames: int = GRANULARITY_FRAMES
) -> ShownFrames:
    """Show a few frames at one scale, the one with the answer among them, so that only the scale differs."""
    chosen: set[int] = set()
    if record.moment is not None:
        # Neighbouring questions share a plan, so that it is encoded and read once for all of them.
        keys = sorted({view.nearest(moment) for moment in (*view.moments, record.moment)})
        first = keys.index(view.nearest(record.moment)) // frames * frames
        chosen = set(keys[first : first + frames])
    for p in view.evenly(frames):
        if len(chosen) < frames:
            chosen.add(p)
    return tuple(ShownFrame(p, "pool", scale) for p in sorted(chosen))


def _mixes(family: str, plan: Callable[..., ShownFrames], max_frames: int) -> list[Method]:
    return [
        Method(f"{family}@{frames}", family, functools.partial(plan, frames=frames))
        for frames in sorted({min(frames, max_frames) for frames in MIX_FRAMES})
    ]


def variants(name: str, *, max_frames: int, context: int = 8192) -> list[Method]:
    """Return the methods that a name on the command line stands for.

    Args:
        name: one of `METHOD_NAMES`.
        max_frames: most frames any of them may show.
        context: of the model; what shows full frames without a budget shows as many as fit.

    Raises:
        UsageError: another name.
    """
    most = max(1, min(max_frames, (context - TEXT_ROOM) // (FULL_SCALE + FRAME_TEXT)))
    at_frames = functools.partial(granularity, frames=min(GRANULARITY_FRAMES, most))
    scaled: dict[str, Callable[..., ShownFrames]] = {"fixed": fixed, "oracle": oracle, "granularity": at_frames}
    prune = {"prune": "prune", "prune-unusual": "prune-unusual", "merge": "merge"}
    if name in scaled:
        return [
            Method(
                f"{name}-{scale}",
                f"fixed-{scale}" if name == "fixed" else name,
                functools.partial(scaled[name], scale=scale),
                is_told=name != "fixed",
                has_budget=name != "granularity",
            )
            for scale in SCALES
        ]
    if name in prune:
        return _mixes(name, functools.partial(reduced, how=prune[name]), max_frames)
    if name == "uniform":
        return _mixes(name, uniform, max_frames)
    if name == "full":
        return [Method(name, name, functools.partial(full, frames=most), has_budget=False)]
    measure = name.removeprefix("saliency-")
    if measure in MEASURES and measure != name:
        return [Method(name, name, functools.partial(salient, measure=measure), reads_question=True)]
    if name == "llava":
        return [variants("fixed", max_frames=max_frames)[-1]]
    if name in SIMPLE:
        return [Method(name, name, SIMPLE[name])]
    near = nearest(name, METHOD_NAMES)
    hint = f"; did you mean {near}?" if near else ""
    raise UsageError(f"--methods ({name}) must be one of {', '.join(METHOD_NAMES)}{hint}")


SIMPLE: dict[str, Callable[[ClipView, int, Record], ShownFrames]] = {
    "adaptive": adaptive,
    "proportional": proportional,
    "resample": resample,
}
MEASURES: tuple[str, ...] = ("times", "attention", "look")
SALIENT: tuple[str, ...] = tuple(f"saliency-{measure}" for measure in MEASURES)
METHOD_NAMES: tuple[str, ...] = (
    "adaptive",
    "uniform",
    "fixed",
    "llava",
    "proportional",
    "prune",
    "prune-unusual",
    "merge",
    "resample",
    "oracle",
    "granularity",
    "full",
    *SALIENT,
)
"""All that `--methods` takes; "llava" is fixed at 576 within the budget, "full" without one."""

DEFAULT_METHODS: tuple[str, ...] = tuple(name for name in METHOD_NAMES if name not in ("llava", *SALIENT))


def make_methods(names: Sequence[str], *, max_frames: int, context: int = 8192) -> list[Method]:
    """Return every variant of every name, once; arguments and errors as for `variants`."""
    found: dict[str, Method] = {}
    for name in names:
        found |= {method.name: method for method in variants(name, max_frames=max_frames, context=context)}
    return list(found.values())
