"""The frame index: which frames a correct decoder presents, and when, from one pass over the packets.

Reading all packets costs about 1/60 of decoding them. The first frames are decoded to verify the packets' timestamps;
where these are wrong (fields in separate packets, hidden frames, missing timestamps), the index is made by decoding
the file once, and says so. Shape legend: N presented frames, in display order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from m3video.errors import VideoError
from m3video.types import TimeBase
from m3video.utils.clock import FROM_ZERO, Origin, clock_seconds
from m3video.utils.progress import report_alive
from m3video.video._avstream import AvStream
from m3video.video.timeline import new_timeline, nominal_ticks, origin_of, timeline_notes

HEAD_FRAMES = 24
"""Frames decoded to verify the packets' timestamps."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """Struct of arrays over the presented frames of one video, in display order.

    Attributes:
        pts_N: int64, strictly increasing, ticks of `time_base`.
        is_key_N: bool, random-access pictures.
        size_N: int64, bytes of each frame's packet; 0 where packets and frames cannot be matched.
        time_base: seconds per tick.
        source: "packets" or "decoder": what the index was made from.
        stores_times: the container keeps a time with each packet (AVI and raw streams count instead).
        num_missing, num_duplicate, num_backward: timestamps of the file that were absent, repeated, or ran backward.
        num_damaged_packets: packets that could not be read or decoded while the index was made.
        last_duration: how long the last frame is shown, ticks.
        notes: messages for users on how the times were obtained.
        origin: the start of the file's earliest stream; `pts_seconds` counts from there.
    """

    pts_N: NDArray[np.int64]
    is_key_N: NDArray[np.bool_]
    size_N: NDArray[np.int64]
    time_base: TimeBase
    last_duration: int
    source: str
    stores_times: bool
    num_missing: int = 0
    num_duplicate: int = 0
    num_backward: int = 0
    num_damaged_packets: int = 0
    notes: tuple[str, ...] = ()
    origin: Origin = FROM_ZERO

    def __post_init__(self) -> None:
        for array in (self.pts_N, self.is_key_N, self.size_N):
            assert len(array) == len(self.pts_N)
            array.setflags(write=False)
        assert len(self.pts_N) > 0
        assert (np.diff(self.pts_N) > 0).all()

    @property
    def is_regular(self) -> bool:
        """Whether pts_N are the file's own timestamps, each present once and in order."""
        return not (self.num_missing or self.num_duplicate or self.num_backward)

    @property
    def is_seekable(self) -> bool:
        """Whether frames can be sought by pts; otherwise they are reached by decoding from the start."""
        return self.is_regular and self.stores_times

    def __len__(self) -> int:
        return len(self.pts_N)

    @property
    def until_pts(self) -> int:
        """When the last frame leaves the screen, ticks."""
        return int(self.pts_N[-1]) + self.last_duration

    def pts_seconds(self, pts: int) -> float:
        """Return `pts` in seconds as players count them, from `origin`."""
        return clock_seconds(pts, self.time_base, self.origin)

    def position(self, pts: int) -> int | None:
        """Return the row of the frame at exactly `pts`, or None."""
        row = int(np.searchsorted(self.pts_N, pts))
        return row if row < len(self) and self.pts_N[row] == pts else None

    def __repr__(self) -> str:
        return f"FrameIndex(N={len(self)}, source={self.source!r}, is_regular={self.is_regular})"


@dataclass(slots=True)
class _Rows:
    """Columns of a growing index: their size follows what was read, never what a header claims."""

    pts: list[int | None] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)


def build_index(source: AvStream, *, max_pixels: int) -> tuple[FrameIndex, VideoFrame]:
    """Index the frames of `source`, which must be at its beginning, and return the first decoded frame with it.

    Args:
        source: an open stream; read to its end.
        max_pixels: cap on pixels per frame, for the streams opened to verify the packets.

    Returns:
        The index, and the first frame that the decoder outputs.

    Raises:
        VideoError: when the file has no packets, or no frame of it decodes.
    """
    rows = _read_packets(source)
    name = source.file.printable
    if not rows.pts:
        raise VideoError(f"{name}: the video stream has no frames")
    with AvStream(source.file, max_pixels=max_pixels) as head:
        first, index = _from_packets(rows, source, head)
    if index is None:
        with AvStream(source.file, max_pixels=max_pixels) as whole:
            index = _from_decoder(whole)
    if first is None or index is None:
        raise VideoError(
            f"{name}: no frame of its {len(rows.pts)} packets decodes; the file is damaged or encrypted, "
            f"or its frames have more than max_pixels ({max_pixels}) pixels"
        )
    return index, first


def _read_packets(source: AvStream) -> _Rows:
    rows = _Rows()
    is_hidden = _HIDDEN.get(source.stream.codec_context.name, _never)
    for packet in source.packets():
        report_alive()
        if packet.is_discard or is_hidden(packet):
            continue
        rows.pts.append(packet.pts)
        rows.is_key.append(packet.is_keyframe)
        rows.size.append(packet.size)
        rows.duration.append(packet.duration or 0)
    return rows


