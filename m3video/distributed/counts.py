"""Counts of a running batch, and the line that shows them."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EVERY_SECONDS = 60.0
EVERY_SECONDS_ON_TERMINAL = 0.5


@dataclass(slots=True)
class BatchCounts:
    """Items of a batch so far, and sums over the finished ones.

    Attributes:
        total: None until all items were counted.
        done, failed, copies: items of this run; a copy has the content of another item.
        changed: those of the failed ones whose file was written to meanwhile.
        done_before, failed_before: items of earlier runs.
    """

    is_shown: bool = False
    total: int | None = None
    done: int = 0
    failed: int = 0
    changed: int = 0
    copies: int = 0
    done_before: int = 0
    failed_before: int = 0
    video_seconds: float = 0.0
    tokens: int = 0
    begun: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a finished item."""
        self.done += 1
        self.tokens += sum(record.get("tokens", {}).get(name, 0) for name in ("prompt", "answer"))

    def add_video(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Count a video once, given the records of its finished items."""
        self.video_seconds += max((record.get("video_seconds") or 0.0 for record in records), default=0.0)

    def show(self, *, running: int) -> None:
        """Print one line: redrawn on a terminal, else once a minute."""
        if not self.is_shown:
            return
        on_terminal, now = sys.stderr.isatty(), time.monotonic()
        if now - self._last >= (EVERY_SECONDS_ON_TERMINAL if on_terminal else EVERY_SECONDS):
            self._last = now
            line = self.line(running=running, elapsed=now - self.begun)
            print(
                f"\r\x1b[2K{line}" if on_terminal else f"m3video: {line}",
                end="" if on_terminal else "\n",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """Clear the redrawn line."""
        if self.is_shown and sys.stderr.isatty():
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

    def line(self, *, running: int, elapsed: float) -> str:
        """Return the state of the batch after `elapsed` seconds, as text for people."""
        parts = [f"{self.done + self.done_before} done, {self.failed + self.failed_before} failed, {running} running"]
        elapsed = max(elapsed, 1e-9)
        if self.video_seconds:
            parts.append(f"{self.video_seconds / elapsed:.1f} h of video per hour")
        if self.tokens:
            parts.append(f"{self.tokens / elapsed:.0f} tokens/s")
        settled = self.done + self.failed + self.copies
        if self.total is not None:
            left = max(0, self.total - settled - self.done_before - self.failed_before)
            parts.append(f"{left - running} waiting" if left > running else "none waiting")
            if settled:
                parts.append(f"{_duration(left * elapsed / settled)} left")
        return "; ".join(parts)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
