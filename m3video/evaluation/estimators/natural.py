"""What a model answers about natural frames at every scale, a calibration fitted to it, and how well that predicts.

Shape legend: F frames, Q questions of a frame, J signals, S the five scales.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from m3video.evaluation.estimators.calibrate import fit
from m3video.evaluation.estimators.natural_frames import KnownFrame
from m3video.evaluation.estimators.oracle import monotone
from m3video.evaluation.intervals import Interval
from m3video.evaluation.natural.asking import Case, Likelihood, answer_likelihoods
from m3video.evaluation.natural.rows import mean
from m3video.evaluation.natural.sight import Bench
from m3video.planning.allocate import allocate
from m3video.planning.analyze import analyze
from m3video.planning.utility import RENDERED, Calibration, by_calibration, calibration, signals
from m3video.types import SCALES, FrameStats, ScanFrame
from m3video.utils.clock import FROM_ZERO
from m3video.video.picture import Orientation, PictureMaker

Floats = NDArray[np.float64]

TOKENS_EACH = (1, 4, 16, 64)
"""Budgets of the comparison, visual tokens for each frame."""
CONSTANT = "the same for every frame"
PARTS = 5
"""Of the frames, each left out once."""


@dataclass(frozen=True, slots=True, eq=False)
class AskedFrame:
    """A frame, its measurements as the first pass makes them, and the share of right answers to each question."""

    frame: KnownFrame
    stats: FrameStats
    right_QS: Floats

    @property
    def share_S(self) -> Floats:
        """Return the share of questions answered right, corrected for guessing, with equal weight for each family.

        It is 0 on average for guesses, so that one frame's may be below 0; 1 where all is right.
        """
        families = [choice.family for choice in self.frame.choices]
        chance_Q1 = np.array([choice.chance for choice in self.frame.choices])[:, None]
        weight_Q = np.array([1 / (len(set(families)) * families.count(name)) for name in families])
        return np.asarray(weight_Q @ ((self.right_QS - chance_Q1) / (1 - chance_Q1)))


def ask_frames(bench: Bench, frames: Sequence[KnownFrame], answers: Path) -> Iterator[AskedFrame]:
    """Ask about each frame alone, at every scale.

    Args:
        bench: the model.
        frames: what is asked about.
        answers: a file of lines that answers are added to; what it holds is not asked again. It is for one model.
    """
    stored = _stored(answers)
    for frame in frames:
        right = stored.get(frame.key)
        if right is None:
            right = _right(bench, frame)
            answers.parent.mkdir(parents=True, exist_ok=True)
            with answers.open("a", encoding="utf-8") as lines:
                # A line of its own, also where a run was killed in the middle of one.
                lines.write("\n" + json.dumps({"key": frame.key, "right": right.tolist()}) + "\n")
        yield AskedFrame(frame, picture_stats(frame.rgb_HW3), right)


def _stored(path: Path) -> dict[str, Floats]:
    """Return what an earlier run has found; a last line that was cut off is asked again."""
    found: dict[str, Floats] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["key"]] = np.array(row["right"], np.float64)
    return found


@torch.inference_mode()
def _right(bench: Bench, frame: KnownFrame) -> Floats:
    """Return for each question at each scale how many of its right answers are likelier than all wrong ones, [Q, S]."""
    blocks = bench.sight.blocks_of([Image.fromarray(frame.rgb_HW3)], SCALES)
    questions = tuple(choice.question for choice in frame.choices)
    cases = [Case((blocks[scale][0],), questions) for scale in SCALES]
    options = [[(*choice.right, *choice.wrong) for choice in frame.choices]] * len(SCALES)
    found = answer_likelihoods(bench.loaded, cases, options)
    return np.array(
        [
            [share_right(of_case[number], len(choice.right)) for of_case in found]
            for number, choice in enumerate(frame.choices)
        ]
    )


def share_right(found: Sequence[Likelihood], right: int) -> float:
    """Return the share of the first `right` answers that are likelier per token than each of the others."""
    best_wrong = max(one.mean for one in found[right:])
    return float(np.mean([one.mean > best_wrong for one in found[:right]]))


def picture_stats(rgb_HW3: NDArray[np.uint8]) -> FrameStats:
    """Return what the first pass measures on a video of this picture alone."""
    height, width = rgb_HW3.shape[:2]
    luma_HW, chroma_2HW = PictureMaker(Orientation(), width=width, height=height).scan_rgb(rgb_HW3)
    return analyze([ScanFrame(0, luma_HW, chroma_2HW)], time_base=(1, 1000), origin=FROM_ZERO)


def frame_signals(asked: Sequence[AskedFrame]) -> Floats:
    """Return the signals of frames, float64 [F, J]."""
    return np.concatenate([signals(one.stats, np.zeros(1, np.int64)) for one in asked])


def fit_natural(asked: Sequence[AskedFrame], *, made: Mapping[str, Any]) -> Calibration:
    """Fit the calibrated estimator; it tells scales or frames apart only where that surely predicts others better.

    Otherwise a budget would be spent on differences that are noise. The shares of each frame are taken as they are:
    those of a few answers at random, made non-decreasing, would rise with the scale.

    Returns:
        The fit; its `made` says what it tells apart.

    Raises:
        UsageError: too few frames.
    """
    signals_FJ, share_FS = frame_signals(asked), np.array([one.share_S for one in asked])
    names = [one.frame.name for one in asked]
    chosen, target_FS = "nothing", np.full_like(share_FS, share_FS.mean())
    least_F = _error_of_others(signals_FJ, target_FS, share_FS)
    same_FS = np.tile(monotone(share_FS.mean(axis=0)), (len(asked), 1))
    for name, other_FS in (("scales", same_FS), ("frames and scales", share_FS)):
        error_F = _error_of_others(signals_FJ, other_FS, share_FS)
        if mean((least_F - error_F).tolist(), names).low > 0:
            chosen, target_FS, least_F = name, other_FS, error_F
    kinds = [one.frame.kind for one in asked]
    about = {
        "frames": len(asked),
        "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "tells_apart": chosen,
    }
    return fit(signals_FJ, target_FS, made={**made, **about})


def _error_of_others(signals_FJ: Floats, fitted_FS: Floats, true_FS: Floats) -> Floats:
    """Return the mean squared error for each frame of fits to `fitted_FS` that left it out, float64 [F]."""
    error_F = np.zeros(len(true_FS))
    part_F = np.arange(len(true_FS)) % PARTS
    for part in range(PARTS):
        left_out = part_F == part
        found = fit(signals_FJ[~left_out], fitted_FS[~left_out], made={})
        error_F[left_out] = np.square(found.share_right(signals_FJ[left_out]) - true_FS[left_out]).mean(axis=1)
    return error_F


@dataclass(frozen=True, slots=True)
class Prediction:
    """How well one estimate predicts the answers about frames that it was not fitted to.

    Attributes:
        name: as printed.
        error: mean squared error of the share of right answers; None where it does not predict shares.
        gain: how much less than that of the same shares for every frame.
        bought: the share of right answers at each budget of `TOKENS_EACH`, when it is spent by this estimate.
    """

    name: str
    error: Interval | None
    gain: Interval | None
    bought: tuple[Interval, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain values, with intervals as objects."""
        error, gain = (None if one is None else one._asdict() for one in (self.error, self.gain))
        return {"name": self.name, "error": error, "gain": gain, "bought": [one._asdict() for one in self.bought]}


