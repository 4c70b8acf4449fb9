"""A frame's content as numbered facts: those of the frame as a whole, and those of each cell.

Facts of the whole frame (background, light, number of shapes) fit one token. What a sign, a board or a table shows, and
which shape is where, is local: it takes enough tokens to separate the places.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.training.render import TABLE_CELL, CellLabels
from m3video.training.scenes import Facts
from m3video.training.words import (
    BACKGROUND_COLOURS,
    BACKGROUNDS,
    BOARD_SIDES,
    COLOURS,
    GLYPHS,
    MOST_LETTERS,
    PLACES,
    SHAPES,
    TABLE_SIDES,
)
from m3video.types import FULL_SCALE, FULL_SIDE

FactKey = tuple[object, ...]
FactPattern = tuple[object, ...]
"""A prefix of a local fact's key, with None for anything: `("tile", 2, None)` is row 2 of a board."""

CLEAR = {"tile": 0.2, "entry": 0.1, "letter": 0.1, "here": 0.01}
"""The share of a token that a local fact must make up to be visible in it: the larger its weight, the less."""
LOUDNESS = {"tile": 1.0, "entry": 3.0, "letter": 3.0}
SHAPE_LOUDNESS = 4.0
MOST_TILES, MOST_ENTRIES = max(BOARD_SIDES), max(TABLE_SIDES)


@functools.cache
def fact_ids() -> dict[FactKey, int]:
    """Return every fact of a whole frame, numbered."""
    keys: list[FactKey] = [("background", c) for c in BACKGROUNDS]
    keys += [("night", flag) for flag in (False, True)]
    keys += [("count", number) for number in range(4)]
    keys += [("sign", what) for what in ("word", "number")]
    keys += [("board", side) for side in BOARD_SIDES]
    keys += [("table", rows) for rows in TABLE_SIDES]
    keys += [("page",)]
    return {key: number for number, key in enumerate(keys)}


def fact_list(f: Facts) -> list[int]:
    """Return the numbers of the facts that hold for a whole frame."""
    ids = fact_ids()
    keys: list[FactKey] = [("night", f.night), ("count", len(f.shapes))]
    if f.page:
        keys.append(("page",))
    elif f.board:
        keys.append(("board", len(f.board)))
    elif f.table:
        keys.append(("table", len(f.table)))
    else:
        keys.append(("background", f.background))
    if f.sign:
        keys.append(("sign", "number" if f.sign.isdigit() else "word"))
    return [ids[key] for key in keys]


@functools.cache
def local_ids() -> dict[FactKey, int]:
    """Return every fact of a cell, numbered: a tile's colour, an entry's digit, a letter of a sign, a shape (its
    colour, its kind and where its centre is)."""
    keys: list[FactKey] = [
        ("tile", r, c, colour) for r in range(MOST_TILES) for c in range(MOST_TILES) for colour in BACKGROUND_COLOURS
    ]
    keys += [("entry", r, c, digit) for r in range(MOST_ENTRIES) for c in range(MOST_ENTRIES) for digit in "0123456789"]
    keys += [("letter", order, glyph) for order in range(1, MOST_LETTERS + 1) for glyph in GLYPHS]
    keys += [("here", c, s, p) for c in COLOURS for s in SHAPES for p in PLACES]
    return {key: number for number, key in enumerate(keys)}


@functools.cache
def _tables() -> dict[str, NDArray[np.int16]]:
    """Return the numbers of local facts by the labels of a cell."""
    ids = local_ids()
    tile = np.full((MOST_TILES**2, len(COLOURS) + 1), -1, np.int16)
    entry = np.full((MOST_TILES**2, len(GLYPHS) + 1), -1, np.int16)
    letter = np.full((MOST_LETTERS + 1, len(GLYPHS) + 1), -1, np.int16)
    here = np.full((len(COLOURS) + 1, len(SHAPES) + 1, len(PLACES) + 1), -1, np.int16)
    key: Any
    for key, number in ids.items():
        role, first, second, *rest = key
        if role == "tile":
            tile[first * MOST_TILES + second, COLOURS.index(rest[0]) + 1] = number
        elif role == "entry":
            entry[first * MOST_TILES + second, GLYPHS.index(rest[0]) + 1] = number
        elif role == "letter":
            letter[first, GLYPHS.index(second) + 1] = number
        else:
            here[COLOURS.index(first) + 1, SHAPES.index(second) + 1, PLACES.index(rest[0]) + 1] = number
    return {"tile": tile, "entry": entry, "letter": letter, "here": here}


def local_facts(labels: CellLabels) -> NDArray[np.int16]:
    """Return the local fact of each cell, int16 [576], -1 for none."""
    parts = (labels.tile_GG, labels.colour_GG, labels.glyph_GG, labels.order_GG, labels.shape_GG, labels.place_GG)
    tile, colour, glyph, order, shape, place = (part.reshape(-1) for part in parts)
    tables = _tables()
    on_table = labels.kind_GG.reshape(-1) == TABLE_CELL
    out = np.where(tile >= 0, tables["tile"][tile, colour], -1)
    out = np.where(on_table, tables["entry"][tile, glyph], out)
    out = np.where(order > 0, tables["letter"][order, glyph], out)
    return np.where(shape > 0, tables["here"][colour, shape, place], out).astype(np.int16)


