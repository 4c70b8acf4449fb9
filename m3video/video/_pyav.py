"""The PyAV backend: the default, and the only one that reads every kind of file.

Every pass opens the file anew, so a scan and a fetch never disturb each other.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
from av.video.frame import VideoFrame

from m3video.errors import VideoError
from m3video.types import Frame, ScanFrame, Stretch
from m3video.video._avstream import AvStream
from m3video.video._gop import is_plain_container
from m3video.video._seek import Seeker, sequence
from m3video.video.metadata import FileMetadata, inspect_file
from m3video.video.path_checks import LocalFile, unchanged
from m3video.video.picture import PictureMaker
from m3video.video.reader import DamageReport, VideoReader, check_pts

LOOKS_AHEAD = 3
"""Stretches of each thread that wait to be measured, at most."""


MOST_LEFT_OUT = 16
"""Frames in a row that no other is made from, as many as encoders make; more that are missing were lost to damage."""


class Looker(NamedTuple):
    """What one thread decodes stretches with."""

    seeker: Seeker
    maker: PictureMaker


class Reader(VideoReader):
    """Reads one file through PyAV; see `VideoReader`.

    Attributes:
        range_damage: damage that the last complete `scan` or `frames` found within its range.
    """

    def __init__(self, file: LocalFile, *, max_pixels: int, metadata: FileMetadata | None = None) -> None:
        self._file = file
        self._max_pixels = max_pixels
        metadata = metadata or inspect_file(file, max_pixels=max_pixels)
        self.index, self.info = metadata.index, metadata.info
        self._new_maker = metadata.new_picture_maker
        self._keys = frozenset(self.index.pts_N[self.index.is_key_N].tolist())
        self._damage = self.range_damage = DamageReport(num_damaged_packets=self.index.num_damaged_packets)
        self._seeker: Seeker | None = None
        self._is_closed = False

    @property
    def damage(self) -> DamageReport:
        return self._damage

    def scan(
        self, *, mode: str = "full", start_pts: int | None = None, end_pts: int | None = None
    ) -> Iterator[ScanFrame]:
        maker = self._maker()
        if mode == "auto":
            raise ValueError("scan auto is a choice of stretches: see look")
        if reason := self._skip_refusal(mode):
            raise VideoError(f"{self._file.printable}: --scan {mode} is not safe, because {reason}; use --scan full")
        due = 0 if start_pts is None else int(np.searchsorted(self.index.pts_N, start_pts))
        for pts, frame in self._pass(start_pts, end_pts, scan=mode):
            row = int(np.searchsorted(self.index.pts_N, pts))
            yield self._small(pts, frame, maker, num_skipped=row - due)
            due = row + 1

    def _small(self, pts: int, frame: VideoFrame, maker: PictureMaker, *, num_skipped: int = 0) -> ScanFrame:
        luma, chroma = maker.scan(frame)
        is_key = pts in self._keys
        return ScanFrame(pts, luma, chroma, is_key=is_key, is_corrupt=frame.is_corrupt, num_skipped=num_skipped)

    def why_not_look(self) -> str | None:
        if not is_plain_container(self.info.container):
            return f"its container ({self.info.container}) does not lead to a frame by its pts"
        if self.index.source != "packets" or not self.index.is_seekable:
            return "its timestamps are missing, repeated or do not tell which frames are shown"
        if self.damage.is_partial:
            return "it is damaged"
        if not self.index.is_key_N[0]:
            return "it does not begin with a keyframe"
        return None

    def look(self, stretches: Sequence[Stretch], *, threads: int = 1) -> Iterator[list[ScanFrame]]:
        if reason := self.why_not_look():
            raise VideoError(f"{self._file.printable}: {reason}; use --scan full")
        lookers: queue.SimpleQueue[Looker] = queue.SimpleQueue()
        for _ in range(threads):
            lookers.put(Looker(self._new_seeker("full"), self._maker()))

        is_over = threading.Event()

        def decode(stretch: Stretch) -> list[ScanFrame]:
            looker = lookers.get()
            try:
                pts_N = self.index.pts_N[stretch.start : stretch.stop]
                small = []
                for pts, frame in looker.seeker.stretch(pts_N, every=stretch.every):
                    small.append(self._small(pts, frame, looker.maker))
                    if is_over.is_set():
                        break
            except VideoError:
                return []
            finally:
                lookers.put(looker)
            rows = np.searchsorted(pts_N, [frame.pts for frame in small])
            skipped = np.diff(rows, prepend=-1) - 1
            left_out = int(np.diff(rows, prepend=-1, append=len(pts_N)).max() - 1)
            if left_out > (0 if stretch.every else MOST_LEFT_OUT) or (len(rows) and rows[0] != 0):
                return []
            return [replace(one, num_skipped=int(count)) for one, count in zip(small, skipped, strict=True)]

        with unchanged(self._file, self.info.fingerprint), ThreadPoolExecutor(threads) as pool:
            try:
                yield from _in_order(pool, decode, stretches, ahead=LOOKS_AHEAD * threads)
            finally:
                is_over.set()
                pool.shutdown(cancel_futures=True)
                for _ in range(threads):
                    lookers.get().seeker.close()

    def _skip_refusal(self, mode: str) -> str | None:
        """Return why frames could be mistaken for others when the decoder skips some; None when they cannot."""
        if mode == "full":
            return None
        if self.index.source != "packets" or not self.index.is_regular:
            return "the file's packets do not tell the times of its frames"
        if mode == "nonref" and self.info.codec != "h264":
            return f"{self.info.codec} does not say for sure which frames others are made from (H.264 does)"
        return None

    def frames(self, *, start_pts: int | None = None, end_pts: int | None = None) -> Iterator[Frame]:
        maker = self._maker()
        for pts, frame in self._pass(start_pts, end_pts):
            yield Frame(pts, maker.rgb(frame))

    def fetch(self, pts: Sequence[int]) -> list[Frame]:
        wanted = check_pts(self.index, pts, self._file.path)
        if not wanted:
            return []
        maker = self._maker()
        in_order = sorted(set(wanted))
        with unchanged(self._file, self.info.fingerprint):
            seeker = self._seeker = self._seeker or self._new_seeker()
            seeker.expect(in_order)
            got = {value: Frame(value, maker.rgb(seeker.reach(value))) for value in in_order}
        return [got[value] for value in wanted]

    def close(self) -> None:
        self._is_closed = True
        if self._seeker:
            self._seeker.close()
            self._seeker = None

    def _new_seeker(self, scan: str | None = None) -> Seeker:
        is_damaged = self._damage.is_partial
        return Seeker(self._file, self.index, max_pixels=self._max_pixels, is_damaged=is_damaged, scan=scan)

    def _maker(self) -> PictureMaker:
        if self._is_closed:
            raise VideoError(f"{self._file.printable}: the reader is closed; open the video again")
        return self._new_maker()

    def _pass(
        self, start_pts: int | None, end_pts: int | None, scan: str | None = None
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (pts, frame) of the range in display order; a pass over the whole file updates `damage`."""
        with unchanged(self._file, self.info.fingerprint):
            yield from self._read(start_pts, end_pts, scan)

    def _read(self, start_pts: int | None, end_pts: int | None, scan: str | None) -> Iterator[tuple[int, VideoFrame]]:
        pts_N = self.index.pts_N
        first = 0 if start_pts is None else int(np.searchsorted(pts_N, start_pts))
        last = len(pts_N) if end_pts is None else int(np.searchsorted(pts_N, end_pts))
        if first >= last:
            return
        if first > 0 and self.index.is_seekable and not self._damage.is_partial:
            # A scan that skips frames begins at a keyframe, which it never skips.
            keys = np.flatnonzero(self.index.is_key_N[: first + 1])
            begin = first if scan in (None, "full") or not len(keys) else keys[-1]
            with contextlib.closing(self._new_seeker(scan)) as seeker:
                yield from self._counted(seeker.run(int(pts_N[begin])), first, last, scan, lambda: seeker.damage)
            return
        with AvStream(self._file, max_pixels=self._max_pixels, scan=scan) as source:
            yield from self._counted(sequence(source, self.index), first, last, scan, lambda: source.damage)

    def _counted(
        self,
        frames: Iterator[tuple[int, VideoFrame]],
        first: int,
        last: int,
        scan: str | None,
        damage: Callable[[], int],
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Yield those of `frames` whose rows are in [first, last), and store the damage report at the end."""
        num_decoded = num_keys_decoded = num_corrupt = num_unexpected = 0
        before = -1
        for pts, frame in frames:
            row = self.index.position(pts)
            if row is None or row <= before:
                num_unexpected += 1
                continue
            if row >= last:
                break
            before = row
            if row >= first:
                num_decoded += 1
                num_keys_decoded += int(self.index.is_key_N[row])
                num_corrupt += frame.is_corrupt
                yield pts, frame
        # How many frames the decoder skipped is unknown; keyframes are never skipped.
        num_keys = int(self.index.is_key_N[first:last].sum())
        expected = {"keyframes": num_keys, "nonref": num_decoded + num_keys - num_keys_decoded}.get(
            scan or "full", last - first
        )
        self.range_damage = DamageReport(damage(), expected - num_decoded, num_corrupt, num_unexpected)
        if scan == "keyframes" and num_decoded < expected and not self.range_damage.num_damaged_packets:
            raise VideoError(
                f"{self._file.printable}: {expected - num_decoded} of its {expected} keyframes are made of other "
                "frames (intra refresh), so --scan keyframes cannot read them; use --scan full"
            )
        if first == 0 and last == len(self.index):
            self._damage = self.range_damage
            if self._damage.is_partial and self._seeker:
                self._seeker.close()
                self._seeker = None


_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[_Task], _Result], tasks: Iterable[_Task], *, ahead: int
) -> Iterator[_Result]:
    """Yield the results of `work` in order, with at most `ahead` of them begun before they are taken."""
    left = iter(tasks)
    begun: deque[Future[_Result]] = deque(pool.submit(work, task) for task in itertools.islice(left, ahead))
    while begun:
        yield begun.popleft().result()
        begun.extend(pool.submit(work, task) for task in itertools.islice(left, 1))
