"""A report as tables for people."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from m3video.evaluation.intervals import Interval
from m3video.evaluation.records import GROUPS
from m3video.evaluation.report import EvalReport, comparisons, durations, splits, stage_costs, stage_seconds
from m3video.evaluation.scores import corrected
from m3video.types import SCALES


def percent(value: Interval, *, interval: bool = True) -> str:
    """Return `87 [81-92]`, in per cent."""
    if math.isnan(value.value):
        return "-"
    text = f"{100 * value.value:.0f}"
    return text if not interval or math.isnan(value.low) else f"{text} [{100 * value.low:.0f}, {100 * value.high:.0f}]"


def print_report(report: EvalReport, console: Console) -> None:
    """Print the tables, one below the other."""
    tables = [_method_table(report, budget) for budget in report.budgets]
    if report.cells:
        tables.append(_seconds_table(report))
    if report.budgets:
        tables += [_comparison_table(report), _family_table(report, report.budgets[len(report.budgets) // 2])]
    if report.granularity:
        tables.append(_granularity_table(report))
    for table in tables:
        console.print(table)
        console.print()
    costs = stage_costs(report)
    console.print(
        f"analysis {costs['analyze_seconds_per_video_minute']:.2f} s per minute of video, video decode "
        f"{1000 * costs['fetch_seconds_per_frame']:.0f} ms and vision tower "
        f"{1000 * costs['vision_tower_seconds_per_frame']:.0f} ms per frame, peak memory "
        f"{costs['peak_memory_bytes'] / 2**20:.0f} MiB"
    )
    for note in report.notes:
        console.print(f"note: {note}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _method_table(report: EvalReport, budget: int) -> Table:
    cells = [cell for cell in report.cells if cell.budget == budget]
    whole = cells[0].accuracy()
    # Columns of what the questions are known to differ in.
    present = {name for cell in cells for name in splits(cell)}
    lengths = [f"duration:{name}" for name in durations(cells[0])]
    parted = [name for name in (*GROUPS, "localised", "global", *lengths) if name in present]
    evidence = any(a.evidence_share is not None for a in cells[0].answers)
    table = _table(
        f"budget {budget} {report.unit}: per cent right with 95 % intervals, {whole.answers} questions about "
        f"{whole.clips} clips",
        "method",
        "frames",
        "visual",
        "text",
        "s/answer",
        "all",
        *({"localised": "local"}.get(name, name.removeprefix("duration:")) for name in parted),
        *(("evidence seen", "tokens in it") if evidence else ()),
        "no guess",
    )
    for cell in sorted(cells, key=lambda c: -c.accuracy().value):
        parts = splits(cell)
        guessed = cell.mean("guessed")
        table.add_row(
            cell.variant if cell.method in cell.variant else cell.method,
            f"{cell.mean('frames'):.0f}",
            f"{cell.mean('visual'):.0f}",
            f"{cell.mean('text'):.0f}",
            f"{cell.mean('answer_seconds'):.2f}",
            percent(cell.accuracy()),
            *(percent(cell.accuracy(parts[name])) if name in parts else "-" for name in parted),
            *((f"{100 * cell.mean('evidence_share'):.0f}", f"{cell.mean('evidence_tokens'):.0f}") if evidence else ()),
            f"{100 * corrected(cell.accuracy().value, guessed):.0f}" if guessed < 1 else "-",
        )
    return table


def _seconds_table(report: EvalReport) -> Table:
    costs = stage_costs(report)
    rows = [(cell, stage_seconds(cell, costs)) for cell in report.cells]
    table = _table("seconds of one answer, in each stage", "method", report.unit, *rows[0][1], "all")
    for cell, seconds in rows:
        values = (*seconds.values(), sum(seconds.values()))
        table.add_row(cell.method, str(cell.budget or "-"), *(f"{value:.2f}" for value in values))
    return table


def _comparison_table(report: EvalReport) -> Table:
    full = report.cell("full", 0)
    columns = {
        "minus_uniform": "minus uniform",
        "minus_uniform_equal": "at equal spent",
        "minus_uniform_localised": "localised",
        "minus_uniform_global": "global",
        "gap_closed": "gap closed",
        "gap_closed_guess_corrected": "gap closed, no guess",
        "minus_full": f"minus full {percent(full.accuracy())}" if full is not None else "minus full",
    }
    table = _table(
        "adaptive against uniform: points with 95 % intervals; per cent of the gap to the oracle; against as many "
        f"frames at 576 as the context holds ({full.mean('visual'):.0f} tokens), where it spends an eighth or less"
        if full is not None
        else "adaptive against uniform: points with 95 % intervals, and per cent of the gap to the oracle",
        report.unit,
        *columns.values(),
    )
    for row in comparisons(report):
        table.add_row(str(row["budget"]), *(_points(row.get(name)) for name in columns))
    return table


def _points(value: dict[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "-"
    if value["low"] is None:
        # Too often no gap in the draws: a share of it would be a number without meaning.
        return "no clear gap"
    return f"{100 * value['value']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"


def _family_table(report: EvalReport, budget: int) -> Table:
    cells = [cell for cell in report.cells if cell.budget == budget]
    table = _table(f"per cent right by family at budget {budget}", "family", "n", *(cell.method for cell in cells))
    for name in [name for name in splits(cells[0]) if name.startswith("family:")]:
        own = [splits(cell)[name] for cell in cells]
        table.add_row(
            name.removeprefix("family:"),
            str(len(own[0])),
            *(percent(cell.accuracy(answers), interval=False) for cell, answers in zip(cells, own, strict=True)),
        )
    return table


def _granularity_table(report: EvalReport) -> Table:
    table = _table(
        "granularity: the frame with the answer is shown, all frames at one scale; per cent right",
        "family",
        "n",
        *map(str, SCALES),
        "enough",
        "oracle tokens",
        "oracle",
        "no guess",
    )
    for row in report.granularity:
        table.add_row(
            row.family,
            str(row.by_scale[SCALES[0]].answers),
            *(percent(row.by_scale[scale], interval=row.family == "all") for scale in SCALES),
            str(row.enough),
            f"{row.oracle_tokens:.0f}",
            f"{100 * row.oracle:.0f}",
            f"{100 * row.oracle_corrected:.0f}",
        )
    return table
