"""Drawing a shot at a moment, with a dense label for every cell of the 24x24 grid.

Legend: H W picture size, G = 24 cells a side. Labels are read off at the cell centres of the padded square, because
that is where the vision tower's patches lie.
"""

from __future__ import annotations

import functools
import math
import random
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from m3video.training.scenes import HELD_OUT_FONTS, DrawnShape, Font, Shot, Sign, outline_points, place_of, sample_font
from m3video.training.words import COLOURS, GLYPHS, PLACES, RGB, SHAPES

GRID = 24
PAD_CELL, BACKGROUND_CELL, SHAPE_CELL, SIGN_CELL, TILE_CELL, PAGE_CELL, TABLE_CELL = range(7)
TEXTURES = {"train": ("grass.png", "gravel.png", "coins.png"), "held_out": ("brick.png",)}
PHOTOS = {
    "train": ("astronaut.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png"),
    "held_out": ("coffee.png", "ihc.png"),
}
Picture = NDArray[np.uint8]
_HERSHEY = {
    "simplex": cv2.FONT_HERSHEY_SIMPLEX,
    "duplex": cv2.FONT_HERSHEY_DUPLEX,
    "script": cv2.FONT_HERSHEY_TRIPLEX,
    "complex": cv2.FONT_HERSHEY_COMPLEX,
    "plain": cv2.FONT_HERSHEY_PLAIN,
}


class CellLabels(NamedTuple):
    """What each cell shows: `kind_GG` (the *_CELL values), `colour_GG` and `shape_GG` (index + 1, 0 = none),
    `glyph_GG` (index into GLYPHS + 1, 0 = none), `tile_GG` (row * 12 + column of the board or table, -1 = none),
    `order_GG` (which letter of its sign the glyph is, from 1 on, 0 = no sign's), `place_GG` (index into PLACES + 1
    of the shape that covers the cell, 0 = none); all int16."""

    kind_GG: NDArray[np.int16]
    colour_GG: NDArray[np.int16]
    shape_GG: NDArray[np.int16]
    glyph_GG: NDArray[np.int16]
    tile_GG: NDArray[np.int16]
    order_GG: NDArray[np.int16]
    place_GG: NDArray[np.int16]


@functools.cache
def natural_picture(name: str) -> Picture:
    """Read one of the pictures inside the scikit-image wheel from its files; nothing is downloaded."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    rgb = np.asarray(Image.open(path).convert("RGB"))
    scale = 512 / min(rgb.shape[:2])
    return cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)


@functools.lru_cache(maxsize=16384)
def glyph_mask(glyph: str, font: Font, pixels: int) -> Picture:
    """Return the ink of one glyph, uint8 [h, w] with h = about `pixels`."""
    ink = _sans(glyph, font, pixels) if font.name.startswith("sans") else _hershey(glyph, font, pixels)
    lean = font.slant * ink.shape[0]
    if font.stretch != 1 or lean:
        change = np.array([[font.stretch, -font.slant, max(0.0, lean)], [0, 1, 0]], np.float32)
        ink = cv2.warpAffine(ink, change, (int(ink.shape[1] * font.stretch + abs(lean)), ink.shape[0])).astype(np.uint8)
    return np.ascontiguousarray(ink, np.uint8)


def _sans(glyph: str, font: Font, pixels: int) -> Picture:
    face = ImageFont.load_default(pixels)
    stroke = max(1, round(pixels / 16 * font.weight)) if font.name.endswith("bold") else 0
    left, _, right, _ = face.getbbox(glyph, stroke_width=stroke)
    image = Image.new("L", (max(2, int(right - left) + 2), int(pixels * 1.2)))
    ImageDraw.Draw(image).text((1 - left, -pixels * 0.12), glyph, font=face, fill=255, stroke_width=stroke)
    return np.asarray(image)


def _hershey(glyph: str, font: Font, pixels: int) -> Picture:
    scale = pixels / (15 if font.name == "plain" else 30)
    thick = max(1, round(pixels // 14 * font.weight))
    (width, height), _ = cv2.getTextSize(glyph, _HERSHEY[font.name], scale, thick)
    sheet = np.zeros((int(height * 1.35) + 4, width + 4), np.uint8)
    cv2.putText(sheet, glyph, (2, int(height * 1.1) + 1), _HERSHEY[font.name], scale, (255,), thick, cv2.LINE_AA)
    return sheet


def _crop(shot: Shot, rng: np.random.Generator, moment: float, *, natural: Picture) -> NDArray[np.float32]:
    """Return a panning crop of `natural`, resized to the shot's size, normalised to mean luma 120."""
    width, height = shot.size
    rows, columns = natural.shape[:2]
    zoom = rng.uniform(0.55, 0.95) * min(columns / width, rows / height)
    crop_w, crop_h = max(8, int(width * zoom)), max(8, int(height * zoom))
    where = [min(1.0, max(0.0, rng.uniform(0, 1) + speed * (moment - 0.5))) for speed in shot.pan]
    x, y = int(where[0] * (columns - crop_w)), int(where[1] * (rows - crop_h))
    picture = cv2.resize(natural[y : y + crop_h, x : x + crop_w], shot.size, interpolation=cv2.INTER_LINEAR)
    out = picture.astype(np.float32)
    return np.clip((out - out.mean()) * min(1.6, 55 / (out.std() + 1)) + 120, 0, 255)


