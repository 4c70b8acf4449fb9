"""What a run found, and as JSON: lmms-eval's shape, and ours beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from m3video import __version__
from m3video.evaluation.intervals import Interval, standard_error
from m3video.evaluation.records import GROUPS, Record
from m3video.evaluation.samples import RunFolder, SampleRow
from m3video.evaluation.scores import (
    Answered,
    Cell,
    Granularity,
    accuracy_difference,
    corrected,
    equal_cell,
    gap_closed,
    granularity_report,
    make_cells,
)
from m3video.types import SCALES
from m3video.utils.files import replacing

QUESTION_KINDS = ("localised", "global")
FEWER = 8
"""Adaptive plans are held against all frames at 576 tokens where they spend at most this share of them."""

UNTRAINED = ("prune", "prune-unusual", "merge", "resample")


@dataclass(frozen=True, slots=True)
class EvalReport:
    """What a run found.

    `equal` holds for each budget the best uniform that spends as much as adaptive did; `of_kind` holds cells of the
    localised questions alone and of the global ones, each family at the variant that was best on them; `notes` are
    things a reader must know before believing the tables; `failed` says for each question that failed why; `missing` is
    what the benchmark's folder lacks: kind -> name -> number of questions.
    """

    task: str
    cells: tuple[Cell, ...]
    equal: Mapping[int, Cell]
    of_kind: Mapping[str, tuple[Cell, ...]]
    granularity: tuple[Granularity, ...]
    clips: tuple[SampleRow, ...]
    identity: SampleRow
    notes: tuple[str, ...]
    failed: Mapping[str, str]
    missing: Mapping[str, Mapping[str, int]]

    def cell(self, method: str, budget: int) -> Cell | None:
        """Return one method at one budget, if it is complete."""
        return find_cell(self.cells, method, budget)

    @property
    def budgets(self) -> list[int]:
        return sorted({cell.budget for cell in self.cells if cell.budget})

    @property
    def unit(self) -> str:
        """What budgets are counted in."""
        return "tokens per second of video" if self.identity["per_second"] else "tokens"


def find_cell(cells: Sequence[Cell], method: str, budget: int) -> Cell | None:
    """Return one method at one budget among `cells`, if it is there."""
    return next((c for c in cells if c.method == method and c.budget == budget), None)


def make_report(
    folder: RunFolder,
    records: Sequence[Record],
    *,
    task: str,
    only: Sequence[tuple[str, int]],
    notes: Sequence[str] = (),
    missing: Mapping[str, Mapping[str, int]] | None = None,
) -> EvalReport:
    """Report a run folder's answers to `records`.

    A question that failed for one method or budget stands in no table: all cells are about the same questions.

    Args:
        folder: a run, complete or not.
        records: the questions.
        task: name of the benchmark.
        only: (method variant, budget) pairs to report; a folder may hold more.
        notes: what the benchmark's reader has to say.
        missing: what its folder lacks.
    """
    wanted = set(only)
    failed = {row["doc_id"]: row["error"] for row in folder.failures() if (row["method"], row["budget"]) in wanted}
    asked, records = records, [record for record in records if record.id not in failed]
    if failed:
        first = next(iter(failed))
        text = f"{len(failed)} of {len(asked)} questions failed and stand in no table: {first}: {failed[first]}"
        notes = [*notes, text]
    rows = [row for row in folder.samples() if (row["method"], row["budget"]) in wanted]
    cells = tuple(make_cells(rows, records))
    kinds = {kind: [r for r in records if r.localised == (kind == "localised")] for kind in QUESTION_KINDS}
    ours = [cell for cell in cells if cell.method == "adaptive"]
    equal = {c.budget: found for c in ours if (found := equal_cell(rows, records, c)) is not None}
    of_kind = {kind: tuple(make_cells(rows, own)) for kind, own in kinds.items() if own}
    identity = json.loads((folder.folder / "run.json").read_text(encoding="utf-8"))
    return EvalReport(
        task,
        cells,
        equal,
        of_kind,
        tuple(granularity_report(rows, records)),
        tuple(folder.clips()),
        identity,
        (*notes, *_notes(cells, rows)),
        failed,
        missing or {},
    )


def _notes(cells: Sequence[Cell], rows: Sequence[SampleRow]) -> tuple[str, ...]:
    shown = {cell.method for cell in cells}
    notes = []
    if shown & {"uniform", *UNTRAINED}:
        notes.append(
            "uniform, prune and merge stand at the frame count that was best on these very questions: in their favour"
        )
    if shown & set(UNTRAINED):
        notes.append(
            "prune, merge and resample hand the model tokens it was not trained on (training-free, as published)"
        )
    if "oracle" in shown:
        notes.append("oracle is told which frame shows the answer and keeps the smallest scale that came out right")
    skipped = {(row["shown_as"], row["budget"]) for row in rows if "skipped" in row}
    skipped -= {(cell.method, cell.budget) for cell in cells}
    for method, group in groupby(sorted(skipped), key=lambda pair: pair[0]):
        budgets = ", ".join(str(budget) for _, budget in group)
        notes.append(f"{method} cannot show a frame within a budget of {budgets}")
    return tuple(notes)


def _estimate(value: Interval) -> dict[str, Any]:
    return {name: _number(getattr(value, name)) for name in ("value", "low", "high")}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def durations(cell: Cell) -> list[str]:
    """Return the classes of length that a benchmark has, shortest first as far as it can be told."""
    found = {a.record.duration for a in cell.answers} - {""}
    known = ("short", "medium", "long")

    def rank(name: str) -> tuple[int, int, str]:
        number = re.search(r"\d+", name)
        return known.index(name) if name in known else len(known), int(number[0]) if number else 0, name

    return sorted(found, key=rank)


def splits(cell: Cell) -> dict[str, list[Answered]]:
    """Split answers by group, by localised or global, by the video's length, and by family; only those that exist."""
    out: dict[str, list[Answered]] = {}
    for group in GROUPS:
        out[group] = [a for a in cell.answers if a.record.group == group]
    out["localised"] = [a for a in cell.answers if a.record.localised is True]
    out["global"] = [a for a in cell.answers if a.record.localised is False]
    for duration in durations(cell):
        out[f"duration:{duration}"] = [a for a in cell.answers if a.record.duration == duration]
    for family in sorted({a.record.family for a in cell.answers}):
        out[f"family:{family}"] = [a for a in cell.answers if a.record.family == family]
    return {name: answers for name, answers in out.items() if answers}


