"""The first pass over a long video: what it sees is as in a pass over every frame, and it says what it did not see."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from m3video.config import Settings
from m3video.inference import closer_look, first_pass
from m3video.inference.first_pass import (
    EVERY_FRAME,
    Wish,
    analyze_once,
    analyze_video,
    closely_seen,
    scan_notes,
    unseen_ranges,
)
from m3video.inference.pipeline import plan_details
from m3video.inference.session import VideoSession
from m3video.planning import look
from m3video.planning.analyze import COLUMNS
from m3video.types import FLAG_FROZEN, FrameStats
from m3video.utils.cache import Cache
from m3video.video.reader import VideoReader, open_video
from tests.made_once import made_once
from tests.planning.frames import assert_equal
from tests.video.clips import add_stream

SECONDS, FPS, SIZE = 120, 10, (192, 108)
CAPTION = range(637, 642)
"""Half a second, far from a keyframe."""


def _written(folder: Path) -> Path:
    """Two minutes of a quiet picture that changes every 20 seconds, a keyframe every ten, and one caption."""
    import av

    from tests.video.clips import Clip, usual_scheduling

    path = folder / "long.mp4"
    options = {"x264-params": "keyint=100:min-keyint=100:scenecut=0:bframes=3", "crf": "23"}
    rng = np.random.default_rng(3)
    scenes = [cv2.resize(rng.integers(40, 200, (5, 8, 3), dtype=np.uint8), SIZE) for _ in range(6)]
    with usual_scheduling(), av.open(str(path), "w") as out:
        stream = add_stream(out, Clip(size=SIZE, rate=FPS, gop=100, codec_options=options))
        stream.time_base = stream.codec_context.time_base = Fraction(1, FPS)
        for row in range(SECONDS * FPS):
            picture = scenes[(row + 55) // 200 % 6].copy()
            if row in CAPTION:
                cv2.putText(picture, "NORTH GATE", (8, 96), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = row
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video that is long beside what `auto` calls short."""
    monkeypatch.setattr(look, "SHORT", 100)
    monkeypatch.setattr(look, "FETCHED", 8)
    return made_once("first pass", _written)


@pytest.fixture
def reader(path: Path) -> Iterator[VideoReader]:
    with open_video(path) as opened:
        yield opened


def rows_of(stats: FrameStats, reader: VideoReader) -> np.ndarray:
    return np.searchsorted(reader.index.pts_N, stats.pts_N)


def assert_same_pictures(stats: FrameStats, full: FrameStats, rows: np.ndarray) -> None:
    """Bit for bit; what compares with the frame before only where that was seen too."""
    next_to = stats.skipped_N == 0
    for name in COLUMNS:
        mine, theirs = getattr(stats, name), getattr(full, name)[rows]
        if name in ("change_N", "flags_N", "skipped_N"):
            mine, theirs = mine[next_to], theirs[next_to]
        assert np.array_equal(mine, theirs), name


def test_what_is_seen_is_as_in_a_pass_over_every_frame(reader: VideoReader) -> None:
    full, auto = analyze_video(reader, EVERY_FRAME), analyze_video(reader, Wish())
    assert full.mode == "full"
    assert len(full) == SECONDS * FPS
    assert auto.mode == "auto"
    assert len(auto) < len(full) / 2
    rows = rows_of(auto, reader)
    assert_same_pictures(auto, full, rows)
    assert np.array_equal(auto.skipped_N, np.diff(rows, prepend=-1) - 1)
    # Where frames were skipped nobody knows that the picture stood still.
    assert not (auto.flags_N[auto.skipped_N > 0] & FLAG_FROZEN).any()
    assert (full.flags_N & FLAG_FROZEN).any()


def test_a_caption_of_half_a_second_is_found_by_its_packets(reader: VideoReader) -> None:
    rows = rows_of(analyze_video(reader, Wish()), reader)
    assert set(rows.tolist()) & set(CAPTION)
    # Keyframes alone do not show it.
    assert not set(np.flatnonzero(reader.index.is_key_N).tolist()) & set(CAPTION)


@pytest.mark.parametrize("wish", [Wish(), EVERY_FRAME, Wish(at=(33.3,)), Wish(start=20.0, end=31.0)])
def test_the_number_of_threads_changes_nothing(
    reader: VideoReader, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_pass, "PIECE", 90)
    one, three, again = (analyze_video(reader, wish, threads=count) for count in (1, 3, 3))
    assert_equal(one, three)
    assert_equal(three, again)


