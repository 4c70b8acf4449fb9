"""Footage of the set of lasting states that is no lecture: a screen, a guard's camera, news, sport, a car's camera."""

from __future__ import annotations

import bisect
import random

import cv2
import numpy as np

from m3video.evaluation.states.draw import (
    LEAST_LETTER,
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
    random_colour,
    text_width,
    texture,
    word,
    words,
    write_text,
)

WIDE = (1280, 720)
GUARD_SIZES: tuple[tuple[int, int], ...] = ((640, 480), (640, 360))
"""Fresh noise costs an encoder and a decoder more than anything else: small pictures, as such cameras have them."""


def running_clock(
    start: int, *, left: float, base: float, cap: int, fps: int, colour: Colour, paper: Colour | None = None
) -> Overlay:
    """Return the overlay of a clock that ticks each second, from `start` seconds past midnight."""

    def paint(picture: Picture, number: int) -> None:
        now = start + number // fps
        text = f"{now // 3600 % 24:02d}:{now // 60 % 60:02d}:{now % 60:02d}"
        if paper is not None:
            fill_box(
                picture,
                paper,
                left=left - cap * 0.3,
                top=base - cap * 1.4,
                bottom=base + cap * 0.4,
                right=left + text_width("00:00:00", cap, "sans"),
            )
        write_text(picture, text, left=left, base=base, cap=cap, colour=colour)

    return paint


# A screen.


def screen(rng: random.Random) -> Film:
    """Draw an editor in which code is typed line by line, pages that follow, windows that open and close again, a caret
    that blinks and a pointer that wanders and rests.

    A line that is complete is a state, contained in the next one until the page is left. An open window is a state.
    """
    film = Film(WIDE, rng.choice((6, 8)))
    cap = random_cap(rng, WIDE, low=LEAST_LETTER, high=11)
    paper, ink, bar = rng.choice(
        (
            ((30, 30, 34), (220, 220, 215), (60, 60, 70)),
            ((255, 255, 255), (20, 20, 20), (225, 228, 232)),
            ((39, 40, 34), (248, 248, 242), (70, 70, 62)),
        )
    )
    desk = _Desk(rng, film, cap, paper, ink, bar)
    for page in range(rng.randint(2, 4)):
        desk.new_page(page)
        lines = min(desk.most_lines, rng.randint(4, 9))
        breaks = set(rng.sample(range(1, lines), k=min(lines - 1, rng.randint(1, 2))))
        for line in range(lines):
            desk.type_line(line)
            if line in breaks:
                desk.window()
        desk.rest(rng.uniform(3, 8))
    film.overlays += [desk.caret, pointer(rng, film)]
    return film


