"""The ledger of a batch whose output is a URL, where nothing can be appended to.

The truth is one object for each thing that happened, in `journal/`, written whole before anything else knows of it. A
kill can leave one that is torn, on a filesystem that tears files; nobody was told of that, so it is not there. The
ledger itself is a local one in a scratch folder, told the journal again at the start; at the end its `results.jsonl`
and `errors.jsonl` are copied to the URL, for people, and for nobody else: the journal is never taken away.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from m3video.distributed.lease import NAME as LEASE_NAME
from m3video.distributed.lease import Lease
from m3video.distributed.ledger import Ledger, encode
from m3video.distributed.snapshot import SCHEMA, Event, Kind, Row, Snapshot, check_schema, read_snapshot
from m3video.distributed.storage import Store, local_folder
from m3video.errors import UsageError

_JOURNAL = "journal"
_HEAD_NAME, _HEAD = "batch.json", json.dumps({"schema": SCHEMA}).encode()


class UrlLedger(Ledger):
    """The only writer of one URL."""

    __slots__ = ("_lease", "_scratch", "store")

    def __init__(self, store: Store, *, note: Callable[[str], object] = lambda line: None) -> None:
        """Args:
        store: the place.
        note: told what is waited for.

        Raises:
            UsageError: the place is in use by another process, or holds something else.
        """
        check(store)
        self.store, self._lease = store, Lease(store, note=note)
        self._scratch = tempfile.TemporaryDirectory(prefix="m3video-batch-")
        try:
            store.put(_HEAD_NAME, _HEAD)
            super().__init__(Path(self._scratch.name))
            self.shown = self.root = store.url
            for kind, row in journal(store):
                super()._write(kind, row)
                self.take(kind, row)
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        """Copy results.jsonl and errors.jsonl, and let go of the place. DiskFullError when they cannot be copied."""
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
            self._let_go()

    def _write(self, kind: Kind, row: Row) -> None:
        self._lease.check()
        # The owner's name, so that nothing is ever written over, should there be two of them after all.
        self.store.put(f"{_JOURNAL}/{row['n']:09d}-{self._lease.owner}.json", encode({"event": kind, **row}))
        super()._write(kind, row)

    def _let_go(self) -> None:
        try:
            self._lease.release()
        finally:
            self._scratch.cleanup()


def journal(store: Store) -> Iterator[Event]:
    """What happened at a URL, in order."""
    done: set[str] = set()
    for _, data in store.each(_JOURNAL):
        try:
            row = json.loads(data)
            kind = row.pop("event")
        except (ValueError, KeyError, AttributeError):  # torn: its writer was killed before anybody was told
            continue
        if kind == "result":
            if row["item"] in done:  # of two writers that should not have been
                continue
            done.add(row["item"])
        yield kind, row


def check(store: Store) -> bool:
    """Whether there is a batch at the URL; UsageError where there is something else."""
    known = store.get(_HEAD_NAME)
    if known and not _HEAD.startswith(known):
        check_schema(known, f"{store.url}/{_HEAD_NAME}")
    elif not known and store.names() - {LEASE_NAME}:  # a kill at the very start leaves that, or a torn head
        raise UsageError(f"{store.url} is not empty and holds no batch: give another -o")
    return bool(known)


def open_ledger(place: str, *, note: Callable[[str], object] = lambda line: None) -> Ledger:
    """The ledger of a folder or a URL. Errors as for `Ledger` and `UrlLedger`."""
    folder = local_folder(place)
    return UrlLedger(Store(place), note=note) if folder is None else Ledger(folder)


def look(place: str) -> Snapshot | None:
    """What is done at a folder or a URL, without touching it, even while a batch runs there; None for no batch."""
    folder = local_folder(place)
    if folder is not None:
        return read_snapshot(folder)
    store = Store(place)
    if not check(store):
        return None
    found = Snapshot()
    for kind, row in journal(store):
        found.take(kind, row)
    return found
