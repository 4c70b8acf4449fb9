"""Estimates of a batch before it runs: items, hours of video, tokens, and time where items are done already."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import av

from m3video.distributed.batch_state import BatchState
from m3video.distributed.failures import FailedError
from m3video.distributed.items import BatchQuestions, items_of
from m3video.distributed.ledger_url import read_batch_state
from m3video.distributed.sources import Source
from m3video.distributed.tasks import VideoTask
from m3video.distributed.worker_process import WorkerProcess
from m3video.errors import VideoError
from m3video.inference.summary.chapters import MOST_SECONDS
from m3video.utils.clock import clock
from m3video.video.path_checks import check_file

_DEADLINE_SECONDS = 20.0


def header_seconds(video: str) -> Iterator[float | None]:
    """Yield the duration in the header of a file, or None, in a child process; raise for what is no video."""
    with av.open(check_file(video).url, options={"protocol_whitelist": "file"}) as container:
        if not container.streams.video:
            raise VideoError(f"{video} holds no video stream")
        yield container.duration / av.time_base if container.duration else None


def forecast(
    source: Source,
    questions: BatchQuestions,
    task: VideoTask,
    output: str,
    *,
    workers: int,
    retry_failed: bool = False,
    limit: int | None = None,
) -> dict[str, Any]:
    """Count what `run_batch` would begin; nothing is decoded or written, and a running batch is not disturbed.

    Args:
        source: the videos.
        questions: what is asked of each.
        task: what would be done.
        output: the folder or URL of the batch; it need not exist.
        workers: as for the batch.
        retry_failed: as for the batch.
        limit: as for the batch.

    Returns:
        JSON values. `refused` counts those of the videos to begin that no decoder takes; `visual_tokens` is the most
        that the budgets allow; `seconds` is None where no item is done yet.
    """
    state = read_batch_state(output) or BatchState()
    totals: dict[str, Any] = {
        "videos": 0,
        "items": 0,
        "done": 0,
        "failed_before": 0,
        "video_seconds": 0.0,
        "unknown_durations": 0,
        "refused": 0,
        "visual_tokens": 0,
        "seconds": None,
    }
    child, item_seconds = WorkerProcess(deadline=_DEADLINE_SECONDS), 0.0
    try:
        for video in source:
            count = 0
            for item in items_of(video, questions.of(video), task=task.name, config=task.config):
                if state.is_done(item):
                    totals["done"] += 1
                elif state.has_failed(item) and not retry_failed:
                    totals["failed_before"] += 1
                elif limit is None or totals["items"] + count < limit:
                    count += 1
            if count:
                totals["videos"] += 1
                totals["items"] += count
                try:
                    (seconds,) = child.run(header_seconds, video)
                except FailedError:  # the batch itself will report why
                    totals["refused"] += 1
                    continue
                totals["unknown_durations"] += seconds is None
                totals["video_seconds"] += seconds or 0.0
                item_seconds += count * (seconds or 0.0)
                totals["visual_tokens"] += count * _most_tokens(task, seconds or 0.0)
        if state.video_seconds > 0:
            totals["seconds"] = item_seconds * state.busy_seconds / state.video_seconds / workers
    finally:
        child.kill()
    return totals


def _most_tokens(task: VideoTask, seconds: float) -> int:
    if not task.needs_model:
        return 0
    chapters = max(1, math.ceil(seconds / MOST_SECONDS)) if task.name == "summarize" else 1
    return chapters * task.settings.budget


def forecast_text(totals: dict[str, Any]) -> str:
    """Return the result of `forecast` as text for people."""
    lines = [
        f"{totals['items']} items of {totals['videos']} videos, {totals['video_seconds'] / 3600:.2f} h of video"
        + (f" and {totals['unknown_durations']} of unknown length" if totals["unknown_durations"] else "")
        + (f"; {totals['refused']} cannot be read as video" if totals["refused"] else ""),
        f"{totals['done']} are done"
        + (f", {totals['failed_before']} failed before" if totals["failed_before"] else ""),
    ]
    if totals["visual_tokens"]:
        lines.append(
            f"at least one chapter or answer for each: {totals['visual_tokens']} visual tokens by their budgets"
        )
    lines.append(
        "time is not known before an item is done: try --limit 3"
        if totals["seconds"] is None
        else f"about {clock(round(totals['seconds']))} at the pace of what is done"
    )
    return "\n".join(lines)
