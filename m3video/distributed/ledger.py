"""The folder of a batch: what is done, what failed, and nothing lost or done twice when it is killed.

`results.jsonl` is the truth about what is done: one line each, written before anything else knows of it.
`manifest.jsonl` is its index, a short line for each: read at the start instead of all results. A kill between the two
leaves a result that the manifest lacks, which the next start takes in; a kill within a write leaves a line without its
end, which the next start cuts off. `errors.jsonl` holds one line for each item that failed and is not done yet.
`items/` holds files of single items, each complete or not there.
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

from m3video.distributed.items import Item
from m3video.errors import DiskFullError, UsageError
from m3video.files import replacing

SCHEMA = "m3video.batch/1"
Row = dict[str, Any]


class Ledger:
    """The only writer of one folder.

    Attributes:
        failed: for each place that failed and is not done, the key of the file that failed.
        video_seconds, busy_seconds: summed over what is done, for estimates.
    """

    def __init__(self, folder: Path) -> None:
        """Open or begin a folder, and mend what a kill left.

        Raises:
            UsageError: the folder is in use by another process, or holds something else.
        """
        self.folder = folder
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
        self._keys: set[bytes] = set()
        self._items: set[bytes] = set()
        self.failed: dict[str, str] = {}
        self.video_seconds = self.busy_seconds = 0.0
        self._number = 0
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def errors_path(self) -> Path:
        return self.folder / "errors.jsonl"

    def is_done(self, item: Item) -> bool:
        """By path, size and time of change: the file is not read."""
        return bytes.fromhex(item.key) in self._keys

    def has(self, identity: str) -> bool:
        """By content."""
        return bytes.fromhex(identity) in self._items

    def add_result(self, item: Item, identity: str, record: Mapping[str, Any]) -> None:
        """Record a finished item; it is kept from when this returns.

        Raises:
            DiskFullError: the folder is as it was before.
        """
        assert not self.has(identity), f"{item.video} was done twice"
        self._number += 1
        row = {"n": self._number, "item": identity, "key": item.key, "place": item.place, "video": item.video, **record}
        self._append("results.jsonl", row)
        self._index(row, end=self._size("results.jsonl"))

    def add_copy(self, item: Item, identity: str) -> None:
        """Remember that `item` is the same as one that is done."""
        self._number += 1
        row = {"n": self._number, "item": identity, "key": item.key, "place": item.place, "video": item.video}
        self._index(row, end=None)

    def add_error(self, item: Item, error: Mapping[str, Any]) -> None:
        """Record that an item failed."""
        self._number += 1
        row = {"n": self._number, "place": item.place, "key": item.key, "video": item.video, **error}
        self._append("errors.jsonl", row)
        self.failed[item.place] = item.key

    def results(self) -> Iterator[Row]:
        """All records, in the order in which they were finished."""
        return (row for row, _ in _rows(self.folder / "results.jsonl"))

    def errors(self) -> Iterator[Row]:
        """The last error of each item that is not done."""
        last = {row["place"]: row["n"] for row, _ in _rows(self.errors_path)}
        return (
            row for row, _ in _rows(self.errors_path)
            if row["place"] in self.failed and last[row["place"]] == row["n"]
        )  # fmt: skip

    def close(self) -> None:
        """Bring errors.jsonl up to date and let go of the folder."""
        if self._lock >= 0:
            try:
                self._tidy_errors()
            except OSError:  # a full disk: the next opening does it
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
        self._check_schema()
        for name in ("results.jsonl", "manifest.jsonl", "errors.jsonl"):
            self._cut_torn_line(name)
        failed: dict[str, Row] = {row["place"]: row for row, _ in _rows(self.errors_path)}
        self._number = max((row["n"] for row in failed.values()), default=0)
        self.failed = {place: row["key"] for place, row in failed.items()}
        indexed, size = 0, self._size("results.jsonl")
        for row, _ in _rows(self.folder / "manifest.jsonl"):
            end = row.get("end") or 0
            if end > size:
                raise UsageError(
                    f"{self.folder}: results.jsonl is shorter than manifest.jsonl says; if lines were removed by hand, "
                    "remove manifest.jsonl too, and it is made anew"
                )
            indexed = max(indexed, end)
            self._know(row, failed)
        for row, end in _rows(self.folder / "results.jsonl", start=indexed):
            self._index(row, end=end)
        self._tidy_errors()

    def _check_schema(self) -> None:
        path = self.folder / "batch.json"
        if path.exists():
            try:
                schema = json.loads(path.read_text(encoding="utf-8"))["schema"]
            except (ValueError, KeyError, TypeError):
                schema = "unknown"
            if schema != SCHEMA:
                raise UsageError(f"{path} is of schema {schema}, this version writes {SCHEMA}: give another -o")
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

    def _know(self, row: Row, failed: Mapping[str, Row]) -> None:
        self._keys.add(bytes.fromhex(row["key"]))
        self._items.add(bytes.fromhex(row["item"]))
        self.video_seconds += row.get("video_seconds") or 0.0
        self.busy_seconds += row.get("busy_seconds") or 0.0
        self._number = max(self._number, row["n"])
        if row["place"] in failed and failed[row["place"]]["n"] < row["n"]:
            self.failed.pop(row["place"], None)

    # --- writing ------------------------------------------------------------------------------------------------------
    def _index(self, row: Row, *, end: int | None) -> None:
        names = ("n", "item", "key", "place", "video", "video_seconds", "busy_seconds")
        short = {name: row[name] for name in names if name in row}
        if end is None:  # a copy costs nothing
            short.pop("busy_seconds", None)
        self._append("manifest.jsonl", {**short, **({} if end is None else {"end": end})})
        self._know(short, {})
        self.failed.pop(row["place"], None)

    def _append(self, name: str, row: Row) -> None:
        # A file name that is no UTF-8 arrives as lone surrogates, for which JSON has the same escapes.
        data = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
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

    def _size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0

    def _tidy_errors(self) -> None:
        """Leave one line for each item that is still failed: the last one."""
        lines = sum(1 for _ in _rows(self.errors_path))
        if lines == len(self.failed):
            return
        with replacing(self.errors_path) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for row in self.errors():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def now() -> float:
    """Seconds since 1970, to the millisecond: when a record was made."""
    return round(time.time(), 3)


def _rows(path: Path, *, start: int = 0) -> Iterator[tuple[Row, int]]:
    """Each line of a JSONL file from byte `start` on, and where it ends.

    Raises:
        UsageError: a line that is no JSON object: something else wrote there.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            start += len(line)
            try:
                row = json.loads(line)
                row["n"], row["place"]
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"{path}: the line that ends at byte {start} is damaged: give another -o") from None
            yield row, start
