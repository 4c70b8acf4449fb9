"""A file that ends before its structure does says so, wherever it was cut; a whole one says nothing."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from m3video.config import Settings
from m3video.inference.pipeline import plan_video
from m3video.planning.plan_file import load_plan, save_plan
from m3video.report.video_text import info_record
from m3video.video.reader import probe
from tests.video.clips import Clip, add_stream, paint, usual_scheduling, write, write_silence
from tests.video.odd_inputs import ODD_INPUTS

N = 40
FRACTIONS = (0.3, 0.5, 0.7, 0.95)


@dataclass(frozen=True, slots=True)
class Kind:
    """A container, and how much of what is missing it tells: "frames", "seconds", "bytes", or that it "ends" early.

    `ends_between`: it also tells of a cut between two packets.
    """

    name: str
    tells: str
    ends_between: bool = True
    how: dict[str, Any] = field(default_factory=dict)


MJPEG = {"codec": "mjpeg", "pixel_format": "yuvj420p"}
FRAGMENTS = "frag_keyframe+empty_moov"
KINDS = [
    Kind("motion_jpeg.avi", "frames", how=MJPEG),
    Kind("b_frames.avi", "frames"),
    Kind("sound.avi", "frames", how={**MJPEG, "audio": True}),
    Kind("index_first.mp4", "frames", how={"format_options": {"movflags": "faststart"}}),
    Kind("sound_index_first.mov", "frames", how={"format_options": {"movflags": "faststart"}, "audio": True}),
    Kind("fragments.mp4", "at least frames", how={"format_options": {"movflags": FRAGMENTS}}),
    Kind(
        "listed_fragments.mp4",
        "bytes",
        how={"format_options": {"movflags": f"{FRAGMENTS}+default_base_moof+global_sidx"}},
    ),
    Kind("b_frames.mkv", "seconds"),
    Kind("sound.mkv", "seconds", how={"audio": True}),
    Kind("vp9.webm", "seconds", how={"codec": "libvpx-vp9", "codec_options": {"cpu-used": "8"}}),
    Kind("live.webm", "at least bytes", how={"codec": "libvpx", "format_options": {"live": "1"}}),
    Kind("b_frames.flv", "seconds"),
    Kind("sound.flv", "seconds", how={"audio": True}),
    Kind("windows_media.asf", "seconds", how={"codec": "wmv2", "b_frames": 0}),
    Kind("palette.gif", "end mark", how={"codec": "gif", "pixel_format": "rgb8", "time_base": Fraction(1, 100)}),
    Kind("animation.apng", "frames", how={"codec": "apng", "pixel_format": "rgb24", "format": "apng"}),
    Kind("vp8.ivf", "frames", how={"codec": "libvpx"}),
    Kind("milliseconds.ivf", "frames", how={"codec": "libvpx", "time_base": Fraction(1, 1000)}),
    Kind("vp8.ogv", "", how={"codec": "libvpx"}),
    Kind("real.rm", "seconds", how={"codec": "rv20", "b_frames": 0, "size": (176, 144)}),
    Kind("flash.swf", "bytes", how={"codec": "flv", "b_frames": 0, "format": "swf"}),
    Kind("broadcast.mxf", "seconds", how={"codec": "mpeg2video", "format": "mxf"}),
    Kind("transport.ts", "at least bytes", ends_between=False),
    Kind("camera.m2ts", "at least bytes", ends_between=False),
    Kind("program.mpg", "at least bytes", ends_between=False, how={"codec": "mpeg2video"}),
    Kind("uncompressed.y4m", "at least bytes", ends_between=False, how={"codec": "rawvideo", "format": "yuv4mpegpipe"}),
    Kind(
        "camera.dv",
        "at least bytes",
        ends_between=False,
        how={"codec": "dvvideo", "format": "dv", "pixel_format": "yuv420p", "size": (720, 576), "b_frames": 0},
    ),
]
WORDS = {
    "frames": r"missing: (\d+) of \d+ frames",
    "at least frames": r"missing: at least (\d+) frames, and perhaps more",
    "seconds": r"missing: (?:([\d.]+) of [\d.]+ s|at least \d+ bytes)",
    "bytes": r"(\d+) of \d+ bytes",
    "at least bytes": r"missing: at least (\d+) bytes, and perhaps more",
    "end mark": r"missing: (the end mark)",
    "": r"missing: (.+), and perhaps more",
}
"""What the note must say, by what a container tells."""


def write_noisy(path: Path, how: dict[str, Any]) -> Path:
    """A clip of `N` painted frames with noise: each packet is large, so that a cut anywhere is one in the frames."""
    clip = Clip(**{"numbers": range(N), **how})
    ticks = max(1, round(Fraction(1, clip.rate) / clip.time_base))
    with usual_scheduling(), av.open(f"file:{path}", "w", format=clip.format, options=clip.format_options) as out:
        stream = add_stream(out, clip)
        sound = out.add_stream("aac", rate=8000, layout="mono") if clip.audio else None
        if sound is not None:
            write_silence(out, sound, seconds=N / clip.rate)
        for number in clip.numbers:
            noise = np.random.default_rng(number).integers(-30, 30, (clip.size[1], clip.size[0], 1))
            picture = np.clip(paint(number, *clip.size).astype(int) + noise, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=clip.pixel_format)
            frame.pts, frame.time_base = number * ticks, clip.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def places(path: Path) -> list[tuple[int, int]]:
    """Where the packets of a whole file begin, and their sizes, in file order."""
    with av.open(f"file:{path}") as container:
        return sorted({(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_cut_file_tells_how_much_is_missing_and_a_whole_one_nothing(kind: Kind, tmp_path: Path) -> None:
    path = write_noisy(tmp_path / kind.name, kind.how)
    whole = probe(path)
    assert (whole.partial, [note for note in whole.notes if "cut off" in note or "header tells" in note]) == (False, [])
    data, packets, amounts = path.read_bytes(), places(path), []
    for at in FRACTIONS:
        start, size = packets[int(len(packets) * at)]
        for cut in [start + size // 2, *([start] if kind.ends_between else [])]:
            path.write_bytes(data[:cut])
            info = probe(path)
            (note,) = (note for note in info.notes if "cut off" in note)
            assert info.partial
            assert "results are partial" in note
            found = re.search(WORDS[kind.tells], note)
            assert found, note
            assert info_record(info)["partial"] is True
            if kind.tells in ("frames", "seconds") and cut == start:
                amounts.append(float(found[1]))
                if kind.tells == "frames":
                    assert amounts[-1] + info.num_frames == N
            if kind.tells == "bytes":
                assert int(found[1]) <= len(data) - cut
    assert amounts == sorted(amounts, reverse=True)


def never_finished(path: Path) -> None:
    """What a recorder that stopped in the middle leaves: neither size nor count was ever filled in."""
    data = bytearray(path.read_bytes())
    data[4:8] = bytes(4)
    for box, offset in ((b"avih", 24), (b"strh", 40)):
        data[data.index(box) + offset : data.index(box) + offset + 4] = bytes(4)
    path.write_bytes(data)


def test_a_recording_that_stopped_in_a_frame(tmp_path: Path) -> None:
    path = write_noisy(tmp_path / "a.avi", MJPEG)
    never_finished(path)
    start, size = places(path)[20]
    path.write_bytes(path.read_bytes()[: start + size // 2])
    info = probe(path)
    assert info.partial
    assert re.search(WORDS["at least bytes"], " / ".join(info.notes))


def with_trailer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 100)


def with_tag(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"TAG" + b"x" * 125)


def without_index(path: Path) -> None:
    """Cut behind the last frame: an AVI without its index, an MP4 without its last box."""
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1") + 8] if path.suffix == ".avi" else data + b"\0\0\1\0freecut")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *itertools.product(["a.avi", "a.mp4", "a.mkv", "a.gif", "a.flv", "a.ts", "a.asf"], [with_trailer, with_tag]),
        ("a.avi", without_index),
        ("a.mp4", without_index),
        ("a.avi", never_finished),
    ],
)
def test_what_lacks_no_frame_is_not_partial(name: str, change: Any, tmp_path: Path) -> None:
    """Files with something behind their end, without what only seeking needs, or that were never finished."""
    how = {
        "a.avi": MJPEG,
        "a.asf": {"codec": "wmv2", "b_frames": 0},
        "a.gif": {"codec": "gif", "pixel_format": "rgb8", "time_base": Fraction(1, 100)},
        "a.mp4": {"format_options": {"movflags": "faststart"}},
    }
    path = write_noisy(tmp_path / name, how.get(name, {}))
    change(path)
    info = probe(path)
    assert (info.num_frames, info.partial) == (N, False)
    notes = [note for note in info.notes if "cut off" in note]
    assert len(notes) == (change is without_index)
    assert all("but no frame" in note for note in notes)


def test_avi_frames_that_were_dropped_are_not_missing(tmp_path: Path) -> None:
    """A gap in time is written as frames of no bytes, which the header counts."""
    times = [i + (20 if i >= 30 else 0) for i in range(N)]
    info = probe(write(tmp_path / "a.avi", Clip(numbers=range(N), times=times, **MJPEG)))
    assert (info.num_frames, info.num_frames_from_header, info.partial) == (N, N + 20, False)
    assert not [note for note in info.notes if "header tells" in note]


def test_sound_that_goes_on_is_not_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    clip = Clip(numbers=range(N))
    with av.open(f"file:{path}", "w") as out:
        stream = add_stream(out, clip)
        write_silence(out, out.add_stream("aac", rate=8000, layout="mono"), seconds=10)
        for number in clip.numbers:
            frame = av.VideoFrame.from_ndarray(paint(number), format="rgb24")
            frame.pts, frame.time_base = number, clip.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    info = probe(path)
    assert not info.partial
    assert [note for note in info.notes if "header tells" in note]
    assert not [note for note in info.notes if "cut off" in note]


@pytest.mark.parametrize("make", ["cut", "damaged"])
def test_a_plan_of_a_part_says_so(make: str, tmp_path: Path) -> None:
    if make == "cut":
        path = write_noisy(tmp_path / "a.avi", MJPEG)
        path.write_bytes(path.read_bytes()[: places(path)[30][0]])
    else:
        path = next(odd for odd in ODD_INPUTS if odd.name == "damaged_middle.mp4").path()
    plan = plan_video(path, Settings())
    assert plan.video.partial
    save_plan(plan, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json").video.partial
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "old.json").write_text(re.sub(r',\n\s*"partial": true', "", text))
    assert not load_plan(tmp_path / "old.json").video.partial
