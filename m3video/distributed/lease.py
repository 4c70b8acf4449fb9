"""A lease: the right to be the only writer at a location that has no locks.

The writer renews a small file. Another process that sees it change stays away; one that sees it unchanged for a minute
takes it for left over from a process that was killed. Two that begin at the same moment both write it, wait, and the
one whose file was overwritten gives up.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from m3video.distributed.storage import Store
from m3video.errors import M3VideoError, UsageError

NAME = "lease.json"
RENEW_SECONDS = 15.0
"""Time between two renewals."""

EXPIRY_SECONDS = 60.0
"""Time without a renewal after which a lease is taken for left over."""

SETTLE_SECONDS = 1.0
"""Wait after writing the file; longer than it takes another process from reading the file to writing it."""


class Lease:
    """The right to write at a location, until `release` or until another process takes it away."""

    def __init__(self, store: Store, *, note: Callable[[str], object] = lambda line: None) -> None:
        """Args:
        store: the location.
        note: called with a line for people when the lease of another process is waited for.

        Raises:
            UsageError: the location is in use.
        """
        self.store, self.owner = store, uuid.uuid4().hex[:12]
        self._renewals, self._is_lost, self._done = 0, False, threading.Event()
        self._wait_for_last_owner(note)
        self._renew()
        time.sleep(SETTLE_SECONDS)
        if not self._is_mine():
            raise _in_use(store)
        self._thread = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise UsageError when another process took the lease, as happens to a process that was suspended for long."""
        if self._is_lost:
            raise _in_use(self.store)

    def release(self) -> None:
        """Give the lease back."""
        self._done.set()
        self._thread.join()
        if not self._is_lost and self._is_mine():
            self.store.delete(NAME)

    def _wait_for_last_owner(self, note: Callable[[str], object]) -> None:
        lease = self._read()
        if not lease or _is_dead(lease):
            return
        note(f"{self.store.url} was in use: waiting {EXPIRY_SECONDS:g} s to see whether it still is")
        until = time.monotonic() + EXPIRY_SECONDS
        while time.monotonic() < until:
            time.sleep(min(1.0, EXPIRY_SECONDS / 10))
            if self._read() != lease:
                raise _in_use(self.store)

    def _renew_until_released(self) -> None:
        while not self._done.wait(RENEW_SECONDS):
            try:
                if not self._is_mine():
                    self._is_lost = True
                    return
                self._renew()
            except M3VideoError:  # tried again next time; if it lasts, writing a result fails and says so
                continue

    def _renew(self) -> None:
        self._renewals += 1
        lease = {"owner": self.owner, "machine": _machine(), "pid": os.getpid(), "beats": self._renewals}
        self.store.put(NAME, json.dumps(lease).encode())

    def _is_mine(self) -> bool:
        return self._read().get("owner") == self.owner

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.store.get(NAME) or b"{}")
        except ValueError:  # torn
            return {}
        return found if isinstance(found, dict) else {}


def _is_dead(lease: dict[str, Any]) -> bool:
    """Whether the process that wrote `lease` ran on this machine and is gone."""
    if lease.get("machine") != _machine():
        return False
    try:
        os.kill(int(lease.get("pid", 0)), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """Return an id of this boot of the machine and of the processes visible here, so that containers differ."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return f"{socket.gethostname()} {uuid.getnode()}"
    return f"{socket.gethostname()} {boot.read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"


def _in_use(store: Store) -> UsageError:
    return UsageError(f"{store.url} is in use by another m3video: wait for it, or give another -o")
