"""What is in a shot and how it moves: sampled at random, with exact truth at every instant.

A `Shot` is a recipe; `facts_at` says what is true of it at a moment, without drawing anything. The renderer draws the
same recipe. Positions are fractions of the picture, sizes fractions of its short side, `moment` runs 0..1 over a shot.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

from m3video.training.words import (
    BACKGROUND_COLOURS,
    BOARD_SIDES,
    COLOURS,
    GLYPHS,
    MANY,
    MOST_LETTERS,
    PLACES,
    SHAPES,
    SIGN_WORDS,
    TABLE_SIDES,
)

SIZES: tuple[tuple[int, int], ...] = (
    (320, 180),
    (480, 270),
    (426, 240),
    (640, 360),
    (320, 240),
    (400, 300),
    (336, 336),
    (256, 256),
    (240, 320),
    (180, 320),
)
PLACE_MARGIN = 0.035
"""A centre nearer than this to the border of two ninths of the picture is not asked about."""


class ShapeFact(NamedTuple):
    colour: str
    kind: str
    place: str
    clear: bool


class Facts(NamedTuple):
    """What is true of one frame: `board` is rows of colours, `table` rows of digits, `sign` a text; None for none."""

    background: str
    night: bool
    shapes: tuple[ShapeFact, ...]
    sign: str | None
    board: tuple[tuple[str, ...], ...] | None
    page: bool
    table: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DrawnShape:
    kind: str
    colour: str
    x: float
    y: float
    radius: float
    angle: float
    spin: float
    dx: float
    dy: float
    outline: bool

    def centre(self, moment: float) -> tuple[float, float]:
        x, y = self.x + self.dx * (moment - 0.5), self.y + self.dy * (moment - 0.5)
        return min(0.9, max(0.1, x)), min(0.9, max(0.1, y))


class Font(NamedTuple):
    """A drawn alphabet: its name, and how its letters are changed (width, slant to the right, stroke; 1, 0, 1: not)."""

    name: str
    stretch: float = 1.0
    slant: float = 0.0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Sign:
    text: str
    x: float
    y: float
    width: float
    font: Font
    dark_on_light: bool


@dataclass(frozen=True, slots=True)
class Shot:
    """A recipe for a few seconds of footage; `seed` fixes everything the fields leave open (jitter, texture crop)."""

    size: tuple[int, int]
    backdrop: str
    background: str
    night: bool
    shapes: tuple[DrawnShape, ...]
    sign: Sign | None
    board: tuple[tuple[str, ...], ...] | None
    page: tuple[str, ...] | None
    pan: tuple[float, float]
    noise: float
    held_out: bool
    seed: int
    table: tuple[str, ...] | None = None
    more_signs: tuple[Sign, ...] = ()


def place_of(x: float, y: float) -> tuple[str, bool]:
    """Return the ninth of the picture that a point is in, and whether it is clearly inside."""
    column, row = min(2, int(x * 3)), min(2, int(y * 3))
    clear = all(abs(v - edge) > PLACE_MARGIN for v in (x, y) for edge in (1 / 3, 2 / 3))
    return PLACES[row * 3 + column], clear


def facts_at(shot: Shot, moment: float) -> Facts:
    """Return the facts of `shot` at `moment` (0..1)."""
    shapes = tuple(ShapeFact(s.colour, s.kind, *place_of(*s.centre(moment))) for s in shot.shapes)
    sign = shot.sign.text if shot.sign else None
    return Facts(shot.background, shot.night, shapes, sign, shot.board, shot.page is not None, shot.table)


def _shapes(rng: random.Random, *, count: int, avoid: str, calm: bool) -> tuple[DrawnShape, ...]:
    colours = rng.sample([c for c in COLOURS if c != avoid], count)
    cells = rng.sample(range(9), count)
    found = []
    for colour, cell in zip(colours, cells, strict=True):
        limit = 0.30 if count == 1 else 0.165
        reach = 0.25 if count == 1 and not calm else 0.08
        found.append(
            DrawnShape(
                kind=rng.choice(SHAPES),
                colour=colour,
                x=(cell % 3 + 0.5) / 3 + rng.uniform(-0.08, 0.08),
                y=(cell // 3 + 0.5) / 3 + rng.uniform(-0.08, 0.08),
                radius=rng.uniform(0.10, limit),
                angle=rng.uniform(-0.35, 0.35),
                spin=rng.choice((0.0, 0.0, rng.uniform(-1, 1))),
                dx=rng.uniform(-reach, reach),
                dy=rng.uniform(-reach, reach),
                outline=rng.random() < 0.3,
            )
        )
    return tuple(found)


def _crowd(rng: random.Random) -> tuple[DrawnShape, ...]:
    """Draw many shapes on a loose grid, in any colour: for the vision stage only, because they teach shapes fast."""
    columns, rows = rng.randint(3, 6), rng.randint(2, 4)
    return tuple(
        DrawnShape(
            kind=rng.choice(SHAPES),
            colour=rng.choice(COLOURS),
            x=(cell % columns + rng.uniform(0.35, 0.65)) / columns,
            y=(cell // columns + rng.uniform(0.35, 0.65)) / rows,
            radius=rng.uniform(0.07, 0.16),
            angle=rng.uniform(-0.7, 0.7),
            spin=0.0,
            dx=0.0,
            dy=0.0,
            outline=rng.random() < 0.3,
        )
        for cell in range(columns * rows)
    )


HELD_OUT_FONTS = (Font("duplex"), Font("sans", slant=0.25))
"""Kept for evaluation."""


def sample_font(rng: random.Random) -> Font:
    """Draw a font for training, changed at random. With four unchanged fonts a model read two thirds of the signs in
    them, and a fifth of those in other fonts."""
    return Font(
        rng.choice(("sans", "sans bold", "simplex", "script", "complex", "plain")),
        stretch=rng.choice((0.8, 0.9, 1.0, 1.15, 1.3)),
        slant=rng.choice((-0.15, -0.08, 0.0, 0.0, 0.08, 0.15)),
        weight=rng.choice((0.7, 1.0, 1.0, 1.4)),
    )


def _digits(rng: random.Random, number: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(number))


def _sign(rng: random.Random, *, held_out: bool) -> Sign:
    text = rng.choice(SIGN_WORDS) if rng.random() < 0.5 else _digits(rng, rng.randint(1, 4))
    width = rng.uniform(0.35, 0.9) * (0.45 + 0.55 * min(1.0, len(text) / 4))
    return Sign(
        text,
        rng.uniform(0.3, 0.7),
        rng.uniform(0.25, 0.75),
        width,
        rng.choice(HELD_OUT_FONTS) if held_out else sample_font(rng),
        rng.random() < 0.7,
    )


def _street(rng: random.Random) -> tuple[Sign, ...]:
    """Draw two to six small signs one below the other: for the vision stage only, which learns letters and their
    order."""
    number = rng.randint(2, 6)
    signs = []
    for row in range(number):
        text = rng.choice(SIGN_WORDS)
        if rng.random() < 0.6:
            text = "".join(rng.choice(GLYPHS) for _ in range(rng.randint(1, MOST_LETTERS)))
        # At most as high as its share of a wide picture, so that none covers the next.
        width = min(0.9, rng.uniform(0.5, 1.0) * (0.68 * len(text) + 0.5) * 0.3 / number)
        signs.append(
            Sign(text, rng.uniform(0.15, 0.85), (row + 0.5) / number, width, sample_font(rng), rng.random() < 0.7)
        )
    return tuple(signs)


def _table(rng: random.Random) -> tuple[str, ...]:
    rows, columns = rng.choice(TABLE_SIDES), rng.choice(TABLE_SIDES)
    return tuple(_digits(rng, columns) for _ in range(rows))


def _page(rng: random.Random) -> tuple[str, ...]:
    rows, columns = rng.randint(3, 8), rng.randint(4, 14)
    return tuple("".join(rng.choice(GLYPHS + "   ") for _ in range(columns)) for _ in range(rows))


def sample_shot(rng: random.Random, *, held_out: bool = False, content: str | None = None) -> Shot:
    """Draw a random shot.

    Args:
        rng: source of all randomness.
        held_out: draw with the fonts and textures kept for evaluation.
        content: "shapes", "sign", "board", "table", "page", "empty", "crowd" or "street"; None draws any but the last
            two, which teach the vision stage only.
    """
    if content is None:
        content = rng.choices(("shapes", "sign", "board", "table", "page", "empty"), (48, 20, 14, 6, 5, 7))[0]
    backdrop = rng.choices(("plain", "gradient", "texture", "photo"), (35, 25, 22, 18))[0]
    background = MANY if backdrop == "photo" else rng.choice(BACKGROUND_COLOURS)
    shapes: tuple[DrawnShape, ...] = ()
    if content == "shapes":
        shapes = _shapes(rng, count=rng.choices((1, 2, 3), (55, 30, 15))[0], avoid=background, calm=False)
    if content == "crowd":
        shapes = _crowd(rng)
    board = None
    if content == "board":
        side = rng.choices(BOARD_SIDES, (50, 30, 20))[0]
        board = tuple(tuple(rng.choice(BACKGROUND_COLOURS) for _ in range(side)) for _ in range(side))
    return Shot(
        size=rng.choice(SIZES),
        backdrop=backdrop,
        background=background,
        night=rng.random() < 0.4,
        shapes=shapes,
        sign=_sign(rng, held_out=held_out) if content == "sign" else None,
        board=board,
        page=_page(rng) if content == "page" else None,
        table=_table(rng) if content == "table" else None,
        more_signs=_street(rng) if content == "street" else (),
        pan=(rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2)) if rng.random() < 0.4 else (0.0, 0.0),
        noise=rng.choice((0.0, 0.0, rng.uniform(1, 8))),
        held_out=held_out,
        seed=rng.getrandbits(32),
    )


def outline_points(kind: str) -> list[tuple[float, float]]:
    """Return the corners of a polygonal shape of radius one, clockwise from the top; none for circle and ring."""
    if kind == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if kind == "triangle":
        return [(0.0, -1.0), (0.95, 0.75), (-0.95, 0.75)]
    if kind == "cross":
        a, b = 0.32, 1.0
        return [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    if kind == "star":
        turn = math.pi / 5
        return [((1.0, 0.42)[i % 2] * math.sin(i * turn), -(1.0, 0.42)[i % 2] * math.cos(i * turn)) for i in range(10)]
    return []
