"""From single answers to what is compared: the best mix of a family, the oracle, the guesses, the gap that is closed.

A `Cell` is one method at one budget: an answer for every question. Families with several variants are shown at the
variant that was best *on these questions*: for uniform that is in its favour, never in ours.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3video.evaluation.intervals import Floats, Interval, accuracy, bootstrap, clip_sums
from m3video.evaluation.records import Record, is_right
from m3video.evaluation.samples import SampleRow
from m3video.types import SCALES

CONTROLS = 64
"""Other questions of the family that an answer is judged against, at most, to see how often guessing would hit."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer of a cell.

    `guessed` is the chance that a guess of this kind is right; `evidence_share` the share of the evidence's seconds in
    which a frame is shown, and `evidence_tokens` what is spent inside it: None where no evidence is known.
    """

    record: Record
    right: float
    guessed: float
    visual: int
    text: int
    frames: int
    plan_seconds: float
    answer_seconds: float
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    evidence_share: float | None = None
    evidence_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One method at one budget; `variant` is what was shown of its family."""

    method: str
    variant: str
    budget: int
    answers: tuple[Answered, ...]

    def accuracy(self, keep: Iterable[Answered] | None = None) -> Interval:
        """Return the share of right answers, clustered by clip."""
        chosen = list(self.answers if keep is None else keep)
        return accuracy([a.right for a in chosen], [a.record.clip for a in chosen])

    def mean(self, name: str) -> float:
        """Return the mean of a numeric field over the answers that have it; nan for none."""
        values = [value for a in self.answers if (value := getattr(a, name)) is not None]
        return float(np.mean(values)) if values else float("nan")


