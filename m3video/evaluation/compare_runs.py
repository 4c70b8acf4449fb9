"""Two runs over the same questions, paired question by question: other weights, settings or versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from m3video.errors import UsageError
from m3video.evaluation.intervals import Interval
from m3video.evaluation.records import Record, load_records
from m3video.evaluation.samples import read_sample_rows
from m3video.evaluation.scores import Cell, accuracy_difference, make_cells
from m3video.evaluation.tables import percent
from m3video.utils.text import counted, printable


@dataclass(frozen=True)
class RunComparison:
    """What two runs share.

    Attributes:
        cells: pairs of one method at one budget over the same questions.
        notes: what they do not share.
    """

    cells: tuple[tuple[Cell, Cell], ...]
    notes: tuple[str, ...]


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Pair the methods and budgets that two run folders share, over the questions that both answered.

    Raises:
        UsageError: a folder is no run, a question differs between them, or nothing is in both.
    """
    by_id = [{record.id: record for record in load_records(folder / "records.jsonl")} for folder in (first, second)]
    for name in by_id[0].keys() & by_id[1].keys():
        if by_id[0][name].hash != by_id[1][name].hash:
            raise UsageError(f"{printable(first)} and {printable(second)} differ in question {name}: nothing to pair")
    rows = [read_sample_rows(folder / "samples.jsonl") for folder in (first, second)]
    done = [{(row["shown_as"], row["budget"], row["doc_id"]) for row in own} for own in rows]
    shared = {key[:2] for key in done[0]} & {key[:2] for key in done[1]}
    answered = [
        record
        for name, record in by_id[0].items()
        if name in by_id[1] and all((*pair, name) in own for pair in shared for own in done)
    ]
    pairs = _pairs(rows, shared, answered)
    if not pairs:
        raise UsageError(f"{printable(first)} and {printable(second)} share no answered method, budget and question")
    notes = [
        f"{counted(len(own) - len(answered), 'question')} of {printable(folder)} not in both: left out"
        for own, folder in zip(by_id, (first, second), strict=True)
        if len(own) > len(answered)
    ]
    return RunComparison(pairs, tuple(notes))


def _pairs(
    rows: Sequence[Sequence[dict[str, Any]]], shared: set[tuple[str, int]], records: Sequence[Record]
) -> tuple[tuple[Cell, Cell], ...]:
    if not records:
        return ()
    made = [
        {
            (cell.method, cell.budget): cell
            for cell in make_cells([row for row in own if (row["shown_as"], row["budget"]) in shared], records)
        }
        for own in rows
    ]
    return tuple((cell, made[1][key]) for key, cell in made[0].items() if key in made[1])


def comparison_json(found: RunComparison) -> dict[str, Any]:
    """Return the pairs as JSON values; differences are second minus first, as shares."""
    return {
        "cells": [
            {
                "method": a.method,
                "budget": a.budget,
                "answers": len(a.answers),
                "first": _cell(a),
                "second": _cell(b),
                "difference": _interval(accuracy_difference(b, a)),
            }
            for a, b in found.cells
        ],
        "notes": list(found.notes),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "variant": cell.variant,
        "accuracy": _interval(cell.accuracy()),
        "visual_tokens": cell.mean("visual"),
        "text_tokens": cell.mean("text"),
        "answer_seconds": cell.mean("answer_seconds"),
    }


def _interval(value: Interval) -> dict[str, float | None]:
    # nan is no JSON.
    return {name: x if x == x else None for name, x in zip(("value", "low", "high"), value[:3], strict=True)}


def print_comparison(found: RunComparison, console: Console, *, names: tuple[str, str]) -> None:
    """Print one table, a line for each method and budget."""
    title = f"{names[1]} minus {names[0]}: points with 95 % intervals over clips, paired"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("method", "budget", "n", names[0], names[1], "difference", "tokens", "", "s/answer", ""):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for a, b in found.cells:
        gap = accuracy_difference(b, a)
        interval = f" [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" if gap.low == gap.low else ""
        table.add_row(
            a.method,
            str(a.budget or "-"),
            str(len(a.answers)),
            percent(a.accuracy()),
            percent(b.accuracy()),
            f"{100 * gap.value:+.1f}{interval}",
            f"{a.mean('visual'):.0f}",
            f"{b.mean('visual'):.0f}",
            f"{a.mean('answer_seconds'):.2f}",
            f"{b.mean('answer_seconds'):.2f}",
        )
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}")
