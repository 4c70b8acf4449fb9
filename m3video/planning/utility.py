"""Utility of each candidate at each scale: an estimate of how much a frame shows, times how much of it is new.

Shape legend: N candidates, S the five scales, J signals, F frames of a calibration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.planning.novelty import NOVELTY_FLOOR, novelty
from m3video.planning.saliency import alike, question_utility
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, SCALES, FrameStats, Selection
from m3video.utils.files import replacing

Floats = NDArray[np.float64]

DEFAULT = "calibrated"
"""The estimator of plans, one of `ESTIMATORS`: the best by `scripts/eval_estimators.py`."""

ASSETS = Path(__file__).parent.parent / "assets"
RENDERED = "rendered"
CALIBRATIONS = {RENDERED: ASSETS / "calibration.json", "small": ASSETS / "calibration-small.json"}
"""Model -> what was fitted to its own answers, written by `python scripts/eval_estimators.py --write`."""

STAND_IN = RENDERED
"""The model whose calibration stands in for one that is missing. `small` answers no better from more tokens, so its own
says nothing about models that do."""

SIGNALS: tuple[str, ...] = ("loss at 1", "loss at 144", "peak at 1", "peak at 144", "sharpness")
"""Inputs of the calibration, each as log(1 + x): loss of coarse structure, what 144 tokens still lose, both for the
worst cells too, and fine lines."""

NEGLIGIBLE_LOSS = 1.0
"""Squared grey levels: a scale at which the worst cells lose no more than this shows all that the finest shows."""

COVERAGE = 255.0**2 / 8
"""Utility of the first token of a frame beside its peak loss, in squared grey levels: as much as a token can gain at
most elsewhere, where 8 more tokens turn black to white."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted estimate of the share of questions about a frame that a model answers right at each scale.

    It is a logistic function of the frame's signals for each scale. Attributes are lists, as in the file: `low`,
    `high`, `mean` and `spread` of each signal [J] over the frames of the fit, `bias` [S], `weight` [S][J]; `made`: the
    model and data of the fit.
    """

    low: list[float]
    high: list[float]
    mean: list[float]
    spread: list[float]
    bias: list[float]
    weight: list[list[float]]
    made: Mapping[str, Any]

    def standard(self, signals_NJ: Floats) -> Floats:
        """Return standardised signals, clipped to the range of the frames that the calibration was fitted to."""
        return (np.clip(signals_NJ, self.low, self.high) - self.mean) / self.spread

    def share_right(self, signals_NJ: Floats) -> Floats:
        """Return the share of right answers, float64 [N, 5], 0 to 1; it never decreases with the scale."""
        odds = self.standard(signals_NJ) @ np.array(self.weight).T + self.bias
        return np.maximum.accumulate(1 / (1 + np.exp(-odds)), axis=1)

    def save(self, path: Path) -> None:
        """Write the calibration as JSON, atomically."""
        with replacing(path) as part:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


@cache
def calibration(model: str) -> Calibration:
    """Return the calibration for the model that will answer: its own or, where it has none, that of `STAND_IN`."""
    path = CALIBRATIONS.get(model, CALIBRATIONS[STAND_IN])
    return Calibration(**json.loads(path.read_text(encoding="utf-8")))


def estimate_name(model: str) -> str:
    """Return a description for users of the estimator and of the weights whose answers it was fitted to.

    Args:
        model: as for `calibration`.
    """
    made = calibration(model).made
    own = "" if model in CALIBRATIONS else f"; {model} has no calibration of its own"
    return f"{DEFAULT} to the answers of {made['model']} ({made['weights'][:8]}){own}"


def signals(stats: FrameStats, rows: NDArray[np.int64]) -> Floats:
    """Return the `SIGNALS` of some rows of the stats, float64 [N, J]."""
    at = [SCALES.index(1), SCALES.index(144)]
    found = [stats.loss_NS[rows][:, at], stats.peak_NS[rows][:, at], stats.sharpness_N[rows][:, None]]
    return np.log1p(np.concatenate(found, axis=1).astype(np.float64))


def by_calibration(stats: FrameStats, rows: NDArray[np.int64], *, using: Calibration | None = None) -> Floats:
    """Return the share of questions about each frame that a model is expected to answer right, float64 [N, 5].

    Args:
        stats: the analyzed frames.
        rows: some of them.
        using: fitted to that model; by default that of `rendered`.
    """
    share = (using or calibration(RENDERED)).share_right(signals(stats, rows))
    return np.where(stats.peak_NS[rows] <= NEGLIGIBLE_LOSS, share[:, -1:], share)


def by_peak(stats: FrameStats, rows: NDArray[np.int64]) -> Floats:
    """Return coverage plus the detail of the worst cells that is shown, squared grey levels, float64 [N, 5]."""
    peak = stats.peak_NS[rows].astype(np.float64)
    peak[peak <= NEGLIGIBLE_LOSS] = 0.0
    return COVERAGE + (peak[:, :1] - peak)


ESTIMATORS: dict[str, Callable[[FrameStats, NDArray[np.int64]], Floats]] = {
    "calibrated": by_calibration,
    "peak": by_peak,
}


def new_part(shown_NS: Floats, novelty_N: Floats) -> Floats:
    """Return the part of `shown_NS` that is new, float64 [N, 5].

    A frame that shows nothing new keeps a little utility, because one token shows that nothing has changed; its detail
    was shown before and has none.
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
    model: str = RENDERED,
    novelty_N: NDArray[np.floating] | None = None,
) -> Floats:
    """Return the utility of each candidate at each scale: what of it is new or, with a question, what that is about.

    Args:
        stats: the analyzed frames.
        selection: the candidates, rows of `stats`.
        saliency_N: each candidate's share of a question, >= 0; None, or equal shares, without a question.
        estimator: one of `ESTIMATORS`.
        model: the one that will answer, which decides the calibration.
        novelty_N: `novelty(stats, selection)`, where the caller has it already.

    Returns:
        float64 [N, 5], non-decreasing in scale; positive, but 0 for candidates that a question is not about.

    Raises:
        ValueError: saliency of another length, or negative, or not finite.
    """
    rows = selection.index_N
    estimate = partial(by_calibration, using=calibration(model)) if estimator == DEFAULT else ESTIMATORS[estimator]
    shown = estimate(stats, rows)
    new = novelty(stats, selection) if novelty_N is None else np.asarray(novelty_N, np.float64)
    saliency = np.ones(len(rows)) if saliency_N is None else np.asarray(saliency_N, dtype=np.float64)
    if saliency.shape != (len(rows),) or not (np.isfinite(saliency) & (saliency >= 0)).all():
        raise ValueError(f"saliency_N must be {len(rows)} finite weights, each 0 or more")
    if np.ptp(saliency) == 0:
        utility_NS = new_part(shown, new)
    else:
        utility_NS = question_utility(shown, new, alike(selection, new), saliency / saliency.sum())
    hidden = (stats.flags_N[rows] & (FLAG_BLACK | FLAG_CORRUPT)) > 0
    utility_NS[hidden] *= NOVELTY_FLOOR
    return utility_NS
