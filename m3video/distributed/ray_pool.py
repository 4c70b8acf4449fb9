"""A worker pool on a Ray cluster: decoders and model workers are actors, and frames go directly from one to the other.

A decoder has at most two unanswered model requests; that is the back-pressure where the model is slower. Within an
actor the decoding runs in a child process all the same: only a child can be killed when a decoder hangs. Actors that
die are replaced, and an actor gets no work before it has said that it is ready: a node that left must not hold up the
rest.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from m3video.distributed.failures import FailedError, Failure, failure_of
from m3video.distributed.messages import (
    Failed,
    Finished,
    Identified,
    JobRequest,
    ModelRequest,
    Outcome,
    PoolEvent,
    Task,
    VideoJob,
)
from m3video.distributed.model_worker import ModelWorker, finish_without
from m3video.distributed.ray_tasks import LOCAL, connected
from m3video.distributed.worker_process import DEADLINE_SECONDS, WorkerProcess
from m3video.errors import M3VideoError

UNANSWERED = 2
"""Model requests of one decoder that may wait: one is being answered while the next is decoded."""


@dataclass(frozen=True, slots=True)
class ModelWorkerDied:
    """The outcome of a job whose model worker died: the decoder is fine, the video may be the cause."""

    message: str


class DecodeActor:
    """An actor with one CPU that decodes in a child process."""

    def __init__(self, task: Task, deadline: float) -> None:
        self.task, self.child = task, WorkerProcess(deadline=deadline)

    def ready(self) -> None:
        """Return when the actor is up."""

    def identify(self, video: str) -> str | Failure:
        try:
            return next(iter(list(self.child.run(self.task.identify, video))))
        except FailedError as error:
            return error.failure

    def work(self, job: VideoJob, model_worker: Any) -> list[Outcome] | Failure | ModelWorkerDied:
        import ray

        partial_record, references = None, []
        try:
            with contextlib.closing(self.child.run(self.task.work, job)) as values:
                for value in values:
                    if isinstance(value, ModelRequest):
                        references.append(model_worker.answer.remote(job, value.content))
                        if len(references) > UNANSWERED:
                            ray.wait([references[-1 - UNANSWERED]])
                    else:
                        partial_record = value.content
            if model_worker is None:
                return finish_without(self.task, job, partial_record)
            replies = ray.get(references)
            failed = next((reply for reply in replies if isinstance(reply, Failure)), None)
            return failed or ray.get(model_worker.finish.remote(job, partial_record, replies))
        except FailedError as error:
            return error.failure
        except ray.exceptions.RayError as error:
            return ModelWorkerDied(" ".join(str(error).split())[:300])
        except Exception as error:
            return failure_of(error)


class ModelActor:
    """An actor with the model. Its calls come in threads; the one that has the lock answers all pending requests."""

    def __init__(self, task: Task) -> None:
        self._model_worker = ModelWorker(task)
        self._lock = threading.Lock()
        self._waiting: deque[_PendingRequest] = deque()

    def ready(self) -> M3VideoError | None:
        """Load the model; return an error that the user can fix, or None."""
        try:
            self._model_worker.load()
        except M3VideoError as error:
            return error
        return None

    def answer(self, job: VideoJob, content: Any) -> Any:
        pending = _PendingRequest((job, content))
        self._waiting.append(pending)
        with self._lock:
            if not pending.is_answered:
                batch = []
                while self._waiting:
                    batch.append(self._waiting.popleft())
                replies = self._model_worker.answer([one.request for one in batch])
                for one, reply in zip(batch, replies, strict=True):
                    one.reply, one.is_answered = reply, True
            return pending.reply

    def finish(self, job: VideoJob, partial_record: Any, replies: list[Any]) -> list[Outcome] | Failure:
        with self._lock:
            return self._model_worker.finish(job, partial_record, replies)


@dataclass(slots=True, eq=False)
class _PendingRequest:
    """A model request that waits for its reply."""

    request: JobRequest
    reply: Any = None
    is_answered: bool = False


@dataclass(slots=True)
class _RayRun:
    """A video that an actor is working on."""

    number: int
    worker: Any
    job: VideoJob | None = None
    model_worker: Any = None


class RayPool:
    """Decoders and model workers on a Ray cluster."""

    def __init__(
        self, task: Task, *, address: str = LOCAL, workers: int | None = None, deadline: float = DEADLINE_SECONDS
    ) -> None:
        """Args:
        task: what is done with each video.
        address: as for `ray_tasks.connected`.
        workers: actors that decode; None for one on each CPU that the model does not need.
        deadline: seconds without a heartbeat after which a child process is killed.

        Raises:
            UsageError: ray is not installed.
            WorkerError: there is no cluster at `address`.
        """
        self.task, self.deadline = task, deadline
        self._exit = contextlib.ExitStack()
        # One more CPU for the model.
        cpus = None if workers is None or address != LOCAL else workers + task.needs_model
        self._ray = self._exit.enter_context(connected(address, num_cpus=cpus))
        resources = self._ray.cluster_resources()
        num_cpus, self._gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0)) if task.wants_gpu else 0
        self._model_cpus = 0 if self._gpus or num_cpus < 2 else 1
        self._free: list[Any] = []
        self._idle_model_workers: list[Any] = []  # one entry for each job that it may still take on
        self._starting: dict[Any, Callable[[], None]] = {}  # reference of `ready` -> what to do when it returns
        self._running: dict[Any, _RayRun] = {}  # reference of `identify` or `work`
        self._waiting: dict[int, _RayRun] = {}  # identified; `carry_out` or `release` comes next
        self._unassigned: list[_RayRun] = []  # waiting for a model worker
        self._actors: list[Any] = []
        num_model_workers = (self._gpus or 1) if task.needs_model else 0
        count = workers or max(1, num_cpus - (self._model_cpus if task.needs_model else 0))
        # Every model worker has enough to do, and no decoder waits for one while another is idle.
        self._share = -(-count // max(1, num_model_workers)) + 1
        for _ in range(num_model_workers):
            self._start_model_worker()
        for _ in range(count):
            self._start_worker()

    @property
    def num_free(self) -> int:
        return len(self._free)

    def identify(self, number: int, video: str) -> None:
        run = _RayRun(number, self._free.pop())
        self._running[run.worker.identify.remote(video)] = run

    def carry_out(self, number: int, job: VideoJob) -> None:
        run = self._waiting.pop(number)
        run.job = job
        self._unassigned.append(run)
        self._start_jobs()

    def release(self, number: int) -> None:
        self._free.append(self._waiting.pop(number).worker)

    def wait(self, seconds: float) -> list[PoolEvent]:
        references = [*self._starting, *self._running]
        ready, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        events = [event for reference in ready if (event := self._settle(reference)) is not None]
        self._start_jobs()
        return events

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors.clear()
        self._exit.close()

    def _settle(self, reference: Any) -> PoolEvent | None:
        if reference in self._starting:
            self._actor_started(reference)
            return None
        run = self._running.pop(reference)
        try:
            value = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._drop(run.worker)
            self._start_worker()
            self._free_model_worker(run)
            message = f"the worker process or its node died ({' '.join(str(error).split())[:300]})"
            return Failed(run.number, Failure("crash", message))
        if run.job is None and isinstance(value, str):
            self._waiting[run.number] = run
            return Identified(run.number, value)
        self._free.append(run.worker)
        if isinstance(value, ModelWorkerDied):
            if run.model_worker in self._actors:
                self._drop(run.model_worker)
                self._idle_model_workers = [one for one in self._idle_model_workers if one is not run.model_worker]
                self._start_model_worker()
            return Failed(run.number, Failure("crash", f"the model's process died ({value.message})"))
        self._free_model_worker(run)
        return Failed(run.number, value) if isinstance(value, Failure) else Finished(run.number, value)

    def _actor_started(self, reference: Any) -> None:
        on_ready = self._starting.pop(reference)
        error = self._ray.get(reference)  # raises where the actor cannot start at all: then the batch cannot go on
        if error is not None:
            raise error
        on_ready()

    def _start_jobs(self) -> None:
        """Start the waiting jobs for which there is a model worker."""
        while self._unassigned and (self._idle_model_workers or not self.task.needs_model):
            run = self._unassigned.pop(0)
            run.model_worker = self._idle_model_workers.pop(0) if self.task.needs_model else None
            self._running[run.worker.work.remote(run.job, run.model_worker)] = run

    def _free_model_worker(self, run: _RayRun) -> None:
        if run.model_worker is not None and run.model_worker in self._actors:
            self._idle_model_workers.append(run.model_worker)

    def _start_worker(self) -> None:
        options = {"num_cpus": 1, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        actor = self._ray.remote(**options)(DecodeActor).remote(self.task, self.deadline)
        self._actors.append(actor)
        self._starting[actor.ready.remote()] = lambda: self._free.append(actor)

    def _start_model_worker(self) -> None:
        options = {"num_gpus": 1} if self._gpus else {"num_cpus": self._model_cpus}
        options |= {"max_restarts": 0, "max_concurrency": 1 + UNANSWERED * self._share}
        actor = self._ray.remote(**options)(ModelActor).remote(self.task)
        self._actors.append(actor)
        self._starting[actor.ready.remote()] = lambda: self._idle_model_workers.extend([actor] * self._share)

    def _drop(self, actor: Any) -> None:
        self._actors.remove(actor)
        self._ray.kill(actor)