def test_a_moment_that_is_named_is_planned_as_after_a_full_scan(reader: VideoReader) -> None:
    for at in ("0:33.3", "1:04", "1:59.9"):
        quick, full = (
            plan_details(reader, Settings(at=at, scan=scan, model="rendered"), cache=None) for scan in ("auto", "full")
        )
        assert quick.plan.scan == "auto"
        pinned = [[details.selection.pts_N[row] for row in details.pinned] for details in (quick, full)]
        assert pinned[0] == pinned[1]
        rows = rows_of(quick.stats, reader)
        near = abs(rows - np.searchsorted(reader.index.pts_N, pinned[0][0])) < 5
        assert (quick.stats.skipped_N[near] == 0).all()


def test_a_short_range_is_read_whole(reader: VideoReader) -> None:
    stats = analyze_video(reader, Wish(start=25.0, end=29.9))
    # From the keyframe before it.
    assert rows_of(stats, reader).tolist() == list(range(200, 299))
    full = plan_details(reader, Settings(start=25.0, end=29.9, scan="full", model="rendered"))
    auto = plan_details(reader, Settings(start=25.0, end=29.9, model="rendered"))
    assert auto.plan.frames == full.plan.frames


def test_it_says_what_it_did_not_see(reader: VideoReader) -> None:
    stats = analyze_video(reader, Wish())
    share, longest = closely_seen(reader.info, stats)
    assert 0 < share < 0.5
    assert longest == pytest.approx(10, abs=0.2)
    (note,) = scan_notes(reader, stats, scan="auto")
    assert f"{len(stats)} of 1200 frames" in note
    assert "at most 0:10" in note
    assert scan_notes(reader, analyze_video(reader), scan="full") == ()
    assert closely_seen(reader.info, analyze_video(reader)) == (1.0, 0.0)


def test_what_was_not_seen_are_ranges_that_make_up_the_rest(reader: VideoReader) -> None:
    stats = analyze_video(reader, Wish())
    ranges = unseen_ranges(reader.info, stats)
    assert all(start < end for start, end in ranges)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))
    share, _ = closely_seen(reader.info, stats)
    assert sum(end - start for start, end in ranges) == pytest.approx((1 - share) * reader.info.duration_seconds)
    assert unseen_ranges(reader.info, analyze_video(reader)) == []


def test_a_short_video_is_read_whole(reader: VideoReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "SHORT", 1200)
    stats = analyze_video(reader, Wish())
    assert stats.mode == "full"
    assert_equal(stats, analyze_video(reader, EVERY_FRAME))


