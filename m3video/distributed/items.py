"""What a batch consists of: questions about the videos of a source, and the identity of each item."""

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
from m3video.utils.text import shown
from m3video.video.path_checks import absolute


@dataclass(frozen=True, slots=True)
class Question:
    """One question; `id` is the user's own name for it, or empty. Tasks that ask nothing have the empty question."""

    text: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked: of every video, and of single ones (by absolute path)."""

    of_all: tuple[Question, ...] = (Question(),)
    of_one: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)

    def of(self, video: str) -> tuple[Question, ...]:
        return self.of_all + self.of_one.get(absolute(video), ()) if self.of_one else self.of_all


_MOST_NAMES = 3
"""Of what is left out, so that a line stays one."""


def left_out(source: Source, questions: Questions) -> tuple[str, ...]:
    """A line for questions about videos that `source` lacks, and one for videos without a question; none where nothing
    remains."""
    if not questions.of_one:
        return ()
    missing = dict.fromkeys(questions.of_one)
    videos, num_silent = 0, 0
    silent: list[str] = []
    for video in source:
        videos += 1
        missing.pop(absolute(video), None)
        if not questions.of(video):
            num_silent += 1
            silent += [video] if num_silent <= _MOST_NAMES else []
    if num_silent == videos:
        return ()
    notes = []
    if missing:
        asked = len(questions.of_all) + sum(map(len, questions.of_one.values()))
        elsewhere = sum(len(questions.of_one[video]) for video in missing)
        named = _named(list(missing), len(missing))
        notes.append(f"{elsewhere} of {asked} questions are about other videos: left out ({named}); {RELATIVE}")
    if silent:
        notes.append(f"{num_silent} of {videos} videos have no question: left out ({_named(silent, num_silent)})")
    return tuple(notes)


def _named(names: Sequence[str], count: int) -> str:
    """The first of `count` names, fit for one line."""
    return ", ".join(map(shown, names[:_MOST_NAMES])) + (
        f" and {count - _MOST_NAMES} more" if count > _MOST_NAMES else ""
    )


def read_questions(path: Path) -> Questions:
    """A JSONL file: `{"question": ..., "id": ..., "video": ...}`; without a video it is asked of every one.

    A video's path is relative to the file's folder, as in evaluation records. Their other keys, and those that `tune`
    reads, are known and not used.

    Raises:
        UsageError: not readable, empty, or a line that is no question, has a key that nobody knows, or stands there
            twice; the line is named.
    """
    of_all: dict[Question, None] = {}
    of_one: dict[str, dict[Question, None]] = {}
    for where, value in json_lines(path):
        question, video = _question(value, where)
        held = of_all if video is None else of_one.setdefault(os.path.abspath(path.parent / video), {})
        if question in held:
            raise UsageError(f"{where}: the same question stands there twice")
        held[question] = None
    if not of_all and not of_one:
        raise UsageError(f"questions {shown(path)}: the file is empty")
    return Questions(tuple(of_all), {video: tuple(held) for video, held in of_one.items()})


def _question(value: dict[str, Any], where: str) -> tuple[Question, str | None]:
    if not isinstance(value.get("question"), str) or not value["question"].strip():
        raise UsageError(f'{where} is no question: write {{"question": "..."}}, and "id" and "video" if you like')
    name, video = value.get("id", ""), value.get("video")
    if not isinstance(name, (str, int)) or not isinstance(video, (str, type(None))):
        raise UsageError(f"{where}: id and video must be texts")
    return Question(value["question"], str(name)), video


def digest(*parts: Any) -> str:
    """24 hex digits that tell JSON values apart."""
    text = json.dumps(parts, sort_keys=True)  # ASCII: a name that is no UTF-8 keeps its own escapes
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to be done: a video and a question.

    Attributes:
        video: path as the source gives it.
        question: what is asked, or the empty question.
        place: path, question and task: an error there is settled by whatever comes later, with other settings too.
        key: identity by path, size and time of change: known without reading the file.
    """

    video: str
    question: Question
    place: str
    key: str

    def identity(self, fingerprint: str, config: str) -> str:
        """What the item really is: content, question, task and config; the same for a copy of the file."""
        return digest("item", fingerprint, self.question.text, self.question.id, config)


def items_of(video: str, questions: Sequence[Question], *, task: str, config: str) -> tuple[Item, ...]:
    """The items of one video.

    Args:
        video: path, whether or not the file is there.
        questions: one item each.
        task: its name.
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
