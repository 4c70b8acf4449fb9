"""A person's questions about their own videos, with or without the true answers, from the JSONL that `batch` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m3video.errors import UsageError
from m3video.evaluation.records import Record, is_right, parse_option
from m3video.utils.json_lines import RELATIVE, json_lines
from m3video.utils.text import printable

_EXAMPLE = '{"question": "..."}, and "answer", "options", "id", "video" if you like'
_PLAIN: dict[str, Any] = {"family": "asked", "group": "coarse", "localised": False}
"""What a question says of itself only in files of benchmarks."""


@dataclass(frozen=True, slots=True)
class UserQuestion:
    """One line of the file.

    Attributes:
        record: the question; its answer is "" where the truth is not known.
        video: absolute path of the only video that is meant, or None for all.
    """

    record: Record
    video: str | None

    def about(self, video: str) -> Record | None:
        """Return the question as asked of `video`, or None where another one is meant."""
        if self.video not in (None, os.path.abspath(video)):
            return None
        return replace(self.record, id=f"{video}:{self.record.id}", video=video, clip=video)


def read_user_questions(path: Path) -> list[UserQuestion]:
    """Read a JSONL file: `{"question": ..., "answer": ..., "options": [...], "id": ..., "video": ...}`, all but the
    first optional.

    Without a video a question is asked of every one; a video's path is relative to the file's folder. With options,
    the answer is one of them or its letter. Records of `m3video eval` are read too.

    Raises:
        UsageError: not readable, empty, or a line that is no question, has a key that nobody knows, or stands there
            twice; the line is named.
    """
    found: dict[tuple[str, str | None], UserQuestion] = {}
    for number, (where, value) in enumerate(json_lines(path), 1):
        try:
            asked = _question(value, number, path.parent)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}: {error}; write {_EXAMPLE}") from None
        key = (asked.record.question, asked.video)
        if key in found:
            raise UsageError(f"{where}: the same question stands there twice")
        found[key] = asked
    if not found:
        raise UsageError(f"questions {printable(path)}: the file is empty")
    return list(found.values())


def _question(value: dict[str, Any], number: int, folder: Path) -> UserQuestion:
    """Parse one line; TypeError or ValueError says what is wrong."""
    for name, kind in (("question", str), ("answer", str), ("video", str), ("options", list)):
        if value.get(name) is not None and not isinstance(value[name], kind):
            raise ValueError(f"{name} must be {'a text' if kind is str else 'a list of texts'}")
    if not (value.get("question") or "").strip():
        raise ValueError("it has no question")
    options, answer = value.get("options"), value.get("answer") or ""
    if options is not None and (len(options) < 2 or not all(isinstance(text, str) and text for text in options)):
        raise ValueError("options must be two texts or more")
    given: dict[str, Any] = {name: item for name, item in value.items() if item is not None}
    given |= {"id": str(value.get("id") or number), "video": "-", "clip": "-", "answer": answer}
    if options is not None:
        given["options"] = tuple(options)
        if answer:
            chosen = parse_option(answer, options)
            if chosen is None:
                raise ValueError(f"answer ({answer}) must be one of the options, or its letter")
            given |= {"answer": options[chosen], "metric": "option"}
    if "evidence" in given:
        given["evidence"] = tuple(given["evidence"])
    video = value.get("video")
    return UserQuestion(Record(**{**_PLAIN, **given}), None if video is None else os.path.abspath(folder / video))


def records_of(
    videos: Sequence[str], asked: Sequence[UserQuestion]
) -> tuple[Mapping[str, Sequence[Record]], tuple[str, ...]]:
    """Return what is asked of each video, and a note for each thing that is left out.

    Raises:
        UsageError: no question is about any of the videos.
    """
    about = {video: [r for r in (one.about(video) for one in asked) if r is not None] for video in videos}
    places = {os.path.abspath(video) for video in videos}
    elsewhere = sum(one.video is not None and one.video not in places for one in asked)
    silent = [video for video, records in about.items() if not records]
    notes = []
    if elsewhere:
        notes.append(f"{elsewhere} of {len(asked)} questions are about other videos: left out ({RELATIVE})")
    if silent and len(silent) < len(videos):
        notes.append(f"{len(silent)} of {len(videos)} videos have no question: left out")
    if len(silent) == len(videos):
        which = printable(videos[0]) if len(videos) == 1 else "a video"
        raise UsageError(f"none of the {len(asked)} questions is about {which}: {RELATIVE}")
    return {video: records for video, records in about.items() if records}, tuple(notes)


def agreeing(record: Record, reference: str) -> Record:
    """Return a question without a known answer as one whose answer is the reference's."""
    chosen = None if record.options is None else parse_option(reference, record.options)
    if chosen is None or record.options is None:
        return replace(record, answer=reference, metric="exact")
    return replace(record, answer=record.options[chosen], metric="option")


def is_right_or_agrees(record: Record, text: str, reference: str | None) -> bool:
    """Return whether the answer is right, or the same as the reference where the truth is not known."""
    return is_right(record if reference is None else agreeing(record, reference), text)
