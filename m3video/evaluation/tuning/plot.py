"""A tuning report as a picture: what each budget answers, against its tokens and against its time."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from m3video.evaluation.plots import COLOURS
from m3video.evaluation.tuning.report import RULE, TuneReport, TuneRow
from m3video.evaluation.tuning.search import FULL

_CAPTION_COLUMNS = 130


def draw_tune(report: TuneReport, command: str) -> Any:
    """Two panels over the same scores; the front and the recommended setting stand out, the command stands below."""
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
    """The budgets as plain numbers; those that would overlap are left out."""
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
        color=COLOURS.get(method, "black"),
        label=method,
        marker="o",
        linewidth=1.8 if method == "adaptive" else 1.2,
        zorder=4 if method == "adaptive" else 3,
    )
