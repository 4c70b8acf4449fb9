"""One video stream of one file, opened through PyAV with limits, without log output, and with damage counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import av
import av.error
import av.logging
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame

from m3video.errors import VideoError
from m3video.video._extents import PacketTally, lacks_index
from m3video.video.path_checks import LocalFile, check_pixels, recent_write_note

av.logging.set_level(None)  # FFmpeg must not write on stderr; damage is counted from return codes and frame flags.

CONTAINERS: tuple[str, ...] = (
    "mov",
    "mp4",
    "matroska",
    "webm",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "avi",
    "flv",
    "live_flv",
    "asf",
    "ogg",
    "gif",
    "apng",
    "h264",
    "hevc",
    "vvc",
    "m4v",
    "ivf",
    "obu",
    "av1",
    "mjpeg",
    "mxf",
    "nut",
    "rm",
    "dv",
    "yuv4mpegpipe",
    "h261",
    "h263",
    "vc1",
    "wtv",
    "swf",
    "nuv",
    "gxf",
    "dirac",
    "cavsvideo",
)
"""Demuxers that may open a file. Left out on purpose: those that open other files (hls, dash, concat, image2, ...),
and those of still pictures and text."""

TIMED_CONTAINERS: tuple[str, ...] = ("mov", "matroska", "mpegts", "flv", "asf", "ogg", "mxf", "nut")
"""Containers that store a time with each packet. In others FFmpeg counts packets, and after damage a seek miscounts."""

MAX_READ_ERRORS = 64
"""Consecutive read errors after which the rest of a file is given up."""

_FLAG_GEN_PTS = 0x0001


class AvStream:
    """The best video stream of a file, opened: packets and frames in file order, damage counted.

    Attributes:
        container, stream: PyAV's objects.
        read_errors: reads that failed.
        damaged_packets: packets that the decoder refused.
        truncated: True when reading was given up before the end of the file.
        tally: counts over the packets read so far.
    """

    def __init__(self, file: LocalFile, *, max_pixels: int, scan: str | None = None) -> None:
        """Open `file`.

        Args:
            file: a checked path.
            max_pixels: most pixels that one frame may have.
            scan: mode of a first pass, one of `SCANS`; None for full quality.
        """
        self.file = file
        self._scan = scan
        self.read_errors = 0
        self.damaged_packets = 0
        self.truncated = False
        self.tally = PacketTally()
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": ",".join(CONTAINERS),
            "max_pixels": str(max_pixels),
        }
        try:
            self.container = av.open(file.url, mode="r", options=options, metadata_errors="replace")
        except av.error.ArgumentError:
            raise VideoError(f"{file.printable}: not a video container that m3video reads; convert it to MP4") from None
        except (av.error.FFmpegError, ValueError) as error:
            words = "its index, the moov box, is missing" if lacks_index(file.identity[0]) else _words(error)
            raise VideoError(
                f"{file.printable}: not a readable video file ({words}){recent_write_note(file)}"
            ) from None
        try:
            self.stream = self._choose(max_pixels)
        except BaseException:
            self.container.close()
            raise

    def _choose(self, max_pixels: int) -> Any:
        # PyAV sets GENPTS; without it timestamps are those that ffprobe prints, and nothing is buffered to guess them.
        self.container.flags &= ~_FLAG_GEN_PTS
        name = self.file.printable
        pictures = [s for s in self.container.streams.video if s.disposition & Disposition.attached_pic]
        stream: Any = self.container.streams.best("video")
        if stream is None or stream in pictures:
            others = [s for s in self.container.streams.video if s not in pictures]
            if not others:
                kind = "only cover art" if pictures else "no video stream"
                raise VideoError(f"{name}: the file has {kind}; give a file with moving pictures")
            stream = others[0]
        if stream.codec_context is None:
            raise VideoError(f"{name}: no decoder for its video codec; convert it to H.264 first")
        for other in self.container.streams:
            if other is not stream:
                other.discard = Discard.all
        check_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels=max_pixels, name=name)
        stream.codec_context.options = {"max_pixels": str(max_pixels), **self._shortcuts(stream.codec_context.name)}
        stream.codec_context.thread_count = 1
        stream.thread_type = "NONE"
        return stream

    def _shortcuts(self, codec: str) -> dict[str, str]:
        """Return the decoder options of a first pass.

        Frames that no other frame refers to need no deblocking for a small picture. Nor do the B-frames of H.264, to
        which at most a few others refer. Without any deblocking, errors would add up from keyframe to keyframe.
        """
        if self._scan is None:
            return {}
        unfiltered = {"skip_loop_filter": "bidir" if codec == "h264" else "noref"}
        return unfiltered | ({"skip_frame": "noref"} if self._scan == "nonref" else {})

    def packets(self) -> Iterator[Any]:
        """Yield packets with data (in a scan of keyframes: only keyframes) from the read position to the end of file.

        Read errors are counted and skipped.
        """
        in_a_row = 0
        while True:
            try:
                for packet in self.container.demux(self.stream):
                    in_a_row = 0
                    if not packet.size:
                        continue
                    self.tally.add(packet)
                    if packet.is_keyframe or self._scan != "keyframes":
                        yield packet
                return
            except IndexError:
                # PyAV loses its list of streams when damage makes one appear midway.
                self.read_errors += 1
                self.truncated = True
                return
            except av.error.FFmpegError:
                self.read_errors += 1
                in_a_row += 1
                if in_a_row >= MAX_READ_ERRORS:
                    self.truncated = True
                    return

    def decode(self, packet: Any | None) -> list[VideoFrame]:
        """Return the frames that `packet` completes (None flushes the decoder).

        A damaged packet is counted and gives none.
        """
        try:
            return list(self.stream.codec_context.decode(packet))
        except (av.error.FFmpegError, EOFError):
            self.damaged_packets += 1
            return []

    def frames(self, packets: Iterable[Any] | None = None) -> Iterator[VideoFrame]:
        """Yield decoded frames in output order, of `packets`, or from the read position to the end of the file."""
        for packet in self.packets() if packets is None else packets:
            yield from self.decode(packet)
            if self._scan == "keyframes":
                # The decoder must not wait for the packets between two keyframes.
                yield from self.decode(None)
                self.stream.codec_context.flush_buffers()
        yield from self.decode(None)

    def seek(self, pts: int) -> bool:
        """Seek to the keyframe at or before `pts` (or near it: the caller checks); return False when that fails."""
        try:
            self.container.seek(int(pts), stream=self.stream, backward=True, any_frame=False)
        except (av.error.FFmpegError, OSError):
            return False
        return True

    @property
    def knows_references(self) -> bool:
        """Whether the stream marks reliably the frames that no other refers to.

        H.264 does, in the header of each NAL unit. HEVC's mark holds within one temporal layer only; other codecs store
        it inside the picture data, or not at all.
        """
        return bool(self.stream.codec_context.name == "h264")

    def skip_unreferenced(self, is_on: bool) -> None:
        """Make the decoder skip frames that no other refers to, from the next packet on."""
        wanted = "NONREF" if is_on else "DEFAULT"
        if self.stream.codec_context.skip_frame != wanted:
            self.stream.codec_context.skip_frame = wanted

    @contextlib.contextmanager
    def without_unreferenced(self, is_on: bool) -> Iterator[None]:
        """Make the decoder skip frames that no other refers to meanwhile, where the stream marks them reliably."""
        if not is_on or not self.knows_references:
            yield
            return
        self.skip_unreferenced(True)
        try:
            yield
        finally:
            self.skip_unreferenced(False)

    @property
    def stores_times(self) -> bool:
        """Whether frames have the same times after a seek as when the file is read from the start."""
        return self.container.format.name.split(",")[0] in TIMED_CONTAINERS

    @property
    def damage(self) -> int:
        """Number of failed reads and damaged packets."""
        return self.read_errors + self.damaged_packets

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(av.error.FFmpegError):
            self.container.close()

    def __enter__(self) -> AvStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _words(error: Exception) -> str:
    """Return FFmpeg's reason on one line, without the errno and the path."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).lower()
