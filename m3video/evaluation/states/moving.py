"""Footage of the set of lasting states in which much moves all the time: news, films with subtitles, sport, a drive."""

from __future__ import annotations

import random
from collections.abc import Sequence

import cv2
import numpy as np

from m3video.evaluation.states.draw import (
    PHOTOS,
    Colour,
    Film,
    Overlay,
    Painter,
    Picture,
    fill_box,
    fitted,
    photo,
    plain_picture,
    random_cap,
    random_colour,
    text_width,
    texture,
    word,
    words,
    write_text,
)
from m3video.evaluation.states.scenes import WIDE, running_clock

SMALLER = (960, 540)
"""Where nothing stands still, every pixel costs."""


def captioned_film(rng: random.Random, *, ticker: bool) -> Film:
    """Film captions of 2 to 6 s, with pauses, over a photograph that stands still or is slowly panned over.

    Each caption is a state; the picture without one is contained in the first. With `ticker` the captions stand in a
    box above a band whose text runs all the time, and a clock ticks in a corner; without it they are subtitles.
    """
    film = Film(WIDE, rng.choice((6, 8)))
    view, film.is_moving = _view(rng, film, speed=rng.choice((0.0, 12.0)))
    cap = random_cap(rng, WIDE, high=17)
    bare = film.state(thing=film.size[0])
    film.show(view, rng.uniform(2, 6), bare)
    for number in range(rng.randint(12, 22)):
        line = words(rng, width=WIDE[0] * 0.8, cap=cap, face="bold", most=6)
        state = film.state(cap=cap, box=(0.05, 0.65, 0.9, 0.2))
        if number == 0:
            film.contain(bare, state)
        film.show(_captioned(view, line, cap, ticker=ticker), rng.uniform(2, 6), state)
        if rng.random() < 0.7:
            film.show(view, rng.uniform(0.5, 4), bare)
    if ticker:
        film.overlays += [
            _ticker(rng, cap),
            running_clock(
                rng.randrange(86400),
                left=WIDE[0] - text_width("00:00:00", cap, "sans") - 30,
                base=30 + cap,
                cap=cap,
                fps=film.fps,
                colour=(255, 255, 255),
                paper=(150, 20, 30),
            ),
        ]
    return film


def _view(rng: random.Random, film: Film, *, speed: float) -> tuple[Painter, bool]:
    """Return a painter of a photograph that a camera pans over at `speed` pixels a second, and whether it moves."""
    width, height = film.size
    wide = fitted(photo(rng.choice(PHOTOS)), width=round(width * 1.3), height=round(height * 1.15), rng=rng)
    room = wide.shape[1] - width

    def paint(number: int) -> Picture:
        way = (number * speed / film.fps) % (2 * room)
        left = min(way, 2 * room - way)
        move = np.array([[1, 0, -left], [0, 1, -left * 0.2]], np.float32)
        if speed == 0:
            return wide[:height, :width].copy()
        return np.asarray(cv2.warpAffine(wide, move, (width, height)), np.uint8)

    return paint, speed > 0


def _captioned(view: Painter, line: str, cap: int, *, ticker: bool) -> Painter:
    wide = text_width(line, cap, "bold")

    def paint(number: int) -> Picture:
        picture = view(number)
        width, height = WIDE
        if ticker:
            base = round(height * 0.8)
            fill_box(picture, (245, 245, 245), left=60, right=100 + wide, top=base - cap * 1.7, bottom=base + cap * 0.7)
            write_text(picture, line, left=80, base=base, cap=cap, colour=(20, 20, 60), face="bold")
        else:
            base, left = round(height * 0.92), (width - wide) // 2
            for dx, dy in ((-2, 0), (2, 0), (0, -2), (0, 2)):
                write_text(picture, line, left=left + dx, base=base + dy, cap=cap, colour=(0, 0, 0), face="bold")
            write_text(picture, line, left=left, base=base, cap=cap, colour=(250, 250, 240), face="bold")
        return picture

    return paint


def _ticker(rng: random.Random, cap: int) -> Overlay:
    """Return a band along the lower edge whose text always runs to the left."""
    text = "   +++   ".join(words(rng, width=1200, cap=cap, face="sans", most=8) for _ in range(8))
    high, speed = round(cap * 2), rng.uniform(8, 16)
    band = plain_picture((text_width(text, cap, "sans"), high), (150, 20, 30))
    write_text(band, text, left=0, base=high - cap * 0.5, cap=cap, colour=(255, 255, 255))
    band = np.concatenate([band, band[:, : WIDE[0]]], axis=1)

    def paint(picture: Picture, number: int) -> None:
        left = round(number * speed) % (band.shape[1] - WIDE[0])
        picture[-high:] = band[:, left : left + WIDE[0]]

    return paint


def sport(rng: random.Random) -> Film:
    """Film a game: the camera follows players over a field; each score on the board is a state of 20 to 60 s, its clock
    is none."""
    film = Film(SMALLER, rng.choice((5, 6)), is_moving=True)
    cap = random_cap(rng, SMALLER, high=17)
    names = [word(rng)[:3].upper().ljust(3, "O") for _ in range(2)]
    score, game = [0, 0], _game(rng, film)
    for _ in range(rng.randint(4, 6)):
        text = f"{names[0]} {score[0]} - {score[1]} {names[1]}"
        wide = text_width(text, cap, "bold")
        state = film.state(cap=cap, box=(40 / SMALLER[0], 30 / SMALLER[1], wide / SMALLER[0], cap * 2 / SMALLER[1]))
        film.show(_with_board(game, text, cap, wide), rng.uniform(20, 40), state)
        score[rng.randrange(2)] += rng.randint(1, 3)
    film.overlays.append(
        running_clock(
            rng.randint(0, 2000),
            left=50,
            base=30 + cap * 4,
            cap=cap,
            fps=film.fps,
            colour=(255, 255, 0),
            paper=(10, 10, 10),
        )
    )
    return film


