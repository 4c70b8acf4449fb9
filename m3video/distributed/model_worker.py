"""Where the model is: in a child process, which may die without taking the batch with it.

After an error of the CUDA runtime every later call of a process fails, so such a process is replaced and the others'
pieces are asked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from m3video.distributed.failures import FailedError, Failure, failure_of
from m3video.distributed.messages import Outcome, Task, Work
from m3video.distributed.worker_process import WorkerProcess
from m3video.errors import M3VideoError, WorkerError

Piece = tuple[Work, Any]
"""What is to be answered, and the video that it belongs to."""


class ModelWorker:
    """One model. Not for several threads at once."""

    def __init__(self, task: Task) -> None:
        self.task = task
        # Nobody knows how long a model thinks: it has no deadline, and all threads.
        self._child = WorkerProcess(deadline=None, one_thread=False)

    def load(self) -> None:
        """Start the process, if it is not there, and load the model.

        Raises:
            M3VideoError: what the user can do something about.
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

    def answer(self, pieces: Sequence[Piece]) -> list[Any]:
        """A reply to each piece, or a `Failure`. Raises as `load`, which is done again after a death."""
        try:
            (replies,) = self._run(_answer, self.task, list(pieces))
        except FailedError as error:
            if len(pieces) == 1:
                return [error.failure]
            # Whose fault it is shows when each is asked alone.
            return [reply for piece in pieces for reply in self.answer([piece])]
        return list(replies)

    def finish(self, work: Work, base: Any, replies: Sequence[Any]) -> list[Outcome] | Failure:
        """A record for each question, or why there is none. Raises as `load`."""
        try:
            (outcomes,) = self._run(_finish, self.task, work, base, list(replies))
        except FailedError as error:
            return error.failure
        return list(outcomes)

    def kill(self) -> None:
        """Stop at once."""
        self._child.kill()

    def _run(self, *call: Any) -> list[Any]:
        self.load()
        return list(self._child.run(*call))


_loaded: Any = None
"""In the child process: the model."""


def _load(task: Task) -> Iterator[M3VideoError | None]:
    global _loaded
    try:
        _loaded = task.load()
    except M3VideoError as error:
        yield error
    else:
        yield None


def _answer(task: Task, pieces: list[Piece]) -> Iterator[list[Any]]:
    yield task.answer(_loaded, pieces)


def _finish(task: Task, work: Work, base: Any, replies: list[Any]) -> Iterator[list[Outcome]]:
    yield task.finish(_loaded, work, base, replies)


def finish_without(task: Task, work: Work, base: Any) -> list[Outcome] | Failure:
    """`ModelWorker.finish` of a task that has no model, in this process."""
    try:
        return task.finish(None, work, base, [])
    except Exception as error:
        return failure_of(error)
