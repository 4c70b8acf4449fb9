"""Natural footage with text to read: words, numbers and lines drawn over photographs in many fonts.

Five kinds, as footage shows them: a subtitle (outlined, at the bottom), a lower third (name on a bar), a slide (a pale
board that fills most of the picture), a screen (glowing letters on a dark panel) and a sign (a board seen at an angle).
How large the letters are is one number, the height of a capital letter as a share of the picture's height.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from m3video.errors import UsageError
from m3video.training.natural.question_style import NaturalQuestion, Told, as_typed, shaped
from m3video.training.natural.splits import Part, font_families, part_of

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the picture's width and height."""
Corners = list[tuple[float, float]]

CAP_HEIGHTS: dict[str, tuple[float, float]] = {
    "subtitle": (0.035, 0.06),
    "lower third": (0.035, 0.06),
    "slide": (0.04, 0.10),
    "screen": (0.05, 0.14),
    "sign": (0.06, 0.18),
}
"""Kind -> smallest and largest height of a capital letter, as a share of the picture's height."""
KINDS = tuple(CAP_HEIGHTS)
MARGIN = 0.03
"""Of the picture's width and height: nothing is written closer to the border."""
SMALLEST = 0.6
"""A text that does not fit is drawn smaller, down to this share of the kind's smallest cap height."""
TOO_THIN = ("Thin", "Hairline", "ExtraLight")
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")
WORDS_OF_A_LINE = 5


@dataclass(frozen=True, slots=True)
class Overlaid:
    """A picture with a text in it, where the text is, how it was drawn, and with how large capitals."""

    picture: Image.Image
    text: str
    box: Box
    kind: str
    family: str
    cap_height: float


@cache
def fonts(part: Part) -> tuple[tuple[str, Path], ...]:
    """Return (family, file) of a part's fonts that this machine has, in one order everywhere.

    Looks into matplotlib's fonts, the system's, and packages called `font_*` that hold a folder `files`
    (`pip install font-roboto font-source-serif-pro ...`: their families are named in the split).

    Raises:
        UsageError: if there is none.
    """
    wanted = set(font_families(part))
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(_font_files(), key=lambda path: path.name):
        try:
            family, style = ImageFont.truetype(str(path), 20).getname()
        except OSError:
            continue
        if family in wanted and style and not any(thin in style for thin in TOO_THIN):
            found.setdefault((family, style), path)
    if not found:
        raise UsageError(f"no font of the {part} part is installed: pip install matplotlib, which brings some")
    return tuple((family, path) for (family, _), path in sorted(found.items()))


