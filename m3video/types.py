"""The values that travel between the stations. Each is frozen and validated at birth.

Shape legend: N frames, S the five scales of `SCALES`, H W picture height and width, T tokens, D width.
Times are integer `pts` in ticks of `time_base`; seconds are derived for people and never stored as truth. People have
one clock: `clock_seconds`, which counts from the start of the file's earliest stream, as players do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.clocks import FROM_ZERO, Origin, clock_seconds, clock_times
from m3video.scales import SCALES, check_scale

TimeBase = tuple[int, int]


def seconds(ticks: int, time_base: TimeBase) -> float:
    """How long `ticks` last. Example: `seconds(90000, (1, 90000)) == 1.0`; when a pts is, `clock_seconds` tells."""
    return float(Fraction(int(ticks) * time_base[0], time_base[1]))


def _frozen_array(value: Any, dtype: Any, shape: tuple[int | None, ...], name: str) -> NDArray[Any]:
    """A read-only array of `dtype` whose shape matches `shape` (None = any length)."""
    array = np.array(value, dtype=dtype)
    fits = array.ndim == len(shape) and all(w is None or w == g for w, g in zip(shape, array.shape, strict=True))
    if not fits:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the file says and what reading its packets verified.

    `width` and `height` are as displayed: after rotation and sample aspect ratio. `num_frames`, `start_pts` and
    `end_pts` come from the packets, `num_frames_from_header` and `duration_seconds_from_header` from the header
    (None when it is silent). `end_pts` is the pts of the last frame, `last_duration` how long it is shown (ticks).
    `fingerprint` is a hash of the file's bytes. `pts_seconds` counts from `origin`. `partial`: frames of the file are
    missing or damaged.
    """

    path: str
    fingerprint: str
    backend: str
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    time_base: TimeBase
    start_pts: int
    end_pts: int
    last_duration: int
    num_frames: int
    num_keyframes: int
    num_frames_from_header: int | None = None
    duration_seconds_from_header: float | None = None
    num_damaged_packets: int = 0
    notes: tuple[str, ...] = ()
    origin: Origin = FROM_ZERO
    partial: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"display size ({self.width}x{self.height}) must be at least 1x1")
        if self.time_base[0] < 1 or self.time_base[1] < 1:
            raise ValueError(f"time_base ({self.time_base}) must be two positive integers")
        if self.origin[1] < 1:
            raise ValueError(f"origin ({self.origin}) must be an integer and a positive one")
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"rotation ({self.rotation}) must be 0, 90, 180 or 270 degrees clockwise")

    @property
    def until_pts(self) -> int:
        """When the last frame leaves the screen, ticks."""
        return self.end_pts + self.last_duration

    @property
    def duration_seconds(self) -> float:
        """From the first frame's pts to the end of the last frame."""
        return seconds(self.until_pts - self.start_pts, self.time_base)

    def pts_seconds(self, pts: int) -> float:
        """`pts` in seconds as players count them: 0 is where the file's earliest stream starts, the sound maybe."""
        return clock_seconds(pts, self.time_base, self.origin)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture: `rgb_HW3` uint8, upright, at its true `pts`."""

    pts: int
    rgb_HW3: NDArray[np.uint8]

    def __repr__(self) -> str:
        return f"Frame(pts={self.pts}, rgb_HW3=uint8{list(self.rgb_HW3.shape)})"


@dataclass(frozen=True, slots=True, eq=False)
class ScanFrame:
    """One small picture of the first pass, upright, aspect kept, longest side `SCAN_SIDE` at most.

    `luma_HW` uint8 [h, w]; `chroma_2HW` uint8 [2, ceil(h/2), ceil(w/2)] (Cb, Cr), 128 = neutral.
    """

    pts: int
    luma_HW: NDArray[np.uint8]
    chroma_2HW: NDArray[np.uint8]
    is_key: bool = False
    is_corrupt: bool = False

    def __repr__(self) -> str:
        return f"ScanFrame(pts={self.pts}, luma_HW=uint8{list(self.luma_HW.shape)}, key={self.is_key})"


SCAN_SIDE = 144
"""Longest side of a scan picture: 6 pixels for each cell of the 24x24 grid."""

SCANS: tuple[str, ...] = ("full", "nonref", "keyframes")
"""How the first pass reads a video: every frame, those that others are made from, or keyframes only."""

SIGNATURE_SIDE = 6
"""A frame's signature is a 6x6 grid of mean Y, Cb, Cr: 108 bytes, so hours of video stay small."""

