"""Hand-written JSONL files of questions: one object a line; unknown keys are errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from m3video.errors import UsageError
from m3video.utils.text import check_text, each_key_once, nearest, printable, read_text

QUESTION_KEYS = ("question", "answer", "options", "id", "video")
"""Keys of a question; `video` is relative to the folder of the file."""

RECORD_KEYS = (
    *QUESTION_KEYS,
    *("family", "group", "localised", "clip", "metric", "evidence", "moment", "reference", "prompt", "duration"),
)
"""Those, and further keys of the records of `m3video eval`: the same files are accepted everywhere."""

RELATIVE = "video is a path relative to the folder of the questions"


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a file of questions, each with its place: `PATH, line N`.

    Args:
        path: UTF-8, with or without a byte-order mark; blank lines are skipped.

    Raises:
        UsageError: the file is not readable or not UTF-8, or a line is no JSON object, has a key that is unknown (the
            nearest is named) or repeated, or has text that cannot be written as UTF-8.
    """
    try:
        # Not splitlines(): a JSON text may hold the other line ends of Unicode.
        lines = read_text(path).split("\n")
    except OSError as error:
        raise UsageError(f"questions {printable(path)} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"questions {printable(path)} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{printable(path)}, line {number}"
        try:
            value = json.loads(line, object_pairs_hook=each_key_once)
        except json.JSONDecodeError:
            raise UsageError(f"{where} is not JSON") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: {error}") from None
        if not isinstance(value, dict):
            raise UsageError(f"{where} is no JSON object")
        _refuse_unknown(value, where)
        for key in ("question", "answer", "options"):
            for text in value[key] if isinstance(value.get(key), list) else [value.get(key)]:
                if isinstance(text, str):
                    check_text(text, f"{where}: {key}")
        yield where, value


def _refuse_unknown(value: dict[str, Any], where: str) -> None:
    """Raise `UsageError` for an unknown key: ignoring it would change what the line means."""
    for key in value:
        if key in RECORD_KEYS:
            continue
        near = nearest(key.lower(), QUESTION_KEYS) or nearest(key.lower(), RECORD_KEYS)
        also = f" ({RELATIVE})" if near == "video" else ""
        ways = f"did you mean {near}?{also}" if near else f"known are {', '.join(QUESTION_KEYS)}"
        raise UsageError(f"{where}: unknown key '{printable(key)}'; {ways}")
