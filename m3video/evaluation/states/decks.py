"""Lectures of the set of lasting states: slides of many kinds, builds, fades, and a speaker in a corner."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from m3video.evaluation.states.draw import (
    FACES,
    PHOTOS,
    Colour,
    Film,
    Overlay,
    Picture,
    blend,
    fill_box,
    fitted,
    photo,
    plain_picture,
    random_cap,
    shuffled_returns,
    skewed_lengths,
    text_width,
    word,
    words,
    write_text,
)

SIZES: tuple[tuple[int, int], ...] = ((1280, 720), (1280, 720), (1280, 720), (1024, 768), (720, 1280))
"""(width, height), drawn at random."""

LIGHT: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((255, 255, 255), (0, 0, 0), (200, 40, 40)),
    ((250, 248, 240), (40, 40, 60), (20, 90, 160)),
    ((235, 242, 250), (20, 30, 60), (180, 90, 0)),
    ((255, 255, 255), (60, 60, 60), (0, 120, 90)),
)
DARK: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((20, 20, 24), (230, 230, 230), (250, 180, 40)),
    ((0, 20, 50), (210, 220, 240), (90, 200, 250)),
    ((40, 44, 52), (171, 178, 191), (152, 195, 121)),
)
"""(paper, ink, accent)."""


@dataclass(frozen=True, slots=True)
class Style:
    """What the slides of one deck have in common; `cap` is the height of the least capitals, pixels of the picture."""

    size: tuple[int, int]
    paper: Colour
    ink: Colour
    accent: Colour
    face: str
    cap: int

    @property
    def margin(self) -> int:
        return self.size[0] // 16

    @property
    def room(self) -> int:
        """Pixels between the margins."""
        return self.size[0] - 2 * self.margin

    def blank(self) -> Picture:
        """Draw an empty slide."""
        return plain_picture(self.size, self.paper)


Slide = tuple[Picture, int]
"""A picture and the height of its least capitals that count."""

Maker = Callable[[random.Random, Style, int], list[Slide]]
"""Steps of one slide, the last one is the whole; most have one. The number is that of the slide."""


def make_style(rng: random.Random, *, dark: bool = False, high: float = 20.0) -> Style:
    """Draw the style of a random deck; `high` bounds its letters, in pixels of the tower's input."""
    size = rng.choice(SIZES)
    paper, ink, accent = rng.choice(DARK if dark else LIGHT)
    # Ten capitals fit into a line.
    cap = min(random_cap(rng, size, high=high), round(size[0] * 0.0875))
    return Style(size, paper, ink, accent, rng.choice(FACES), cap)


def titled(rng: random.Random, style: Style) -> tuple[Picture, float]:
    """Draw a slide with a title, and the row where its body begins."""
    picture = style.blank()
    cap = round(style.cap * 1.35)
    base = style.size[1] // 16 + cap
    title = words(rng, width=style.room, cap=cap, face=style.face, most=4)
    write_text(picture, title, left=style.margin, base=base, cap=cap, colour=style.accent, face=style.face)
    fill_box(
        picture,
        style.accent,
        left=style.margin,
        right=style.size[0] - style.margin,
        top=base + cap * 0.6,
        bottom=base + cap * 0.6 + 3,
    )
    return picture, base + cap * 1.2


def line_slide(rng: random.Random, style: Style, number: int) -> list[Slide]:
    """Draw one line on a plain page, of which only numbers change from slide to slide."""
    picture = style.blank()
    lines = [f"Result of run {number}: {7919 * number} units"]
    if text_width("Result of run 20: 158380 units", style.cap, style.face) > style.room:
        lines = [f"Run {number}:", f"{7919 * number} units"]
    for row, line in enumerate(lines):
        write_text(
            picture,
            line,
            left=style.margin,
            base=style.size[1] // 5 + row * style.cap * 2,
            cap=style.cap,
            colour=style.ink,
            face=style.face,
        )
    return [(picture, style.cap)]


def words_slide(rng: random.Random, style: Style, number: int) -> list[Slide]:
    """Draw a few words in one place of a plain page."""
    picture = style.blank()
    line = words(rng, width=style.room, cap=style.cap, face=style.face, most=4)
    write_text(
        picture,
        line,
        left=style.margin,
        base=style.size[1] * rng.choice((0.2, 0.5, 0.8)),
        cap=style.cap,
        colour=style.ink,
        face=style.face,
    )
    return [(picture, style.cap)]


def bullet_slide(rng: random.Random, style: Style, number: int) -> list[Slide]:
    """Draw a title and three to six points."""
    return build_slide(rng, style, number)[-1:]


