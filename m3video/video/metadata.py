"""Metadata of a file, read once before any frame is returned; every backend starts from here.

All of it is read through PyAV, whichever backend decodes afterwards: times and orientation must not depend on it.
Results are cached while the file is unchanged, because making a plan opens its video several times.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc

from m3video.types import VideoInfo
from m3video.video._avstream import AvStream
from m3video.video._gop import is_plain_container
from m3video.video._seek import sequence
from m3video.video.index import FrameIndex, build_index
from m3video.video.path_checks import LocalFile, check_pixels, fingerprint, recent_write_note, unchanged
from m3video.video.picture import Orientation, PictureMaker, has_known_colours, orientation_of
from m3video.video.truncation import clock_end, find_truncation

_HDR = {ColorTrc.SMPTE2084.value: "PQ", ColorTrc.ARIB_STD_B67.value: "HLG"}


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """Index, header values, and how stored pictures become upright ones.

    `coded_size` is (width, height) of the first picture as stored; `is_hdr`: its transfer curve is PQ or HLG;
    `stream_index` is the number of the stream in the file, `is_first_stream`: no video stream comes before it.
    """

    index: FrameIndex
    info: VideoInfo
    orientation: Orientation
    coded_size: tuple[int, int]
    is_hdr: bool
    stream_index: int
    is_first_stream: bool

    def new_picture_maker(self) -> PictureMaker:
        """Return a converter for the frames of this file."""
        return PictureMaker(self.orientation, width=self.coded_size[0], height=self.coded_size[1])


@dataclass(frozen=True, slots=True)
class DecodeCheck:
    """What decoding the whole file once found: damage, whether the frames match the index, whether sizes change."""

    num_damaged: int
    is_as_indexed: bool
    has_one_size: bool


def inspect_file(file: LocalFile, *, max_pixels: int) -> FileMetadata:
    """Index `file` and read its header.

    Raises:
        VideoError: the file has no video stream, or no frame of it decodes.
        ChangedFileError: another program is writing to it.
    """
    with unchanged(file):
        return _inspect(file, max_pixels)


def check_by_decoding(file: LocalFile, *, max_pixels: int) -> DecodeCheck:
    """Decode all of `file` once, for backends that conceal damage silently.

    Raises:
        VideoError: as for `inspect_file`.
    """
    return _whole(file, max_pixels)


@lru_cache(maxsize=8)
def _inspect(file: LocalFile, max_pixels: int) -> FileMetadata:
    with AvStream(file, max_pixels=max_pixels) as source:
        index, first = build_index(source, max_pixels=max_pixels)
        orientation = orientation_of(first, aspect=source.stream.sample_aspect_ratio, max_pixels=max_pixels)
        width, height = orientation.display_size(first.width, first.height)
        check_pixels(width, height, max_pixels=max_pixels, name=file.printable)
        missing, is_partial = _missing(source, index)
        info = VideoInfo(
            path=file.path,
            fingerprint=fingerprint(file),
            backend="pyav",
            container=source.container.format.name,
            codec=source.stream.codec_context.codec.canonical_name,
            pixel_format=first.format.name,
            width=width,
            height=height,
            rotation=orientation.rotation,
            time_base=index.time_base,
            start_pts=int(index.pts_N[0]),
            end_pts=int(index.pts_N[-1]),
            last_duration=index.last_duration,
            num_frames=len(index),
            num_keyframes=int(index.is_key_N.sum()),
            num_frames_from_header=source.stream.frames or None,
            duration_seconds_from_header=_header_seconds(source.container),
            num_damaged_packets=index.num_damaged_packets,
            origin=index.origin,
            notes=index.notes + orientation.notes + _notes(source, first) + missing,
            partial=is_partial,
        )
        return FileMetadata(
            index=index,
            info=info,
            orientation=orientation,
            coded_size=(first.width, first.height),
            is_hdr=first.color_trc in _HDR,
            stream_index=source.stream.index,
            is_first_stream=source.stream is source.container.streams.video[0],
        )


@lru_cache(maxsize=8)
def _whole(file: LocalFile, max_pixels: int) -> DecodeCheck:
    index = _inspect(file, max_pixels).index
    with AvStream(file, max_pixels=max_pixels) as source:
        times: list[int] = []
        sizes: set[tuple[int, int]] = set()
        num_corrupt = 0
        for pts, frame in sequence(source, index):
            times.append(pts)
            sizes.add((frame.width, frame.height))
            num_corrupt += frame.is_corrupt
        return DecodeCheck(source.damage + num_corrupt, times == index.pts_N.tolist(), len(sizes) == 1)


def _notes(source: AvStream, first: VideoFrame) -> tuple[str, ...]:
    notes = []
    streams = source.container.streams.video
    if len(streams) > 1:
        notes.append(f"read stream {source.stream.index}, the best of {len(streams)} video streams")
    if first.color_trc in _HDR:
        notes.append(f"the pictures are HDR ({_HDR[first.color_trc]}) and were not tone-mapped")
    if not has_known_colours(first):
        notes.append(f"the header names an unknown colour matrix ({first.colorspace}); BT.601 was assumed")
    return tuple(notes)


def _missing(source: AvStream, index: FrameIndex) -> tuple[tuple[str, ...], bool]:
    """Return notes on what the header announces and the file lacks, and whether frames are missing."""
    announced, last = _header_seconds(source.container), clock_end(index)
    found = find_truncation(source, index, header_seconds=announced)
    if found.note is not None:
        return (found.note + (recent_write_note(source.file) if found.is_partial else ""),), found.is_partial
    # Other containers store no duration; FFmpeg estimates it from the bit rate.
    if (
        announced is None
        or not is_plain_container(source.container.format.name)
        or announced - last <= max(0.5, announced / 10)
    ):
        return (), False
    guess = "" if found.is_whole else "; the file may be cut off"
    return (f"the header announces {announced:.2f} s, the frames end at {last:.2f} s{guess}",), False


def _header_seconds(container: Any) -> float | None:
    return container.duration / 1e6 if container.duration and container.duration > 0 else None
