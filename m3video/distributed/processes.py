"""The mapper over local processes.

Not `concurrent.futures`: there a worker that dies takes every item in flight with it and does not say which one was at
fault. Here each child has one item, so a death, or a hang, costs that item alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from m3video.distributed.mapping import Crashes, ItemFunction, ItemResult, Mapper, run_item
from m3video.distributed.worker_process import DEADLINE_SECONDS, WorkerProcess, wait

R = TypeVar("R")
_POLL_SECONDS = 0.5


def processes(num_workers: int, *, deadline: float = DEADLINE_SECONDS) -> Mapper[Any]:
    """Return a mapper over at most `num_workers` processes of this machine.

    Args:
        num_workers: 1 or more.
        deadline: seconds without a `heartbeat` after which a worker is killed.
    """

    def run(function: ItemFunction[R], shared: Any, items: Sequence[Any]) -> Generator[ItemResult[R], None, None]:
        todo, crashes, found = deque(range(len(items))), Crashes({}), set[int]()
        idle = [WorkerProcess(deadline=deadline) for _ in range(min(num_workers, len(items)))]
        busy: dict[WorkerProcess, int] = {}  # every other item is in `todo` or done
        try:
            while todo or busy:
                while todo and idle:
                    child, number = idle.pop(), todo.popleft()
                    busy[child] = number
                    child.start(run_item, function, shared, items[number])
                for child, tag, message in wait(busy, _POLL_SECONDS):
                    number = busy[child]
                    if tag in ("end", "failed"):
                        idle.append(child)
                        del busy[child]
                    if tag == "failed" and number not in found:
                        crashes.add_failure(number, message)
                        todo.appendleft(number)
                    elif tag == "value":
                        value, error = message
                        if error is not None:
                            raise error
                        found.add(number)
                        yield crashes.result(number, value)
        finally:
            for child in [*idle, *busy]:
                child.kill()

    return run
