"""The first pass: measure the small pictures of a video, which is all that the planner knows about its frames.

Legend: N frames, B frames of a batch, H W picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from m3video.errors import VideoError
from m3video.planning.complexity import CellMeter, losses, signatures, textures
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_FROZEN, FLAG_KEY, FrameStats, ScanFrame, TimeBase
from m3video.utils.clock import FROM_ZERO, Origin

BATCH = 64
"""Frames measured together: enough for NumPy to be fast."""

BLACK_LEVEL = 40.0
"""A frame is black when no cell's mean luma plus strokes exceeds this, so white words on black are not black."""

FROZEN_STEP, FROZEN_MEAN = 12, 0.5
"""A frame is frozen when no pixel differs from the previous frame by more than `FROZEN_STEP` grey levels, and the mean
difference is at most `FROZEN_MEAN`: encoding a still picture again leaves no more."""

COLUMNS = (
    "pts_N",
    "loss_NS",
    "peak_NS",
    "change_N",
    "sharpness_N",
    "luma_N",
    "signature_NK",
    "strokes_NC",
    "pattern_NC",
    "flags_N",
    "skipped_N",
)


def analyze(
    frames: Iterable[ScanFrame],
    *,
    time_base: TimeBase,
    mode: str = "full",
    origin: Origin = FROM_ZERO,
    until_pts: int | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> FrameStats:
    """Measure every frame once.

    Args:
        frames: small pictures in display order, all of one size; read once and not stored.
        time_base: seconds per tick of their pts.
        mode: which of the video's frames they are, one of `SCANS`.
        origin: where players start to count, of the video.
        until_pts: when the last frame of the video leaves the screen, ticks; None where that is not known.
        on_frame: called with the number of frames done, after each.

    Returns:
        One row per frame, about 460 bytes.

    Raises:
        VideoError: there is no frame.
        ValueError: pictures of different sizes.
    """
    chunks: dict[str, list[NDArray]] = {name: [] for name in COLUMNS}
    batch: list[ScanFrame] = []
    first = previous = None
    meter = CellMeter(BATCH)
    for done, frame in enumerate(frames, 1):
        batch.append(frame)
        if first is None:
            first = frame.luma_HW.copy()
        if len(batch) == BATCH:
            previous = _measure(batch, previous, meter, chunks)
            batch.clear()
        if on_frame is not None:
            on_frame(done)
    if batch:
        previous = _measure(batch, previous, meter, chunks)
    if first is None or previous is None:
        raise VideoError("no frame to analyze: none of the video's frames could be decoded")
    # One column after the other, so that memory holds the chunks and one column, not two copies of all.
    columns = {name: np.concatenate(chunks.pop(name)) for name in COLUMNS}
    return FrameStats(
        **columns,
        edge_2HW=np.stack([first, previous]),
        time_base=time_base,
        mode=mode,
        origin=origin,
        until_pts=until_pts,
    )


def concat(segments: Sequence[FrameStats]) -> FrameStats:
    """Join the stats of consecutive segments of one video; the result is bit-identical to that of a single pass.

    Args:
        segments: stats in display order, same time base, origin, mode and picture size.

    Raises:
        ValueError: no segment, segments that do not fit together, or pts that do not increase from segment to segment.
    """
    if not segments:
        raise ValueError("concat needs at least one segment")
    head = segments[0]
    for segment in segments[1:]:
        for name, mine, other in (
            ("time_base", head.time_base, segment.time_base),
            ("mode", head.mode, segment.mode),
            ("origin", head.origin, segment.origin),
            ("picture size", head.edge_2HW.shape[1:], segment.edge_2HW.shape[1:]),
        ):
            if mine != other:
                raise ValueError(f"segments of one video must agree in {name}: {mine} is not {other}")
    columns = {name: np.concatenate([getattr(segment, name) for segment in segments]) for name in COLUMNS}
    row = 0
    for before, after in itertools.pairwise(segments):
        row += len(before)
        change, is_frozen = difference(before.edge_2HW[1], after.edge_2HW[0])
        columns["change_N"][row] = change
        columns["flags_N"][row] |= FLAG_FROZEN * is_frozen
    edges = np.stack([head.edge_2HW[0], segments[-1].edge_2HW[1]])
    return FrameStats(
        **columns,
        edge_2HW=edges,
        time_base=head.time_base,
        mode=head.mode,
        origin=head.origin,
        until_pts=segments[-1].until_pts,
    )


def difference(before_HW: NDArray[np.uint8], after_HW: NDArray[np.uint8]) -> tuple[np.float32, bool]:
    """Return the mean absolute luma difference in grey levels, and whether the picture is frozen."""
    change = np.float32(cv2.norm(before_HW, after_HW, cv2.NORM_L1) / before_HW.size)
    still = change <= FROZEN_MEAN and cv2.norm(before_HW, after_HW, cv2.NORM_INF) <= FROZEN_STEP
    return change, bool(still)


def sharpness(luma_HW: NDArray[np.uint8]) -> float:
    """Return the mean squared difference of neighbouring pixels, squared grey levels."""
    across = cv2.norm(luma_HW[:, 1:], luma_HW[:, :-1], cv2.NORM_L2SQR) if luma_HW.shape[1] > 1 else 0.0
    down = cv2.norm(luma_HW[1:], luma_HW[:-1], cv2.NORM_L2SQR) if luma_HW.shape[0] > 1 else 0.0
    return (across + down) / luma_HW.size


def _measure(
    batch: Sequence[ScanFrame], previous: NDArray[np.uint8] | None, meter: CellMeter, chunks: dict[str, list[NDArray]]
) -> NDArray[np.uint8]:
    """Append the columns of one batch to `chunks` and return its last picture."""
    size = batch[0].luma_HW.shape if previous is None else previous.shape
    for frame in batch:
        if frame.luma_HW.shape != size:
            raise ValueError(f"scan pictures must be of one size: {frame.luma_HW.shape} after {size}")
    luma = np.stack([frame.luma_HW for frame in batch])
    features, pattern, area = meter.features(luma, np.stack([frame.chroma_2HW for frame in batch]))
    loss, peak = losses(features, area)
    is_black = (features[:, 0] + features[:, 3]).max(axis=(1, 2), where=area > 0, initial=0) <= BLACK_LEVEL
    change = np.zeros(len(batch), np.float32)
    is_frozen = np.zeros(len(batch), np.bool_)
    for i, (before, after) in enumerate(itertools.pairwise(luma), 1):
        change[i], is_frozen[i] = difference(before, after)
    if previous is not None:
        change[0], is_frozen[0] = difference(previous, luma[0])
    is_key = np.array([frame.is_key for frame in batch])
    is_corrupt = np.array([frame.is_corrupt for frame in batch])
    skipped = np.array([frame.num_skipped for frame in batch], np.int32)
    is_frozen &= skipped == 0
    flags = FLAG_KEY * is_key | FLAG_CORRUPT * is_corrupt | FLAG_BLACK * is_black | FLAG_FROZEN * is_frozen
    found = {
        "pts_N": np.array([frame.pts for frame in batch], np.int64),
        "loss_NS": loss,
        "peak_NS": peak,
        "change_N": change,
        "sharpness_N": np.array([sharpness(picture) for picture in luma], np.float32),
        "luma_N": np.array([cv2.mean(picture)[0] for picture in luma], np.float32),
        "signature_NK": signatures(features, area),
        "strokes_NC": textures(features, area),
        "pattern_NC": pattern,
        "flags_N": flags.astype(np.uint8),
        "skipped_N": skipped,
    }
    for name, column in found.items():
        chunks[name].append(column)
    return luma[-1].copy()