def _with_board(game: Painter, text: str, cap: int, wide: int) -> Painter:
    def paint(number: int) -> Picture:
        picture = game(number)
        fill_box(picture, (20, 30, 90), left=40, right=60 + wide, top=30, bottom=30 + cap * 2)
        write_text(picture, text, left=50, base=30 + cap * 1.5, cap=cap, colour=(255, 255, 255), face="bold")
        return picture

    return paint


def _game(rng: random.Random, film: Film) -> Painter:
    """Return a painter of a field with lines and a stand, twice as wide as the picture, and players who run on it."""
    width, height = film.size
    field = texture("grass", (width * 2, height), tint=(50, 130, 50), zoom=0.5)
    field[: height // 4] = texture("gravel", (width * 2, height // 4), tint=(110, 100, 120), zoom=0.4)
    for x in range(100, width * 2, 380):
        cv2.line(field, (x, height // 4), (x - 80, height), (235, 235, 235), 4, cv2.LINE_AA)
    shirts: Sequence[Colour] = ((210, 40, 40), (240, 240, 240), (40, 60, 200))
    team = rng.sample(shirts, 2)
    runs = [[rng.uniform(0, 6.28) for _ in range(4)] for _ in range(14)]

    def paint(number: int) -> Picture:
        now = number / film.fps
        left = round((width / 2) * (1 + 0.8 * np.sin(now * 0.23) + 0.2 * np.sin(now * 0.71)))
        picture = field[:, left : left + width].copy()
        for player, (a, b, c, d) in enumerate(runs):
            x = width + width * 0.45 * np.sin(now * 0.23 + a * 0.12) + 120 * np.sin(now * 0.9 + b) - left
            y = height * 0.62 + height * 0.28 * np.sin(now * 0.4 + c) + 12 * np.sin(now * 1.3 + d)
            at = round(float(x)), round(float(y))
            cv2.ellipse(picture, at, (8, 18), 0, 0, 360, team[player % 2], -1, cv2.LINE_AA)
            cv2.circle(picture, (at[0], at[1] - 22), 7, (200, 150, 120), -1, cv2.LINE_AA)
        return picture

    return paint


def drive(rng: random.Random) -> Film:
    """Film a road seen from a car: everything moves, a clock ticks; one to three shots with cuts between them, a state
    each."""
    film = Film(SMALLER, rng.choice((5, 6)), is_moving=True)
    shots = rng.randint(1, 3)
    for _ in range(shots):
        film.show(_road(rng, film), rng.uniform(60, 110) / shots, film.state(thing=SMALLER[0] * 0.4))
    cap = random_cap(rng, SMALLER, high=9)
    film.overlays.append(
        running_clock(
            rng.randrange(86400), left=30, base=SMALLER[1] - 30, cap=cap, fps=film.fps, colour=(255, 255, 255)
        )
    )
    return film


def _road(rng: random.Random, film: Film) -> Painter:
    """Return a painter of ground that runs towards the camera in perspective, below a sky that turns as the road
    does."""
    width, height = film.size
    horizon = round(height * rng.uniform(0.4, 0.5))
    side = 1024
    ground = texture(rng.choice(("grass", "gravel")), (side, side), tint=random_colour(rng, 60, 140))
    ground[:, side // 2 - 150 : side // 2 + 150] = texture("gravel", (300, side), tint=(80, 80, 84), zoom=0.5)
    for start in range(0, side, 256):
        fill_box(ground, (230, 230, 230), left=side / 2 - 6, right=side / 2 + 6, top=start, bottom=start + 120)
    y, x = np.mgrid[1 : height - horizon + 1, 0:width].astype(np.float32)
    away = 60000 / y
    across = (x - width / 2) * 380 / y / 2
    sky = _skyline(rng, width * 2, horizon)
    # Haze: far away the ground has more detail than there are pixels.
    haze = 80
    clear = np.linspace(0, 1, haze, dtype=np.float32)[:, None, None]
    far = (1 - clear) * ground.mean(axis=(0, 1), dtype=np.float32)
    speed, phase = rng.uniform(60, 140), rng.uniform(0, 6.28)

    def paint(number: int) -> Picture:
        now = number / film.fps
        turn = float(np.sin(now * 0.3 + phase))
        picture = np.empty((height, width, 3), np.uint8)
        left = round(width / 2 * (1 + 0.9 * turn))
        picture[:horizon] = sky[:, left : left + width]
        columns = np.mod(across + side / 2 + turn * 40, side - 1).astype(np.float32)
        rows = np.mod(away * 0.12 - now * speed * 8, side - 1).astype(np.float32)
        picture[horizon:] = cv2.remap(ground, columns, rows, cv2.INTER_LINEAR)
        picture[horizon : horizon + haze] = far + picture[horizon : horizon + haze] * clear
        return picture

    return paint


def _skyline(rng: random.Random, width: int, height: int) -> Picture:
    """Draw houses with windows before a sky."""
    sky = plain_picture((width, height), random_colour(rng, 150, 235))
    left = 0
    while left < width:
        wide, high = rng.randint(60, 200), rng.randint(height // 6, height * 3 // 4)
        fill_box(sky, random_colour(rng, 60, 170), left=left, right=left + wide, top=height - high, bottom=height)
        lit = random_colour(rng, 30, 220)
        for x in range(left + 10, min(left + wide, width) - 16, 30):
            for y in range(height - high + 10, height - 20, 34):
                fill_box(sky, lit, left=x, right=x + 14, top=y, bottom=y + 18)
        left += wide
    return sky
