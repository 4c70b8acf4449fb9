"""A worker pool on this machine: workers and the model as child processes.

A worker that is ahead of the model blocks with one model request in its pipe: that bounds memory, and no other
back-pressure is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from m3video.distributed.failures import Failure
from m3video.distributed.messages import (
    Failed,
    Finished,
    Identified,
    ModelRequest,
    PartialRecord,
    PoolEvent,
    Task,
    VideoJob,
)
from m3video.distributed.model_worker import ModelWorker, finish_without
from m3video.distributed.worker_process import DEADLINE_SECONDS, Tag, WorkerProcess, wait


@dataclass(slots=True)
class _LocalRun:
    """A video that a worker process is working on."""

    number: int
    child: WorkerProcess
    job: VideoJob | None = None
    fingerprint: str = ""
    is_waiting: bool = False
    replies: list[Any] = field(default_factory=list)
    partial_record: Any = None


class LocalPool:
    """Workers of a batch on this machine."""

    def __init__(self, task: Task, *, workers: int, deadline: float = DEADLINE_SECONDS) -> None:
        """Args:
        task: what is done with each video.
        workers: number of child processes that decode.
        deadline: seconds without a heartbeat after which a child is killed.
        """
        self.task = task
        self._free = [WorkerProcess(deadline=deadline) for _ in range(workers)]
        self._runs: dict[int, _LocalRun] = {}
        self._model_worker = ModelWorker(task) if task.needs_model else None

    @property
    def num_free(self) -> int:
        return len(self._free)

    def identify(self, number: int, video: str) -> None:
        run = self._runs[number] = _LocalRun(number, self._free.pop())
        run.child.start(self.task.identify, video)

    def carry_out(self, number: int, job: VideoJob) -> None:
        if self._model_worker is not None:
            self._model_worker.load()
        run = self._runs[number]
        run.job, run.is_waiting = job, False
        run.child.start(self.task.work, job)

    def release(self, number: int) -> None:
        self._free.append(self._runs.pop(number).child)

    def wait(self, seconds: float) -> list[PoolEvent]:
        active = {run.child: run for run in self._runs.values() if not run.is_waiting}
        events: list[PoolEvent] = []
        requests: list[tuple[_LocalRun, Any]] = []
        for child, tag, value in wait(active, seconds):
            self._receive(active[child], tag, value, events, requests)
        if requests:
            self._answer(requests, events)
        return events

    def close(self) -> None:
        for child in [*self._free, *(run.child for run in self._runs.values())]:
            child.kill()
        if self._model_worker is not None:
            self._model_worker.kill()
        self._runs.clear()
        self._free.clear()

    def _receive(
        self, run: _LocalRun, tag: Tag, value: Any, events: list[PoolEvent], requests: list[tuple[_LocalRun, Any]]
    ) -> None:
        if tag == "failed":
            events.append(self._failed(run, value))
        elif tag == "value" and run.job is None:
            run.fingerprint = value
        elif tag == "value" and isinstance(value, ModelRequest):
            requests.append((run, value.content))
        elif tag == "value":
            assert isinstance(value, PartialRecord), f"task {self.task.name} yielded {type(value).__name__}"
            run.partial_record = value.content
        elif tag == "end" and run.job is not None:
            events.append(self._finish(run, run.job))
        elif tag == "end":
            run.is_waiting = True
            events.append(Identified(run.number, run.fingerprint))

    def _answer(self, requests: Sequence[tuple[_LocalRun, Any]], events: list[PoolEvent]) -> None:
        assert self._model_worker is not None
        job_requests = [(run.job, content) for run, content in requests if run.job is not None]
        for (run, _), reply in zip(requests, self._model_worker.answer(job_requests), strict=True):
            if isinstance(reply, Failure):
                run.child.kill()  # its further requests are not wanted now
                events.append(self._failed(run, reply))
            else:
                run.replies.append(reply)

    def _finish(self, run: _LocalRun, job: VideoJob) -> PoolEvent:
        if self._model_worker is None:
            outcomes = finish_without(self.task, job, run.partial_record)
        else:
            outcomes = self._model_worker.finish(job, run.partial_record, run.replies)
        if isinstance(outcomes, Failure):
            return self._failed(run, outcomes)
        self.release(run.number)
        return Finished(run.number, outcomes)

    def _failed(self, run: _LocalRun, failure: Failure) -> Failed:
        self.release(run.number)
        return Failed(run.number, failure)
