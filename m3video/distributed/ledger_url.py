"""The ledger of a batch whose output is a URL, where nothing can be appended to a file.

The truth is `journal/`, with one object for each entry, written whole before anything else changes. A kill can leave a
torn object, on a filesystem that tears files; such an object counts as missing. The ledger itself is a local one in a
scratch folder, filled from the journal at the start; at the end its `results.jsonl` and `errors.jsonl` are copied to
the URL for users to read. The journal is never removed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from m3video.distributed.batch_state import (
    SCHEMA,
    BatchState,
    EntryKind,
    LedgerEntry,
    LedgerRow,
    check_schema,
    read_folder_state,
)
from m3video.distributed.lease import NAME as LEASE_NAME
from m3video.distributed.lease import Lease
from m3video.distributed.ledger import Ledger, encode
from m3video.distributed.storage import Store, local_folder
from m3video.errors import UsageError

_JOURNAL = "journal"
_HEAD_NAME, _HEAD = "batch.json", json.dumps({"schema": SCHEMA}).encode()


class UrlLedger(Ledger):
    """The only writer at one URL."""

    __slots__ = ("_lease", "_scratch", "store")

    def __init__(self, store: Store, *, note: Callable[[str], object] = lambda line: None) -> None:
        """Args:
        store: the location.
        note: called with a line for people when the lease of another process is waited for.

        Raises:
            UsageError: the location is in use by another process, or contains something else.
        """
        check(store)
        self.store, self._lease = store, Lease(store, note=note)
        self._scratch = tempfile.TemporaryDirectory(prefix="m3video-batch-")
        try:
            store.put(_HEAD_NAME, _HEAD)
            super().__init__(Path(self._scratch.name))
            self.printable = self.root = store.url
            for kind, row in journal(store):
                super()._write(kind, row)
                self.add(kind, row)
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Copy results.jsonl and errors.jsonl and release the lease; raise DiskFullError when they cannot be copied."""
        if self._lock < 0:
            return
        super().close()
        try:
            self._lease.check()
            for name in ("results.jsonl", "errors.jsonl"):
                path = self.folder / name
                path.touch()
                if path.stat().st_size != self.store.size(name) or name == "errors.jsonl":
                    self.store.put_file(path, name)
        finally:
            self._release()

    def _write(self, kind: EntryKind, row: LedgerRow) -> None:
        self._lease.check()
        # With the owner's name nothing is overwritten, should there be two writers after all.
        self.store.put(f"{_JOURNAL}/{row['n']:09d}-{self._lease.owner}.json", encode({"event": kind, **row}))
        super()._write(kind, row)

    def _release(self) -> None:
        try:
            self._lease.release()
        finally:
            self._scratch.cleanup()


def journal(store: Store) -> Iterator[LedgerEntry]:
    """Yield the entries of the journal at a URL, in order."""
    done: set[str] = set()
    for _, data in store.each(_JOURNAL):
        try:
            row = json.loads(data)
            kind = row.pop("event")
        except (ValueError, KeyError, AttributeError):  # torn: its writer was killed while it wrote this
            continue
        if kind == "result":
            if row["item"] in done:  # a second writer, against the rule
                continue
            done.add(row["item"])
        yield kind, row


def check(store: Store) -> bool:
    """Whether there is a batch at the URL; raise UsageError where there is something else."""
    head = store.get(_HEAD_NAME)
    if head and not _HEAD.startswith(head):
        check_schema(head, f"{store.url}/{_HEAD_NAME}")
    elif not head and store.names() - {LEASE_NAME}:  # a kill at the very start leaves a lease, or a torn head
        raise UsageError(f"{store.url} is not empty and holds no batch: give another -o")
    return bool(head)


def open_ledger(location: str, *, note: Callable[[str], object] = lambda line: None) -> Ledger:
    """Open the ledger of a folder or a URL. Errors as for `Ledger` and `UrlLedger`."""
    folder = local_folder(location)
    return UrlLedger(Store(location), note=note) if folder is None else Ledger(folder)


def read_batch_state(location: str) -> BatchState | None:
    """Read what is done at a folder or a URL, even while a batch runs there; None where there is no batch."""
    folder = local_folder(location)
    if folder is not None:
        return read_folder_state(folder)
    store = Store(location)
    if not check(store):
        return None
    state = BatchState()
    for kind, row in journal(store):
        state.add(kind, row)
    return state