def cell_json(cell: Cell, costs: Mapping[str, Any]) -> dict[str, Any]:
    """Return accuracy with its interval, for all answers and every split, and what was spent.

    Args:
        cell: one method at one budget.
        costs: of all clips, from `stage_costs`: frames are fetched and encoded once for all methods.
    """
    whole = cell.accuracy()
    guessed = cell.mean("guessed")
    return {
        "method": cell.method,
        "variant": cell.variant,
        "budget": cell.budget,
        "accuracy": _estimate(whole),
        "guess_corrected": _number(corrected(whole.value, guessed)) if guessed < 1 else None,
        "visual_tokens": cell.mean("visual"),
        "most_visual_tokens": max(a.visual for a in cell.answers),
        "text_tokens": cell.mean("text"),
        "frames": cell.mean("frames"),
        "plan_seconds": cell.mean("plan_seconds"),
        "answer_seconds": cell.mean("answer_seconds"),
        "stage_seconds": stage_seconds(cell, costs),
        "evidence_share": _number(cell.mean("evidence_share")),
        "evidence_tokens": _number(cell.mean("evidence_tokens")),
        "answers": whole.answers,
        "clips": whole.clips,
        "splits": {
            name: {**_estimate(cell.accuracy(answers)), "answers": len(answers)}
            for name, answers in splits(cell).items()
        },
    }


def comparisons(report: EvalReport, *, ours: str = "adaptive") -> list[dict[str, Any]]:
    """Compare `ours` at each budget: minus uniform, on all questions and each kind; the share of the gap from uniform
    to oracle that it closes; and minus as many frames at 576 as the context holds, where those spend `FEWER` times as
    much."""
    full = report.cell("full", 0)
    out = []
    for budget in report.budgets:
        mine, uniform, oracle = (report.cell(name, budget) for name in (ours, "uniform", "oracle"))
        if mine is None or uniform is None:
            continue
        row: dict[str, Any] = {"budget": budget, "minus_uniform": _estimate(accuracy_difference(mine, uniform))}
        if ours == "adaptive" and budget in report.equal:
            row["minus_uniform_equal"] = _estimate(accuracy_difference(mine, report.equal[budget]))
            row["uniform_equal"] = report.equal[budget].variant
        for kind, cells in report.of_kind.items():
            own, theirs = find_cell(cells, ours, budget), find_cell(cells, "uniform", budget)
            if own is not None and theirs is not None:
                row[f"minus_uniform_{kind}"] = _estimate(accuracy_difference(own, theirs))
        if full is not None and mine.mean("visual") * FEWER <= full.mean("visual"):
            row["minus_full"] = _estimate(accuracy_difference(mine, full))
        if oracle is not None:
            row["gap_closed"] = _estimate(gap_closed(mine, uniform, oracle))
            row["gap_closed_guess_corrected"] = _estimate(gap_closed(mine, uniform, oracle, correct=True))
        out.append(row)
    return out


