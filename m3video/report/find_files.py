"""What a search has found, as text, JSON, CSV or subtitles (SRT)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from m3video.inference.find import Found, FoundRange
from m3video.report.summary_files import srt_cues
from m3video.utils.clock import clock
from m3video.utils.text import counted

_PERCENT = 100


def found_record(found: Found, ranges: Sequence[FoundRange]) -> dict[str, Any]:
    """Return plain values for JSON; `ranges` are those of `found` that are wanted."""
    return {
        "video": found.video.path,
        "query": found.query,
        "question": found.question,
        "model": found.model,
        "ranges": [asdict(one) for one in ranges],
        "asked": [asdict(one) for one in found.asked],
        "widest_gap_seconds": found.widest_gap_seconds,
        "tokens": {"scale": found.scale, "visual": found.visual_tokens},
        "seconds": found.seconds,
        "warnings": list(found.warnings),
    }


def found_text(found: Found, ranges: Sequence[FoundRange]) -> str:
    """Return the ranges as lines, best first, and what was looked at."""
    spans = [f"{clock(one.start_seconds)} - {clock(one.end_seconds)}" for one in ranges]
    width = max(map(len, spans), default=0)
    lines = [f"{one.score * _PERCENT:3.0f} %  {span:<{width}}" for one, span in zip(ranges, spans, strict=True)]
    lines = [line.rstrip() for line in lines] or ["seen nowhere"]
    more = len(found.ranges) - len(ranges)
    lines += [f"and {more} more: use a larger --top"] if more else []
    return "\n".join(
        [
            *lines,
            "",
            f'{found.model} was asked "{found.question}" of {counted(len(found.asked), "frame")} at '
            f"{counted(found.scale, 'token')} each, {found.visual_tokens} in all ({found.seconds:.1f} s)",
            f"not looked at: what is shorter than {found.widest_gap_seconds:.2g} s may lie between two of them",
        ]
    )


def found_csv(found: Found, ranges: Sequence[FoundRange]) -> str:
    """Return CSV with a row for each range."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["video", "query", "start_seconds", "end_seconds", "score", "best_seconds"])
    rows.writerows(
        [found.video.path, found.query, one.start_seconds, one.end_seconds, round(one.score, 4), one.best_seconds]
        for one in ranges
    )
    return out.getvalue()


def found_srt(found: Found, ranges: Sequence[FoundRange]) -> str:
    """Return subtitles that name the query where it is seen, in order of time."""
    in_order = sorted(ranges, key=lambda one: one.start_seconds)
    return srt_cues(
        (one.start_seconds, one.end_seconds, f"{found.query} ({one.score * _PERCENT:.0f} %)") for one in in_order
    )
