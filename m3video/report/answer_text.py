"""An answer as text for the terminal and as JSON: confidence, evidence, plan and cost."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from m3video.planning.plan_file import to_json
from m3video.report.plan_text import plan_text
from m3video.types import Answer, Evidence
from m3video.utils.clock import clock
from m3video.utils.text import counted

MOST_RANGES = 16
"""Cited ranges that are named in text."""


def answer_record(answer: Answer) -> dict[str, Any]:
    """Return an `Answer` as JSON values, with the plan as in plan.json."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "confidence": None if answer.confidence is None else round(answer.confidence, 3),
        "withheld": answer.withheld,
        "model": answer.model,
        "evidence": None if answer.evidence is None else asdict(answer.evidence),
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


def evidence_lines(evidence: Evidence, text: str) -> list[str]:
    """Return what the answer `text` rests on, one line for each range to name and one for the test of them together."""
    if evidence.verdict == "unsupported":
        return ["rests on nothing shown: the model gives this answer without any frame"]
    if evidence.verdict == "spread":
        (all_shown,) = evidence.ranges
        return [
            f"rests on no single moment: the answer stays, whichever part of {clock(all_shown.start_seconds)} - "
            f"{clock(all_shown.end_seconds)} is left out"
        ]
    most = sorted(evidence.ranges, key=lambda one: -one.nats)[:MOST_RANGES]
    lines = ["rests on"]
    for one in sorted(most, key=lambda one: one.start_seconds):
        span = f"{clock(one.start_seconds)} - {clock(one.end_seconds)}"
        lines.append(f"  {span}   {counted(len(one.pts), 'frame')}, {one.nats:.1f} nats")
    if more := len(evidence.ranges) - len(most):
        lines.append(f"  and {counted(more, 'more range')} with less support; --json has all")
    return [*lines, f"  {_test_of(evidence, text)}"]


def _test_of(evidence: Evidence, text: str) -> str:
    """Return what became of the answer without the cited frames, and with them alone."""
    without = f'without that: "{evidence.instead}"' if evidence.instead else "without that: no answer"
    if evidence.instead == text:
        without = "without that the same, but less likely"
    if not evidence.stands_alone:
        return f"{without}; alone it is not enough"
    return f"{without}; alone it is enough, at {counted(evidence.needs_tokens or 0, 'token')} a frame"


def confidence_lines(answer: Answer) -> list[str]:
    """Return a line with the confidence of an answer; none where it was never measured for the model."""
    if answer.confidence is None:
        return []
    # Rounded down: no answer is certain, and one that is withheld is below the limit in print too.
    line = f"confidence {math.floor(answer.confidence * 100) / 100:.2f}"
    if answer.withheld is None:
        return [line]
    return [f"{line}, less than --abstain {answer.config['abstain']:g}: answer withheld"]


def cost_lines(answer: Answer) -> list[str]:
    """Return lines with the tokens, seconds and memory of an answer, and the work that was reused."""
    cost = ", ".join(f"{name} {value:.2f} s" for name, value in answer.stage_seconds.items())
    peak = max(answer.peak_memory_bytes.values(), default=0) / 2**20
    parts = [
        f"{answer.cached_frames} of {counted(len(answer.plan.frames), 'frame')}" if answer.cached_frames else "",
        "the scan" if answer.is_scan_cached else "",
        f"{answer.reused_tokens} prompt tokens" if answer.reused_tokens else "",
    ]
    reused = ", ".join(part for part in parts if part)
    lines = [
        f"{answer.model}: {answer.prompt_tokens} prompt tokens, {answer.visual_tokens} of them visual; "
        f"{answer.answer_tokens} in the answer",
        f"{cost}; peak memory {peak:.0f} MiB",
    ]
    return lines + ([f"reused: {reused}"] if reused else [])


def answer_details(answer: Answer) -> str:
    """Return what stands below an answer: its confidence, evidence, plan and cost."""
    sure = [*confidence_lines(answer), ""] if answer.confidence is not None else []
    rests = [] if answer.evidence is None else [*evidence_lines(answer.evidence, answer.text), ""]
    return "\n".join([*sure, *rests, plan_text(answer.plan), "", *cost_lines(answer)])
