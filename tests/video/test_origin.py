"""Where people's clock begins: the start of a file's earliest stream, as players count, exact in its own ticks."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from m3video.errors import BackendError
from m3video.video.reader import BACKENDS, open_video
from tests.video.clips import Clip, add_stream, encode, write
from tests.video.odd_inputs import ODD_INPUTS, OddInput, Readable

N = 30
SUBTITLE = b"1\n00:00:00,100 --> 00:00:02,000\nhello\n\n"


def at(seconds: float) -> list[int]:
    """Times of a clip that begins then, 25 frames a second."""
    return [round(25 * seconds) + i for i in range(N)]


def late_picture(path: Path) -> Path:
    return write(path, Clip(numbers=range(N), times=at(5), audio=True))


def late_sound(path: Path) -> Path:
    return write(path, Clip(numbers=range(N), times=at(0), audio=True, audio_start=0.7, b_frames=0))


def pictures_only(path: Path) -> Path:
    return write(path, Clip(numbers=range(N), times=at(10), b_frames=0))


def with_cover(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        pictures = Clip(numbers=range(N), times=at(3))
        stream = add_stream(out, pictures)
        cover_clip = Clip(numbers=[1], codec="mjpeg", pixel_format="yuvj420p")
        cover = add_stream(out, cover_clip)
        cover.disposition = Disposition.attached_pic
        for packet in [*encode(cover, cover_clip), *encode(stream, pictures)]:
            out.mux(packet)
    return path


def with_subtitle(path: Path, *, picture_at: float) -> Path:
    text = path.with_suffix(".srt")
    text.write_bytes(SUBTITLE)
    with av.open(str(text)) as cues, av.open(str(path), "w") as out:
        pictures = Clip(numbers=range(N), times=at(picture_at), b_frames=0)
        stream = add_stream(out, pictures)
        words = out.add_stream_from_template(cues.streams[0])
        for packet in [packet for packet in cues.demux() if packet.size]:
            packet.stream = words
            out.mux(packet)
        for packet in encode(stream, pictures):
            out.mux(packet)
    return path


def off_a_tick(path: Path) -> Path:
    """Sound that begins at a tick of 1/8000 s which microseconds cannot say."""
    with av.open(str(path), "w", format="nut") as out:
        pictures = Clip(numbers=range(N), times=at(5), b_frames=0)
        stream, sound = add_stream(out, pictures), out.add_stream("pcm_s16le", rate=44100, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=4410)
        frame.sample_rate, frame.pts, frame.time_base = 44100, 12345, Fraction(1, 44100)
        for packet in [*sound.encode(frame), *encode(stream, pictures)]:
            out.mux(packet)
    return path


# What is made, and when its first frame is shown to people: the exact value, or what remains of rounding to the
# container's ticks.
FILES: dict[str, tuple[Callable[[Path], Path], float, float]] = {
    "late_picture.mp4": (late_picture, 5.0, 0.0),
    "late_picture.mkv": (late_picture, 5.0, 0.002),
    "late_picture.ts": (late_picture, 5.128, 1e-9),
    "late_picture.mov": (late_picture, 5.0, 0.0),
    "late_picture.flv": (late_picture, 5.128, 0.01),
    "late_sound.mp4": (late_sound, 0.0, 0.0),
    "late_sound.mkv": (late_sound, 0.0, 0.0),
    "late_sound.ts": (late_sound, 0.0, 0.0),
    "pictures_only.mp4": (pictures_only, 0.0, 0.0),
    "pictures_only.mkv": (pictures_only, 0.0, 0.0),
    "pictures_only.ts": (pictures_only, 0.0, 0.0),
    "with_cover.mp4": (with_cover, 0.0, 0.0),
    "subtitle_far.mkv": (lambda path: with_subtitle(path, picture_at=3.0), 0.0, 0.0),
    "subtitle_near.mkv": (lambda path: with_subtitle(path, picture_at=0.6), 0.5, 0.0),
    "off_a_tick.nut": (off_a_tick, 5 - 12345 / 44100, 1e-12),
}


@pytest.fixture(params=FILES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, float, float]:
    make, first, within = FILES[request.param]
    return make(tmp_path / request.param), first, within


def test_people_count_from_the_earliest_stream(made: tuple[Path, float, float]) -> None:
    """All backends say the same, and integers stay those of the file."""
    path, first, within = made
    with av.open(str(path)) as container:
        video = next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        own = {packet.pts for packet in container.demux(video) if packet.pts is not None}
    seen = set()
    for backend in BACKENDS:
        try:
            with open_video(path, backend=backend) as reader:
                info, index = reader.info, reader.index
        except BackendError:
            assert backend != "pyav"
            continue
        assert set(index.pts_N.tolist()) == own
        assert info.pts_seconds(info.start_pts) == pytest.approx(first, abs=within or 1e-12)
        if not within and first == 0.0:
            assert info.pts_seconds(info.start_pts) == 0.0
        assert index.origin == info.origin
        seen.add(info.origin)
    assert len(seen) == 1


def test_a_start_between_two_microseconds_is_exact(tmp_path: Path) -> None:
    with open_video(off_a_tick(tmp_path / "a.nut")) as reader:
        assert Fraction(*reader.info.origin) == Fraction(12345, 44100)


READABLE = [odd for odd in ODD_INPUTS if isinstance(odd.outcome, Readable)]


@pytest.mark.parametrize("odd", READABLE, ids=lambda odd: odd.name.encode("unicode_escape").decode()[:40])
def test_the_start_is_the_one_that_ffmpeg_tells(odd: OddInput, tmp_path: Path) -> None:
    path = odd.path()
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        told = container.start_time
    with open_video(path) as reader:
        info = reader.info
    if told is None:
        assert info.pts_seconds(info.start_pts) == 0.0
    else:
        assert abs(Fraction(*info.origin) - Fraction(told, 10**6)) <= Fraction(1, 2 * 10**6)
