"""What the command line shows: bars on stderr, tables and records for stdout."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from m3video.inference.latency import Estimate
from m3video.planning.limits import Limit
from m3video.planning.plan_file import to_json
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_FROZEN, SCALES, Answer, Focus, FrameStats, TokenPlan, VideoInfo
from m3video.utils.clock import clock
from m3video.utils.progress import Bar, Progress, silent
from m3video.utils.text import json_text

_BAR_EVERY_SECONDS = 0.1
_FULL_BAR = 24
_MOST_TIMES = 4
_MOST_ROWS = 48
_WIDEST = 100
"""Lines of words are no wider, whatever the terminal."""

Row = tuple[str, str]
"""A label and what it says."""


def make_progress(*, quiet: bool) -> Progress:
    """Bars on stderr when it is a terminal, otherwise nothing: logs must not fill with redraws."""
    return silent if quiet or not sys.stderr.isatty() else _bars


@contextmanager
def _bars(stage: str, total: int | None) -> Iterator[Bar]:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(stage, total=total)
        last = 0.0

        def bar(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            # Redrawing for each of 60 frames a second would cost more than the frames.
            if now - last >= _BAR_EVERY_SECONDS or done == total:
                shown.update(task, completed=done)
                last = now

        yield bar


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json_text(value, indent=2))


def print_notes(notes: Sequence[str]) -> None:
    """Warnings on stderr, one line each."""
    for note in notes:
        print(f"m3video: note: {note}", file=sys.stderr)


def info_record(info: VideoInfo) -> dict[str, Any]:
    """`VideoInfo` as JSON, with the seconds that people want beside the integers."""
    return {
        **asdict(info),
        "start_seconds": info.pts_seconds(info.start_pts),
        "end_seconds": info.pts_seconds(info.until_pts),
        "duration_seconds": info.duration_seconds,
    }


def info_text(info: VideoInfo) -> str:
    """`VideoInfo` for people."""
    turned = f", turned by {info.rotation} degrees" if info.rotation else ""
    said = "" if info.num_frames_from_header is None else f" (header: {info.num_frames_from_header})"
    rows = [
        ("file", info.path),
        ("picture", f"{info.width} x {info.height}{turned}, {info.pixel_format}"),
        ("codec", f"{info.codec} in {info.container}, read with {info.backend}"),
        ("frames", f"{info.num_frames}{said}, {info.num_keyframes} keyframes"),
        (
            "time",
            f"{clock(info.pts_seconds(info.start_pts))} to "
            f"{clock(info.pts_seconds(info.until_pts))} "
            f"({info.duration_seconds:.3f} s)",
        ),
        ("pts", f"{info.start_pts} to {info.end_pts}, time base {info.time_base[0]}/{info.time_base[1]}{_zero(info)}"),
        ("content", info.fingerprint),
    ]
    if info.num_damaged_packets:
        rows.append(("damaged", f"{info.num_damaged_packets} packets"))
    return "\n".join(f"{name:<9}{value}" for name, value in rows)


def _zero(info: VideoInfo) -> str:
    """Where the clock of the line above begins, if that is not pts 0."""
    return f", 0:00 is {info.origin[0] / info.origin[1]:.6g} s" if info.origin[0] else ""


def stats_record(info: VideoInfo, stats: FrameStats, *, shots: int) -> dict[str, Any]:
    """What `analyze` found, summed up."""
    flags = stats.flags_N
    return {
        "frames": len(stats),
        "duration_seconds": info.duration_seconds,
        "partial": info.partial,
        "shots": shots,
        "black_frames": int(((flags & FLAG_BLACK) > 0).sum()),
        "frozen_frames": int(((flags & FLAG_FROZEN) > 0).sum()),
        "corrupt_frames": int(((flags & FLAG_CORRUPT) > 0).sum()),
        "mean_loss": [round(float(value), 3) for value in stats.loss_NS.mean(axis=0)],
        "mean_peak": [round(float(value), 3) for value in stats.peak_NS.mean(axis=0)],
        "mean_change": round(float(stats.change_N.mean()), 4),
        "mode": stats.mode,
    }


def stats_text(record: Mapping[str, Any]) -> str:
    """`stats_record` for people."""
    rows = [
        f"{record['frames']} frames, {record['duration_seconds']:.2f} s, {record['shots']} shots",
        f"black {record['black_frames']}, frozen {record['frozen_frames']}, corrupt {record['corrupt_frames']}",
        f"{'loss against 24x24 at':<22}" + "".join(f"{f'{scale} tok':>10}" for scale in SCALES[:-1]),
    ]
    for label, key in (("mean over the frame", "mean_loss"), ("worst 5 % of it", "mean_peak")):
        rows.append(f"{label:<22}" + "".join(f"{value:>10.0f}" for value in record[key][:-1]))
    return "\n".join(rows)


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
        ("frames", f"{len(plan.frames)} of {plan.num_candidates} candidates, {_count(len(plan.shots), 'shot')}"),
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
        return f"{_count(left, 'token')}: no step that shows more costs as little"
    lifted = [limit.name for limit in limits if not limit.name.startswith("--budget")]
    more = f"; what could: {', '.join(lifted)} changed" if lifted else ""
    return f"{_count(left, 'token')}: every candidate has all that shows more of what is new in it{more}"


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
    return ("time", f"{took}about {_seconds(estimate.seconds)} more, by {_count(estimate.num_runs, 'earlier answer')}")


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


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


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


def answer_record(answer: Answer) -> dict[str, Any]:
    """`Answer` as JSON; the plan is in the layout of plan.json."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "model": answer.model,
        "evidence": [asdict(item) for item in answer.evidence],
        "tokens": {
            "visual": answer.visual_tokens,
            "prompt": answer.prompt_tokens,
            "answer": answer.answer_tokens,
            "reused": answer.reused_tokens,
        },
        "cached": {"frames": answer.cached_frames, "scan": answer.is_scan_cached},
        "stage_seconds": {name: round(value, 4) for name, value in answer.stage_seconds.items()},
        "peak_memory_bytes": dict(answer.peak_memory_bytes),
        "warnings": list(answer.warnings),
        "config": dict(answer.config),
        "plan": to_json(answer.plan),
    }


