"""What a reader collects: questions that can be asked, subtitles, and by name everything that is missing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3video.errors import UsageError
from m3video.evaluation.records import Record
from m3video.evaluation.subtitles import Cue
from m3video.utils.text import counted, printable

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".gif")
NAMED = 3
"""Missing things that a note names; `results.json` has them all."""

LETTER = "Answer with the option's letter from the given choices directly."
"""Of LLaVA, and lmms-eval's for most sets."""

SHORT = "Answer the question using a single word or phrase."


@dataclass(frozen=True)
class Benchmark:
    """The questions of one benchmark that can be asked.

    Attributes:
        name: of the benchmark.
        records: questions with a video that is there and an answer.
        subtitles: video -> cues, for videos that have some; empty unless wanted.
        missing: kind ("video", "subtitles", "answer", "judge") -> name -> number of questions. Questions without
            subtitles are asked without them, the others are left out.
        notes: what else a reader of the results must know.
    """

    name: str
    records: tuple[Record, ...]
    subtitles: Mapping[str, Sequence[Cue]]
    missing: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]

    def missing_notes(self) -> list[str]:
        """Return one line for each kind of thing that is missing."""
        lines = []
        for kind, names in self.missing.items():
            shown = ", ".join(printable(name) for name in list(names)[:NAMED])
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            what = "asked without" if kind == "subtitles" else "left out"
            lines.append(f"{counted(sum(names.values()), 'question')} without {kind} {what}: {shown}{more}")
        return lines


class Videos:
    """The videos below a folder, found by path, file name, or name without ending."""

    def __init__(self, folder: Path) -> None:
        """List them; UsageError where the folder is not there."""
        if not folder.is_dir():
            raise UsageError(f"--videos ({printable(folder)}) is no folder: give the one with the benchmark's videos")
        self.folder = folder
        self._named: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in VIDEO_SUFFIXES:
                self._named[path.name].append(path)
                self._named[path.stem].append(path)

    def find(self, name: str) -> Path | None:
        """Return the video: at that path below the folder, or the only one with that name anywhere below it.

        Raises:
            UsageError: several have that name.
        """
        if (self.folder / name).suffix.lower() in VIDEO_SUFFIXES and (self.folder / name).is_file():
            return self.folder / name
        found = self._named.get(Path(name).name, [])
        if len(found) > 1:
            there = ", ".join(printable(path.relative_to(self.folder)) for path in found[:3])
            raise UsageError(f"--videos ({printable(self.folder)}) holds several videos {printable(name)}: {there}")
        return found[0] if found else None


@dataclass
class Questions:
    """Collects the questions of one benchmark.

    Attributes:
        name: of the benchmark.
        videos: where they lie.
        cues: name of a video to its subtitles, or None where it has none; None where they are not wanted.
    """

    name: str
    videos: Videos
    cues: Callable[[str], Sequence[Cue] | None] | None = None
    notes: list[str] = field(default_factory=list)
    _records: dict[str, Record] = field(default_factory=dict)
    _subtitles: dict[str, Sequence[Cue]] = field(default_factory=dict)
    _missing: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _named: dict[str, Path | None] = field(default_factory=dict)
    count: int = 0

    def add(
        self, id: str, *, video: str | Sequence[str], question: str, answer: str | None, family: str, **more: Any
    ) -> None:
        """Add a question, or count what it lacks.

        Args:
            id: unique in the benchmark.
            video: its name, or several of which the first that is there is meant.
            question: its words, without options.
            answer: the truth, or None where the file has none.
            family: its task type.
            more: further fields of `Record`.

        Raises:
            UsageError: the id stands there twice, or the question is none.
        """
        self.count += 1
        names = [video] if isinstance(video, str) else video
        path = next((found for found in map(self._find, names) if found is not None), None)
        if answer is None:
            self._missing["answer"][id] += 1
        elif path is None:
            self._missing["video"][names[0]] += 1
        else:
            if id in self._records:
                raise UsageError(f"{self.name}: the question {id} stands there twice")
            # Questions about one video are not independent, whatever the moments they ask about.
            given: dict[str, Any] = {"group": None, "localised": None, "clip": names[0], **more}
            try:
                self._records[id] = Record(id, str(path), question.strip(), answer, family or "all", **given)
            except ValueError as error:
                raise UsageError(f"{self.name}, question {id}: {error}") from None
            self._add_subtitles(names[0], str(path))

    def add_choice(
        self, id: str, *, options: Sequence[str], answer: int | None, question: str, prompt: str, **more: Any
    ) -> None:
        """Add a multiple-choice question; `answer` is the number of the option, `prompt` the whole official wording.

        Raises:
            UsageError: as `add`.
        """
        self.add(
            id,
            question=question,
            answer=None if answer is None else options[answer],
            options=tuple(options),
            metric="option",
            prompt=prompt,
            **more,
        )

    def lack(self, kind: str, name: str) -> None:
        """Count one question that cannot be asked, or judged, for want of `kind`."""
        self.count += 1
        self._missing[kind][name] += 1

    def _find(self, name: str) -> Path | None:
        if name not in self._named:
            self._named[name] = self.videos.find(name)
        return self._named[name]

    def _add_subtitles(self, name: str, path: str) -> None:
        if self.cues is None:
            return
        if path not in self._subtitles and not (
            self._missing["subtitles"][name] if "subtitles" in self._missing else 0
        ):
            cues = self.cues(name)
            if cues is not None:
                self._subtitles[path] = cues
        if path not in self._subtitles:
            self._missing["subtitles"][name] += 1

    def done(self) -> Benchmark:
        """Return what was collected.

        Raises:
            UsageError: no question can be asked.
        """
        missing = {kind: dict(names) for kind, names in self._missing.items()}
        made = Benchmark(self.name, tuple(self._records.values()), self._subtitles, missing, tuple(self.notes))
        if not made.records:
            raise UsageError(
                f"{self.name}: none of the {self.count} questions can be asked: {'; '.join(made.missing_notes())}"
            )
        return made


def lettered(options: Sequence[str], form: str = "{}. {}") -> str:
    """Return one line for each option, e.g. `A. a dog`."""
    return "\n".join(form.format(chr(ord("A") + number), option) for number, option in enumerate(options))


_INLINE = re.compile(r"^\s*\(?([A-Z])[).:]\s*(.*?)\s*$")


def without_letter(option: str) -> str:
    """Return an option as it is after its own letter: `A. a dog` and `(A) a dog` are `a dog`."""
    found = _INLINE.match(option)
    return found[2] if found else option.strip()


def split_options(text: str) -> tuple[str, list[str]]:
    """Return a question and the options that stand in its last lines, as `(A) ...` or `A. ...`, A first.

    Lines that follow an option without a letter belong to it.
    """
    lines = text.strip().split("\n")
    start = next((n for n, line in enumerate(lines) if (m := _INLINE.match(line)) and m[1] == "A"), len(lines))
    options: list[str] = []
    for line in lines[start:]:
        found = _INLINE.match(line)
        if found and found[1] == chr(ord("A") + len(options)):
            options.append(found[2])
        elif line.strip():
            options[-1] += "\n" + line.strip()
    return "\n".join(lines[:start]).strip(), options
