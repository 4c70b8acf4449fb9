"""Pages full of text that teach a tower to read quickly: where every character stands is known.

A page is a square picture as the tower takes it: a photograph, perhaps between bands, and over it boards, slides,
screens, subtitles or signs with many lines in many fonts and sizes. It is drawn at another resolution than it is shown
(footage is), and some pages are seen from aside.

Shape legend: K characters, G = 24 cells of a side, S = 3 characters of a cell.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from m3video.model.m3.conv_sizes import CELL, CONV_SIDE
from m3video.training.natural.overlaid_text import perspective
from m3video.training.natural.page_words import NONE, WordMaker, classes_of
from m3video.types import FULL_SIDE

SLOTS = 3
"""Characters of one cell that are told, from left to right."""
CAP_HEIGHTS = (0.03, 0.18)
"""Least and greatest height of a capital letter, as a share of the height of the picture between its bands."""
ASPECTS = (1.0, 1.0, 4 / 3, 4 / 3, 16 / 9, 3 / 4)
BAND = 127
STYLES = (("board", 0.48), ("strips", 0.4), ("footage", 0.12))
CASES = ("lower", "upper", "title", "title", "mixed")
SMALLEST = 6
"""Font size in pixels below which no letter can be told from another."""

Ink = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """A square picture and its characters in reading order, spaces left out.

    Attributes:
        picture: uint8 [384, 384, 3].
        text: one letter for each of the K characters.
        centres_K2: x and y of each, in pixels; those outside the picture are left out.
        caps_K: height of a capital letter there, as a share of the height of the picture between its bands.
        starts_K: whether a word begins with it.
    """

    picture: NDArray[np.uint8]
    text: str
    centres_K2: NDArray[np.float64]
    caps_K: NDArray[np.float64]
    starts_K: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CellTexts:
    """What stands in each cell, up to `SLOTS` characters from left to right.

    Attributes:
        classes_GGS: class of each, `NONE` where there are fewer.
        upper_GGS, starts_GGS: whether it is a capital, and whether a word begins with it.
        caps_GGS: height of capitals there, as in `Page`; 0 where there is none.
    """

    classes_GGS: NDArray[np.int64]
    upper_GGS: NDArray[np.bool_]
    starts_GGS: NDArray[np.bool_]
    caps_GGS: NDArray[np.float64]


def cell_texts(page: Page) -> CellTexts:
    """Return the characters of a page by the cell that their centre lies in."""
    columns, rows = np.floor(page.centres_K2 / CELL).astype(np.int64).T
    cells = rows * FULL_SIDE + columns
    order = np.argsort(cells, kind="stable")  # a cell's characters keep their reading order
    ordered = cells[order]
    begins = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.zeros(0, bool)
    numbers = np.arange(len(ordered))
    slots = numbers - np.maximum.accumulate(np.where(begins, numbers, 0)) if len(ordered) else numbers
    kept = slots < SLOTS
    at, which = (ordered[kept], slots[kept]), order[kept]
    capital = np.array([letter.isupper() for letter in page.text], dtype=bool)

    def laid(values: NDArray, empty: object) -> NDArray:
        grid = np.full((FULL_SIDE**2, SLOTS), empty, dtype=values.dtype)
        grid[at] = values[which]
        return grid.reshape(FULL_SIDE, FULL_SIDE, SLOTS)

    return CellTexts(
        laid(classes_of(page.text), NONE),
        laid(capital, False),
        laid(page.starts_K, False),
        laid(page.caps_K, 0.0),
    )


class PageMaker:
    """Draws pages.

    Args:
        photographs: RGB uint8 [H, W, 3], any sizes; parts of them stand behind the text.
        words: draws words.
        fonts: files of the fonts to use.
    """

    def __init__(self, photographs: Sequence[NDArray[np.uint8]], words: WordMaker, fonts: Sequence[Path]) -> None:
        self.photographs, self.words, self.fonts = photographs, words, [str(path) for path in fonts]

    def page(self, rng: random.Random) -> Page:
        """Return a page; everything is drawn from `rng`."""
        aspect = rng.choice(ASPECTS)
        width = CONV_SIDE if aspect >= 1 else round(CONV_SIDE * aspect)
        height = CONV_SIDE if aspect <= 1 else round(CONV_SIDE / aspect)
        is_aside = rng.random() < 0.3
        finer = 1.0 if is_aside else rng.choice((0.6, 0.8, 1.0, 1.5, 2.0, 2.0))
        drawn = (round(width * finer * rng.uniform(0.88, 1.14)), round(height * finer))
        canvas = self._background(drawn, rng)
        lines = _Lines(canvas, self, rng)
        {"board": _board, "strips": _strips, "footage": _footage}[_pick(STYLES, rng)](lines)
        centres = np.array(lines.centres, dtype=np.float64).reshape(-1, 2)
        if is_aside:
            canvas, centres = _seen_from_aside(canvas, centres, rng)
        picture = _as_footage(canvas.resize((width, height), Image.Resampling.BICUBIC), rng)
        left, top = (CONV_SIDE - width) // 2, (CONV_SIDE - height) // 2
        square = np.full((CONV_SIDE, CONV_SIDE, 3), BAND, np.uint8)
        square[top : top + height, left : left + width] = picture
        centres = centres * (width / drawn[0], height / drawn[1])
        inside = np.all((centres >= 0) & (centres < (width, height)), axis=1)
        return Page(
            square,
            "".join(letter for letter, keep in zip(lines.text, inside.tolist(), strict=True) if keep),
            centres[inside] + (left, top),
            np.array(lines.caps)[inside],
            np.array(lines.starts, dtype=bool)[inside],
        )

    def _background(self, size: tuple[int, int], rng: random.Random) -> Image.Image:
        """Return a part of a photograph, perhaps turned left to right, darker or paler."""
        photo = rng.choice(self.photographs)
        high, wide = photo.shape[:2]
        share = rng.uniform(0.5, 1.0)
        rows, columns = int(high * share), int(wide * share)
        top, left = rng.randint(0, high - rows), rng.randint(0, wide - columns)
        part = photo[top : top + rows, left : left + columns][:, :: rng.choice((1, -1))]
        table = np.clip(np.arange(256) * rng.uniform(0.5, 1.15) + rng.uniform(-20, 30), 0, 255).astype(np.uint8)
        return Image.fromarray(table[part]).resize(size, Image.Resampling.BILINEAR)


class _Lines:
    """A canvas and the characters that were written on it so far."""

    def __init__(self, canvas: Image.Image, maker: PageMaker, rng: random.Random) -> None:
        self.canvas, self.maker, self.rng = canvas, maker, rng
        self.draw = ImageDraw.Draw(canvas)
        self.text: list[str] = []
        self.centres: list[tuple[float, float]] = []
        self.caps: list[float] = []
        self.starts: list[bool] = []

    def cap(self, *, most: float = CAP_HEIGHTS[1]) -> float:
        """Return a height of capitals in pixels of the canvas, log-uniform."""
        low, high = math.log(CAP_HEIGHTS[0]), math.log(most)
        return math.exp(self.rng.uniform(low, high)) * self.canvas.height

    def write(
        self, left: float, right: float, baseline: float, font: ImageFont.FreeTypeFont, ink: Ink, *, outline: int = 0
    ) -> None:
        """Write as many words as fit between two edges, or fewer, somewhere between them."""
        rng, case = self.rng, self.rng.choice(CASES)
        wanted = (right - left) * rng.choice((1.0, 1.0, 1.0, rng.uniform(0.3, 1.0)))
        words: list[str] = []
        length, space = 0.0, _advance(font, " ")
        while length < wanted and len(words) < 14:
            word = self.maker.words.word(rng, case)
            length += sum(_advance(font, letter) for letter in word) + space
            if length - space > right - left:
                break
            words.append(word)
        if not words:
            return
        line = " ".join(words)
        x = left + rng.choice((0.0, 0.5, rng.random())) * max(0.0, right - left - font.getlength(line))
        around = (0, 0, 0) if _light(ink) > 100 else (255, 255, 255)
        self.draw.text((x, baseline), line, fill=ink, font=font, anchor="ls", stroke_width=outline, stroke_fill=around)
        self._note(line, x, baseline, font)

    def _note(self, line: str, x: float, baseline: float, font: ImageFont.FreeTypeFont) -> None:
        advances = np.array([_advance(font, letter) for letter in line])
        ends = np.cumsum(advances) * (font.getlength(line) / max(advances.sum(), 1e-6))  # kerning, spread evenly
        middles = x + ends - advances / 2
        cap = _cap_share(str(font.path)) * font.size
        for number, (letter, middle) in enumerate(zip(line, middles, strict=True)):
            if letter != " ":
                self.text.append(letter)
                self.centres.append((float(middle), baseline - cap / 2))
                self.caps.append(cap / self.canvas.height)
                self.starts.append(number == 0 or line[number - 1] == " ")

    def font(self, cap: float) -> ImageFont.FreeTypeFont:
        """Return a font of any family whose capitals are so high."""
        path = self.rng.choice(self.maker.fonts)
        return _font(path, max(round(cap / _cap_share(path)), SMALLEST))


@lru_cache(400)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(None)
def _cap_share(path: str) -> float:
    """Return the height of a capital letter as a share of the font's size."""
    box = ImageFont.truetype(path, 200, layout_engine=ImageFont.Layout.BASIC).getbbox("H", anchor="ls")
    return -box[1] / 200


