"""An answer, its evidence and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from m3video.types.plan import TokenPlan


@dataclass(frozen=True, slots=True)
class CitedRange:
    """A time range that an answer rests on.

    Attributes:
        start_seconds, end_seconds: as of `VideoInfo.pts_seconds`; that of the cited frames, widened to the shot or
            halfway to the next frame of it that was shown and is not cited.
        pts: the cited frames, ticks.
        nats: support: by how much the odds of the answer fall while these frames are masked.
    """

    start_seconds: float
    end_seconds: float
    pts: tuple[int, ...]
    nats: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an answer rests on, found by leaving frames out; nothing of it is written by the model.

    Attributes:
        verdict: "cited": without the ranges' frames the answer loses support. "spread": it does not, whichever part of
            the video is left out, but does without any frame; the one range is all that was shown. "unsupported": the
            model gives the same answer when it is shown no frame at all.
        ranges: in order of time; none where unsupported.
        nats: support of all cited frames together: by how much the odds of the answer fall when the prompt is read
            again without them. Where none is cited, by how much they fall while all frames are masked.
        masked_nats: the same while they are masked only, with what later frames took from them still there.
        instead: the answer without the cited frames; empty where none is cited.
        stands_alone: the answer is the same when the cited frames alone are shown.
        needs_tokens: the fewest tokens for each cited frame at which that holds; None where it does not.
        stands_without_frames: the answer is the same when no frame is shown.
        tested: (pts, nats) of frames that were masked, each with the support of the smallest part with it.
        passes: runs of the language model for these tests.
        read_tokens: positions that these runs read.
        seconds: wall time of these tests.
    """

    verdict: Literal["cited", "spread", "unsupported"]
    ranges: tuple[CitedRange, ...]
    nats: float
    masked_nats: float
    instead: str
    stands_alone: bool
    needs_tokens: int | None
    stands_without_frames: bool
    tested: tuple[tuple[int, float], ...]
    passes: int
    read_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer, its confidence, its evidence and its cost.

    `stage_seconds` is wall time per stage; `peak_memory_bytes` the peak memory of the process (on CUDA, of the
    allocator) by the end of each stage, so a later stage never shows less than an earlier one. `evidence` is None where
    it was not asked for or cannot be had, with a warning. `confidence` is the share of right ones among answers that
    this model found as likely, 0 to 1; None where that was never measured for the model. `withheld` is the answer in
    whose place `text` says "cannot tell", because its confidence is too low; else None. Taken from caches:
    `cached_frames` of the plan's frames, the first pass where `is_scan_cached`, and `reused_tokens` of the prompt.
    """

    question: str
    text: str
    evidence: Evidence | None
    model: str
    visual_tokens: int
    prompt_tokens: int
    answer_tokens: int
    stage_seconds: Mapping[str, float]
    peak_memory_bytes: Mapping[str, int]
    plan: TokenPlan
    config: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    cached_frames: int = 0
    is_scan_cached: bool = False
    reused_tokens: int = 0
    confidence: float | None = None
    withheld: str | None = None