def _jittered(rng: np.random.Generator, colour: str) -> NDArray[np.float32]:
    return np.clip(np.array(RGB[colour], np.float32) + rng.uniform(-14, 14, 3).astype(np.float32), 0, 255)


def _backdrop(shot: Shot, rng: np.random.Generator, moment: float) -> NDArray[np.float32]:
    width, height = shot.size
    group = "held_out" if shot.held_out else "train"
    if shot.backdrop == "photo":
        names = PHOTOS[group]
        return _crop(shot, rng, moment, natural=natural_picture(names[rng.integers(len(names))]))
    colour = _jittered(rng, shot.background)
    if shot.backdrop == "texture":
        names = TEXTURES[group]
        texture = _crop(shot, rng, moment, natural=natural_picture(names[rng.integers(len(names))])).mean(2)
        contrast = rng.uniform(0.25, 0.6)
        return np.clip(colour * (1 + contrast * (texture[..., None] - 120) / 120), 0, 255).astype(np.float32)
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = colour
    if shot.backdrop == "gradient":
        angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.15, 0.4)
        ramp = math.cos(angle) * np.linspace(-1, 1, width)[None] + math.sin(angle) * np.linspace(-1, 1, height)[:, None]
        canvas *= (1 + depth * 0.7 * ramp)[..., None].astype(np.float32)
    return np.clip(canvas, 0, 255)


def _draw_shape(canvas: Picture, mask: Picture, shape: DrawnShape, moment: float, *, rgb: tuple[int, ...]) -> None:
    """Fill `shape` on `canvas` (anti-aliased) and its area on `mask` with 255."""
    height, width = canvas.shape[:2]
    x, y = shape.centre(moment)
    radius = shape.radius * min(height, width)
    edge = (250, 250, 250) if sum(rgb) < 380 else (10, 10, 10)
    thick = max(1, int(radius * 0.08))
    if shape.kind in ("circle", "ring"):
        centre = (int(x * width * 16), int(y * height * 16))
        band = -1 if shape.kind == "circle" else max(2, int(radius * 0.42))
        reach = radius if band < 0 else radius - band / 2
        cv2.circle(canvas, centre, int(reach * 16), rgb, band, cv2.LINE_AA, 4)
        cv2.circle(mask, centre, int(reach * 16), (255,), band, cv2.LINE_8, 4)
        if shape.outline and band < 0:
            cv2.circle(canvas, centre, int(reach * 16), edge, thick, cv2.LINE_AA, 4)
        return
    turn = shape.angle + shape.spin * (moment - 0.5)
    cos, sin = math.cos(turn) * radius, math.sin(turn) * radius
    corners = [(x * width + cos * u - sin * v, y * height + sin * u + cos * v) for u, v in outline_points(shape.kind)]
    points: Any = np.round(np.array(corners) * 16).astype(np.int32)[None]
    cv2.fillPoly(canvas, points, rgb, cv2.LINE_AA, 4)
    cv2.fillPoly(mask, points, (255,), cv2.LINE_8, 4)
    if shape.outline:
        cv2.polylines(canvas, points, True, edge, thick, cv2.LINE_AA, 4)