def test_a_stretch_that_does_not_decode_as_promised_makes_it_read_everything(
    reader: VideoReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(reader).look

    def without_one(self: VideoReader, stretches: Any, *, threads: int = 1) -> Iterator[Any]:
        for number, frames in enumerate(real(self, stretches, threads=threads)):
            yield [] if number == 3 else frames

    monkeypatch.setattr(type(reader), "look", without_one)
    stats = analyze_video(reader, Wish())
    assert stats.mode == "full"
    (note,) = scan_notes(reader, stats, scan="auto")
    assert note == "scan auto: every frame was read, because its frames do not come out as its packets promise"


def test_damage_in_a_stretch_makes_it_read_everything(path: Path, tmp_path: Path) -> None:
    """Packets of the stretch with the caption are overwritten: what can be decoded of it is not all that is due."""
    import av

    broken = tmp_path / "broken.mp4"
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        tick = packets[0].duration
        hit = [packet for packet in packets if 605 <= packet.pts // tick < 640]
    for packet in hit:
        start = packet.pos + 5  # after the length and the header of the first NAL unit
        data[start : packet.pos + packet.size] = b"\x55" * (packet.size - 5)
    broken.write_bytes(data)
    with open_video(path) as reader:
        assert any(600 < row < 640 for row in rows_of(analyze_video(reader, Wish()), reader))
    with open_video(broken) as reader:
        stats = analyze_video(reader, Wish())
        assert stats.mode == "full"
        assert reader.damage.is_partial
        assert scan_notes(reader, stats, scan="auto") == ("scan auto: every frame was read, because it is damaged",)


def test_each_wish_has_an_entry_of_its_own_in_the_cache(reader: VideoReader, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**9)
    stats, is_cached = analyze_once(reader, Wish(), cache=cache)
    assert not is_cached
    again, is_cached = analyze_once(reader, Wish(), cache=cache)
    assert is_cached
    assert_equal(stats, again)
    named, is_cached = analyze_once(reader, Wish(at=(33.3,)), cache=cache)
    assert not is_cached
    assert len(named) > len(stats)
    full, is_cached = analyze_once(reader, EVERY_FRAME, cache=cache)
    assert not is_cached
    assert full.mode == "full"


def test_a_question_that_names_a_time_looks_closely_there(path: Path) -> None:
    with VideoSession(path, Settings(model="rendered", saliency="times", cache=False)) as session:
        plan = session.plan_for("what is shown at 1:04?")
        assert plan.scan == "auto"
        shown = [session.info.pts_seconds(frame.pts) for frame in plan.frames]
        assert any(64 <= time < 65 for time in shown)


def test_a_limit_to_the_frames_is_kept_and_belongs_to_the_plan(reader: VideoReader) -> None:
    free = analyze_video(reader, Wish())
    few = plan_details(reader, Settings(scan_frames=40, model="rendered"))
    assert len(few.stats) < len(free)
    assert len(few.stats) <= 40
    assert few.plan.config["scan_frames"] == 40
    assert Wish.of(few.settings).key != Wish().key


def test_seconds_become_frames_once(reader: VideoReader, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5])
    monkeypatch.setattr(first_pass.time, "perf_counter", lambda: next(clock))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    settings = first_pass.with_scan_frames(Settings(scan_seconds=0.25), reader)
    # 60 frames in half a second and thread.
    assert (settings.scan_frames, settings.scan_seconds) == (60, None)
    assert first_pass.with_scan_frames(settings, reader) == settings


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"scan": "full", "scan_frames": 5}, "--scan-frames limits --scan auto: leave it out with --scan full"),
        ({"scan_seconds": 1, "scan_frames": 5}, "--scan-frames and --scan-seconds contradict each other"),
    ],
)
def test_limits_that_mean_nothing_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Settings(**values)


def test_settings_of_other_scans_wish_for_nothing_else() -> None:
    assert Wish.of(Settings(scan="keyframes", start=3.0)) == Wish("keyframes")
    assert Wish.of(Settings(start=3.0, at="0:07, 0:05")) == Wish("auto", 3.0, None, (5.0, 7.0))
    assert replace(Wish(), at=(1.0,)).key == (1, None, None, None, 1.0)


def test_a_session_goes_on_looking_and_plans_with_it_when_it_is_told_to(
    path: Path, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look sees keyframes only, and so no caption; the closer one reads the whole video."""
    monkeypatch.setattr(look, "FETCHED", 2)
    monkeypatch.setattr(closer_look, "EFFORT", 10**6)
    settings = Settings(model="rendered", cache=False, budget=720)
    with VideoSession(path, settings, loaded=loaded) as session:
        assert not session.refresh()
        first = session.ask("what is shown?")
        assert first.plan.scan == "auto"
        assert session._closer is not None
        session._closer.wait(60)
        second = session.ask("what is shown?")
        assert second.plan.frames == first.plan.frames
        assert second.reused_tokens > 0
        assert any("/refresh" in warning for warning in second.warnings)
        assert session.refresh()
        assert not session.refresh()
        third = session.ask("what does the text say?")
        assert not any("/refresh" in warning for warning in third.warnings)
    pts = [int(value) for value in session._planner.details().selection.pts_N]
    rows = {row // 1024 for row in pts}
    assert third.plan.num_analyzed == SECONDS * FPS
    assert rows & set(CAPTION)


def test_a_closer_look_ends_with_its_session(path: Path, loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "FETCHED", 2)
    with VideoSession(path, Settings(model="rendered", cache=False), loaded=loaded) as session:
        session.ask("what is shown?")
        closer = session._closer
    assert closer is not None
    assert not closer._thread.is_alive()


def test_one_question_alone_does_not_go_on_looking(path: Path, loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from m3video.inference import session

    monkeypatch.setattr(session, "CloserLook", lambda *args: pytest.fail("it went on"))
    session.ask(path, "what is shown?", Settings(model="rendered", cache=False), loaded=loaded)