def build_slide(rng: random.Random, style: Style, number: int) -> list[Slide]:
    """Draw a title and three to six points, which come one by one."""
    picture, top = titled(rng, style)
    step = style.cap * 2.1
    most = int((style.size[1] - top - style.cap) / step)
    steps = []
    for row in range(min(most, rng.randint(3, 6))):
        base = top + style.cap + row * step
        line = words(rng, width=style.room - style.cap * 2, cap=style.cap, face=style.face, most=rng.randint(2, 9))
        fill_box(
            picture,
            style.accent,
            left=style.margin,
            right=style.margin + style.cap * 0.5,
            top=base - style.cap * 0.7,
            bottom=base - style.cap * 0.2,
        )
        write_text(
            picture, line, left=style.margin + style.cap, base=base, cap=style.cap, colour=style.ink, face=style.face
        )
        steps.append((picture.copy(), style.cap))
    return steps


def table_slide(rng: random.Random, style: Style, number: int) -> list[Slide]:
    """Draw a table of numbers, all tables of the deck with the same lines."""
    picture = style.blank()
    step = round(style.cap * 2.2)
    rows = min(8, (style.size[1] - 2 * style.margin) // step)
    columns = min(6, style.room // text_width("88.88", style.cap, style.face))
    wide, left, top = style.room / columns, style.margin, style.margin
    for row in range(rows):
        for column in range(columns):
            text = word(rng)[:4].title() if row == 0 else f"{rng.uniform(0, 99):.2f}"
            write_text(
                picture,
                text,
                left=left + column * wide + 4,
                base=top + (row + 0.75) * step,
                cap=style.cap,
                colour=style.accent if row == 0 else style.ink,
                face=style.face,
            )
    for row in range(rows + 1):
        fill_box(
            picture, style.ink, left=left, right=left + style.room, top=top + row * step, bottom=top + row * step + 2
        )
    return [(picture, style.cap)]


def equation_slide(rng: random.Random, style: Style, number: int) -> list[Slide]:
    """Draw one to three lines of mathematics; indices are the smallest letters that count."""
    picture = style.blank()
    cap = round(style.cap * 1.5)
    step = cap * 4.2
    for row in range(rng.randint(1, max(1, min(3, int((style.size[1] - 2 * style.margin) / step))))):
        pen = _Equation(rng, picture, style, cap, left=style.margin * 1.5, base=style.margin + step * (row + 0.6))
        while pen.left < style.size[0] - style.margin - cap * 5:
            pen.term()
    return [(picture, style.cap)]


class _Equation:
    """Writes terms from left to right."""

    def __init__(self, rng: random.Random, picture: Picture, style: Style, cap: int, *, left: float, base: float):
        self.rng, self.picture, self.style, self.cap, self.left, self.base = rng, picture, style, cap, left, base

    def term(self) -> None:
        """Return one more term, with the sign that follows."""
        rng, cap = self.rng, self.cap
        kind = rng.choice(("plain", "fraction", "root", "sum"))
        start = self.left
        if kind == "fraction":
            over, under = (self._letters(self.left, self.base + shift * cap) for shift in (-0.85, 1.3))
            self._line((start, self.base - cap * 0.42), (max(over, under), self.base - cap * 0.42))
            self.left = max(over, under)
        elif kind == "root":
            self.left = self._letters(start + cap, self.base)
            top, foot = self.base - cap * 1.7, self.base + cap * 0.3
            for a, b in (
                ((start, foot - cap * 0.5), (start + cap * 0.4, foot)),
                ((start + cap * 0.4, foot), (start + cap * 0.8, top)),
                ((start + cap * 0.8, top), (self.left, top)),
            ):
                self._line(a, b)
        elif kind == "sum":
            top, foot, right = self.base - cap * 1.2, self.base + cap * 0.3, start + cap
            middle = (start + cap * 0.55, (top + foot) / 2)
            for a, b in (
                ((right, top), (start, top)),
                ((start, top), middle),
                (middle, (start, foot)),
                ((start, foot), (right, foot)),
            ):
                self._line(a, b)
            self.left = self._letters(right + cap * 0.3, self.base)
        else:
            self.left = self._letters(start, self.base)
        self.left = self._write(rng.choice("+-=<"), self.left + cap * 0.2, self.base, cap)

    def _letters(self, left: float, base: float) -> float:
        rng = self.rng
        end = self._write(rng.choice("ABCEFGHKLMNPRSTUVXYZ" + "abdefghkmnpqrstuvxyz"), left, base, self.cap)
        lift = rng.choice((-0.55, 0.35))
        return self._write(rng.choice("0123456789NKJ"), end - self.cap * 0.5, base + lift * self.cap, self.style.cap)

    def _write(self, text: str, left: float, base: float, cap: int) -> float:
        return write_text(
            self.picture, text, left=left, base=base, cap=cap, colour=self.style.ink, face=self.style.face
        )

    def _line(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        start, end = ((round(x), round(y)) for x, y in (a, b))
        cv2.line(self.picture, start, end, self.style.ink, max(2, self.cap // 10), cv2.LINE_AA)


def photo_slide(rng: random.Random, style: Style, number: int) -> list[Slide]:
    """Draw a photograph with a caption; every third keeps the photograph of the one before and changes the caption."""
    picture = style.blank()
    shown = number - 1 if number % 3 == 2 else number
    wide, high = style.room, style.size[1] - 2 * style.margin - round(style.cap * 3)
    own = random.Random(shown)
    inset = fitted(photo(PHOTOS[shown % len(PHOTOS)]), width=wide, height=high, rng=own)
    picture[style.margin : style.margin + high, style.margin : style.margin + wide] = inset
    line = words(rng, width=wide, cap=style.cap, face=style.face, most=5)
    write_text(
        picture,
        line,
        left=style.margin,
        base=style.margin + high + style.cap * 2.2,
        cap=style.cap,
        colour=style.ink,
        face=style.face,
    )
    return [(picture, style.cap)]


def deck(
    rng: random.Random,
    makers: tuple[Maker, ...],
    *,
    dark: bool = False,
    fades: bool = False,
    head: bool = False,
    returns: float = 0.15,
    most: int = 22,
    high: float = 20.0,
) -> Film:
    """Film 8 to 24 slides of 4 to 30 s each, the points of a build 2 to 6 s apart; some slides return.

    Args:
        rng: decides all.
        makers: of slides, drawn at random for each.
        dark: light letters on dark paper.
        fades: 0.5 to 1 s between slides, else cuts.
        head: a speaker who always moves, in a corner.
        returns: share of slides after which an earlier one is shown again.
        most: slides; those that are built step by step take longer.
        high: bounds letters, in pixels of the tower's input.
    """
    style = make_style(rng, dark=dark, high=high)
    film = Film(style.size, rng.choice((5, 6, 8)))
    count = rng.randint(8, most)
    slides = [rng.choice(makers)(rng, style, number) for number in range(count)]
    order = shuffled_returns(rng, count, share=returns)
    lengths = skewed_lengths(rng, len(order), low=4.0, high=30.0, total=rng.uniform(80, 180) * most / 22)
    last_states: dict[int, int] = {}
    before: Picture | None = None
    for number, length in zip(order, lengths, strict=True):
        steps = slides[number]
        if before is not None and fades:
            film.fade(before, steps[0][0] if number not in last_states else steps[-1][0], rng.uniform(0.5, 1.0))
        if number in last_states:
            film.show(steps[-1][0], length, last_states[number])
        else:
            last_states[number] = _show_steps(film, steps, length, rng)
        before = steps[-1][0]
    if head:
        film.overlays.append(speaker(rng, style))
    return film


def _show_steps(film: Film, steps: list[Slide], length: float, rng: random.Random) -> int:
    """Show the steps of a slide, the last one for `length` seconds; the state of the last one."""
    states = [film.state(cap=cap) for _, cap in steps]
    for number, (picture, _) in enumerate(steps):
        is_last = number == len(steps) - 1
        film.show(picture, length if is_last else rng.uniform(2.0, 6.0), states[number])
        if not is_last:
            film.contain(states[number], states[number + 1])
    return states[-1]


def speaker(rng: random.Random, style: Style) -> Overlay:
    """Draw a face that nods, turns and talks in the lower right corner."""
    width, height = style.size
    wide, high = round(min(width, height) * 0.26), round(min(width, height) * 0.3)
    face = np.ascontiguousarray(photo("astronaut")[0:250, 100:350])
    room = fitted(photo(rng.choice(("coffee", "rocket"))), width=wide, height=high)
    side = round(high * 0.95)
    face = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    mask = np.zeros((side, side), np.uint8)
    cv2.ellipse(
        mask, (round(side * 0.5), round(side * 0.52)), (round(side * 0.38), round(side * 0.48)), 0, 0, 360, (255,), -1
    )
    phase = [rng.uniform(0, 6.28) for _ in range(4)]
    speeds = [rng.uniform(0.2, 0.9) for _ in range(4)]

    def paint(picture: Picture, number: int) -> None:
        sway = [float(np.sin(number * speed + p)) for speed, p in zip(speeds, phase, strict=True)]
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), 6 * sway[0], 1 + 0.03 * sway[1])
        turn[:, 2] += (wide * 0.06 * sway[2], high * 0.03 * sway[3])
        moved = face.copy()
        lips = round(side * 0.05), max(1, round(side * 0.02 * (1 + sway[3])))
        cv2.ellipse(moved, (round(side * 0.47), round(side * 0.62)), lips, 0, 0, 360, (70, 20, 20), -1, cv2.LINE_AA)
        inset = room.copy()
        above = cv2.warpAffine(moved, turn, (side, side))
        blend(
            inset,
            np.asarray(cv2.warpAffine(mask, turn, (side, side)), np.uint8),
            np.asarray(above, np.uint8),
            left=(wide - side) // 2,
            top=high - side,
        )
        picture[height - high :, width - wide :] = inset

    return paint


MAKERS: dict[str, Maker] = {
    "line": line_slide,
    "words": words_slide,
    "bullets": bullet_slide,
    "table": table_slide,
    "equation": equation_slide,
    "photo": photo_slide,
    "build": build_slide,
}
