"""The first pass over a video, made once: in a short video every frame, in a long one what is likely to show more."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.errors import VideoError
from m3video.planning.analyze import analyze
from m3video.planning.look import SHORT, Packets, close_looks, is_read_whole, keyframes_seen
from m3video.planning.novelty import block_distance
from m3video.planning.sample import TIME_TOLERANCE
from m3video.planning.scan_cache import load_scan, save_scan
from m3video.types import FLAG_CORRUPT, FrameStats, ScanFrame, Stretch, VideoInfo
from m3video.utils.cache import Cache
from m3video.utils.clock import clock, clock_times
from m3video.utils.progress import Bar, Progress, silent
from m3video.video.reader import VideoReader

Rows = NDArray[np.int64]

CLOSE_SECONDS = 0.25
"""Frames no further apart show whatever a viewer can read."""

TRIAL = 60
"""Frames decoded to know the speed of this machine."""

PIECE = 240
"""Frames of a stretch, about, where all are decoded: few enough to be kept, many enough for a seek."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a first pass is asked to see.

    Attributes:
        scan: one of `SCANS`.
        start, end: the range of the video that matters, seconds as players count; None for its beginning and end.
        at: moments to be seen among their neighbours, seconds as players count, increasing.
        effort: times the usual work.
        most: frames to decode at most, as far as keyframes and named moments need no more.
    """

    scan: str = "auto"
    start: float | None = None
    end: float | None = None
    at: tuple[float, ...] = ()
    effort: float = 1.0
    most: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Wish:
        """Return what `settings` ask for."""
        if settings.scan != "auto":
            return cls(settings.scan)
        at = tuple(sorted({time for time, _ in settings.pins}))
        return cls(settings.scan, settings.start, settings.end, at, most=settings.scan_frames)

    @property
    def key(self) -> tuple[float | None, ...]:
        """What tells wishes of one scan apart."""
        return (self.effort, self.most, self.start, self.end, *self.at)


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
    stats, scan = None, wish.scan
    try:
        if resolved(reader, wish).scan == "auto":
            stats = _look(reader, wish, threads=threads, progress=progress)
        elif scan in ("auto", "full") and threads > 1:
            stats = _in_pieces(reader, threads=threads, progress=progress)
    except _UnlikePacketsError:
        pass  # read again from its start to its end, which tells what is wrong
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


def scan_notes(reader: VideoReader, stats: FrameStats, *, scan: str) -> tuple[str, ...]:
    """Return a note on frames that the scan skipped, or on why it skipped none of a long video.

    Args:
        reader: the video.
        stats: of its first pass.
        scan: what was asked for, one of `SCANS`.
    """
    info = reader.info
    seen = f"{len(stats)} of {info.num_frames} frames were analyzed"
    if stats.mode == "full":
        if scan != "auto" or _is_short(reader):
            return ()
        reason = reader.why_not_look() or "its frames do not come out as its packets promise"
        return (f"scan auto: every frame was read, because {reason}",)
    if stats.mode != "auto":
        return (f"scan {stats.mode}: {seen}, the others were skipped",)
    share, longest = closely_seen(info, stats)
    return (
        f"scan auto: {seen}; {share:.0%} of the time was looked at closely, at most {clock(longest)} in a row were "
        "judged by keyframes and packets alone (--scan full reads all)",
    )


def _is_short(reader: VideoReader) -> bool:
    index = reader.index
    # Where it does not begin with a keyframe, the packets before the first one belong to no group.
    if not index.is_key_N[0]:
        return len(index) <= SHORT
    packets = _packets(reader)
    return is_read_whole(packets, range(len(packets)))


def closely_seen(info: VideoInfo, stats: FrameStats) -> tuple[float, float]:
    """Return the share of the time of which a frame was analyzed every `CLOSE_SECONDS`, or every one where they are
    shown for longer, and the longest time of which none was, seconds."""
    edges, is_seen = _seen_rows(info, stats)
    shown = np.diff(edges)
    total = float(shown.sum())
    return (float(shown[is_seen].sum()) / total if total else 1.0), float(shown[~is_seen].max(initial=0.0))


def unseen_ranges(info: VideoInfo, stats: FrameStats) -> list[tuple[float, float]]:
    """Return the ranges that were judged by keyframes and packets alone, seconds as players count, in order."""
    edges, is_seen = _seen_rows(info, stats)
    change = np.diff(np.concatenate([[False], ~is_seen, [False]]).astype(np.int8))
    starts, ends = (edges[np.flatnonzero(change == sign)].tolist() for sign in (1, -1))
    return list(zip(starts, ends, strict=True))


def _seen_rows(info: VideoInfo, stats: FrameStats) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return when each analyzed frame begins to stand for the video, and last the end; and whether it does closely."""
    until = max(info.until_pts, int(stats.pts_N[-1]))
    edges = clock_times(np.append(stats.pts_N, until), info.time_base, info.origin)
    is_seen = np.append(stats.skipped_N[1:] == 0, stats.pts_N[-1] == info.end_pts)
    return edges, is_seen | (np.diff(edges) <= CLOSE_SECONDS)


