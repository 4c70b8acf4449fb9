"""Notes as files: JSON, CSV, subtitles, Markdown, a report that is one page, and lists for video editors.

JSON, CSV, Markdown and the report hold answers and marks; subtitles and edit lists hold marks only, because an answer
belongs to no one moment.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import PurePosixPath
from typing import Any

from m3video import __version__
from m3video.report.plan_page import STYLE
from m3video.report.plan_plot import COLOURS
from m3video.report.thumbnails import telling
from m3video.serve.errors import RequestError
from m3video.types import PlannedFrame, VideoInfo
from m3video.utils.clock import clock

POINT_SECONDS = 2.0
"""How long a mark at one time is shown as a subtitle, and how long a clip it makes in an edit list."""

MOST_PICTURES = 12
"""Pictures of one answer in a report, about 6 KB each."""

Info = Callable[[], VideoInfo]
"""Reads what the file says; called only by formats that need it."""

Picture = Callable[[PlannedFrame], "bytes | None"]
"""The JPEG of a frame as coarse as it was shown."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The notes of one video, rows as `Notes.of` returns them."""

    video: str
    answers: list[dict[str, Any]]
    marks: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Exported:
    """A file: its bytes, the ending of its name, and its media type."""

    data: bytes
    ending: str
    content_type: str


def file_name(video: str, ending: str) -> str:
    """Return the name of an export: that of the video with another ending."""
    return f"{PurePosixPath(video).stem}{ending}"


def as_json(kept: Kept, read_info: Info, picture: Picture) -> Exported:
    """Everything that is kept, with the record of each answer."""
    value = {"schema": "m3video.notes/1", "video": kept.video, "answers": kept.answers, "marks": kept.marks}
    return _text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", ".notes.json", "application/json")


