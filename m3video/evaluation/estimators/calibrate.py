"""Fit the calibrated estimator to the token needs that were measured; `planning.utility` reads the result.

Shape legend: F frames, J signals, S the five scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from m3video.errors import UsageError
from m3video.planning.utility import SIGNALS, Calibration
from m3video.types import SCALES

Floats = NDArray[np.float64]

RIDGE = 1e-3
"""Weight of the squared coefficients beside the mean log-loss of a frame."""

DIGITS = 4
"""Decimal places in the file: people read it, and the fit is no more precise."""


def fit(signals_FJ: Floats, share_FS: Floats, *, made: Mapping[str, Any]) -> Calibration:
    """Fit a logistic regression for each scale.

    Args:
        signals_FJ: signals of the scan for each frame.
        share_FS: share of the questions about it that the model answers right at each scale, 0 to 1.
        made: how the fit was made, written beside the numbers.

    Raises:
        UsageError: no more frames than signals.
    """
    frames, number = signals_FJ.shape
    if frames <= number:
        raise UsageError(f"{frames} frames are too few to fit {number} signals: take more --calibration-clips")
    low, high = signals_FJ.min(axis=0), signals_FJ.max(axis=0)
    mean, spread = signals_FJ.mean(axis=0), np.maximum(signals_FJ.std(axis=0), 1e-6)
    low, high, mean, spread = (part.round(DIGITS) for part in (low, high, mean, spread))
    standard = (np.clip(signals_FJ, low, high) - mean) / np.maximum(spread, 10.0**-DIGITS)
    found = np.array([_logistic(standard, share_FS[:, column]) for column in range(len(SCALES))]).round(DIGITS) + 0.0
    return Calibration(
        low=low.tolist(),
        high=high.tolist(),
        mean=mean.tolist(),
        spread=spread.tolist(),
        bias=found[:, 0].tolist(),
        weight=found[:, 1:].tolist(),
        made={"signals": list(SIGNALS), **made},
    )


def _logistic(standard_FJ: Floats, share_F: Floats) -> Floats:
    """Return the bias and weights that minimize the log-loss, float64 [1 + J]."""
    inputs = np.concatenate([np.ones((len(standard_FJ), 1)), standard_FJ], axis=1)
    penalty = np.r_[0.0, np.full(standard_FJ.shape[1], RIDGE)]

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        odds = inputs @ coefficients
        # log(1 + e^z) - y z, without overflow.
        value = float((np.logaddexp(0.0, odds) - share_F * odds).mean() + (penalty * coefficients**2).sum())
        slope = inputs.T @ (1 / (1 + np.exp(-odds)) - share_F) / len(inputs) + 2 * penalty * coefficients
        return value, slope

    # Where all answers are right the bias grows without end: odds of e^20 are as high as a file needs.
    bounds = [(-20.0, 20.0)] * inputs.shape[1]
    found: Floats = minimize(loss, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds).x
    return found