def stage_seconds(cell: Cell, costs: Mapping[str, Any]) -> dict[str, float]:
    """Return what one answer takes in each stage.

    `prefill` and `decode` are measured, `fetch` and `vision tower` are the run's seconds for a frame times the cell's
    frames, `first pass` is the mean over the videos, whatever the method.
    """
    frames = cell.mean("frames")
    return {
        "first pass": costs["stage_seconds"].get("analyze", 0.0) / max(costs["videos"], 1),
        "fetch": frames * costs["fetch_seconds_per_frame"],
        "vision tower": frames * costs["vision_tower_seconds_per_frame"],
        "prefill": cell.mean("prefill_seconds"),
        "decode": cell.mean("decode_seconds"),
    }


def stage_costs(report: EvalReport) -> dict[str, Any]:
    """Return the seconds of each stage over all clips, per video minute or per frame, and the peak memory."""
    seconds: dict[str, float] = {}
    for row in report.clips:
        for stage, value in row["stage_seconds"].items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    frames = sum(row["frames_encoded"] for row in report.clips)
    minutes = sum(row["video_seconds"] for row in report.clips) / 60
    return {
        "stage_seconds": seconds,
        "frames_encoded": frames,
        "video_minutes": minutes,
        "videos": len(report.clips),
        "analyze_seconds_per_video_minute": seconds.get("analyze", 0.0) / max(minutes, 1e-9),
        "fetch_seconds_per_frame": seconds.get("fetch", 0.0) / max(frames, 1),
        "vision_tower_seconds_per_frame": seconds.get("vision tower", 0.0) / max(frames, 1),
        "peak_memory_bytes": max((row["peak_memory_bytes"] for row in report.clips), default=0),
    }


def report_json(report: EvalReport) -> dict[str, Any]:
    """Return `results`, `configs`, `n-samples` ... as lmms-eval writes them (a task for each method and budget), and
    our own report under `m3video`."""
    costs = stage_costs(report)
    tasks = {f"{report.task}_{cell.method}_{cell.budget}": cell for cell in report.cells}
    results: dict[str, Any] = {}
    for name, cell in tasks.items():
        whole = cell.accuracy()
        results[name] = {
            "alias": name,
            "acc,none": _number(whole.value),
            "acc_stderr_clustered,none": _number(
                standard_error([a.right for a in cell.answers], [a.record.clip for a in cell.answers])
            ),
            "visual_tokens,none": cell.mean("visual"),
        }
    return {
        "results": results,
        "configs": {name: {"task": name, "cluster_key": "clip", "budget": c.budget} for name, c in tasks.items()},
        "versions": dict.fromkeys(tasks, 1),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {name: {"acc": True} for name in tasks},
        "n-samples": {n: {"original": len(c.answers), "effective": len(c.answers)} for n, c in tasks.items()},
        "config": {"model": "m3video", "model_args": report.identity, "m3video_version": __version__},
        "m3video": {
            "unit": report.unit,
            "cells": [cell_json(cell, costs) for cell in report.cells],
            "comparisons": comparisons(report),
            "granularity": [granularity_json(row) for row in report.granularity],
            "costs": costs,
            "missing": report.missing,
            "failed": report.failed,
            "notes": list(report.notes),
        },
    }


def granularity_json(row: Granularity) -> dict[str, Any]:
    """Return one row of the granularity report."""
    return {
        "family": row.family,
        "accuracy": {str(scale): _estimate(e) for scale, e in row.by_scale.items()},
        "answers": row.by_scale[SCALES[0]].answers,
        "enough_scale": row.enough,
        "oracle_tokens": row.oracle_tokens,
        "oracle_accuracy": row.oracle,
        "oracle_accuracy_guess_corrected": _number(row.oracle_corrected),
    }


def save_report(report: EvalReport, folder: Path) -> Path:
    """Write `results.json`; whole or not at all."""
    path = folder / "results.json"
    with replacing(path) as part:
        part.write_text(json.dumps(report_json(report), indent=2) + "\n", encoding="utf-8")
    return path
