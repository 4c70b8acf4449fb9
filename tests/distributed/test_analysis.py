"""Many segments give the bits of a single pass, or the video is read in one piece and a note says why."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3video.config import Settings
from m3video.distributed.analysis import SegmentStats, analyze_long, analyze_segment, merge, named
from m3video.distributed.mapping import ItemResult, in_process
from m3video.distributed.segments import cut
from m3video.errors import ChangedFileError, VideoError
from m3video.inference.first_pass import Wish, analyze_video
from m3video.inference.pipeline import open_for
from m3video.types import FLAG_FROZEN, FrameStats
from m3video.video.segments import inspect_video, open_known, why_not_split
from tests.distributed.made import assert_same, long_clip
from tests.paths import ROOT
from tests.video.clips import Clip, write
from tests.video.odd_inputs import ODD_INPUTS, REPRESENTATIVES, X264_OPEN, OddInput, Readable

VIDEOS = Path(os.environ.get("M3VIDEO_VIDEOS_DIR", ROOT.parent / "shared" / "videos"))
CLIPS = sorted(path for path in VIDEOS.glob("*.m*") if path.stat().st_size < 1_000_000)
COUNTS = (1, 2, 7, 50)
PLAIN = Settings()


def single_pass(path: Path) -> tuple[FrameStats, str | None]:
    """Return stats and damage of an analysis without segments."""
    with open_for(path, PLAIN) as reader:
        return analyze_video(reader), reader.damage.message


@pytest.mark.skipif(not CLIPS, reason=f"no clips in {VIDEOS}")
@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_real_clips_are_bit_identical(path: Path) -> None:
    expected, damage = single_pass(path)
    index = inspect_video(path, max_pixels=PLAIN.max_pixels).metadata.index
    for count in {len(cut(index, count)) for count in COUNTS}:
        found = analyze_long(path, PLAIN, count=count)
        assert_same(found.stats, expected)
        assert (damage is None) or found.notes[0].startswith(damage)


@pytest.mark.skipif(not CLIPS, reason=f"no clips in {VIDEOS}")
def test_most_real_clips_can_be_cut() -> None:
    reasons = [why_not_split(inspect_video(path, max_pixels=PLAIN.max_pixels)) for path in CLIPS]
    assert reasons.count(None) >= 3, reasons


# Where a cut between two segments could go wrong, besides one input of each outcome.
CUT = {
    "edit_list.mp4",
    "every_frame_a_keyframe.mp4",
    "fragmented.mp4",
    "gap_of_two_hours.mkv",
    "hidden_frames_vp9.webm",
    "intra_refresh.mp4",
    "live_without_duration.webm",
    "open_gop_hevc.mp4",
    "repeated_pts.mp4",
    "two_video_streams.mp4",
}
READABLE = [
    odd for odd in ODD_INPUTS if isinstance(odd.outcome, Readable) and (odd in REPRESENTATIVES or odd.name in CUT)
]


@pytest.mark.parametrize("odd", READABLE, ids=lambda odd: odd.name)
def test_odd_inputs_are_bit_identical(odd: OddInput) -> None:
    path = odd.path()
    expected, damage = single_pass(path)
    found = analyze_long(path, PLAIN, count=4)
    assert_same(found.stats, expected)
    assert found.info.path == str(path)
    if damage is not None:
        assert found.notes[0].startswith(damage)
        assert found.num_segments == 1
    elif found.num_segments == 1:
        assert "read in one piece, because" in found.notes[-1]
    else:
        assert found.notes == ()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 GOPs; B-frames, and still pictures across what will be cuts."""
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    return write(path, Clip(numbers=[i // 30 for i in range(600)], gop=15))


@pytest.mark.parametrize("count", [*COUNTS, 1000])
def test_rendered_clip_is_bit_identical(clip: Path, count: int) -> None:
    expected, _ = single_pass(clip)
    found = analyze_long(clip, PLAIN, count=count)
    assert found.num_segments == min(count, 40)
    assert_same(found.stats, expected)


@pytest.mark.parametrize("scan", ["nonref", "keyframes"])
def test_scans_that_skip_frames_are_bit_identical(clip: Path, scan: str) -> None:
    settings = Settings(scan=scan)  # type: ignore[arg-type]
    with open_for(clip, settings) as reader:
        expected = analyze_video(reader, Wish(scan))
    assert len(expected) < 600
    found = analyze_long(clip, settings, count=7)
    assert found.num_segments == 7
    assert_same(found.stats, expected)


def test_boundary_signals_cross_the_cuts(clip: Path) -> None:
    stats = analyze_long(clip, PLAIN, count=40).stats
    rows = np.arange(15, 600, 15)
    assert ((stats.flags_N[rows] & FLAG_FROZEN) > 0).tolist() == [row % 30 == 15 for row in rows.tolist()]
    assert (stats.change_N[rows[1::2]] > 1).all()


@pytest.mark.parametrize(
    ("name", "how", "reason"),
    [
        ("a.ts", {}, r"its container \(mpegts\)"),
        ("a.mpg", {"codec": "mpeg2video"}, r"its container \(mpeg\)"),
        ("a.avi", {"codec": "mpeg4"}, r"its container \(avi\)"),
        ("one-key.mp4", {"gop": 1000}, "it has one keyframe"),
        ("open.mp4", {"codec_options": X264_OPEN}, "open GOP"),
    ],
)
def test_irregular_files_are_one_piece(name: str, how: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, Clip(**how))
    found = analyze_long(path, PLAIN, count=3, mapper=never)
    assert found.num_segments == 1
    assert found.notes[-1].startswith("read in one piece, because ")
    assert re.search(reason, found.notes[-1])


def never(function: Any, shared: Any, items: Sequence[Any]) -> Generator[ItemResult[Any], None, None]:
    raise AssertionError("workers were asked for")


def test_short_videos_ask_no_worker(clip: Path) -> None:
    found = analyze_long(clip, PLAIN, mapper=never)
    assert found.notes == ("read in one piece, because it is short (24 s): workers start longer than they read",)


def test_other_backends_are_one_piece(clip: Path) -> None:
    found = analyze_long(clip, Settings(backend="opencv"), count=3, mapper=never)
    assert found.notes == ("read in one piece, because backend opencv decodes a whole file before its first frame",)
    assert found.info.backend == "opencv"


def spoilt(path: Path, *, at: float) -> Path:
    """A copy with 40 bytes overwritten: packets stay where they were, a picture does not."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + 40] = bytes(range(40))
    other = path.with_name(f"spoilt-{at}.mp4")
    other.write_bytes(data)
    return other


@pytest.mark.parametrize("at", [0.3, 0.5])
def test_damage_in_one_segment_is_that_of_a_single_pass(clip: Path, at: float) -> None:
    path = spoilt(clip, at=at)
    expected, damage = single_pass(path)
    assert damage is not None
    found = analyze_long(path, PLAIN, count=7)
    assert_same(found.stats, expected)
    assert found.notes[0].startswith(damage)
    assert "is not whole" in found.notes[-1]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_random_damage_is_that_of_a_single_pass(codec: str, tmp_path: Path) -> None:
    """Also where the decoder does not notice."""
    data = write(tmp_path / "whole.mp4", Clip(numbers=[i // 3 for i in range(120)], codec=codec)).read_bytes()
    random = np.random.default_rng(5)
    path = tmp_path / "damaged.mp4"
    for _ in range(15):
        bad = bytearray(data)
        start, length = int(random.integers(48, len(data) - 40)), int(random.choice([1, 4, 40]))
        bad[start : start + length] = random.bytes(length)
        path.write_bytes(bad)
        try:
            expected, damage = single_pass(path)
        except VideoError:
            continue
        found = analyze_long(path, PLAIN, count=4)
        assert_same(found.stats, expected)
        assert (damage is None) or found.notes[0].startswith(damage)


def test_first_segment_that_is_not_whole_stops_the_others(clip: Path) -> None:
    asked = []

    def counting(function: Any, shared: Any, items: Sequence[Any]) -> Generator[ItemResult[Any], None, None]:
        for done in in_process(function, shared, items):
            asked.append(done.number)
            yield done

    analyze_long(spoilt(clip, at=0.3), PLAIN, count=40, mapper=counting)
    assert 0 < len(asked) < 30


def test_merge_names_what_is_missing(clip: Path) -> None:
    known = inspect_video(clip, max_pixels=PLAIN.max_pixels)
    parts = [analyze_segment((known, "full"), segment) for segment in cut(known.metadata.index, 4)]
    assert len(merge(known, parts)) == 600
    with pytest.raises(VideoError, match=r"missing 150 frames, at 0:06, 0:06.04, .*, \.\.\., extra none"):
        merge(known, [parts[0], *parts[2:]])
    with pytest.raises(ValueError, match="increasing"):
        merge(known, [parts[0], parts[0], *parts[2:]])
    assert named(known.metadata.index.pts_N[[25, 50]], known.metadata.index) == "2 frames, at 0:01, 0:02"


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = long_clip(tmp_path / "a.mp4", num_frames=60)

    def mapper(change: Callable[[], object]) -> Any:
        def run(function: Any, shared: Any, items: Sequence[Any]) -> Generator[ItemResult[SegmentStats], None, None]:
            yield from in_process(function, shared, items)
            change()

        return run

    assert analyze_long(path, PLAIN, count=3, mapper=mapper(lambda: os.utime(path))).num_segments == 3
    with pytest.raises(ChangedFileError, match=r"still growing \(1 bytes more"):
        analyze_long(path, PLAIN, count=3, mapper=mapper(lambda: path.write_bytes(path.read_bytes() + b"\0")))


def test_a_worker_refuses_another_file(tmp_path: Path) -> None:
    path = long_clip(tmp_path / "a.mp4", num_frames=60)
    known = inspect_video(path, max_pixels=PLAIN.max_pixels)
    with open_known(known) as reader:
        assert len(list(reader.scan())) == 60
    moved = replace(known, file=replace(known.file, identity=(known.file.identity[0], 1, 2, known.file.identity[3], 5)))
    open_known(moved).close()  # elsewhere, only the size can tell
    path.write_bytes(path.read_bytes() + b"\0")
    for one, how in ((known, r"still growing \(1 bytes more"), (moved, "replaced by another file")):
        with pytest.raises(ChangedFileError, match=how):
            open_known(one)
