"""A summary: chapters with captions, and sentences that say which time each rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = "m3video.summary/2"
"""In files of schema 1 seconds are those of the file's own timestamps, less `clock_start_seconds` in subtitles."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the video, in seconds as players count, and what the model said of it."""

    start_seconds: float
    end_seconds: float
    caption: str
    num_shots: int
    num_frames: int
    visual_tokens: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the summary and the time it rests on.

    `chapters` are numbers from 1. `is_cited`: the model itself named them; else it is all that the model had before it
    when it wrote the sentence.
    """

    text: str
    start_seconds: float
    end_seconds: float
    chapters: tuple[int, ...]
    is_cited: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """What one video shows.

    `depth` is how many times captions were drawn together: 0 for a single chapter, 1 where all captions fit in the
    context, more for long videos. `tokens` are sums over all prompts and answers. `partial`: frames of the file are
    missing or damaged.
    """

    video: str
    model: str
    chapters: tuple[Chapter, ...]
    sentences: tuple[Sentence, ...]
    depth: int
    tokens: Mapping[str, int]
    stage_seconds: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    partial: bool = False

    @property
    def text(self) -> str:
        """The summary in one paragraph."""
        return " ".join(sentence.text for sentence in self.sentences)


def to_json(summary: Summary) -> dict[str, Any]:
    """As JSON values."""
    return {"schema": SCHEMA, "summary": summary.text, **asdict(summary)}
