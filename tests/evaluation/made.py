"""Small values for the evaluation tests: records, rows of answers, measurements; no video file is involved."""

from __future__ import annotations

from typing import Any

import numpy as np

from m3video.evaluation.records import Record
from m3video.evaluation.samples import SampleRow
from m3video.evaluation.view import ClipView
from m3video.model.m3.saliency import QuestionAttention
from m3video.types import SCALES, FrameStats, VideoInfo

TIME_BASE = (1, 1000)


def record(number: int, *, clip: str = "c", answer: str = "red", **changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": f"q{number}",
        "video": "v.mp4",
        "question": "what colour is it",
        "answer": answer,
        "family": "background",
        "group": "coarse",
        "localised": True,
        "clip": clip,
    }
    return Record(**{**values, **changes})


def row(
    about: Record,
    method: str,
    budget: int,
    *,
    right: bool,
    shown_as: str | None = None,
    visual: int = 10,
    said: str | None = None,
) -> SampleRow:
    return {
        "doc_id": about.id,
        "method": method,
        "shown_as": shown_as or method,
        "budget": budget,
        "acc": float(right),
        "filtered_resps": [said or (about.answer if right else "wrong")],
        "frames": 2,
        "plan_seconds": 0.0,
        "answer_seconds": 0.5,
        "token_counts": {"input_tokens": visual + 5, "output_tokens": 1, "visual_tokens": visual, "text_tokens": 5},
    }


def view(seed: int, frames: int, *, max_frames: int, moments: tuple[float, ...] = ()) -> ClipView:
    """A clip of random takes, uneven in time, as hard to represent as chance wants."""
    rng = np.random.default_rng(seed)
    pts = np.cumsum(rng.choice([33, 40, 900], frames))
    takes = np.cumsum(rng.random(frames) < 0.1)
    grey = (takes * 67 % 256).astype(np.uint8)
    peak = np.sort(rng.exponential(1000, (frames, len(SCALES))), axis=1)[:, ::-1] * (rng.random((frames, 1)) < 0.7)
    peak[:, -1] = 0
    stats = FrameStats(
        pts_N=pts,
        loss_NS=peak / 4,
        peak_NS=peak,
        luma_N=grey,
        sharpness_N=rng.random(frames),
        change_N=np.abs(np.diff(grey.astype(float), prepend=grey[0])),
        flags_N=np.zeros(frames),
        strokes_NC=np.zeros((frames, 144)),
        pattern_NC=np.zeros((frames, 144)),
        signature_NK=np.repeat(grey[:, None], 108, axis=1),
        edge_2HW=np.zeros((2, 144, 144)),
        time_base=TIME_BASE,
    )
    info = VideoInfo(
        path="v.mp4",
        fingerprint="f",
        backend="pyav",
        container="mp4",
        codec="h264",
        pixel_format="yuv420p",
        width=320,
        height=180,
        rotation=0,
        time_base=TIME_BASE,
        start_pts=int(pts[0]),
        end_pts=int(pts[-1]),
        last_duration=40,
        num_frames=frames,
        num_keyframes=1,
    )
    clip = ClipView(info, stats, max_frames=max_frames, moments=moments)
    clip.attend = lambda record, pts, scales: QuestionAttention(
        np.random.default_rng(seed).dirichlet(np.ones(len(pts)) / 4), 0.5
    )
    return clip
