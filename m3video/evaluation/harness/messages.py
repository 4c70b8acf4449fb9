"""Messages of evaluation harnesses as one question about one video."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m3video.config import Settings
from m3video.errors import UsageError
from m3video.inference.session import VideoSession
from m3video.types import Answer

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel


@dataclass(frozen=True)
class VideoQuestion:
    """One question.

    Attributes:
        video: path of a file.
        text: the question, all text parts in order.
        window: `start` and `end` in seconds, those that are given.
    """

    video: str
    text: str
    window: tuple[tuple[str, float], ...] = ()


def video_question(parts: Sequence[Mapping[str, Any]]) -> VideoQuestion:
    """Read parts `{type: "text", text}` and `{type: "video", url, start_time?, end_time?}`.

    Raises:
        UsageError: not exactly one video, no text, or a part of another kind.
    """
    other = sorted({str(part.get("type")) for part in parts} - {"text", "video"})
    if other:
        raise UsageError(f"m3video answers questions about a video: a part of type {other[0]} cannot be given to it")
    videos = [part for part in parts if part["type"] == "video"]
    text = "\n".join(str(part["text"]).strip() for part in parts if part["type"] == "text").strip()
    if len(videos) != 1 or not isinstance(videos[0]["url"], str):
        raise UsageError(f"m3video answers questions about one video file, not {len(videos)}")
    if not text:
        raise UsageError("the question has no text")
    times = {"start": videos[0].get("start_time"), "end": videos[0].get("end_time")}
    window = tuple((name, float(value)) for name, value in times.items() if value is not None)
    return VideoQuestion(videos[0]["url"].removeprefix("file://"), text, window)


def cut_at(text: str, stops: Sequence[str]) -> str:
    """Return the text before the first of the stop strings."""
    return text[: min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=len(text))].strip()


class OpenVideos:
    """Answers questions with one loaded model, keeping the latest videos open: their frames are encoded once."""

    def __init__(self, settings: Settings, loaded: LoadedModel, *, most: int = 2) -> None:
        """Keep `most` videos open."""
        self.settings, self.loaded, self.most = settings, loaded, most
        self._open: OrderedDict[tuple[str, Any], VideoSession] = OrderedDict()

    def ask(self, question: VideoQuestion, *, max_new_tokens: int | None = None) -> Answer:
        """Answer one question; errors as of `VideoSession`."""
        key = (question.video, question.window)
        if key not in self._open:
            while len(self._open) >= self.most:
                self._open.popitem(last=False)[1].close()
            changes: dict[str, Any] = {name: str(seconds) for name, seconds in question.window}
            self._open[key] = VideoSession(
                question.video, self.settings, loaded=self.loaded, keeps_looking=False, **changes
            )
        self._open.move_to_end(key)
        return self._open[key].ask(question.text, evidence=False, max_new_tokens=max_new_tokens)

    def close(self) -> None:
        """Close all videos."""
        while self._open:
            self._open.popitem()[1].close()