def renewed(facts: Facts, cells: NDArray[np.int16], rng: random.Random) -> tuple[Facts, NDArray[np.int16]]:
    """Return the same frame with other colours on its board, other digits in its table or other digits on its sign."""
    if facts.board:
        side = len(facts.board)
        colours = np.array([rng.randrange(len(BACKGROUND_COLOURS)) for _ in range(side * side)]).reshape(side, side)
        board = tuple(tuple(BACKGROUND_COLOURS[n] for n in row) for row in colours)
        where = cells // len(BACKGROUND_COLOURS)
        new = where * len(BACKGROUND_COLOURS) + colours[where // MOST_TILES % side, where % MOST_TILES % side]
        return facts._replace(board=board), np.where(cells >= 0, new, -1).astype(np.int16)
    if facts.table:
        start = local_ids()["entry", 0, 0, "0"]
        digits = np.array([[rng.randrange(10) for _ in row] for row in facts.table])
        where = (cells - start) // 10
        rows, columns = where // MOST_ENTRIES % digits.shape[0], where % MOST_ENTRIES % digits.shape[1]
        new = start + where * 10 + digits[rows, columns]
        table = tuple("".join(map(str, row)) for row in digits)
        return facts._replace(table=table), np.where(cells >= 0, new, -1).astype(np.int16)
    if facts.sign and facts.sign.isdigit():
        start, zero = local_ids()["letter", 1, GLYPHS[0]], GLYPHS.index("0")
        drawn = np.array([rng.randrange(10) for _ in range(MOST_LETTERS)])
        order = (cells - start) // len(GLYPHS)
        new = start + order * len(GLYPHS) + zero + drawn[order % MOST_LETTERS]
        sign = "".join(map(str, drawn[: len(facts.sign)]))
        return facts._replace(sign=sign), np.where(cells >= 0, new, -1).astype(np.int16)
    return facts, cells


def shares(pattern: FactPattern, cells: NDArray[np.int16], scale: int) -> NDArray[np.float64]:
    """Return the share of each of a frame's `scale` tokens whose cells [576] match a pattern, float64 [scale]."""
    side = math.isqrt(scale)
    block = FULL_SIDE // side
    mask = matching_facts(pattern)[cells].reshape(side, block, side, block)
    return mask.mean((1, 3)).reshape(-1)


def is_readable(looks: Sequence[FactPattern], cells: NDArray[np.int16], scale: int) -> bool:
    """Return whether for each pattern some token shows it clearly enough; finer things vanish among their
    neighbours."""
    return all(shares(pattern, cells, scale).max() >= CLEAR[str(pattern[0])] for pattern in looks)


@functools.cache
def _role_values(name: str) -> NDArray[np.float32]:
    """Return `CLEAR` or `LOUDNESS` of every local fact, and 0 for cells without one; shapes have no fixed loudness."""
    values = {"clear": CLEAR, "loudness": {**LOUDNESS, "here": 0.0}}[name]
    return np.array([*(values[str(role)] for role, *_ in local_ids()), 0.0], np.float32)


def is_clear(facts: NDArray[np.int16], cells: NDArray[np.int16], scale: int) -> bool:
    """Return whether each of some local facts makes up enough of some token of the frame `cells` [576]."""
    return bool((token_shares(facts, cells, scale).max(1) >= _role_values("clear")[facts]).all())


def loudness_of(facts: NDArray[np.int16], cells: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the weight of each of some local facts in a cell of the frame `cells` [576], float32 like `facts`.

    A cell of a small shape weighs more, so that in one token for the whole frame small and large shapes weigh alike,
    within a factor of five.
    """
    out = _role_values("loudness")[facts]
    shape = facts >= local_ids()["here", COLOURS[0], SHAPES[0], PLACES[0]]
    if shape.any():
        area = np.bincount(cells[cells >= 0], minlength=len(local_ids()))[facts[shape]]
        out[shape] = SHAPE_LOUDNESS * np.sqrt(FULL_SCALE / area)
    return out


def token_shares(facts: NDArray[np.int16], cells: NDArray[np.int16], scale: int) -> NDArray[np.float32]:
    """Return the share of each token of the frame `cells` [576] that each of some local facts makes up, [facts,
    scale]."""
    side = math.isqrt(scale)
    block = FULL_SIDE // side
    masks = (cells[None] == facts[:, None]).reshape(len(facts), side, block, side, block)
    return masks.mean((2, 4), dtype=np.float32).reshape(len(facts), scale)


@functools.cache
def matching_facts(pattern: FactPattern) -> NDArray[np.bool_]:
    """Return which local facts match a pattern, bool [local facts + 1]; the last is for cells without one (-1)."""
    out = np.zeros(len(local_ids()) + 1, np.bool_)
    for key, number in local_ids().items():
        out[number] = all(part is None or part == own for part, own in zip(pattern, key, strict=False))
    return out
