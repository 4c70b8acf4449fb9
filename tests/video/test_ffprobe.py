"""The index says what ffprobe says, and a fetched frame is the one that sequential decoding shows, on real clips.

The clips are found through M3VIDEO_VIDEOS_DIR; ffprobe is needed only for the comparison with it, never by the product.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from m3video.errors import BackendError
from m3video.video.reader import open_video
from tests.paths import VIDEOS as FOLDER
from tests.video.odd_inputs import ODD_INPUTS, Readable

CLIPS = sorted(path for path in FOLDER.glob("*") if path.suffix in (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts"))
FFPROBE = shutil.which("ffprobe")
FFPROBE_DIFFERS = {
    "times_jump_back.ts",  # made increasing
    "repeated_pts.mp4",  # made increasing
    "no_pts_h264.avi",  # old versions print none
    "raw.h264",
    "raw.hevc",
    "raw.obu",
    "fragmented.mp4",
    "av1.mp4",
    "cut_in_open_gop.ts",
}
needs_ffprobe = pytest.mark.skipif(FFPROBE is None, reason="there is no ffprobe on this machine")


def ffprobe_pts(path: Path, stream_index: int) -> list[int | None]:
    """The time of each frame that ffprobe decodes; None where it prints N/A."""
    command = [
        str(FFPROBE),
        "-v",
        "quiet",
        "-select_streams",
        str(stream_index),
        "-show_entries",
        "frame=best_effort_timestamp",
        "-of",
        "json",
        f"file:{path}",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [frame.get("best_effort_timestamp") for frame in json.loads(answer.stdout)["frames"]]


def stream_index(path: Path) -> int:
    import av

    with av.open(f"file:{path}") as container:
        stream = container.streams.best("video")
        assert stream is not None
        return stream.index


@pytest.fixture(params=CLIPS or [None], ids=lambda path: path.name if path else "none")
def clip(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        pytest.skip(f"no clips in {FOLDER}; set M3VIDEO_VIDEOS_DIR")
    path: Path = request.param
    return path


@needs_ffprobe
def test_index_and_scan_have_the_pts_that_ffprobe_prints(clip: Path) -> None:
    expected = ffprobe_pts(clip, stream_index(clip))
    with open_video(clip) as reader:
        assert [frame.pts for frame in reader.scan()] == expected
        missing = set(reader.index.pts_N.tolist()) - set(expected)
        assert len(missing) == reader.damage.num_missing_frames
        assert (reader.damage.message is not None) == ("corrupted" in clip.name)
        assert not missing or "corrupted" in clip.name


def test_fetched_frames_are_those_of_sequential_decoding(clip: Path) -> None:
    rng = np.random.default_rng(0)
    with open_video(clip) as reader:
        whole = [frame.pts for frame in reader.scan() if not frame.is_corrupt]
        picked = sorted({int(pts) for pts in rng.choice(whole, size=7)})
        sequential = {f.pts: f.rgb_HW3 for f in reader.frames() if f.pts in picked}
        for pts in rng.permutation(picked):
            assert np.array_equal(reader.fetch([pts])[0].rgb_HW3, sequential[int(pts)])


def test_decord_shows_the_same_pictures_or_refuses(clip: Path) -> None:
    from m3video.video import _decord

    try:
        _decord.load()
    except BackendError as error:
        pytest.skip(str(error))
    try:
        other = open_video(clip, backend="decord")
    except BackendError:
        assert clip.name not in {"intel_car.mp4", "mma_demo.mp4", "decord_video_90.mov"}
        return
    with other, open_video(clip) as ours:
        picked = ours.index.pts_N[:: max(1, len(ours.index) // 5)].tolist()
        for one, two in zip(ours.fetch(picked), other.fetch(picked), strict=True):
            assert one.rgb_HW3.shape == two.rgb_HW3.shape
            a, b = (cv2.resize(f.rgb_HW3, (32, 32), interpolation=cv2.INTER_AREA).astype(int) for f in (one, two))
            assert np.abs(a - b).mean() < 4


@needs_ffprobe
@pytest.mark.parametrize(
    "odd",
    [
        odd
        for odd in ODD_INPUTS
        if isinstance(odd.outcome, Readable)
        and "." in odd.name
        and odd.name not in FFPROBE_DIFFERS
        and not odd.outcome.partial
        and "/" not in odd.name
        and len(odd.name) < 40
        and "palette" not in odd.name
    ],
    ids=lambda odd: odd.name.encode("unicode_escape").decode(),
)
def test_odd_inputs_have_the_pts_that_ffprobe_prints(odd, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = odd.path()
    printed = ffprobe_pts(path, stream_index(path))
    with open_video(path) as reader:
        ours = reader.index.pts_N.tolist()
    # The last frames of a stream without pts get no time from ffprobe; ours count on.
    assert len(ours) == len(printed)
    assert [a for a, b in zip(ours, printed, strict=True) if b is not None] == [b for b in printed if b is not None]
    assert sum(b is None for b in printed) <= 2