TEXTURE_SIDE = 12
"""A frame's texture is a 12x12 grid, two bytes a cell: where in the picture something changed, however small it is."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameStats:
    """Struct of arrays over the analyzed frames of one video, in display order.

    Attributes:
        pts_N: int64, strictly increasing.
        loss_NS: float32 [N, 5], mean loss of the frame at each scale against 24x24 (0 at 576), in squared grey levels.
        peak_NS: float32 [N, 5], the same over the worst 5 % of cells: small text shows here, not in the mean.
        change_N: float32, mean absolute luma difference to the previous frame, grey levels; 0 for the first.
        sharpness_N: float32, mean squared gradient of luma.
        luma_N: float32, mean luma 0-255.
        signature_NK: uint8 [N, 108], the 6x6 grid of mean Y, Cb, Cr (row, column, channel).
        strokes_NC: uint8 [N, 144], strength of strokes in each of 12x12 cells, 16 times the root of grey levels.
        pattern_NC: uint8 [N, 144], each cell's luma projected on a fixed pattern, modulo 256: differs where other words
            or lines stand, though they may be as strong and as dark.
        flags_N: uint8, bits of `FLAG_KEY`, `FLAG_CORRUPT`, `FLAG_BLACK`, `FLAG_FROZEN`.
        edge_2HW: uint8 [2, h, w], first and last luma picture, so that `concat` can fill in the change between them.
        mode: which frames were read, one of `SCANS`.
        origin: of the file; `times_N` counts from there.
        until_pts: when the last frame of the video leaves the screen, ticks; None where that is not known.
    """

    pts_N: NDArray[np.int64]
    loss_NS: NDArray[np.float32]
    peak_NS: NDArray[np.float32]
    change_N: NDArray[np.float32]
    sharpness_N: NDArray[np.float32]
    luma_N: NDArray[np.float32]
    signature_NK: NDArray[np.uint8]
    strokes_NC: NDArray[np.uint8]
    pattern_NC: NDArray[np.uint8]
    flags_N: NDArray[np.uint8]
    edge_2HW: NDArray[np.uint8]
    time_base: TimeBase
    mode: str = "full"
    origin: Origin = FROM_ZERO
    until_pts: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in SCANS:
            raise ValueError(f"mode ({self.mode}) must be one of {', '.join(SCANS)}")
        n = len(self.pts_N)
        columns: tuple[tuple[str, Any, tuple[int | None, ...]], ...] = (
            ("pts_N", np.int64, (n,)),
            ("loss_NS", np.float32, (n, len(SCALES))),
            ("peak_NS", np.float32, (n, len(SCALES))),
            ("change_N", np.float32, (n,)),
            ("sharpness_N", np.float32, (n,)),
            ("luma_N", np.float32, (n,)),
            ("signature_NK", np.uint8, (n, SIGNATURE_SIDE * SIGNATURE_SIDE * 3)),
            ("strokes_NC", np.uint8, (n, TEXTURE_SIDE**2)),
            ("pattern_NC", np.uint8, (n, TEXTURE_SIDE**2)),
            ("flags_N", np.uint8, (n,)),
            ("edge_2HW", np.uint8, (2, None, None)),
        )
        for name, dtype, shape in columns:
            object.__setattr__(self, name, _frozen_array(getattr(self, name), dtype, shape, name))
        if n > 1 and not (np.diff(self.pts_N) > 0).all():
            raise ValueError("pts_N must be strictly increasing")

    def __len__(self) -> int:
        return len(self.pts_N)

    def pts_seconds(self, pts: int) -> float:
        """As that of `VideoInfo`."""
        return clock_seconds(pts, self.time_base, self.origin)

    @property
    def times_N(self) -> NDArray[np.float64]:
        """`pts_seconds` of each frame."""
        return clock_times(self.pts_N, self.time_base, self.origin)

    def __repr__(self) -> str:
        return f"FrameStats(N={len(self)}, time_base={self.time_base}, mode={self.mode!r})"


FLAG_KEY, FLAG_CORRUPT, FLAG_BLACK, FLAG_FROZEN = 1, 2, 4, 8


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The candidate frames, and why each is there.

    Attributes:
        index_N: int64, rows of the `FrameStats` the candidates come from, increasing.
        pts_N: int64, their pts.
        shot_N: int64, number of the shot each candidate belongs to, from 0.
        reason_N: one word per candidate, e.g. "uniform", "shot", "change".
        shots: (first pts, end pts) of every shot, half-open, in ticks.
        began_M: how each of them begins: "cut" (or a dissolve, or black; the first one too) or "slide", where what
            stood still gives way to something else that stands still.
        method: "shots" or "uniform".
        notes: one line for people for each wish that could not be met in full.
    """

    index_N: NDArray[np.int64]
    pts_N: NDArray[np.int64]
    shot_N: NDArray[np.int64]
    reason_N: tuple[str, ...]
    shots: tuple[tuple[int, int], ...]
    began_M: tuple[str, ...]
    method: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.pts_N)
        for name in ("index_N", "pts_N", "shot_N"):
            object.__setattr__(self, name, _frozen_array(getattr(self, name), np.int64, (n,), name))
        if len(self.reason_N) != n:
            raise ValueError(f"reason_N has {len(self.reason_N)} entries for {n} candidates")
        if len(self.began_M) != len(self.shots):
            raise ValueError(f"began_M has {len(self.began_M)} entries for {len(self.shots)} shots")
        if n > 1 and not (np.diff(self.pts_N) > 0).all():
            raise ValueError("pts_N must be strictly increasing")

    def __len__(self) -> int:
        return len(self.pts_N)

    @property
    def take_N(self) -> NDArray[np.int64]:
        """The number of each candidate's camera take: slides begin none."""
        return (np.cumsum([began != "slide" for began in self.began_M]) - 1)[self.shot_N]

    def __repr__(self) -> str:
        return f"Selection(N={len(self)}, shots={len(self.shots)}, method={self.method!r})"


