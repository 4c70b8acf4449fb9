"""The cache folder: found by the whole key, checked byte by byte, bounded, and shared by processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from m3video.cli import cache as verbs
from m3video.errors import M3VideoError
from m3video.utils.cache import STALE_SECONDS, Cache, cache_root, code_digest, versions

KEY = {"video": "blake2b:1", "weights": "a"}
ARRAYS = {"grid": np.arange(600, dtype=np.float32).reshape(2, 300)}


def cache(root: Path, most: int = 1 << 30) -> Cache:
    return Cache(root, most)


def put(held: Cache, name: str = "7", **more: str) -> Path:
    held.save("grids", {**KEY, **more}, name, ARRAYS, about={"video": "film.mp4"})
    return next(path for path in held.root.rglob(f"{name}.safetensors"))


def test_what_is_stored_comes_back_bit_for_bit(tmp_path: Path) -> None:
    held = cache(tmp_path / "deep")
    assert held.load("grids", KEY, "7") is None
    put(held)
    found = cache(tmp_path / "deep").load("grids", KEY, "7")
    assert found is not None
    assert found["grid"].dtype == np.float32
    assert found["grid"].tobytes() == ARRAYS["grid"].tobytes()
    assert not held.notes


@pytest.mark.parametrize("other", [{"video": "blake2b:2"}, {"weights": "b"}, {"more": "x"}])
def test_another_key_finds_nothing(tmp_path: Path, other: dict[str, str]) -> None:
    held = cache(tmp_path)
    put(held)
    assert held.load("grids", {**KEY, **other}, "7") is None
    assert held.load("grids", KEY, "8") is None
    assert held.load("scans", KEY, "7") is None


@pytest.mark.parametrize("place", [0, 3, 40, 200, -1, -900])
def test_a_flipped_bit_is_noticed_anywhere(tmp_path: Path, place: int) -> None:
    held = cache(tmp_path)
    path = put(held)
    stored = bytearray(path.read_bytes())
    stored[place] ^= 4
    path.write_bytes(stored)
    assert held.load("grids", KEY, "7") is None
    assert "is damaged: removed and made again" in held.notes[0]
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 5, 300])
def test_a_cut_file_is_noticed(tmp_path: Path, size: int) -> None:
    held = cache(tmp_path)
    path = put(held)
    path.write_bytes(path.read_bytes()[:size])
    assert held.load("grids", KEY, "7") is None
    assert len(held.notes) == 1


def test_a_file_of_another_entry_is_no_answer(tmp_path: Path) -> None:
    held = cache(tmp_path)
    put(held, "8").rename(put(held))
    assert held.load("grids", KEY, "7") is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    held = cache(tmp_path)
    paths = [put(held, str(n)) for n in range(4)]
    for age, path in enumerate(paths):
        os.utime(path, (0, time.time() - 1000 + age))
    assert held.load("grids", KEY, "0") is not None  # used again
    size = paths[0].stat().st_size
    held.most_bytes = 2 * size
    held.settle()
    assert [path.exists() for path in paths] == [True, False, False, True]
    assert held.trim(0) == (2, 2 * size)
    assert not list((tmp_path / "grids").iterdir())


def test_unfinished_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    held = cache(tmp_path)
    folder = put(held).parent
    old, new = folder / ".a.1-1.part", folder / ".b.1-1.part"
    for part in (old, new):
        part.write_bytes(b"x")
    os.utime(old, (0, time.time() - STALE_SECONDS - 10))
    held.trim()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_cannot_be_written_adds_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    held = cache(tmp_path / "file")
    for name in "12":
        held.save("grids", KEY, name, ARRAYS, about={})
        assert held.load("grids", KEY, name) is None
    assert len(held.notes) == 1
    assert "nothing is kept" in held.notes[0]


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_file_of_another_user_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = cache(tmp_path)
    put(held)
    monkeypatch.setattr(os, "utime", refuse)
    assert held.load("grids", KEY, "7") is not None
    assert not held.notes


def test_a_file_that_cannot_be_removed_adds_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = cache(tmp_path)
    path = put(held)
    put(held, "8")
    path.write_bytes(b"broken")
    monkeypatch.setattr(Path, "unlink", refuse)
    assert held.load("grids", KEY, "7") is None
    stays = f"cache {tmp_path} holds files that cannot be removed (Permission denied): they stay"
    assert held.notes == [stays, f"cache {path} is damaged: made again"]
    held.most_bytes = 0
    held.settle()
    assert held.trim() == (0, 0)
    assert len(held.notes) == 2
    monkeypatch.setenv("M3VIDEO_CACHE_DIR", str(tmp_path))
    with pytest.raises(M3VideoError, match=r"cannot be removed \(Permission denied\)"):
        verbs.prune(keep_gib=0)


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both write, read and evict the same entries; neither fails, neither reads anything half."""
    script = """
import sys, numpy as np
from pathlib import Path
from m3video.cli import cache as verbs
from m3video.utils.cache import Cache
held = Cache(Path(sys.argv[1]), 60000)
for turn in range(60):
    for name in map(str, range(8)):
        arrays = {"grid": np.full(3000, int(name), np.float32)}
        found = held.load("grids", {"k": 1}, name)
        assert found is None or (found["grid"] == arrays["grid"]).all()
        held.save("grids", {"k": 1}, name, arrays, about={})
    held.settle()
assert not held.notes, held.notes
"""
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in running] == [("", 0)] * 2


