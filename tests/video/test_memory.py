"""A scan holds one frame at a time, however long the video is."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from m3video.video.reader import open_video
from tests.video.clips import Clip, write

STATM = Path("/proc/self/statm")


@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc/self/statm")
def test_memory_is_flat_over_a_scan(tmp_path: Path) -> None:
    numbers = [i % 512 for i in range(3000)]
    path = write(tmp_path / "long.mp4", Clip(numbers=numbers, size=(320, 240), codec_options={"preset": "ultrafast"}))
    page = resource.getpagesize()
    with open_video(path) as reader:
        resident = [int(STATM.read_text().split()[1]) * page for _ in reader.scan()]
    assert len(resident) == 3000
    # One decoded picture of this size is 0.1 MB; holding them all would be 345 MB.
    assert max(resident[300:]) - resident[300] < 10e6
