"""The first pass over a video, made once: in a short video every frame, in a long one what is likely to show more."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.errors import VideoError
from m3video.planning.analyze import analyze
from m3video.planning.look import Packets, close_looks, is_read_whole, keyframes_seen
from m3video.planning.sample import TIME_TOLERANCE
from m3video.planning.scan_cache import load_scan, save_scan
from m3video.types import FLAG_CORRUPT, FrameStats, ScanFrame, VideoInfo
from m3video.utils.cache import Cache
from m3video.utils.clock import clock, clock_times
from m3video.utils.progress import Bar, Progress, silent
from m3video.video.reader import VideoReader

Rows = NDArray[np.int64]

PIECE = 240
"""Frames of a stretch, about, where all are decoded: few enough to be kept, many enough for a seek."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a first pass is asked to see.

    Attributes:
        scan: one of `SCANS`.
        start, end: the range of the video that matters, seconds as players count; None for its beginning and end.
        at: moments to be seen among their neighbours, seconds as players count, increasing.
    """

    scan: str = "auto"
    start: float | None = None
    end: float | None = None
    at: tuple[float, ...] = ()

    @classmethod
    def of(cls, settings: Settings, *, named: Sequence[float] = ()) -> Wish:
        """Return what `settings`, and the times that a question names, ask for."""
        if settings.scan != "auto":
            return cls(settings.scan)
        at = {*named, *(time for time, _ in settings.pins)}
        return cls(settings.scan, settings.start, settings.end, tuple(sorted(at)))

    @property
    def key(self) -> tuple[float | None, ...]:
        """What tells wishes of one scan apart."""
        return (self.start, self.end, *self.at)


EVERY_FRAME = Wish("full")


def analyze_video(
    reader: VideoReader, wish: Wish = EVERY_FRAME, *, threads: int | None = None, progress: Progress = silent
) -> FrameStats:
    """Analyze a video in one pass at low resolution.

    Args:
        reader: an open video.
        wish: what is to be seen.
        threads: that decode, where the video is long and not damaged; by default one for each core, or as many as
            `OMP_NUM_THREADS` allows, as in the workers of a batch. The stats do not depend on it.
        progress: draws bars.

    Raises:
        VideoError: no frame is intact, or frames of this file cannot be skipped safely.
    """
    threads = threads or _cores()
    scan, looks = wish.scan, _looks(reader, wish, threads)
    stats = _look(reader, scan, looks, threads=threads, progress=progress) if looks else None
    return stats or _read(reader, "full" if scan == "auto" else scan, progress=progress)


def analyze_once(
    reader: VideoReader,
    wish: Wish,
    *,
    cache: Cache | None,
    threads: int | None = None,
    progress: Progress = silent,
) -> tuple[FrameStats, bool]:
    """Return cached stats of the same bytes, or those of `analyze_video`; damaged files are never cached.

    Returns:
        The stats, and whether they came from the cache.
    """
    wish = resolved(reader, wish)
    if cache is not None and not reader.damage.is_partial:
        stats = load_scan(cache, reader.info, mode=wish.scan, wish=wish.key)
        if stats is not None:
            return stats, True
    stats = analyze_video(reader, wish, threads=threads, progress=progress)
    if cache is not None and not reader.damage.is_partial and stats.mode == wish.scan:
        save_scan(cache, reader.info, stats, wish=wish.key)
    return stats, False


def scan_note(info: VideoInfo, stats: FrameStats) -> tuple[str, ...]:
    """Return a note on the frames that the scan skipped; nothing after a full scan."""
    if stats.mode == "full":
        return ()
    seen = f"{len(stats)} of {info.num_frames} frames were analyzed"
    if stats.mode != "auto":
        return (f"scan {stats.mode}: {seen}, the others were skipped",)
    share, longest = closely_seen(info, stats)
    return (
        f"scan auto: {seen}; {share:.0%} of the time was looked at closely, at most {clock(longest)} in a row were "
        "judged by keyframes and packets alone (--scan full reads all)",
    )


def closely_seen(info: VideoInfo, stats: FrameStats) -> tuple[float, float]:
    """Return the share of the time whose every frame was analyzed, and the longest time of which none was, seconds."""
    until = max(info.until_pts, int(stats.pts_N[-1]))
    edges = clock_times(np.append(stats.pts_N, until), info.time_base, info.origin)
    shown = np.diff(edges)
    is_seen = np.append(stats.skipped_N[1:] == 0, stats.pts_N[-1] == info.end_pts)
    total = float(shown.sum())
    return (float(shown[is_seen].sum()) / total if total else 1.0), float(shown[~is_seen].max(initial=0.0))


def resolved(reader: VideoReader, wish: Wish) -> Wish:
    """Return the wish for every frame where "auto" comes to that."""
    if wish.scan != "auto":
        return wish
    if reader.why_not_look() is not None:
        return EVERY_FRAME
    packets = _packets(reader)
    return EVERY_FRAME if is_read_whole(packets, range(len(packets))) else wish


def _cores() -> int:
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return int(allowed) if allowed.isdecimal() and int(allowed) else len(os.sched_getaffinity(0))


def _packets(reader: VideoReader) -> Packets:
    index = reader.index
    seconds = (index.pts_N - index.pts_N[0]) * (index.time_base[0] / index.time_base[1])
    return Packets(seconds, index.is_key_N, index.size_N)


def _rows(reader: VideoReader, wish: Wish) -> range:
    """Return the rows of the range, from the keyframe at or before its start; all where it holds no frame."""
    index = reader.index
    first, stop = (
        _row(reader, time) if time is not None else default
        for time, default in ((wish.start, 0), (wish.end, len(index)))
    )
    keys = np.flatnonzero(index.is_key_N[: first + 1])
    rows = range(int(keys[-1]) if len(keys) else 0, stop)
    return rows or range(len(index))


def _row(reader: VideoReader, time: float) -> int:
    """Return the row of the frame on screen at a time."""
    index = reader.index
    times = clock_times(index.pts_N, index.time_base, index.origin)
    return max(0, int(np.searchsorted(times, time + TIME_TOLERANCE, side="right")) - 1)


def _looks(reader: VideoReader, wish: Wish, threads: int) -> list[range]:
    """Return the stretches to decode, in order; none where the file is to be read from its start to its end."""
    if wish.scan not in ("auto", "full") or reader.why_not_look() is not None:
        return []
    packets = _packets(reader)
    every = range(len(packets))
    if wish.scan == "full" or is_read_whole(packets, every):
        return _pieces(packets, every) if threads > 1 and len(every) > PIECE * threads else []
    rows = _rows(reader, wish)
    named = np.array(sorted({_row(reader, time) for time in wish.at}), np.int64)
    keys = keyframes_seen(packets, rows)
    if is_read_whole(packets, rows):
        close = _pieces(packets, rows)
    else:
        close = close_looks(packets, rows, spent=len(keys) * packets.key_cost, named=named)
    covered = np.zeros(len(packets), bool)
    for one in close:
        covered[one.start : one.stop] = True
    alone = (range(row, row + 1) for row in keys[~covered[keys]].tolist())
    return sorted([*close, *alone], key=lambda one: one.start)


def _pieces(packets: Packets, rows: range) -> list[range]:
    """Cut rows, of which the first is a keyframe, into stretches of about `PIECE` frames."""
    keys = packets.first_G[(packets.first_G >= rows.start) & (packets.first_G < rows.stop)]
    starts = keys[np.unique(np.searchsorted(keys, np.arange(rows.start, rows.stop, PIECE), side="right") - 1)]
    return [range(a, b) for a, b in itertools.pairwise([*starts.tolist(), rows.stop])]


def _read(reader: VideoReader, scan: str, *, progress: Progress) -> FrameStats:
    """Analyze the frames of a scan in one pass at low resolution."""
    info = reader.info
    total = {"full": info.num_frames, "keyframes": info.num_keyframes}.get(scan)
    with progress("analyze", total) as bar:
        stats = _measured(reader.scan(mode=scan), reader, scan, bar)
    if ((stats.flags_N & FLAG_CORRUPT) > 0).all():
        raise VideoError(f"{info.path}: no frame could be decoded intact ({reader.damage.message}); is it encrypted?")
    return stats


def _measured(frames: Iterator[ScanFrame], reader: VideoReader, mode: str, bar: Bar) -> FrameStats:
    info = reader.info
    return analyze(
        frames, time_base=info.time_base, mode=mode, origin=info.origin, until_pts=info.until_pts, on_frame=bar
    )


def _look(
    reader: VideoReader, mode: str, looks: Sequence[range], *, threads: int, progress: Progress
) -> FrameStats | None:
    """Analyze some stretches; None where a frame did not come out as the packets promise."""
    is_whole = sum(map(len, looks)) == len(reader.index)
    with progress("analyze", sum(map(len, looks))) as bar:
        try:
            return _measured(_joined(reader, looks, threads), reader, "full" if is_whole else mode, bar)
        except _UnlikePacketsError:
            return None


class _UnlikePacketsError(Exception):
    """A stretch did not decode to the frames that the packets promise."""


def _joined(reader: VideoReader, order: Sequence[range], threads: int) -> Iterator[ScanFrame]:
    due = 0
    for stretch, frames in zip(order, reader.look(order, threads=threads), strict=True):
        if len(frames) != len(stretch):
            raise _UnlikePacketsError
        yield replace(frames[0], num_skipped=stretch.start - due)
        yield from itertools.islice(frames, 1, None)
        due = stretch.stop
