"""A task of the product that takes a second longer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from m3video.distributed.messages import ModelRequest, PartialRecord, VideoJob
from m3video.distributed.tasks import Plan
from m3video.distributed.worker_process import heartbeat


@dataclass(frozen=True, slots=True)
class SlowPlan(Plan):
    """Plans of real videos, slowly enough for a node to leave meanwhile."""

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        for _ in range(50):
            time.sleep(0.02)
            heartbeat()
        yield from Plan.work(self, job)
