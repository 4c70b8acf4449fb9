"""Videos, stats and answers as JSON records and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from m3video.planning.plan_file import to_json
from m3video.report.plan_text import plan_text
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_FROZEN, SCALES, Answer, FrameStats, VideoInfo
from m3video.utils.clock import clock
from m3video.utils.text import counted


def info_record(info: VideoInfo) -> dict[str, Any]:
    """`VideoInfo` as JSON, with the seconds that people want beside the integers."""
    return {
        **asdict(info),
        "start_seconds": info.pts_seconds(info.start_pts),
        "end_seconds": info.pts_seconds(info.until_pts),
        "duration_seconds": info.duration_seconds,
    }


def info_text(info: VideoInfo) -> str:
    """`VideoInfo` for people."""
    turned = f", turned by {info.rotation} degrees" if info.rotation else ""
    said = "" if info.num_frames_from_header is None else f" (header: {info.num_frames_from_header})"
    rows = [
        ("file", info.path),
        ("picture", f"{info.width} x {info.height}{turned}, {info.pixel_format}"),
        ("codec", f"{info.codec} in {info.container}, read with {info.backend}"),
        ("frames", f"{info.num_frames}{said}, {info.num_keyframes} keyframes"),
        (
            "time",
            f"{clock(info.pts_seconds(info.start_pts))} to "
            f"{clock(info.pts_seconds(info.until_pts))} "
            f"({info.duration_seconds:.3f} s)",
        ),
        ("pts", f"{info.start_pts} to {info.end_pts}, time base {info.time_base[0]}/{info.time_base[1]}{_zero(info)}"),
        ("content", info.fingerprint),
    ]
    if info.num_damaged_packets:
        rows.append(("damaged", f"{info.num_damaged_packets} packets"))
    return "\n".join(f"{name:<9}{value}" for name, value in rows)


def _zero(info: VideoInfo) -> str:
    """Where the clock of the line above begins, if that is not pts 0."""
    return f", 0:00 is {info.origin[0] / info.origin[1]:.6g} s" if info.origin[0] else ""


def stats_record(info: VideoInfo, stats: FrameStats, *, shots: int) -> dict[str, Any]:
    """What `analyze` found, summed up."""
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
    """`stats_record` for people."""
    rows = [
        f"{record['frames']} frames, {record['duration_seconds']:.2f} s, {record['shots']} shots",
        f"black {record['black_frames']}, frozen {record['frozen_frames']}, corrupt {record['corrupt_frames']}",
        f"{'loss against 24x24 at':<22}" + "".join(f"{f'{scale} tok':>10}" for scale in SCALES[:-1]),
    ]
    for label, key in (("mean over the frame", "mean_loss"), ("worst 5 % of it", "mean_peak")):
        rows.append(f"{label:<22}" + "".join(f"{value:>10.0f}" for value in record[key][:-1]))
    return "\n".join(rows)


def answer_record(answer: Answer) -> dict[str, Any]:
    """`Answer` as JSON; the plan is in the layout of plan.json."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "model": answer.model,
        "evidence": [asdict(item) for item in answer.evidence],
        "tokens": {
            "visual": answer.visual_tokens,
            "prompt": answer.prompt_tokens,
            "answer": answer.answer_tokens,
            "reused": answer.reused_tokens,
        },
        "cached": {"frames": answer.cached_frames, "scan": answer.is_scan_cached},
        "stage_seconds": {name: round(value, 4) for name, value in answer.stage_seconds.items()},
        "peak_memory_bytes": dict(answer.peak_memory_bytes),
        "warnings": list(answer.warnings),
        "config": dict(answer.config),
        "plan": to_json(answer.plan),
    }


def evidence_lines(answer: Answer) -> list[str]:
    """When the model looked, a line for each time range."""
    return [
        f"  {clock(item.start_seconds)} - {clock(item.end_seconds)}   "
        f"{counted(item.num_frames, 'frame')}, {counted(item.num_tokens, 'token')}"
        for item in answer.evidence
    ]


def cost_lines(answer: Answer) -> list[str]:
    """Tokens, seconds and memory of an answer, and what did not have to be done again."""
    cost = ", ".join(f"{name} {value:.2f} s" for name, value in answer.stage_seconds.items())
    peak = max(answer.peak_memory_bytes.values(), default=0) / 2**20
    kept = [
        f"{answer.cached_frames} of {counted(len(answer.plan.frames), 'frame')}" if answer.cached_frames else "",
        "the scan" if answer.is_scan_cached else "",
        f"{answer.reused_tokens} prompt tokens" if answer.reused_tokens else "",
    ]
    reused = ", ".join(part for part in kept if part)
    lines = [
        f"{answer.model}: {answer.prompt_tokens} prompt tokens, {answer.visual_tokens} of them visual; "
        f"{answer.answer_tokens} in the answer",
        f"{cost}; peak memory {peak:.0f} MiB",
    ]
    return lines + ([f"not done again: {reused}"] if reused else [])


def answer_text(answer: Answer) -> str:
    """The answer, what the model looked at, the plan, and the cost."""
    return "\n".join(
        [answer.text, "", "looked at", *evidence_lines(answer), "", plan_text(answer.plan), "", *cost_lines(answer)]
    )
