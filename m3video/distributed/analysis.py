"""Analysis of one long video by many workers: cut it into segments, map over them, check, concatenate.

The result is that of a single pass bit for bit; else the video is read in a single pass and a note says why. On a
cluster of different processors the last bits of a float may differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.distributed.mapping import MAX_RETRIES, ItemLostError, Mapper, in_process
from m3video.distributed.segments import Segment, cut, num_segments
from m3video.distributed.worker_process import heartbeat
from m3video.errors import VideoError, WorkerError
from m3video.inference.first_pass import Wish, analyze_video, resolved, scan_notes
from m3video.inference.pipeline import open_for
from m3video.planning.analyze import analyze, concat
from m3video.types import FLAG_FROZEN, FrameStats, VideoInfo
from m3video.utils.clock import clock
from m3video.utils.progress import Bar, Progress, silent
from m3video.video.index import FrameIndex
from m3video.video.path_checks import check_unchanged
from m3video.video.reader import DamageReport
from m3video.video.segments import BACKEND, KnownVideo, inspect_video, open_known, why_not_split

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Analysis:
    """Stats of a video, the number of segments it was read in, and notes for people: damage, and why in one piece."""

    info: VideoInfo
    stats: FrameStats
    num_segments: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentStats:
    """Stats and damage of one segment; `stats` is None where no frame was decoded."""

    stats: FrameStats | None
    damage: DamageReport


def analyze_long(
    path: str | Path,
    settings: Settings,
    *,
    mapper: Mapper[SegmentStats] = in_process,
    count: int | None = None,
    progress: Progress = silent,
) -> Analysis:
    """Analyze a video in segments, or in one piece where the result of segments could differ.

    Args:
        path: a local video file; for a cluster, on a file system that its nodes share.
        settings: resolved settings.
        mapper: maps over the segments; it is not called for a video that is read in one piece.
        count: number of segments, if there are enough keyframes; by default about one for 90 seconds.
        progress: shows progress bars.

    Returns:
        The stats of a single pass, bit for bit.

    Raises:
        VideoError: the file is no readable video, or it changed while it was read.
        WorkerError: the workers of one segment died again and again, or the cluster cannot be used.
    """
    notes: list[str] = []
    known, segments, reason = _plan(path, settings, count)
    if reason is None:
        scan = "full" if settings.scan == "auto" else settings.scan
        with progress("analyze", len(known.metadata.index)) as bar:
            parts, reason = _map((known, scan), segments, mapper, bar, notes)
        if reason is None:
            check_unchanged(known.file, known.metadata.info.fingerprint)
            stats = merge(known, parts, scan=scan)
            with open_known(known) as reader:
                notes += scan_notes(reader, stats, scan=scan)
            return Analysis(known.metadata.info, stats, len(segments), tuple(notes))
    if count != 1:
        notes.append(f"read in one piece, because {reason}")
    with open_for(path, settings) as reader:
        stats = analyze_video(reader, Wish.of(settings), progress=progress)
        lost = named(np.setdiff1d(_due(reader.index, stats.mode), stats.pts_N), reader.index)
        damage = [reader.damage.message + (f" ({lost})" if lost else "")] if reader.damage.message else []
        skipped = scan_notes(reader, stats, scan=settings.scan)
        return Analysis(reader.info_with_damage, stats, 1, (*damage, *skipped, *notes))


def analyze_segment(shared: tuple[KnownVideo, str], segment: Segment) -> SegmentStats:
    """Measure the frames of one segment, in a worker; `concat` fills in the change at its first frame."""
    known, scan = shared
    with open_known(known) as reader:
        frames = reader.scan(mode=scan, start_pts=segment.start_pts, end_pts=segment.end_pts)
        first = next(frames, None)
        stats = None
        if first is not None:
            both = itertools.chain([first], frames)
            index = known.metadata.index
            stats = analyze(
                both,
                time_base=index.time_base,
                mode=scan,
                origin=index.origin,
                until_pts=index.until_pts,
                on_frame=heartbeat,
            )
        return SegmentStats(stats, reader.range_damage)


def merge(known: KnownVideo, parts: Sequence[SegmentStats], *, scan: str = "full") -> FrameStats:
    """Concatenate the stats of all segments.

    Raises:
        VideoError: frames of the index are missing, or there are others; the times are named. A scan of keyframes must
            have exactly those; one without unreferenced frames must have these and none beyond the index.
    """
    index = known.metadata.index
    stats = _with_skipped(concat([part.stats for part in parts if part.stats is not None]), index)
    due_N = _due(index, scan)
    lost = named(np.setdiff1d(due_N, stats.pts_N), index)
    extra = named(np.setdiff1d(stats.pts_N, index.pts_N if scan == "nonref" else due_N), index)
    if lost or extra:
        raise VideoError(
            f"{known.file.printable}: the segments do not add up: missing {lost or 'none'}, extra {extra or 'none'}"
        )
    return stats


def _with_skipped(stats: FrameStats, index: FrameIndex) -> FrameStats:
    """Return the stats with what was skipped before each segment, which its worker does not know."""
    skipped = np.diff(np.searchsorted(index.pts_N, stats.pts_N), prepend=-1) - 1
    return replace(
        stats, skipped_N=skipped, flags_N=np.where(skipped > 0, stats.flags_N & ~np.uint8(FLAG_FROZEN), stats.flags_N)
    )


def _due(index: FrameIndex, scan: str) -> NDArray[np.int64]:
    """Return the pts of the frames that a scan must see."""
    if scan == "auto":
        return index.pts_N[:0]
    return index.pts_N if scan == "full" else index.pts_N[index.is_key_N]


def named(pts_N: NDArray[np.int64], index: FrameIndex) -> str:
    """Return the frames at `pts_N` as text, the first few by time: `"2 frames, at 0:01.20, 0:01.24"`."""
    if not len(pts_N):
        return ""
    times = ", ".join(clock(index.pts_seconds(pts)) for pts in pts_N[:_MOST_NAMED].tolist())
    return f"{len(pts_N)} frames, at {times}{', ...' if len(pts_N) > _MOST_NAMED else ''}"


def _plan(
    path: str | Path, settings: Settings, count: int | None
) -> tuple[KnownVideo, tuple[Segment, ...], str | None]:
    """Return the segments, and why the video is read in one piece (None: it is not)."""
    known = inspect_video(path, max_pixels=settings.max_pixels)
    index = known.metadata.index
    wanted = num_segments(index) if count is None else count
    if settings.backend != BACKEND:
        return known, (), f"backend {settings.backend} decodes a whole file before its first frame"
    if settings.scan == "auto":
        with open_known(known) as reader:
            if resolved(reader, Wish.of(settings)).scan == "auto":
                return known, (), "little of it is read (--scan auto)"
    if wanted == 1:
        span = known.metadata.info.duration_seconds
        return known, (), f"it is short ({span:.0f} s): workers start longer than they read"
    reason = why_not_split(known)
    return known, () if reason else cut(index, wanted), reason


def _map(
    shared: tuple[KnownVideo, str],
    segments: Sequence[Segment],
    mapper: Mapper[SegmentStats],
    bar: Bar,
    notes: list[str],
) -> tuple[list[SegmentStats], str | None]:
    """Return the parts in order; or, at the first damaged segment, why the video is to be read in one piece."""
    parts: dict[int, SegmentStats] = {}
    num_frames = 0
    with closing(mapper(analyze_segment, shared, segments)) as results:
        try:
            for result in results:
                segment, part = segments[result.number], result.value
                if result.num_crashes:
                    times = "once" if result.num_crashes == 1 else f"{result.num_crashes} times"
                    notes.append(f"the worker of segment {segment.printable} died {times}; the segment was read again")
                if part.damage.message is not None:
                    return [], f"segment {segment.printable} is not whole"
                parts[result.number] = part
                num_frames += segment.num_frames
                bar(num_frames)
        except ItemLostError as error:
            shown = segments[error.number].printable
            raise WorkerError(
                f"{shared[0].file.printable}: segment {shown} was tried {MAX_RETRIES + 1} times: {error.how}; "
                "read it without --workers and --ray to see where, or give the workers more memory"
            ) from None
    return [parts[number] for number in range(len(segments))], None
