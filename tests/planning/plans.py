"""A plan to write and read, its JSON values, and values that may stand in a JSON file."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from m3video.planning.plan_file import to_json
from m3video.types import PlannedFrame, TokenPlan, VideoInfo

VIDEO = VideoInfo(
    path="film.mp4",
    fingerprint="sha256:1",
    backend="pyav",
    container="mp4",
    codec="h264",
    pixel_format="yuv420p",
    width=1920,
    height=1080,
    rotation=90,
    time_base=(1, 90000),
    start_pts=-3000,
    end_pts=900000,
    last_duration=3000,
    num_frames=302,
    num_keyframes=3,
    num_frames_from_header=300,
    duration_seconds_from_header=10.0,
    notes=("times are derived",),
)
PLAN = TokenPlan(
    video=VIDEO,
    budget=720,
    frames=(PlannedFrame(-3000, 144, 0, "shot"), PlannedFrame(90001, 576, 1, "change")),
    utility=12.5,
    bound=12.75,
    num_candidates=16,
    shots=((-3000, 90000), (90000, 903000)),
    config={"budget": 720, "start": None, "sampling": "shots"},
    warnings=("1 of 2 shots", "für alle"),
    method="dp",
    text_tokens=42,
    scan="nonref",
    num_analyzed=151,
)


def written() -> dict[str, Any]:
    """Return the plan as JSON values, to be altered."""
    return json.loads(json.dumps(to_json(PLAN)))


TEXTS = st.text(max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)

LATER_FIELDS = (
    "gap",
    "method",
    "text_tokens",
    "scan",
    "num_analyzed",
    "num_repeats",
    "candidates_why",
    "estimate",
    "focus",
)
"""Fields that older plans lack."""
