"""The file of notes: made late, safe with several writers and after a kill, and never half of anything."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from m3video.serve.errors import RequestError
from m3video.serve.notes import MIGRATIONS, NAME, Notes
from tests.paths import ROOT


def test_reading_makes_no_file(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    assert notes.states() == {}
    assert notes.of("a.mp4") == {"answers": [], "marks": []}
    assert list(tmp_path.iterdir()) == []


def test_states_count_what_was_kept_of_each_video(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.mark_looked("a.mp4")
    notes.mark_looked("a.mp4")
    notes.add_answer("b.mp4", "What?", "green", {})
    notes.add_mark("b.mp4", 1.0, None, "")
    assert notes.states() == {"a.mp4": (True, 0, 0), "b.mp4": (False, 1, 1)}


def test_marks_come_by_their_times_and_answers_as_they_were_asked(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    for start in (3.0, 1.0):
        notes.add_mark("a.mp4", start, None, "")
        notes.add_answer("a.mp4", f"{start}", "", {"n": start})
    kept = notes.of("a.mp4")
    assert [one["start"] for one in kept["marks"]] == [1.0, 3.0]
    assert [one["record"] for one in kept["answers"]] == [{"n": 3.0}, {"n": 1.0}]


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    def write(number: int) -> None:
        notes = Notes(tmp_path)  # as another server would
        for i in range(20):
            notes.add_mark("a.mp4", number + i / 100, None, "")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Notes(tmp_path).of("a.mp4")["marks"]) == 80


def test_after_a_kill_the_file_opens_with_all_that_was_confirmed(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from m3video.serve.notes import Notes
notes = Notes(Path(sys.argv[1]))
while True:
    print(notes.add_mark("a.mp4", 1.0, None, "x"), flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout is not None
    with writer, writer.stdout:
        for _ in range(50):
            confirmed = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        confirmed = max([confirmed, *(int(line) for line in writer.stdout.read().split(b"\n")[:-1])])
    assert len(Notes(tmp_path).of("a.mp4")["marks"]) >= confirmed
    with sqlite3.connect(tmp_path / NAME) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_an_older_file_gets_what_it_lacks_and_keeps_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Notes(tmp_path).add_mark("a.mp4", 1.0, None, "old")
    later = (*MIGRATIONS, "ALTER TABLE marks ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'")
    monkeypatch.setattr("m3video.serve.notes.MIGRATIONS", later)
    (mark,) = Notes(tmp_path).of("a.mp4")["marks"]
    assert (mark["text"], mark["colour"]) == ("old", "red")


def test_a_newer_file_is_refused_and_stays(tmp_path: Path) -> None:
    Notes(tmp_path).add_mark("a.mp4", 1.0, None, "")
    database = sqlite3.connect(tmp_path / NAME)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(RequestError, match="written by a newer m3video"):
        Notes(tmp_path).add_mark("a.mp4", 2.0, None, "")


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / NAME).parent.mkdir()
    (tmp_path / NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(RequestError, match="cannot be used"):
        Notes(tmp_path).of("a.mp4")


def test_a_folder_that_takes_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / NAME.parent).write_text("a file where the folder should be")
    with pytest.raises(RequestError, match="cannot be written"):
        Notes(tmp_path).add_mark("a.mp4", 1.0, None, "")
