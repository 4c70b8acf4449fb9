"""Rendered clips as a benchmark: the same from a seed, true at the moment they name, cached whole."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m3video.evaluation.footage_set import (
    EDGE_SECONDS,
    FAMILY_GROUPS,
    ClipRecipe,
    FootageSpec,
    choose_questions,
    describe_groups,
    footage_key,
    group_of,
    make_clip_recipe,
    make_footage_records,
    render_footage_clip,
)
from m3video.evaluation.records import GROUPS, Record
from m3video.training.footage import FADE_SECONDS
from m3video.training.questions import FAMILIES
from m3video.utils.clock import whole_clock
from m3video.video.reader import open_video, probe

TINY = FootageSpec(seed=5, clips=2, questions=8, lengths=((3, 4, 6),))


def asked(seed: int, index: int, number: int = 40) -> tuple[ClipRecipe, list[Record]]:
    recipe = make_clip_recipe(FootageSpec(seed=seed), index)
    return recipe, choose_questions(recipe, video="v.mp4", rng=random.Random(f"{seed} {index}"), number=number)


MANY = [asked(seed, index) for seed in (1, 2) for index in range(9)]


def test_every_family_of_training_has_a_group() -> None:
    assert {name for name in FAMILIES if group_of(name) not in GROUPS} == set()
    assert set(FAMILY_GROUPS.values()) == set(GROUPS)
    with pytest.raises(KeyError):
        group_of("smell")


def test_detail_decides_the_group() -> None:
    assert [group_of(f) for f in ("tile 3x3", "tile 6x6", "row 12x12", "row table", "entry", "sign word")] == [
        "medium",
        "fine",
        "fine",
        "fine",
        "fine",
        "fine",
    ]


def test_answers_are_true_at_the_moment_they_name() -> None:
    checked = 0
    for recipe, records in MANY:
        for r in (r for r in records if r.localised):
            assert r.moment is not None
            facts = recipe.clip.facts(r.moment)
            truth = {
                "background": [facts.background],
                "light": ["night" if facts.night else "day"],
                "count": [("none", "one", "two", "three")[len(facts.shapes)]],
                "place": [s.place for s in facts.shapes if s.clear],
                "shape kind": [s.kind for s in facts.shapes],
                "sign word": [facts.sign],
                "sign number": [facts.sign],
            }.get(r.family.removesuffix(" one").removesuffix(" several"))
            if truth is not None:
                assert r.answer in truth, (r, facts)
                checked += 1
            if r.family.startswith("tile ") or r.family == "entry":
                lines = facts.table if r.family == "entry" else facts.board
                assert lines is not None
                row, column = (int(word) for word in r.question.split() if word.isdigit())
                assert lines[row - 1][column - 1] == r.answer
                assert r.family in ("entry", f"tile {len(lines)}x{len(lines)}")
                checked += 1
            if r.family.startswith("row "):
                (row,) = (int(word) for word in r.question.split() if word.isdigit())
                assert facts.table is not None or facts.board is not None
                line = facts.table[row - 1] if facts.table else " ".join(facts.board[row - 1] if facts.board else ())
                assert line == r.answer
                assert (r.family == "row table") == (facts.table is not None)
                checked += 1
    assert checked > 250
    families = {r.family for _, records in MANY for r in records}
    assert {"entry", "row table", "first", "when", "place one", "place several"} <= families


def test_moments_keep_away_from_cuts_and_fades() -> None:
    for recipe, records in MANY:
        ends, total = [], 0.0
        for length in recipe.clip.seconds:
            total += length
            ends.append(total)
        for r in (r for r in records if r.moment is not None and r.evidence is not None):
            assert r.evidence[0] + EDGE_SECONDS - 1e-9 <= r.moment <= r.evidence[1] - EDGE_SECONDS + 1e-9
            assert r.reference == f"at {whole_clock(r.moment)}"
            for end, fades in zip(ends[:-1], recipe.clip.fades, strict=False):
                assert not (fades and end - FADE_SECONDS < r.moment < end)


def shots_with(recipe: ClipRecipe, noun: str) -> list[int]:
    """The numbers of the shots that show a thing: "a sign", "a red circle"."""
    return [
        number
        for number, shot in enumerate(recipe.clip.shots)
        if {"a sign": shot.sign, "a board": shot.board, "a table": shot.table, "a page of text": shot.page}.get(noun)
        or any(f"a {s.colour} {s.kind}" == noun for s in shot.shapes)
    ]


def test_when_is_the_first_shot_that_shows_it() -> None:
    seen = 0
    for recipe, records in MANY:
        for r in (r for r in records if r.family == "when"):
            assert r.evidence is not None
            assert not r.localised
            noun = r.question.removeprefix("when does ").removesuffix(" first appear")
            first = sum(recipe.clip.seconds[: shots_with(recipe, noun)[0]])
            assert r.evidence[0] <= first <= r.evidence[1]
            assert r.answer == whole_clock(first)
            seen += 1
    assert seen > 10


def test_first_is_the_thing_whose_first_shot_is_earlier() -> None:
    seen = 0
    for recipe, records in MANY:
        for r in (r for r in records if r.family == "first"):
            assert not r.localised
            assert r.metric == "exact"
            nouns = r.question.split(" first ")[1].split(" or ")
            began = {noun: shots_with(recipe, noun)[0] for noun in nouns}
            assert began[r.answer] == min(began.values())
            assert len(set(began.values())) == 2
            seen += 1
    assert seen > 10


def test_every_clip_can_be_asked_something_fine_and_lengths_differ() -> None:
    assert all(any(r.group == "fine" for r in records) for _, records in MANY)
    lengths = [recipe.clip.duration for recipe, _ in MANY]
    assert min(lengths) < 12
    assert max(lengths) > 60
    assert len({recipe.crf for recipe, _ in MANY}) > 5
    assert any(length < 1 for recipe, _ in MANY for length in recipe.clip.seconds), "no brief shot anywhere"
    assert all(shot.held_out for recipe, _ in MANY for shot in recipe.clip.shots)


def test_questions_are_spread_over_groups_and_differ() -> None:
    for _, records in (asked(3, index, 9) for index in range(6)):
        counts = [sum(r.group == group for r in records) for group in GROUPS]
        assert min(counts) >= 1
        assert len({(r.question, r.answer) for r in records}) == len(records)
        assert len({r.id for r in records}) == len(records)


def test_the_seed_decides_and_the_number_of_clips_does_not() -> None:
    assert asked(1, 4) == asked(1, 4)
    assert make_clip_recipe(FootageSpec(seed=1, clips=5), 3) == make_clip_recipe(FootageSpec(seed=1, clips=50), 3)
    assert make_clip_recipe(FootageSpec(seed=1), 3) != make_clip_recipe(FootageSpec(seed=2), 3)


def test_the_key_changes_with_everything_that_changes_the_file() -> None:
    one = make_clip_recipe(TINY, 0)
    others = [
        ClipRecipe("x", one.clip, one.fps, one.crf),
        ClipRecipe(one.name, one.clip, one.fps + 1, one.crf),
        ClipRecipe(one.name, one.clip, one.fps, one.crf + 1),
        make_clip_recipe(TINY, 1),
    ]
    keys = [footage_key(recipe) for recipe in (one, *others)]
    assert keys[0] == keys[1], "the name is not content"
    assert len(set(keys)) == 4


def test_clips_are_rendered_once_whole_and_alike(tmp_path: Path) -> None:
    records = make_footage_records(TINY, folder=tmp_path / "a")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    assert len(files) == 2
    assert make_footage_records(TINY, folder=tmp_path / "a") == records
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()} == files
    again = make_footage_records(TINY, folder=tmp_path / "b")
    assert [replace(r, video="") for r in again] == [replace(r, video="") for r in records]
    for path in files:
        with open_video(path) as one, open_video(tmp_path / "b" / path.name) as two:
            pairs = zip(one.frames(), two.frames(), strict=True)
            apart = [np.abs(a.rgb_HW3.astype(int) - b.rgb_HW3).mean() for a, b in pairs]
        assert max(apart) < 1.5, "more than x264's own wavering"
    info = probe(records[0].video)
    assert info.codec == "h264"
    assert abs(info.duration_seconds - make_clip_recipe(TINY, 0).clip.duration) < 0.4
    assert describe_groups(records).startswith(f"{len(records)} questions (")


def test_an_interrupted_rendering_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("m3video.evaluation.footage_set.encode_h264", stop)
    with pytest.raises(KeyboardInterrupt):
        render_footage_clip(make_clip_recipe(TINY, 0), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_holds_as_long_as_its_shot() -> None:
    many = [asked(seed, index, 60) for seed in range(3, 11) for index in range(9)]
    places = [(recipe, r) for recipe, records in many for r in records if r.family in ("place one", "place several")]
    assert len(places) > 40
    for recipe, r in places:
        assert r.evidence is not None
        for time in np.linspace(r.evidence[0] + 0.01, r.evidence[1] - 0.01, 7):
            shapes = recipe.clip.facts(float(time)).shapes
            named = [s for s in shapes if s.colour in r.question.split()] or shapes
            assert [s.place for s in named] == [r.answer], (r, time)
