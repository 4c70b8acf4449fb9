"""Progress of a run: bars that callers may draw, wall time and peak memory of each stage."""

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
    """A factory of progress bars; the command line draws them, library users get none."""

    def __call__(self, stage: str, total: int | None) -> AbstractContextManager[Bar]: ...


def silent(stage: str, total: int | None) -> AbstractContextManager[Bar]:
    """Return a bar that shows nothing."""
    return nullcontext(lambda done: None)


_listeners: list[Callable[[], object]] = []


def listen(listener: Callable[[], object]) -> None:
    """Register a function to be called often during long work, e.g. to show a supervisor that the process is alive."""
    _listeners.append(listener)


def report_alive() -> None:
    """Call the registered listeners; long work does this often."""
    for listener in _listeners:
        listener()


@dataclass(slots=True)
class Meter:
    """Wall seconds of each stage, summed over its runs, and peak memory of the process at its last end."""

    stage_seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block as stage `name`."""
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
    """Return the peak memory of the process; on CUDA that of the allocator, because GPU memory is what runs out."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
