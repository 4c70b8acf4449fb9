"""A report on confidence as text, JSON and a reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m3video.evaluation.confidence.measures import ConfidenceReport
from m3video.evaluation.intervals import Interval
from m3video.inference.confidence import ConfidenceCurve
from m3video.utils.files import replacing


def report_text(found: ConfidenceReport) -> str:
    """Return tables in Markdown: the measures, the reliability diagram, and what `--abstain` leaves."""
    lines = [
        f"{found.right.answers} answers about {found.right.clips} clips, 95 % intervals over clips",
        "",
        "| | |",
        "|---|---|",
        f"| right answers | {_text(found.right)} |",
        f"| right against wrong, area under the curve | {_text(found.auc)} |",
        f"| expected calibration error | {found.ece:.3f} |",
        "",
        "| confidence | right | answers |",
        "|---|---|---|",
    ]
    lines += [f"| {one.confidence:.2f} | {_text(one.right)} | {one.right.answers} |" for one in found.bins]
    lines += ["", "| `--abstain` | answered | right of these |", "|---|---|---|"]
    for one in found.kept:
        right = _text(one.right) if one.right.answers else "-"
        lines.append(f"| {one.threshold:g} | {one.answered:.2f} | {right} |")
    return "\n".join(lines)


def compare_text(found: Mapping[str, Interval]) -> str:
    """Return a table in Markdown of how well each measure tells right answers from wrong ones."""
    rows = [f"| {name} | {_text(value)} |" for name, value in found.items()]
    return "\n".join(["| measure | area under the curve |", "|---|---|", *rows])


def report_json(found: ConfidenceReport, curve: ConfidenceCurve) -> dict[str, Any]:
    """Return the report as JSON values, with the curve that was measured."""

    def plain(value: Interval) -> dict[str, Any]:
        return {name: None if number != number else number for name, number in value._asdict().items()}

    return {
        "right": plain(found.right),
        "auc": plain(found.auc),
        "ece": found.ece,
        "bins": [{"confidence": one.confidence, "right": plain(one.right)} for one in found.bins],
        "abstain": [
            {"threshold": one.threshold, "answered": one.answered, "right": plain(one.right)} for one in found.kept
        ],
        "curve": asdict(curve),
    }


def save_plot(found: ConfidenceReport, title: str, path: Path) -> None:
    """Write the reliability diagram as PNG; raise UsageError where matplotlib is missing."""
    from m3video.evaluation.plots import pyplot

    plt = pyplot()
    figure, axis = plt.subplots(figsize=(5, 5))
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, label="as it should be")
    x, y = [one.confidence for one in found.bins], [one.right.value for one in found.bins]
    bars = [
        [one.right.value - one.right.low for one in found.bins],
        [one.right.high - one.right.value for one in found.bins],
    ]
    axis.errorbar(x, y, yerr=bars, fmt="o-", capsize=3, label="answers, 95 % over clips")
    for one in found.bins:
        axis.annotate(str(one.right.answers), (one.confidence, -0.05), ha="center", fontsize=8, color="grey")
    axis.set(
        xlim=(0, 1.02),
        ylim=(-0.07, 1.02),
        xlabel="confidence (below: number of answers)",
        ylabel="share right",
        title=f"{title}: ECE {found.ece:.3f}, AUC {found.auc.value:.2f}",
    )
    axis.legend(loc="upper left", frameon=False)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)


def _text(value: Interval) -> str:
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"
