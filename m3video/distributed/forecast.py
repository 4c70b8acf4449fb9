"""What a batch would do: items, hours of video, tokens, and time where earlier items tell how long one takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import av

from m3video.distributed.failures import FailedError
from m3video.distributed.items import Questions, items_of
from m3video.distributed.ledger_url import look
from m3video.distributed.snapshot import Snapshot
from m3video.distributed.sources import Source
from m3video.distributed.tasks import VideoTask
from m3video.distributed.worker_process import WorkerProcess
from m3video.errors import VideoError
from m3video.inference.summary.chapters import MOST_SECONDS
from m3video.utils.clock import clock
from m3video.video.path_checks import check_file

_DEADLINE_SECONDS = 20.0


def header_seconds(video: str) -> Iterator[float | None]:
    """What the header of a file says, None where it is silent; for a child process. Raises for what is no video."""
    with av.open(check_file(video).url, options={"protocol_whitelist": "file"}) as container:
        if not container.streams.video:
            raise VideoError(f"{video} holds no video stream")
        yield container.duration / av.time_base if container.duration else None


def forecast(
    source: Source,
    questions: Questions,
    task: VideoTask,
    output: str,
    *,
    workers: int,
    retry_failed: bool = False,
    limit: int | None = None,
) -> dict[str, Any]:
    """Count what `run_batch` would begin; nothing is decoded and nothing is written, a running batch is not disturbed.

    Args:
        source: the videos.
        questions: what is asked of each.
        task: what would be done.
        output: the folder or URL of the batch, whether or not it is there.
        workers: as for the batch.
        retry_failed: as for the batch.
        limit: as for the batch.

    Returns:
        JSON values. `refused` are videos that no decoder would take, of all that would be begun; `visual_tokens` is the
        most that the budgets allow; `seconds` is None where no item is done yet.
    """
    known = look(output) or Snapshot()
    said: dict[str, Any] = {
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
                if known.is_done(item):
                    said["done"] += 1
                elif known.has_failed(item) and not retry_failed:
                    said["failed_before"] += 1
                elif limit is None or said["items"] + count < limit:
                    count += 1
            if count:
                said["videos"] += 1
                said["items"] += count
                try:
                    (seconds,) = child.run(header_seconds, video)
                except FailedError:  # why, the batch itself will say
                    said["refused"] += 1
                    continue
                said["unknown_durations"] += seconds is None
                said["video_seconds"] += seconds or 0.0
                item_seconds += count * (seconds or 0.0)
                said["visual_tokens"] += count * _most_tokens(task, seconds or 0.0)
        if known.video_seconds > 0:
            said["seconds"] = item_seconds * known.busy_seconds / known.video_seconds / workers
    finally:
        child.kill()
    return said


def _most_tokens(task: VideoTask, seconds: float) -> int:
    if not task.needs_model:
        return 0
    chapters = max(1, math.ceil(seconds / MOST_SECONDS)) if task.name == "summarize" else 1
    return chapters * task.settings.budget


def forecast_text(said: dict[str, Any]) -> str:
    """`forecast` for people."""
    lines = [
        f"{said['items']} items of {said['videos']} videos, {said['video_seconds'] / 3600:.2f} h of video"
        + (f" and {said['unknown_durations']} of unknown length" if said["unknown_durations"] else "")
        + (f"; {said['refused']} cannot be read as video" if said["refused"] else ""),
        f"{said['done']} are done" + (f", {said['failed_before']} failed before" if said["failed_before"] else ""),
    ]
    if said["visual_tokens"]:
        lines.append(f"at least one chapter or answer for each: {said['visual_tokens']} visual tokens by their budgets")
    lines.append(
        "time is not known before an item is done: try --limit 3"
        if said["seconds"] is None
        else f"about {clock(round(said['seconds']))} at the pace of what is done"
    )
    return "\n".join(lines)
