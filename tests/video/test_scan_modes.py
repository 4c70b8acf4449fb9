"""Scans that skip frames: the right pictures, all of a kind and no other, or a refusal in one line."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from m3video.errors import BackendError, VideoError
from m3video.types import Stretch
from m3video.video import _seek
from m3video.video.reader import open_video
from tests.video.clips import Clip, read, write
from tests.video.odd_inputs import ODD_INPUTS

ODD = {odd.name: odd for odd in ODD_INPUTS}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four GOPs of 15 frames, two of three of which no other is made from."""
    options = {"x264-params": "b-adapt=0:b-pyramid=none:scenecut=0"}
    return write(tmp_path_factory.mktemp("modes") / "plain.mp4", Clip(codec_options=options))


@pytest.mark.parametrize(("mode", "least", "most"), [("full", 60, 60), ("nonref", 20, 28), ("keyframes", 4, 4)])
def test_every_picture_is_its_own_and_in_order(clip: Path, mode: str, least: int, most: int) -> None:
    with open_video(clip) as reader:
        seen = [(frame.pts // 512, read(frame.luma_HW), frame.is_key) for frame in reader.scan(mode=mode)]
        assert not reader.damage.is_partial
    assert least <= len(seen) <= most
    assert all(number == at for at, number, _ in seen)
    assert seen == sorted(seen)
    assert [at for at, _, is_key in seen if is_key] == [0, 15, 30, 45]


@pytest.mark.parametrize("mode", ["nonref", "keyframes"])
def test_segments_add_up_to_the_whole(clip: Path, mode: str) -> None:
    with open_video(clip) as reader:
        whole = list(reader.scan(mode=mode))
        edges = [0, 7 * 512, 15 * 512, 16 * 512, 52 * 512, 10**9]
        parts = [
            frame for a, b in itertools.pairwise(edges) for frame in reader.scan(mode=mode, start_pts=a, end_pts=b)
        ]
    assert [frame.pts for frame in parts] == [frame.pts for frame in whole]
    assert all(np.array_equal(a.luma_HW, b.luma_HW) for a, b in zip(parts, whole, strict=True))


@pytest.mark.parametrize(
    "name",
    ["open_gop_h264.mp4", "open_gop_hevc.mp4", "hidden_frames_vp9.webm", "av1.mp4", "open_gop.ts", "negative_start.ts"],
)
def test_keyframes_of_other_kinds_of_file(tmp_path: Path, name: str) -> None:
    with open_video(ODD[name].path()) as reader:
        full = {frame.pts: frame for frame in reader.scan()}
        keys = list(reader.scan(mode="keyframes"))
        assert [frame.pts for frame in keys] == reader.index.pts_N[reader.index.is_key_N].tolist()
    for frame in keys:
        assert np.abs(frame.luma_HW.astype(int) - full[frame.pts].luma_HW).mean() < 1.5


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("intra_refresh.mp4", "keyframes", "2 of its 3 keyframes are made of other frames"),
        ("av1.mp4", "nonref", "av1 does not say for sure which frames others are made from"),
        ("open_gop_hevc.mp4", "nonref", "hevc does not say for sure"),
        ("no_pts_mpeg4.avi", "keyframes", "do not tell the times of its frames"),
        ("raw.h264", "nonref", "do not tell the times of its frames"),
    ],
)
def test_what_is_not_safe_is_refused_in_one_line(tmp_path: Path, name: str, mode: str, reason: str) -> None:
    with open_video(ODD[name].path()) as reader, pytest.raises(VideoError, match=reason) as caught:
        list(reader.scan(mode=mode))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("use --scan full")


def test_another_backend_refuses(clip: Path) -> None:
    with (
        open_video(clip, backend="opencv") as reader,
        pytest.raises(BackendError, match=r"opencv cannot skip frames at the decoder \(--scan keyframes\)"),
    ):
        next(reader.scan(mode="keyframes"))


def test_a_sweep_gives_the_pictures_of_a_decode_from_the_start(clip: Path) -> None:
    """Bit for bit, whichever frames are asked for together, also after an earlier fetch left the decoder midway."""
    with open_video(clip) as reader:
        true = {frame.pts: frame.rgb_HW3 for frame in reader.frames()}
        rng = np.random.default_rng(0)
        for count in (1, 1, 2, 3, 5, 9, 20, 60):
            wanted = [512 * int(i) for i in rng.permutation(60)[:count]]
            for frame, pts in zip(reader.fetch(wanted), wanted, strict=True):
                assert frame.pts == pts
                assert np.array_equal(frame.rgb_HW3, true[pts])


def test_a_sweep_decodes_what_it_needs_only(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[tuple[int, str]] = []

    class Watched(_seek.AvStream):
        def decode(self, packet):  # type: ignore[no-untyped-def]
            if packet is not None:
                fed.append((packet.pts // 512, str(self.stream.codec_context.skip_frame)))
            return super().decode(packet)

    monkeypatch.setattr(_seek, "AvStream", Watched)
    with open_video(clip) as reader:
        reader.fetch([512 * 15, 512 * 32, 512 * 37])
    fed = [(at, skip) for at, skip in fed if at >= 15]
    # A keyframe costs itself; further frames of one GOP cost one way to the last of them.
    assert [at for at, _ in fed if at < 30] == [15]
    assert sorted({at for at, _ in fed if at >= 30})[-1] < 42
    assert len(fed) == len(set(fed))
    assert {at for at, skip in fed if "DEFAULT" in skip} == {15, 32, 37}


@pytest.mark.parametrize("name", sorted(ODD))
def test_stretches_are_as_in_a_full_scan_or_empty(name: str) -> None:
    """From every keyframe to the next, on two threads; whatever decodes otherwise is given back as nothing."""
    try:
        reader = open_video(ODD[name].path())
    except VideoError:
        pytest.skip("no readable video")
    with reader:
        if reader.why_not_look():
            with pytest.raises(VideoError, match="use --scan full"):
                next(reader.look([Stretch(0, 1)]))
            return
        edges = [*np.flatnonzero(reader.index.is_key_N).tolist(), len(reader.index)]
        whole = [Stretch(a, b) for a, b in itertools.pairwise(edges)]
        parts = [*whole, *(Stretch(one.start, one.stop, every=False) for one in whole)]
        found = [frames for half in (whole, parts[len(whole) :]) for frames in reader.look(half, threads=2)]
        full = {frame.pts: frame for frame in reader.scan()}
    assert any(found)
    for stretch, frames in zip(parts, found, strict=True):
        rows = np.searchsorted(reader.index.pts_N, [frame.pts for frame in frames])
        assert len(frames) == stretch.num_frames or not frames or not stretch.every
        assert all(stretch.start <= row < stretch.stop for row in rows)
        assert [frame.num_skipped for frame in frames] == (np.diff(rows, prepend=stretch.start - 1) - 1).tolist()
        assert all(np.array_equal(frame.luma_HW, full[frame.pts].luma_HW) for frame in frames)
