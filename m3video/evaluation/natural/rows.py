"""Results as rows: a value with its 95 % interval, and what to hold it against; as a Markdown table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from m3video.evaluation.intervals import Interval, accuracy, bootstrap, clip_sums

MIXED = 0
"""Scale of a row whose frames have several scales."""


@dataclass(frozen=True, slots=True)
class Row:
    """One result.

    Attributes:
        measure: the measurement it belongs to.
        what: what is counted, of which questions.
        scale: tokens of each picture; `MIXED` where they differ.
        interval: the value; `answers` are those it rests on, `clips` the pictures or reels they come from.
        beside: what to hold it against: name -> value.
    """

    measure: str
    what: str
    scale: int
    interval: Interval
    beside: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain values; nan, which JSON does not know, as None."""
        numbers = {key: _or_none(value) for key, value in self.interval._asdict().items()}
        beside = {name: _or_none(value) for name, value in self.beside.items()}
        return {"measure": self.measure, "what": self.what, "scale": self.scale, **numbers, "beside": beside}


def share(right: Sequence[float], clusters: Sequence[str]) -> Interval:
    """Return the mean of values from 0 to 1, with an interval over clusters."""
    return accuracy(right, clusters)


def quotient(upper: Sequence[float], lower: Sequence[float], clusters: Sequence[str]) -> Interval:
    """Return the sum of `upper` over that of `lower`, clusters resampled; nan where `lower` adds up to 0."""
    if not upper:
        return Interval(float("nan"), 0.0, float("inf"))
    totals = {"upper": clip_sums(upper, clusters)[0], "lower": clip_sums(lower, clusters)[0]}
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bootstrap(totals, lambda sums: sums["upper"] / np.where(sums["lower"] == 0, np.nan, sums["lower"]))
    return found._replace(answers=len(upper))


def mean(values: Sequence[float], clusters: Sequence[str]) -> Interval:
    """Return the mean of values of any size, clusters resampled."""
    return quotient(values, [1.0] * len(values), clusters)


def balanced(right: Sequence[bool], truth: Sequence[bool], clusters: Sequence[str]) -> Interval:
    """Return balanced accuracy: the mean of the shares of right answers where the truth is yes and where it is no."""
    if len(set(truth)) < 2:
        return Interval(float("nan"), 0.0, 1.0, len(right), len(set(clusters)))
    totals = {}
    for name, wanted in (("yes", True), ("no", False)):
        of_kind = [float(true is wanted) for true in truth]
        totals[name] = clip_sums(of_kind, clusters)[0]
        totals[f"right {name}"] = clip_sums([r * k for r, k in zip(right, of_kind, strict=True)], clusters)[0]

    def measure(sums: Mapping[str, Any]) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (sums["right yes"] / sums["yes"] + sums["right no"] / sums["no"]) / 2

    return bootstrap(totals, measure)._replace(answers=len(right))


def markdown(rows: Sequence[Row]) -> str:
    """Return one table: a line for each thing that is counted, a column for each scale."""
    scales = sorted({row.scale for row in rows}, key=lambda scale: scale or math.inf)
    heads = [str(scale) if scale else "mixed" for scale in scales]
    lines = ["| measure | what | " + " | ".join(heads) + " | answers | beside |", "|---" * (len(scales) + 4) + "|"]
    for measure, what in dict.fromkeys((row.measure, row.what) for row in rows):
        own = {row.scale: row for row in rows if (row.measure, row.what) == (measure, what)}
        cells = [_text(own[scale].interval) if scale in own else "" for scale in scales]
        first = next(iter(own.values()))
        beside = ", ".join(f"{name} {value:.2f}" for name, value in first.beside.items())
        count = f"{first.interval.answers} of {first.interval.clips}"
        lines.append(f"| {measure} | {what} | " + " | ".join(cells) + f" | {count} | {beside} |")
    return "\n".join(lines)


def _text(value: Interval) -> str:
    if math.isnan(value.value):
        return "-"
    if math.isnan(value.low):
        return f"{value.value:.2f}"
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