def _stamp(canvas: Picture, ink: Picture, x: int, y: int, rgb: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Blend `ink` at (x, y) on `canvas`; the box it covers, or None when it would not fit."""
    h, w = ink.shape
    if x < 0 or y < 0 or y + h > canvas.shape[0] or x + w > canvas.shape[1]:
        return None
    alpha = ink[..., None].astype(np.float32) / 255
    region = canvas[y : y + h, x : x + w]
    region[:] = (region * (1 - alpha) + np.array(rgb, np.float32) * alpha).astype(np.uint8)
    return x, y, x + w, y + h


Boxes = list[tuple[int, tuple[int, int, int, int]]]


def _draw_sign(canvas: Picture, kind: NDArray[np.int16], sign: Sign, rng: np.random.Generator) -> Boxes:
    height, width = canvas.shape[:2]
    panel_w = sign.width * width
    pixels = int(max(9, min(panel_w / (0.68 * len(sign.text) + 0.5), height * 0.45)))
    while True:
        inks = [glyph_mask(g.upper(), sign.font, pixels) for g in sign.text]
        text_w, text_h = sum(i.shape[1] for i in inks), max(i.shape[0] for i in inks)
        pad = pixels // 3
        # A wide font must not lose its last letter at the picture's edge.
        if text_w + 2 * pad + 3 <= width or pixels == 9:
            break
        pixels = max(9, int(pixels * 0.9))
    x = int(np.clip(sign.x * width - text_w / 2, pad + 1, max(pad + 1, width - text_w - pad - 1)))
    y = int(np.clip(sign.y * height - text_h / 2, pad + 1, max(pad + 1, height - text_h - pad - 1)))
    light = tuple(int(v) for v in rng.integers(215, 250, 3))
    dark = tuple(int(v) for v in rng.integers(5, 50, 3))
    paper, text_rgb = (light, dark) if sign.dark_on_light else (dark, light)
    cv2.rectangle(canvas, (x - pad, y - pad), (x + text_w + pad, y + text_h + pad), paper, -1)
    cv2.rectangle(canvas, (x - pad, y - pad), (x + text_w + pad, y + text_h + pad), text_rgb, max(1, pixels // 20))
    kind[max(0, y - pad) : y + text_h + pad + 1, max(0, x - pad) : x + text_w + pad + 1] = SIGN_CELL
    boxes: Boxes = []
    for glyph, ink in zip(sign.text, inks, strict=True):
        box = _stamp(canvas, ink, x, y + (text_h - ink.shape[0]) // 2, text_rgb)
        if box:
            boxes.append((GLYPHS.index(glyph.upper()) + 1, box))
        x += ink.shape[1]
    return boxes


def _font(shot: Shot, rng: np.random.Generator) -> Font:
    if shot.held_out:
        return HELD_OUT_FONTS[rng.integers(len(HELD_OUT_FONTS))]
    return sample_font(random.Random(int(rng.integers(2**32))))


def _draw_page(canvas: Picture, kind: NDArray[np.int16], shot: Shot, rng: np.random.Generator) -> Boxes:
    page = shot.page
    assert page is not None
    height, width = canvas.shape[:2]
    font = _font(shot, rng)
    step_x, step_y = width * 0.94 / max(map(len, page)), height * 0.94 / len(page)
    pixels = int(max(9, min(step_x * 1.25, step_y * 0.72)))
    light, dark = (tuple(int(v) for v in rng.integers(*r, 3)) for r in ((225, 250), (5, 45)))
    paper, ink_rgb = (light, dark) if rng.random() < 0.7 else (dark, light)
    top, left = int(height * 0.02), int(width * 0.02)
    canvas[top : height - top, left : width - left] = paper
    kind[top : height - top, left : width - left] = PAGE_CELL
    boxes: Boxes = []
    for row, line in enumerate(page):
        for column, glyph in enumerate(line):
            if glyph == " ":
                continue
            ink = glyph_mask(glyph, font, pixels)
            x = int(width * 0.03 + (column + 0.5) * step_x - ink.shape[1] / 2)
            y = int(height * 0.03 + (row + 0.5) * step_y - ink.shape[0] / 2)
            box = _stamp(canvas, ink, x, y, ink_rgb)
            if box:
                boxes.append((GLYPHS.index(glyph) + 1, box))
    return boxes


def _lines(canvas: Picture, columns: int, rows: int, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where the columns and rows of a board or table begin and end: most of the picture, in pixels."""
    height, width = canvas.shape[:2]
    box_w = width * rng.uniform(0.8, 0.98)
    box_h = height * rng.uniform(0.85, 0.98)
    left, top = rng.uniform(0.01, 0.99 - box_w / width) * width, rng.uniform(0.01, 0.99 - box_h / height) * height
    xs = np.round(left + box_w * np.arange(columns + 1) / columns).astype(int)
    ys = np.round(top + box_h * np.arange(rows + 1) / rows).astype(int)
    return xs, ys


def _draw_table(canvas: Picture, maps: dict[str, NDArray[np.int16]], shot: Shot, rng: np.random.Generator) -> Boxes:
    table = shot.table
    assert table is not None
    xs, ys = _lines(canvas, len(table[0]), len(table), rng)
    font = _font(shot, rng)
    light, dark = (tuple(int(v) for v in rng.integers(*r, 3)) for r in ((215, 250), (5, 50)))
    paper, ink_rgb = (light, dark) if rng.random() < 0.7 else (dark, light)
    canvas[ys[0] : ys[-1], xs[0] : xs[-1]] = paper
    for x in xs:
        canvas[ys[0] : ys[-1], max(0, x - 1) : x + 1] = ink_rgb
    for y in ys:
        canvas[max(0, y - 1) : y + 1, xs[0] : xs[-1]] = ink_rgb
    pixels = int(max(9, min((xs[1] - xs[0]) * 0.9, (ys[1] - ys[0]) * 0.75) * rng.uniform(0.75, 1)))
    boxes: Boxes = []
    for r, line in enumerate(table):
        for c, digit in enumerate(line):
            whole = (slice(ys[r], ys[r + 1]), slice(xs[c], xs[c + 1]))
            maps["kind"][whole] = TABLE_CELL
            maps["tile"][whole] = r * 12 + c
            ink = glyph_mask(digit, font, pixels)
            middle_x, middle_y = (xs[c] + xs[c + 1] - ink.shape[1]) // 2, (ys[r] + ys[r + 1] - ink.shape[0]) // 2
            box = _stamp(canvas, ink, int(middle_x), int(middle_y), ink_rgb)
            if box:
                boxes.append((GLYPHS.index(digit) + 1, box))
    return boxes


def _draw_board(canvas: Picture, maps: dict[str, NDArray[np.int16]], shot: Shot, rng: np.random.Generator) -> None:
    board = shot.board
    assert board is not None
    side = len(board)
    xs, ys = _lines(canvas, side, side, rng)
    gap = 1 if side == 12 else int(rng.integers(0, 4))
    canvas[ys[0] - 1 : ys[-1] + 1, xs[0] - 1 : xs[-1] + 1] = int(rng.integers(0, 255))
    for r in range(side):
        for c in range(side):
            area = (slice(ys[r], ys[r + 1] - gap), slice(xs[c], xs[c + 1] - gap))
            canvas[area] = _jittered(rng, board[r][c]).astype(np.uint8)
            whole = (slice(ys[r], ys[r + 1]), slice(xs[c], xs[c + 1]))
            maps["kind"][whole] = TILE_CELL
            maps["colour"][whole] = COLOURS.index(board[r][c]) + 1
            maps["tile"][whole] = r * 12 + c


def _cells(values: NDArray[np.int16], *, outside: int) -> NDArray[np.int16]:
    """Read a picture-sized map at the cell centres of the square it will be padded to."""
    height, width = values.shape
    side = max(height, width)
    centres = (np.arange(GRID) + 0.5) / GRID * side
    ys, xs = (centres - (side - height) // 2).astype(int), (centres - (side - width) // 2).astype(int)
    inside = ((ys >= 0) & (ys < height))[:, None] & ((xs >= 0) & (xs < width))[None]
    picked = values[ys.clip(0, height - 1)][:, xs.clip(0, width - 1)]
    return np.where(inside, picked, outside).astype(np.int16)


def _glyph_cells(boxes: Boxes, height: int, width: int) -> NDArray[np.int16]:
    """Return a cell carries a glyph when its centre lies in the glyph's core, or when it holds the glyph's centre."""
    side = max(height, width)
    cell, off_x, off_y = side / GRID, (side - width) // 2, (side - height) // 2
    out = np.zeros((GRID, GRID), np.int16)
    for glyph, (x0, y0, x1, y1) in boxes:
        cx, cy, hw, hh = (x0 + x1) / 2 + off_x, (y0 + y1) / 2 + off_y, (x1 - x0) * 0.36, (y1 - y0) * 0.36
        c0, c1 = math.ceil((cx - hw) / cell - 0.5), math.floor((cx + hw) / cell - 0.5)
        r0, r1 = math.ceil((cy - hh) / cell - 0.5), math.floor((cy + hh) / cell - 0.5)
        out[max(0, r0) : r1 + 1, max(0, c0) : c1 + 1] = glyph
        out[min(GRID - 1, int(cy / cell)), min(GRID - 1, int(cx / cell))] = glyph
    return out


def draw(shot: Shot, moment: float) -> tuple[Picture, CellLabels]:
    """Return the picture of `shot` at `moment` (0..1), uint8 [H, W, 3], and its cell labels."""
    rng = np.random.default_rng(shot.seed)
    width, height = shot.size
    canvas = _backdrop(shot, rng, moment).astype(np.uint8)
    maps = {name: np.zeros((height, width), np.int16) for name in ("colour", "shape", "place")}
    maps["kind"] = np.full((height, width), BACKGROUND_CELL, np.int16)
    maps["tile"] = np.full((height, width), -1, np.int16)
    if shot.background in COLOURS:
        maps["colour"][:] = COLOURS.index(shot.background) + 1
    for shape in shot.shapes:
        mask = np.zeros((height, width), np.uint8)
        rgb = tuple(int(v) for v in _jittered(rng, shape.colour))
        _draw_shape(canvas, mask, shape, moment, rgb=rgb)
        inside = mask > 0
        maps["kind"][inside] = SHAPE_CELL
        maps["colour"][inside] = COLOURS.index(shape.colour) + 1
        maps["shape"][inside] = SHAPES.index(shape.kind) + 1
        maps["place"][inside] = PLACES.index(place_of(*shape.centre(moment))[0]) + 1
    boxes: Boxes = []
    if shot.board:
        _draw_board(canvas, maps, shot, rng)
    if shot.page:
        boxes = _draw_page(canvas, maps["kind"], shot, rng)
    if shot.table:
        boxes = _draw_table(canvas, maps, shot, rng)
    order = np.zeros((GRID, GRID), np.int16)
    for sign in (*((shot.sign,) if shot.sign else ()), *shot.more_signs):
        letters = _draw_sign(canvas, maps["kind"], sign, rng)
        boxes += letters
        # A letter that did not fit is missing from the sign that is seen, and from what is asked of it.
        order = np.maximum(order, _glyph_cells([(n, box) for n, (_, box) in enumerate(letters, 1)], height, width))
    gain = rng.uniform(0.24, 0.42) if shot.night else rng.uniform(0.82, 1.08)
    lit = canvas.astype(np.float32) * gain
    if shot.noise:
        fresh = np.random.default_rng([shot.seed, int(moment * 1e6)])
        lit += fresh.standard_normal(lit.shape, dtype=np.float32) * (shot.noise * (0.5 if shot.night else 1.0))
    labels = CellLabels(
        _cells(maps["kind"], outside=PAD_CELL),
        _cells(maps["colour"], outside=0),
        _cells(maps["shape"], outside=0),
        _glyph_cells(boxes, height, width),
        _cells(maps["tile"], outside=-1),
        order,
        _cells(maps["place"], outside=0),
    )
    return np.clip(lit, 0, 255).astype(np.uint8), labels
