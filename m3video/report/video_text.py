"""Text and JSON for the facts of a video file and for the measurements of its first pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_FROZEN, SCALES, FrameStats, VideoInfo
from m3video.utils.clock import clock


def info_record(info: VideoInfo) -> dict[str, Any]:
    """Return a `VideoInfo` as JSON values, with times in seconds beside the integer pts."""
    return {
        **asdict(info),
        "start_seconds": info.pts_seconds(info.start_pts),
        "end_seconds": info.pts_seconds(info.until_pts),
        "duration_seconds": info.duration_seconds,
    }


def info_text(info: VideoInfo) -> str:
    """Return a `VideoInfo` as labelled lines."""
    rotation = f", turned by {info.rotation} degrees" if info.rotation else ""
    header = "" if info.num_frames_from_header is None else f" (header: {info.num_frames_from_header})"
    start, end = info.pts_seconds(info.start_pts), info.pts_seconds(info.until_pts)
    base = f"{info.time_base[0]}/{info.time_base[1]}"
    rows = [
        ("file", info.path),
        ("picture", f"{info.width} x {info.height}{rotation}, {info.pixel_format}"),
        ("codec", f"{info.codec} in {info.container}, read with {info.backend}"),
        ("frames", f"{info.num_frames}{header}, {info.num_keyframes} keyframes"),
        ("time", f"{clock(start)} to {clock(end)} ({info.duration_seconds:.3f} s)"),
        ("pts", f"{info.start_pts} to {info.end_pts}, time base {base}{_origin_text(info)}"),
        ("content", info.fingerprint),
    ]
    if info.num_damaged_packets:
        rows.append(("damaged", f"{info.num_damaged_packets} packets"))
    return "\n".join(f"{name:<9}{value}" for name, value in rows)


def _origin_text(info: VideoInfo) -> str:
    """Return where 0:00 lies on the scale of pts, when it is not pts 0."""
    return f", 0:00 is {info.origin[0] / info.origin[1]:.6g} s" if info.origin[0] else ""


def stats_record(info: VideoInfo, stats: FrameStats, *, shots: int) -> dict[str, Any]:
    """Return the summary that `analyze` prints, as JSON values."""
    flags = stats.flags_N
    return {
        "frames": len(stats),
        "duration_seconds": info.duration_seconds,
        "partial": info.partial,
        "shots": shots,
        "black_frames": int(((flags & FLAG_BLACK) > 0).sum()),
        "frozen_frames": int(((flags & FLAG_FROZEN) > 0).sum()),
        "corrupt_frames": int(((flags & FLAG_CORRUPT) > 0).sum()),
        "mean_loss": [round(float(value), 3) for value in stats.loss_NS.mean(axis=0)],
        "mean_peak": [round(float(value), 3) for value in stats.peak_NS.mean(axis=0)],
        "mean_change": round(float(stats.change_N.mean()), 4),
        "mode": stats.mode,
    }


def stats_text(record: Mapping[str, Any]) -> str:
    """Return a `stats_record` as a short table."""
    rows = [
        f"{record['frames']} frames, {record['duration_seconds']:.2f} s, {record['shots']} shots",
        f"black {record['black_frames']}, frozen {record['frozen_frames']}, corrupt {record['corrupt_frames']}",
        f"{'loss against 24x24 at':<22}" + "".join(f"{f'{scale} tok':>10}" for scale in SCALES[:-1]),
    ]
    for label, key in (("mean over the frame", "mean_loss"), ("worst 5 % of it", "mean_peak")):
        rows.append(f"{label:<22}" + "".join(f"{value:>10.0f}" for value in record[key][:-1]))
    return "\n".join(rows)
