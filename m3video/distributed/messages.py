"""Messages between the batch loop, its worker pool and its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from m3video.distributed.failures import Failure
from m3video.distributed.items import BatchQuestion


@dataclass(frozen=True, slots=True)
class VideoJob:
    """One video and the questions about it; files that belong to `questions[i]` go to `folders[i]`."""

    video: str
    questions: tuple[BatchQuestion, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Input for the model, of bounded size."""

    content: Any


@dataclass(frozen=True, slots=True)
class PartialRecord:
    """What a worker found out without the model; the last thing it yields."""

    content: Any


JobRequest = tuple[VideoJob, Any]
"""A job, and the content of one of its model requests."""

Outcome = Mapping[str, Any] | Failure
"""The record of an item, or why there is none."""


class Task(Protocol):
    """What is done with each video; it is pickled to the processes that run its methods."""

    @property
    def name(self) -> str: ...

    @property
    def needs_model(self) -> bool: ...

    @property
    def wants_gpu(self) -> bool:
        """Whether the model runs on a GPU where there is one."""

    @property
    def config(self) -> str:
        """Digest of the task and everything that changes its outcome."""

    def identify(self, video: str) -> Iterator[str]:
        """Yield the fingerprint of the file's content; runs in a worker."""

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        """Yield model requests as they are ready, then the partial record; runs in a worker."""

    def load(self) -> Any:
        """Return the model; runs in the model worker."""

    def answer(self, loaded: Any, requests: Sequence[JobRequest]) -> list[Any]:
        """Return a reply to each request, which may be of several videos; runs in the model worker."""

    def finish(self, loaded: Any, job: VideoJob, partial_record: Any, replies: Sequence[Any]) -> list[Outcome]:
        """Return the outcome of each question; runs in the model worker or, where there is no model, in the loop."""


@dataclass(frozen=True, slots=True)
class Identified:
    """The event that a video's content is known; its worker waits for `carry_out` or `release`."""

    number: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The event that a job is done, with the outcome of each question."""

    number: int
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Failed:
    """The event that a job failed for all its questions."""

    number: int
    failure: Failure


PoolEvent = Identified | Finished | Failed


class WorkerPool(Protocol):
    """Workers and model workers. A number stands for a video from `identify` to its last event."""

    @property
    def num_free(self) -> int:
        """Workers that have nothing to do."""

    def identify(self, number: int, video: str) -> None:
        """Let a free worker identify `video`."""

    def carry_out(self, number: int, job: VideoJob) -> None:
        """Let the worker that identified the video do the job."""

    def release(self, number: int) -> None:
        """Free the worker that identified this video: there is nothing to do with it."""

    def wait(self, seconds: float) -> list[PoolEvent]:
        """Return what happened within `seconds`; return early with the first events."""

    def close(self) -> None:
        """Kill all workers."""
