"""What people keep about the videos of a folder: questions, answers and marks, in one SQLite file of that folder.

Each change is one transaction, written ahead to a log: two tabs, or two servers of one folder, do not lose each
other's, and after a kill the file opens with all that was confirmed. The file is made when the first thing is kept.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from m3video.serve.errors import RequestError
from m3video.utils.text import printable

NAME = Path(".m3video") / "notes.sqlite3"
"""Where the file lies in the folder."""

MIGRATIONS = (
    """
    CREATE TABLE looked (video TEXT PRIMARY KEY, at REAL NOT NULL);
    CREATE TABLE answers (
        id INTEGER PRIMARY KEY AUTOINCREMENT, video TEXT NOT NULL, asked_at REAL NOT NULL,
        question TEXT NOT NULL, answer TEXT NOT NULL, record TEXT NOT NULL
    );
    CREATE INDEX answers_of ON answers (video, id);
    CREATE TABLE marks (
        id INTEGER PRIMARY KEY AUTOINCREMENT, video TEXT NOT NULL, made_at REAL NOT NULL,
        start REAL NOT NULL, until REAL, text TEXT NOT NULL
    );
    CREATE INDEX marks_of ON marks (video, start);
    """,
)
"""One script for each version; a file of an older version gets those it lacks."""

WAIT_SECONDS = 10.0
"""Longest time to wait for another writer."""


class Notes:
    """The notes of one folder."""

    def __init__(self, folder: Path) -> None:
        """Nothing is opened or made yet."""
        self.path = folder / NAME

    def mark_looked(self, video: str) -> None:
        """Keep that a video was looked at."""
        with self._changing() as database:
            database.execute("INSERT OR REPLACE INTO looked VALUES (?, ?)", (video, time.time()))

    def states(self) -> dict[str, tuple[bool, int, int]]:
        """Return whether each video was looked at, and its numbers of answers and marks; only videos with notes."""
        with self._reading() as database:
            if database is None:
                return {}
            looked = {video for (video,) in database.execute("SELECT video FROM looked")}
            answers, marks = (
                dict(database.execute(f"SELECT video, count(*) FROM {table} GROUP BY video"))
                for table in ("answers", "marks")
            )
        names = looked | answers.keys() | marks.keys()
        return {name: (name in looked, answers.get(name, 0), marks.get(name, 0)) for name in names}

    def of(self, video: str) -> dict[str, list[dict[str, Any]]]:
        """Return the answers of a video as they were asked, and its marks by their times."""
        with self._reading() as database:
            if database is None:
                return {"answers": [], "marks": []}
            answers = database.execute("SELECT * FROM answers WHERE video = ? ORDER BY id", (video,)).fetchall()
            marks = database.execute("SELECT * FROM marks WHERE video = ? ORDER BY start, id", (video,)).fetchall()
        found = [dict(row) for row in answers]
        for answer in found:
            answer["record"] = json.loads(answer["record"])
        return {"answers": found, "marks": [dict(row) for row in marks]}

    def add_answer(self, video: str, question: str, answer: str, record: Mapping[str, Any]) -> int:
        """Keep an answer with its record, JSON values; return its number."""
        with self._changing() as database:
            done = database.execute(
                "INSERT INTO answers (video, asked_at, question, answer, record) VALUES (?, ?, ?, ?, ?)",
                (video, time.time(), question, answer, json.dumps(record)),
            )
            assert done.lastrowid is not None
            return done.lastrowid

    def add_mark(self, video: str, start: float, until: float | None, text: str) -> int:
        """Keep a mark, at one time or over a range, seconds as players count; return its number."""
        with self._changing() as database:
            done = database.execute(
                "INSERT INTO marks (video, made_at, start, until, text) VALUES (?, ?, ?, ?, ?)",
                (video, time.time(), start, until, text),
            )
            assert done.lastrowid is not None
            return done.lastrowid

    def change_mark(self, number: int, text: str) -> None:
        """Replace the words of a mark.

        Raises:
            RequestError: 404, there is none of this number.
        """
        with self._changing() as database:
            done = database.execute("UPDATE marks SET text = ? WHERE id = ?", (text, number))
        _found(done, "mark", number)

    def remove(self, kind: str, number: int) -> None:
        """Remove an answer or a mark; `kind` is "answer" or "mark".

        Raises:
            RequestError: 404, there is none of this number.
        """
        table = {"answer": "answers", "mark": "marks"}[kind]
        with self._changing() as database:
            done = database.execute(f"DELETE FROM {table} WHERE id = ?", (number,))
        _found(done, kind, number)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection, or None where nothing was kept yet."""
        if not self.path.exists():
            yield None
            return
        with self._told(), closing(self._connection()) as database:
            yield database

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection within a transaction that is kept when the block succeeds."""
        with self._told():
            self.path.parent.mkdir(exist_ok=True)
            with closing(self._connection()) as database:
                database.execute("BEGIN IMMEDIATE")
                with database:
                    yield database

    def _connection(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
        try:
            database.row_factory = sqlite3.Row
            self._migrate(database)
        except BaseException:
            database.close()
            raise
        return database

    def _migrate(self, database: sqlite3.Connection) -> None:
        version = _version(database)
        if version > len(MIGRATIONS):
            raise RequestError(
                f"notes {printable(self.path)} were written by a newer m3video (version {version}, this one knows "
                f"{len(MIGRATIONS)}): use that one",
                status=503,
            )
        if version == len(MIGRATIONS):
            return
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        with database:
            for number, script in enumerate(MIGRATIONS[_version(database) :], _version(database) + 1):
                for statement in filter(str.strip, script.split(";")):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of the file into lines for users."""
        try:
            yield
        except OSError as error:
            raise RequestError(
                f"notes {printable(self.path)} cannot be written ({error.strerror}): nothing was kept", status=503
            ) from None
        except sqlite3.DatabaseError as error:
            raise RequestError(
                f"notes {printable(self.path)} cannot be used ({error}): nothing was kept; if the file is damaged, "
                "move it away",
                status=503,
            ) from None


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _found(done: sqlite3.Cursor, kind: str, number: int) -> None:
    if not done.rowcount:
        raise RequestError(f"there is no {kind} {number}: it was removed, perhaps in another tab", status=404)