METHODS = ("fits", "hull", "dp", "gap")


def gap_between(utility: float, bound: float) -> float:
    """The share of `bound` that `utility` falls short of, 0 to 1."""
    return 0.0 if bound <= 0 else min(1.0, max(0.0, 1 - utility / bound))


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """What `allocate` decided: a scale per candidate (0 = left out), and the proof.

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
        object.__setattr__(self, "scale_N", _frozen_array(self.scale_N, np.int64, (None,), "scale_N"))

    @property
    def gap(self) -> float:
        """The certificate: `utility >= (1 - gap) * bound`."""
        return gap_between(self.utility, self.bound)


@dataclass(frozen=True, slots=True)
class PlannedFrame:
    """One frame the model will be shown."""

    pts: int
    scale: int
    shot: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        check_scale(self.scale)


@dataclass(frozen=True, slots=True)
class Focus:
    """What made a plan one question's own.

    Attributes:
        question: it.
        measure: how relevance was told: "times" (it names them) or "attention" (the model's, at a first look).
        first_tokens: visual tokens that the first look cost; they are part of the budget.
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
    `estimate` says what the utility of a frame was taken from. `focus` is set where a question
    decided what is shown; the tokens of its first look and those of the frames together stay within the budget.
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
        """Visual tokens of the first look, 0 where there was none."""
        return 0 if self.focus is None else self.focus.first_tokens

    @property
    def total_tokens(self) -> int:
        return sum(frame.scale for frame in self.frames) if self.grid_tokens is None else self.grid_tokens

    @property
    def gap(self) -> float:
        """The certificate: `utility >= (1 - gap) * bound`."""
        return gap_between(self.utility, self.bound)

    @property
    def shots_seconds(self) -> list[float]:
        """When each shot begins, and at last when what is looked at ends: at the setting `end`, or with the video."""
        if not self.shots:
            return []
        until = self.video.pts_seconds(self.video.until_pts)
        until = until if self.config.get("end") is None else min(until, self.config["end"])
        # A scan that skips frames may have looked at none near the end, but frames before it stand for that time.
        until = max(until, self.video.pts_seconds(self.shots[-1][1]))
        return [*(self.video.pts_seconds(start) for start, _ in self.shots), until]


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


def total_tokens(scales: Iterable[int]) -> int:
    """Sum of scales, each checked."""
    return sum(check_scale(scale) for scale in scales)