def test_rows_describe_the_entries(tmp_path: Path) -> None:
    held = cache(tmp_path)
    put(held)
    put(held, "8")
    put(held, "9", weights="b").write_bytes(b"broken")
    rows = {row["files"]: row for row in held.rows()}
    assert rows[2]["video"] == "film.mp4"
    assert "video" not in rows[1]
    assert sum(row["bytes"] for row in rows.values()) == sum(p.stat().st_size for p in tmp_path.rglob("*.safetensors"))


def test_models_are_listed_never_evicted_and_removed_with_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "small-1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(9000))
    (folder / "made_from.json").write_text('{"name": "small", "base": "SmolLM2"}')
    unfinished = tmp_path / "models" / ".small-2"
    shutil.copytree(folder, unfinished)
    held = cache(tmp_path, most=100)
    put(held)
    held.settle()
    (row,) = held.rows()
    assert (row["kind"], row["files"], row["bytes"], row["name"], row["base"]) == (
        "models",
        2,
        9036,
        "small",
        "SmolLM2",
    )
    assert verbs.table([row], None).endswith("small (SmolLM2)")
    assert held.trim(0) == (0, 0)
    assert held.remove_models() == (2, 9036)
    assert not held.notes
    assert [path.name for path in (tmp_path / "models").iterdir()] == [unfinished.name]


def test_the_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M3VIDEO_CACHE_DIR", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("M3VIDEO_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "m3video"


def test_code_and_libraries_are_part_of_the_key() -> None:
    assert code_digest("video/*.py") == code_digest("video/*.py") != code_digest("model/*.py")
    assert versions("numpy", "no-such-package") == {"numpy": np.__version__, "no-such-package": ""}


@pytest.mark.parametrize("width", [None, 40, 60, 80, 200])
def test_the_table_of_entries_has_a_line_for_each_and_cuts_paths_to_a_terminal_only(width: int | None) -> None:
    path = "/films/" + "long/" * 20 + "a\nb.mp4"
    row = {"kind": "scans", "files": 1, "bytes": 5000, "used": 0.0, "video": path, "scan": "full"}
    lines = verbs.table([row, row], width).splitlines()
    assert len(lines) == (6 if width in (40, 60) else 3)
    assert lines[-1].endswith(r"a\nb.mp4 (full)")
    if width is None:
        assert path.replace("\n", r"\n") in lines[-1]
    else:
        assert max(map(len, lines)) <= width
