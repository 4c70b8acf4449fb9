"""Files of benchmarks as rows: found, read, and refused in one line where a column is not what was published."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3video.errors import UsageError
from m3video.utils.text import first_line, nearest, printable, read_text

Row = dict[str, Any]


def find(data: Path, *patterns: str) -> Path | None:
    """Return the file that the first matching pattern names.

    Args:
        data: a folder, or the file itself.
        patterns: of paths below the folder, the published one first.

    Raises:
        UsageError: `data` is not there, or one pattern matches several files.
    """
    if not data.exists():
        raise UsageError(f"--data ({printable(data)}) is not there: give the folder with the benchmark's files")
    if data.is_file():
        return data if any(_matches(data, pattern) for pattern in patterns) else None
    below = sorted(path for path in data.rglob("*") if path.is_file())
    for pattern in patterns:
        found = [path for path in below if _matches(path, pattern)]
        if len(found) > 1:
            names = ", ".join(printable(path.relative_to(data)) for path in found[:3])
            raise UsageError(f"--data ({printable(data)}) holds several files {pattern} ({names}): give one of them")
        if found:
            return found[0]
    return None


def _matches(path: Path, pattern: str) -> bool:
    # Published names differ in case between copies: "NExT_QA.csv", "Next_QA.csv".
    return Path(str(path).lower()).match(pattern.lower())


def found(data: Path, *patterns: str) -> Path:
    """Return that file; UsageError where there is none."""
    path = find(data, *patterns)
    if path is None:
        raise UsageError(
            f"--data ({printable(data)}) has no file {' or '.join(patterns)}: give the folder with it, or the file"
        )
    return path


def read_rows(path: Path, *, separator: str = ",") -> list[Row]:
    """Read a table: `.parquet`, `.csv` and `.tsv` with a header, `.json` with a list of objects, `.jsonl`.

    Raises:
        UsageError: the file cannot be read, or holds no rows.
    """
    try:
        rows = _read(path, separator)
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueError or OSError
        raise UsageError(f"{printable(path)} cannot be read: {first_line(error, limit=120)}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{printable(path)} is no list of objects, or an empty one: is it the published file?")
    return rows


def _read(path: Path, separator: str) -> Any:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path).to_pylist()
    text = read_text(path)
    if path.suffix in (".csv", ".tsv"):
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = list(reader)
        for number, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise ValueError(f"row {number} has not as many values as the header")
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    return json.loads(text)


def need(path: Path, rows: Sequence[Row], *columns: str) -> None:
    """Check that every row has the columns, of those the published file has.

    Raises:
        UsageError: one lacks; the line names it, and the nearest name that is there.
    """
    for number, row in enumerate(rows, 1):
        for column in columns:
            if column not in row:
                near = nearest(column, [name for name in row if name not in columns])
                there = f"did {near} take its place" if near else f"it has {', '.join(map(str, row))}"
                raise UsageError(
                    f"{printable(path)}, row {number} has no {column}: {there}? The format has changed, or is another"
                )


def option_number(path: Path, number: int, value: Any, count: int) -> int | None:
    """Return an answer that is the 0-based number of an option; None where there is no answer.

    Raises:
        UsageError: it is none.
    """
    if value is None or value == "":
        return None
    try:
        chosen = int(value)
    except (TypeError, ValueError):
        chosen = -1
    if not 0 <= chosen < count:
        raise UsageError(f"{printable(path)}, row {number}: answer ({value}) must be a number from 0 to {count - 1}")
    return chosen


def option_letter(path: Path, number: int, value: Any, count: int) -> int | None:
    """Return the 0-based number of an answer that is a letter from A on; None where there is no answer.

    Raises:
        UsageError: it is none.
    """
    if value is None or not str(value).strip():
        return None
    text = str(value).strip().strip("().")
    chosen = ord(text) - ord("A") if len(text) == 1 else -1
    if not 0 <= chosen < count:
        last = chr(ord("A") + count - 1)
        raise UsageError(f"{printable(path)}, row {number}: answer ({value}) must be a letter from A to {last}")
    return chosen


def option_text(path: Path, number: int, value: Any, options: Sequence[str]) -> int | None:
    """Return the 0-based number of an answer that is an option's text; None where there is no answer.

    Raises:
        UsageError: it is none.
    """
    if value is None or not str(value).strip():
        return None
    if str(value) not in options:
        raise UsageError(f"{printable(path)}, row {number}: answer ({value}) is none of the options")
    return list(options).index(str(value))
