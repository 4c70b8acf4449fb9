"""A plan as a table for the terminal, and its facts as labelled rows for the table, the picture and the page."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence

from m3video.inference.latency import Estimate
from m3video.planning.limits import Limit
from m3video.types import SCALES, Focus, TokenPlan
from m3video.utils.clock import clock
from m3video.utils.text import counted

_FULL_BAR = 24
_MOST_TIMES = 4
_MOST_ROWS = 48
_WIDEST = 100
"""Longest line of running text in columns, however wide the terminal is."""

Row = tuple[str, str]
"""A label and the text beside it."""


def scale_rows(plan: TokenPlan, *, all_scales: bool = False) -> list[tuple[int, int, int]]:
    """Return (scale, number of frames, their total tokens) for each scale that the plan uses, or for all five."""
    count = Counter(frame.scale for frame in plan.frames)
    return [(scale, count[scale], scale * count[scale]) for scale in SCALES if all_scales or count[scale]]


def plan_facts(plan: TokenPlan, limits: Sequence[Limit] | None = None) -> list[Row]:
    """Return what a plan shows, spends and proves, as labelled rows.

    Args:
        plan: the plan.
        limits: the limits that bind, from `decision.binding_limits`; None when they were not computed.
    """
    rows = [
        ("frames", f"{len(plan.frames)} of {plan.num_candidates} candidates, {counted(len(plan.shots), 'shot')}"),
        ("tokens", f"{plan.total_tokens} of {plan.budget}{_coarse_pass_text(plan)}"),
    ]
    if plan.candidates_why:
        rows.append(("choice", plan.candidates_why))
    if plan.num_repeats:
        rows.append(("repeats", f"{plan.num_repeats} of the candidates repeat what others show"))
    if plan.focus is not None:
        rows.append(("question", _focus_text(plan, plan.focus)))
    if plan.grid_tokens is not None:
        return rows
    if plan.text_tokens is None:
        rows.append(("text", f"not known: {plan.config.get('model')} has no tokenizer on this machine"))
    else:
        rows.append(("text", f"{plan.text_tokens} tokens around the frames, without the question's"))
    rows += _proof_rows(plan)
    if plan.estimate:
        rows.append(("estimate", plan.estimate))
    if limits is not None:
        rows.append(("limits", _limits_text(limits)))
        left = plan.budget - plan.total_tokens - plan.first_tokens
        if left > 0:
            rows.append(("unspent", _unspent_text(plan, left, limits)))
    return rows


def _unspent_text(plan: TokenPlan, left: int, limits: Sequence[Limit]) -> str:
    """Return why part of the budget is not spent."""
    if plan.method != "fits":
        return f"{counted(left, 'token')}: the next finer step costs more than that"
    more = f"; to use more, change {', '.join(limit.name for limit in limits)}" if limits else ""
    return f"{counted(left, 'token')}: by the estimate no candidate gains from more{more}"


def _coarse_pass_text(plan: TokenPlan) -> str:
    return f", and {plan.first_tokens} in a coarse attention pass" if plan.first_tokens else ""


def _focus_text(plan: TokenPlan, focus: Focus) -> str:
    """Return which times the question is about, and how they were found."""
    if not focus.weights:
        return "about the whole video, by the attention of the model: planned as without a question"
    how = "by the times it names" if focus.measure == "times" else "by the attention of the model"
    most = sorted(sorted(focus.weights, key=lambda weight: -weight[1])[:_MOST_TIMES])
    times = ", ".join(clock(plan.video.pts_seconds(pts)) for pts, _ in most)
    more = f" and {len(focus.weights) - len(most)} more" if len(focus.weights) > len(most) else ""
    return f"about {times}{more}, {how}"


def time_fact(plan_seconds: float, estimate: Estimate | None) -> Row:
    """Return the row with the seconds of planning, and of an answer when earlier answers were timed."""
    took = f"{plan_seconds:.1f} s for this plan; for an answer "
    if estimate is None:
        return ("time", took + "not known yet: it is measured when this model answers on this machine")
    return (
        "time",
        f"{took}about {_seconds_text(estimate.seconds)} more, by {counted(estimate.num_runs, 'earlier answer')}",
    )


def _seconds_text(value: float) -> str:
    """Return seconds or minutes with at most two significant digits below 100 s: more would pretend precision."""
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s" if value < 100 else f"{value / 60:.0f} min"


def _proof_rows(plan: TokenPlan) -> list[Row]:
    """Return utility and bound; the gap between them is uncertainty only when the optimum is not proven."""
    utility, bound = (f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in (plan.utility, plan.bound))
    above = plan.bound / plan.utility - 1 if plan.utility > 0 else 0.0
    if plan.method == "gap":
        return [
            ("utility", f"{utility}; not proven to be the most, but no plan is worth over {_percent_text(above)} more"),
            ("bound", f"{bound}, by linear relaxation"),
        ]
    if plan.method == "":
        return [("utility", utility), ("bound", f"{bound}: no plan is worth more")]
    proven = ("utility", f"{utility}, the proven optimum: no plan within these limits is worth more")
    if above < 1e-9:
        return [proven, ("bound", f"{bound}, reached")]
    return [
        proven,
        ("bound", f"{bound} ({_percent_text(above)} above), if one frame could take a scale between two; none can"),
    ]


def _limits_text(limits: Sequence[Limit]) -> str:
    """Return the limits that bind, and what each costs."""
    if not limits:
        return "none binds: every frame has all the tokens it can use"
    return ", ".join(
        f"{limit.name} ({'reached' if limit.gain is None else f'without it {_percent_text(limit.gain)} more utility'})"
        for limit in limits
    )


def _percent_text(share: float) -> str:
    if share < 1e-4:
        return "under 0.01%"
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"


def plan_text(plan: TokenPlan, *, facts: Sequence[Row] | None = None, width: int | None = None) -> str:
    """Return a plan as a short table: its facts, the tokens of each scale, and the time and scale of each frame.

    Args:
        plan: the plan.
        facts: labelled rows for its head; None for those of the plan alone.
        width: of the text in columns, at least 40; None for that of the terminal, or 80 without one.
    """
    width = shutil.get_terminal_size().columns if width is None else width
    lines = []
    for label, text in plan_facts(plan) if facts is None else facts:
        lines += textwrap.wrap(
            text, min(width, _WIDEST), initial_indent=f"{label:<9}", subsequent_indent=" " * 9, break_on_hyphens=False
        )
    if plan.grid_tokens is None:
        lines += ["", f"{'tokens':>8}{'frames':>8}{'together':>10}"]
        lines += [f"{scale:>8}{count:>8}{together:>10}" for scale, count, together in scale_rows(plan)]
    lines += ["", f"{'time':>11}{'shot':>6}{'tokens':>8}"]
    room = min(_FULL_BAR, width - 27)
    for frame in plan.frames[:_MOST_ROWS]:
        bar = "#" * max(1, round(room * frame.scale**0.5 / 24))
        lines.append(f"{clock(plan.video.pts_seconds(frame.pts)):>11}{frame.shot + 1:>6}{frame.scale:>8}  {bar}")
    if len(plan.frames) > _MOST_ROWS:
        lines += textwrap.wrap(f"... and {len(plan.frames) - _MOST_ROWS} more; --json or -o plan.json has all", width)
    return "\n".join(lines)