@lru_cache(20_000)
def _advance(font: ImageFont.FreeTypeFont, letter: str) -> float:
    return font.getlength(letter)


def _pick(of: Sequence[tuple[str, float]], rng: random.Random) -> str:
    return rng.choices([name for name, _ in of], [weight for _, weight in of])[0]


def _inks(rng: random.Random) -> tuple[Ink, Ink]:
    """Return the colours of a board and of its letters: any two that are far enough apart to read."""
    while True:
        one, other = (tuple(rng.randrange(256) for _ in range(3)) for _ in range(2))
        if abs(_light(one) - _light(other)) > rng.choice((80, 120, 160)):
            return one, other  # type: ignore[return-value]


def _light(ink: Sequence[float]) -> float:
    return 0.3 * ink[0] + 0.59 * ink[1] + 0.11 * ink[2]


def _panel(lines: _Lines, box: tuple[float, float, float, float], colour: Ink) -> None:
    """Lay a panel over part of the canvas, some of them so that the photograph shines through."""
    left, top, right, bottom = (round(edge) for edge in box)
    cover = lines.rng.choice((1.0, 1.0, 0.85))
    below = lines.canvas.crop((left, top, right, bottom))
    panel = Image.new("RGB", below.size, colour)
    lines.canvas.paste(panel if cover == 1 else Image.blend(below, panel, cover), (left, top))


