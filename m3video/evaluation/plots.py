"""Pictures of a report: accuracy against tokens spent with intervals, and which points nothing else beats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3video.errors import UsageError
from m3video.evaluation.records import GROUPS
from m3video.evaluation.report import QUESTION_KINDS, EvalReport, durations, splits
from m3video.evaluation.scores import Cell
from m3video.utils.files import replacing

METHOD_COLOURS = {
    "adaptive": "#d62728",
    "uniform": "#1f77b4",
    "oracle": "#7f7f7f",
    "proportional": "#ff7f0e",
    "merge": "#2ca02c",
    "full": "#000000",
    "prune": "#9467bd",
    "prune-unusual": "#c5b0d5",
    "resample": "#17becf",
    "fixed-1": "#e5d8bd",
    "fixed-9": "#c9b37e",
    "fixed-36": "#a68a4b",
    "fixed-144": "#7a6128",
    "fixed-576": "#4d3a10",
}
WITH_INTERVALS = ("adaptive", "uniform", "oracle")
"""Bars on all lines would hide each other."""


def pyplot() -> Any:
    """Return matplotlib without a window; raise UsageError when it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise UsageError("plots need matplotlib: pip install 'm3video[plots]', or leave out --plots") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save_plots(report: EvalReport, folder: Path) -> list[Path]:
    """Write `accuracy.png` and `pareto.png`."""
    paths = []
    for name, draw in (("accuracy", draw_accuracy), ("pareto", draw_pareto)):
        path = folder / f"{name}.png"
        figure = draw(report)
        with replacing(path) as part:
            figure.savefig(part, format="png", dpi=150, bbox_inches="tight")
        pyplot().close(figure)
        paths.append(path)
    return paths


def draw_accuracy(report: EvalReport) -> Any:
    """Draw accuracy against mean visual tokens, for all questions, each kind, each group and each class of length."""
    plt = pyplot()
    present = set(splits(report.cells[0])) if report.cells else set()
    lengths = [f"duration:{name}" for name in durations(report.cells[0])] if report.cells else []
    panels = ("all", *(name for name in (*QUESTION_KINDS, *GROUPS, *lengths) if name in present))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.4 * columns, 4.5 * rows), sharex=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, group in zip(axes.flat, panels, strict=False):
        for method in sorted({cell.method for cell in report.cells}, key=_order):
            _line(axis, [c for c in report.of_kind.get(group, report.cells) if c.method == method], method, group)
        axis.set(title=f"{group.removeprefix('duration:')} questions", xscale="log", ylim=(0, 102))
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("visual tokens spent (mean)")
    for axis in axes[:, 0]:
        axis.set_ylabel("per cent right")
    _token_ticks(axes[0, 0], report)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.92, 0.5), frameon=False)
    whole = report.cells[0].accuracy() if report.cells else None
    if whole is not None:
        figure.suptitle(f"{report.task}: {whole.answers} questions about {whole.clips} clips, bars: 95 % over clips")
    return figure


def _token_ticks(axis: Any, report: EvalReport) -> None:
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    # Budgets in tokens per second are no places on an axis of tokens.
    budgets = [] if report.identity["per_second"] else report.budgets
    lowest = budgets[0] if budgets else 10_000
    axis.set_xticks([*(tick for tick in (10, 30, 100, 300, 1000, 3000) if tick < 0.5 * lowest), *budgets])
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())


def _order(method: str) -> int:
    return list(METHOD_COLOURS).index(method) if method in METHOD_COLOURS else len(METHOD_COLOURS)


def _line(axis: Any, cells: Sequence[Cell], method: str, group: str) -> None:
    points = []
    for cell in cells:
        answers = list(cell.answers) if group in ("all", *QUESTION_KINDS) else splits(cell).get(group, [])
        if answers:
            points.append((cell.mean("visual"), cell.accuracy(answers)))
    if not points:
        return
    x = [tokens for tokens, _ in points]
    y = [100 * value.value for _, value in points]
    strong = method in WITH_INTERVALS
    style: dict[str, Any] = {
        "color": METHOD_COLOURS.get(method),
        "label": method,
        "marker": "o" if strong else ".",
        "linewidth": 2 if strong else 1,
        "zorder": 3 if strong else 2,
    }
    if method == "oracle":
        # It spends what each question needs: its points are no curve over budgets.
        style |= {"linestyle": "none", "marker": "x"}
    if not strong:
        axis.plot(x, y, **style)
        return
    bars = [[100 * (v.value - v.low) for _, v in points], [100 * (v.high - v.value) for _, v in points]]
    axis.errorbar(x, y, yerr=bars, capsize=3, **style)


def pareto(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that no other beats in accuracy without spending more, by tokens; the oracle does not
    compete."""
    best: list[Cell] = []
    rivals = [cell for cell in cells if cell.method != "oracle"]
    for cell in sorted(rivals, key=lambda c: (c.mean("visual"), -c.accuracy().value)):
        if not best or cell.accuracy().value > best[-1].accuracy().value:
            best.append(cell)
    return best


def draw_pareto(report: EvalReport) -> Any:
    """Draw every method at every budget as a point, and the Pareto front."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(9, 6))
    front = pareto(report.cells)
    for method in sorted({cell.method for cell in report.cells}, key=_order):
        cells = [cell for cell in report.cells if cell.method == method]
        axis.scatter(
            [c.mean("visual") for c in cells],
            [100 * c.accuracy().value for c in cells],
            color=METHOD_COLOURS.get(method),
            label=method,
            s=45,
            marker="x" if method == "oracle" else "o",
            zorder=3,
        )
    axis.step(
        [c.mean("visual") for c in front],
        [100 * c.accuracy().value for c in front],
        where="post",
        color="black",
        linewidth=1,
        label="Pareto front",
        zorder=2,
    )
    axis.set(
        xscale="log",
        xlabel="visual tokens spent (mean)",
        ylabel="per cent right",
        title=f"{report.task}: accuracy and tokens (oracle: told where to look)",
    )
    _token_ticks(axis, report)
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure
