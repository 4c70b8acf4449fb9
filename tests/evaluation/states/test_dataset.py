"""Clips of lasting states: true of the pictures, the same from a seed; plans held against them by a written rule."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m3video.evaluation.states import clips
from m3video.evaluation.states.clips import CLIP_KINDS, StatesClip, draw_clip, render_states_clip
from m3video.evaluation.states.dataset import (
    ADAPTIVE,
    BUDGETS,
    StatesRow,
    best_uniform,
    budgets_of,
    score_clip,
)
from m3video.evaluation.states.decks import MAKERS, Style
from m3video.evaluation.states.draw import FACES, LEAST_LETTER, Film, Picture, plain_picture, random_cap, write_text
from m3video.evaluation.states.scenes import noise
from m3video.evaluation.states.truth import Score, State, Truth, score, truth_from
from m3video.model.m3.square import as_square
from m3video.video.reader import open_video
from tests.paths import ROOT

SCRIPT = ROOT / "scripts" / "eval_states.py"

STILL = ("deck line", "deck words", "deck photos", "deck builds", "deck fades", "screen", "guard 6", "sport")
"""A kind for each way to draw; without what lies over the pictures nothing moves in them, but where a film says so."""


@functools.cache
def film_of(kind: str) -> Film:
    return draw_clip(kind, seed=3, index=0)


def without_overlays(film: Film, numbers: set[int]) -> dict[int, Picture]:
    """Frames as they are without clocks, pointers, leaves and noise."""
    found, number = {}, 0
    for count, content in film.pieces:
        for wanted in numbers & set(range(number, number + count)):
            found[wanted] = content(wanted) if callable(content) else content
        number += count
    return found


def boxed(film: Film, state: State, picture: Picture) -> Picture:
    left, top, width, height = (round(v * side) for v, side in zip(state.box, film.size * 2, strict=True))
    return picture[top : top + height, left : left + width]


def ends(film: Film, state: State) -> list[int]:
    """The first and the last frame of every span."""
    return [round(second * film.fps) - back for span in state.spans for second, back in zip(span, (0, 1), strict=True)]


# The pictures.


@pytest.mark.parametrize("kind", CLIP_KINDS)
def test_truth_keeps_its_own_rules(kind: str) -> None:
    film = film_of(kind)
    truth = film.truth(kind)
    assert 60 <= truth.seconds <= 245
    assert truth.distinct
    assert all(state.spans for state in truth.states)
    spans = sorted(span for state in truth.states for span in state.spans)
    assert all(0 <= start < end <= truth.seconds + 1e-6 for start, end in spans)
    assert all(before[1] <= after[0] + 1e-6 for before, after in itertools.pairwise(spans))
    assert all(state.letter is None or state.letter >= 7 for state in truth.states)
    assert all((state.letter is None) != (state.thing is None) for state in truth.states)
    for number, state in enumerate(truth.states):
        if state.contained_in is not None:
            assert truth.root(number) != number
            assert truth.states[truth.root(number)].spans[-1][1] > state.spans[0][1], "what contains it comes later"


@pytest.mark.parametrize("kind", STILL)
def test_a_state_stands_from_its_first_to_its_last_frame_and_differs_from_all_others(kind: str) -> None:
    film = film_of(kind)
    frames = {number: ends(film, state) for number, state in enumerate(film.states)}
    before = {first - 1 for places in frames.values() for first in places[::2] if first}
    pictures = without_overlays(film, {n for places in frames.values() for n in places} | before)
    sway = 6.0 if kind.startswith("guard") else 0.0
    for number, state in enumerate(film.states):
        own = [boxed(film, state, pictures[n]).astype(np.int16) for n in frames[number]]
        # While a line is typed, the state is still that of the line before, to be read to its end.
        typed = kind == "screen" and state.contained_in is not None
        for later in () if typed else own[1:]:
            assert np.abs(later - own[0]).mean() <= sway, f"state {number} changes"
        for other, places in frames.items():
            there = boxed(film, state, pictures[places[0]])
            assert other == number or not np.array_equal(own[0], there), f"states {number} and {other} look alike"
        for first in frames[number][::2]:
            assert first == 0 or not np.array_equal(boxed(film, state, pictures[first - 1]), own[0]), "it began before"


def test_a_step_of_a_build_holds_all_ink_of_the_step_before() -> None:
    film = film_of("deck builds")
    pictures = without_overlays(film, {ends(film, state)[0] for state in film.states})
    steps = [(n, s.contained_in) for n, s in enumerate(film.states) if s.contained_in is not None]
    assert len(steps) > 10
    for inner, outer in steps:
        old, new = (pictures[ends(film, film.states[n])[0]].astype(np.int16) for n in (inner, outer))
        inked = np.abs(old - old[0, 0]).sum(axis=2) > 60
        assert np.array_equal(old[inked], new[inked])
        assert (np.abs(new - new[0, 0]).sum(axis=2) > 60).sum() > inked.sum()


def test_slides_come_back_and_captions_change_under_one_photograph() -> None:
    assert any(len(state.spans) > 1 for kind in STILL for state in film_of(kind).states)
    film = film_of("deck photos")
    pictures = without_overlays(film, {ends(film, state)[0] for state in film.states})
    tops = [pictures[ends(film, state)[0]][: film.size[1] // 2].tobytes() for state in film.states]
    assert len(set(tops)) < len(tops), "some photograph has two captions"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (720, 1280)])
def test_letters_are_as_high_as_claimed_in_the_input_of_the_tower(size: tuple[int, int], face: str) -> None:
    rng = random.Random(f"{size} {face}")
    for _ in range(4):
        film, cap = Film(size, 5), random_cap(rng, size, high=20)
        page = plain_picture(size, (255, 255, 255))
        write_text(page, "HEHE", left=size[0] * 0.5, base=size[1] * 0.6, cap=cap, colour=(0, 0, 0), face=face)
        claimed = film.states[film.state(cap=cap)].letter
        assert claimed is not None
        assert claimed >= LEAST_LETTER
        seen = as_square(page).astype(np.float64)[:, 76:260, 0]
        paper = seen.max(axis=1, keepdims=True)
        # Rows that a letter covers in part count in part; borders have no ink.
        ink = ((paper - seen) / paper.max()).max(axis=1)
        assert ink.sum() / ink.max() == pytest.approx(claimed, rel=0.1)


def test_the_line_of_a_lecture_changes_in_its_numbers_only() -> None:
    style = Style((1280, 720), (255, 255, 255), (0, 0, 0), (9, 9, 9), "sans", 30)
    (one, cap), (two, _) = (MAKERS["line"](random.Random(0), style, n)[0] for n in (7, 8))
    rows, columns = (np.flatnonzero((one != two).any(axis=(2, axis))) for axis in (1, 0))
    assert cap == 30
    assert len(rows) < 2 * cap
    assert columns[0] > style.margin + 5 * cap, "the words before the number stay"


@pytest.mark.parametrize("sigma", [2.0, 12.0])
def test_noise_is_as_strong_as_claimed_and_new_in_each_frame(sigma: float) -> None:
    paint = noise(random.Random(1), (320, 240), sigma=sigma)
    frames = []
    for number in (0, 1, 0):
        frames.append(plain_picture((320, 240), (128, 128, 128)))
        paint(frames[-1], number)
    assert np.array_equal(frames[0], frames[2])
    assert (frames[0].astype(float) - 128).std() == pytest.approx(sigma, rel=0.05)
    assert (frames[0].astype(float) - frames[1]).std() == pytest.approx(sigma * 2**0.5, rel=0.05)


@pytest.mark.parametrize("kind", ["deck dark", "screen", "guard 12", "ticker"])
def test_the_same_seed_gives_the_same_clip(kind: str) -> None:
    random.seed(5)
    held = random.getstate()
    films = [draw_clip(kind, seed=4, index=index) for index in (0, 0, 1)]
    assert random.getstate() == held, "no global state"
    assert films[0].truth(kind) == films[1].truth(kind)
    assert films[0].truth(kind) != films[2].truth(kind)
    frames = [[p for p, _ in zip(film.pictures(), range(12), strict=False)] for film in films]
    assert all(np.array_equal(a, b) for a, b in zip(frames[0], frames[1], strict=True))


# The rules.


@pytest.mark.parametrize(
    ("letter", "scale"), [(6.9, 576), (7, 576), (13.9, 576), (14, 144), (27.9, 144), (28, 36), (56, 9), (168, 1)]
)
def test_letters_need_half_a_token(letter: float, scale: int) -> None:
    assert State((), letter).needed == scale


@pytest.mark.parametrize(("thing", "scale"), [(14, 576), (27.9, 576), (28, 144), (56, 36), (112, 9), (336, 9)])
def test_things_need_a_token(thing: float, scale: int) -> None:
    assert State((), None, thing).needed == scale


def made(*, is_moving: bool = False) -> Truth:
    """0-10 s: a line at 576. 11-20 s: a step, 20-30 s: the whole of it, at 144. 30-40 s: the line again."""
    return Truth(
        "made",
        40.0,
        is_moving,
        (
            State(((0.0, 10.0), (30.0, 40.0)), 7.5),
            State(((11.0, 20.0),), 15.0, contained_in=2),
            State(((20.0, 30.0),), 15.0),
        ),
    )


@pytest.mark.parametrize(
    ("plan", "shown", "wasted", "why"),
    [
        ([(1, 576), (25, 144)], 2, 0, "all"),
        ([(35, 576), (25, 576)], 2, 0, "a repeat alone, and finer than needed"),
        ([(1, 576)], 1, 0, "one is missing"),
        ([(1, 144), (25, 36)], 0, 0, "too coarse"),
        ([(1, 576), (15, 576)], 1, 0, "a step is not the whole"),
        ([(1, 576), (15, 576), (25, 144)], 2, 576, "a step beside the whole"),
        ([(1, 36), (5, 576), (35, 576), (25, 144)], 2, 612, "repeats, the best of them is the first of 576"),
        ([(10.5, 9), (1, 576), (25, 144)], 2, 9, "between two states"),
        ([(30.0, 576), (29.8, 144)], 2, 0, "spans are half-open"),
        ([], 0, 0, "nothing"),
    ],
)
def test_plans_with_known_scores(plan: Sequence[tuple[float, int]], shown: int, wasted: int, why: str) -> None:
    tokens = sum(scale for _, scale in plan)
    assert score(made(), plan) == Score(states=2, shown=shown, tokens=tokens, wasted=wasted), why


def test_where_all_moves_one_frame_in_ten_seconds_is_no_repeat() -> None:
    plan = [(1, 576), (5, 576), (31, 576), (39, 9)]
    assert score(made(), plan).wasted == 576 * 2 + 9
    assert score(made(is_moving=True), plan).wasted == 576 + 9


def test_budgets_are_what_the_distinct_states_need() -> None:
    assert made().price == 576 + 144
    assert budgets_of(made()) == {"1x": 720, "1.5x": 1080, "2x": 1440, "ample": 20_000}
    assert tuple(budgets_of(made())) == BUDGETS


def test_uniform_has_as_many_frames_as_show_the_most() -> None:
    rows = [
        StatesRow(clip, "k", method, "1x", 9, Score(4, shown, 9, wasted))
        for clip in "ab"
        for method, shown, wasted in ((ADAPTIVE, 4, 0), ("uniform@2", 1, 0), ("uniform@8", 3, 5), ("uniform@4", 3, 4))
    ]
    assert best_uniform(rows) == "uniform@4"


# Files.


def small_film(kind: str, *, seed: int, index: int) -> Film:
    film = Film((336, 192), 5)
    for number in range(3):
        page = plain_picture(film.size, (255, 255, 255))
        write_text(page, f"N {number * 317}", left=30, base=100, cap=30, colour=(0, 0, 0))
        film.show(page, 4, film.state(cap=30))
    return film


def test_a_clip_is_rendered_once_and_scored_within_its_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "draw_clip", small_film)
    clip = render_states_clip("deck line", seed=1, index=0, folder=tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".mp4"]
    assert clip.truth == small_film("deck line", seed=1, index=0).truth("deck line")
    with open_video(clip.path) as reader:
        assert reader.info.num_frames == 60
        assert reader.info.duration_seconds == pytest.approx(12)
    written = clip.path.stat().st_mtime_ns
    assert render_states_clip("deck line", seed=1, index=0, folder=tmp_path) == clip
    assert clip.path.stat().st_mtime_ns == written
    assert render_states_clip("deck line", seed=2, index=0, folder=tmp_path).path != clip.path

    rows = score_clip(clip, max_frames=16)
    assert {row.price for row in rows} == set(BUDGETS)
    assert {row.method for row in rows} == {ADAPTIVE, *(f"uniform@{n}" for n in (2, 4, 8, 16))}
    assert all(row.score.tokens <= row.budget and row.score.states == 3 for row in rows)
    ample = {row.method: row.score for row in rows if row.price == "ample"}
    # 16 even frames at 576 show all three; one frame of each is no repeat.
    assert ample["uniform@16"] == Score(3, 3, 16 * 576, 13 * 576)
    assert ample["uniform@2"].shown == 2


def test_the_script_prints_what_the_rows_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("eval_states", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    clips = [StatesClip(f"{kind} 1-0", tmp_path, replace(made(), kind=kind)) for kind in ("sport", "screen")]
    scores = {"adaptive": Score(2, 1, 100, 5), "uniform@4": Score(2, 2, 200, 60), "uniform@8": Score(2, 2, 200, 50)}
    rows = [StatesRow(c.name, c.truth.kind, m, p, 720, s) for c in clips for p in BUDGETS for m, s in scores.items()]
    script.print_tables(clips, rows)
    script.save(tmp_path / "states.json", clips, rows)
    printed = capsys.readouterr().out.splitlines()
    assert printed[2] == "| sport | 1 | 2 | 720 |" + " 50 / 100 | 5 / 25 |" * 4
    assert printed[-1] == (
        "| ample | 50 [50, 50] | 100 [100, 100] | -50 [-50, -50] | 5 [5, 5] | 25 [25, 25] | 200 / 400 |"
    )
    held = json.loads((tmp_path / "states.json").read_text())
    assert [truth_from(clip) for clip in held["clips"]] == [clip.truth for clip in clips]
    assert len(held["rows"]) == len(rows)
