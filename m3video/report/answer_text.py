"""An answer as text for the terminal and as JSON: evidence, plan and cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from m3video.planning.plan_file import to_json
from m3video.report.plan_text import plan_text
from m3video.types import Answer, Evidence
from m3video.utils.clock import clock
from m3video.utils.text import counted

MOST_RANGES = 16
"""Time ranges that are named in text."""


def answer_record(answer: Answer) -> dict[str, Any]:
    """Return an `Answer` as JSON values, with the plan as in plan.json."""
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


def main_evidence(answer: Answer) -> tuple[list[Evidence], int]:
    """Return the time ranges to name, in order, and how many more there are: of many, those with the most tokens."""
    most = sorted(answer.evidence, key=lambda item: -item.num_tokens)[:MOST_RANGES]
    return sorted(most, key=lambda item: item.start_seconds), len(answer.evidence) - len(most)


def _evidence_lines(answer: Answer) -> list[str]:
    """Return a line for each time range to name."""
    named, more = main_evidence(answer)
    lines = [
        f"  {clock(item.start_seconds)} - {clock(item.end_seconds)}   "
        f"{counted(item.num_frames, 'frame')}, {counted(item.num_tokens, 'token')}"
        for item in named
    ]
    return lines + ([f"  and {counted(more, 'more range')} with fewer tokens; --json has all"] if more else [])


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


def answer_text(answer: Answer) -> str:
    """Return the answer with its evidence, plan and cost."""
    return "\n".join(
        [answer.text, "", "looked at", *_evidence_lines(answer), "", plan_text(answer.plan), "", *cost_lines(answer)]
    )
