"""One pass over frames, and segments that add up to the whole bit for bit."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.errors import VideoError
from m3video.planning.analyze import analyze, concat
from m3video.planning.stats_file import load_stats, save_stats
from m3video.types import FLAG_BLACK, FLAG_CORRUPT, FLAG_FROZEN, FLAG_KEY
from tests.planning.frames import TIME_BASE, assert_equal, moving_square, noise, plain, scan_frame, stats_of, video

PICTURES = [moving_square(i) for i in range(30)] + [plain(0)] * 5 + [noise(i) for i in range(35)] + [noise(99)] * 6


@settings(deadline=None, max_examples=25)
@given(st.sets(st.integers(1, len(PICTURES) - 1), max_size=6))
def test_segments_add_up_to_the_whole(cuts: set[int]) -> None:
    frames = list(video(PICTURES))
    whole = analyze(iter(frames), time_base=TIME_BASE)
    edges = [0, *sorted(cuts), len(frames)]
    parts = [analyze(iter(frames[a:b]), time_base=TIME_BASE) for a, b in itertools.pairwise(edges)]
    assert_equal(concat(parts), whole)
    if len(parts) > 2:
        assert_equal(concat([concat(parts[:2]), *parts[2:]]), whole)
        assert_equal(concat([parts[0], concat(parts[1:])]), whole)


def test_flags_and_signals() -> None:
    stats = stats_of(PICTURES)
    assert ((stats.flags_N[30:35] & FLAG_BLACK) > 0).all()
    assert not (stats.flags_N[:30] & FLAG_BLACK).any()
    assert ((stats.flags_N[-5:] & FLAG_FROZEN) > 0).all()
    assert not (stats.flags_N[35:70] & FLAG_FROZEN).any()
    assert (stats.flags_N[::12] & FLAG_KEY).all()
    assert stats.change_N[0] == 0
    assert stats.change_N[30] > stats.change_N[1:30].max()
    assert stats.sharpness_N[40] > stats.sharpness_N[5] > stats.sharpness_N[32]
    assert stats.luma_N[32] < 5 < stats.luma_N[5]


def test_corrupt_frames_are_flagged() -> None:
    stats = analyze(iter([scan_frame(0, plain(50)), scan_frame(5, plain(50), corrupt=True)]), time_base=TIME_BASE)
    assert (stats.flags_N & FLAG_CORRUPT).tolist() == [0, FLAG_CORRUPT]


def test_progress_counts_frames() -> None:
    seen: list[int] = []
    analyze(video(PICTURES[:7]), time_base=TIME_BASE, on_frame=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("size", [(1, 1), (2, 144), (144, 3), (81, 144), (7, 5)])
def test_any_size(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, size)
    stats = analyze(iter([scan_frame(i, picture) for i in range(3)]), time_base=TIME_BASE)
    assert np.isfinite(stats.loss_NS).all()
    assert (np.diff(stats.loss_NS, axis=1) <= 1e-3).all()
    assert (stats.loss_NS[:, -1] == 0).all()


def test_no_frame_is_an_error() -> None:
    with pytest.raises(VideoError, match="no frame"):
        analyze(iter([]), time_base=TIME_BASE)


def test_parquet_round_trip(tmp_path: Path) -> None:
    stats = stats_of(PICTURES)
    save_stats(stats, {"path": "a.mp4"}, tmp_path / "s.parquet")
    loaded, info = load_stats(tmp_path / "s.parquet")
    assert_equal(loaded, stats)
    assert info == {"path": "a.mp4"}
    assert [p.name for p in tmp_path.iterdir()] == ["s.parquet"]


def test_stats_keep_their_clock(tmp_path: Path) -> None:
    """Through the file and through segments; files from before it was written count from pts 0."""
    import pyarrow.parquet as pq

    frames = list(video(PICTURES))
    whole = analyze(iter(frames), time_base=TIME_BASE, origin=(7, 5), until_pts=99_000)
    assert whole.times_N.tolist() == pytest.approx((whole.pts_N / 1000 - 1.4).tolist())
    parts = [
        analyze(iter(part), time_base=TIME_BASE, origin=(7, 5), until_pts=99_000) for part in (frames[:5], frames[5:])
    ]
    assert_equal(concat(parts), whole)
    with pytest.raises(ValueError, match="agree in origin"):
        concat([parts[0], analyze(iter(frames[5:]), time_base=TIME_BASE)])
    path = tmp_path / "s.parquet"
    save_stats(whole, {}, path)
    loaded, _ = load_stats(path)
    assert_equal(loaded, whole)
    table = pq.read_table(path)
    old = json.loads(table.schema.metadata[b"m3video"])
    del old["origin"], old["until_pts"]
    pq.write_table(table.replace_schema_metadata({b"m3video": json.dumps(old)}), path)
    loaded, _ = load_stats(path)
    assert_equal(loaded, replace(whole, origin=(0, 1), until_pts=None))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "text").write_text("no parquet")
    pq.write_table(pa.table({"pts": [1, 2]}), tmp_path / "other.parquet")
    for name in ("text", "other.parquet", "missing"):
        with pytest.raises(VideoError, match=name) as caught:
            load_stats(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(VideoError, match=r"folder\.parquet cannot be written: No such file or directory$"):
        save_stats(stats_of(PICTURES[:2]), {}, tmp_path / "no" / "folder.parquet")
