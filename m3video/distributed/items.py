"""What a batch consists of: videos from a folder or a list, questions, and the identity of each item.

Nothing here grows with the number of videos: they are walked again whenever they are wanted.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from m3video.errors import UsageError
from m3video.video.gate import shown

SUFFIXES = frozenset(
    ".3g2 .3gp .avi .divx .dv .f4v .flv .gif .h264 .h265 .hevc .m1v .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg "
    ".mpg .mts .mxf .obu .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)
"""What counts as a video in a folder. A list may name anything."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question; `id` is the user's own name for it, or empty. Tasks that ask nothing have the empty question."""

    text: str = ""
    id: str = ""


class Source(Protocol):
    """Videos of a batch, in an order that does not change while the files do not."""

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Every file below `root` whose name ends like a video's, sorted; links to folders and hidden names are left."""

    root: Path

    def __iter__(self) -> Iterator[str]:
        return _walk(os.fspath(self.root))


def _walk(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"folder {folder} cannot be read: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield entry.path


@dataclass(slots=True)
class Listed:
    """One path a line, as `find` and `ls` print them: relative to the working folder. Only empty lines are no paths: a
    name may begin with #, so there are no comments."""

    file: Path
    kept: IO[bytes] | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[str]:
        try:
            with self.file.open("rb") as lines:
                for line in lines:
                    name = line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
                    if name.strip():
                        yield os.fsdecode(name)
        except OSError as error:
            raise UsageError(f"list {self.file} cannot be read: {error.strerror}") from None


def open_source(text: str) -> Source:
    """`FOLDER`, a file that lists videos, or `-` for a list on stdin.

    Raises:
        UsageError: nothing of that name, or a video where a list is expected.
    """
    if text == "-":
        # Kept on disk: the list is walked more than once, and may be longer than memory likes.
        kept = tempfile.NamedTemporaryFile(prefix="m3video-list-")  # noqa: SIM115 - lives as long as the source
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        return Listed(Path(kept.name), kept)
    path = Path(text)
    if path.is_dir():
        return Folder(path)
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(f"{text} is a video: give the folder it is in, a list of videos, or use m3video summarize")
    if not path.is_file():
        raise UsageError(f"{text} is neither a folder nor a file that lists videos")
    return Listed(path)


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked: of every video, and of single ones (by absolute path)."""

    of_all: tuple[Question, ...] = (Question(),)
    of_one: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)

    def of(self, video: str) -> tuple[Question, ...]:
        return self.of_all + self.of_one.get(os.path.abspath(video), ()) if self.of_one else self.of_all


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
        missing.pop(os.path.abspath(video), None)
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
        notes.append(f"{elsewhere} of {asked} questions are about other videos: left out ({named})")
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

    A video's path is relative to the file's folder, as in evaluation records; other keys are ignored.

    Raises:
        UsageError: not readable, empty, or a line that is no question or stands there twice; the line is named.
    """
    of_all: dict[Question, None] = {}
    of_one: dict[str, dict[Question, None]] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                question, video = _question(line, f"{path}, line {number}")
                held = of_all if video is None else of_one.setdefault(os.path.abspath(path.parent / video), {})
                if question in held:
                    raise UsageError(f"{path}, line {number}: the same question stands there twice")
                held[question] = None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"questions {path} cannot be read: {error}") from None
    if not of_all and not of_one:
        raise UsageError(f"questions {path}: the file is empty")
    return Questions(tuple(of_all), {video: tuple(held) for video, held in of_one.items()})


def _question(line: str, where: str) -> tuple[Question, str | None]:
    try:
        value = json.loads(line)
    except ValueError:
        raise UsageError(f"{where} is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("question"), str) or not value["question"].strip():
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
    path = os.path.abspath(video)
    try:
        status = os.stat(path)
        state = [status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):
        state = []
    return tuple(
        Item(video, q, digest("place", path, q.text, q.id, task), digest("key", path, state, q.text, q.id, config))
        for q in questions
    )
