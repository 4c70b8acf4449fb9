"""What runs: bars that callers may draw, wall seconds and peak memory of each stage."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol


class Bar(Protocol):
    """One running progress bar."""

    def __call__(self, done: int) -> None: ...


class Progress(Protocol):
    """What shows progress; the command line draws bars, a library user gets none."""

    def __call__(self, stage: str, total: int | None) -> AbstractContextManager[Bar]: ...


def silent(stage: str, total: int | None) -> AbstractContextManager[Bar]:
    """A `Progress` that shows nothing."""
    return nullcontext(lambda done: None)


_listeners: list[Callable[[], object]] = []


def listen(listener: Callable[[], object]) -> None:
    """Have `listener` called, often, while something long goes on: a process that is watched is not taken for dead."""
    _listeners.append(listener)


def alive() -> None:
    """Tell whoever listens that something long goes on."""
    for listener in _listeners:
        listener()


@dataclass(slots=True)
class Meter:
    """Wall seconds of each stage, added up where it runs again, and the process's peak memory when it last ended."""

    stage_seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stage_seconds[name] = self.stage_seconds.get(name, 0.0) + time.perf_counter() - start
        self.peak_memory_bytes[name] = peak_memory_bytes()

    def take(self) -> Meter:
        """Return what was measured so far, and begin anew."""
        taken = Meter(self.stage_seconds, self.peak_memory_bytes)
        self.stage_seconds, self.peak_memory_bytes = {}, {}
        return taken


def peak_memory_bytes() -> int:
    """The process's high-water mark; on CUDA the allocator's, because that is what runs out."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
