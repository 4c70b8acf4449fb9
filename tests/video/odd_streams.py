"""Odd video streams: times, order of frames, codecs and pixel formats, sizes and orientation."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from tests.video.clips import Clip, write
from tests.video.odd_kinds import ALL, X264_OPEN, N, OddInputs, Readable, every

STREAMS = OddInputs()
clip, odd = STREAMS.clip, STREAMS.odd

X265_OPEN = {"x265-params": "log-level=none:open-gop=1:bframes=3:keyint=15:min-keyint=15:scenecut=0"}
X265 = {"x265-params": "log-level=none"}

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