class Guesses:
    """How often an answer, or the best of several, would be right by chance: judged against other clips' questions."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._by_family: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            self._by_family[record.family].append(record)

    def chance(self, record: Record, texts: Sequence[str]) -> float:
        """Return the share of the family's other questions, about other clips, that one of `texts` answers; 0 without
        any."""
        others = [other for other in self._by_family[record.family] if other.clip != record.clip]
        if len(others) > CONTROLS:
            others = random.Random(f"control {record.id}").sample(others, CONTROLS)
        # A text that repeats counts once: the same wrong answer at five scales is one guess.
        return float(np.mean([any(is_right(o, text) for text in set(texts)) for o in others])) if others else 0.0


def make_cells(rows: Iterable[SampleRow], records: Sequence[Record]) -> list[Cell]:
    """Make all complete cells, with the best variants and the oracle; sorted by budget, then by first appearance."""
    by_id = {record.id: record for record in records}
    guesses = Guesses(records)
    tables: dict[tuple[str, int], dict[str, dict[str, SampleRow]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["doc_id"] in by_id:
            tables[row["shown_as"], row["budget"]][row["method"]][row["doc_id"]] = row
    cells = []
    for (family, budget), variants in tables.items():
        if family == "granularity":
            continue
        if family == "oracle":
            made = oracle_cell(variants, by_id, guesses, budget)
        else:
            made = best_cell(family, variants, by_id, guesses, budget)
        if made is not None:
            cells.append(made)
    return sorted(cells, key=lambda cell: cell.budget)


def best_cell(
    family: str,
    variants: Mapping[str, Mapping[str, SampleRow]],
    by_id: Mapping[str, Record],
    guesses: Guesses,
    budget: int,
) -> Cell | None:
    """Return the variant with most right answers (of equals, the one that spends least); None when none is complete."""
    complete = {
        name: rows
        for name, rows in variants.items()
        if len(rows) == len(by_id) and not any("skipped" in row for row in rows.values())
    }
    if not complete:
        return None

    def rank(name: str) -> tuple[float, int, str]:
        rows = complete[name].values()
        return -sum(row["acc"] for row in rows), sum(row["token_counts"]["visual_tokens"] for row in rows), name

    name = min(complete, key=rank)
    answers = [_answered(by_id[doc], [row], row, guesses) for doc, row in complete[name].items()]
    return Cell(family, name, budget, tuple(answers))


def equal_cell(
    rows: Iterable[SampleRow], records: Sequence[Record], ours: Cell, *, family: str = "uniform"
) -> Cell | None:
    """Return the best variant of `family` at our budget among those that spend as much as we do, to a hundredth; None
    where none does.

    The variant that is best of all may have spent less: few frames leave a part of a budget that no scale can use.
    """
    variants: dict[str, dict[str, SampleRow]] = defaultdict(dict)
    asked = {answer.record.id: answer.record for answer in ours.answers}
    for row in rows:
        if row["shown_as"] == family and row["budget"] == ours.budget and row["doc_id"] in asked:
            variants[row["method"]][row["doc_id"]] = row
    enough = 0.99 * ours.mean("visual")
    spending = {
        name: own
        for name, own in variants.items()
        if not any("skipped" in row for row in own.values())
        and np.mean([row["token_counts"]["visual_tokens"] for row in own.values()]) >= enough
    }
    return best_cell(family, spending, asked, Guesses(records), ours.budget)


def oracle_cell(
    variants: Mapping[str, Mapping[str, SampleRow]], by_id: Mapping[str, Record], guesses: Guesses, budget: int
) -> Cell | None:
    """Return for each question the smallest scale that answers it right; the smallest of all where none does."""
    answers = []
    for doc, record in by_id.items():
        tried = [variants[f"oracle-{scale}"][doc] for scale in SCALES if doc in variants.get(f"oracle-{scale}", {})]
        tried = [row for row in tried if "skipped" not in row]
        if len(variants) < len(SCALES) or not tried:
            return None
        right = next((row for row in tried if row["acc"]), tried[0])
        answers.append(_answered(record, tried, right, guesses))
    return Cell("oracle", "smallest scale that is right", budget, tuple(answers))


def _answered(record: Record, tried: Sequence[SampleRow], shown: SampleRow, guesses: Guesses) -> Answered:
    texts, counts = [row["filtered_resps"][0] for row in tried], shown["token_counts"]
    return Answered(
        record=record,
        right=shown["acc"],
        guessed=guesses.chance(record, texts),
        visual=counts["visual_tokens"],
        text=counts["text_tokens"],
        frames=shown["frames"],
        plan_seconds=shown["plan_seconds"],
        answer_seconds=shown["answer_seconds"],
        # Not in answers of earlier versions, nor the latter two where no evidence is known.
        prefill_seconds=shown.get("prefill_seconds", 0.0),
        decode_seconds=shown.get("decode_seconds", 0.0),
        evidence_share=shown.get("evidence_share"),
        evidence_tokens=shown.get("evidence_tokens"),
    )


def corrected(right: Any, guessed: Any) -> Any:
    """Return (right - guessed) / (1 - guessed), 0 for guessing and 1 for all right; for shares, or arrays of them."""
    return (right - guessed) / (1 - guessed)


def accuracy_difference(first: Cell, second: Cell, *, seed: int = 0) -> Interval:
    """Return the accuracy of `first` minus that of `second`, paired by clip."""
    totals = {**_totals("a", first), **_totals("b", second)}
    return bootstrap(totals, lambda t: t["a"] / t["an"] - t["b"] / t["bn"], seed=seed)


def gap_closed(ours: Cell, uniform: Cell, oracle: Cell, *, seed: int = 0, correct: bool = False) -> Interval:
    """Return the share of the gap from uniform to oracle that `ours` closes; nan where the oracle is not above uniform.

    Args:
        ours, uniform, oracle: at one budget.
        seed: of the bootstrap.
        correct: take guessing out of all three first; the oracle guesses up to five times.
    """
    totals = {**_totals("a", ours), **_totals("u", uniform), **_totals("o", oracle)}

    def measure(t: Mapping[str, Floats]) -> Floats:
        a, u, o = (
            corrected(t[k] / t[k + "n"], t[k + "g"] / t[k + "n"]) if correct else t[k] / t[k + "n"] for k in "auo"
        )
        return np.where(o > u, (a - u) / np.where(o > u, o - u, 1.0), np.nan)

    return bootstrap(totals, measure, seed=seed)


def _totals(name: str, cell: Cell) -> dict[str, Floats]:
    clips = [a.record.clip for a in cell.answers]
    right, count = clip_sums([a.right for a in cell.answers], clips)
    return {name: right, name + "n": count, name + "g": clip_sums([a.guessed for a in cell.answers], clips)[0]}


@dataclass(frozen=True, slots=True)
class Granularity:
    """One family of questions, or all, asked at each scale."""

    family: str
    by_scale: Mapping[int, Interval]
    enough: int
    """The smallest scale within one point of the best."""
    oracle_tokens: float
    """Mean over questions of the smallest scale that answers right (of the smallest scale where none does)."""
    oracle: float
    oracle_corrected: float


def granularity_report(rows: Iterable[SampleRow], records: Sequence[Record]) -> list[Granularity]:
    """Report as the M3 paper does: accuracy per scale, the smallest scale that is enough, and the oracle; all questions
    first.

    Source: M3 paper (arXiv 2405.17430) section 4 and table "oracle".
    """
    by_id = {record.id: record for record in records}
    table: dict[str, dict[int, SampleRow]] = defaultdict(dict)
    for row in rows:
        if row["shown_as"] == "granularity" and row["doc_id"] in by_id:
            table[row["doc_id"]][int(row["method"].rsplit("-", 1)[1])] = row
    full = {doc: found for doc, found in table.items() if len(found) == len(SCALES)}
    guesses = Guesses(records)
    families = sorted({by_id[doc].family for doc in full})
    if not full:
        return []
    return [
        _granularity(name, {d: f for d, f in full.items() if name in ("all", by_id[d].family)}, by_id, guesses)
        for name in ("all", *families)
    ]


def _granularity(
    name: str, table: Mapping[str, Mapping[int, SampleRow]], by_id: Mapping[str, Record], guesses: Guesses
) -> Granularity:
    clips = [by_id[doc].clip for doc in table]
    by_scale = {scale: accuracy([found[scale]["acc"] for found in table.values()], clips) for scale in SCALES}
    best = max(estimate.value for estimate in by_scale.values())
    enough = next(scale for scale in SCALES if by_scale[scale].value >= best - 0.01 - 1e-9)
    smallest = [next((s for s in SCALES if found[s]["acc"]), None) for found in table.values()]
    right = float(np.mean([s is not None for s in smallest]))
    chance = [
        guesses.chance(by_id[doc], [row["filtered_resps"][0] for row in found.values()]) for doc, found in table.items()
    ]
    return Granularity(
        name,
        by_scale,
        enough,
        float(np.mean([s or SCALES[0] for s in smallest])),
        right,
        float(corrected(right, min(0.999999, float(np.mean(chance))))),
    )
