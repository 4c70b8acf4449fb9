"""Estimate how long an answer will take, from measured times of the same model on this machine only.

Each `m3video ask` stores the seconds of its stages in one small file of the cache; `m3video plan` reads them. Frames
cost time in fetching and in the vision tower; prompt and answer tokens cost time in the language model. Without a
measurement there is no estimate.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from m3video.config import Settings
from m3video.types import Answer, TokenPlan
from m3video.utils import files
from m3video.utils.cache import cache_root

MOST_RUNS = 16
"""Measurements stored for each model; older ones say less about the machine of today."""


@dataclass(frozen=True, slots=True)
class Run:
    """Token counts and stage seconds of one answer."""

    frames: int
    prompt_tokens: int
    answer_tokens: int
    load: float
    fetch: float
    vision: float
    answer: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected seconds of an answer, with model loading, and the number of measurements behind them."""

    seconds: float
    num_runs: int


def default_file() -> Path:
    """Return the path of the stored times."""
    return cache_root() / "times.json"


def remember(answer: Answer, settings: Settings, file: Path) -> None:
    """Store what this answer took; not where frames came from the cache, which says nothing of other frames.

    Raises:
        OSError: the file cannot be written.
    """
    took = answer.stage_seconds
    if answer.cached_frames:
        return
    run = Run(
        len(answer.plan.frames),
        answer.prompt_tokens,
        answer.answer_tokens,
        took["load model"],
        took["fetch"],
        took["vision tower"],
        took["answer"],
    )
    key = _key(settings)
    files.remember(file, key, [*files.remembered(file, key), asdict(run)], most=MOST_RUNS)


def estimate(plan: TokenPlan, settings: Settings, file: Path) -> Estimate | None:
    """Estimate the time of an answer by this plan; None where this model has no measurement on this machine."""
    if plan.text_tokens is None:
        return None
    try:
        runs = [Run(**run) for run in files.remembered(file, _key(settings))]
    except TypeError:  # written by another version
        return None
    return predict(runs, frames=len(plan.frames), prompt_tokens=plan.total_tokens + plan.text_tokens)


def predict(runs: Sequence[Run], *, frames: int, prompt_tokens: int) -> Estimate | None:
    """Estimate from median seconds per frame, and a non-negative least-squares fit of prompt and answer tokens."""
    from scipy.optimize import nnls

    runs = [run for run in runs if run.frames > 0]
    if not runs:
        return None
    per_frame = median((run.fetch + run.vision) / run.frames for run in runs)
    tokens = np.array([[run.prompt_tokens, run.answer_tokens] for run in runs], np.float64)
    per_token, _ = nnls(tokens, np.array([run.answer for run in runs]))
    text = per_token @ [prompt_tokens, median(run.answer_tokens for run in runs)]
    return Estimate(median(run.load for run in runs) + per_frame * frames + float(text), len(runs))


def _key(settings: Settings) -> str:
    """Return what times are valid for: one model, as it is loaded, on one machine."""
    folder = Path(settings.model).expanduser()
    model = str(folder.resolve()) if folder.is_dir() else settings.model
    return f"{platform.node()} {settings.device} {settings.dtype} {model}"
