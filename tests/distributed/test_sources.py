"""The sources of videos of a batch: each video is found once, and what is left out is reported."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from m3video.distributed.items import items_of
from m3video.distributed.sources import SUFFIXES, Folder, left_of_folder, open_source
from m3video.errors import UsageError, VideoError
from m3video.video.path_checks import absolute, check_file
from m3video.video.reader import open_video

NO_VIDEO = {".avif", ".isma", ".m4a", ".m4b", ".ra", ".rgb", ".wma", ".yuv"}
"""Endings of pictures, of sound, and of bare numbers without a size, which muxers of video have beside others."""


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(source: Path) -> list[str]:
    return [os.path.relpath(video, source) for video in open_source(str(source))]


def test_folders_that_links_lead_to_are_walked_once_and_loops_end(tmp_path: Path) -> None:
    root, other = tmp_path / "films", tmp_path / "other"
    touch(root, "b.mp4", "a/c.mp4", ".store/d.mp4")
    touch(other, "e.mp4", "deep/f.mp4", "notes.txt")
    for name, target in {
        "a/again": root,
        "a/self": root / "a",
        "1": other,
        "2": other,
        "3": other / "deep",
        "4": root / ".store",
    }.items():
        (root / name).symlink_to(target)
    (other / "back").symlink_to(root)
    (other / "on").symlink_to(tmp_path / "nowhere")
    (root / "file.mp4").symlink_to(other / "e.mp4")
    expected = ["a/c.mp4", "b.mp4", "file.mp4", "1/deep/f.mp4", "1/e.mp4", "4/d.mp4"]
    assert found(root) == found(root) == expected
    (line,) = left_of_folder(Folder(root))
    assert line == f"left out of {root}: 1 .txt, 1 broken link, 1 hidden (a list of paths takes any file)"


def test_a_video_behind_a_broken_link_is_an_item_that_fails(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "none.mp4")
    assert found(tmp_path) == ["a.mp4"]
    with pytest.raises(VideoError, match="no such file"):
        check_file(tmp_path / "a.mp4")


def test_what_is_left_out_is_one_line_however_much_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    assert left_of_folder(open_source(str(tmp_path))) == ()
    touch(tmp_path, "a.srt", "b.SRT", "c/d.srt", ".DS_Store", "Thumbs.db", "README", "x.", "s.json", "t.tar.gz")
    touch(tmp_path, "p.jpg", "q.jpg", "d/odd.a\nb")
    assert Folder(tmp_path).left_out() == Counter(
        {".srt": 3, "hidden": 1, ".db": 1, "without an ending": 2, ".json": 1, ".gz": 1, ".jpg": 2, r".a\nb": 1}
    )
    (line,) = left_of_folder(open_source(str(tmp_path)))
    assert line == (
        f"left out of {tmp_path}: 3 .srt, 2 .jpg, 2 without an ending, 1 .a\\nb, 1 .db, 1 .gz, 2 of other endings "
        "(a list of paths takes any file)"
    )
    (tmp_path / "list").write_text("a.mp4\n")
    assert left_of_folder(open_source(str(tmp_path / "list"))) == ()


def muxers() -> list[str]:
    names = []
    for name in sorted(av.formats_available):
        try:
            if av.ContainerFormat(name, "w").extensions:
                names.append(name)
        except ValueError:
            continue
    return names


def written(path: Path, muxer: str, codec: str) -> bool:
    """Whether this FFmpeg writes eight frames so."""
    width, height, form = (720, 576, "yuv420p") if codec == "dvvideo" else (352, 288, "yuv420p")
    form = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, form)
    try:
        with av.open(str(path), "w", format=muxer) as container:
            stream = container.add_stream(codec or container.default_video_codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, form  # type: ignore[attr-defined]
            for number in range(8):
                picture = np.full((height, width, 3), 20 * number, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(width, height, form)
                frame.pts = number
                container.mux(stream.encode(frame))  # type: ignore[attr-defined]
            container.mux(stream.encode(None))  # type: ignore[attr-defined]
    except (av.FFmpegError, OSError, ValueError, LookupError):
        return False
    return True


def test_a_folder_takes_every_ending_of_what_the_reader_reads(tmp_path: Path) -> None:
    """FFmpeg's own endings of each container it writes, where our reader opens what it wrote."""
    read, missed = set(), set()
    for muxer in muxers():
        endings = {f".{name}" for name in av.ContainerFormat(muxer, "w").extensions}
        path = tmp_path / f"clip{min(endings)}"
        for codec in ("", "mpeg4", "mpeg2video", "dvvideo", "h263"):
            if not written(path, muxer, codec):
                continue
            try:
                open_video(path).close()
            except VideoError:
                continue
            read |= endings
            missed |= endings - SUFFIXES - NO_VIDEO
            break
    assert missed == set()
    assert {".asf", ".264", ".mkv", ".mxf", ".ts", ".vob", ".webm"} <= read  # the test can see something
    assert not NO_VIDEO & SUFFIXES


