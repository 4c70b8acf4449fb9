"""Copies of videos that browsers cannot play: H.264 and AAC in MP4, each frame at the time of the original."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace

from m3video.config import Settings
from m3video.errors import DiskFullError, VideoError
from m3video.inference.pipeline import open_for
from m3video.serve.errors import RequestError
from m3video.serve.files import VideoFolder, unfinished
from m3video.serve.jobs import Jobs, JobState
from m3video.utils.text import printable
from m3video.video.path_checks import Identity, check_file

PLACE = Path(".m3video") / "proxies"
"""Where the copies lie in the folder. They may be removed at any time: they are made again when needed."""

MOST_SIDE = 1280
"""Longest side of a copy, pixels."""

KEYFRAME_EVERY = 30
"""Frames: how far a seek must decode at most."""

_MOST_TICKS = 1 << 30
"""Ticks in a second that MP4 can state."""

_TELL_SECONDS = 0.25
_SOUND_RATE = 48_000


class Proxies:
    """The copies for one folder."""

    def __init__(self, folder: VideoFolder, settings: Settings) -> None:
        """Nothing is made yet; `settings` name the decoder."""
        self._folder, self._settings = folder, settings
        self._jobs = Jobs(
            encode,
            first_stage="reading its packets",
            on_found=self._keep,
            on_end=lambda _settings, out: Path(out).unlink(missing_ok=True),
        )

    def start(self, path: str) -> JobState:
        """Start the copy of a video if there is none, and return how far it is.

        Raises:
            VideoError: the file is no readable video, or the copy that was started before has failed.
            RequestError: 429, too many are waiting; 403, the folder cannot be written.
        """
        if self._place(check_file(path).identity).exists():
            return JobState("ready")
        try:
            return self._jobs.start(path, lambda: (self._settings, str(unfinished(self._folder.root, ".mp4"))))
        except OSError as error:
            raise RequestError(f"no copy can be written to the folder: {error.strerror}", status=403) from None

    def find(self, path: str) -> Path:
        """Return the copy of a video.

        Raises:
            RequestError: 404, there is none of the file as it is now.
        """
        found = self._place(check_file(path).identity)
        if not found.exists():
            raise RequestError(f"{printable(path)} has no copy for players: start one", status=404)
        return found

    def cancel(self, path: str) -> None:
        """End the making of a copy, if it waits or runs."""
        self._jobs.cancel(path)

    def close(self) -> None:
        """End all that are being made."""
        self._jobs.close()

    def _place(self, key: Identity) -> Path:
        """Return where the copy of a file lies; another one once the file changes."""
        path, _, _, size, changed = key
        name = hashlib.sha256(os.fsencode(os.path.relpath(path, self._folder.root))).hexdigest()[:24]
        return self._folder.root / PLACE / f"{name}-{size:x}-{changed:x}.mp4"

    def _keep(self, key: Identity, path: str, made: str) -> None:
        place = self._place(key)
        try:
            place.parent.mkdir(exist_ok=True)
            for old in place.parent.glob(f"{place.name.partition('-')[0]}-*.mp4"):
                old.unlink(missing_ok=True)  # of the file as it was before
            os.replace(made, place)
        except OSError as error:
            raise RequestError(f"no copy can be written to the folder: {error.strerror}", status=403) from None


def encode(path: str, settings: Settings, out: str) -> Iterator[tuple[str, int, int | None] | str]:
    """Write the copy of a video: yield (stage, done, total) meanwhile, and last `out`.

    Args:
        path: a local video file.
        settings: name the decoder.
        out: file to write.

    Raises:
        VideoError: the file cannot be read, or no frame decodes.
        DiskFullError: the disk is full.
    """
    os.nice(10)  # who waits for a plan or an answer comes first
    try:
        yield from _encode(path, settings, out)
    except OSError as error:  # those of PyAV are such, too
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError("the disk is full: no copy for the player was made") from None
        raise
    yield out


def _encode(path: str, settings: Settings, out: str) -> Iterator[tuple[str, int, int | None]]:
    with open_for(path, settings) as reader:
        info, last_told, done = reader.info, time.monotonic(), 0
        total = info.num_frames
        ticks, origin = Fraction(*info.time_base), Fraction(*info.origin)
        base = _common(ticks, origin)
        with av.open(out, "w", format="mp4", options=_options(base)) as file:
            video = file.add_stream("libx264", rate=max(1, round(total / max(info.duration_seconds, 1e-3))))
            context: Any = video.codec_context
            shrink = min(1.0, MOST_SIDE / max(info.width, info.height))
            video.width, video.height = (max(2, 2 * round(side * shrink / 2)) for side in (info.width, info.height))
            video.pix_fmt, video.time_base, context.time_base = "yuv420p", base, base
            context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
            # Without frames that refer to later ones, no time is negative and none needs to be shifted.
            video.options = {"preset": "veryfast", "crf": "21", "bf": "0", "g": str(KEYFRAME_EVERY)}
            sound = _Sound(path, file, origin)
            before = None
            for frame in reader.frames():
                at = round((frame.pts * ticks - origin) / base)
                if before is not None and at <= before:
                    continue  # a damaged file may have frames out of order
                picture = av.VideoFrame.from_ndarray(frame.rgb_HW3, format="rgb24").reformat(
                    video.width, video.height, "yuv420p",
                    dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG,
                )  # fmt: skip
                picture.pts, picture.time_base, before = at, base, at
                file.mux(video.encode(picture))
                sound.write_until(float(at * base))
                done += 1
                if time.monotonic() - last_told > _TELL_SECONDS:
                    last_told = time.monotonic()
                    yield "frames", done, total
            if before is None:
                raise VideoError(f"{printable(path)}: no frame of it can be decoded")
            until = round((info.until_pts * ticks - origin) / base)
            for packet in video.encode(None):
                if packet.pts == before:
                    packet.duration = max(1, until - before)
                file.mux(packet)
            sound.write_until(math.inf)
            sound.close()


class _Sound:
    """The sound of a video, written as far as its pictures are."""

    def __init__(self, path: str, file: Any, origin: Fraction) -> None:
        self._file, self._origin = file, origin
        self._source: Any = av.open(check_file(path).url)
        streams = self._source.streams.audio
        self._stream = file.add_stream("aac", rate=_SOUND_RATE, layout="stereo") if streams else None
        self._frames = self._decoded(streams[0]) if streams else iter(())
        self._next: Any = next(self._frames, None)

    def write_until(self, seconds: float) -> None:
        """Write what begins before a time; all for infinity."""
        while self._next is not None and self._start(self._next) < seconds:
            frame = self._next
            shifted = Fraction(frame.pts) * frame.time_base - self._origin
            frame.pts, frame.time_base = round(shifted * frame.sample_rate), Fraction(1, frame.sample_rate)
            assert self._stream is not None
            self._file.mux(self._stream.encode(frame))
            self._next = next(self._frames, None)
        if seconds == math.inf and self._stream is not None:
            self._file.mux(self._stream.encode(None))

    def close(self) -> None:
        self._source.close()

    def _start(self, frame: Any) -> float:
        return float(Fraction(frame.pts) * frame.time_base - self._origin)

    def _decoded(self, stream: Any) -> Iterator[Any]:
        with suppress(av.FFmpegError):  # a file that ends in the middle
            for packet in self._source.demux(stream):
                with suppress(av.FFmpegError):  # damage is a short silence, as in a player
                    yield from (frame for frame in packet.decode() if frame.pts is not None)


def _common(ticks: Fraction, origin: Fraction) -> Fraction:
    """Return a time base in which both are whole; where MP4 cannot state it, one that is near enough for players."""
    base = Fraction(
        math.gcd(ticks.numerator * origin.denominator, origin.numerator * ticks.denominator),
        ticks.denominator * origin.denominator,
    )
    return base if base.denominator <= _MOST_TICKS else Fraction(1, 90_000)


def _options(base: Fraction) -> dict[str, str]:
    # The start of a stream is stated in ticks of the whole file, which are milliseconds unless it is told otherwise.
    return {"movflags": "faststart", "movie_timescale": str(base.denominator)}
