"""What a decoder may do to its process; a module of its own, which a child imports within a moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any


def crash(*_: Any) -> Iterator[None]:
    os.kill(os.getpid(), signal.SIGSEGV)
    yield


def hang(*_: Any) -> Iterator[None]:
    while True:
        time.sleep(1)
    yield