def as_csv(kept: Kept, read_info: Info, picture: Picture) -> Exported:
    """One row for each answer and each mark; a byte-order mark makes spreadsheets read UTF-8."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["kind", "start_seconds", "end_seconds", "question", "text", "model", "visual_tokens", "made"])
    for one in kept.answers:
        record = one["record"]
        tokens = record.get("tokens", {}).get("visual", "")
        row = ["answer", "", "", one["question"], one["answer"], record.get("model", ""), tokens, _day(one["asked_at"])]
        table.writerow([_harmless(cell) for cell in row])
    for one in kept.marks:
        until = "" if one["until"] is None else one["until"]
        table.writerow(["mark", one["start"], until, "", _harmless(one["text"]), "", "", _day(one["made_at"])])
    return Exported(b"\xef\xbb\xbf" + out.getvalue().encode(), ".notes.csv", "text/csv")


def as_srt(kept: Kept, read_info: Info, picture: Picture) -> Exported:
    """Marks as SubRip subtitles."""
    cues = [
        f"{number}\n{_stamp(start, ',')} --> {_stamp(until, ',')}\n{_cue(text)}\n"
        for number, (start, until, text) in enumerate(cues_of(kept), 1)
    ]
    return _text("\n".join(cues), ".srt", "application/x-subrip")


def as_vtt(kept: Kept, read_info: Info, picture: Picture) -> Exported:
    """Marks as WebVTT subtitles."""
    cues = [
        f"{_stamp(start, '.')} --> {_stamp(until, '.')}\n{escape(_cue(text), quote=False)}\n"
        for start, until, text in cues_of(kept)
    ]
    return _text("\n".join(["WEBVTT\n", *cues]), ".vtt", "text/vtt")


def as_markdown(kept: Kept, read_info: Info, picture: Picture) -> Exported:
    """Questions, answers with the times that were looked at, and marks."""
    lines = [f"# {_plain(kept.video)}", ""]
    for one in kept.answers:
        lines += [f"## {_plain(one['question'])}", "", _plain(one["answer"]), "", f"*{_about(one)}*", ""]
    if kept.marks:
        lines += ["## Marks", "", "| time | |", "|---|---|"]
        lines += [f"| {_range(one)} | {_plain(one['text']).replace('|', '&#124;')} |" for one in kept.marks]
        lines.append("")
    return _text("\n".join(lines), ".md", "text/markdown")


def as_report(kept: Kept, read_info: Info, picture: Picture) -> Exported:
    """One page with everything inside: it needs neither scripts nor a network."""
    name = escape(kept.video)
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{name}</title><style>{STYLE}</style></head>",
        f'<body><h1 dir="auto">{name}</h1>',
    ]
    for one in kept.answers:
        parts += [f'<h2 dir="auto">{escape(one["question"])}</h2>', f'<p dir="auto">{escape(one["answer"])}</p>']
        parts += [f"<p>{escape(_about(one))}</p>", *_gallery(one["record"], picture)]
    if kept.marks:
        parts.append("<h2>Marks</h2><dl>")
        parts += [f'<dt>{_range(one)}</dt><dd dir="auto">{escape(one["text"])}</dd>' for one in kept.marks]
        parts.append("</dl>")
    if not (kept.answers or kept.marks):
        parts.append("<p>Nothing was asked or marked.</p>")
    parts.append(f"<p>m3video {escape(__version__)}, {_day(datetime.now(UTC).timestamp())}</p></body></html>")
    return _text("\n".join(parts) + "\n", ".report.html", "text/html")


def _gallery(record: dict[str, Any], picture: Picture) -> list[str]:
    """Return pictures of the frames that the model was shown, each as coarse as it was shown."""
    shown = {one["pts"]: one for one in record.get("plan", {}).get("frames", [])}
    frames = telling([PlannedFrame(one["pts"], one["scale"]) for one in shown.values()], MOST_PICTURES)
    figures = []
    for frame in frames:
        jpeg = picture(frame)
        words = f"{clock(shown[frame.pts]['pts_seconds'])}, {frame.scale} token{'' if frame.scale == 1 else 's'}"
        source = "" if jpeg is None else f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"'
        words += "" if jpeg is not None else ", cannot be decoded"
        style = f"border-color: {COLOURS[frame.scale]}"
        figures.append(
            f'<figure><img alt="Frame at {words}" style="{style}" {source}><figcaption>{words}</figcaption></figure>'
        )
    more = f"<p>{len(figures)} of the {len(shown)} frames shown.</p>" if len(figures) < len(shown) else ""
    return [f'<div class="frames">{"".join(figures)}</div>{more}'] if figures else []


def _about(answer: dict[str, Any]) -> str:
    """Return a line with the model, the cost and the times of an answer."""
    record = answer["record"]
    ranges = (record.get("evidence") or {}).get("ranges", [])
    most = sorted(sorted(ranges, key=lambda one: -one["nats"])[:6], key=lambda one: one["start_seconds"])
    times = ", ".join(f"{clock(one['start_seconds'])}-{clock(one['end_seconds'])}" for one in most)
    parts = [
        str(record.get("model", "")),
        f"{record['tokens']['visual']} visual tokens" if "tokens" in record else "",
        f"rests on {times}{' and more' if len(ranges) > len(most) else ''}" if times else "",
        _day(answer["asked_at"]),
    ]
    return "; ".join(part for part in parts if part)


def cues_of(kept: Kept) -> list[tuple[float, float, str]]:
    """Return (start, end, words) of each mark.

    Raises:
        RequestError: there are none.
    """
    if not kept.marks:
        raise RequestError("there are no marks to export in this format: make one first, or export as JSON")
    return [
        (max(0.0, one["start"]), one["start"] + POINT_SECONDS if one["until"] is None else one["until"], one["text"])
        for one in kept.marks
    ]


def _stamp(seconds: float, point: str) -> str:
    thousandths = round(max(0.0, seconds) * 1000)
    whole, thousandths = divmod(thousandths, 1000)
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}{point}{thousandths:03d}"


def _cue(text: str) -> str:
    """Return words for a subtitle: an empty line would end it, an arrow would begin another."""
    lines = [line.strip().replace("-->", "→") for line in text.splitlines() if line.strip()]
    return "\n".join(lines) or "mark"


def _range(mark: dict[str, Any]) -> str:
    return clock(mark["start"]) + ("" if mark["until"] is None else f" - {clock(mark['until'])}")


def _plain(text: str) -> str:
    """Return text for Markdown: one line, in which nothing is markup."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#" else c for c in line)


def _harmless(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _text(text: str, ending: str, content_type: str) -> Exported:
    return Exported(text.encode("utf-8", "replace"), ending, content_type)
