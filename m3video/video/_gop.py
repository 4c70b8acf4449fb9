"""Whether every keyframe of a file is a clean entry point: decoders that seek by frame number depend on it."""

from __future__ import annotations

from m3video.video._avstream import AvStream
from m3video.video.path_checks import LocalFile

_H264_IDR = 5


def why_not_seekable(file: LocalFile, *, max_pixels: int) -> str | None:
    """Read all packets and return why frames cannot be numbered or sought naively, or None when they can.

    Raises:
        VideoError: the file cannot be opened.
    """
    with AvStream(file, max_pixels=max_pixels) as source:
        context = source.stream.codec_context
        length_size = _length_size(context.extradata) if context.name == "h264" else 0
        key_pts: int | None = None
        for packet in source.packets():
            if packet.is_discard:
                return "an edit list hides some of its frames"
            if packet.pts is None:
                return "it has frames without timestamps"
            if packet.is_keyframe:
                key_pts = packet.pts
                if context.name == "h264" and _H264_IDR not in _nal_types(bytes(packet), length_size):
                    return "its keyframes are no IDR pictures (open GOP or intra refresh)"
            elif key_pts is None or packet.pts < key_pts:
                return "frames before a keyframe are stored after it (open GOP)"
    return None


def _length_size(extradata: bytes | None) -> int:
    """Return the bytes of a NAL unit's length field (ISO 14496-15 avcC), 0 for Annex B start codes."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 4 and extradata[0] == 1 else 0


def _nal_types(data: bytes, length_size: int) -> set[int]:
    types: set[int] = set()
    at = 0
    if not length_size:
        while (at := data.find(b"\x00\x00\x01", at)) >= 0 and at + 3 < len(data):
            types.add(data[at + 3] & 31)
            at += 3
        return types
    while at + length_size < len(data):
        size = int.from_bytes(data[at : at + length_size], "big")
        types.add(data[at + length_size] & 31)
        at += length_size + size
    return types


def is_plain_container(name: str) -> bool:
    """Return whether FFmpeg's container `name` is that of MP4 and MOV, or of Matroska and WebM."""
    return name.startswith(("mov,mp4", "matroska"))
