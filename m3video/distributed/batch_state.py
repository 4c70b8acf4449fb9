"""The state of a batch, read from its rows without changing anything: what is done and what failed.

Rows are numbered in the order in which they were written. Reading a folder while a batch runs gives one of the states
that the batch went through.
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
LedgerRow = dict[str, Any]
EntryKind = Literal["result", "copy", "error"]
LedgerEntry = tuple[EntryKind, LedgerRow]


@dataclass(slots=True)
class BatchState:
    """Which items are done and which failed.

    Attributes:
        failed: for each path key that failed and is not done, the file key that failed; empty where the file was being
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
        """Whether the item is done, by path, size and time of change: the file is not read."""
        return bytes.fromhex(item.file_key) in self._keys

    def has(self, identity: str) -> bool:
        """Whether an item of this identity is done: the same content, question, task and config."""
        return bytes.fromhex(identity) in self._items

    def has_failed(self, item: Item) -> bool:
        """Whether the last entry of this item, in this state of its file, is a failure."""
        return self.failed.get(item.path_key) == item.file_key

    def add(self, kind: EntryKind, row: LedgerRow) -> None:
        """Add a row; rows come in order."""
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


def read_folder_state(folder: Path) -> BatchState | None:
    """Read the state of the batch in a folder; None where there is no batch."""
    path = folder / "batch.json"
    if not path.exists():
        return None
    check_schema(path.read_bytes(), str(path))
    state = BatchState()
    for kind, row, _ in history(folder):
        state.add(kind, row)
    return state


def check_schema(text: bytes, where: str) -> None:
    """Raise UsageError unless `text`, the content of batch.json, is of this version."""
    try:
        schema = json.loads(text)["schema"]
    except (ValueError, KeyError, TypeError):
        schema = "unknown"
    if schema != SCHEMA:
        raise UsageError(f"{where} is of schema {schema}, this version writes {SCHEMA}: give another -o")


def history(folder: Path) -> Iterator[tuple[EntryKind, LedgerRow, int | None]]:
    """Yield all entries of a folder in order, with the end in bytes of each result that the manifest lacks."""
    errors: Iterator[tuple[EntryKind, LedgerRow, int | None]] = (
        ("error", row, None) for row, _ in rows(folder / "errors.jsonl")
    )
    return heapq.merge(errors, _done(folder), key=lambda event: event[1]["n"])


def _done(folder: Path) -> Iterator[tuple[EntryKind, LedgerRow, int | None]]:
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


def rows(path: Path, *, start: int = 0) -> Iterator[tuple[LedgerRow, int]]:
    """Yield each whole line of a JSONL file from byte `start` on, and its end in bytes.

    Raises:
        UsageError: a line is no JSON object: another program wrote there.
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
