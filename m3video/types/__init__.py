"""The values that travel between the stages. Each is frozen and checked when it is made.

Shape legend: N frames, S the five scales of `SCALES`, H W picture height and width, T tokens, D width.
Times are integer `pts` in ticks of `time_base`; seconds are derived for display and never stored as truth. Displayed
seconds have one clock: `clock_seconds`, which counts from the start of the file's earliest stream, as players do.
"""

from m3video.types.answer import Answer, CitedRange, Evidence
from m3video.types.base import TimeBase, seconds
from m3video.types.plan import METHODS, Allocation, Focus, PlannedFrame, TokenPlan, gap_between, total_tokens
from m3video.types.scales import FULL_SCALE, FULL_SIDE, GRID_SIDES, SCALES, check_scale
from m3video.types.stats import (
    FLAG_BLACK,
    FLAG_CORRUPT,
    FLAG_FROZEN,
    FLAG_KEY,
    SIGNATURE_SIDE,
    TEXTURE_SIDE,
    FrameStats,
    Selection,
)
from m3video.types.video import SCAN_SIDE, SCANS, Frame, ScanFrame, Stretch, VideoInfo

__all__ = [
    "FLAG_BLACK",
    "FLAG_CORRUPT",
    "FLAG_FROZEN",
    "FLAG_KEY",
    "FULL_SCALE",
    "FULL_SIDE",
    "GRID_SIDES",
    "METHODS",
    "SCALES",
    "SCANS",
    "SCAN_SIDE",
    "SIGNATURE_SIDE",
    "TEXTURE_SIDE",
    "Allocation",
    "Answer",
    "CitedRange",
    "Evidence",
    "Focus",
    "Frame",
    "FrameStats",
    "PlannedFrame",
    "ScanFrame",
    "Selection",
    "Stretch",
    "TimeBase",
    "TokenPlan",
    "VideoInfo",
    "check_scale",
    "gap_between",
    "seconds",
    "total_tokens",
]
