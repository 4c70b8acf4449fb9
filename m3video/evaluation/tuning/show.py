"""A tuning report for people: as text for a terminal, and as a picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from m3video.evaluation.intervals import Interval
from m3video.evaluation.plots import METHOD_COLOURS
from m3video.evaluation.tuning.report import RULE, STAGES, TuneReport, TuneRow, points
from m3video.evaluation.tuning.search import FULL

_CAPTION_COLUMNS = 130
_TEXT_COLUMNS = 79


def tune_text(report: TuneReport, command: str) -> str:
    """Return scores, then costs, then the recommended command; no row is wrapped or wider than 79 columns."""
    videos = f"{report.videos} video{'' if report.videos == 1 else 's'}"
    lines = [f"{report.rows[0].score.answers} questions about {videos}: {report.judged}", report.intervals, ""]
    lines.append(f"{'':1}{'method':<12}{'budget':>7}{'spent':>7}{'frames':>8}{'score, %':>16}{'minus uniform':>21}")
    lines += [_score_line(row) for row in report.rows]
    lines += ["* nothing is better without spending more", ""]
    lines.append("seconds of a question about a new video, by stage; of a next one; peak memory")
    lines.append(
        f"{'':1}{'method':<12}{'budget':>7}{'analyze':>8}{'plan':>7}{'fetch':>7}{'vision':>8}{'answer':>8}"
        f"{'next':>7}{'MiB':>8}"
    )
    lines += [_cost_line(row) for row in report.rows]
    lines.append("")
    lines += textwrap.wrap(
        f"recommended: --budget {report.recommended.setting.budget}, {RULE}: {report.why}",
        _TEXT_COLUMNS,
        break_on_hyphens=False,
    )
    return "\n".join([*lines, "", command])


def _score_line(row: TuneRow) -> str:
    front = "*" if row.is_on_front else ""
    gain = "" if row.minus_uniform is None else points(row.minus_uniform)
    return (
        f"{front:1}{row.setting.method:<12}{row.setting.budget:>7}{row.visual:>7.0f}{row.frames:>8.1f}"
        f"{_percent(row.score):>16}{gain:>21}"
    ).rstrip()


def _percent(value: Interval) -> str:
    text = f"{100 * value.value:.0f}"
    return text if math.isnan(value.low) else f"{text} [{100 * value.low:.0f}, {100 * value.high:.0f}]"


def _cost_line(row: TuneRow) -> str:
    widths = dict(zip(STAGES, (8, 7, 7, 8, 8, 7), strict=True))
    cells = "".join(f"{_seconds(row.seconds[stage]):>{width}}" for stage, width in widths.items())
    peak = "-" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:.0f}"
    return f"{'':1}{row.setting.method:<12}{row.setting.budget:>7}{cells}{peak:>8}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def draw_tune(report: TuneReport, command: str) -> Any:
    """Draw two panels over the same scores, with the front and the recommended setting, and the command below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.2))
    axes = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.07, right=0.98, top=0.92, bottom=0.3, wspace=0.06)
    _panel(axes[0], report, lambda row: row.visual, "visual tokens spent (mean)", with_front=True)
    _panel(axes[1], report, lambda row: row.ask_seconds, "seconds for one question, model loaded", with_front=False)
    axes[0].set_ylabel("per cent of questions")
    axes[0].legend(loc="lower right", framealpha=0.9)
    answers, videos = report.rows[0].score.answers, report.videos
    figure.suptitle(f"{answers} questions about {videos} video{'' if videos == 1 else 's'}: {report.judged}")
    caption = [
        f"recommended: {RULE}.",
        f"--budget {report.recommended.setting.budget}: {report.why}.",
        command,
        f"Bars: {report.intervals}.",
    ]
    lines = [line for text in caption for line in textwrap.wrap(text, _CAPTION_COLUMNS, break_on_hyphens=False)]
    figure.text(0.07, 0.2, "\n".join(lines), va="top", fontsize=9, family="monospace")
    return figure


def _panel(axis: Any, report: TuneReport, x: Callable[[TuneRow], float], label: str, *, with_front: bool) -> None:
    # The reference takes so much longer that nothing else could be told apart.
    for method in ("adaptive", "uniform", FULL) if with_front else ("adaptive", "uniform"):
        rows = [row for row in report.rows if row.setting.method == method]
        if rows:
            _line(axis, rows, x, method)
    if with_front:
        front = sorted((x(row), 100 * row.score.value) for row in report.rows if row.is_on_front)
        front.append((max(x(row) for row in report.rows), front[-1][1]))
        axis.step(
            [p for p, _ in front],
            [q for _, q in front],
            where="post",
            color="black",
            linewidth=1,
            label="Pareto front",
            zorder=2,
        )
        axis.set_xscale("log")
        _plain_ticks(axis, sorted({row.setting.budget for row in report.rows}))
    chosen = report.recommended
    axis.scatter(
        [x(chosen)],
        [100 * chosen.score.value],
        s=260,
        facecolors="none",
        edgecolors="black",
        linewidths=1.6,
        label=f"recommended: --budget {chosen.setting.budget}",
        zorder=5,
    )
    axis.set(xlabel=label, ylim=(-2, 104))
    axis.grid(alpha=0.3)


def _plain_ticks(axis: Any, ticks: Sequence[int]) -> None:
    """Label the budgets as plain numbers, leaving out those that would overlap."""
    from matplotlib.ticker import NullLocator, ScalarFormatter

    kept: list[int] = []
    for tick in ticks:
        if not kept or tick > 1.25 * kept[-1]:
            kept.append(tick)
    axis.set_xticks(kept)
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_locator(NullLocator())


def _line(axis: Any, rows: Sequence[TuneRow], x: Callable[[TuneRow], float], method: str) -> None:
    values = [100 * row.score.value for row in rows]
    bars = [
        [value - 100 * row.score.low for value, row in zip(values, rows, strict=True)],
        [100 * row.score.high - value for value, row in zip(values, rows, strict=True)],
    ]
    axis.errorbar(
        [x(row) for row in rows],
        values,
        yerr=bars,
        capsize=3,
        color=METHOD_COLOURS.get(method, "black"),
        label=method,
        marker="o",
        linewidth=1.8 if method == "adaptive" else 1.2,
        zorder=4 if method == "adaptive" else 3,
    )
