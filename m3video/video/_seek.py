"""Finding frames by exact pts: seek to a keyframe, decode until the pts matches, or refuse."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from m3video.errors import VideoError
from m3video.video._avstream import AvStream
from m3video.video.index import FrameIndex
from m3video.video.path_checks import LocalFile
from m3video.video.timeline import new_timeline

Ints = NDArray[np.int64]

LAST_PTS = 2**63 - 1


class Seeker:
    """A decoder that finds frames by exact pts and keeps its position, so that one pass serves several frames of a GOP.

    The order of attempts: decode on from the current position; seek to the keyframe before the frame; to the keyframe
    before that; decode from the start. An attempt fails when the decoder does not output the frame, or when anything
    between the keyframe and the frame was damaged: the picture would then depend on how the decoder got there. From
    the start there is only one way, so there only the frame itself must be undamaged.

    After `expect`, it decodes only the frames announced and those that others refer to, and stops at the last frame
    wanted of a GOP.
    """

    def __init__(
        self, file: LocalFile, index: FrameIndex, *, max_pixels: int, is_damaged: bool = False, scan: str | None = None
    ) -> None:
        """Prepare to seek; the file is opened by the first `reach` or `run`.

        Args:
            file: a checked path.
            index: its frames.
            max_pixels: as for `AvStream`.
            is_damaged: a pass over the file found damage, so that every frame must be decoded from the start.
            scan: as for `AvStream`.
        """
        self._file, self._index = file, index
        self._open = partial(AvStream, file, max_pixels=max_pixels, scan=scan)
        # In a damaged file a picture depends on how it was reached; only decoding from the start matches the scan.
        self._can_seek = index.is_seekable and not is_damaged
        self._wanted: Ints | None = None
        self._source: AvStream | None = None
        self._frames: Iterator[tuple[int, VideoFrame]] | None = None
        self._keys = index.pts_N[index.is_key_N]
        self._at: int | None = None  # pts of the frame that came out last
        self._is_whole = False  # nothing damaged since the keyframe that decoding began at
        self._is_from_start = False
        self._is_primed = False
        self._damage_before = 0
        self._key: int | None = None

    def expect(self, pts: Sequence[int]) -> None:
        """Announce that from now on only frames of `pts` (increasing) are asked for."""
        self._wanted = np.array(pts, np.int64)

    def reach(self, pts: int) -> VideoFrame:
        """Return the frame at exactly `pts`, decoded without damage.

        Raises:
            VideoError: when no attempt yields it.
        """
        for attempt in self._attempts(pts):
            if attempt():
                frame = self._advance(pts)
                if frame is not None:
                    return frame
        raise VideoError(
            f"{self._file.printable}: the frame at pts {pts} cannot be decoded without damage; choose another frame"
        )

    def run(self, pts: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield frames from `pts` on in display order; when that frame is damaged, from the first one that decodes."""
        try:
            yield pts, self.reach(pts)
        except VideoError:
            self._restart()
        assert self._frames is not None
        yield from ((at, frame) for at, frame in self._frames if at >= pts)

    def stretch(self, pts_N: Ints, *, every: bool) -> Iterator[tuple[int, VideoFrame]]:
        """Yield frames of `pts_N`, neighbours from a keyframe on.

        Nothing beyond them is decoded. Where not `every` frame is wanted, those that no other refers to are left out
        in streams that mark them.

        Raises:
            VideoError: the keyframe is not where the index says, or a frame is damaged.
        """
        key, last = int(pts_N[0]), int(pts_N[-1])
        if not self._seek(key, limit=key, only=set(pts_N.tolist())):
            raise VideoError(f"{self._file.printable}: its keyframe at pts {key} cannot be sought")
        assert self._frames is not None
        assert self._source is not None
        with self._source.without_unreferenced(not every):
            for at, frame in self._frames:
                if at < key:
                    continue
                if frame.is_corrupt or self._has_new_damage():
                    raise VideoError(f"{self._file.printable}: the frame at pts {at} is damaged")
                if at > last:
                    return
                yield at, frame
            if self._has_new_damage():  # the last packets gave no frame
                raise VideoError(f"{self._file.printable}: frames before pts {last} are damaged")

    def _attempts(self, pts: int) -> Iterator[Callable[[], bool]]:
        if self._can_go_on(pts):
            yield lambda: True
        before = int(np.searchsorted(self._keys, pts, side="right")) - 1
        if self._can_seek:
            for row in (before, before - 1):
                if row > 0:
                    yield partial(self._seek, int(self._keys[row]), limit=int(self._keys[before]))
        yield self._restart

    def _can_go_on(self, pts: int) -> bool:
        if self._frames is None or (self._at is not None and self._at >= pts):
            return False
        if not self._can_seek or self._at is None:
            return True
        # Past a keyframe, a seek is cheaper than decoding the rest of this GOP.
        key_at, key_pts = np.searchsorted(self._keys, [self._at, pts], side="right")
        row = int(np.searchsorted(self._index.pts_N, pts))
        return bool(key_at == key_pts) or self._at == int(self._index.pts_N[row - 1])

    def _advance(self, pts: int) -> VideoFrame | None:
        """Decode up to `pts` and return its frame, or None when it is missing or damaged."""
        assert self._frames is not None
        for at, frame in self._frames:
            self._at = at
            if frame.is_corrupt and (self._key is None or at >= self._key):
                self._is_whole = False
            if at == pts:
                is_damaged = frame.is_corrupt if self._is_from_start else not self._is_whole or self._has_new_damage()
                return None if is_damaged else frame
            if at > pts:
                return None
        self._frames = None
        return None

    def _has_new_damage(self) -> bool:
        assert self._source is not None
        return self._source.damage > self._damage_before

    def _restart(self) -> bool:
        self.close()
        self._source = self._open()
        self._frames = sequence(self._source, self._index)
        self._at, self._key, self._is_from_start, self._is_whole, self._damage_before = None, None, True, True, 0
        self._is_primed = False
        return True

    def _seek(self, key: int, *, limit: int, only: set[int] | None = None) -> bool:
        """Seek to a keyframe between `key` and `limit`; return False when the container leads elsewhere.

        Decoding stops after the last frame of `only`, or of those expected before the keyframe after `limit`.
        """
        if self._source is None:
            self._restart()
        assert self._source is not None
        source = self._source
        if not self._is_primed:
            # Decode one frame before the first seek: some decoders take their parameters only from the first frame.
            assert self._frames is not None
            next(self._frames, None)
            self._is_primed = True
        self._frames, self._at, self._is_from_start = None, None, False
        if not source.seek(key):
            return False
        packets = source.packets()
        first = next((packet for packet in packets if packet.is_keyframe), None)
        if first is None or first.pts is None or first.pts > limit:
            return False
        self._key, self._is_whole, self._damage_before = first.pts, True, source.damage
        packets = itertools.chain([first], packets)
        if only is not None:
            packets = _up_to(packets, only)
        elif self._wanted is not None:
            after = np.searchsorted(self._keys, limit, side="right")
            until = self._keys[after] if after < len(self._keys) else LAST_PTS
            low, high = np.searchsorted(self._wanted, [limit, until])
            packets = self._needed(source, packets, set(self._wanted[low:high].tolist()))
        self._frames = ((frame.pts, frame) for frame in source.frames(packets) if frame.pts is not None)
        return True

    @property
    def damage(self) -> int:
        """Number of packets that could not be read or decoded since the file was last opened."""
        return self._source.damage if self._source else 0

    @staticmethod
    def _needed(source: AvStream, packets: Iterator[Any], missing: set[int]) -> Iterator[Any]:
        """Yield `packets` up to the last one whose frame is missing.

        Of frames that are not the decoder skips those that no other frame refers to, where the stream marks them.
        """
        for packet in _up_to(packets, missing):
            source.skip_unreferenced(source.knows_references and packet.pts not in missing)
            yield packet
        source.skip_unreferenced(False)

    def close(self) -> None:
        """Close the file; the next request opens it again."""
        if self._source:
            self._source.close()
        self._source = self._frames = None


def _up_to(packets: Iterator[Any], missing: set[int]) -> Iterator[Any]:
    """Yield packets up to the last one whose frame is missing; each is taken from `missing` after it was used."""
    for packet in packets:
        yield packet
        missing.discard(packet.pts)
        if not missing:
            return


def sequence(source: AvStream, index: FrameIndex) -> Iterator[tuple[int, VideoFrame]]:
    """Yield (pts, frame) from the start of the file, with the same times that the index has."""
    if index.is_regular:
        yield from ((frame.pts, frame) for frame in source.frames() if frame.pts is not None)
        return
    timeline = new_timeline(source.stream)
    yield from ((timeline.stamp(frame), frame) for frame in source.frames())
