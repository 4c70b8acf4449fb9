"""Confidence of an answer: the share of right ones among answers that the same model found as likely.

It comes from how likely the model found the tokens of its answer, through a curve that was fitted to questions with
known answers (`m3video eval confidence --fit`). A model without such a curve has no confidence: likelihoods alone say
nothing about how often it is right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3video.config import Settings
from m3video.errors import CheckpointError, UsageError
from m3video.model.m3.model_paths import find_here, local_path
from m3video.types import Answer
from m3video.utils.files import replacing

if TYPE_CHECKING:
    from m3video.model.m3.answer import GeneratedAnswer

CANNOT_TELL = "cannot tell"
"""Stands for an answer that is withheld."""

FILE = "confidence.json"
"""In the folder of a model."""

ASSETS = Path(__file__).parent.parent / "assets"
CALIBRATIONS = {"rendered": ASSETS / "confidence.json", "small": ASSETS / "confidence-small.json"}
"""The curves of the models that come with m3video, written by `m3video eval confidence --fit`."""

Sure = Callable[[Sequence[float], Sequence[float]], float]
"""From `logs_A` and `odds_A` of an answer to a number that is greater for answers that the model is surer of."""

MEASURES: Mapping[str, Sure] = {
    "likelihood": lambda logs_A, _: sum(logs_A),
    "mean likelihood": lambda logs_A, _: sum(logs_A) / len(logs_A),
    "least margin": lambda _, odds_A: min(odds_A),
    "mean margin": lambda _, odds_A: sum(odds_A) / len(odds_A),
    "first margin": lambda _, odds_A: odds_A[0],
    "shortness": lambda logs_A, _: -float(len(logs_A)),
}
"""Likelihoods are log-likelihoods of the answer's tokens and its end; margins are nats to the next likeliest token."""


@dataclass(frozen=True, slots=True)
class ConfidenceCurve:
    """From what a model thinks of its answer to the share of answers that are right.

    Attributes:
        measure: one of `MEASURES`.
        at: values of the measure, increasing.
        share: share of right answers at each, 0 to 1, never falling; straight lines between.
        made: the model and data of the fit.
    """

    measure: str
    at: list[float]
    share: list[float]
    made: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(f"measure ({self.measure}) must be one of {', '.join(MEASURES)}")
        if not self.at or len(self.at) != len(self.share):
            raise ValueError("at and share must have the same length, at least 1")
        if (np.diff(self.at) <= 0).any() or (np.diff(self.share) < 0).any():
            raise ValueError("at must increase, and share must not fall")
        if not 0 <= self.share[0] <= self.share[-1] <= 1:
            raise ValueError("share must lie in 0..1")

    def confidence(self, logs_A: Sequence[float], odds_A: Sequence[float]) -> float:
        """Return the confidence of an answer, 0 to 1, from its tokens as in `GeneratedAnswer`."""
        return float(np.interp(MEASURES[self.measure](logs_A, odds_A), self.at, self.share))

    def save(self, path: Path) -> None:
        """Write the curve as JSON, atomically."""
        with replacing(path) as part:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        _read.cache_clear()


def curve_file(model: str) -> Path | None:
    """Return where the curve of a model is kept, whether or not there is one; None for a hub model that is not here.

    Args:
        model: "small", "rendered", a folder or a hub name.
    """
    if model in CALIBRATIONS:
        return CALIBRATIONS[model]
    folder = find_here(model)
    return None if folder is None else folder / FILE


def find_curve(model: str) -> ConfidenceCurve | None:
    """Return the curve of a model; None where it has none.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = curve_file(model)
    return None if path is None or not path.is_file() else _read(path)


@cache
def _read(path: Path) -> ConfidenceCurve:
    try:
        return ConfidenceCurve(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no confidence curve ({error}): delete it, or write it again with m3video eval confidence --fit"
        ) from None


def file_to_write(model: str) -> Path:
    """Return the file of `curve_file`; raise UsageError for a hub model, whose folder is not ours to write to."""
    path = curve_file(model)
    if path is None or (model not in CALIBRATIONS and local_path(model) is None):
        raise UsageError(f"--fit writes into the folder of a model, and {model} has none: m3video convert makes one")
    return path


def refuse_abstain(settings: Settings) -> None:
    """Raise UsageError where answers shall be withheld for want of confidence, and none will have a confidence."""
    if settings.abstain is None:
        return
    if settings.layout == "grid":
        raise UsageError(
            "--abstain needs a confidence, and answers from an image grid have none: leave out one of them"
        )
    if settings.answer_schema is not None:
        raise UsageError("--abstain needs a confidence, and answers that obey a schema have none: leave one out")
    if find_curve(settings.model) is None:
        raise UsageError(
            f"--abstain needs a confidence, and that of {settings.model} was never measured: "
            "m3video eval confidence --fit does so"
        )


def with_confidence(answer: Answer, generated: GeneratedAnswer, settings: Settings) -> Answer:
    """Return the answer with its confidence, withheld where that is less than the settings ask for."""
    if answer.plan.grid_tokens is not None:
        return answer
    confidence = confidence_of(generated, answer.model)
    text, withheld = withheld_below(settings.abstain, answer.text, confidence)
    return replace(answer, text=text, confidence=confidence, withheld=withheld)


def confidence_of(generated: GeneratedAnswer, model: str) -> float | None:
    """Return the confidence of an answer about a sequence of frames; None where the model has no curve."""
    curve = find_curve(model)
    return None if curve is None or not generated.logs_A else curve.confidence(generated.logs_A, generated.odds_A)


def withheld_below(abstain: float | None, text: str, confidence: float | None) -> tuple[str, str | None]:
    """Return the words to say, and the answer that is withheld for want of confidence, or None."""
    if abstain is None or confidence is None or confidence >= abstain:
        return text, None
    return CANNOT_TELL, text