def predictions(fitted: Calibration, known: Sequence[AskedFrame], test: Sequence[AskedFrame]) -> list[Prediction]:
    """Compare the fit with the same shares for every frame, with the calibration of `rendered`, and with the truth.

    Args:
        fitted: to `known`.
        known: the frames of the fit.
        test: other frames.
    """
    true_FS = np.array([one.share_S for one in test])
    same_S = monotone(np.array([one.share_S for one in known]).mean(axis=0))
    same_FS = np.tile(same_S, (len(test), 1))

    def of(using: Calibration) -> Floats:
        return np.concatenate([by_calibration(one.stats, np.zeros(1, np.int64), using=using) for one in test])

    names = [one.frame.name for one in test]
    even = np.square(same_FS - true_FS).mean(axis=1)
    found = []
    for name, estimate_FS in {
        "fitted": of(fitted),
        CONSTANT: same_FS,
        "that of rendered": of(calibration(RENDERED)),
    }.items():
        squared = np.square(estimate_FS - true_FS).mean(axis=1)
        found.append(
            Prediction(
                name,
                mean(squared.tolist(), names),
                mean((even - squared).tolist(), names),
                _bought(estimate_FS, true_FS, names),
            )
        )
    return [*found, Prediction("true shares", None, None, _bought(true_FS, true_FS, names))]


def _bought(estimate_FS: Floats, true_FS: Floats, names: Sequence[str]) -> tuple[Interval, ...]:
    """Return the mean share of right answers, when one budget for all frames is spent by an estimate."""
    found = []
    for each in TOKENS_EACH:
        scale_F = allocate(estimate_FS, budget=each * len(names)).scale_N
        at = np.searchsorted(SCALES, np.maximum(scale_F, 1))
        share_F = np.where(scale_F > 0, true_FS[np.arange(len(names)), at], 0.0)
        found.append(mean(share_F.tolist(), names))
    return tuple(found)


def by_family(asked: Sequence[AskedFrame]) -> dict[str, list[Interval]]:
    """Return for each family of questions the share of right answers at each scale, not corrected for guessing."""
    rows: dict[str, list[tuple[str, Floats]]] = {}
    for one in asked:
        for choice, right_S in zip(one.frame.choices, one.right_QS, strict=True):
            rows.setdefault(choice.family, []).append((one.frame.name, right_S))
    return {
        family: [mean([float(s[at]) for _, s in own], [name for name, _ in own]) for at in range(len(SCALES))]
        for family, own in sorted(rows.items())
    }
