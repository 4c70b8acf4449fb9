"""Rows become examples: every scale, the planner's mix, true times, and what cannot be used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from m3video.errors import UsageError
from m3video.training.conversations import Conversation
from m3video.training.examples import Example, ExampleLoader
from m3video.types import SCALES
from tests.training.tuning import example, load, recipe_of, video_row
from tests.video.clips import Clip, write


def test_a_video_is_shown_at_every_scale_and_as_the_planner_shows_it(base: Path, data: Path, tmp_path: Path) -> None:
    loader = ExampleLoader(load(base), recipe_of(base, data), tmp_path)
    mixed, budgets = set(), set()
    for step in range(12):
        made = example(loader, video_row(data), step)
        assert [one.name for one in made.passes] == ["1", "9", "36", "144", "576", "mixed"]
        assert [len(one.shown) for one in made.passes[:5]] == [3, 3, 3, 3, 1]
        assert [set(one.scales) for one in made.passes[:5]] == [{scale} for scale in SCALES]
        plan = made.passes[5]
        assert sum(plan.scales) <= 600
        assert list(plan.shown) == sorted(set(plan.shown))
        mixed.add(len(set(plan.scales)) > 1)
        budgets.add(sum(plan.scales))
    assert True in mixed
    assert len(budgets) > 1
    again = ExampleLoader(load(base), recipe_of(base, data), tmp_path)
    assert [one.scales for one in example(again, video_row(data), 11).passes] == [one.scales for one in made.passes]


def test_threads_share_a_video(base: Path, data: Path, tmp_path: Path) -> None:
    loader = ExampleLoader(load(base), recipe_of(base, data), tmp_path)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda step: loader(video_row(data), step), range(8)))
    assert all(isinstance(one, Example) for one in made), made
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_a_full_disk_is_no_fault_of_the_video(base: Path, data: Path, tmp_path: Path) -> None:
    loader = ExampleLoader(load(base), recipe_of(base, data), tmp_path / "stats")
    (tmp_path / "stats").rmdir()
    with pytest.raises(UsageError, match="cannot be written"):
        loader(video_row(data), 0)


def test_a_damaged_video_is_used_and_named(base: Path, data: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "d.mp4", Clip(numbers=list(range(60)), gop=5, b_frames=0))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\x55" * 400
    path.write_bytes(content)
    made = ExampleLoader(load(base), recipe_of(base, data), tmp_path)(
        Conversation("d", (("what", "it"),), video=path), 0
    )
    assert isinstance(made, Example), made
    assert made.note is not None
    assert "damaged" in made.note


def test_a_video_carries_its_true_times(base: Path, data: Path, tmp_path: Path) -> None:
    loader = ExampleLoader(load(base), recipe_of(base, data), tmp_path)
    made = example(loader, video_row(data)).passes[0]
    words = loader.loaded.codec.decode([token for token in made.labelled.ids if token >= 0])
    assert [word for word in words.split() if ":" in word] == ["0:00", "0:01", "0:02"]
    plain = ExampleLoader(load(base), recipe_of(base, data, timestamps=False), tmp_path)
    ids = example(plain, video_row(data)).passes[0].labelled.ids
    assert ":" not in plain.loaded.codec.decode([token for token in ids if token >= 0])


def test_several_pictures_are_shown_at_mixed_scales_too(base: Path, data: Path, tmp_path: Path) -> None:
    row = Conversation("s", (("<image> <image> what is it", "red"),), images=(data / "red.png", data / "blue.png"))
    loader = ExampleLoader(load(base), recipe_of(base, data), tmp_path)
    drawn = {example(loader, row, step).passes[-1].scales for step in range(8)}
    assert all(len(scales) == 2 for scales in drawn)
    assert any(len(set(scales)) == 2 for scales in drawn)
