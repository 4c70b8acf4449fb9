"""A token plan: the frames that are shown, the scale of each, and how near the plan is to the optimum.

Shape legend: N frames, S the five scales of `SCALES`, H W picture height and width, T tokens, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.types.base import frozen_array
from m3video.types.scales import check_scale
from m3video.types.video import SCANS, VideoInfo

METHODS = ("fits", "hull", "dp", "gap")


def gap_between(utility: float, bound: float) -> float:
    """Return the share of `bound` that `utility` falls short by, 0 to 1."""
    return 0.0 if bound <= 0 else min(1.0, max(0.0, 1 - utility / bound))


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """The result of `allocate`: a scale per candidate (0 = left out), and the proof of how good it is.

    `utility <= bound` always; `bound` is the optimum of the linear relaxation, so `bound - utility` is the most
    that any other allocation could gain. `method` says which argument proves that it is the optimum: "fits" (every
    frame has its best scale), "hull" (it meets the bound), "dp" (dynamic programming over what the bound leaves open)
    or "gap" (not proven: too large for the exact method; `gap` is the certificate).
    """

    scale_N: NDArray[np.int64]
    total_tokens: int
    utility: float
    bound: float
    method: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale_N", frozen_array(self.scale_N, np.int64, (None,), "scale_N"))

    @property
    def gap(self) -> float:
        """The proven relative gap to the optimum: `utility >= (1 - gap) * bound`."""
        return gap_between(self.utility, self.bound)


@dataclass(frozen=True, slots=True)
class PlannedFrame:
    """One frame that is shown to the model."""

    pts: int
    scale: int
    shot: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        check_scale(self.scale)


@dataclass(frozen=True, slots=True)
class Focus:
    """The question that a plan was made for.

    Attributes:
        question: it.
        measure: how relevance was told: "times" (it names them) or "attention" (the model's, in a coarse pass).
        first_tokens: visual tokens that the coarse attention pass cost; they are part of the budget.
        weights: (pts, share of the question, rounded) of each candidate that has one; empty where the question seems
            to be about the whole video, so that the plan is the one without a question.
    """

    question: str
    measure: str
    first_tokens: int = 0
    weights: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if self.first_tokens < 0:
            raise ValueError(f"first_tokens ({self.first_tokens}) must be 0 or more")
        if any(not 0 < weight <= 1 for _, weight in self.weights):
            raise ValueError("weights must be above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class TokenPlan:
    """The frames that will be shown, at which scale, and what that costs.

    `config` holds the resolved settings the plan was made with; `num_candidates` how many frames competed.
    `method` is the allocation's: which argument proves that no other plan is worth more, or "gap" where only the
    certificate `utility >= (1 - gap) * bound` is known; empty where nothing was allocated. `text_tokens` are the
    positions of the prompt around the frames (times, numbers, template; not the question), None where the model's
    tokenizer is not at hand. `grid_tokens` is set when the frames stand in one image grid: the tokens of that one
    picture. `scan` names the frames that were looked at, one of `SCANS`, and `num_analyzed` how many those were, None
    where nobody counted; `num_repeats` how many candidates show nothing that another one does not, None likewise.
    `candidates_why` says how their number was chosen, where nobody named it.
    `estimate` says what the utility of a frame was taken from. `focus` is set where a question
    decided what is shown; the tokens of its coarse pass and those of the frames together stay within the budget.
    """

    video: VideoInfo
    budget: int
    frames: tuple[PlannedFrame, ...]
    utility: float
    bound: float
    num_candidates: int
    shots: tuple[tuple[int, int], ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    grid_tokens: int | None = None
    method: str = ""
    text_tokens: int | None = None
    scan: str = "full"
    num_analyzed: int | None = None
    estimate: str = ""
    focus: Focus | None = None
    num_repeats: int | None = None
    candidates_why: str = ""

    def __post_init__(self) -> None:
        if self.scan not in SCANS:
            raise ValueError(f"scan ({self.scan}) must be one of {', '.join(SCANS)}")
        if self.num_analyzed is not None and not 0 < self.num_analyzed <= self.video.num_frames:
            raise ValueError(f"num_analyzed ({self.num_analyzed}) must be 1 to num_frames ({self.video.num_frames})")
        if self.num_repeats is not None and not 0 <= self.num_repeats <= self.num_candidates:
            raise ValueError(f"num_repeats ({self.num_repeats}) must be 0 to num_candidates ({self.num_candidates})")
        if self.method not in ("", *METHODS):
            raise ValueError(f"method ({self.method}) must be one of {', '.join(METHODS)}, or empty")
        if self.text_tokens is not None and self.text_tokens < 0:
            raise ValueError(f"text_tokens ({self.text_tokens}) must be 0 or more")
        pts = [frame.pts for frame in self.frames]
        if any(b <= a for a, b in itertools.pairwise(pts)):
            raise ValueError("planned frames must have strictly increasing pts")
        if self.total_tokens + self.first_tokens > self.budget:
            spent = self.total_tokens + self.first_tokens
            raise ValueError(f"plan spends {spent} tokens, more than its budget of {self.budget}")

    @property
    def first_tokens(self) -> int:
        """Visual tokens of the coarse attention pass, 0 where there was none."""
        return 0 if self.focus is None else self.focus.first_tokens

    @property
    def total_tokens(self) -> int:
        """Visual tokens of all frames."""
        return sum(frame.scale for frame in self.frames) if self.grid_tokens is None else self.grid_tokens

    @property
    def gap(self) -> float:
        """The proven relative gap to the optimum: `utility >= (1 - gap) * bound`."""
        return gap_between(self.utility, self.bound)

    @property
    def shots_seconds(self) -> list[float]:
        """The start of each shot, and last the end of the range: the setting `end`, or the end of the video."""
        if not self.shots:
            return []
        until = self.video.pts_seconds(self.video.until_pts)
        until = until if self.config.get("end") is None else min(until, self.config["end"])
        # A scan that skips frames may have analyzed none near the end; the frame before stands for that time.
        until = max(until, self.video.pts_seconds(self.shots[-1][1]))
        return [*(self.video.pts_seconds(start) for start, _ in self.shots), until]


def total_tokens(scales: Iterable[int]) -> int:
    """Return the sum of scales.

    Raises:
        ValueError: one of them is not in `SCALES`.
    """
    return sum(check_scale(scale) for scale in scales)