def _from_packets(rows: _Rows, source: AvStream, head: AvStream) -> tuple[VideoFrame | None, FrameIndex | None]:
    """Return the first frame, and the index by the packets; None when the first decoded frames contradict them."""
    first, shown = _decode_head(head)
    if first is None or any(pts is None for pts in rows.pts):
        return first, None
    pts_N = np.array(rows.pts, dtype=np.int64)
    order = np.argsort(pts_N, kind="stable")
    pts_N = pts_N[order]
    if (np.diff(pts_N) <= 0).any():
        return first, None
    packet_pts = pts_N.tolist()
    leading = 0
    if shown[0] in packet_pts:
        # A stream cut out of a longer one may begin with frames whose references are missing: no decoder shows them.
        leading = packet_pts.index(shown[0])
    expected = packet_pts[leading : leading + len(shown)]
    if head.damage or shown != expected:
        return first, None
    keep = order[leading:]
    is_key = np.array(rows.is_key, dtype=np.bool_)[keep]
    duration = rows.duration[int(keep[-1])] or nominal_ticks(source.stream)
    notes = (f"{leading} leading frames cannot be decoded and are not presented",) if leading else ()
    index = FrameIndex(
        pts_N=pts_N[leading:],
        is_key_N=is_key,
        size_N=np.array(rows.size, dtype=np.int64)[keep],
        time_base=_time_base(source.stream),
        last_duration=int(duration),
        source="packets",
        stores_times=source.stores_times,
        num_damaged_packets=source.read_errors,
        notes=notes,
        origin=_origin(source, pts_N[leading]),
    )
    return first, index


def _decode_head(head: AvStream) -> tuple[VideoFrame | None, list[int | None]]:
    first: VideoFrame | None = None
    shown: list[int | None] = []
    for frame in head.frames():
        first = first or frame
        shown.append(frame.pts)
        if len(shown) >= HEAD_FRAMES:
            break
    return first, shown


def _from_decoder(source: AvStream) -> FrameIndex | None:
    """Return the index by decoding the whole file; None when nothing decodes."""
    rows = _Rows()
    timeline = new_timeline(source.stream)
    for frame, size in frames_with_sizes(source):
        report_alive()
        rows.pts.append(timeline.stamp(frame))
        rows.is_key.append(frame.key_frame)
        rows.size.append(size)
        rows.duration.append(frame.duration or 0)
    if not rows.pts:
        return None
    return FrameIndex(
        pts_N=np.array(rows.pts, dtype=np.int64),
        is_key_N=np.array(rows.is_key, dtype=np.bool_),
        size_N=np.array(rows.size, dtype=np.int64),
        time_base=_time_base(source.stream),
        last_duration=rows.duration[-1] or nominal_ticks(source.stream),
        source="decoder",
        stores_times=source.stores_times,
        num_missing=timeline.num_missing,
        num_duplicate=timeline.num_duplicate,
        num_backward=timeline.num_backward,
        num_damaged_packets=source.damage,
        notes=timeline_notes(timeline, source.stream),
        origin=_origin(source, rows.pts[0]),
    )


def frames_with_sizes(source: AvStream) -> Iterator[tuple[VideoFrame, int]]:
    """Yield decoded frames with the bytes of the packet each came from (0 when unknown)."""
    source.stream.codec_context.copy_opaque = True
    for packet in source.packets():
        packet.opaque = packet.size
        for frame in source.decode(packet):
            yield frame, _as_size(frame.opaque)
    for frame in source.decode(None):
        yield frame, _as_size(frame.opaque)


def _as_size(opaque: object) -> int:
    return opaque if isinstance(opaque, int) else 0


def _time_base(stream: Any) -> TimeBase:
    return stream.time_base.numerator, stream.time_base.denominator


def _origin(source: AvStream, first_pts: Any) -> Origin:
    return origin_of(source.container, first_pts=int(first_pts), time_base=_time_base(source.stream))


def _never(packet: Any) -> bool:
    return False


def _is_hidden_vp8(packet: Any) -> bool:
    """Return whether show_frame, bit 4 of the VP8 frame tag, is 0. Source: RFC 6386, section 9.1."""
    return not bytes(packet)[0] & 0x10


def _is_hidden_vp9(packet: Any) -> bool:
    """Return whether a packet holds one VP9 frame with show_frame = 0.

    Packets that end in a superframe marker always hold a shown frame.
    Source: VP9 bitstream specification, section 6.2.
    """
    data = bytes(packet)
    if data[-1] & 0xE0 == 0xC0:
        return False
    bits, position = data[0], 2  # after the 2-bit frame marker, most significant bit first

    def take() -> int:
        nonlocal position
        value = bits >> (7 - position) & 1
        position += 1
        return value

    profile = take() + 2 * take()
    if profile == 3:
        take()
    if take():  # show_existing_frame
        return False
    take()  # frame_type
    return not take()


_HIDDEN = {"vp8": _is_hidden_vp8, "vp9": _is_hidden_vp9, "libvpx": _is_hidden_vp8, "libvpx-vp9": _is_hidden_vp9}
