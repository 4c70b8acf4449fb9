"""Another program writes to the file while it is read: an error that says so, in place of results or of other errors.

What happens to the file happens at a fixed point of the reading, through the hook that tells that work goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m3video.cli.app import main
from m3video.config import Settings
from m3video.errors import ChangedFileError, VideoError
from m3video.inference.first_pass import EVERY_FRAME, analyze_once
from m3video.inference.pipeline import plan_video
from m3video.utils.cache import Cache
from m3video.video import path_checks
from m3video.video.path_checks import check_file, fingerprint
from m3video.video.reader import open_video, probe
from tests.video.clips import Clip, write

Change = Callable[[Path], object]
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
GROWING = {
    "a.ts": Clip(),
    "a.mkv": Clip(),
    "fragments.mp4": Clip(format_options=FRAGMENTS),
    "a.mp4": Clip(),
    "a.flv": Clip(),
    "a.avi": Clip(codec="mjpeg", pixel_format="yuvj420p"),
}


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + path.read_bytes()[-1000:])


def replace_by_another(path: Path) -> None:
    other = write(path.with_name(f"new_{path.name}"), Clip(numbers=range(60, 90)))
    other.replace(path)


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 500)


def fill_hole(path: Path) -> None:
    """A copy whose space was allocated first: its size is constant while its content arrives."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size * 2 // 3)
        file.write(b"new")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


def touch(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


CHANGES: dict[Change, str] = {
    append: r"is still growing \(1000 bytes more since it was opened\): wait until it is complete, or give a copy",
    replace_by_another: "was replaced by another file while it was read: run the same command again",
    shorten: "became 500 bytes shorter while it was read",
    fill_hole: r"is still being written \(it was written to after it was opened\): wait until it is complete",
    Path.unlink: "was removed or renamed while it was read",
}
HARMLESS: tuple[Change, ...] = (touch, replace_by_a_copy)


def during(monkeypatch: pytest.MonkeyPatch, where: str, change: Callable[[], object]) -> None:
    """Make `change` happen once, when the reading is at `where`: a function of the reader's modules."""
    import m3video.video.index
    import m3video.video.metadata

    module = m3video.video.index if where == "_read_packets" else m3video.video.metadata
    real, happened = getattr(module, where), []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value = real(*args, **kwargs)
        if not happened:
            happened.append(change())
        return value

    monkeypatch.setattr(module, where, wrapped)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("where", ["_read_packets", "fingerprint", "orientation_of"])
def test_a_change_while_a_file_is_opened(
    change: Change, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mkv", Clip())
    during(monkeypatch, where, lambda: change(path))
    with pytest.raises(ChangedFileError, match=CHANGES[change]) as caught:
        probe(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("change", [*CHANGES, *HARMLESS], ids=lambda change: change.__name__)
def test_a_change_during_a_pass(change: Change, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, GROWING[name])

    def read() -> int:
        count = 0
        for count, _ in enumerate(reader.scan(), 1):
            if count == 5:
                change(path)
        return count

    with open_video(path) as reader:
        if change in HARMLESS:
            assert read() == len(reader.index)
            assert len(reader.fetch(reader.index.pts_N[:3].tolist())) == 3
        else:
            with pytest.raises(ChangedFileError, match=CHANGES[change]):
                read()


@pytest.mark.parametrize("change", [*CHANGES, *HARMLESS], ids=lambda change: change.__name__)
@pytest.mark.parametrize("backend", ["pyav", "opencv"])
def test_a_change_before_a_fetch(change: Change, backend: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Clip())
    with open_video(path, backend=backend) as reader:
        pts = reader.index.pts_N[[3, 20, 41]].tolist()
        before = reader.fetch(pts)
        change(path)
        if change in HARMLESS:
            assert [(one.rgb_HW3 == other.rgb_HW3).all() for one, other in zip(before, reader.fetch(pts), strict=True)]
        else:
            with pytest.raises(ChangedFileError, match=CHANGES[change]):
                reader.fetch(pts)


def test_a_recording_without_its_index_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the time of its last change can tell that it goes on; when it grows meanwhile, its size does."""
    path = write(tmp_path / "a.mp4", Clip())
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"moov") - 4])
    with pytest.raises(VideoError, match=r"\(its index, the moov box, is missing\); it was written to within the last"):
        probe(path)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    with pytest.raises(VideoError, match=r"\(its index, the moov box, is missing\)$"):
        probe(path)
    real = path_checks.LocalFile.printable.fget
    assert real is not None
    happened: list[object] = []

    def shown(file: path_checks.LocalFile) -> str:
        if not happened:
            happened.append(append(path))
        return real(file)

    monkeypatch.setattr(path_checks.LocalFile, "printable", property(shown))
    with pytest.raises(ChangedFileError, match="is still growing"):
        probe(path)


def test_a_fingerprint_is_of_one_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    file, happened = check_file(path), []
    monkeypatch.setattr(path_checks, "report_alive", lambda: happened or happened.append(append(path)))
    with pytest.raises(ChangedFileError, match="still growing"):
        fingerprint(file)
    with pytest.raises(ChangedFileError, match="still growing"):  # what is remembered is no excuse
        fingerprint(file)
    monkeypatch.undo()
    assert fingerprint(check_file(path)).startswith("blake2b:")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_no_half_file_gets_into_the_cache(change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.ts", Clip())
    whole = path.read_bytes()
    cache = Cache(tmp_path / "cache", 1 << 30)
    with open_video(path) as reader:
        scan = reader.scan
        monkeypatch.setattr(
            reader, "scan", lambda **how: (change(path) or f if i == 5 else f for i, f in enumerate(scan(**how)))
        )
        with pytest.raises(ChangedFileError):
            analyze_once(reader, EVERY_FRAME, cache=cache)
    path.write_bytes(whole)
    with open_video(path) as reader:
        stats, is_cached = analyze_once(reader, EVERY_FRAME, cache=cache)
    assert (len(stats), is_cached) == (60, False)


def test_one_line_and_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.ts", Clip())
    during(monkeypatch, "_read_packets", lambda: append(path))
    monkeypatch.setattr("sys.argv", ["m3video", "probe", str(path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "is still growing (1000 bytes more since it was opened)" in err
    assert plan_video(path, Settings()).video.num_frames >= 60  # the same file, when it has come to rest


def test_opening_costs_one_more_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", Clip())
    looks, real = [], os.stat
    monkeypatch.setattr(path_checks.os, "stat", lambda name, **how: looks.append(name) or real(name, **how))
    probe(path)
    assert looks.count(str(path)) <= 3
