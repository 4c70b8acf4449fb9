"""Families of footage, drawn quickly: what a camera, a studio, a lecture, a guard, a match and a film's end look like.

Each of `FAMILIES` draws one shot: how long it is, and its picture at each frame. Pictures are uint8
[H, W, 3] in RGB, without grain. Photographs are those of scikit-image's wheel. Nothing here knows of events or files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Rng = np.random.Generator
Size = tuple[int, int]
"""Width and height."""

PHOTOS = "astronaut.png chelsea.png coffee.png hubble_deep_field.jpg ihc.png motorcycle_left.png rocket.jpg".split()
TEXTURES = "brick.png grass.png gravel.png".split()
WORDS = (
    "about after answer before between bridge budget camera change city clock colour cost early energy figure first "
    "forest frame garden growth history house island journey kitchen language light limit market measure memory model "
    "morning mountain number ocean office paper people picture plan point power price process question range record "
    "result river school season second signal silver station story street summer supply system table theory thought "
    "time token train value video village water weather week window winter world"
).split()
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class Shot:
    """One take.

    Attributes:
        seconds: how long it is.
        draw: frame number, from 0, to its picture, which the caller may draw over.
        walkers: seconds at which somebody comes into the picture and has left it, where that is known.
    """

    seconds: float
    draw: Callable[[int], Picture]
    walkers: tuple[tuple[float, float], ...] = ()


@lru_cache
def photograph(name: str) -> Picture:
    """A picture of scikit-image's wheel."""
    found: Any = cv2.imread(str(Path(skimage.__file__).parent / "data" / name))
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB)


