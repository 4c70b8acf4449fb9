"""The line that says where a batch stands."""

from __future__ import annotations

import time

import pytest

from m3video.distributed import progress
from m3video.distributed.progress import Report

RECORD = {"video_seconds": 1800.0, "tokens": {"visual": 700, "prompt": 750, "answer": 50}}


def test_the_line() -> None:
    report = Report(total=100, done_before=10, failed_before=1)
    report.add(RECORD)
    report.add(RECORD)
    report.add_video([RECORD, RECORD])  # two questions, one video
    report.failed += 1
    assert report.line(running=4, elapsed=60.0) == (
        "12 done, 2 failed, 4 running; 30.0 h of video per hour; 27 tokens/s; 82 waiting; 0:28:40 left"
    )
    assert Report().line(running=0, elapsed=0.0) == "0 done, 0 failed, 0 running"


def test_one_line_a_minute_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = Report(is_shown=True, begun=1000.0, _last=1000.0)
    for _ in range(2400):
        now[0] += 0.1
        report.show(running=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) in (3, 4)  # four minutes, in steps of a tenth of a second
    assert progress.EVERY_SECONDS == 60
    assert all(line.startswith("m3video: ") for line in lines)
    quiet = Report()
    now[0] += 1000
    quiet.show(running=1)
    assert capsys.readouterr().err == ""
