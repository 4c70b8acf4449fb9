"""One model, and the videos that were asked about: sessions are kept, requests wait their turn in a bounded queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from m3video.config import Settings
from m3video.inference.session import VideoSession
from m3video.serve.errors import RequestError
from m3video.types import Answer

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a video.

    Attributes:
        path: the video, as `VideoFolder.find` returns it.
        text: in plain words.
        changes: settings of the plan that differ from the server's.
        max_new_tokens: longest answer; None for the server's setting.
        stop: texts at which the answer ends, before them.
    """

    path: Path
    text: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of an answer: `text` up to a stop text, and why it ended there ("stop" or "length")."""

    answer: Answer
    text: str
    finish_reason: str


class Engine:
    """The model of this process and the sessions of the videos that were asked about."""

    def __init__(self, settings: Settings, *, most_waiting: int = 32) -> None:
        """Args:
        settings: of the server; a request may change those of the plan.
        most_waiting: requests that may wait; one more is refused with 429.
        """
        self.settings, self.most_waiting = settings, most_waiting
        self._loaded: LoadedModel | None = None

    async def stream(self, question: Question) -> AsyncIterator[str | Reply]:
        """Yield the answer in pieces as they are generated, then the whole reply; closing it cancels the work."""
        raise RequestError("not here yet", status=503)
        yield ""

    async def call(self, path: Path, function: Callable[[VideoSession], T], changes: Mapping[str, Any]) -> T:
        """Run `function` with the session of a video in a thread, without the model: for plans and stats."""
        raise RequestError("not here yet", status=503)

    def close(self) -> None:
        """End what runs, and release all sessions."""
