"""Workers and the model as child processes of this one.

A worker that is ahead of the model waits in its pipe with one piece: that bounds memory, and it is the whole of
back-pressure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from m3video.distributed.failures import Failure
from m3video.distributed.messages import Event, Failed, Finished, Identified, ModelRequest, PartialRecord, Task, Work
from m3video.distributed.model_worker import ModelWorker, finish_without
from m3video.distributed.worker_process import DEADLINE_SECONDS, Tag, WorkerProcess, wait


@dataclass(slots=True)
class _Run:
    """What one child is doing."""

    number: int
    child: WorkerProcess
    work: Work | None = None
    fingerprint: str = ""
    is_waiting: bool = False
    replies: list[Any] = field(default_factory=list)
    base: Any = None


class LocalPool:
    """Local workers for a batch."""

    def __init__(self, task: Task, *, workers: int, deadline: float = DEADLINE_SECONDS) -> None:
        """Args:
        task: what is done with each video.
        workers: child processes.
        deadline: seconds without a sign of life after which a child is killed.
        """
        self.task = task
        self._free = [WorkerProcess(deadline=deadline) for _ in range(workers)]
        self._runs: dict[int, _Run] = {}
        self._place = ModelWorker(task) if task.needs_model else None

    @property
    def num_free(self) -> int:
        return len(self._free)

    def identify(self, number: int, video: str) -> None:
        run = self._runs[number] = _Run(number, self._free.pop())
        run.child.start(self.task.identify, video)

    def carry_out(self, number: int, work: Work) -> None:
        if self._place is not None:
            self._place.load()
        run = self._runs[number]
        run.work, run.is_waiting = work, False
        run.child.start(self.task.work, work)

    def release(self, number: int) -> None:
        self._free.append(self._runs.pop(number).child)

    def wait(self, seconds: float) -> list[Event]:
        heard = {run.child: run for run in self._runs.values() if not run.is_waiting}
        events: list[Event] = []
        pieces: list[tuple[_Run, Any]] = []
        for child, tag, value in wait(heard, seconds):
            self._take(heard[child], tag, value, events, pieces)
        if pieces:
            self._answer(pieces, events)
        return events

    def close(self) -> None:
        for child in [*self._free, *(run.child for run in self._runs.values())]:
            child.kill()
        if self._place is not None:
            self._place.kill()
        self._runs.clear()
        self._free.clear()

    def _take(self, run: _Run, tag: Tag, value: Any, events: list[Event], pieces: list[tuple[_Run, Any]]) -> None:
        if tag == "failed":
            events.append(self._failed(run, value))
        elif tag == "value" and run.work is None:
            run.fingerprint = value
        elif tag == "value" and isinstance(value, ModelRequest):
            pieces.append((run, value.content))
        elif tag == "value":
            assert isinstance(value, PartialRecord), f"task {self.task.name} yielded {type(value).__name__}"
            run.base = value.content
        elif tag == "end" and run.work is not None:
            events.append(self._finish(run, run.work))
        elif tag == "end":
            run.is_waiting = True
            events.append(Identified(run.number, run.fingerprint))

    def _answer(self, pieces: Sequence[tuple[_Run, Any]], events: list[Event]) -> None:
        assert self._place is not None
        asked = [(run.work, content) for run, content in pieces if run.work is not None]
        for (run, _), reply in zip(pieces, self._place.answer(asked), strict=True):
            if isinstance(reply, Failure):
                run.child.kill()  # it has more pieces, which nobody wants now
                events.append(self._failed(run, reply))
            else:
                run.replies.append(reply)

    def _finish(self, run: _Run, work: Work) -> Event:
        if self._place is None:
            outcomes = finish_without(self.task, work, run.base)
        else:
            outcomes = self._place.finish(work, run.base, run.replies)
        if isinstance(outcomes, Failure):
            return self._failed(run, outcomes)
        self.release(run.number)
        return Finished(run.number, outcomes)

    def _failed(self, run: _Run, failure: Failure) -> Failed:
        self.release(run.number)
        return Failed(run.number, failure)
