"""How long a file should be by its own structure: a few bytes of its header, or of its last block.

FFmpeg reads what is there and does not report what size fields or a missing end mark show. Each reader takes the open
file, its size in bytes, and the tally of the packets that FFmpeg found; it returns None where the file states nothing,
as in live recordings, whose fields stay empty. Data after a complete structure is ignored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO


@dataclass(slots=True)
class PacketTally:
    """Counts over the packets that were read of a stream.

    `num_whole`: packets without damage; `step`: the least time from one to the next, ticks. Of the last packet:
    its byte position in the file, its size in bytes, its decoding timestamp, and whether it is undamaged.
    """

    num_whole: int = 0
    last_position: int = 0
    last_size: int = 0
    last_dts: int | None = None
    step: int = 0
    is_last_whole: bool = True

    def add(self, packet: Any) -> None:
        """Count a packet of PyAV."""
        self.is_last_whole = not packet.is_corrupt
        self.num_whole += self.is_last_whole
        if packet.pos is not None:
            self.last_position = packet.pos
        if packet.dts is not None and self.last_dts is not None and packet.dts > self.last_dts:
            self.step = min(self.step or packet.dts, packet.dts - self.last_dts)
        self.last_size, self.last_dts = packet.size, packet.dts


@dataclass(frozen=True, slots=True)
class Extent:
    """What the structure of a file says about the whole file.

    `num_bytes`: its size; where not `is_exact`, the least that it can be. `num_frames` and `seconds`: None where they
    are not stored, or FFmpeg reports them. `is_fragmented`: further fragments may follow that nothing announces.
    `has_end`: False where the mark that ends every complete file is missing.
    """

    num_bytes: int
    is_exact: bool = True
    num_frames: int | None = None
    seconds: float | None = None
    is_fragmented: bool = False
    has_end: bool = True


def _read_at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _avi(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read the sizes of the RIFF chunks, of which OpenDML has several; where they are empty, that of the last frame.

    Source: OpenDML AVI file format extensions 1.02.
    """
    at = end = 0
    while len(head := _read_at(file, at, 8)) == 8 and head[:4] == b"RIFF":
        length = int.from_bytes(head[4:], "little")
        if length in (0, 0xFFFFFFFF):
            return _avi_chunks(file, size, tally)
        end = at + 8 + length
        at = end + (length & 1)
    return Extent(end) if end else None


