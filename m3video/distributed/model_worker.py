"""The model in a child process, which may die without ending the batch.

After an error of the CUDA runtime every later call in that process fails. So the process is replaced, and requests that
were batched with the failing one are answered again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from m3video.distributed.failures import FailedError, Failure, failure_of
from m3video.distributed.messages import JobRequest, Outcome, Task, VideoJob
from m3video.distributed.worker_process import WorkerProcess
from m3video.errors import M3VideoError, WorkerError


class ModelWorker:
    """One model in a child process; not thread-safe."""

    def __init__(self, task: Task) -> None:
        self.task = task
        # How long a model takes is not known, so it has no deadline; it may use all threads.
        self._child = WorkerProcess(deadline=None, one_thread=False)

    def load(self) -> None:
        """Start the process and load the model, unless that is done.

        Raises:
            M3VideoError: the model cannot be loaded, for a reason that the user can fix.
        """
        if self._child.is_up:
            return
        try:
            (error,) = self._child.run(_load, self.task)
        except FailedError as failed:
            failure = failed.failure
            if failure.kind == "bug":
                raise RuntimeError(failure.detail) from None
            raise WorkerError(f"the model does not load: {failure.message}") from None
        if error is not None:
            self.kill()
            raise error

    def answer(self, requests: Sequence[JobRequest]) -> list[Any]:
        """Return a reply to each request, or a `Failure`; after a death the model is loaded again. Raises as `load`."""
        try:
            (replies,) = self._run(_answer, self.task, list(requests))
        except FailedError as error:
            if len(requests) == 1:
                return [error.failure]
            # Answering each alone shows which one is at fault.
            return [reply for request in requests for reply in self.answer([request])]
        return list(replies)

    def finish(self, job: VideoJob, partial_record: Any, replies: Sequence[Any]) -> list[Outcome] | Failure:
        """Return a record for each question, or why there is none. Raises as `load`."""
        try:
            (outcomes,) = self._run(_finish, self.task, job, partial_record, list(replies))
        except FailedError as error:
            return error.failure
        return list(outcomes)

    def kill(self) -> None:
        """Kill the process."""
        self._child.kill()

    def _run(self, *call: Any) -> list[Any]:
        self.load()
        return list(self._child.run(*call))


_loaded: Any = None
"""The model; set in the child process only."""


def _load(task: Task) -> Iterator[M3VideoError | None]:
    global _loaded
    try:
        _loaded = task.load()
    except M3VideoError as error:
        yield error
    else:
        yield None


def _answer(task: Task, requests: list[JobRequest]) -> Iterator[list[Any]]:
    yield task.answer(_loaded, requests)


def _finish(task: Task, job: VideoJob, partial_record: Any, replies: list[Any]) -> Iterator[list[Outcome]]:
    yield task.finish(_loaded, job, partial_record, replies)


def finish_without(task: Task, job: VideoJob, partial_record: Any) -> list[Outcome] | Failure:
    """Do in this process what `ModelWorker.finish` does, for a task without a model."""
    try:
        return task.finish(None, job, partial_record, [])
    except Exception as error:
        return failure_of(error)