def _font_files() -> Iterable[Path]:
    folders = [Path(folder) for folder in FONT_FOLDERS]
    if (matplotlib := find_spec("matplotlib")) and matplotlib.origin:
        folders.append(Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf")
    folders += [files for place in sys.path if place for files in Path(place).glob("font_*/files")]
    for folder in folders:
        for ending in ("ttf", "otf"):
            yield from folder.rglob(f"*.{ending}")


def choose_text(words: Sequence[str], part: Part, rng: random.Random) -> str:
    """Return a text of the part: a word, a four-digit number, or a line of five words, a third each.

    Args:
        words: to choose from; those of other parts are skipped (each word by itself, in lines too).
        part: no number and no word of `test` is ever drawn in training.
        rng: decides.
    """
    kind = rng.choice(("word", "number", "line"))
    if kind == "number":
        while True:
            number = f"{rng.randrange(10_000):04d}"
            if part_of("texts", number) == part:
                return number
    chosen: list[str] = []
    for _ in range(1000):
        word = rng.choice(words)
        if part_of("texts", word) == part and word.isascii() and word.strip("'-").isalpha():
            chosen.append(word)
        if len(chosen) == (1 if kind == "word" else WORDS_OF_A_LINE):
            return _cased(" ".join(chosen), rng)
    raise UsageError(f"too few of the {len(words)} words are of the {part} part: give more")


def _cased(text: str, rng: random.Random) -> str:
    return rng.choice((text, text.lower(), text.upper(), text[:1].upper() + text[1:].lower()))


def overlaid(photo: Image.Image, text: str, *, kind: str, part: Part, rng: random.Random) -> Overlaid:
    """Return a photograph with a text drawn over it.

    Args:
        photo: RGB; it is not changed.
        text: what to draw, in one line (slides and signs break it into two or three).
        kind: `subtitle`, `lower third`, `slide`, `screen` or `sign`.
        part: whose fonts to use.
        rng: decides font, size, place and colours.

    Raises:
        UsageError: for an unknown kind, or a text too long for the picture.
    """
    if kind not in CAP_HEIGHTS:
        raise UsageError(f'no kind of text is called "{kind}"; use one of {", ".join(KINDS)}')
    picture = photo.convert("RGB")
    family, path = rng.choice(fonts(part))
    lines = _lines(text, rng) if kind in {"slide", "sign"} else [text]
    size, cap = _fitting(picture, lines, path, kind, rng)
    font = ImageFont.truetype(str(path), size)
    draw = {"subtitle": _subtitle, "lower third": _lower_third, "slide": _slide, "screen": _screen, "sign": _sign}[kind]
    picture, box = draw(picture, "\n".join(lines), font, rng)
    width, height = picture.size
    left, top, right, bottom = box
    return Overlaid(picture, text, (left / width, top / height, right / width, bottom / height), kind, family, cap)


def _lines(text: str, rng: random.Random) -> list[str]:
    words = text.split()
    if len(words) < 3:
        return [text]
    cuts = sorted(rng.sample(range(1, len(words)), rng.choice((1, 2)) if len(words) > 3 else 1))
    return [" ".join(words[a:b]) for a, b in zip([0, *cuts], [*cuts, len(words)], strict=True)]


def _fitting(
    picture: Image.Image, lines: Sequence[str], path: Path, kind: str, rng: random.Random
) -> tuple[int, float]:
    """Return a font size at which the text fits, and its cap height as a share of the picture's height."""
    width, height = picture.size
    low, high = CAP_HEIGHTS[kind]
    measured = ImageFont.truetype(str(path), 200)
    cap = measured.getbbox("H")[3] - measured.getbbox("H")[1]
    widest = max(measured.getlength(line) for line in lines)
    room = (1 - 2 * MARGIN) * width * {"subtitle": 1.0, "slide": 0.82}.get(kind, 0.85)
    wanted = rng.uniform(low, high) * height * 200 / cap
    lowest = 0.75 * height / (len(lines) * sum(measured.getmetrics()) / 200)
    size = min(wanted, 200 * room / widest, lowest)
    share = size * cap / 200 / height
    if share < low * SMALLEST:
        raise UsageError(
            f'"{lines[0]}" is too long for a {kind} in a picture of {width} x {height}: give a shorter one'
        )
    return max(int(size), 6), max(int(size), 6) * cap / 200 / height


Ink = tuple[int, int, int]


def _contrasting(rng: random.Random) -> tuple[Ink, Ink]:
    """Return a dark and a light colour, in one order or the other, far enough apart to read."""
    dark: Ink = (rng.randrange(70), rng.randrange(70), rng.randrange(90))
    light: Ink = (rng.randrange(200, 256), rng.randrange(200, 256), rng.randrange(170, 256))
    return (dark, light) if rng.random() < 0.5 else (light, dark)


def _written(
    picture: Image.Image, at: tuple[float, float], text: str, font: ImageFont.FreeTypeFont, **how: object
) -> Box:
    draw = ImageDraw.Draw(picture)
    draw.text(at, text, font=font, **how)  # type: ignore[arg-type]
    given = {key: value for key, value in how.items() if key in {"align", "spacing", "stroke_width"}}
    return draw.textbbox(at, text, font=font, **given)  # type: ignore[arg-type]


def _extent(text: str, font: ImageFont.FreeTypeFont) -> tuple[float, float, float, float]:
    return ImageDraw.Draw(Image.new("RGB", (1, 1))).textbbox((0, 0), text, font=font)


def _subtitle(
    picture: Image.Image, text: str, font: ImageFont.FreeTypeFont, rng: random.Random
) -> tuple[Image.Image, Box]:
    width, height = picture.size
    left, _, right, bottom = _extent(text, font)
    x = (width - (right - left)) / 2 - left
    y = height * (1 - rng.uniform(MARGIN, 0.10)) - bottom
    ink = rng.choice(((255, 255, 255), (255, 255, 255), (250, 240, 80)))
    return picture, _written(
        picture, (x, y), text, font, fill=ink, stroke_width=max(1, round(font.size / 14)), stroke_fill=(0, 0, 0)
    )


def _lower_third(
    picture: Image.Image, text: str, font: ImageFont.FreeTypeFont, rng: random.Random
) -> tuple[Image.Image, Box]:
    width, height = picture.size
    left, top, right, bottom = _extent(text, font)
    pad = font.size * rng.uniform(0.3, 0.7)
    x0, y1 = width * rng.uniform(MARGIN, 0.06), height * rng.uniform(0.82, 0.95)
    x1, y0 = min(x0 + right - left + 2 * pad, width - 1), y1 - (bottom - top) - 2 * pad
    if rng.random() < 0.4:
        x1 = width - 1
    bar, ink = _contrasting(rng)
    _blend(picture, (x0, y0, x1, y1), bar, rng.uniform(0.75, 1.0))
    return picture, _written(picture, (x0 + pad - left, y0 + pad - top), text, font, fill=ink)


def _blend(picture: Image.Image, box: Box, colour: Ink, cover: float) -> None:
    left, top, right, bottom = (round(edge) for edge in box)
    below = picture.crop((left, top, right, bottom))
    picture.paste(Image.blend(below, Image.new("RGB", below.size, colour), cover), (left, top))


def _slide(
    picture: Image.Image, text: str, font: ImageFont.FreeTypeFont, rng: random.Random
) -> tuple[Image.Image, Box]:
    width, height = picture.size
    board = [rng.uniform(0.02, 0.07) * width, rng.uniform(0.02, 0.1) * height]
    board += [width - rng.uniform(0.02, 0.07) * width, height - rng.uniform(0.02, 0.1) * height]
    back, ink = _contrasting(rng)
    ImageDraw.Draw(picture).rectangle(tuple(board), fill=back)
    left, top, right, bottom = _extent(text, font)
    x = board[0] + rng.uniform(0.1, 0.9) * max(0.0, board[2] - board[0] - (right - left)) - left
    y = board[1] + rng.uniform(0.1, 0.9) * max(0.0, board[3] - board[1] - (bottom - top)) - top
    return picture, _written(picture, (x, y), text, font, fill=ink, align=rng.choice(("left", "center")))


def _screen(
    picture: Image.Image, text: str, font: ImageFont.FreeTypeFont, rng: random.Random
) -> tuple[Image.Image, Box]:
    width, height = picture.size
    left, top, right, bottom = _extent(text, font)
    pad = font.size * rng.uniform(0.4, 0.8)
    wide, high = min(right - left + 2 * pad, width * 0.98), min(bottom - top + 2 * pad, height * 0.98)
    x0 = rng.uniform(0.01 * width, max(0.01 * width, 0.99 * width - wide))
    y0 = rng.uniform(0.01 * height, max(0.01 * height, 0.99 * height - high))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((x0, y0, x0 + wide, y0 + high), fill=(rng.randrange(30),) * 3, outline=(rng.randrange(60, 140),) * 3)
    ink = rng.choice(((90, 255, 120), (255, 170, 60), (255, 80, 70), (120, 220, 255), (240, 240, 240)))
    return picture, _written(
        picture, (x0 + (wide - right - left) / 2, y0 + (high - bottom - top) / 2), text, font, fill=ink
    )


def _sign(picture: Image.Image, text: str, font: ImageFont.FreeTypeFont, rng: random.Random) -> tuple[Image.Image, Box]:
    """Draw a board flat, with a mask, and paste it as it looks from aside: its four corners move."""
    width, height = picture.size
    left, top, right, bottom = _extent(text, font)
    pad = font.size * rng.uniform(0.3, 0.6)
    wide, high = min(right - left + 2 * pad, width * 0.96), min(bottom - top + 2 * pad, height * 0.9)
    back, ink = _contrasting(rng)
    x0 = rng.uniform(0.01 * width, max(0.01 * width, 0.99 * width - wide))
    y0 = rng.uniform(0.02 * height, max(0.02 * height, 0.95 * height - high))
    board = Image.new("RGBA", picture.size)
    ImageDraw.Draw(board).rounded_rectangle((x0, y0, x0 + wide, y0 + high), font.size / 5, fill=back, outline=ink)
    box = _written(board, (x0 + (wide - right - left) / 2, y0 + (high - bottom - top) / 2), text, font, fill=ink)
    flat: Corners = [(x0, y0), (x0 + wide, y0), (x0 + wide, y0 + high), (x0, y0 + high)]
    shift = min(0.06 * wide, 0.18 * high)
    seen = [
        (min(max(x + rng.uniform(-shift, shift), 0), width), min(max(y + rng.uniform(-shift, shift), 0), height))
        for x, y in flat
    ]
    back_map = perspective(seen, flat)
    moved = board.transform(picture.size, Image.Transform.PERSPECTIVE, back_map, Image.Resampling.BICUBIC)
    picture.paste(moved, (0, 0), moved)
    forth = perspective(flat, seen)
    x1, y1, x2, y2 = box
    corners = [_moved(forth, corner) for corner in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
    xs, ys = zip(*corners, strict=True)
    return picture, (min(xs), min(ys), max(xs), max(ys))


def perspective(source: Corners, target: Corners) -> tuple[float, ...]:
    """Return the eight numbers a..h that take each source corner to its target:
    ((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1))."""
    rows, wanted = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    return tuple(float(value) for value in np.linalg.solve(np.array(rows), np.array(wanted)))


def _moved(by: Sequence[float], corner: tuple[float, float]) -> tuple[float, float]:
    (a, b, c, d, e, f, g, h), (x, y) = by, corner
    return (a * x + b * y + c) / (g * x + h * y + 1), (d * x + e * y + f) / (g * x + h * y + 1)


_PLACES: dict[str, tuple[str, ...]] = {
    "subtitle": ("subtitle", "caption at the bottom"),
    "lower third": ("banner", "bar at the bottom"),
    "slide": ("slide", "board"),
    "screen": ("screen", "display"),
    "sign": ("sign", "board"),
}
_ASKING: dict[str, tuple[str, ...]] = {
    "number": ("What number is shown?", "Which number is on the {0}?", "Read the number.", "What number do you see?"),
    "text": ("What does the {0} say?", "Read the {0}.", "What is written on the {0}?", "What text is on the {0}?"),
    "any": (
        "What does the text say?",
        "Read the text.",
        "What is written in the picture?",
        "Which words can you read?",
    ),
}


def reading_questions(text: str, kind: str, rng: random.Random) -> list[NaturalQuestion]:
    """Return one question that is answered by reading a text of a kind, letter by letter as it is drawn."""
    place = rng.choice(_PLACES[kind])
    wordings = _ASKING["number"] if text.isdigit() else _ASKING["text"] + _ASKING["any"]
    one = text if " " not in text else ""
    told = Told(one, text, f'the {place} says "{text}"')
    asked = shaped("reading", [wording.format(place) for wording in wordings], told, rng)
    return [as_typed(asked, rng)]
