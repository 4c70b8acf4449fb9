"""The line that shows the counts of a batch."""

from __future__ import annotations

import time

import pytest

from m3video.distributed.counts import EVERY_SECONDS, BatchCounts

RECORD = {"video_seconds": 1800.0, "tokens": {"visual": 700, "prompt": 750, "answer": 50}}


def test_the_line_of_a_running_batch() -> None:
    counts = BatchCounts(total=100, done_before=10, failed_before=1)
    counts.add(RECORD)
    counts.add(RECORD)
    counts.add_video([RECORD, RECORD])  # two questions, one video
    counts.failed += 1
    assert counts.line(running=4, elapsed=60.0) == (
        "12 done, 2 failed, 4 running; 30.0 h of video per hour; 27 tokens/s; 82 waiting; 0:28:40 left"
    )
    assert BatchCounts().line(running=0, elapsed=0.0) == "0 done, 0 failed, 0 running"


def test_one_line_a_minute_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counts = BatchCounts(is_shown=True, begun=1000.0, _last=1000.0)
    for _ in range(2400):
        now[0] += 0.1
        counts.show(running=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) in (3, 4)  # four minutes, in steps of a tenth of a second
    assert EVERY_SECONDS == 60
    assert all(line.startswith("m3video: ") for line in lines)
    quiet = BatchCounts()
    now[0] += 1000
    quiet.show(running=1)
    assert capsys.readouterr().err == ""
