"""The claim to be the only writer of a place without locks.

Whoever writes there renews a small file. Another that sees it change stays away; one that sees it stand still for a
minute takes it for left over from a process that was killed. Two that begin at the same moment both write it, wait, and
the one whose words were written over gives up.
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
PATIENCE_SECONDS = 60.0
SETTLE_SECONDS = 1.0
"""Longer than it takes between reading the file and writing it."""


class Lease:
    """Held from its birth until `release`, or until somebody else takes it away."""

    def __init__(self, store: Store, *, note: Callable[[str], object] = lambda line: None) -> None:
        """Args:
        store: the place.
        note: told when another's claim is waited for.

        Raises:
            UsageError: the place is in use.
        """
        self.store, self.owner = store, uuid.uuid4().hex[:12]
        self._beats, self._is_lost, self._done = 0, False, threading.Event()
        self._wait_for_the_last(note)
        self._renew()
        time.sleep(SETTLE_SECONDS)
        if not self._is_mine():
            raise _in_use(store)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """UsageError when somebody took the place away, which happens to a process that was stopped for long."""
        if self._is_lost:
            raise _in_use(self.store)

    def release(self) -> None:
        """Leave the place to others."""
        self._done.set()
        self._thread.join()
        if not self._is_lost and self._is_mine():
            self.store.delete(NAME)

    def _wait_for_the_last(self, note: Callable[[str], object]) -> None:
        seen = self._read()
        if not seen or _is_dead(seen):
            return
        note(f"{self.store.url} was in use: seeing for {PATIENCE_SECONDS:g} s whether it still is")
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            time.sleep(min(1.0, PATIENCE_SECONDS / 10))
            if self._read() != seen:
                raise _in_use(self.store)

    def _keep(self) -> None:
        while not self._done.wait(RENEW_SECONDS):
            try:
                if not self._is_mine():
                    self._is_lost = True
                    return
                self._renew()
            except M3VideoError:  # the next time; should it last, `put` of a result says it
                continue

    def _renew(self) -> None:
        self._beats += 1
        me = {"owner": self.owner, "machine": _machine(), "pid": os.getpid(), "beats": self._beats}
        self.store.put(NAME, json.dumps(me).encode())

    def _is_mine(self) -> bool:
        return self._read().get("owner") == self.owner

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.store.get(NAME) or b"{}")
        except ValueError:  # torn
            return {}
        return found if isinstance(found, dict) else {}


def _is_dead(seen: dict[str, Any]) -> bool:
    """Whether the process that wrote this was one of this machine, and is gone."""
    if seen.get("machine") != _machine():
        return False
    try:
        os.kill(int(seen.get("pid", 0)), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """This machine since it was started, and which of its processes this one sees: not those of other containers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return f"{socket.gethostname()} {uuid.getnode()}"
    return f"{socket.gethostname()} {boot.read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"


def _in_use(store: Store) -> UsageError:
    return UsageError(f"{store.url} is in use by another m3video: wait for it, or give another -o")
