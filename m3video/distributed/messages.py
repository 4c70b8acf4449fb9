"""What the batch loop, its workers and its tasks say to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from m3video.distributed.failures import Failure
from m3video.distributed.items import Question


@dataclass(frozen=True, slots=True)
class Work:
    """One video and what is to be found out about it: `folders[i]` is for the files of `questions[i]`."""

    video: str
    questions: tuple[Question, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Something for the model, of bounded size."""

    content: Any


@dataclass(frozen=True, slots=True)
class PartialRecord:
    """What a worker found out without the model; its last word."""

    content: Any


Outcome = Mapping[str, Any] | Failure


class Task(Protocol):
    """What is done with each video. It is pickled to wherever its parts run."""

    @property
    def name(self) -> str: ...

    @property
    def needs_model(self) -> bool: ...

    @property
    def wants_gpu(self) -> bool:
        """Whether the model is to run on a GPU where there is one."""

    @property
    def config(self) -> str:
        """Digest of the task and all that changes its outcome."""

    def identify(self, video: str) -> Iterator[str]:
        """In a worker: yields the fingerprint of the file's content."""

    def work(self, work: Work) -> Iterator[ModelRequest | PartialRecord]:
        """In a worker: pieces for the model as they are ready, then the base of the records."""

    def load(self) -> Any:
        """Where the model runs: the model."""

    def answer(self, loaded: Any, pieces: Sequence[tuple[Work, Any]]) -> list[Any]:
        """Where the model runs: a reply to each piece; they may be of several videos."""

    def finish(self, loaded: Any, work: Work, base: Any, replies: Sequence[Any]) -> list[Outcome]:
        """Where the model runs, or the loop where there is none: for each question a record, or why there is none."""


@dataclass(frozen=True, slots=True)
class Identified:
    """A video's content is known; its worker waits for `carry_out` or `release`."""

    number: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Finished:
    """For each question a record, or why there is none."""

    number: int
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Failed:
    """No record for any question."""

    number: int
    failure: Failure


Event = Identified | Finished | Failed


class WorkerPool(Protocol):
    """Workers and model places, wherever they are. A number names a video from `identify` to its last event."""

    @property
    def num_free(self) -> int:
        """Workers that have nothing to do."""

    def identify(self, number: int, video: str) -> None:
        """A free worker takes on `video`."""

    def carry_out(self, number: int, work: Work) -> None:
        """The worker that identified the video goes on with it."""

    def release(self, number: int) -> None:
        """There is nothing to do with this video: its worker is free."""

    def wait(self, seconds: float) -> list[Event]:
        """What happened; returns early with the first events."""

    def close(self) -> None:
        """Stop everything at once."""
