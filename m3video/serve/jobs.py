"""Long work on files for the page: in the background, one at a time of each kind, with progress and a cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from m3video.distributed.failures import FailedError
from m3video.distributed.worker_process import WorkerProcess, wait
from m3video.errors import M3VideoError
from m3video.serve.decoding import PASS_DEADLINE, video_error
from m3video.serve.errors import RequestError
from m3video.video.path_checks import Identity, check_file

CANCEL_SECONDS = 0.2
"""After which a cancelled job ends."""

MOST_WAITING = 16
"""Jobs of a kind that may wait for their turn."""


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job is.

    `state` is "waiting", "running" or "ready"; `stage` names what is counted, `total` is None where it is not known.
    """

    state: str
    stage: str = ""
    done: int = 0
    total: int | None = None

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"state": self.state, "stage": self.stage, "done": self.done, "total": self.total}


class _Job:
    """One job that waits or runs."""

    def __init__(self, path: str, arguments: tuple[Any, ...]) -> None:
        self.path, self.arguments = path, arguments
        self.state = JobState("waiting")
        self.process = WorkerProcess(deadline=PASS_DEADLINE, one_thread=False)
        self.is_cancelled = False


class Jobs:
    """Jobs of one kind, at most one for each file."""

    def __init__(
        self,
        function: Callable[..., Iterator[Any]],
        *,
        first_stage: str,
        on_found: Callable[[Identity, str, Any], None],
        on_end: Callable[..., None] = lambda *_: None,
    ) -> None:
        """Nothing is started yet.

        Args:
            function: runs in a process of its own with the path and the arguments of `start`; it yields tuples
                (stage, done, total), and last what it found.
            first_stage: what it does before it tells its first count.
            on_found: called with the identity and the path of the file and what was found.
            on_end: called with the arguments of `start` when a job ends, however it does.
        """
        self._function, self._first_stage, self._on_found, self._on_end = function, first_stage, on_found, on_end
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._jobs: dict[Identity, _Job] = {}
        self._failed: dict[Identity, M3VideoError] = {}

    def start(self, path: str, make_arguments: Callable[[], tuple[Any, ...]]) -> JobState:
        """Start the job of a file if there is none, and return how far it is.

        Args:
            path: of the file.
            make_arguments: makes the further arguments of the function; called only where the job is started.

        Raises:
            VideoError: the file is no readable video, or the job that was started before has failed.
            RequestError: 429, too many are waiting.
        """
        key = check_file(path).identity
        with self._lock:
            if key in self._failed:  # told once; the next call tries again
                raise self._failed.pop(key)
            if key not in self._jobs:
                if len(self._jobs) > MOST_WAITING:
                    raise RequestError(
                        f"{len(self._jobs)} videos wait for this: try again when one is done",
                        status=429,
                        headers={"Retry-After": "5"},
                    )
                job = self._jobs[key] = _Job(path, make_arguments())
                threading.Thread(target=self._run, args=(key, job), daemon=True).start()
            return self._jobs[key].state

    def cancel(self, path: str) -> None:
        """End the job of a file, if there is one that waits or runs."""
        key = check_file(path).identity
        with self._lock:
            job = self._jobs.pop(key, None)
        if job is not None:
            job.is_cancelled = True

    def close(self) -> None:
        """End all jobs."""
        with self._lock:
            jobs, self._jobs = list(self._jobs.values()), {}
        for job in jobs:
            job.is_cancelled = True

    def _run(self, key: Identity, job: _Job) -> None:
        found: Any = None
        error: M3VideoError | None = None
        with self._turn:
            try:
                found = None if job.is_cancelled else self._follow(job)
                if found is not None and not job.is_cancelled:
                    self._on_found(key, job.path, found)
            except FailedError as failure:
                error = video_error(failure, job.path)
            except M3VideoError as problem:
                error = problem
            finally:
                self._on_end(*job.arguments)
        with self._lock:
            if self._jobs.get(key) is not job:  # cancelled: the process was killed, which is no failure
                return
            del self._jobs[key]
            if error is not None:
                self._failed[key] = error

    def _follow(self, job: _Job) -> Any:
        """Run the job and return what it found, None where it is cancelled.

        Raises:
            FailedError: it failed, crashed or hung.
        """
        job.state = JobState("running", self._first_stage)
        job.process.start(self._function, job.path, *job.arguments)
        try:
            while not job.is_cancelled:
                for _, tag, value in wait([job.process], CANCEL_SECONDS):
                    if tag == "failed":
                        raise FailedError(value)
                    if tag == "value" and not isinstance(value, tuple):
                        return value
                    if tag == "value":
                        job.state = JobState("running", *value)
        finally:
            job.process.kill()
        return None
