"""A video read by another process: the same frames, plans and damage; what kills that process kills nothing else."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from m3video.config import Settings
from m3video.distributed import remote_reader
from m3video.distributed.remote_reader import RemoteReader, open_remote
from m3video.errors import ChangedFileError, VideoError
from m3video.inference.pipeline import open_for, plan_details
from m3video.video.reader import open_video
from tests.distributed.reader_faults import crash, hang
from tests.paths import SAMPLE

SETTINGS = Settings(num_frames=6, budget=300)


@pytest.fixture
def reader() -> Iterator[RemoteReader]:
    with open_remote(SAMPLE, Settings(), deadline=20.0) as opened:
        yield opened


def test_it_reads_what_a_reader_here_reads(reader: RemoteReader) -> None:
    with open_video(SAMPLE) as here:
        assert reader.info == here.info
        assert (reader.index.pts_N == here.index.pts_N).all()
        pts = [int(here.index.pts_N[place]) for place in (40, 3, 3)]
        for one, other in zip(reader.fetch(pts), here.fetch(pts), strict=True):
            assert one.pts == other.pts
            assert (one.rgb_HW3 == other.rgb_HW3).all()
        assert [frame.pts for frame in reader.frames(end_pts=pts[1])] == [f.pts for f in here.frames(end_pts=pts[1])]
        for mode in ("full", "keyframes"):
            found, known = list(reader.scan(mode=mode)), list(here.scan(mode=mode))
            assert [frame.pts for frame in found] == [frame.pts for frame in known]
            assert all((a.luma_HW == b.luma_HW).all() for a, b in zip(found, known, strict=True))
        plan, same = plan_details(reader, SETTINGS).plan, plan_details(here, SETTINGS).plan
        assert plan == same


def test_damage_is_told(tmp_path: Path) -> None:
    data = bytearray(SAMPLE.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    hurt = tmp_path / "hurt.mp4"
    hurt.write_bytes(data)
    with open_remote(hurt, Settings(), deadline=20.0) as reader, open_for(hurt, Settings()) as here:
        assert plan_details(reader, SETTINGS).plan.warnings == plan_details(here, SETTINGS).plan.warnings
        assert reader.damage == here.damage
        assert reader.damage.is_partial
        assert reader.why_not_look() == here.why_not_look()


def test_no_video_and_no_file_are_refused_as_here(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    for path in (text, tmp_path / "none.mp4"):
        with pytest.raises(VideoError) as here:
            open_video(path)
        with pytest.raises(VideoError) as there:
            open_remote(path, Settings(), deadline=20.0)
        assert str(there.value) == str(here.value)


def test_a_crash_is_an_error_of_the_video_and_the_next_call_goes_on(
    reader: RemoteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_reader, "_fetch", crash)
    with pytest.raises(VideoError, match=r"sample\.mp4: the process that decoded it was killed by SIGSEGV"):
        reader.fetch([0])
    monkeypatch.undo()
    assert reader.fetch([0])[0].pts == 0


def test_a_hang_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_remote(SAMPLE, Settings(), deadline=0.5) as reader:
        monkeypatch.setattr(remote_reader, "_fetch", hang)
        with pytest.raises(VideoError, match=r"the process that decoded it gave no sign of life for 0\.5 s"):
            reader.fetch([0])


def test_a_file_that_changes_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(SAMPLE.read_bytes())
    with open_remote(copy, Settings(), deadline=20.0) as reader:
        copy.write_bytes(SAMPLE.read_bytes()[:5000])
        with pytest.raises(ChangedFileError):
            reader.fetch([0])


def test_one_pass_at_a_time(reader: RemoteReader) -> None:
    frames = reader.scan()
    next(frames)
    with pytest.raises(RuntimeError, match="one at a time"):
        reader.fetch([0])
    del frames
    assert reader.fetch([0])[0].rgb_HW3.dtype == np.uint8


def test_closing_ends_the_process(reader: RemoteReader) -> None:
    process = reader._child._process
    assert process is not None
    reader.close()
    assert process.returncode == -signal.SIGKILL
