"""The same crew on a Ray cluster: workers and model places are actors, frames go from one to the other directly.

A worker keeps at most two pieces unanswered; that is back-pressure in bytes, wherever the model is slower. Within a
worker the decoding is a child process all the same: only a child can be killed when a decoder hangs. Actors that die
are replaced, and nothing is given to one that has not answered yet: a node that left must not hold up the rest.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from m3video.distributed.failures import FailedError, Failure, failure_of
from m3video.distributed.messages import Event, Failed, Finished, Identified, ModelRequest, Outcome, Task, Work
from m3video.distributed.model_worker import ModelWorker, finish_without
from m3video.distributed.ray_tasks import LOCAL, connected
from m3video.distributed.worker_process import DEADLINE_SECONDS, WorkerProcess
from m3video.errors import M3VideoError

UNANSWERED = 2
"""Pieces of one worker that wait for the model: one is being answered while the next is decoded."""


@dataclass(frozen=True, slots=True)
class ModelWorkerDied:
    """The process of the model is gone: not the worker's fault, but the item may be to blame."""

    message: str


class Worker:
    """An actor of one CPU that decodes in a child process."""

    def __init__(self, task: Task, deadline: float) -> None:
        self.task, self.child = task, WorkerProcess(deadline=deadline)

    def ready(self) -> None:
        """Answers when the actor is up."""

    def identify(self, video: str) -> str | Failure:
        try:
            return next(iter(list(self.child.run(self.task.identify, video))))
        except FailedError as error:
            return error.failure

    def work(self, work: Work, place: Any) -> list[Outcome] | Failure | ModelWorkerDied:
        import ray

        base, references = None, []
        try:
            with contextlib.closing(self.child.run(self.task.work, work)) as values:
                for value in values:
                    if isinstance(value, ModelRequest):
                        references.append(place.answer.remote(work, value.content))
                        if len(references) > UNANSWERED:
                            ray.wait([references[-1 - UNANSWERED]])
                    else:
                        base = value.content
            if place is None:
                return finish_without(self.task, work, base)
            replies = ray.get(references)
            failed = next((reply for reply in replies if isinstance(reply, Failure)), None)
            return failed or ray.get(place.finish.remote(work, base, replies))
        except FailedError as error:
            return error.failure
        except ray.exceptions.RayError as error:
            return ModelWorkerDied(" ".join(str(error).split())[:300])
        except Exception as error:
            return failure_of(error)


class ModelActor:
    """An actor that holds the model. Its calls come in threads; whoever has the lock answers all that wait."""

    def __init__(self, task: Task) -> None:
        self._place = ModelWorker(task)
        self._lock = threading.Lock()
        self._waiting: deque[_Asked] = deque()

    def ready(self) -> M3VideoError | None:
        """Loads the model; returns what the user can do something about."""
        try:
            self._place.load()
        except M3VideoError as error:
            return error
        return None

    def answer(self, work: Work, content: Any) -> Any:
        mine = _Asked((work, content))
        self._waiting.append(mine)
        with self._lock:
            if not mine.is_answered:
                together = []
                while self._waiting:
                    together.append(self._waiting.popleft())
                replies = self._place.answer([one.piece for one in together])
                for one, reply in zip(together, replies, strict=True):
                    one.reply, one.is_answered = reply, True
            return mine.reply

    def finish(self, work: Work, base: Any, replies: list[Any]) -> list[Outcome] | Failure:
        with self._lock:
            return self._place.finish(work, base, replies)


@dataclass(slots=True, eq=False)
class _Asked:
    """A piece that waits for its reply."""

    piece: tuple[Work, Any]
    reply: Any = None
    is_answered: bool = False


@dataclass(slots=True)
class _Run:
    """A video that a worker is busy with."""

    number: int
    worker: Any
    work: Work | None = None
    place: Any = None


