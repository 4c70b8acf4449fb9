"""Odd and hostile inputs, made with PyAV's encoders and byte surgery, each with the outcome that it must have.

`ODD_INPUTS` lists them, and `REPRESENTATIVES` one or two of each outcome. `odd.path()` is the path to open (it may be
a directory, a FIFO or nothing at all), shared by all tests; `odd.outcome` is `Readable` or `Refused`.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from tests.made_once import made_once
from tests.video.clips import Clip, add_stream, encode, paint, write, write_silence


@dataclass(frozen=True, slots=True)
class Readable:
    """What must come out.

    `numbers[i]` is painted in frame i, shown at `pts[i]` (None: not checked). When `partial`, at least `at_least` of
    the frames come out, each at its own time, and the damage is reported unless the container cannot tell
    (`is_damage_seen`). `note` must occur in the notes, `size` is (width, height) as displayed.
    """

    numbers: Sequence[int]
    pts: Sequence[int] | None = None
    partial: bool = False
    at_least: int = 0
    is_damage_seen: bool = True
    note: str = ""
    size: tuple[int, int] | None = None
    is_painted: bool = True
    is_scan_painted: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """A `VideoError` of one line that contains `message`."""

    message: str


@dataclass(frozen=True, slots=True)
class OddInput:
    name: str
    maker: Callable[[Path], Path]
    outcome: Readable | Refused
    drop_root: bool = False

    def make(self, folder: Path) -> Path:
        """Write it into `folder`, for a test that changes it."""
        return self.maker(folder)

    def path(self) -> Path:
        """Return the one that all tests of a session read and none changes."""
        return made_once(f"odd-input-{ODD_INPUTS.index(self)}", self.maker)


ODD_INPUTS: list[OddInput] = []
N = 60
X264_OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0:keyint=15:min-keyint=15"}
X265_OPEN = {"x265-params": "log-level=none:open-gop=1:bframes=3:keyint=15:min-keyint=15:scenecut=0"}
X265 = {"x265-params": "log-level=none"}


def clip(name: str, outcome: Readable | Refused, **how: Any) -> None:
    """An odd input that the encoder writes as it is."""
    ODD_INPUTS.append(OddInput(name, lambda folder: write(folder / name, Clip(**how)), outcome))


def odd(name: str, outcome: Readable | Refused, *, drop_root: bool = False) -> Callable[..., Any]:
    """An odd input made by the decorated function from the path to write."""

    def keep(maker: Callable[[Path], Path | None]) -> Callable[[Path], Path | None]:
        ODD_INPUTS.append(OddInput(name, lambda folder: maker(folder / name) or folder / name, outcome, drop_root))
        return maker

    return keep


def every(step: int, *, start: int = 0, count: int = N) -> list[int]:
    return [start + step * i for i in range(count)]


ALL = Readable(range(N))


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


# --- damage -----------------------------------------------------------------------------------------------------------
def noisy(number: int) -> np.ndarray[Any, Any]:
    """A painted picture with noise, so that its packets are large enough to damage."""
    noise = np.random.default_rng(number).integers(-30, 30, (96, 128, 1))
    return np.clip(paint(number).astype(int) + noise, 0, 255).astype(np.uint8)


def write_noisy(path: Path, **options: str) -> Path:
    with av.open(f"file:{path}", "w", options=options) as out:
        stream = add_stream(out, Clip())
        for number in range(N):
            frame = av.VideoFrame.from_ndarray(noisy(number), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return path


DAMAGED = Readable(range(N), partial=True, at_least=30)


@odd("damaged_middle.mp4", DAMAGED)
def damaged_middle(path: Path) -> None:
    data = bytearray(write_noisy(path, movflags="faststart").read_bytes())
    middle, rng = len(data) // 2, random.Random(0)
    data[middle : middle + 3000] = rng.randbytes(3000)
    path.write_bytes(data)


@odd("hole_of_zeros.mp4", replace(DAMAGED, at_least=20))
def hole_of_zeros(path: Path) -> None:
    data = bytearray(write_noisy(path, movflags="faststart").read_bytes())
    size = len(data) // 5
    data[2 * size : 3 * size] = bytes(size)
    path.write_bytes(data)


@odd("hole_of_zeros.ts", replace(DAMAGED, at_least=20))
def hole_in_transport_stream(path: Path) -> None:
    data = bytearray(write_noisy(path).read_bytes())
    size = len(data) // 5
    data[2 * size : 3 * size] = bytes(size)
    path.write_bytes(data)


@odd("tail_cut_off.mp4", replace(DAMAGED, at_least=25))
def tail_cut_off(path: Path) -> None:
    data = write_noisy(path, movflags="faststart").read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


@odd("tail_cut_off.mkv", replace(DAMAGED, at_least=25, is_damage_seen=False, note="cut off, results are partial"))
def matroska_tail_cut_off(path: Path) -> None:
    data = write_noisy(path).read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


@odd("tail_cut_off_fragmented.mp4", replace(DAMAGED, at_least=25))
def fragmented_tail_cut_off(path: Path) -> None:
    data = write_noisy(path, movflags="frag_keyframe+empty_moov").read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


# --- no video at all --------------------------------------------------------------------------------------------------
NOT_A_VIDEO = Refused("not a ")


@odd("empty.mp4", Refused("is empty"))
def empty(path: Path) -> None:
    path.touch()


@odd("text.mp4", NOT_A_VIDEO)
def text(path: Path) -> None:
    path.write_text("This is not a video.\n" * 100)


@odd("ansi_art.ans", NOT_A_VIDEO)
def ansi_art(path: Path) -> None:
    path.write_text("\x1b[31mred\x1b[0m\n" * 100)


@odd("random.mp4", NOT_A_VIDEO)
def random_bytes(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(200_000))


@odd("zeros.mp4", NOT_A_VIDEO)
def zeros(path: Path) -> None:
    path.write_bytes(bytes(200_000))


@odd("picture.png", NOT_A_VIDEO)
def picture(path: Path) -> None:
    write(path, Clip(numbers=[1], codec="png", pixel_format="rgb24", format="image2", format_options={"update": "1"}))


@odd("no_moov.mp4", NOT_A_VIDEO)
def no_moov(path: Path) -> None:
    data = write_noisy(path).read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


@odd("sample_sizes_claim_billions.mp4", Refused(""))
def sample_sizes_claim_billions(path: Path) -> None:
    data = bytearray(write(path, Clip(format_options={"movflags": "faststart"})).read_bytes())
    struct.pack_into(">I", data, data.index(b"stsz") + 12, 0x0FFFFFFF)
    path.write_bytes(data)


@odd("cut_in_first_frame.mp4", Refused("no frame"))
def cut_in_first_frame(path: Path) -> None:
    data = write_noisy(path, movflags="faststart").read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 60])


@odd("encrypted.mp4", Refused("no frame"))
def encrypted(path: Path) -> None:
    # bitexact: a fixed first vector instead of a random one, so that the garbage is the same in every run.
    write_noisy(
        path,
        fflags="+bitexact",
        encryption_scheme="cenc-aes-ctr",
        encryption_key="76a6c65c5ea762046bd749a2e632ccbb",
        encryption_kid="a7e61c373e219033c21091fa607bf3b8",
    )


@odd("no_frames.mp4", Refused("no "))
def no_frames(path: Path) -> None:
    with av.open(f"file:{path}", "w", options={"movflags": "empty_moov+frag_keyframe"}) as out:
        add_stream(out, Clip())
        out.start_encoding()


@odd("sound_only.m4a", Refused("no video stream"))
def sound_only(path: Path) -> None:
    with av.open(f"file:{path}", "w", format="mp4") as out:
        write_silence(out, out.add_stream("aac", rate=8000, layout="mono"), seconds=1)


@odd("sound_with_cover.m4a", Refused("only cover art"))
def sound_with_cover(path: Path) -> None:
    with av.open(f"file:{path}", "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        cover_clip = Clip(numbers=[1], codec="mjpeg", pixel_format="yuvj420p")
        cover = add_stream(out, cover_clip)
        cover.disposition = Disposition.attached_pic
        write_silence(out, sound, seconds=1)
        for packet in encode(cover, cover_clip):
            out.mux(packet)


@odd("too_many_pixels.avi", Refused("max_pixels"))
def too_many_pixels(path: Path) -> None:
    """Uncompressed frames whose header claims 20000 x 20000."""
    data = bytearray(write(path, Clip(codec="rawvideo", pixel_format="bgr24", numbers=range(3))).read_bytes())
    struct.pack_into("<ii", data, data.index(b"strf") + 8 + 4, 20_000, 20_000)
    path.write_bytes(data)


@odd("huge_picture_in_gif.gif", Refused(""))
def huge_picture_in_gif(path: Path) -> None:
    data = bytearray(write(path, Clip(codec="gif", pixel_format="rgb8")).read_bytes())
    struct.pack_into("<HH", data, 6, 65535, 65535)
    path.write_bytes(data)


# --- files that lead elsewhere, and no files --------------------------------------------------------------------------
def target(path: Path) -> Path:
    return write(path.with_name("target.mp4"), Clip())


@odd("hls.mp4", Refused("HLS playlist"))
def hls(path: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n{target(path)}\n#EXT-X-ENDLIST\n")


@odd("hls_after_bom.mp4", Refused("HLS playlist"))
def hls_after_bom(path: Path) -> None:
    path.write_text(f"﻿\n  #EXTM3U\n#EXTINF:2.4,\n{target(path)}\n")


@odd("concat.mp4", Refused("ffconcat"))
def concat(path: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile '{target(path).name}'\n")


@odd("dash.mp4", Refused("DASH"))
def dash(path: Path) -> None:
    path.write_text('<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>\n')


@odd("session.sdp", NOT_A_VIDEO)
def session(path: Path) -> None:
    path.write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n")


odd("missing.mp4", Refused("no such file"))(lambda path: path)
odd("null_device", Refused("a character device"))(lambda path: Path("/dev/null"))


@odd("directory.mp4", Refused("is a directory"))
def directory(path: Path) -> None:
    path.mkdir()


@odd("fifo.mp4", Refused("a FIFO"))
def fifo(path: Path) -> None:
    os.mkfifo(path)


@odd("socket.mp4", Refused("a socket"))
def unix_socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have no more than about 100 bytes
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(before)


@odd("link_loop.mp4", Refused("cannot be read"))
def link_loop(path: Path) -> None:
    path.symlink_to(path)


@odd("forbidden.mp4", Refused("permission denied"), drop_root=True)
def forbidden(path: Path) -> None:
    write(path, Clip())
    path.chmod(0)


@odd("name_too_long", Refused("cannot be read"))
def name_too_long(path: Path) -> Path:
    return path.with_name("x" * 300)


# --- one or two of each outcome, for tests of what lies above the reader ----------------------------------------------
OUTCOMES = {
    "reads fine": ("b_frames.mp4", "two\nlines.mp4"),
    "varying frame rate": ("vfr.mkv",),
    "late or negative start": ("start_10s.mkv", "leading_frames_cut_by_edit_list.mp4"),
    "rotated": ("turned_90.mp4",),
    "few frames": ("one_frame.mp4",),
    "no timestamps": ("no_pts_h264.avi", "raw.hevc"),
    "timestamps that jump": ("times_jump_back.ts",),
    "open GOP": ("open_gop_h264.mp4", "cut_in_open_gop.ts"),
    "sizes that change": ("resolution_change.ts",),
    "false claims": ("claims_a_century.mp4",),
    "damaged": ("damaged_middle.mp4", "hole_of_zeros.ts"),
    "truncated": ("tail_cut_off.mp4", "tail_cut_off.mkv"),
    "refused: no video": ("empty.mp4", "random.mp4", "sound_with_cover.m4a"),
    "refused: no frame": ("encrypted.mp4",),
    "refused: huge": ("too_many_pixels.avi",),
    "refused: leads elsewhere": ("hls.mp4",),
    "refused: no file": ("fifo.mp4", "missing.mp4"),
}
REPRESENTATIVES = [odd for names in OUTCOMES.values() for odd in ODD_INPUTS if odd.name in names]
