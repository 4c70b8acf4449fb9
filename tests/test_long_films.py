"""Rendered footage with events: they are where their file says, joins keep times and frames, seeds reproduce."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from m3video.video.reader import open_video
from tests.paths import SCRIPTS

SIZE, FPS, SECONDS = (160, 90), 10, 16.0
PER_MINUTE = {"caption": 4.0, "slide": 4.0, "person": 4.0}
FAMILIES = ("film", "talk", "slides", "cctv", "sport", "credits")


@pytest.fixture(scope="module")
def films() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("long_films")


@pytest.fixture(scope="module")
def units(films: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("units")
    return [
        films.render_unit(folder / f"{family}.mp4", family, seed=seed, **about())
        for seed, family in enumerate(("film", "talk", "slides"))
    ]


def about() -> dict[str, Any]:
    return {"seconds": SECONDS, "size": SIZE, "fps": FPS, "per_minute": PER_MINUTE}


def decoded(path: Path) -> list[Any]:
    """Luma of every frame."""
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [frame.to_ndarray(format="yuv420p")[: SIZE[1]].astype(np.int16) for frame in frames]


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_differ_by_an_event_only_while_it_lasts(films: Any, family: str) -> None:
    plan = films.script(family, seed=5, **about())
    assert sorted(event.kind for event in plan.events if event.kind != "walker") == ["caption", "person", "slide"]
    pairs = zip(films.pictures(plan), films.pictures(plan, with_events=False), strict=True)
    differ = [number for number, (one, other) in enumerate(pairs) if not np.array_equal(one, other)]
    there = [range(event.first, event.until) for event in plan.events if event.kind != "walker"]
    assert differ == sorted(number for rows in there for number in rows)
    for event in plan.events:
        assert (event.start, event.end) == (event.first / FPS, event.until / FPS)
        if event.kind != "walker":
            assert event.until - event.first == round(films.EVENT_SECONDS[event.kind] * FPS)
    assert all(b.first - a.until >= FPS for a, b in pairwise(e for e in plan.events if e.kind != "walker"))


def test_a_file_shows_each_picture_at_its_time(films: Any, units: list[Any]) -> None:
    for seed, unit in enumerate(units):
        plan = films.script(unit.path.stem, unit=unit.path.stem, seed=seed, **about())
        assert unit.events == plan.events
        drawn = [planes[: SIZE[1]].astype(np.int16) for planes in films.pictures(plan)]
        shown = decoded(unit.path)
        assert len(shown) == len(drawn) == unit.frames == SECONDS * FPS
        off = [float(np.abs(one - other).mean()) for one, other in zip(shown, drawn, strict=True)]
        assert max(off) < 8
        with open_video(unit.path) as reader:
            assert [reader.index.pts_seconds(int(pts)) for pts in reader.index.pts_N] == pytest.approx(
                [number / FPS for number in range(unit.frames)]
            )


def test_a_join_keeps_frames_and_times(films: Any, units: list[Any], tmp_path: Path) -> None:
    order = films.shuffled(len(units), 7, seed=1)
    assert sorted(order)[:6] == [0, 0, 0, 1, 1, 2] or {order.count(number) for number in range(3)} == {2, 3}
    assert all(a != b for a, b in pairwise(order))
    long = films.join([unit.path for unit in units], order, tmp_path / "long.mp4")
    assert films.check(long) == []
    assert films.Film.load(long.path) == long
    parts = [decoded(unit.path) for unit in units]
    whole = decoded(long.path)
    assert long.frames == len(whole) == sum(units[number].frames for number in order)
    for one, other in zip(whole, [frame for number in order for frame in parts[number]], strict=True):
        assert np.array_equal(one, other)
    assert len(long.events) == sum(len(units[number].events) for number in order)
    assert (long.scenes[0].first, long.scenes[-1].until) == (0, long.frames)
    assert all(a.until == b.first for a, b in pairwise(long.scenes))
    with open_video(long.path) as reader:
        index = reader.index
        assert index.is_regular
        for event in long.events:
            assert index.pts_seconds(int(index.pts_N[event.first])) == pytest.approx(event.start)


def test_a_file_that_is_not_as_described_is_found_out(films: Any, units: list[Any], tmp_path: Path) -> None:
    long = films.join([unit.path for unit in units], [0, 1, 2, 0], tmp_path / "long.mp4")
    late = films.Film(long.path, long.frames, long.fps, tuple(e.shifted(9, FPS) for e in long.events), long.scenes)
    assert films.check(late)
    assert films.check(films.Film(long.path, long.frames + 1, long.fps, long.events, long.scenes)) == [
        f"it has {long.frames} frames, not {long.frames + 1}"
    ]


def test_seeds_reproduce(films: Any, units: list[Any], tmp_path: Path) -> None:
    again = films.render_unit(tmp_path / "film.mp4", "film", seed=0, **about())
    other = films.render_unit(tmp_path / "other.mp4", "film", seed=7, **about())
    assert again.path.read_bytes() == units[0].path.read_bytes() != other.path.read_bytes()
    assert (again.events, again.scenes) == (units[0].events, units[0].scenes)
    assert films.shuffled(10, 60, seed=3) == films.shuffled(10, 60, seed=3) != films.shuffled(10, 60, seed=4)


@pytest.mark.parametrize(("gop", "every"), [("intra", 1), ("10s", 100)])
def test_keyframes_come_as_asked(films: Any, tmp_path: Path, gop: str, every: int) -> None:
    unit = films.render_unit(tmp_path / "unit.mp4", "film", **(about() | {"seconds": 25, "gop": gop}))
    with open_video(unit.path) as reader:
        assert np.flatnonzero(reader.index.is_key_N).tolist() == list(range(0, 250, every))


def test_other_keyframes_are_for_h264_only(films: Any) -> None:
    with pytest.raises(ValueError, match=r"gop \(10s\) must be usual with codec hevc"):
        films.encoder("hevc", "10s", FPS)


@pytest.mark.parametrize(("codec", "suffix"), [("hevc", ".mp4"), ("vp9", ".webm"), ("av1", ".mp4")])
def test_other_codecs_join_too(films: Any, tmp_path: Path, codec: str, suffix: str) -> None:
    if films.CODECS[codec][0] not in av.codec.codecs_available:
        pytest.skip(f"this PyAV has no {films.CODECS[codec][0]}")
    how = about() | {"seconds": 12, "codec": codec}
    two = [films.render_unit(tmp_path / f"{seed}{suffix}", "talk", seed=seed, **how) for seed in range(2)]
    long = films.join([unit.path for unit in two], [1, 0, 1], tmp_path / f"long{suffix}")
    assert films.check(long) == []


def test_somebody_keeps_their_colours_from_pose_to_pose(films: Any) -> None:
    poses = films.figures(np.random.default_rng(0), 60, (-1, 0, 1))
    palettes = [{tuple(colour) for colour in picture[mask > 0].tolist()} for picture, mask in poses]
    assert palettes[0] == palettes[1] == palettes[2]
    assert len(palettes[0]) == 3
