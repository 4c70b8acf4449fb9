"""Subtitles of benchmarks: SRT, and the JSON of two sets; and which lines a question is given."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from m3video.errors import UsageError
from m3video.utils.text import first_line, printable, read_text

HEAD = "This video's subtitles are listed below:"
"""As Video-MME's own program has it."""

_TIMES = re.compile(r"(?:(\d+):)?(\d+):(\d\d)[,.](\d{1,3})\s*-->\s*(?:(\d+):)?(\d+):(\d\d)[,.](\d{1,3})")
_TAG = re.compile(r"<[^>\n]*>|\{\\[^}\n]*\}")


class Cue(NamedTuple):
    """One subtitle, in seconds from the start of the video."""

    start: float
    end: float
    text: str


def read_srt(path: Path) -> list[Cue]:
    """Read an SRT file, also with times as WebVTT writes them; markup is dropped.

    Raises:
        UsageError: it cannot be read, or has no cue.
    """
    try:
        text = read_text(path).replace("\r\n", "\n")
    except (OSError, ValueError) as error:
        raise UsageError(f"subtitles {printable(path)} cannot be read: {first_line(error)}") from None
    cues = []
    for block in re.split(r"\n\s*\n", text):
        found = _TIMES.search(block)
        if found is not None:
            words = html.unescape(_TAG.sub("", block[found.end() :]))
            begin, end = (_seconds(found.groups()[n : n + 4]) for n in (0, 4))
            if words.strip():
                cues.append(Cue(begin, end, " ".join(words.split())))
    if not cues:
        raise UsageError(f"subtitles {printable(path)} hold no cue: is it an SRT file?")
    return cues


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, thousandths = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{thousandths}")


def clock_seconds(text: str) -> float:
    """Return `h:mm:ss.fff`, `mm:ss` or `ss` in seconds; ValueError for other text."""
    parts = [float(part) for part in text.strip().split(":")]
    if len(parts) > 3:
        raise ValueError(f"{text} is no time")
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))


def read_subtitle_json(path: Path, *, offset: float = 0.0) -> list[Cue]:
    """Read LongVideoBench's subtitles, `{start, end, line}` or `{timestamp: [start, end], text}`, or Video-MME-v2's,
    `{text, start_time, end_time}` on lines.

    An end that is missing in `timestamp` is the start of the next cue.

    Args:
        path: `.json` or `.jsonl`.
        offset: second of the subtitles at which the video starts.

    Raises:
        UsageError: it cannot be read, or a cue has another form.
    """
    try:
        text = read_text(path)
        rows = json.loads(text) if path.suffix == ".json" else [json.loads(x) for x in text.split("\n") if x.strip()]
        cues = []
        for row, after in zip(rows, [*rows[1:], None], strict=True):
            if "timestamp" in row:
                start, end = row["timestamp"]
                end = end if end is not None else (after["timestamp"][0] if after is not None else start)
                words = row["text"]
            elif "start_time" in row:
                start, end, words = row["start_time"], row["end_time"], row["text"]
            else:
                start, end, words = clock_seconds(row["start"]), clock_seconds(row["end"]), row["line"]
            cues.append(Cue(float(start) - offset, float(end) - offset, " ".join(str(words).split())))
        return cues
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"subtitles {printable(path)} are not in the published form: {first_line(error)}") from None


def at_frames(cues: Sequence[Cue], seconds: Sequence[float]) -> str:
    """Return the text of the cues during which one of the shown frames stands, each once, in order; "" for none.

    Source: Video-MME's program gives the subtitles of the sampled frames.
    """
    shown = sorted(seconds)
    return "\n".join(cue.text for cue in cues if any(cue.start <= second <= cue.end for second in shown))


def with_subtitles(prompt: str, cues: Sequence[Cue], seconds: Sequence[float]) -> str:
    """Return a prompt with the subtitles of the shown frames in front, as it is where there are none."""
    text = at_frames(cues, seconds)
    return f"{HEAD}\n{text}\n{prompt}" if text else prompt
