"""First passes for the page: made in the background, one at a time, with progress; what they found is kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from m3video.config import Settings
from m3video.distributed.failures import FailedError
from m3video.distributed.worker_process import WorkerProcess, wait
from m3video.errors import M3VideoError
from m3video.serve.decoding import PASS_DEADLINE, Looked, look, video_error
from m3video.serve.errors import RequestError
from m3video.utils.text import printable
from m3video.video.path_checks import Identity, check_file

KEPT_BYTES = 512 * 2**20
"""Stats that are kept in memory, about; the latest are kept however large they are."""

BYTES_OF_A_ROW = 450
"""What `FrameStats` holds of one frame, about."""

CANCEL_SECONDS = 0.2
"""After which a cancelled pass ends."""

MOST_WAITING = 16
"""First passes that may wait for their turn."""


@dataclass(frozen=True, slots=True)
class LookState:
    """How far a first pass is.

    `state` is "waiting", "running" or "ready"; `stage` names what is counted, `total` is None where it is not known.
    """

    state: str
    stage: str = ""
    done: int = 0
    total: int | None = None


class _Job:
    """One first pass that waits or runs."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.state = LookState("waiting")
        self.process = WorkerProcess(deadline=PASS_DEADLINE, one_thread=False)
        self.is_cancelled = False


class Looks:
    """The first passes of the folder's videos."""

    def __init__(self, settings: Settings, *, on_ready: Callable[[str], Any]) -> None:
        """Nothing is read yet.

        Args:
            settings: name the decoder and the scan.
            on_ready: called with the path of each video whose pass has ended.
        """
        self._settings, self._on_ready = settings, on_ready
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._jobs: dict[Identity, _Job] = {}
        self._failed: dict[Identity, M3VideoError] = {}
        self._kept: OrderedDict[Identity, Looked] = OrderedDict()

    def start(self, path: str) -> LookState:
        """Start the first pass of a file if none was made, and return how far it is.

        Raises:
            VideoError: the file is no readable video, or the pass that was started before has failed.
            RequestError: 429, too many are waiting.
        """
        key = check_file(path).identity
        with self._lock:
            if key in self._kept:
                return LookState("ready")
            if key in self._failed:  # told once; the next call tries again
                raise self._failed.pop(key)
            if key not in self._jobs:
                if len(self._jobs) > MOST_WAITING:
                    raise RequestError(
                        f"{len(self._jobs)} videos wait to be looked at: try again when one is done",
                        status=429,
                        headers={"Retry-After": "5"},
                    )
                job = self._jobs[key] = _Job(path)
                threading.Thread(target=self._run, args=(key, job), daemon=True).start()
            return self._jobs[key].state

    def found(self, path: str) -> Looked:
        """Return what the first pass found.

        Raises:
            VideoError: the file is no readable video.
            RequestError: 409, the file as it is now was not looked at.
        """
        key = check_file(path).identity
        with self._lock:
            if key not in self._kept:
                raise RequestError(
                    f"{printable(path)} was not looked at since the server started or the file changed: look first",
                    status=409,
                    code="not_looked_at",
                )
            self._kept.move_to_end(key)
            return self._kept[key]

    def cancel(self, path: str) -> None:
        """End the first pass of a file, if there is one that waits or runs."""
        key = check_file(path).identity
        with self._lock:
            job = self._jobs.pop(key, None)
        if job is not None:
            job.is_cancelled = True

    def close(self) -> None:
        """End all first passes."""
        with self._lock:
            jobs, self._jobs = list(self._jobs.values()), {}
        for job in jobs:
            job.is_cancelled = True

    def _run(self, key: Identity, job: _Job) -> None:
        with self._turn:
            if job.is_cancelled:
                return
            try:
                found = self._follow(job)
                error: M3VideoError | None = None
            except FailedError as failure:
                found, error = None, video_error(failure, job.path)
        if found is not None and not job.is_cancelled:
            self._on_ready(job.path)
        with self._lock:
            if self._jobs.get(key) is not job:  # cancelled: the process was killed, which is no failure
                return
            del self._jobs[key]
            if error is not None:
                self._failed[key] = error
            elif found is not None:
                self._keep(key, found)

    def _follow(self, job: _Job) -> Looked | None:
        """Run the pass and return what it found, None where it is cancelled.

        Raises:
            FailedError: it failed, crashed or hung.
        """
        job.state = LookState("running", "reading its packets")
        job.process.start(look, job.path, self._settings)
        try:
            while not job.is_cancelled:
                for _, tag, value in wait([job.process], CANCEL_SECONDS):
                    if tag == "failed":
                        raise FailedError(value)
                    if isinstance(value, Looked):
                        return value
                    if tag == "value":
                        job.state = LookState("running", *value)
        finally:
            job.process.kill()
        return None

    def _keep(self, key: Identity, found: Looked) -> None:
        self._kept[key] = found
        while len(self._kept) > 1 and sum(len(one.stats) for one in self._kept.values()) * BYTES_OF_A_ROW > KEPT_BYTES:
            self._kept.popitem(last=False)