def sees_closely(stats: FrameStats, wish: Wish) -> bool:
    """Return whether the moments that a wish names are seen among their neighbours."""
    times = stats.times_N
    after = np.searchsorted(times, np.array(wish.at) + TIME_TOLERANCE, side="right").clip(1, len(times) - 1)
    is_next = (stats.skipped_N[after] == 0) | (times[after] - times[after - 1] <= CLOSE_SECONDS)
    return bool(is_next.all())


def resolved(reader: VideoReader, wish: Wish) -> Wish:
    """Return the wish for every frame where "auto" comes to that."""
    if wish.scan != "auto":
        return wish
    if reader.why_not_look() is not None:
        return EVERY_FRAME
    packets = _packets(reader, wish)
    return EVERY_FRAME if is_read_whole(packets, range(len(packets))) else wish


def with_scan_frames(settings: Settings, reader: VideoReader) -> Settings:
    """Turn `scan_seconds` into `scan_frames`, by the speed at which this machine decodes the first frames.

    Whoever starts the work does it once: the number of frames then belongs to the plan and to what is cached.
    """
    if settings.scan_seconds is None:
        return settings
    stop = min(TRIAL, len(reader.index))
    frames = 1
    if reader.why_not_look() is None:
        threads = _cores()
        start = time.perf_counter()
        sum(len(found) for found in reader.look([Stretch(0, stop)]))
        speed = threads * stop / (time.perf_counter() - start)
        frames = max(1, int(settings.scan_seconds * speed))
    return settings.model_copy(update={"scan_frames": frames, "scan_seconds": None})


def _cores() -> int:
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return int(allowed) if allowed.isdecimal() and int(allowed) else len(os.sched_getaffinity(0))


def _packets(reader: VideoReader, wish: Wish = EVERY_FRAME) -> Packets:
    index = reader.index
    seconds = (index.pts_N - index.pts_N[0]) * (index.time_base[0] / index.time_base[1])
    marks = reader.info.codec == "h264"
    return Packets(seconds, index.is_key_N, index.size_N, marks_references=marks, effort=wish.effort, most=wish.most)


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


def _pieces(packets: Packets, rows: range) -> list[Stretch]:
    """Cut rows, of which the first is a keyframe, into stretches of about `PIECE` frames."""
    keys = packets.first_G[(packets.first_G >= rows.start) & (packets.first_G < rows.stop)]
    starts = keys[np.unique(np.searchsorted(keys, np.arange(rows.start, rows.stop, PIECE), side="right") - 1)]
    return [Stretch(a, b) for a, b in itertools.pairwise([*starts.tolist(), rows.stop])]


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


class _UnlikePacketsError(Exception):
    """A stretch did not decode to the frames that the packets promise."""


def _in_pieces(reader: VideoReader, *, threads: int, progress: Progress) -> FrameStats | None:
    """Analyze every frame, several stretches at a time; None where the video is short, or not to be read so."""
    if len(reader.index) <= PIECE * threads or reader.why_not_look() is not None:
        return None
    packets = _packets(reader)
    with progress("analyze", len(packets)) as bar:
        frames = _joined(reader, _pieces(packets, range(len(packets))), {}, threads)
        return _measured(frames, reader, "full", bar)


def _look(reader: VideoReader, wish: Wish, *, threads: int, progress: Progress) -> FrameStats:
    """Analyze keyframes and what hides between them."""
    packets, rows = _packets(reader, wish), _rows(reader, wish)
    alone: dict[int, ScanFrame] = {}
    if is_read_whole(packets, rows):
        close = _pieces(packets, rows)
    else:
        keys = keyframes_seen(packets, rows)
        with progress("keyframes", len(keys)) as bar:
            singles = [Stretch(row, row + 1) for row in keys.tolist()]
            for frame in _joined(reader, singles, {}, threads):
                alone[singles[len(alone)].start] = frame
                bar(len(alone))
        signature = _measured(iter(alone.values()), reader, "auto", lambda _: None).signature_NK
        named = np.array(sorted({_row(reader, time) for time in wish.at}), np.int64)
        close = close_looks(packets, rows, keys=keys, unlike=block_distance(signature[1:], signature[:-1]), named=named)
    covered = {row for one in close for row in range(one.start, one.stop)}
    alone = {row: frame for row, frame in alone.items() if row not in covered}
    with progress("analyze", len(alone) + len(covered)) as bar:
        return _measured(_joined(reader, close, alone, threads), reader, "auto", bar)


def _joined(
    reader: VideoReader, stretches: Sequence[Stretch], alone: Mapping[int, ScanFrame], threads: int
) -> Iterator[ScanFrame]:
    """Yield the frames of some stretches, and those that are known by their rows, in order."""
    looks = sorted([*stretches, *(Stretch(row, row + 1) for row in alone)])
    decoded, before = reader.look(stretches, threads=threads), -1
    for look in looks:
        frames = [alone[look.start]] if look.start in alone else next(decoded)
        if not frames:
            raise _UnlikePacketsError
        yield replace(frames[0], num_skipped=look.start - before - 1)
        yield from itertools.islice(frames, 1, None)
        before = int(np.searchsorted(reader.index.pts_N, frames[-1].pts))
