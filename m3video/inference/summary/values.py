"""The values of a summary: chapters with captions, and sentences that cite time ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = "m3video.summary/2"
"""In schema 1 seconds were raw timestamps of the file, from which subtitles subtracted `clock_start_seconds`."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the video, in seconds as players count, and its caption."""

    start_seconds: float
    end_seconds: float
    caption: str
    num_shots: int
    num_frames: int
    visual_tokens: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the summary and the time range it is based on.

    Attributes:
        chapters: numbers from 1.
        is_cited: the model cited these chapters itself; else they are all that stood in its prompt.
    """

    text: str
    start_seconds: float
    end_seconds: float
    chapters: tuple[int, ...]
    is_cited: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of one video.

    Attributes:
        depth: levels of merging: 0 for a single chapter, 1 where all captions fit in the context, more for long videos.
        tokens: sums over all prompts and answers.
        partial: whether frames of the file are missing or damaged.
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
    """Return the summary as JSON values."""
    return {"schema": SCHEMA, "summary": summary.text, **asdict(summary)}
