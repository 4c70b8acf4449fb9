"""The items of a batch: questions about the videos of a source, and the identity of each item."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3video.distributed.sources import Source
from m3video.errors import UsageError
from m3video.utils.json_lines import RELATIVE, json_lines
from m3video.utils.text import printable
from m3video.video.path_checks import absolute


@dataclass(frozen=True, slots=True)
class BatchQuestion:
    """One question; `id` is the user's name for it, or empty. A task that asks nothing has the empty question."""

    text: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class BatchQuestions:
    """The questions about every video, and those about single videos (by absolute path)."""

    of_all: tuple[BatchQuestion, ...] = (BatchQuestion(),)
    of_one: Mapping[str, tuple[BatchQuestion, ...]] = field(default_factory=dict)

    def of(self, video: str) -> tuple[BatchQuestion, ...]:
        return self.of_all + self.of_one.get(absolute(video), ()) if self.of_one else self.of_all


_MOST_NAMES = 3
"""Names in a note about what is left out, so that it stays one line."""


def left_out(source: Source, questions: BatchQuestions) -> tuple[str, ...]:
    """Return a line about questions on videos that `source` lacks, and one about videos without a question.

    There is no line where nothing is left to do: then the batch itself refuses.
    """
    if not questions.of_one:
        return ()
    missing = dict.fromkeys(questions.of_one)
    videos, num_unasked = 0, 0
    unasked: list[str] = []
    for video in source:
        videos += 1
        missing.pop(absolute(video), None)
        if not questions.of(video):
            num_unasked += 1
            unasked += [video] if num_unasked <= _MOST_NAMES else []
    if num_unasked == videos:
        return ()
    notes = []
    if missing:
        total = len(questions.of_all) + sum(map(len, questions.of_one.values()))
        elsewhere = sum(len(questions.of_one[video]) for video in missing)
        named = _named(list(missing), len(missing))
        notes.append(f"{elsewhere} of {total} questions are about other videos: left out ({named}); {RELATIVE}")
    if unasked:
        notes.append(f"{num_unasked} of {videos} videos have no question: left out ({_named(unasked, num_unasked)})")
    return tuple(notes)


def _named(names: Sequence[str], count: int) -> str:
    """Return the first of `count` names, as text for one line."""
    return ", ".join(map(printable, names[:_MOST_NAMES])) + (
        f" and {count - _MOST_NAMES} more" if count > _MOST_NAMES else ""
    )


def read_batch_questions(path: Path) -> BatchQuestions:
    """Read a JSONL file of `{"question": ..., "id": ..., "video": ...}`; without "video", a question is for every one.

    A video's path is relative to the file's folder, as in evaluation records. Other keys of such records, and those
    that `tune` reads, are accepted and not used.

    Raises:
        UsageError: the file is not readable or empty, or a line is no question, has an unknown key or is there twice;
            the line is named.
    """
    of_all: dict[BatchQuestion, None] = {}
    of_one: dict[str, dict[BatchQuestion, None]] = {}
    for where, value in json_lines(path):
        question, video = _question(value, where)
        same_video = of_all if video is None else of_one.setdefault(os.path.abspath(path.parent / video), {})
        if question in same_video:
            raise UsageError(f"{where}: the same question is there twice")
        same_video[question] = None
    if not of_all and not of_one:
        raise UsageError(f"questions {printable(path)}: the file is empty")
    return BatchQuestions(tuple(of_all), {video: tuple(asked) for video, asked in of_one.items()})


def _question(value: dict[str, Any], where: str) -> tuple[BatchQuestion, str | None]:
    if not isinstance(value.get("question"), str) or not value["question"].strip():
        raise UsageError(f'{where} is no question: write {{"question": "..."}}, and "id" and "video" if you like')
    name, video = value.get("id", ""), value.get("video")
    if not isinstance(name, (str, int)) or not isinstance(video, (str, type(None))):
        raise UsageError(f"{where}: id and video must be texts")
    return BatchQuestion(value["question"], str(name)), video


def digest(*parts: Any) -> str:
    """Return 24 hex digits that identify JSON values."""
    text = json.dumps(parts, sort_keys=True)  # ASCII: a name that is no UTF-8 keeps its own escapes
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Item:
    """One unit of a batch: a video and a question.

    Attributes:
        video: path as the source gives it.
        question: the question, or the empty one.
        path_key: digest of path, question and task; a later result with this key replaces an error, whatever the
            settings.
        file_key: digest of path, size, time of change, question and config; known without reading the file.
    """

    video: str
    question: BatchQuestion
    path_key: str
    file_key: str

    def identity(self, fingerprint: str, config: str) -> str:
        """Return a digest of content, question, task and config; it is the same for a copy of the file."""
        return digest("item", fingerprint, self.question.text, self.question.id, config)


def items_of(video: str, questions: Sequence[BatchQuestion], *, task: str, config: str) -> tuple[Item, ...]:
    """Return the items of one video.

    Args:
        video: path, whether or not the file is there.
        questions: one item each.
        task: name of the task.
        config: digest of the task and everything that changes its outcome.
    """
    path = absolute(video)
    try:
        status = os.stat(path)
        state = [status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):
        state = []
    return tuple(
        Item(video, q, digest("place", path, q.text, q.id, task), digest("key", path, state, q.text, q.id, config))
        for q in questions
    )