class _Desk:
    """The editor and what has been typed."""

    def __init__(self, rng: random.Random, film: Film, cap: int, paper: Colour, ink: Colour, bar: Colour) -> None:
        self.rng, self.film, self.cap, self.paper, self.ink, self.bar = rng, film, cap, paper, ink, bar
        self.left, self.top, self.step = 90, 70, cap * 2.1
        self.most_lines = int((film.size[1] - self.top - 40) / self.step)
        self.page, self.state = plain_picture(film.size, paper), -1
        self.carets: list[tuple[int, int, int]] = []

    def new_page(self, number: int) -> None:
        """Draw an empty page with its tab and a line of comment."""
        self.page = plain_picture(self.film.size, self.paper)
        fill_box(self.page, self.bar, left=0, top=0, right=self.film.size[0], bottom=44)
        fill_box(self.page, self.bar, left=0, top=44, right=60, bottom=self.film.size[1])
        write_text(self.page, f"{word(self.rng)}{number}.py", left=70, base=36, cap=self.cap, colour=self.ink)
        self.state = self.film.state(cap=self.cap)
        self._caret(self.left, 0)
        self.rest(self.rng.uniform(1, 3))

    def rest(self, seconds: float) -> None:
        """Show no change, except caret and pointer."""
        self.film.show(self.page, seconds, self.state)

    def type_line(self, line: int) -> None:
        """Type a line letter by letter, then show it for a while."""
        rng, indent = self.rng, self.cap * 2 * self.rng.randint(0, 2)
        text = self._code(self.film.size[0] - self.left - 40 - indent)
        base, page = self.top + self.cap + line * self.step, self.page
        per_frame = max(1, round(rng.uniform(8, 16) / self.film.fps))

        def typed(end: int) -> Picture:
            picture = page.copy()
            write_text(picture, text[:end], left=self.left + indent, base=base, cap=self.cap, colour=self.ink)
            return picture

        for end in range(per_frame, len(text), per_frame):
            # The line before is still to be read, this one is not yet whole.
            self._caret(self.left + indent + text_width(text[:end], self.cap, "sans") - self.cap // 2, line)
            self.film.show(lambda _, end=end: typed(end), 1 / self.film.fps, self.state)  # type: ignore[misc]
        new = self.film.state(cap=self.cap)
        self.film.contain(self.state, new)
        self.page, self.state = typed(len(text)), new
        self._caret(self.left + indent + text_width(text, self.cap, "sans") - self.cap // 2, line)
        self.rest(rng.uniform(1.0, 6.0))

    def _code(self, room: float) -> str:
        rng = self.rng
        text = rng.choice(
            (
                f"{word(rng)} = {word(rng)}({rng.randint(0, 999)}, {word(rng)})",
                f"for {word(rng)} in {word(rng)}():",
                f"if {word(rng)} > {rng.randint(0, 99)}:",
                f"return {word(rng)} + {word(rng)}[{rng.randint(0, 9)}]",
                f"def {word(rng)}({word(rng)}, {word(rng)}):",
                f"print({word(rng)}.{word(rng)})",
            )
        )
        while text_width(text, self.cap, "sans") > room:
            text = text[:-1]
        return text

    def window(self) -> None:
        """Draw a window that opens over the page, stays, and closes again."""
        rng, (width, height) = self.rng, self.film.size
        wide, high = round(width * rng.uniform(0.4, 0.65)), round(height * rng.uniform(0.35, 0.6))
        left, top = rng.randint(40, width - wide - 40), rng.randint(60, height - high - 40)
        over = self.page.copy()
        fill_box(over, (90, 90, 90), left=left - 3, top=top - 3, right=left + wide + 3, bottom=top + high + 3)
        fill_box(over, (245, 245, 245), left=left, top=top, right=left + wide, bottom=top + high)
        fill_box(
            over,
            rng.choice(((60, 120, 200), (200, 90, 60), (80, 150, 90))),
            left=left,
            top=top,
            right=left + wide,
            bottom=top + self.cap * 2,
        )
        if rng.random() < 0.3:
            inner = (wide - 2 * self.cap, high - 6 * self.cap)
            inset = fitted(photo(rng.choice(PHOTOS)), width=inner[0], height=inner[1], rng=rng)
            y, x = top + 3 * self.cap, left + self.cap
            over[y : y + inner[1], x : x + inner[0]] = inset
            rows = [top + high - self.cap]
        else:
            rows = list(range(top + round(self.cap * 4), top + high - self.cap, round(self.cap * 2.2)))
        for base in rows:
            line = words(rng, width=wide - 2 * self.cap, cap=self.cap, face="sans", most=6)
            write_text(over, line, left=left + self.cap, base=base, cap=self.cap, colour=(30, 30, 30))
        state = self.film.state(cap=self.cap, box=(left / width, top / height, wide / width, high / height))
        self._caret(-99, 0)
        self.film.show(over, rng.uniform(4, 14), state)
        self._caret(self.left, 0)
        self.rest(rng.uniform(1, 5))

    def _caret(self, x: float, line: int) -> None:
        self.carets.append((self.film.frames, round(x), round(self.top + line * self.step)))

    def caret(self, picture: Picture, number: int) -> None:
        """Return the overlay that blinks once a second."""
        _, x, y = self.carets[bisect.bisect_right(self.carets, (number, 10**6, 0)) - 1]
        if number * 2 // self.film.fps % 2 == 0 and x >= 0:
            fill_box(picture, self.ink, left=x, right=x + 3, top=y - self.cap * 0.3, bottom=y + self.cap * 1.3)


def pointer(rng: random.Random, film: Film) -> Overlay:
    """Draw an arrow that goes from place to place; it moves for most of the time."""
    places, frame = [(0, 600.0, 400.0)], 0
    while frame < film.frames:
        frame += round(film.fps * rng.uniform(0.4, 2.0))
        places.append((frame, rng.uniform(20, film.size[0] - 20), rng.uniform(20, film.size[1] - 30)))
        if rng.random() < 0.35:
            frame += round(film.fps * rng.uniform(0.5, 5.0))
            places.append((frame, *places[-1][1:]))
    shape = np.array([(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)], np.float64) * 1.3

    def paint(picture: Picture, number: int) -> None:
        after = bisect.bisect_right(places, (number, 10.0**6, 0.0))
        (start, x0, y0), (end, x1, y1) = places[after - 1], places[min(after, len(places) - 1)]
        share = 0.0 if end == start else (number - start) / (end - start)
        outline = np.add(shape, [x0 + (x1 - x0) * share, y0 + (y1 - y0) * share]).astype(np.int32)
        cv2.fillPoly(picture, [outline], (250, 250, 250), cv2.LINE_AA)
        cv2.polylines(picture, [outline], True, (10, 10, 10), 2, cv2.LINE_AA)

    return paint


# A guard's camera.


def guard(rng: random.Random, *, sigma: float) -> Film:
    """Draw a yard where little happens, with noise drawn anew for each frame, a clock, leaves in the wind and light
    that drifts; figures of about 2 % of the picture walk in, stay 10 to 40 s and leave.

    The empty yard is a state, and each figure where it stays.
    """
    size = rng.choice(GUARD_SIZES)
    film = Film(size, rng.choice((5, 6)))
    yard, main = _yard(rng, size)
    empty = film.state(thing=main)
    film.show(yard, rng.uniform(8, 20), empty)
    for _ in range(rng.randint(2, 3)):
        _visit(rng, film, yard)
        film.show(yard, rng.uniform(5, 15), empty)
    cap = random_cap(rng, size, high=9)
    film.overlays += [
        _leaves(rng, film),
        _light(rng, film),
        running_clock(rng.randrange(86400), left=12, base=12 + cap, cap=cap, fps=film.fps, colour=(255, 255, 255)),
        noise(rng, size, sigma=sigma),
    ]
    return film


def _yard(rng: random.Random, size: tuple[int, int]) -> tuple[Picture, float]:
    """Draw a wall with a door and windows above a floor, and the shorter side of the door in pixels."""
    width, height = size
    horizon = round(height * rng.uniform(0.4, 0.55))
    tints = [random_colour(rng, 60, 150) for _ in range(2)]
    yard = texture(rng.choice(("gravel", "grass")), size, tint=tints[0], zoom=rng.uniform(0.3, 0.6))
    yard[:horizon] = texture("brick", (width, horizon), tint=tints[1], zoom=rng.uniform(0.25, 0.5))
    door = round(width * rng.uniform(0.1, 0.14))
    left = rng.randint(width // 10, width // 3)
    fill_box(yard, (70, 50, 40), left=left, right=left + door, top=horizon - door * 1.7, bottom=horizon)
    for number in range(rng.randint(1, 3)):
        start = left + door * 1.6 + number * door * 1.4
        fill_box(yard, (40, 50, 60), left=start, right=start + door * 0.9, top=horizon * 0.25, bottom=horizon * 0.6)
    return yard, door


def _visit(rng: random.Random, film: Film, yard: Picture) -> None:
    """Draw a figure that comes, stays and goes."""
    width, height = film.size
    share, slim = rng.uniform(0.018, 0.03), rng.uniform(2.0, 2.6)
    wide = round((share * width * height / slim) ** 0.5)
    high = round(wide * slim)
    sprite, mask = _figure(rng, wide, high)
    x, y = rng.randint(width // 8, width * 5 // 8), rng.randint(round(height * 0.42), height - high - 8)
    edge = -wide if rng.random() < 0.5 else width
    came, left = round(rng.uniform(1.5, 3) * film.fps), round(rng.uniform(1.5, 3) * film.fps)

    def at(place: float, lift: float = 0) -> Picture:
        picture = yard.copy()
        blend(picture, mask, sprite, left=round(place), top=round(y + lift))
        return picture

    def walk(start: float, end: float, frames: int) -> None:
        first = film.frames
        film.show(lambda n: at(start + (end - start) * (n - first + 1) / (frames + 1), 2 * (n % 2)), frames / film.fps)

    walk(edge, x, came)
    state = film.state(thing=wide, box=(x / width, y / height, wide / width, high / height))
    stays = round(rng.uniform(10, 40) * film.fps)
    sway = [at(x + dx) for dx in (-1, 0, 1)]
    film.show(lambda number: sway[round(np.sin(number * 0.4)) + 1], stays / film.fps, state)
    walk(x, width - edge - wide, left)


def _figure(rng: random.Random, wide: int, high: int) -> tuple[Picture, Picture]:
    """Draw a person from far away, with its mask."""
    coat, legs = (random_colour(rng, 10, 245) for _ in range(2))
    sprite, mask = plain_picture((wide, high), coat), np.zeros((high, wide), np.uint8)
    head = round(wide * 0.25)
    cv2.ellipse(mask, (wide // 2, round(high * 0.47)), (wide // 2 - 1, round(high * 0.3)), 0, 0, 360, (255,), -1)
    cv2.circle(mask, (wide // 2, head), head, (255,), -1)
    for side in (0.3, 0.7):
        mask[round(high * 0.65) :, round(wide * (side - 0.14)) : round(wide * (side + 0.14))] = 255
    fill_box(sprite, (205, 160, 130), left=0, right=wide, top=0, bottom=head * 2)
    fill_box(sprite, legs, left=0, right=wide, top=high * 0.66, bottom=high)
    return sprite, mask


def _leaves(rng: random.Random, film: Film) -> Overlay:
    """Return the overlay of leaves in an upper corner that never rest."""
    wide, high = round(film.size[0] * 0.22), round(film.size[1] * 0.38)
    sheet = texture("grass", (wide + 40, high + 40), tint=(60, 120, 50), zoom=0.9)
    y, x = np.mgrid[0:high, 0:wide].astype(np.float32)

    def paint(picture: Picture, number: int) -> None:
        shift = (5 * np.sin(number * 0.9 + y / 13) + 3 * np.sin(number * 1.7 + x / 17)).astype(np.float32)
        moved = cv2.remap(sheet, x + 20 + shift, y + 20 + shift / 2, cv2.INTER_LINEAR)
        picture[:high, film.size[0] - wide :] = moved

    return paint


def _light(rng: random.Random, film: Film) -> Overlay:
    """Return the overlay of brightness that drifts by a few per cent over a minute or two."""
    period, depth, phase = film.fps * rng.uniform(60, 150), rng.uniform(0.02, 0.06), rng.uniform(0, 6.28)

    def paint(picture: Picture, number: int) -> None:
        cv2.convertScaleAbs(picture, picture, 1 + depth * float(np.sin(6.2832 * number / period + phase)))

    return paint


def noise(rng: random.Random, size: tuple[int, int], *, sigma: float) -> Overlay:
    """Return the overlay of grey noise of this standard deviation, new in each frame."""
    width, height = size
    draws = np.random.default_rng(rng.getrandbits(63))
    # A crop of one large sheet at a random place is as good as new noise to any codec, and a hundred times as quick.
    sheet = draws.normal(0, sigma, (height + 256, width + 256)).round()
    more, less = (np.clip(sign * sheet, 0, 255).astype(np.uint8) for sign in (1, -1))

    def paint(picture: Picture, number: int) -> None:
        y, x = np.random.default_rng((seed, number)).integers(0, 256, 2)
        part = np.s_[y : y + height, x : x + width]
        cv2.add(picture, cv2.merge([more[part]] * 3), picture)
        cv2.subtract(picture, cv2.merge([less[part]] * 3), picture)

    seed = rng.getrandbits(31)
    return paint
