"""The folder of a run: what it was made with, one line for each answer, and no answer lost when it is killed.

`run.json` holds what must not change between the runs that fill one folder; `samples.jsonl` one answer a line;
`clips.jsonl` what each clip cost; `plans.jsonl` the frames behind each plan id; `failures.jsonl` what the latest run
could not answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m3video.errors import UsageError
from m3video.utils.files import replacing

SCHEMA = "m3video.eval/1"
SampleRow = dict[str, Any]
SampleKey = tuple[str, int, str]
"""Method, budget, record id."""


class RunFolder:
    """A resumable folder of answers."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Open or begin a run.

        Args:
            folder: made when it is not there.
            identity: JSON values that all answers in the folder share, e.g. model and questions.

        Raises:
            UsageError: the folder holds answers that were made with something else; the difference is named.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {"schema": SCHEMA, **json.loads(json.dumps(identity))}
        self._check(wanted)
        self.done = {sample_key(row) for row in read_sample_rows(folder / "samples.jsonl", mend=True)}
        read_sample_rows(folder / "clips.jsonl", mend=True)
        self._plans = {row["plan"] for row in read_sample_rows(folder / "plans.jsonl", mend=True)}

    def _check(self, wanted: SampleRow) -> None:
        path = self.folder / "run.json"
        if not path.exists():
            with replacing(path) as part:
                part.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read ({error}): give another --out") from None
        for name in sorted({*wanted, *found}):
            if found.get(name) != wanted.get(name):
                raise UsageError(
                    f"{self.folder} holds answers made with {name} {_short(found.get(name))}, this run has "
                    f"{_short(wanted.get(name))}: give another --out"
                )

    def add_samples(self, rows: Sequence[SampleRow]) -> None:
        """Append answers; they are on disk when this returns."""
        _append(self.folder / "samples.jsonl", rows)
        self.done |= {sample_key(row) for row in rows}

    def add_clip(self, row: SampleRow) -> None:
        """Append what a clip cost."""
        _append(self.folder / "clips.jsonl", [row])

    def add_plan(self, name: str, pieces: Iterable[Sequence[Any]]) -> None:
        """Append the frames of a plan, once."""
        if name not in self._plans:
            self._plans.add(name)
            _append(self.folder / "plans.jsonl", [{"plan": name, "pieces": [list(piece) for piece in pieces]}])

    def add_failures(self, rows: Sequence[SampleRow]) -> None:
        """Append what could not be answered, and why."""
        _append(self.folder / "failures.jsonl", rows)

    def forget_failures(self) -> None:
        """Begin anew: what failed is tried again."""
        (self.folder / "failures.jsonl").unlink(missing_ok=True)

    def failures(self) -> list[SampleRow]:
        """Return what the latest run could not answer: method, budget, doc_id, error."""
        return read_sample_rows(self.folder / "failures.jsonl")

    def samples(self) -> list[SampleRow]:
        """Return all answers so far."""
        return read_sample_rows(self.folder / "samples.jsonl")

    def clips(self) -> list[SampleRow]:
        """Return what each clip cost; a clip of two runs has two rows."""
        return read_sample_rows(self.folder / "clips.jsonl")


def sample_key(row: SampleRow) -> SampleKey:
    """Return the method, budget and record that make an answer unique."""
    return row["method"], row["budget"], row["doc_id"]


def read_sample_rows(path: Path, *, mend: bool = False) -> list[SampleRow]:
    """Read a JSONL file that may end in a torn line; `mend` cuts that line off, so that appending is safe.

    Raises:
        UsageError: a line before the last is torn: the file was damaged by something else.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if mend and len(whole) < len(data):
        with replacing(path) as part:
            part.write_bytes(whole)
    return list(_parsed(path, whole))


def _parsed(path: Path, data: bytes) -> Iterator[SampleRow]:
    for number, line in enumerate(data.splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError:
            raise UsageError(f"{path}, line {number} is damaged: give another --out") from None


def _append(path: Path, rows: Sequence[SampleRow]) -> None:
    # One write, ended by a line feed: what a kill leaves of it is told apart from a whole line.
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
