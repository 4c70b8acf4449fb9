"""One interface to map a function over items in this process, in local processes, or on a Ray cluster.

A mapper is called with a function of (shared, item), the shared value and the items, and yields each result when it
is ready, in any order. What the function raises is raised here: bad input is not tried again. An item whose worker
died, hung or ran out of memory is tried again, at most `MAX_RETRIES` times. Closing the generator stops the workers.
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

RETRIED = frozenset({"crash", "silent", "memory"})
"""Kinds of failures after which the item is tried again."""

R = TypeVar("R")
ItemFunction = Callable[[Any, Any], R]


@dataclass(frozen=True, slots=True)
class ItemResult(Generic[R]):
    """The result for the item at index `number`, and how many workers died on it."""

    number: int
    value: R
    num_crashes: int = 0


Mapper = Callable[[ItemFunction[R], Any, Sequence[Any]], Generator[ItemResult[R], None, None]]


class ItemLostError(WorkerError):
    """The item at index `number` failed on every try; `how` says what happened to the last worker."""

    def __init__(self, number: int, how: str) -> None:
        super().__init__(number, how)
        self.number, self.how = number, how

    def __str__(self) -> str:
        return f"item {self.number} was tried {MAX_RETRIES + 1} times: {self.how}"


@dataclass(slots=True)
class Crashes:
    """Counts of the workers that died, by item."""

    by_item: dict[int, int]

    def add(self, number: int, how: str) -> None:
        """Count a death; raise `ItemLostError` when the item may not be tried again."""
        self.by_item[number] = self.by_item.get(number, 0) + 1
        if self.by_item[number] > MAX_RETRIES:
            raise ItemLostError(number, how)

    def add_failure(self, number: int, failure: Failure) -> None:
        """Count the failure of a child process; raise RuntimeError for a bug of ours."""
        if failure.kind not in RETRIED:
            raise RuntimeError(f"{failure.message}\n{failure.detail}")
        self.add(number, failure.message)

    def result(self, number: int, value: R) -> ItemResult[R]:
        """Return the result of an item, with its number of deaths."""
        return ItemResult(number, value, self.by_item.get(number, 0))


def in_process(function: ItemFunction[R], shared: Any, items: Sequence[Any]) -> Generator[ItemResult[R], None, None]:
    """Map in this process; the mapper without workers."""
    for number, item in enumerate(items):
        yield ItemResult(number, function(shared, item))


def run_item(function: ItemFunction[R], shared: Any, item: Any) -> Iterator[tuple[R | None, Exception | None]]:
    """Yield once, in a child process: the result, or what was raised, with the traceback as a note."""
    try:
        yield function(shared, item), None
    except MemoryError:
        raise  # not necessarily the item's fault
    except M3VideoError as error:
        yield None, error
    except Exception as error:
        error.add_note("in a worker process:\n" + traceback.format_exc())
        yield None, error
