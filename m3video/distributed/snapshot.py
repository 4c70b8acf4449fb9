"""What is done and what failed, as the rows of a batch tell it; reading them changes nothing.

Rows are numbered in the order in which they were made. Reading a folder that a running batch writes to gives a state
that it was in.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from m3video.distributed.items import Item
from m3video.errors import UsageError

SCHEMA = "m3video.batch/1"
Row = dict[str, Any]
Kind = Literal["result", "copy", "error"]
Event = tuple[Kind, Row]


@dataclass(slots=True)
class Snapshot:
    """Facts about items.

    Attributes:
        failed: for each place that failed and is not done, the key of the file that failed; empty where it was being
            written to.
        video_seconds, busy_seconds: summed over what is done, for estimates.
        number: of the last row.
    """

    failed: dict[str, str] = field(default_factory=dict)
    video_seconds: float = 0.0
    busy_seconds: float = 0.0
    number: int = 0
    _keys: set[bytes] = field(default_factory=set)
    _items: set[bytes] = field(default_factory=set)

    def is_done(self, item: Item) -> bool:
        """By path, size and time of change: the file is not read."""
        return bytes.fromhex(item.key) in self._keys

    def has(self, identity: str) -> bool:
        """By content."""
        return bytes.fromhex(identity) in self._items

    def has_failed(self, item: Item) -> bool:
        """Whether the last thing known of this item, in this state of its file, is a failure."""
        return self.failed.get(item.place) == item.key

    def take(self, kind: Kind, row: Row) -> None:
        """Learn from a row; they come in order."""
        self.number = max(self.number, row["n"])
        if kind == "error":
            # A file that changed meanwhile is not what failed, however it looks now.
            self.failed[row["place"]] = "" if row.get("kind") == "changed" else row["key"]
            return
        self._keys.add(bytes.fromhex(row["key"]))
        self._items.add(bytes.fromhex(row["item"]))
        self.failed.pop(row["place"], None)
        self.video_seconds += row.get("video_seconds") or 0.0
        if kind == "result":  # a copy costs nothing
            self.busy_seconds += row.get("busy_seconds") or 0.0


def read_snapshot(folder: Path) -> Snapshot | None:
    """The state of a batch, without touching it; None where there is none."""
    path = folder / "batch.json"
    if not path.exists():
        return None
    check_schema(path.read_bytes(), str(path))
    found = Snapshot()
    for kind, row, _ in history(folder):
        found.take(kind, row)
    return found


def check_schema(text: bytes, where: str) -> None:
    """UsageError unless `text`, what batch.json holds, is of this version."""
    try:
        schema = json.loads(text)["schema"]
    except (ValueError, KeyError, TypeError):
        schema = "unknown"
    if schema != SCHEMA:
        raise UsageError(f"{where} is of schema {schema}, this version writes {SCHEMA}: give another -o")


def history(folder: Path) -> Iterator[tuple[Kind, Row, int | None]]:
    """All that happened in a folder, in order; for results that the manifest lacks, where they end."""
    errors: Iterator[tuple[Kind, Row, int | None]] = (("error", row, None) for row, _ in rows(folder / "errors.jsonl"))
    return heapq.merge(errors, _done(folder), key=lambda event: event[1]["n"])


def _done(folder: Path) -> Iterator[tuple[Kind, Row, int | None]]:
    indexed, results = 0, folder / "results.jsonl"
    for row, _ in rows(folder / "manifest.jsonl"):
        end = row.get("end")
        if end is not None and end > (results.stat().st_size if results.exists() else 0):
            raise UsageError(
                f"{folder}: results.jsonl is shorter than manifest.jsonl says; if lines were removed by hand, "
                "remove manifest.jsonl too, and it is made anew"
            )
        indexed = max(indexed, end or 0)
        yield "copy" if end is None else "result", row, None
    for row, end in rows(results, start=indexed):
        yield "result", row, end


def rows(path: Path, *, start: int = 0) -> Iterator[tuple[Row, int]]:
    """Each whole line of a JSONL file from byte `start` on, and where it ends.

    Raises:
        UsageError: a line that is no JSON object: something else wrote there.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):  # it is being written
                return
            start += len(line)
            try:
                row = json.loads(line)
                row["n"], row["place"]
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"{path}: the line that ends at byte {start} is damaged: give another -o") from None
            yield row, start
