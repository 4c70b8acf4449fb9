"""One way to map a function over items, whoever does the work: this process, local processes, or a Ray cluster.

A mapper is called with a function of (shared, item), the shared value and the items, and yields each result when it
is done, in any order. What the function raises is raised here: bad input is not tried again. An item whose worker died,
hung or ran out of memory is tried again, at most `MAX_RETRIES` times. Closing the generator stops the workers.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from m3video.distributed.failures import Failure
from m3video.errors import M3VideoError, WorkerError

MAX_RETRIES = 2
"""How often an item is tried again after its worker died."""

MENDABLE = frozenset({"crash", "silent", "memory"})
"""Kinds of failures after which another try may go well."""

R = TypeVar("R")
Work = Callable[[Any, Any], R]


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The result for the item at place `number`, and how many workers died over it."""

    number: int
    value: R
    num_crashes: int = 0


Mapper = Callable[[Work[R], Any, Sequence[Any]], Generator[Done[R], None, None]]


class ItemLostError(WorkerError):
    """The item at place `number` was tried too often; `how` says what became of the last worker."""

    def __init__(self, number: int, how: str) -> None:
        super().__init__(number, how)
        self.number, self.how = number, how

    def __str__(self) -> str:
        return f"item {self.number} was tried {MAX_RETRIES + 1} times: {self.how}"


@dataclass(slots=True)
class Crashes:
    """Workers that died, counted by item."""

    by_item: dict[int, int]

    def add(self, number: int, how: str) -> None:
        """Count one; raises `ItemLostError` when the item may not be tried again."""
        self.by_item[number] = self.by_item.get(number, 0) + 1
        if self.by_item[number] > MAX_RETRIES:
            raise ItemLostError(number, how)

    def add_failure(self, number: int, failure: Failure) -> None:
        """Count what became of a child process; a mistake of our own is raised."""
        if failure.kind not in MENDABLE:
            raise RuntimeError(f"{failure.message}\n{failure.detail}")
        self.add(number, failure.message)

    def done(self, number: int, value: R) -> Done[R]:
        return Done(number, value, self.by_item.get(number, 0))


def in_process(work: Work[R], shared: Any, items: Sequence[Any]) -> Generator[Done[R], None, None]:
    """The mapper without workers."""
    for number, item in enumerate(items):
        yield Done(number, work(shared, item))


def attempt(work: Work[R], shared: Any, item: Any) -> Iterator[tuple[R | None, Exception | None]]:
    """What a child process yields, once: the result, or what was raised, with the traceback as a note."""
    try:
        yield work(shared, item), None
    except MemoryError:
        raise  # that is not the item's fault for sure
    except M3VideoError as error:
        yield None, error
    except Exception as error:
        error.add_note("in a worker process:\n" + traceback.format_exc())
        yield None, error
