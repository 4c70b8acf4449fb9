"""Output of the command line: progress bars and notes on stderr, JSON on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from m3video.utils.progress import Bar, Progress, silent
from m3video.utils.text import json_text

_BAR_EVERY_SECONDS = 0.1


def make_progress(*, quiet: bool) -> Progress:
    """Return bars on stderr if it is a terminal; otherwise nothing is shown: logs must not fill with redraws."""
    return silent if quiet or not sys.stderr.isatty() else _bars


@contextmanager
def _bars(stage: str, total: int | None) -> Iterator[Bar]:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(stage, total=total)
        last = 0.0

        def bar(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            # Redrawing for each of 60 frames a second would cost more than the frames.
            if now - last >= _BAR_EVERY_SECONDS or done == total:
                shown.update(task, completed=done)
                last = now

        yield bar


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json_text(value, indent=2))


def print_notes(notes: Sequence[str]) -> None:
    """Print notes on stderr, one line each."""
    for note in notes:
        print(f"m3video: note: {note}", file=sys.stderr)