def _avi_chunks(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    at = end = max(0, tally.last_position - 8)  # FFmpeg's position is that of the chunk's content
    while len(head := _read_at(file, at, 8)) == 8 and (head[:2].isdigit() or head[:4] in (b"idx1", b"JUNK")):
        end = at + 8 + int.from_bytes(head[4:], "little")
        at = end + (end & 1)
    return Extent(end, is_exact=False) if end > size else None


def _mov(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read the sizes of the boxes, and where the index of all fragments ends. Source: ISO 14496-12, 4.2 and 8.16.3."""
    at = end = 0
    is_fragmented, is_exact, has_list = False, True, False
    while len(head := _read_at(file, at, 16)) >= 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if length < 8 or (at + length > size and kind not in _BOXES):  # to the end of the file, or no box
            break
        if kind == b"moof":
            is_fragmented, is_exact = True, has_list
        elif kind == b"sidx" and at + length <= size:
            count, indexed = _segment_index(_read_at(file, at + 8, length - 8))
            has_list |= count > 1  # else each fragment is announced right before it
            end = max(end, at + length + indexed)
        at += length
        end = max(end, at)
    if is_fragmented and 0 < size - at < 8:
        end = max(end, at + 8)
    return Extent(end, is_exact, is_fragmented=is_fragmented)


_BOXES = frozenset(b"ftyp wide mdat free skip moov moof mfra sidx styp udta uuid meta emsg prft ssix".split())


def lacks_index(path: str) -> bool:
    """Return whether a file is an MP4 or MOV without the box that locates its frames, which most writers write last."""
    with open(path, "rb") as file:
        at = 0
        while len(head := _read_at(file, at, 16)) >= 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if kind == b"moov" or (at == 0 and kind not in _BOXES):
                return False
            at += int.from_bytes(head[8:], "big") if length == 1 else length if length >= 8 else 1 << 62
        return at > 0


def _segment_index(box: bytes) -> tuple[int, int]:
    """Return how many fragments a segment index refers to, and how many bytes they take after it."""
    form = ">QQHH" if box[0] else ">IIHH"
    _, skipped, _, count = struct.unpack_from(form, box, 12)
    first = 12 + struct.calcsize(form)
    sizes = (int.from_bytes(box[first + 12 * i : first + 12 * i + 4], "big") & 0x7FFFFFFF for i in range(count))
    return count, skipped + sum(sizes)


_SEGMENT = 0x18538067


def _matroska(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read the segment's size; where it is unknown, that of the last element. Source: RFC 8794, 6; RFC 9559, 5.1."""
    at, has_jumped = 0, False
    while at < size:
        element = _element(_read_at(file, at, 12))
        if element is None:
            return None
        kind, header, length = element
        if length is not None and at + header + length > size:
            return Extent(at + header + length, is_exact=kind == _SEGMENT)
        if kind == _SEGMENT:
            if length is not None:
                return Extent(at + header + length)
            at += header
        elif length is None and not has_jumped and tally.last_position > at:
            # A cluster of unknown size: search for its end from the last frame on.
            at, has_jumped = tally.last_position, True
        else:
            at += header + (length or 0)
    return None


def _element(head: bytes) -> tuple[int, int, int | None] | None:
    """Return ID, header bytes and content bytes (None: unknown) of an EBML element; None where it is invalid."""
    if len(head) < 2 or not head[0] >> 4:
        return None
    of_id = 9 - head[0].bit_length()
    if len(head) <= of_id or not head[of_id]:
        return None
    of_size = 9 - head[of_id].bit_length()
    if len(head) < of_id + of_size:
        return None
    value = int.from_bytes(head[of_id : of_id + of_size], "big") & ((1 << 7 * of_size) - 1)
    is_unknown = value == (1 << 7 * of_size) - 1
    return int.from_bytes(head[:of_id], "big"), of_id + of_size, None if is_unknown else value


def _flv(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read `filesize` of onMetaData, else the last tag. Source: Adobe FLV specification 10.1, E.3, E.4 and E.5."""
    head = _read_at(file, 0, 65536)
    mark = b"\x00\x08filesize\x00"
    found = head.find(mark) + len(mark)
    if found >= len(mark) and len(head) >= found + 8:
        stated = struct.unpack_from(">d", head, found)[0]
        if size < stated < 2**63:
            return Extent(int(stated))
    at = tally.last_position
    while len(head := _read_at(file, at, 11)) == 11 and head[0] & 0x1F in (8, 9, 18):
        at += 11 + int.from_bytes(head[1:4], "big") + 4
    return Extent(at, is_exact=False) if at > size else Extent(at + 11, is_exact=False) if 0 < len(head) < 11 else None


_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1


def _asf(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read the file properties object. Source: ASF specification 01.20.06, 3.2 and 5.1."""
    head = _read_at(file, 0, 24)
    if len(head) < 24 or head[:16] != _ASF_HEADER:
        return None
    head = _read_at(file, 0, min(int.from_bytes(head[16:24], "little"), 1 << 20))
    found = head.find(_ASF_FILE)
    if found < 0 or len(head) < found + 92:
        return None
    stated, _, _, play, _, preroll, flags = struct.unpack_from("<6QI", head, found + 40)
    if flags & _ASF_BROADCAST:
        return None
    data = _read_at(file, len(head), 24)
    end = max(stated, len(head) + int.from_bytes(data[16:], "little") if len(data) == 24 else 0)
    return Extent(end, seconds=play / 1e7 - preroll / 1e3)


def _rm(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read the chunk sizes, which include the headers.

    Source: RealMedia file format, appendix E of the RealSystem SDK.
    """
    at = 0
    while len(head := _read_at(file, at, 8)) == 8 and head[:4] in (
        b".RMF",
        b"PROP",
        b"CONT",
        b"MDPR",
        b"DATA",
        b"INDX",
    ):
        length = int.from_bytes(head[4:], "big")
        if length < 8:
            return None
        # FFmpeg's writer counts ten bytes too many for the packets.
        if head[:4] == b"DATA" and size < at + length <= size + 10:
            return None
        at += length
    return Extent(at)


_MXF_HEADER = bytes.fromhex("060e2b34020501010d0102010102")


def _mxf(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read the position of the footer in the header partition. Source: SMPTE ST 377-1, 7.1."""
    head = _read_at(file, 0, 131072)
    start = head.find(_MXF_HEADER)
    if start < 0 or len(head) < start + 60:
        return None
    first = head[start + 16]
    value = start + 17 + (first & 0x7F if first & 0x80 else 0)
    footer = int.from_bytes(head[value + 24 : value + 32], "big")
    return Extent(start + footer + 17, is_exact=False) if footer else None


def _swf(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read the length in the header of an uncompressed file. Source: SWF specification 19, chapter 2."""
    head = _read_at(file, 0, 8)
    return Extent(int.from_bytes(head[4:], "little")) if head[:3] == b"FWS" else None


def _ivf(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Read the size of the last frame."""
    at = tally.last_position
    return Extent(at + 12 + int.from_bytes(_read_at(file, at, 4), "little"), is_exact=False)


def _gif(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Walk over the blocks up to the trailer. Source: GIF89a specification."""
    head = _read_at(file, 0, 13)
    file.seek(13 + _palette_bytes(head[10]))
    while mark := file.read(1):
        if mark == b";":
            return Extent(file.tell())
        if mark == b",":
            head = file.read(9)
            if len(head) == 9:
                file.seek(_palette_bytes(head[8]) + 1, 1)
        elif mark == b"!":
            file.seek(1, 1)
        else:
            return None
        while (length := file.read(1)) and length[0]:
            file.seek(length[0], 1)
        if not length:
            break
    return Extent(size + 1, is_exact=False, has_end=False)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _apng(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Walk to IEND; acTL holds the frame count. Source: PNG specification, third edition, 5.3, 11.3.6."""
    at, num_frames = 8, None
    while len(head := _read_at(file, at, 12)) == 12:
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if kind == b"acTL":
            num_frames = int.from_bytes(head[8:12], "big") or None
        at += 12 + length
        if kind == b"IEND" or at > size:
            break
    has_end = kind == b"IEND"
    return Extent(at if has_end else max(at, size + 1), has_end, num_frames, has_end=has_end)


_OGG_END = 4
_TAIL_BYTES = 1 << 18


def _ogg(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Look for the last page of each stream, which is marked as such. Source: RFC 3533, 6."""
    start = max(0, size - _TAIL_BYTES)
    tail = _read_at(file, start, _TAIL_BYTES)
    at = tail.find(b"OggS\0")
    is_last: dict[bytes, bool] = {}
    while at >= 0 and tail[at : at + 4] == b"OggS":
        end = at + 27 + tail[at + 26] if len(tail) > at + 26 else len(tail) + 1
        if end <= len(tail):
            is_last[tail[at + 14 : at + 18]] = bool(tail[at + 5] & _OGG_END)
            end += sum(tail[at + 27 : end])
        if end > len(tail):
            return Extent(start + end, is_exact=False)
        at = end
    return None if all(is_last.values()) else Extent(size + 1, is_exact=False, has_end=False)


def _mpegts(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Check the last packet: 188 bytes, or 192 with a time before it, or 204 with a checksum after it.

    Source: ISO 13818-1, 2.4.3.2.
    """
    for step, whole in ((188, 188), (192, 188), (204, 204)):
        tail = _read_at(file, max(0, size - 16 * step), 16 * step)
        for first in range(min(step, len(tail))):
            marks = tail[first::step]
            if len(marks) >= 3 and marks.count(0x47) == len(marks):
                left = len(tail) - (first + step * (len(marks) - 1))
                return Extent(size + max(0, whole - left), is_exact=False)
    return None


def _mpeg(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Check the last packet of a program stream. Source: ISO 13818-1, 2.5.3; ISO 11172-1, 2.4.3."""
    at = tally.last_position
    while len(head := _read_at(file, at, 14)) >= 6 and head[:3] == b"\0\0\1":
        if head[3] == 0xBA:
            is_second = head[4] >> 6 == 1
            at += 14 + (head[13] & 7 if len(head) > 13 else 0) if is_second else 12
        elif head[3] > 0xBA and head[4:6] != b"\0\0":
            at += 6 + int.from_bytes(head[4:6], "big")
        else:
            return None
    return Extent(at, is_exact=False) if at > size else None


def _y4m(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Check the last frame. Source: yuv4mpeg(5)."""
    end = tally.last_position + tally.last_size
    rest = _read_at(file, end, 5)
    return Extent(end + 6 + tally.last_size, is_exact=False) if rest and b"FRAME".startswith(rest) else None


def _dv(file: BinaryIO, size: int, tally: PacketTally) -> Extent | None:
    """Take the end of the last frame: frames have one size and no header."""
    return Extent(tally.last_position + tally.last_size, is_exact=False)


EXTENT_READERS: dict[str, Callable[[BinaryIO, int, PacketTally], Extent | None]] = {
    "avi": _avi,
    "mov": _mov,
    "matroska": _matroska,
    "flv": _flv,
    "asf": _asf,
    "rm": _rm,
    "mxf": _mxf,
    "swf": _swf,
    "ivf": _ivf,
    "gif": _gif,
    "apng": _apng,
    "ogg": _ogg,
    "mpegts": _mpegts,
    "mpeg": _mpeg,
    "yuv4mpegpipe": _y4m,
    "dv": _dv,
}
"""Reader by the first of FFmpeg's names of a container; raw streams and others state no extent."""
