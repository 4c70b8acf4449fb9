"""The facts of frames and of cells: true, at their place, and drawn afresh without moving."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m3video.training.facts import (
    FactKey,
    fact_ids,
    fact_list,
    is_clear,
    is_readable,
    local_ids,
    loudness_of,
    matching_facts,
    renewed,
    shares,
    token_shares,
)
from m3video.training.scenes import Facts
from m3video.training.words import COLOURS, GLYPHS, PLACES
from m3video.types import SCALES
from tests.training.drawn import CONTENTS, KEYS, frame_of, keys_of, shot_of

SEEDS = st.integers(0, 2**32)
NUMBERS = local_ids()
SOME = [
    NUMBERS[key]
    for key in (
        ("tile", 0, 0, "red"),
        ("tile", 0, 1, "red"),
        ("entry", 2, 1, "7"),
        ("letter", 3, "A"),
        ("here", "white", "star", "top left"),
        ("here", "white", "ring", "top left"),
    )
]
LOOKS = [("tile", 0, None), ("tile",), ("entry", 2, 1), ("letter", 3), ("letter",), ("here", "white", None)]


def some_cells(seed: int) -> NDArray[np.int16]:
    """A grid of blocks of a few local facts, of any size."""
    rng = random.Random(seed)
    cells = np.full((24, 24), -1, np.int16)
    for _ in range(rng.randint(1, 8)):
        row, column = rng.randrange(24), rng.randrange(24)
        cells[row : row + rng.randint(1, 12), column : column + rng.randint(1, 12)] = rng.choice([-1, *SOME, *SOME])
    return cells.reshape(-1)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(CONTENTS))
def test_facts_are_numbered_and_tell_the_frame_apart(seed: int, content: str) -> None:
    facts, _ = frame_of(shot_of(content, seed))
    keys = [list(fact_ids())[number] for number in fact_list(facts)]
    roles = Counter(key[0] for key in keys)
    assert set(roles.values()) == {1}
    assert ("night", facts.night) in keys
    assert ("count", len(facts.shapes)) in keys
    grounds = {"board": "board", "table": "table", "page": "page"}
    assert roles[grounds.get(content, "background")] == 1
    assert sum(roles[role] for role in ("background", "board", "table", "page")) == 1
    assert roles["sign"] == (content == "sign")


def assert_ordered(found: dict[FactKey, NDArray[np.intp]]) -> None:
    """Later rows lie wholly below, later columns wholly to the right."""
    places: list[tuple[Any, NDArray[np.intp]]] = list(found.items())
    for (_, row, column, _), where in places:
        for (_, other_row, other_column, _), elsewhere in places:
            assert row >= other_row or (where // 24).max() < (elsewhere // 24).min()
            assert column >= other_column or (where % 24).max() < (elsewhere % 24).min()


@pytest.mark.parametrize("side", [3, 6])
@pytest.mark.parametrize("seed", range(8))
def test_every_tile_of_a_board_is_at_its_place_in_its_colour(seed: int, side: int) -> None:
    facts, cells = frame_of(shot_of("board", seed, board=side))
    assert facts.board is not None
    found = keys_of(cells)
    assert set(found) == {("tile", r, c, facts.board[r][c]) for r in range(side) for c in range(side)}
    assert_ordered(found)


@pytest.mark.parametrize("seed", range(24))
def test_every_entry_of_a_table_is_at_its_place_with_its_digit(seed: int) -> None:
    facts, cells = frame_of(shot_of("table", seed))
    assert facts.table is not None
    found = keys_of(cells)
    assert set(found) == {("entry", r, c, digit) for r, line in enumerate(facts.table) for c, digit in enumerate(line)}
    assert_ordered(found)


@pytest.mark.parametrize("seed", range(24))
def test_the_letters_of_a_sign_spell_it_from_left_to_right(seed: int) -> None:
    facts, cells = frame_of(shot_of("sign", seed))
    assert facts.sign is not None
    found = sorted(keys_of(cells).items(), key=lambda item: (item[1] % 24).mean())
    assert [key[:2] for key, _ in found] == [("letter", n) for n in range(1, len(facts.sign) + 1)]
    assert "".join(str(key[2]) for key, _ in found) == facts.sign.upper()


@pytest.mark.parametrize("seed", range(24))
def test_a_shapes_cells_carry_its_colour_kind_and_place(seed: int) -> None:
    moment = seed / 23
    shot = shot_of("shapes", seed)
    facts, cells = frame_of(shot, moment)
    found = keys_of(cells)
    # In the order of drawing: what comes later may cover what was there.
    true = [("here", shape.colour, shape.kind, shape.place) for shape in facts.shapes]
    assert set(found) <= set(true)
    assert true[-1] in found
    side = max(shot.size)
    for shape, key in zip(shot.shapes, true, strict=True):
        x, y = (
            (at * length + (side - length) // 2) / side * 24
            for at, length in zip(shape.centre(moment), shot.size, strict=True)
        )
        reach = shape.radius * min(shot.size) / side * 24 * 1.3 + 1
        where = found.get(key, np.array([], int))
        assert (np.hypot(where % 24 + 0.5 - x, where // 24 + 0.5 - y) <= reach).all()


@pytest.mark.parametrize("content", ["page", "empty"])
@pytest.mark.parametrize("seed", range(6))
def test_pages_and_empty_frames_have_no_local_facts(content: str, seed: int) -> None:
    assert (frame_of(shot_of(content, seed))[1] == -1).all()


def said_by(facts: Facts, key: tuple[object, ...]) -> str:
    """What stands in a frame where one of its cells says `key`."""
    role, first, second, *_ = key
    assert isinstance(first, int)
    if role == "letter":
        assert facts.sign is not None
        return facts.sign[first - 1].upper()
    lines = facts.board if role == "tile" else facts.table
    assert lines is not None
    assert isinstance(second, int)
    return lines[first][second]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(["board", "table", "sign"]))
def test_renewed_frames_keep_their_geometry_and_say_what_their_cells_say(seed: int, content: str) -> None:
    facts, cells = frame_of(shot_of(content, seed))
    if facts.sign and not facts.sign.isdigit():
        return
    new, new_cells = renewed(facts, cells, random.Random(seed))
    assert new._replace(board=facts.board, table=facts.table, sign=facts.sign) == facts
    assert new_cells.dtype == np.int16
    assert ((new_cells == -1) == (cells == -1)).all()
    for before, after in {(KEYS[a], KEYS[b]) for a, b in zip(cells, new_cells, strict=True) if a >= 0}:
        assert after[:-1] == before[:-1]
        assert before[-1] == said_by(facts, before)
        assert after[-1] == said_by(new, after)
    again = [renewed(facts, cells, random.Random(n))[0] for n in range(30)]
    assert len(set(again)) > (5 if facts.sign and len(facts.sign) == 1 else 20)
    assert {tuple(map(len, f.board or f.table or (f.sign or "",))) for f in again} == {
        tuple(map(len, facts.board or facts.table or (facts.sign or "",)))
    }


@pytest.mark.parametrize("content", ["shapes", "page", "empty", "sign"])
@pytest.mark.parametrize("seed", range(6))
def test_other_frames_are_left_alone(content: str, seed: int) -> None:
    facts, cells = frame_of(shot_of(content, seed))
    if content == "sign" and facts.sign and facts.sign.isdigit():
        return
    new, new_cells = renewed(facts, cells, random.Random(seed))
    assert new == facts
    assert np.array_equal(new_cells, cells)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.sampled_from(LOOKS), st.sampled_from(SCALES))
def test_shares_are_means_over_the_cells_of_each_token(seed: int, look: tuple[object, ...], scale: int) -> None:
    cells = some_cells(seed)
    wanted = np.array([n >= 0 and all(p in (None, k) for p, k in zip(look, KEYS[n], strict=False)) for n in cells])
    found = shares(look, cells, scale)
    assert found.shape == (scale,)
    assert found.sum() / scale == pytest.approx(wanted.mean())
    side = int(scale**0.5)
    for token in range(scale):
        rows, columns = (slice(n * 24 // side, (n + 1) * 24 // side) for n in divmod(token, side))
        assert found[token] == pytest.approx(wanted.reshape(24, 24)[rows, columns].mean())


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.sampled_from(LOOKS))
def test_more_tokens_never_hide_what_fewer_show(seed: int, look: tuple[object, ...]) -> None:
    cells = some_cells(seed)
    told = [is_readable([look], cells, scale) for scale in SCALES]
    assert told == sorted(told)
    assert told[-1] == bool(matching_facts(look)[cells].any())


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(SCALES))
def test_clear_facts_are_readable_ones(seed: int, scale: int) -> None:
    cells = some_cells(seed)
    for number in SOME:
        fact = np.array([number], np.int16)
        assert np.allclose(token_shares(fact, cells, scale)[0], shares(KEYS[number], cells, scale))
        assert is_clear(fact, cells, scale) == is_readable([KEYS[number]], cells, scale)
    seen = np.unique(cells[cells >= 0])
    if len(seen):
        assert is_clear(seen, cells, scale) == is_readable([KEYS[n] for n in seen], cells, scale)


@pytest.mark.parametrize("seed", range(6))
def test_tiles_of_twelve_rows_drown_in_nine_tokens_and_those_of_three_do_not(seed: int) -> None:
    _, cells = frame_of(shot_of("board", seed, board=12))
    tiles = [key[:3] for key in keys_of(cells)]
    assert len(tiles) > 60
    assert not any(is_readable([tile], cells, scale) for tile in tiles for scale in (1, 9))
    assert is_readable(tiles, cells, 576)
    _, cells = frame_of(shot_of("board", seed, board=3))
    tiles = [key[:3] for key in keys_of(cells)]
    assert is_readable(tiles, cells, 36)
    assert not is_readable(tiles, cells, 1)


def test_small_shapes_get_more_weight_but_still_tell_less() -> None:
    small, large = (NUMBERS["here", colour, "star", "left"] for colour in ("red", "blue"))
    cells = np.full(576, -1, np.int16)
    cells[:4], cells[100:244] = small, large
    quiet, loud = loudness_of(np.array([large, small], np.int16), cells)
    assert loud > quiet
    assert 4 * loud / (144 * quiet) == pytest.approx((4 / 144) ** 0.5)
    of_cells = loudness_of(cells, cells)
    assert (of_cells[cells == small] == loud).all()
    assert (of_cells[cells == -1] == 0).all()


def test_digits_are_louder_than_tiles_wherever_they_stand() -> None:
    cells = np.full(576, -1, np.int16)
    tile, digit, letter = SOME[0], SOME[2], SOME[3]
    loud = loudness_of(np.array([tile, digit, letter], np.int16), cells)
    assert 0 < loud[0] < loud[1]
    assert 0 < loud[0] < loud[2]


def test_a_look_is_for_the_beginning_of_a_key_and_none_is_for_anything() -> None:
    row = matching_facts(("tile", 2, None))
    assert {KEYS[n][:2] for n in np.nonzero(row)[0]} == {("tile", 2)}
    assert row.sum() == 12 * 8
    assert matching_facts(("here", None, "star")).sum() == len(COLOURS) * len(PLACES)
    assert matching_facts(("letter", 1)).sum() == len(GLYPHS)
    assert not row[-1]
