"""The checks on their own; that each odd input is refused end to end is tested in test_odd_inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3video.errors import VideoError
from m3video.utils.text import printable
from m3video.video.path_checks import check_file, fingerprint
from m3video.video.reader import open_video
from tests.video.clips import Clip, write


def test_a_url_is_refused_as_one() -> None:
    with pytest.raises(VideoError, match="is a URL"):
        check_file("https://example.invalid/a.mp4")


def test_a_nul_byte_is_refused() -> None:
    with pytest.raises(VideoError, match="cannot be read"):
        check_file("a\0b.mp4")


def test_ffmpeg_sees_an_absolute_path_behind_the_file_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b.mp4").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert check_file("a:b.mp4").url == f"file:{tmp_path}/a:b.mp4"


def test_shown_names_fit_on_one_line() -> None:
    assert printable("a\nb\x1b[31m\udcff.mp4") == "a\\nb\\x1b[31m\\udcff.mp4"
    assert printable("naïve 影片.mp4") == "naïve 影片.mp4"


@pytest.mark.parametrize("head", ["#EXTM3U", "﻿#EXTM3U", "\n\t ffconcat version 1.0", "<MPD ", "<!-- x --><MPD>"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_playlists_are_refused_in_every_encoding(tmp_path: Path, head: str, encoding: str) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(head, encoding=encoding)
    with pytest.raises(VideoError, match="not a video"):
        check_file(path)


def test_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "a"
    path.write_bytes(b"abc" * 700_000)
    expected = "blake2b:" + hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert fingerprint(check_file(path)) == expected
    path.write_bytes(b"abd" * 700_000)
    assert fingerprint(check_file(path)) != expected


def test_the_pixel_cap_holds_at_opening(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Clip(numbers=range(3)))
    with open_video(path, max_pixels=128 * 96) as reader:
        assert len(list(reader.frames())) == 3
    with pytest.raises(VideoError, match=r"max_pixels \(12287\)"):
        open_video(path, max_pixels=128 * 96 - 1)


def test_the_pixel_cap_holds_after_a_resolution_change(tmp_path: Path) -> None:
    small = write(tmp_path / "1.ts", Clip(numbers=range(30)))
    large = write(tmp_path / "2.ts", Clip(numbers=range(30, 60), times=range(32, 62), size=(640, 480)))
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with open_video(path, max_pixels=100_000) as reader:
        sizes = {frame.rgb_HW3.shape for frame in reader.frames()}
        assert sizes == {(96, 128, 3)}
        assert reader.damage.is_partial
