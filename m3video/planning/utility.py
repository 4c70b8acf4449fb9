"""What showing each candidate at each scale is worth: an estimate of what a frame needs, times what of it is new.

Shape legend: N candidates, S the five scales, J signals, F frames of a calibration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.planning.novelty import NOVELTY_FLOOR, novelty
from m3video.planning.saliency import alike, asked_for
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, SCALES, FrameStats, Selection
from m3video.utils.files import replacing

Floats = NDArray[np.float64]

DEFAULT = "calibrated"
"""The estimator that plans are made with, one of `ESTIMATORS`: the best by `scripts/eval_estimators.py`."""

CALIBRATION = Path(__file__).parent.parent / "assets" / "calibration.json"
"""Written by `python scripts/eval_estimators.py --write`."""

SIGNALS: tuple[str, ...] = ("loss at 1", "loss at 144", "peak at 1", "peak at 144", "sharpness")
"""Each as log(1 + x): coarse structure, what 144 tokens still lose, the same of the worst cells, and fine lines."""

NOTHING = 1.0
"""Squared grey levels: a scale whose worst cells lose no more than this shows all that the finest shows."""

COVERAGE = 255.0**2 / 8
"""What the first token of a frame is worth beside its peak loss, in squared grey levels: as much as the best that a
token can buy elsewhere, black turned to white by 8 more tokens."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How much of what can be asked about a frame a model answers right at each scale, from the frame's signals.

    A logistic function for each scale. Attributes are lists, as they stand in the file: `low`, `high`, `mean` and
    `spread` of each signal [J] over the frames it was fitted to, `bias` [S], `weight` [S][J]; `made` says from what.
    """

    low: list[float]
    high: list[float]
    mean: list[float]
    spread: list[float]
    bias: list[float]
    weight: list[list[float]]
    made: Mapping[str, Any]

    def standard(self, signals_NJ: Floats) -> Floats:
        """Signals in units of their spread. Beyond the frames it was fitted to nothing is known, so they stop there."""
        return (np.clip(signals_NJ, self.low, self.high) - self.mean) / self.spread

    def share_right(self, signals_NJ: Floats) -> Floats:
        """float64 [N, 5], 0 to 1, non-decreasing in scale: more tokens are never held to show less."""
        odds = self.standard(signals_NJ) @ np.array(self.weight).T + self.bias
        return np.maximum.accumulate(1 / (1 + np.exp(-odds)), axis=1)

    def save(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        with replacing(path) as part:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


@cache
def calibration() -> Calibration:
    """The one that is shipped."""
    return Calibration(**json.loads(CALIBRATION.read_text(encoding="utf-8")))


def estimate_name() -> str:
    """What plans are made from, for people: the estimator, and the weights whose answers it was fitted to."""
    made = calibration().made
    return f"{DEFAULT} to the answers of {made['model']} ({made['weights'][:8]})"


def signals(stats: FrameStats, rows: NDArray[np.int64]) -> Floats:
    """`SIGNALS` of some rows of the stats, float64 [N, J]."""
    at = [SCALES.index(1), SCALES.index(144)]
    found = [stats.loss_NS[rows][:, at], stats.peak_NS[rows][:, at], stats.sharpness_N[rows][:, None]]
    return np.log1p(np.concatenate(found, axis=1).astype(np.float64))


def by_calibration(stats: FrameStats, rows: NDArray[np.int64], *, using: Calibration | None = None) -> Floats:
    """The share of questions about each frame that the model is expected to answer right, float64 [N, 5]."""
    share = (using or calibration()).share_right(signals(stats, rows))
    return np.where(stats.peak_NS[rows] <= NOTHING, share[:, -1:], share)


def by_peak(stats: FrameStats, rows: NDArray[np.int64]) -> Floats:
    """Coverage and the detail of the worst cells that is shown, squared grey levels, float64 [N, 5]."""
    peak = stats.peak_NS[rows].astype(np.float64)
    peak[peak <= NOTHING] = 0.0
    return COVERAGE + (peak[:, :1] - peak)


ESTIMATORS: dict[str, Callable[[FrameStats, NDArray[np.int64]], Floats]] = {
    "calibrated": by_calibration,
    "peak": by_peak,
}


def new_part(shown_NS: Floats, novelty_N: Floats) -> Floats:
    """What of each frame is new, float64 [N, 5].

    A frame that shows nothing new is worth a little, because one token tells that all is still there; its detail was
    seen before and is worth nothing.
    """
    detail_N = np.maximum(0.0, novelty_N - NOVELTY_FLOOR) / (1 - NOVELTY_FLOOR)
    first_N1 = shown_NS[:, :1]
    return novelty_N[:, None] * first_N1 + detail_N[:, None] * (shown_NS - first_N1)


def utility(
    stats: FrameStats,
    selection: Selection,
    *,
    saliency_N: NDArray[np.floating] | None = None,
    estimator: str = DEFAULT,
    novelty_N: NDArray[np.floating] | None = None,
) -> Floats:
    """What showing each candidate at each scale is worth: what of it is new; to a question, what it is about.

    Args:
        stats: the analyzed frames.
        selection: the candidates, rows of `stats`.
        saliency_N: each candidate's share of a question, >= 0; None, or the same for all, where there is none.
        estimator: one of `ESTIMATORS`.
        novelty_N: `novelty(stats, selection)`, where it is known already.

    Returns:
        float64 [N, 5], non-decreasing in scale; positive, but 0 for what a question is not about.

    Raises:
        ValueError: saliency of another length, or negative, or not finite.
    """
    rows = selection.index_N
    shown = ESTIMATORS[estimator](stats, rows)
    new = novelty(stats, selection) if novelty_N is None else np.asarray(novelty_N, np.float64)
    saliency = np.ones(len(rows)) if saliency_N is None else np.asarray(saliency_N, dtype=np.float64)
    if saliency.shape != (len(rows),) or not (np.isfinite(saliency) & (saliency >= 0)).all():
        raise ValueError(f"saliency_N must be {len(rows)} finite weights, each 0 or more")
    if np.ptp(saliency) == 0:
        worth = new_part(shown, new)
    else:
        worth = asked_for(shown, new, alike(selection, new), saliency / saliency.sum())
    hidden = (stats.flags_N[rows] & (FLAG_BLACK | FLAG_CORRUPT)) > 0
    worth[hidden] *= NOVELTY_FLOOR
    return worth
