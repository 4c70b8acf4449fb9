"""The fit finds what made the data, and says what it was made from."""

from __future__ import annotations

import numpy as np
import pytest

from m3video.errors import UsageError
from m3video.evaluation.estimators.calibrate import fit
from m3video.planning.utility import SIGNALS


def test_a_logistic_truth_is_found_again() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (4000, len(SIGNALS)))
    slopes = np.array([-0.9, 0.0, 0.4, 0.0, 0.0])
    odds = ((x - 3) / 2 @ slopes)[:, None] + np.array([-1.0, 0.0, 1.0, 1.5, 2.0])
    share = 1 / (1 + np.exp(-odds))
    found = fit(x, share, made={"model": "none"})
    assert np.allclose(found.share_right(x), share, atol=0.02)
    assert found.made == {"signals": list(SIGNALS), "model": "none"}


def test_more_tokens_are_never_held_to_show_less() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, len(SIGNALS)))
    found = fit(x, rng.random((200, 5)), made={})
    assert (np.diff(found.share_right(x), axis=1) >= 0).all()


def test_always_right_and_never_right_stay_finite() -> None:
    x = np.random.default_rng(2).normal(size=(50, len(SIGNALS)))
    share = np.zeros((50, 5))
    share[:, 3:] = 1
    found = fit(x, share, made={}).share_right(x)
    assert (found[:, :3] < 1e-3).all()
    assert (found[:, 3:] > 1 - 1e-3).all()


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(UsageError, match="3 frames are too few"):
        fit(np.zeros((3, len(SIGNALS))), np.zeros((3, 5)), made={})