def evidence_lines(answer: Answer) -> list[str]:
    """When the model looked, a line for each time range."""
    return [
        f"  {clock(item.start_seconds)} - {clock(item.end_seconds)}   "
        f"{_count(item.num_frames, 'frame')}, {_count(item.num_tokens, 'token')}"
        for item in answer.evidence
    ]


def cost_lines(answer: Answer) -> list[str]:
    """Tokens, seconds and memory of an answer, and what did not have to be done again."""
    cost = ", ".join(f"{name} {value:.2f} s" for name, value in answer.stage_seconds.items())
    peak = max(answer.peak_memory_bytes.values(), default=0) / 2**20
    kept = [
        f"{answer.cached_frames} of {_count(len(answer.plan.frames), 'frame')}" if answer.cached_frames else "",
        "the scan" if answer.is_scan_cached else "",
        f"{answer.reused_tokens} prompt tokens" if answer.reused_tokens else "",
    ]
    reused = ", ".join(part for part in kept if part)
    lines = [
        f"{answer.model}: {answer.prompt_tokens} prompt tokens, {answer.visual_tokens} of them visual; "
        f"{answer.answer_tokens} in the answer",
        f"{cost}; peak memory {peak:.0f} MiB",
    ]
    return lines + ([f"not done again: {reused}"] if reused else [])


def answer_text(answer: Answer) -> str:
    """The answer, what the model looked at, the plan, and the cost."""
    return "\n".join(
        [answer.text, "", "looked at", *evidence_lines(answer), "", plan_text(answer.plan), "", *cost_lines(answer)]
    )
