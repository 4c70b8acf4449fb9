"""Any damage ends in frames of the index or in one line of error; what is fetched is what the scan saw."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from m3video.errors import VideoError
from m3video.video.reader import open_video
from tests.video.isolation import Worker
from tests.video.odd_inputs import ODD_INPUTS

VICTIMS = (
    "b_frames.mp4",
    "fragmented.mp4",
    "vfr.mkv",
    "hidden_frames_vp9.webm",
    "no_pts_mpeg4.avi",
    "interlaced.mpg",
    "start_10s.ts",
    "raw.h264",
    "palette.gif",
    "flash.flv",
    "motion_jpeg.avi",
    "ten_bit_422.mov",
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("worker") / "stderr.txt")
    yield worker
    worker.close()


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    kind = rng.choice(["flip", "head", "zero", "cut", "insert", "repeat"])
    at, length = rng.randrange(len(data)), rng.randrange(1, len(data) // 3)
    if kind == "flip":
        for _ in range(rng.choice([1, 5, 30, 200])):
            changed[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == "head":
        for _ in range(rng.choice([1, 3, 10])):
            changed[rng.randrange(min(len(data), 2500))] = rng.choice([0, 255, 127, 128])
    elif kind == "zero":
        changed[at : at + length] = bytes(len(changed[at : at + length]))
    elif kind == "cut":
        del changed[max(1, at) :]
    elif kind == "insert":
        changed[at:at] = rng.randbytes(rng.randrange(1, 500))
    else:
        changed[at:at] = changed[at : at + length]
    return bytes(changed)


@pytest.mark.parametrize("name", VICTIMS)
def test_random_damage(name: str, worker: Worker, tmp_path: Path) -> None:
    data = next(odd for odd in ODD_INPUTS if odd.name == name).path().read_bytes()
    rng = random.Random(name)
    for trial in range(8):
        path = tmp_path / f"{trial}{Path(name).suffix}"
        path.write_bytes(damaged(data, rng))
        answer = worker.read(path)
        if "refused" in answer:
            assert "\n" not in answer["refused"]
            continue
        assert set(answer["pts"]) <= set(answer["index"])
        assert answer["scan_pts"] == answer["pts"]
        assert answer["fetch_wrong"] == []
    assert worker.log.read_text() == ""


def test_a_damaged_frame_is_refused_and_its_neighbours_are_not(tmp_path: Path) -> None:
    path = next(odd for odd in ODD_INPUTS if odd.name == "damaged_middle.mp4").path()
    with open_video(path) as reader:
        scan = list(reader.scan())
        assert reader.damage.message is not None
        assert "partial" in reader.damage.message
        bad = sorted(set(reader.index.pts_N.tolist()) - {frame.pts for frame in scan if not frame.is_corrupt})
        assert bad
        for pts in bad:
            with pytest.raises(VideoError, match=f"the frame at pts {pts} cannot be decoded without damage"):
                reader.fetch([pts])
        good = [frame.pts for frame in scan if not frame.is_corrupt]
        assert [frame.pts for frame in reader.fetch(good[:3] + good[-3:])] == good[:3] + good[-3:]
