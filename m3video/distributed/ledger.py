"""The folder of a batch: what is done and what failed; when a batch is killed, nothing is lost or done twice.

`results.jsonl` is the truth about what is done: one line each, written before anything else changes.
`manifest.jsonl` is its index with a short line for each, read at the start instead of all results. A kill between the
two leaves a result that the manifest lacks, which the next start adds; a kill within a write leaves a line without its
end, which the next start cuts off. `errors.jsonl` has one line for each item that failed and is not done yet.
`items/` has the files of single items, each complete or not there.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from m3video.distributed.batch_state import SCHEMA, BatchState, EntryKind, LedgerRow, check_schema, history, rows
from m3video.distributed.items import Item
from m3video.errors import DiskFullError, UsageError
from m3video.utils.files import replacing

_IN_MANIFEST = ("n", "item", "key", "place", "video", "video_seconds", "busy_seconds")


class Ledger(BatchState):
    """The only writer of one batch folder.

    Attributes:
        printable: the folder as the user gave it.
        root: its absolute path, for workers.
    """

    __slots__ = ("_lock", "folder", "printable", "root")

    def __init__(self, folder: Path) -> None:
        """Open or create a folder, and repair what a kill left.

        Raises:
            UsageError: the folder is in use by another process, or contains something else.
        """
        super().__init__()
        self.folder, self.printable, self.root = folder, os.fspath(folder), os.path.abspath(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(f"output folder {folder} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise UsageError(f"{folder} is in use by another m3video: wait for it, or give another -o") from None
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def add_result(self, item: Item, identity: str, record: Mapping[str, Any]) -> None:
        """Record a finished item; it is on disk when this returns.

        Raises:
            DiskFullError: it cannot be written; the folder is as it was before.
        """
        assert not self.has(identity), f"{item.video} was done twice"
        self._add("result", item, {"item": identity}, record)

    def add_copy(self, item: Item, identity: str) -> None:
        """Record that `item` has the content of one that is done."""
        self._add("copy", item, {"item": identity}, {})

    def add_error(self, item: Item, error: Mapping[str, Any]) -> None:
        """Record that an item failed."""
        self._add("error", item, {}, error)

    def settle(self, item: Item) -> None:
        """Forget a failure of `item` with other settings, or in another state of the file: the item is done."""
        self.failed.pop(item.path_key, None)

    def results(self) -> Iterator[LedgerRow]:
        """Return all records, in the order in which they were finished."""
        return (row for row, _ in rows(self.folder / "results.jsonl"))

    def errors(self) -> Iterator[LedgerRow]:
        """Return the last error of each item that is not done."""
        path = self.folder / "errors.jsonl"
        last = {row["place"]: row["n"] for row, _ in rows(path)}
        return (row for row, _ in rows(path) if row["place"] in self.failed and last[row["place"]] == row["n"])

    def close(self) -> None:
        """Bring errors.jsonl up to date and unlock the folder."""
        if self._lock >= 0:
            try:
                self._tidy_errors()
            except OSError:  # a full disk: it is done when the folder is opened again
                pass
            finally:
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- opening ------------------------------------------------------------------------------------------------------
    def _open(self) -> None:
        self._begin()
        for name in ("results.jsonl", "manifest.jsonl", "errors.jsonl"):
            self._cut_torn_line(name)
        for kind, row, end in history(self.folder):
            if end is not None:
                self._index(row, end=end)
            self.add(kind, row)
        self._tidy_errors()

    def _begin(self) -> None:
        path = self.folder / "batch.json"
        if path.exists():
            check_schema(path.read_bytes(), os.fspath(path))
        elif any(name not in (".lock",) and not name.endswith(".part") for name in os.listdir(self.folder)):
            raise UsageError(f"{self.folder} is not empty and holds no batch: give another -o")
        else:
            with replacing(path) as part:
                part.write_text(json.dumps({"schema": SCHEMA}) + "\n", encoding="utf-8")

    def _cut_torn_line(self, name: str) -> None:
        path = self.folder / name
        if not path.exists():
            return
        with path.open("r+b") as file:
            size = end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                at = file.read(end - start).rfind(b"\n")
                if at >= 0:
                    end = start + at + 1
                    break
                end = start
            if end < size:
                file.truncate(end)

    # --- writing ------------------------------------------------------------------------------------------------------
    def _add(self, kind: EntryKind, item: Item, identity: Mapping[str, str], record: Mapping[str, Any]) -> None:
        row = {
            "n": self.number + 1,
            **identity,
            "key": item.file_key,
            "place": item.path_key,
            "video": item.video,
            **record,
        }
        self._write(kind, row)
        self.add(kind, row)

    def _write(self, kind: EntryKind, row: LedgerRow) -> None:
        if kind == "error":
            self._append("errors.jsonl", row)
        elif kind == "copy":
            self._index(row, end=None)
        else:
            self._index(row, end=self._append("results.jsonl", row))

    def _index(self, row: LedgerRow, *, end: int | None) -> None:
        short = {name: row[name] for name in _IN_MANIFEST if name in row}
        self._append("manifest.jsonl", short if end is None else {**short, "end": end})

    def _append(self, name: str, row: LedgerRow) -> int:
        """Append a line; return its end in bytes."""
        data = encode(row)
        file = os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(file).st_size
            try:
                written = 0
                while written < len(data):
                    written += os.write(file, data[written:])
            except BaseException as error:
                os.ftruncate(file, size)
                if not isinstance(error, OSError):
                    raise
                raise DiskFullError(
                    f"{self.folder / name} cannot be written ({error.strerror}): what is finished is kept; make room "
                    "and run the same command again"
                ) from error
        finally:
            os.close(file)
        return size + len(data)

    def _tidy_errors(self) -> None:
        """Keep only the last line of each item that is still failed."""
        path = self.folder / "errors.jsonl"
        lines = sum(1 for _ in rows(path))
        if lines == len(self.failed):
            return
        with replacing(path) as part, part.open("wb") as file:
            for row in self.errors():
                file.write(encode(row))


def encode(row: Mapping[str, Any]) -> bytes:
    """Return a row as a line of JSON."""
    # A file name that is no UTF-8 arrives as lone surrogates, for which JSON has the same escapes.
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")


def now() -> float:
    """Return the time for a record: seconds since 1970, to the millisecond."""
    return round(time.time(), 3)