def backdrop(rng: Rng, width: int, height: int) -> Picture:
    """A random part of a photograph, enlarged, with the detail that enlarging lacks from a texture, and a colour cast
    of its own."""
    photo = photograph(str(rng.choice(PHOTOS)))[:, :: int(rng.choice((1, -1)))]
    part_width = min(photo.shape[1], photo.shape[0] * width / height) * rng.uniform(0.55, 1)
    part_height = part_width * height / width
    left, top = (int(rng.uniform(0, most)) for most in (photo.shape[1] - part_width, photo.shape[0] - part_height))
    part = np.ascontiguousarray(photo[top : top + math.ceil(part_height), left : left + math.ceil(part_width)])
    large = cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    texture = photograph(str(rng.choice(TEXTURES))).astype(np.float32)
    fine = np.tile(texture - cv2.GaussianBlur(texture, (0, 0), 4), (height // 512 + 1, width // 512 + 1, 1))
    cast = rng.uniform(0.65, 1.05, 3).astype(np.float32) * np.float32(rng.uniform(0.7, 1.05))
    return np.clip((large + rng.uniform(0.1, 0.35) * fine[:height, :width]) * cast, 0, 255).astype(np.uint8)


def words(rng: Rng, count: int) -> str:
    """So many words."""
    return " ".join(rng.choice(WORDS, count))


def write(picture: Picture, text: str, place: tuple[float, float], letters: float, colour: tuple[int, ...]) -> None:
    """Write over `picture`, letters so many pixels high, the left end of their base at `place`."""
    scale = letters / 21
    thick = max(1, round(letters / 9))
    cv2.putText(picture, text, (round(place[0]), round(place[1])), FONT, scale, colour, thick, cv2.LINE_AA)


def figures(rng: Rng, height: int, poses: Sequence[float]) -> list[tuple[Picture, Picture]]:
    """Somebody with a head, a body, arms and legs in several poses, each with its mask; a pose -1..1 is how far the
    legs are apart."""
    darkest, lightest = ([[150], [20], [10]], [[230], [200], [180]])
    skin, coat, trousers = (tuple(row) for row in rng.integers(darkest, lightest, (3, 3)).tolist())
    width, thick = max(4, height // 2), max(1, height // 9)
    middle, found = width // 2, []
    for pose in poses:
        picture, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
        limbs = [((0.04 * side, 0.55), (0.14 * side * pose, 0.94), trousers) for side in (-1, 1)]
        limbs += [((0.1 * side, 0.27), (-0.16 * side * pose, 0.5), coat) for side in (-1, 1)]
        for *ends, colour in limbs:
            one, other = ((middle + round(x * height), round(y * height)) for x, y in ends)
            cv2.line(picture, one, other, colour, thick)
            cv2.line(mask, one, other, 255, thick)
        for canvas, body, head in ((picture, coat, skin), (mask, 255, 255)):
            cv2.ellipse(canvas, (middle, round(0.39 * height)), (height // 8, height // 5), 0, 0, 360, body, -1)
            cv2.circle(canvas, (middle, round(0.11 * height)), max(2, height // 10), head, -1)
        found.append((picture, mask))
    return found


def paste(picture: Picture, sprite: tuple[Picture, Picture], left: int, top: int) -> None:
    """Put a sprite over `picture`; what lies outside is cut off."""
    (height, width), (tall, wide) = picture.shape[:2], sprite[1].shape
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + wide, width), min(top + tall, height)
    if x0 < x1 and y0 < y1:
        colours, mask = (part[y0 - top : y1 - top, x0 - left : x1 - left] for part in sprite)
        cv2.copyTo(colours, mask, picture[y0:y1, x0:x1])


def text_slide(rng: Rng, size: Size) -> Picture:
    """A page of a lecture: a title, lines, perhaps a chart or a photograph."""
    width, height = size
    is_dark = rng.random() < 0.3
    paper, ink = ((24, 28, 40), (235, 235, 230)) if is_dark else ((246, 246, 240), (30, 30, 40))
    picture = np.full((height, width, 3), paper, np.uint8)
    accent = tuple(int(v) for v in rng.integers(40, 200, 3))
    picture[: round(height * 0.15)] = accent
    write(picture, words(rng, 3).capitalize(), (width * 0.05, height * 0.11), height * 0.055, (255, 255, 255))
    for line in range(int(rng.integers(3, 8))):
        place = (width * 0.07, height * (0.26 + 0.1 * line))
        write(picture, "- " + words(rng, int(rng.integers(2, 5))), place, height * 0.032, ink)
    kind = rng.integers(3)
    x0, x1, y0, y1 = round(width * 0.66), round(width * 0.95), round(height * 0.3), round(height * 0.85)
    if kind == 1:
        for bar, tall in enumerate(rng.uniform(0.1, 1, 5)):
            corner = (x0 + round((bar + 0.7) * (x1 - x0) / 5), y1)
            cv2.rectangle(picture, (x0 + bar * (x1 - x0) // 5, round(y1 - tall * (y1 - y0))), corner, accent, -1)
    elif kind == 2:
        picture[y0:y1, x0:x1] = backdrop(rng, x1 - x0, y1 - y0)
    return picture


def film(rng: Rng, size: Size, fps: float, *, usual: float = 4.2, spread: float = 0.55, longest: float = 14) -> Shot:
    """A take of a film: a still, panning, zooming or hand-held camera, and sometimes somebody who moves.

    Args:
        rng: decides everything.
        size: of the pictures.
        fps: frames a second.
        usual: half of all takes are longer, seconds.
        spread: standard deviation of the logarithm of their lengths.
        longest: seconds.
    """
    width, height = size
    seconds = float(np.clip(rng.lognormal(math.log(usual), spread), 1.5, longest))
    count = max(1, round(seconds * fps))
    wide = backdrop(rng, round(width * 1.5), round(height * 1.25))
    move = str(rng.choice(("still", "pan", "zoom", "hand"), p=(0.35, 0.25, 0.2, 0.2)))
    spare = np.array((wide.shape[1] - width, wide.shape[0] - height), np.float64)
    start, end = rng.uniform(0, 1, 2) * spare, rng.uniform(0, 1, 2) * spare
    tall = round(height * rng.uniform(0.35, 0.9))
    poses = figures(rng, tall, (-1, -0.3, 0.3, 1)) if rng.random() < 0.5 else []
    speed, base = rng.uniform(-1, 1) * width / 8, rng.uniform(0.1, 0.9) * width
    sway = rng.uniform(0, 6, 2)

    def draw(number: int) -> Picture:
        share = number / count
        if move == "zoom":
            zoom = 1 + 0.24 * share
            to_wide = np.array(((1 / zoom, 0, start[0] * share), (0, 1 / zoom, start[1] * share)), np.float32)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            picture = cv2.warpAffine(wide, to_wide, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
        else:
            place = start + (end - start) * share if move == "pan" else start
            if move == "hand":
                place = place + height / 150 * np.sin(number / fps * np.array((2.1, 3.3)) + sway)
            left, top = (int(v) for v in np.clip(np.round(place), 0, spare))
            picture = wide[top : top + height, left : left + width].copy()
        if poses:
            paste(picture, poses[number // 4 % 4], round(base + speed * number / fps - tall / 4), height - tall)
        return picture

    return Shot(seconds, draw)


def tour(rng: Rng, size: Size, fps: float) -> Shot:
    """A long take of a place: from seconds to ten minutes, two on average."""
    return film(rng, size, fps, usual=90, spread=0.8, longest=600)


def talk(rng: Rng, size: Size, fps: float) -> Shot:
    """Somebody in a studio, who speaks, blinks and now and then moves a hand."""
    width, height = size
    back = cv2.GaussianBlur(backdrop(rng, width, height), (0, 0), height / 60)
    skin, coat = int(rng.integers(110, 230)), int(rng.integers(20, 120))
    skin_colour, coat_colour = (skin, skin * 4 // 5, skin * 2 // 3), (coat, coat // 2, 60)
    x, y, radius = width * rng.uniform(0.35, 0.65), height * 0.36, height * rng.uniform(0.13, 0.19)
    beat, phase = rng.uniform(2.5, 4.5), rng.uniform(0, 9)

    def draw(number: int) -> Picture:
        picture, time = back.copy(), number / fps + phase
        sway = height / 200 * math.sin(time * 0.9)

        def oval(dx: float, dy: float, wide: float, tall: float, colour: tuple[int, ...]) -> None:
            centre = (round(16 * (x + sway + dx * radius)), round(16 * (y + dy * radius)))
            axes = (round(16 * wide * radius), round(16 * max(tall, 0.02) * radius))
            cv2.ellipse(picture, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA, 4)

        oval(0, 3.1, 2.1, 2.0, coat_colour)
        oval(0, 0.9, 0.4, 0.6, skin_colour)
        oval(0, 0, 0.8, 1, skin_colour)
        oval(0, -0.65, 0.82, 0.5, (50, 36, 30))
        for side in (-1, 1):
            oval(0.32 * side, -0.1, 0.1, 0.01 if time % 3.7 < 0.15 else 0.06, (20, 20, 20))
        speaks = max(0.0, math.sin(time * 0.8) + 0.5)
        oval(0, 0.5, 0.25, 0.16 * speaks * abs(math.sin(time * beat * 3)), (120, 30, 40))
        if math.sin(time * 0.45) > 0.3:
            oval(1.5 + 0.4 * math.sin(time * 2.3), 1.9 + 0.3 * math.sin(time * 3.1), 0.35, 0.3, skin_colour)
        return picture

    return Shot(float(rng.uniform(12, 40)), draw)


def slides(rng: Rng, size: Size, fps: float) -> Shot:
    """A page of a lecture; on some the mouse moves."""
    page = text_slide(rng, size)
    height = size[1]
    has_mouse, places = rng.random() < 0.4, rng.uniform(0.2, 0.8, (9, 2)) * size

    def draw(number: int) -> Picture:
        picture = page.copy()
        if has_mouse:
            at, share = divmod(number / fps / 2, 1)
            stop = int(at) % 8
            x, y = places[stop] + (places[stop + 1] - places[stop]) * max(0.0, 3 * share - 2)
            cv2.circle(picture, (round(x), round(y)), max(2, height // 120), (220, 40, 40), -1)
        return picture

    return Shot(float(np.clip(rng.lognormal(math.log(20), 0.6), 8, 60)), draw)


def cctv(rng: Rng, size: Size, fps: float) -> Shot:
    """A fixed camera over a dull place with a clock in the picture; now and then somebody walks through."""
    width, height = size
    back = cv2.addWeighted(backdrop(rng, width, height), 0.5, np.full((height, width, 3), 60, np.uint8), 0.5, 0)
    tall = round(height * rng.uniform(0.25, 0.45))
    top = round(height * rng.uniform(0.4, 0.5))
    poses = figures(rng, tall, (-1, 0, 1, 0))
    walkers, time = [], float(rng.uniform(5, 25))
    while time < 60:
        walkers.append((time, time + float(rng.uniform(3, 8))))
        time += float(rng.uniform(15, 40))

    def draw(number: int) -> Picture:
        picture, time = back.copy(), number / fps
        seconds = int(time)
        write(picture, f"CAM 2  {seconds // 60:02d}:{seconds % 60:02d}", (8, height * 0.06), height * 0.03, (230,) * 3)
        for start, end in walkers:
            if start <= time < end:
                x = (time - start) / (end - start) * (width + tall) - tall / 2
                paste(picture, poses[int(time * 5) % 4], round(x - tall / 4), top)
        return picture

    return Shot(60.0, draw, tuple(walkers))


def sport(rng: Rng, size: Size, fps: float) -> Shot:
    """A camera that follows many figures over a field, always panning."""
    width, height = size
    long = width * 3
    turf = np.tile(photograph("grass.png"), (height // 512 + 1, long // 512 + 1, 1))[:height, :long]
    turf = cv2.GaussianBlur(turf, (0, 0), height / 500).astype(np.float32)
    field = np.clip(turf * np.array((0.35, 0.75, 0.3), np.float32) + 20, 0, 255).astype(np.uint8)
    crowd = rng.integers(0, 200, (height // 24 + 1, long // 8, 3), dtype=np.uint8)
    field[: height // 5] = cv2.resize(crowd, (long, height // 5), interpolation=cv2.INTER_NEAREST)
    for x in range(0, long, width // 2):
        cv2.line(field, (x, height // 5), (x + height // 6, height), (235, 240, 235), max(1, height // 150))
    tall = height // 5
    teams = [figures(rng, tall, (-1, 0.2, 1, -0.2)) for _ in range(2)]
    homes = rng.uniform((0, 0.2), (1, 0.75), (22, 2)) * (long, height)
    waves = rng.uniform((0.3, 0), (1.2, 6), (22, 2))
    speed, begin = rng.uniform(0.25, 0.5) * width, rng.uniform(0, 2 * (long - width))

    def draw(number: int) -> Picture:
        time = number / fps
        way = (begin + speed * time) % (2 * (long - width))
        left = round(min(way, 2 * (long - width) - way))
        picture = field[:, left : left + width].copy()
        for player, ((x, y), (rate, phase)) in enumerate(zip(homes, waves, strict=True)):
            run = width / 6 * math.sin(rate * time + phase)
            paste(picture, teams[player % 2][int(time * 6 + player) % 4], round(x + run) - left, round(y))
        return picture

    return Shot(float(rng.uniform(5, 14)), draw)


def credits(rng: Rng, size: Size, fps: float) -> Shot:
    """White names that scroll over black."""
    width, height = size
    seconds, step = float(rng.uniform(20, 40)), max(1, round(height / 360))
    roll = np.zeros((height + step * math.ceil(seconds * fps) + 1, width, 3), np.uint8)
    for y in range(height // 2, len(roll), max(4, height // 14)):
        if rng.random() < 0.8:
            text = words(rng, 2 if rng.random() < 0.6 else 3).title()
            write(roll, text, (width * 0.3, y), height * 0.03, (225,) * 3)
    return Shot(seconds, lambda number: roll[step * number : step * number + height].copy())


FAMILIES: dict[str, Callable[[Rng, Size, float], Shot]] = {
    "film": film,
    "talk": talk,
    "slides": slides,
    "cctv": cctv,
    "sport": sport,
    "credits": credits,
    "tour": tour,
}
GRAIN = {"film": 3.0, "talk": 2.5, "slides": 0.0, "cctv": 3.5, "sport": 2.0, "credits": 1.0, "tour": 2.0}
"""Standard deviation of the camera's noise in grey levels; its grains are about two pixels wide."""
