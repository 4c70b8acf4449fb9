"""An answer, what it rests on and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from m3video.types.plan import TokenPlan


@dataclass(frozen=True, slots=True)
class Evidence:
    """A time range the model looked at (seconds as `VideoInfo.pts_seconds` has them), with what was spent there."""

    start_seconds: float
    end_seconds: float
    num_frames: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer, what it rests on and what it cost.

    `stage_seconds` is wall time per stage; `peak_memory_bytes` the process's high-water mark (on CUDA, the
    allocator's) by the end of each stage, so a later stage never shows less than an earlier one. Not done again were:
    decoding and encoding `cached_frames` of the plan's frames, the first pass where `is_scan_cached`, and reading
    `reused_tokens` of the prompt.
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