class RayPool:
    """Workers and model places on a cluster."""

    def __init__(
        self, task: Task, *, address: str = LOCAL, workers: int | None = None, deadline: float = DEADLINE_SECONDS
    ) -> None:
        """Args:
        task: what is done with each video.
        address: as for `ray_tasks.connected`.
        workers: actors that decode; None for one on each CPU that the model leaves free.
        deadline: seconds without a sign of life after which a child is killed.

        Raises:
            UsageError: ray is not installed.
            WorkerError: no cluster at `address`.
        """
        self.task, self.deadline = task, deadline
        self._exit = contextlib.ExitStack()
        # One CPU more, for the model.
        cpus = None if workers is None or address != LOCAL else workers + task.needs_model
        self._ray = self._exit.enter_context(connected(address, num_cpus=cpus))
        there = self._ray.cluster_resources()
        num_cpus, self._gpus = int(there.get("CPU", 1)), int(there.get("GPU", 0)) if task.wants_gpu else 0
        self._model_cpus = 0 if self._gpus or num_cpus < 2 else 1
        self._free: list[Any] = []
        self._idle_places: list[Any] = []  # one entry for each work that a place may still take on
        self._starting: dict[Any, Callable[[], None]] = {}  # reference of `ready` -> what to do when it answers
        self._running: dict[Any, _Run] = {}  # reference of `identify` or `work`
        self._waiting: dict[int, _Run] = {}  # identified, and for `carry_out` or `release`
        self._held: list[_Run] = []  # for a place
        self._actors: list[Any] = []
        num_places = (self._gpus or 1) if task.needs_model else 0
        count = workers or max(1, num_cpus - (self._model_cpus if task.needs_model else 0))
        # Every place has enough to do, and no worker waits for a place while another is idle.
        self._share = -(-count // max(1, num_places)) + 1
        for _ in range(num_places):
            self._start_place()
        for _ in range(count):
            self._start_worker()

    @property
    def num_free(self) -> int:
        return len(self._free)

    def identify(self, number: int, video: str) -> None:
        run = _Run(number, self._free.pop())
        self._running[run.worker.identify.remote(video)] = run

    def carry_out(self, number: int, work: Work) -> None:
        run = self._waiting.pop(number)
        run.work = work
        self._held.append(run)
        self._hand_out()

    def release(self, number: int) -> None:
        self._free.append(self._waiting.pop(number).worker)

    def wait(self, seconds: float) -> list[Event]:
        references = [*self._starting, *self._running]
        ready, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        events = [event for reference in ready if (event := self._settle(reference)) is not None]
        self._hand_out()
        return events

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors.clear()
        self._exit.close()

    def _settle(self, reference: Any) -> Event | None:
        if reference in self._starting:
            self._ready(reference)
            return None
        run = self._running.pop(reference)
        try:
            value = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._drop(run.worker)
            self._start_worker()
            self._give_back(run)
            why = f"the worker process or its node died ({' '.join(str(error).split())[:300]})"
            return Failed(run.number, Failure("crash", why))
        if run.work is None and isinstance(value, str):
            self._waiting[run.number] = run
            return Identified(run.number, value)
        self._free.append(run.worker)
        if isinstance(value, ModelWorkerDied):
            if run.place in self._actors:
                self._drop(run.place)
                self._idle_places = [place for place in self._idle_places if place is not run.place]
                self._start_place()
            return Failed(run.number, Failure("crash", f"the model's process died ({value.message})"))
        self._give_back(run)
        return Failed(run.number, value) if isinstance(value, Failure) else Finished(run.number, value)

    def _ready(self, reference: Any) -> None:
        then = self._starting.pop(reference)
        error = self._ray.get(reference)  # an actor that cannot start at all is nothing to go on with
        if error is not None:
            raise error
        then()

    def _hand_out(self) -> None:
        """Start held works for which there is a place."""
        while self._held and (self._idle_places or not self.task.needs_model):
            run = self._held.pop(0)
            run.place = self._idle_places.pop(0) if self.task.needs_model else None
            self._running[run.worker.work.remote(run.work, run.place)] = run

    def _give_back(self, run: _Run) -> None:
        if run.place is not None and run.place in self._actors:
            self._idle_places.append(run.place)

    def _start_worker(self) -> None:
        options = {"num_cpus": 1, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        actor = self._ray.remote(**options)(Worker).remote(self.task, self.deadline)
        self._actors.append(actor)
        self._starting[actor.ready.remote()] = lambda: self._free.append(actor)

    def _start_place(self) -> None:
        options = {"num_gpus": 1} if self._gpus else {"num_cpus": self._model_cpus}
        options |= {"max_restarts": 0, "max_concurrency": 1 + UNANSWERED * self._share}
        actor = self._ray.remote(**options)(ModelActor).remote(self.task)
        self._actors.append(actor)
        self._starting[actor.ready.remote()] = lambda: self._idle_places.extend([actor] * self._share)

    def _drop(self, actor: Any) -> None:
        self._actors.remove(actor)
        self._ray.kill(actor)
