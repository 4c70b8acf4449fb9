"""A summary as JSON, CSV, subtitles (SRT, WebVTT) or Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping

from m3video.inference.summary.values import Summary, to_json
from m3video.utils.clock import clock


def as_json(summary: Summary) -> str:
    """Return the summary as one JSON document."""
    return json.dumps(to_json(summary), indent=2, ensure_ascii=False) + "\n"


def as_csv(summary: Summary) -> str:
    """Return CSV with a row for each sentence of the summary, then one for each chapter."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["video", "kind", "start_seconds", "end_seconds", "text"])
    rows.writerows([summary.video, "summary", s.start_seconds, s.end_seconds, s.text] for s in summary.sentences)
    rows.writerows([summary.video, "chapter", c.start_seconds, c.end_seconds, c.caption] for c in summary.chapters)
    return out.getvalue()


def as_srt(summary: Summary) -> str:
    """Return the chapters as SubRip subtitles."""
    return srt_cues((c.start_seconds, c.end_seconds, c.caption) for c in summary.chapters)


def srt_cues(cues: Iterable[tuple[float, float, str]]) -> str:
    """Return SubRip subtitles.

    Args:
        cues: start and end in seconds as a player shows them, and the text.
    """
    return "".join(
        f"{number}\n{_span(start, end, ',')}\n{_cue(text)}\n\n" for number, (start, end, text) in enumerate(cues, 1)
    )


def as_vtt(summary: Summary) -> str:
    """Return the chapters as WebVTT cues, and the summary as a note."""
    note = summary.text.replace("-->", "->")
    cues = "".join(
        f"{number}\n{_span(c.start_seconds, c.end_seconds, '.')}\n{_escaped(_cue(c.caption))}\n\n"
        for number, c in enumerate(summary.chapters, 1)
    )
    return f"WEBVTT\n\nNOTE {note}\n\n{cues}"


def as_md(summary: Summary) -> str:
    """Return a Markdown page: the summary with its times, the chapters, the notes."""
    lines = [f"# {summary.video}", ""]
    lines += [f"- {s.text} ({clock(s.start_seconds)} - {clock(s.end_seconds)})" for s in summary.sentences]
    lines += ["", "## Chapters", "", "| time | shots | what is seen |", "|---|---|---|"]
    lines += [
        f"| {clock(c.start_seconds)} - {clock(c.end_seconds)} | {c.num_shots} | {_cell(c.caption)} |"
        for c in summary.chapters
    ]
    lines += ["", f"Model {summary.model}, {sum(c.visual_tokens for c in summary.chapters)} visual tokens."]
    lines += [f"Note: {warning}" for warning in summary.warnings]
    return "\n".join(lines) + "\n"


FORMATS: Mapping[str, Callable[[Summary], str]] = {
    "json": as_json,
    "csv": as_csv,
    "srt": as_srt,
    "vtt": as_vtt,
    "md": as_md,
}


def _span(start_seconds: float, end_seconds: float, point: str) -> str:
    """Return the time line of a cue; its times are in player time already."""
    return " --> ".join(_stamp(seconds, point) for seconds in (start_seconds, end_seconds))


def _stamp(seconds: float, point: str) -> str:
    """Return a time stamp, e.g. `01:02:03,004`."""
    milliseconds = round(max(0.0, seconds) * 1000)
    hours, rest = divmod(milliseconds // 1000, 3600)
    return f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}{point}{milliseconds % 1000:03d}"


def _cue(text: str) -> str:
    """Return text for a cue, without empty lines, which would end it, and arrows, which would begin another."""
    return " ".join(text.replace("-->", "->").split()) or "-"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
