"""Odd inputs that are read in part or refused: damage, files without video, files that lead elsewhere, and no files."""

from __future__ import annotations

import os
import random
import socket
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from tests.video.clips import Clip, add_stream, encode, paint, write, write_silence
from tests.video.odd_input import N, Readable, Refused, odd


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