def _board(lines: _Lines) -> None:
    """Fill one board with lines: a slide, a page of a book, a poster."""
    rng, (width, height) = lines.rng, lines.canvas.size
    left, top = width * rng.uniform(0, 0.08), height * rng.uniform(0, 0.08)
    right, bottom = width * rng.uniform(0.85, 1.0), height * rng.uniform(0.85, 1.0)
    back, ink = _inks(rng)
    _panel(lines, (left, top, right, bottom), back)
    cap, pitch, pad = lines.cap(most=0.12), rng.uniform(1.6, 2.4), width * rng.uniform(0.01, 0.05)
    font, is_uniform = lines.font(cap), rng.random() < 0.5
    baseline = top + cap * rng.uniform(1.4, 2.0)
    while baseline + cap * 0.4 < bottom:
        if rng.random() > 0.08:
            lines.write(left + pad, right - pad, baseline, font, ink)
        before = cap
        if not is_uniform and rng.random() < 0.4:
            cap = lines.cap(most=0.12)
            font = lines.font(cap)
        baseline += pitch * (cap * 0.75 + before * 0.25)


def _strips(lines: _Lines) -> None:
    """Write on strips from top to bottom, each with its own look: signs, screens, bars, bare letters."""
    rng, (width, height) = lines.rng, lines.canvas.size
    top = height * rng.uniform(0, 0.06)
    while True:
        cap = lines.cap()
        bottom = top + cap * rng.uniform(1.7, 2.4)
        if bottom > height:
            return
        edges = [0.0, width] if rng.random() < 0.6 else [0.0, width * rng.uniform(0.35, 0.65), width]
        for left, right in pairwise(edges):
            if rng.random() < 0.88:
                _sign(lines, (left + 2, top, right - 2, bottom), cap)
        top = bottom + rng.choice((0.0, 2.0, height * rng.uniform(0, 0.06)))


