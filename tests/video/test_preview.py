"""The first look at a file: header and one picture, upright, of files that are whole and of others."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from m3video.errors import VideoError
from m3video.video.preview import preview
from m3video.video.reader import open_video
from tests.paths import SAMPLE, VIDEOS


def test_the_picture_is_the_keyframe_near_a_tenth_of_the_video() -> None:
    found = preview(SAMPLE)
    assert (found.seconds, found.codec, found.rgb_HW3.shape) == (12.0, "h264", (270, 480, 3))
    with open_video(SAMPLE) as reader:
        index = reader.index
        keys = index.pts_N[index.is_key_N]
        key = int(keys[keys <= round(1.2 / float(index.time_base[0] / index.time_base[1]))][-1])
        expected = reader.fetch([key])[0].rgb_HW3
    assert np.array_equal(found.rgb_HW3, expected)


@pytest.mark.parametrize("name", ["decord_video_90.mov", "decord_video_180.mov"])
def test_a_turned_video_is_upright(name: str) -> None:
    if not (VIDEOS / name).is_file():
        pytest.skip(f"{VIDEOS / name} is not there")
    with open_video(VIDEOS / name) as reader:
        assert preview(VIDEOS / name).rgb_HW3.shape[:2] == (reader.info.height, reader.info.width)


def test_a_video_that_begins_late_has_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts = 1000 + number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert abs(int(preview(path).rgb_HW3.mean()) - 90) < 6


@pytest.mark.parametrize("data", [b"", b"no video", b"#EXTM3U\n"])
def test_what_is_no_video_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError) as caught:
        preview(path)
    assert "\n" not in str(caught.value)
    assert "x.mp4" in str(caught.value)