LISTS: Sequence[tuple[bytes, Sequence[bytes]]] = [
    (b"a.mp4\r\nb.mp4\r\n", [b"a.mp4", b"b.mp4"]),
    (b"\xef\xbb\xbfa.mp4\n\n \n", [b"a.mp4"]),
    (b"a.mp4\0b.mp4\0", [b"a.mp4", b"b.mp4"]),
    (b"a.mp4\0new\nline.mp4\0trailing.mp4 \0", [b"a.mp4", b"new\nline.mp4", b"trailing.mp4 "]),
    (b"caf\xe9.mp4\n", [b"caf\xe9.mp4"]),
    (b"caf\xe9.mp4\0a.mp4", [b"caf\xe9.mp4", b"a.mp4"]),
    (b"  a.mp4 \n'a.mp4'\n \"b.mp4\"\t\n", [b"a.mp4", b"a.mp4", b"b.mp4"]),
    (b"trailing.mp4 \n", [b"trailing.mp4 "]),
    (b"'quoted.mp4'\n", [b"'quoted.mp4'"]),
    (b"~/home.mp4\n", [b"$HOME/home.mp4"]),
    (b"file://$HERE/with%20space.mp4\n", [b"$HERE/with space.mp4"]),
    (b"# a.mp4\n*.mp4\n", [b"# a.mp4", b"*.mp4"]),
    (b" https://youtu.be/abc \ns3://b/c.mp4", [b"https://youtu.be/abc", b"s3://b/c.mp4"]),
]
"""Lists, and the names they mean."""


@pytest.mark.parametrize(("data", "names"), LISTS)
@pytest.mark.parametrize("way", ["file", "stdin"])
def test_lists_as_programs_write_them(
    data: bytes, names: Sequence[bytes], way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", f"{tmp_path}/me")
    for name in (b"a.mp4", b"b.mp4", b"new\nline.mp4", b"trailing.mp4 ", b"caf\xe9.mp4", b"'quoted.mp4'"):
        Path(os.fsdecode(name)).touch()
    touch(tmp_path, "me/home.mp4", "with space.mp4")

    def here(text: bytes) -> bytes:
        return text.replace(b"$HERE", os.fsencode(tmp_path)).replace(b"$HOME", os.fsencode(tmp_path / "me"))

    if way == "file":
        (tmp_path / "list.txt").write_bytes(here(data))
        source = open_source("list.txt")
    else:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(here(data))))
        source = open_source("-")
    assert [os.fsencode(name) for name in source] == [here(name) for name in names] == list(map(os.fsencode, source))


def test_a_long_list_of_zeros_is_read_in_pieces(tmp_path: Path) -> None:
    names = [f"films/{number:05d}.mp4" for number in range(20000)]
    (tmp_path / "list").write_text("\0".join(names))
    assert list(open_source(str(tmp_path / "list"))) == names


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes("films\\a.mp4\r\nfilms\\é.mp4\r\n".encode(encoding))
    with pytest.raises(UsageError, match=r"it is UTF-(16|32)[LB]E: save it as UTF-8 \(iconv -f UTF-"):
        open_source(str(tmp_path / "list"))


@pytest.mark.parametrize("data", [b"\x7fELF\2\1\1\0\0\0", b"a.mp4\0\0b.mp4\0", b"PK\3\4\0x\0", b"x" * 5000 + b"\0y"])
def test_a_file_that_is_no_text_is_no_list(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(data)
    with pytest.raises(UsageError, match="is no list of videos: it is not text"):
        open_source(str(tmp_path / "list"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://youtu.be/abc", "is a URL: download the video and give the path of the local file"),
        ("rtsp://camera/1", "is a URL: download the video"),
        ("file:///films/a%20b.mp4", "is a URL: give the path alone, /films/a b.mp4"),
        ("films/*.mp4", "films/*.mp4: no such file; if it is a pattern, leave off the quotes, so that the shell"),
        ("none", "none is neither a folder nor a file that lists videos"),
        ("none.mp4", "none.mp4 is a video: give the folder it is in"),
    ],
)
def test_what_is_no_source_has_the_message_of_the_path_check(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(text)
    assert message in str(caught.value)
    if "URL" in message or "pattern" in message:
        with pytest.raises(VideoError) as also:
            check_file(text)
        assert str(also.value) == str(caught.value)


@pytest.mark.parametrize("url", ["https://youtu.be/abc", "s3://bucket/a.mp4", "rtsp://camera:554/1"])
def test_a_url_in_a_list_has_the_message_of_the_path_check(url: str) -> None:
    (item,) = items_of(url, [SimpleNamespace(text="", id="")], task="t", config="c")  # type: ignore[list-item]
    assert item.video == absolute(url) == url
    with pytest.raises(VideoError, match=f"^{url} is a URL: download the video and give the path of the local file$"):
        check_file(absolute(url))


def test_a_file_may_be_called_like_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "http:/a.mp4")
    assert absolute("http://a.mp4") == f"{tmp_path}/http:/a.mp4"