def _sign(lines: _Lines, box: tuple[float, float, float, float], cap: float) -> None:
    left, top, right, bottom = box
    rng = lines.rng
    baseline = (top + bottom) / 2 + cap * rng.uniform(0.4, 0.6)
    back, ink = _inks(rng)
    outline, font = 0, lines.font(cap)
    if rng.random() < 0.62:
        _panel(lines, box, back)
    elif rng.random() < 0.6:
        ink = rng.choice(((255, 255, 255), (250, 240, 80), (10, 10, 10)))
        outline = max(1, round(font.size / 14))
    else:
        below = np.asarray(lines.canvas.crop((round(left), round(top), round(right), round(bottom))).resize((8, 8)))
        light = _light(below.reshape(-1, 3).mean(0).tolist())
        ink = (0, 0, 0) if light > 140 else (255, 255, 255)
    lines.write(left + cap * 0.4, right - cap * 0.4, baseline, font, ink, outline=outline)


def _footage(lines: _Lines) -> None:
    """Write one or two lines low in the picture, as subtitles and lower thirds are: the rest has no text."""
    rng, (width, height) = lines.rng, lines.canvas.size
    cap, bottom = lines.cap(most=0.09), height * rng.uniform(0.85, 1.0)
    for _ in range(rng.choice((1, 1, 2))):
        _sign(lines, (width * 0.02, max(0.0, bottom - 2 * cap), width * 0.98, bottom), cap)
        bottom -= 2 * cap


def _seen_from_aside(
    canvas: Image.Image, centres_K2: NDArray[np.float64], rng: random.Random
) -> tuple[Image.Image, NDArray[np.float64]]:
    """Move the four corners, and the characters' centres with them."""
    width, height = canvas.size
    flat = [(0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height))]
    seen = [(x + rng.uniform(-0.06, 0.06) * width, y + rng.uniform(-0.08, 0.08) * height) for x, y in flat]
    moved = canvas.transform(
        canvas.size, Image.Transform.PERSPECTIVE, perspective(seen, flat), Image.Resampling.BICUBIC
    )
    a, b, c, d, e, f, g, h = perspective(flat, seen)
    x, y = centres_K2.T
    return moved, np.stack([a * x + b * y + c, d * x + e * y + f], 1) / (g * x + h * y + 1)[:, None]


def _as_footage(picture: Image.Image, rng: random.Random) -> NDArray[np.uint8]:
    """Return the picture with what cameras and codecs do to some: a blur, noise, blocks of compression."""
    if rng.random() < 0.12:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    if rng.random() < 0.4:
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=rng.randint(35, 92))
        picture = Image.open(packed)
    values = np.asarray(picture)
    if rng.random() < 0.15:
        noise = np.random.default_rng(rng.getrandbits(32)).integers(-12, 13, values.shape, dtype=np.int16)
        values = np.clip(values + noise, 0, 255).astype(np.uint8)
    return values
