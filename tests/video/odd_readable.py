"""Odd inputs that are read in full: times, order of frames, pixels, sizes, and containers put together or altered."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.stream import Disposition

from tests.video.clips import Clip, add_stream, encode, write
from tests.video.odd_input import ALL, X264_OPEN, X265, X265_OPEN, N, Readable, clip, every, odd

# --- times ------------------------------------------------------------------------------------------------------------
clip("b_frames.mp4", Readable(range(N), every(512)))
clip(
    "vfr.mkv",
    Readable(range(N), [40 * i + 7 * (i % 3) for i in range(N)]),
    time_base=Fraction(1, 1000),
    times=[40 * i + 7 * (i % 3) for i in range(N)],
)
clip(
    "gap_of_two_hours.mkv",
    Readable(range(N), [40 * i + (7_200_000 if i >= 30 else 0) for i in range(N)]),
    time_base=Fraction(1, 1000),
    times=[40 * i + (7_200_000 if i >= 30 else 0) for i in range(N)],
)
clip(
    "start_10s.mkv",
    Readable(range(N), every(40, start=10_000)),
    time_base=Fraction(1, 1000),
    times=every(40, start=10_000),
)
clip("start_10s.ts", Readable(range(N), every(3600, start=900_000)), format_options={"output_ts_offset": "10"})
clip("negative_start.ts", Readable(range(N), every(3600, start=-154_592)), format_options={"output_ts_offset": "95442"})
clip(
    "leading_frames_cut_by_edit_list.mp4",
    Readable(range(10, N), every(512, count=50)),
    times=range(-10, 50),
    format_options={"avoid_negative_ts": "disabled"},
)
clip("thousand_fps.mp4", Readable(range(N), every(16)), time_base=Fraction(1, 1000), rate=1000)
clip("one_frame.mp4", Readable([7], [0]), numbers=[7])
clip("one_keyframe.mp4", ALL, gop=600)
clip("every_frame_a_keyframe.mp4", ALL, gop=1, b_frames=0)
clip("live_without_duration.webm", Readable(range(N), every(40)), codec="libvpx", format_options={"live": "1"})
clip("fragmented.mp4", ALL, format_options={"movflags": "frag_keyframe+empty_moov"})

# --- order of frames, references --------------------------------------------------------------------------------------
clip("open_gop_h264.mp4", Readable(range(N), every(512)), codec_options=X264_OPEN, b_frames=3)
clip("open_gop_hevc.mp4", Readable(range(N), every(512)), codec="libx265", codec_options=X265_OPEN, b_frames=3)
clip("open_gop.ts", ALL, codec_options=X264_OPEN, b_frames=3)
clip(
    "intra_refresh.mp4",
    Readable(range(N), every(512)),
    b_frames=0,
    gop=20,
    codec_options={"x264-params": "intra-refresh=1:keyint=20"},
)
clip(
    "hidden_frames_vp8.webm",
    Readable(range(N), every(40)),
    codec="libvpx",
    codec_options={"auto-alt-ref": "1", "lag-in-frames": "16", "b": "500k"},
)
clip(
    "hidden_frames_vp9.webm",
    Readable(range(N), every(40)),
    codec="libvpx-vp9",
    codec_options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8", "b": "500k"},
)
clip(
    "av1.mp4",
    Readable(range(24), every(512, count=24)),
    codec="libsvtav1",
    numbers=range(24),
    codec_options={"preset": "8", "crf": "12"},
)

# --- times that the file does not have --------------------------------------------------------------------------------
clip("no_pts_mpeg4.avi", Readable(range(N), every(1, start=1), note="no pts"), codec="mpeg4")
clip("no_pts_h264.avi", Readable(range(N), every(1, start=2), note="no pts"))
clip("raw.h264", Readable(range(N), every(48_000), note="no pts"))
clip("raw.hevc", Readable(range(N), every(48_000), note="no pts"), codec="libx265", codec_options=X265)
clip("raw.obu", Readable(range(24)), codec="libsvtav1", numbers=range(24), codec_options={"preset": "8", "crf": "12"})
clip("program_stream.mpg", Readable(range(N), note="decoding"), codec="mpeg2video")
clip("interlaced.mpg", Readable(range(N), note="decoding"), codec="mpeg2video", codec_options={"flags": "+ildct+ilme"})

# --- pixels -----------------------------------------------------------------------------------------------------------
clip("ten_bit.mp4", ALL, codec="libx265", pixel_format="yuv420p10le", codec_options=X265)
clip("ten_bit_422.mov", ALL, codec="prores", pixel_format="yuv422p10le")
clip("full_chroma.mp4", ALL, pixel_format="yuv444p")
clip("gray.mp4", ALL, pixel_format="gray")
clip("gray16.mkv", ALL, codec="ffv1", pixel_format="gray16le")
clip("rgb.mkv", ALL, codec="libx264rgb", pixel_format="rgb24")
clip(
    "alpha_vp9.webm",
    ALL,
    codec="libvpx-vp9",
    pixel_format="yuva420p",
    codec_options={"cpu-used": "8", "auto-alt-ref": "0", "b": "500k"},
)
clip("alpha_argb.mov", ALL, codec="qtrle", pixel_format="argb")
clip("full_range.mp4", ALL, pixel_format="yuvj420p", color_range=2)
clip(
    "palette.gif",
    Readable(range(N), every(4)),
    codec="gif",
    pixel_format="rgb8",
    time_base=Fraction(1, 100),
    times=every(4),
)
clip("animation.apng", ALL, codec="apng", pixel_format="rgb24", format="apng")
clip("uncompressed.y4m", ALL, codec="rawvideo", format="yuv4mpegpipe")
clip("motion_jpeg.avi", ALL, codec="mjpeg", pixel_format="yuvj420p")
clip("flash.flv", ALL)
clip("windows_media.asf", ALL, codec="wmv2", b_frames=0)

# --- sizes and orientation --------------------------------------------------------------------------------------------
clip("odd_size.mkv", replace(ALL, size=(131, 97)), codec="ffv1", size=(131, 97))
clip("odd_size_h264.mp4", replace(ALL, size=(131, 97)), pixel_format="yuv444p", size=(131, 97))
clip("two_by_two.mp4", replace(ALL, size=(2, 2), is_painted=False), size=(2, 2))
clip("sixteen.mp4", replace(ALL, size=(16, 16)), size=(16, 16))
clip("eight_by_2048.mp4", replace(ALL, size=(8, 2048), is_scan_painted=False), size=(8, 2048))
clip("wide_samples.mp4", replace(ALL, size=(256, 96)), aspect=Fraction(2, 1))


@odd("absurd_sample_aspect.mp4", replace(ALL, size=(128, 96), note="implausible"))
def absurd_sample_aspect(path: Path) -> None:
    data = bytearray(write(path, Clip(aspect=Fraction(2, 1))).read_bytes())
    struct.pack_into(">II", data, data.index(b"pasp") + 4, 30_000, 1)
    path.write_bytes(data)


def turned(path: Path, degrees: int, *, mirrored: bool = False) -> Path:
    """A clip stored lying, with a display matrix that says how to turn it upright."""
    write(path, Clip(turn=degrees))
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    if mirrored:
        a, b = -a, -b
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = matrix
    path.write_bytes(data)
    return path


odd("turned_90.mp4", replace(ALL, size=(96, 128)))(lambda path: turned(path, 90))
odd("turned_180.mp4", replace(ALL, size=(128, 96)))(lambda path: turned(path, 180))
odd("turned_270.mp4", replace(ALL, size=(96, 128)))(lambda path: turned(path, 270))


@odd("mirrored.mp4", replace(ALL, is_painted=False, size=(128, 96)))
def mirrored(path: Path) -> Path:
    return turned(path, 0, mirrored=True)


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
