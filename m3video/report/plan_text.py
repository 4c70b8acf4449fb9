"""A plan as text: its facts, what each scale costs, and when which frame is shown."""

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
"""Lines of words are no wider, whatever the terminal."""

Row = tuple[str, str]
"""A label and what it says."""


def scale_rows(plan: TokenPlan, *, all_scales: bool = False) -> list[tuple[int, int, int]]:
    """(scale, frames shown at it, their tokens together) for the scales that the plan uses, or for all five."""
    count = Counter(frame.scale for frame in plan.frames)
    return [(scale, count[scale], scale * count[scale]) for scale in SCALES if all_scales or count[scale]]


def plan_facts(plan: TokenPlan, limits: Sequence[Limit] | None = None) -> list[Row]:
    """What a plan shows, spends and proves, as labelled lines.

    Args:
        plan: the plan.
        limits: those that bind, as `pipeline.binding_limits` found them; None where they are not known.
    """
    rows = [
        ("frames", f"{len(plan.frames)} of {plan.num_candidates} candidates, {counted(len(plan.shots), 'shot')}"),
        ("tokens", f"{plan.total_tokens} of {plan.budget}{_looked(plan)}"),
    ]
    if plan.num_repeats:
        rows.append(("repeats", f"{plan.num_repeats} of the candidates show nothing that no other one shows"))
    if plan.focus is not None:
        rows.append(("question", _focus_text(plan, plan.focus)))
    if plan.grid_tokens is not None:
        return rows
    if plan.text_tokens is None:
        rows.append(("text", f"not known: {plan.config.get('model')} has no tokenizer on this machine"))
    else:
        rows.append(("text", f"{plan.text_tokens} tokens around the frames, without the question's"))
    rows += _proof(plan)
    if plan.estimate:
        rows.append(("estimate", plan.estimate))
    if limits is not None:
        rows.append(("limits", _limits_text(limits)))
        left = plan.budget - plan.total_tokens - plan.first_tokens
        if left > 0:
            rows.append(("unspent", _unspent_text(plan, left, limits)))
    return rows


def _unspent_text(plan: TokenPlan, left: int, limits: Sequence[Limit]) -> str:
    """Why tokens are left over."""
    if plan.method != "fits":
        return f"{counted(left, 'token')}: no step that shows more costs as little"
    lifted = [limit.name for limit in limits if not limit.name.startswith("--budget")]
    more = f"; what could: {', '.join(lifted)} changed" if lifted else ""
    return f"{counted(left, 'token')}: every candidate has all that shows more of what is new in it{more}"


def _looked(plan: TokenPlan) -> str:
    return f", and {plan.first_tokens} in a coarse attention pass" if plan.first_tokens else ""


def _focus_text(plan: TokenPlan, focus: Focus) -> str:
    """What the question is held to be about."""
    if not focus.weights:
        return "about the whole video, by where it makes the model look: planned as without it"
    how = "by the times it names" if focus.measure == "times" else "by where it makes the model look"
    most = sorted(sorted(focus.weights, key=lambda weight: -weight[1])[:_MOST_TIMES])
    times = ", ".join(clock(plan.video.pts_seconds(pts)) for pts, _ in most)
    more = f" and {len(focus.weights) - len(most)} more" if len(focus.weights) > len(most) else ""
    return f"about {times}{more}, {how}"


def time_fact(plan_seconds: float, estimate: Estimate | None) -> Row:
    """What planning took, and what an answer will take where earlier ones tell."""
    took = f"{plan_seconds:.1f} s for this plan; for an answer "
    if estimate is None:
        return ("time", took + "not known yet: it is measured when this model answers on this machine")
    return ("time", f"{took}about {_seconds(estimate.seconds)} more, by {counted(estimate.num_runs, 'earlier answer')}")


def _seconds(value: float) -> str:
    """No more digits than an estimate has."""
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s" if value < 100 else f"{value / 60:.0f} min"


def _proof(plan: TokenPlan) -> list[Row]:
    """Utility and bound; the distance between them is doubt only where the optimum is not proven."""
    utility, bound = (f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in (plan.utility, plan.bound))
    above = plan.bound / plan.utility - 1 if plan.utility > 0 else 0.0
    if plan.method == "gap":
        return [
            ("utility", f"{utility}; not proven to be the most, but no plan is worth over {_percent(above)} more"),
            ("bound", f"{bound}, by linear relaxation"),
        ]
    if plan.method == "":
        return [("utility", utility), ("bound", f"{bound}: no plan is worth more")]
    proven = ("utility", f"{utility}, the proven optimum: no plan within these limits is worth more")
    if above < 1e-9:
        return [proven, ("bound", f"{bound}, reached")]
    return [
        proven,
        ("bound", f"{bound} ({_percent(above)} above), if one frame could stand between two scales; none can"),
    ]


def _limits_text(limits: Sequence[Limit]) -> str:
    """The limits that bind, and what each costs."""
    if not limits:
        return "none binds: every frame has all the tokens it can use"
    return ", ".join(
        f"{limit.name} ({'reached' if limit.gain is None else f'without it {_percent(limit.gain)} more utility'})"
        for limit in limits
    )


def _percent(share: float) -> str:
    if share < 1e-4:
        return "under 0.01%"
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"


def plan_text(plan: TokenPlan, *, facts: Sequence[Row] | None = None, width: int | None = None) -> str:
    """A plan as a short table: its facts, what each scale costs, and when which frame is shown.

    Args:
        plan: the plan.
        facts: its labelled lines, when more is known than the plan tells.
        width: columns; None for the terminal's, or 80 without one. No line is longer, from 40 on.
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
