"""One suite over all backends: the right picture at the right time, or a refusal that says why; never a wrong frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from m3video.errors import BackendError, VideoError
from m3video.types import SCAN_SIDE
from m3video.video.reader import BACKENDS, open_video, probe
from tests.video.clips import Clip, read, write
from tests.video.isolation import Worker
from tests.video.odd_inputs import ODD_INPUTS, OddInput, Readable
from tests.video.test_odd_inputs import check_readable

CLIPS = {
    odd.name: odd
    for odd in ODD_INPUTS
    if isinstance(odd.outcome, Readable) and not odd.outcome.partial and ("/" not in odd.name and len(odd.name) < 40)
}

PLAIN = {
    "b_frames.mp4",
    "vfr.mkv",
    "gap_of_two_hours.mkv",
    "thousand_fps.mp4",
    "one_frame.mp4",
    "one_keyframe.mp4",
    "every_frame_a_keyframe.mp4",
    "hidden_frames_vp8.webm",
    "hidden_frames_vp9.webm",
    "alpha_vp9.webm",
    "full_range.mp4",
    "wide_samples.mp4",
    "turned_90.mp4",
    "turned_180.mp4",
    "turned_270.mp4",
    "frame%03d.mp4",
    "sound_too.mkv",
}
"""Clips that every backend must read."""

DECORD_MUST_REFUSE = {
    "edit_list.mp4",
    "leading_frames_cut_by_edit_list.mp4",
    "open_gop_h264.mp4",
    "open_gop_hevc.mp4",
    "open_gop.ts",
    "intra_refresh.mp4",
    "start_10s.mkv",
    "start_10s.ts",
    "negative_start.ts",
    "no_pts_mpeg4.avi",
    "no_pts_h264.avi",
    "raw.h264",
    "raw.hevc",
    "program_stream.mpg",
    "interlaced.mpg",
    "palette.gif",
    "av1.mp4",
    "resolution_change.ts",
    "times_jump_back.ts",
    "cut_in_open_gop.ts",
    "repeated_pts.mp4",
    "mirrored.mp4",
    "eight_by_2048.mp4",
    "two_video_streams.mp4",
    "live_without_duration.webm",
    "claims_131_frames.avi",
}
"""Clips of which decord 0.6 returns wrong frames, wrong times or none."""

DAMAGED = [
    odd
    for odd in ODD_INPUTS
    if isinstance(odd.outcome, Readable) and odd.outcome.is_damage_seen and odd.outcome.partial
]


def usable(backend: str) -> str:
    """`backend`, or a skip that says why it cannot run here."""
    if backend in ("decord", "torchcodec"):
        module = __import__(f"m3video.video._{backend}", fromlist=["load"])
        try:
            module.load()
        except BackendError as error:
            pytest.skip(str(error))
    return backend


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return usable(request.param)


@pytest.fixture(params=[name for name in BACKENDS if name != "pyav"])
def other_backend(request: pytest.FixtureRequest) -> str:
    """A backend besides PyAV, which reads all odd inputs in test_odd_inputs."""
    return usable(request.param)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("worker") / "stderr.txt")
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    return write(folder / "plain.mp4", Clip())


@pytest.mark.parametrize("name", CLIPS, ids=lambda name: name.encode("unicode_escape").decode())
def test_right_pictures_at_right_times_or_a_refusal(
    name: str, other_backend: str, worker: Worker, folder: Path
) -> None:
    odd: OddInput = CLIPS[name]
    answer = worker.read(odd.path(), backend=other_backend)
    if "refused" in answer:
        assert answer["kind"] == "BackendError"
        assert answer["refused"].endswith("use --backend pyav")
        assert "\n" not in answer["refused"]
        assert name not in PLAIN, answer["refused"]
        return
    assert isinstance(odd.outcome, Readable)
    check_readable(answer, odd.outcome)
    assert not (other_backend == "decord" and name in DECORD_MUST_REFUSE)


@pytest.mark.parametrize("odd", DAMAGED, ids=lambda odd: odd.name)
def test_backends_that_hide_damage_refuse_damaged_files(
    odd: OddInput, other_backend: str, worker: Worker, tmp_path: Path
) -> None:
    answer = worker.read(odd.path(), backend=other_backend)
    assert answer["kind"] == "BackendError"


def test_info_names_the_backend_and_the_true_times(plain: Path, backend: str) -> None:
    info = probe(plain, backend=backend)
    assert info.backend == backend
    assert (info.time_base, info.start_pts, info.end_pts, info.num_frames) == ((1, 12800), 0, 59 * 512, 60)
    assert (info.width, info.height, info.rotation, info.num_keyframes) == (128, 96, 0, 4)
    assert info.fingerprint == probe(plain).fingerprint
    assert info.fingerprint.startswith("blake2b:")
    assert len(info.fingerprint) == 8 + 32
    assert info.duration_seconds == pytest.approx(2.4)


def test_fetch_keeps_the_order_asked_for_and_repeats(plain: Path, backend: str) -> None:
    wanted = [59, 0, 31, 31, 2, 58, 16, 15, 14]
    with open_video(plain, backend=backend) as reader:
        frames = reader.fetch([np.int64(512 * i) for i in wanted])  # NumPy integers are what an index yields
    assert [frame.pts for frame in frames] == [512 * i for i in wanted]
    assert [read(frame.rgb_HW3) for frame in frames] == wanted
    assert frames[0].rgb_HW3.dtype == np.uint8


def test_fetch_of_nothing_is_nothing(plain: Path, backend: str) -> None:
    with open_video(plain, backend=backend) as reader:
        assert reader.fetch([]) == []


@pytest.mark.parametrize("pts", [-1, 1, 511, 513, 60 * 512])
def test_a_pts_that_is_no_frame_is_refused_not_rounded(plain: Path, backend: str, pts: int) -> None:
    with open_video(plain, backend=backend) as reader, pytest.raises(VideoError, match=f"pts {pts} is no frame"):
        reader.fetch([0, pts])


RANGES = [
    (None, None),
    (0, 512),
    (1, 5 * 512 + 1),
    (20 * 512, None),
    (None, 7 * 512),
    (31 * 512, 33 * 512),
    (59 * 512, 10**9),
    (10**9, None),
    (512, 512),
]


@pytest.mark.parametrize(("start", "end"), RANGES)
def test_ranges_are_half_open(plain: Path, backend: str, start: int | None, end: int | None) -> None:
    low, high = -1 if start is None else start, 10**12 if end is None else end
    expected = [i for i in range(60) if low <= 512 * i < high]
    with open_video(plain, backend=backend) as reader:
        scanned = list(reader.scan(start_pts=start, end_pts=end))
        frames = list(reader.frames(start_pts=start, end_pts=end))
    assert [(s.pts, read(s.luma_HW)) for s in scanned] == [(512 * i, i) for i in expected]
    assert [(f.pts, read(f.rgb_HW3)) for f in frames] == [(512 * i, i) for i in expected]
    assert [s.is_key for s in scanned] == [i % 15 == 0 for i in expected]


def test_scan_pictures_are_small_full_range_and_neutral(tmp_path: Path, backend: str) -> None:
    path = write(tmp_path / "large.mp4", Clip(size=(640, 360), numbers=range(6)))
    with open_video(path, backend=backend) as reader:
        for picture in reader.scan():
            assert picture.luma_HW.shape == (81, SCAN_SIDE)
            assert picture.chroma_2HW.shape == (2, 41, 72)
            assert abs(int(picture.luma_HW[5, 5]) - 208) < 6
            assert abs(picture.chroma_2HW.astype(int) - 128).max() < 6


def test_a_closed_reader_says_so(plain: Path, backend: str) -> None:
    reader = open_video(plain, backend=backend)
    reader.close()
    with pytest.raises(VideoError, match="closed"):
        next(reader.scan())
    with pytest.raises(VideoError, match="closed"):
        reader.fetch([0])


def test_passes_do_not_disturb_each_other(plain: Path, backend: str) -> None:
    with open_video(plain, backend=backend) as reader:
        both = zip(reader.scan(), reader.frames(), strict=True)
        seen = []
        for i, (small, full) in enumerate(both):
            if i % 20 == 0:
                reader.fetch([512 * (59 - i)])
            seen.append((read(small.luma_HW), read(full.rgb_HW3)))
    assert seen == [(i, i) for i in range(60)]


def test_an_unknown_backend_is_named_with_those_that_exist(plain: Path) -> None:
    with pytest.raises(BackendError, match=r"backend \(ffmpeg\) must be one of pyav, decord, torchcodec, opencv"):
        open_video(plain, backend="ffmpeg")
