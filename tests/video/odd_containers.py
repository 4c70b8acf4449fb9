"""Odd containers: put together or altered, with awkward names, or reached by a link."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.stream import Disposition

from tests.video.clips import Clip, add_stream, encode, write
from tests.video.odd_kinds import ALL, X264_OPEN, N, OddInputs, Readable, every

CONTAINERS = OddInputs()
clip, odd = CONTAINERS.clip, CONTAINERS.odd


# --- containers put together or altered -------------------------------------------------------------------------------
@odd("edit_list.mp4", Readable(range(20, N), every(512, count=40)))
def edit_list(path: Path) -> None:
    """The edit list begins in the middle of a GOP: frames 0-19 are decoded and not presented."""
    write(path, Clip())
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12
    duration, media_time = struct.unpack_from(">Ii", data, at)
    struct.pack_into(">Ii", data, at, duration - 20 * 40, media_time + 20 * 512)
    path.write_bytes(data)


@odd("edit_list_with_delay.mp4", Readable(range(N)))
def edit_list_with_delay(path: Path) -> None:
    """Presentation begins two seconds after the movie does."""
    write(path, Clip(times=range(50, 50 + N), format_options={"use_editlist": "1", "avoid_negative_ts": "disabled"}))


@odd("cut_in_open_gop.ts", Readable(range(15, N), note="leading"))
def cut_in_open_gop(path: Path) -> None:
    """Cut at an I picture whose leading B pictures refer to what was cut away."""
    write(path, Clip(codec_options=X264_OPEN, b_frames=3))
    with av.open(f"file:{path}") as container:
        keys = [p.pos for p in container.demux(video=0) if p.size and p.is_keyframe]
    data = path.read_bytes()
    path.write_bytes(data[: 3 * 188] + data[keys[1] :])


def joined(path: Path, first: Clip, second: Clip) -> None:
    pieces = [write(path.with_name(f"{path.stem}.{i}.ts"), each).read_bytes() for i, each in enumerate((first, second))]
    path.write_bytes(b"".join(pieces))


@odd("times_jump_back.ts", Readable(range(N), note="backward"))
def times_jump_back(path: Path) -> None:
    joined(path, Clip(numbers=range(40)), Clip(numbers=range(40, N)))


@odd("resolution_change.ts", Readable(range(N), every(3600, start=7200)))
def resolution_change(path: Path) -> None:
    later = Clip(numbers=range(30, N), times=range(32, N + 2), size=(192, 144))
    joined(path, Clip(numbers=range(30)), replace(later, format_options={"mpegts_flags": "+initial_discontinuity"}))


@odd("repeated_pts.mp4", Readable(range(N), note="repeat"))
def repeated_pts(path: Path) -> None:
    """The time from frame 30 to frame 31 is patched to nothing."""
    times = [1000 * i + (777 if i > 30 else 0) for i in range(N)]
    write(path, Clip(b_frames=0, times=times, time_base=Fraction(1, 25_000)))
    data = path.read_bytes()
    assert data.count(struct.pack(">II", 1, 1777)) == 1
    path.write_bytes(data.replace(struct.pack(">II", 1, 1777), struct.pack(">II", 1, 0)))


@odd("two_video_streams.mp4", Readable(range(100, 100 + N), size=(192, 144)))
def two_video_streams(path: Path) -> None:
    small, large = Clip(numbers=range(N), size=(64, 48)), Clip(numbers=range(100, 100 + N), size=(192, 144))
    with av.open(f"file:{path}", "w") as out:
        streams = [(add_stream(out, each), each) for each in (small, large)]
        streams[0][0].disposition, streams[1][0].disposition = Disposition(0), Disposition.default
        for stream, each in streams:
            for packet in encode(stream, each):
                out.mux(packet)


clip("sound_too.mkv", Readable(range(N), every(40)), audio=True)


@odd("claims_131_frames.avi", Readable(range(N), every(1), note="131 frames, 60 are there"))
def claims_131_frames(path: Path) -> None:
    write(path, Clip(codec="mjpeg", pixel_format="yuvj420p"))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, 131)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, 131)
    path.write_bytes(data)


@odd("claims_a_century.mp4", Readable(range(N), every(512)))
def claims_a_century(path: Path) -> None:
    write(path, Clip())
    data = bytearray(path.read_bytes())
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        struct.pack_into(">I", data, data.index(box) + offset, 0xFFFFFFF0)
    path.write_bytes(data)


for awkward in (
    "naïve видео 影片.mp4",
    "frame%03d.mp4",
    "two\nlines.mp4",
    "file:x.mp4",
    "concat:a|b.mp4",
    " lead.mp4",
    "-dash.mp4",
    "C:\\clip.mp4",
    "100%.mp4",
    "x" * 200 + ".mp4",
    "pipe:1",
    "no_suffix",
):
    odd(awkward, ALL)(lambda path: write(path, Clip(format="mp4")))


@odd("link.mp4", ALL)
def link(path: Path) -> None:
    path.symlink_to(write(path.with_name("target.mp4"), Clip()))
