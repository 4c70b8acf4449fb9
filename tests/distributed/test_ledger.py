"""The folder of a batch after a kill at every byte."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m3video.distributed.items import BatchQuestion, Item, digest, items_of
from m3video.distributed.ledger import DiskFullError, Ledger
from m3video.errors import UsageError


def item(number: int, state: str = "") -> Item:
    made = items_of(f"video {number}", [BatchQuestion()], task="t", config="c")[0]
    return replace(made, file_key=digest(made.file_key, state)) if state else made


def name(number: int) -> str:
    return f"{number:024x}"


def fill(ledger: Ledger) -> None:
    """What a batch writes: a result, a failure, a copy, a failure that is mended, another result."""
    steps: list[tuple[str, Any]] = [
        ("result", 1),
        ("error", 2),
        ("copy", 3),
        ("error", 4),
        ("result", 4),
        ("result", 5),
    ]
    for kind, number in steps:
        if kind == "error" and ledger.failed.get(item(number).path_key) is None and not ledger.is_done(item(number)):
            ledger.add_error(item(number), {"kind": "input", "error": "why ü"})
        elif kind == "result" and not ledger.has(name(number)):
            ledger.add_result(item(number), name(number), {"answer": "ü" * 50, "video_seconds": 2.0})
        elif kind == "copy" and not ledger.is_done(item(number)):
            ledger.add_copy(item(number), name(1))


def check(folder: Path) -> None:
    with Ledger(folder) as ledger:
        assert [row["video"] for row in ledger.results()] == ["video 1", "video 4", "video 5"]
        assert [row["video"] for row in ledger.errors()] == ["video 2"]
        assert all(ledger.is_done(item(number)) for number in (1, 3, 4, 5))
        assert set(ledger.failed) == {item(2).path_key}
        assert ledger.video_seconds == 6.0
    lines = (folder / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["video"] for line in lines] == ["video 2"]


def test_a_kill_anywhere_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prefix of the bytes that a batch appends, in the order of appending, is a state to go on from."""
    writes: list[tuple[str, bytes]] = []
    real = os.write

    def spy(file: int, data: bytes) -> int:
        writes.append((Path(os.readlink(f"/proc/self/fd/{file}")).name, data))
        return real(file, data)

    monkeypatch.setattr(os, "write", spy)
    with Ledger(tmp_path / "whole") as ledger:
        fill(ledger)
    monkeypatch.undo()
    check(tmp_path / "whole")
    assert len(writes) == 9
    states = 0
    for count in range(len(writes) + 1):
        for part in (0.0, 0.02, 0.5, 0.999):
            folder = tmp_path / f"{count} {part}"
            folder.mkdir()
            (folder / "batch.json").write_bytes((tmp_path / "whole" / "batch.json").read_bytes())
            torn = [(file, data[: int(len(data) * part)]) for file, data in writes[count : count + 1]]
            for file, data in [*writes[:count], *torn]:
                with (folder / file).open("ab") as out:
                    out.write(data)
            with Ledger(folder) as ledger:
                fill(ledger)
            check(folder)
            states += 1
    assert states == 40


def test_a_lost_manifest_is_made_anew(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        fill(ledger)
    (tmp_path / "manifest.jsonl").unlink()
    with Ledger(tmp_path) as ledger:
        fill(ledger)  # the copy is not in the results: it is found again
    check(tmp_path)


def test_a_full_disk_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add_result(item(1), name(1), {})
        before = (tmp_path / "results.jsonl").read_bytes()
        real, room = os.write, [30]

        def full(file: int, data: bytes) -> int:
            if room[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = real(file, data[: room[0]])
            room[0] -= written
            return written

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(DiskFullError, match="No space left"):
            ledger.add_result(item(2), name(2), {})
        monkeypatch.undo()
        assert (tmp_path / "results.jsonl").read_bytes() == before
        ledger.add_result(item(2), name(2), {})
    with Ledger(tmp_path) as ledger:
        assert [row["video"] for row in ledger.results()] == ["video 1", "video 2"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(UsageError, match="in use"):
        Ledger(tmp_path)
    Ledger(tmp_path).close()


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").touch()
    with pytest.raises(UsageError, match="not empty"):
        Ledger(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        Ledger(tmp_path / "file" / "out")
    other = tmp_path / "other"
    other.mkdir()
    (other / "batch.json").write_text('{"schema": "m3video.batch/9"}')
    with pytest.raises(UsageError, match=r"m3video\.batch/9"):
        Ledger(other)


def test_damage_is_named(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add_result(item(1), name(1), {})
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(UsageError, match="shorter than manifest"):
        Ledger(tmp_path)
    (tmp_path / "manifest.jsonl").write_text("null\n")
    with pytest.raises(UsageError, match="damaged"):
        Ledger(tmp_path)


def test_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    odd = items_of(os.fsdecode(b"\xff.mp4"), [BatchQuestion()], task="t", config="c")[0]
    with Ledger(tmp_path) as ledger:
        ledger.add_result(odd, name(1), {})
    with Ledger(tmp_path) as ledger:
        assert [row["video"] for row in ledger.results()] == [odd.video]
        assert ledger.is_done(odd)


def test_a_new_state_of_a_file_that_failed_is_open_again(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add_error(item(1), {"error": "cut off"})
        assert ledger.failed[item(1).path_key] != item(1, "whole").file_key
        ledger.add_result(item(1, "whole"), name(1), {})
        assert not list(ledger.errors())
