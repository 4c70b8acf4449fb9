"""`files.replacing`: whole or not at all, through links, and into what cannot be replaced."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from m3video.utils.files import replacing


def write(path: Path, text: str = "new") -> None:
    with replacing(path) as part:
        part.write_text(text)


def fail(path: Path) -> None:
    with replacing(path) as part:
        part.write_text("half")
        raise RuntimeError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, "old")
    with pytest.raises(RuntimeError):
        fail(path)
    assert path.read_text() == "old"
    write(path)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "far").mkdir()
    file, link = tmp_path / "far" / "a", tmp_path / "link"
    if is_there:
        file.write_text("old")
    link.symlink_to(Path("far") / "a")
    write(link)
    assert link.is_symlink()
    assert not file.is_symlink()
    assert file.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "far", "link"]


@pytest.mark.parametrize("through_link", [False, True])
def test_a_pipe_stays_and_gets_the_bytes(tmp_path: Path, through_link: bool) -> None:
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if through_link:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    # Held open in both directions, so that a product that replaces the pipe fails this test instead of hanging it.
    end = os.open(pipe, os.O_RDWR)
    writer = threading.Thread(target=write, args=(path,), daemon=True)
    writer.start()
    writer.join(timeout=20)
    assert pipe.is_fifo()
    os.set_blocking(end, False)
    assert os.read(end, 100) == b"new"
    os.close(end)


def test_a_pipe_gets_nothing_when_the_block_fails(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RuntimeError):
        fail(pipe)
    assert list(tmp_path.iterdir()) == [pipe]
    assert pipe.is_fifo()


def test_a_socket_and_a_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as held:
        held.bind("socket")
        with pytest.raises(OSError):
            write(Path("socket"))
    assert Path("socket").is_socket()
    Path("folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write(Path("folder"))
    assert sorted(os.listdir()) == ["folder", "socket"]
