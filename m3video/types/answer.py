"""An answer, its evidence and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from m3video.types.plan import TokenPlan


@dataclass(frozen=True, slots=True)
class Evidence:
    """A time range shown to the model (seconds as of `VideoInfo.pts_seconds`), with frames and tokens spent on it."""

    start_seconds: float
    end_seconds: float
    num_frames: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer, its evidence and its cost.

    `stage_seconds` is wall time per stage; `peak_memory_bytes` the peak memory of the process (on CUDA, of the
    allocator) by the end of each stage, so a later stage never shows less than an earlier one. Taken from caches:
    `cached_frames` of the plan's frames, the first pass where `is_scan_cached`, and `reused_tokens` of the prompt.
    """

    question: str
    text: str
    evidence: tuple[Evidence, ...]
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
