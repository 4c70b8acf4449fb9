"""Pens for the set of lasting states: text of a known letter height, photographs, textures, and a timeline of pictures.

Fonts and photographs are those that Pillow, OpenCV and scikit-image carry in their wheels, so that every installation
draws the same.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from m3video.evaluation.states.truth import SIDE, State, Truth

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Painter = Callable[[int], Picture]
Overlay = Callable[[Picture, int], None]

FACES: tuple[str, ...] = ("sans", "bold", "serif")
PHOTOS: tuple[str, ...] = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket", "camera", "moon")
LEAST_LETTER = 7.3
"""Nothing that counts is drawn smaller, in pixels of the tower's input: 7 can be read, and a pixel may be rounded."""

_VOWELS, _CONSONANTS = "aeiou", "bcdfghklmnprstvwz"


@functools.lru_cache(maxsize=4096)
def ink(text: str, cap: int, face: str) -> tuple[Picture, int]:
    """Return the ink of one line, and the row of it that the letters stand on.

    Args:
        text: ASCII.
        cap: height of its capital letters, pixels.
        face: one of `FACES`.
    """
    if face == "serif":
        scale, thick = cap / 20.2, max(1, round(cap / 12))
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_COMPLEX, scale, thick)
        sheet = np.zeros((height + below + cap, width + cap), np.uint8)
        base = height + cap // 2
        cv2.putText(sheet, text, (cap // 3, base), cv2.FONT_HERSHEY_COMPLEX, scale, (255,), thick, cv2.LINE_AA)
        return sheet, base
    # A stroke makes capitals taller at both ends.
    stroke = max(1, round(cap / 24)) if face == "bold" else 0
    font = ImageFont.load_default((cap - 2 * stroke) / _cap_of_size())
    width = round(font.getlength(text)) + cap
    base = round(cap * 1.5)
    image = Image.new("L", (width, round(cap * 2.1)))
    ImageDraw.Draw(image).text((cap // 4, base - stroke), text, font=font, fill=255, anchor="ls", stroke_width=stroke)
    return np.asarray(image), base


@functools.cache
def _cap_of_size() -> float:
    """Return the capital height of Pillow's own font as a share of its size."""
    _, top, _, bottom = ImageFont.load_default(500).getbbox("H", anchor="ls")
    return (bottom - top) / 500


def text_width(text: str, cap: int, face: str) -> int:
    """Return the pixels that `write_text` covers."""
    return ink(text, cap, face)[0].shape[1]


def write_text(
    picture: Picture, text: str, *, left: float, base: float, cap: int, colour: Colour, face: str = "sans"
) -> int:
    """Write a line that stands on row `base`; what is outside of the picture is cut off. Returns where it ends."""
    sheet, foot = ink(text, cap, face)
    blend(picture, sheet, colour, left=round(left), top=round(base) - foot)
    return round(left) + sheet.shape[1]


def blend(picture: Picture, mask: Picture, colour: Colour | Picture, *, left: int, top: int) -> None:
    """Lay `colour` (or a picture of the mask's size) over `picture` where the mask is, in place."""
    height, width = mask.shape
    y0, y1, x0, x1 = max(0, top), min(picture.shape[0], top + height), max(0, left), min(picture.shape[1], left + width)
    if y0 >= y1 or x0 >= x1:
        return
    part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    share = mask[part].astype(np.uint16)[..., None]
    above = np.asarray(colour, np.uint16) if isinstance(colour, tuple) else colour[part].astype(np.uint16)
    under = picture[y0:y1, x0:x1]
    under[...] = (under * (255 - share) + above * share + 127) // 255


def fill_box(picture: Picture, colour: Colour, *, left: float, top: float, right: float, bottom: float) -> None:
    """Fill a plain rectangle, in place."""
    picture[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = colour


def plain_picture(size: tuple[int, int], colour: Colour) -> Picture:
    """Draw a picture of (width, height) in one colour."""
    return np.full((size[1], size[0], 3), colour, np.uint8)


def word(rng: random.Random) -> str:
    """Draw a nonsense word, so that no two lines are alike."""
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 4)))


def random_colour(rng: random.Random, low: int, high: int) -> Colour:
    """Draw three channels between these."""
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def words(rng: random.Random, *, width: float, cap: int, face: str, most: int = 99, capital: bool = True) -> str:
    """Draw words that fill up to `width` pixels, at least one."""
    text = word(rng)
    text = text.capitalize() if capital else text
    for _ in range(most - 1):
        longer = f"{text} {word(rng) if rng.random() < 0.85 else rng.randint(2, 999)}"
        if text_width(longer, cap, face) > width:
            break
        text = longer
    return text


def random_cap(rng: random.Random, size: tuple[int, int], *, low: float = LEAST_LETTER, high: float = 24) -> int:
    """Draw a capital height in pixels of the picture; `low` and `high` are pixels of the tower's input, even in
    octaves."""
    letter = low * (high / low) ** rng.random()
    return int(np.ceil(letter * max(size) / SIDE))


def as_letter(cap: float, size: tuple[int, int]) -> float:
    """Convert pixels of the picture to pixels of the tower's input."""
    return cap * SIDE / max(size)


@functools.cache
def photo(name: str) -> Picture:
    """Return a photograph of scikit-image's, RGB."""
    import skimage.data

    found = np.asarray(getattr(skimage.data, name)(), np.uint8)
    found = found if found.ndim == 3 else np.repeat(found[..., None], 3, axis=2)
    found.setflags(write=False)
    return found


def fitted(picture: Picture, *, width: int, height: int, rng: random.Random | None = None) -> Picture:
    """Return the picture cropped (in the middle, or at random) and resized to fill this size."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    size = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    larger = cv2.resize(picture, size, interpolation=way)
    spare = size[0] - width, size[1] - height
    left, top = (rng.randint(0, s) if rng is not None else s // 2 for s in spare)
    return np.ascontiguousarray(larger[top : top + height, left : left + width], np.uint8)


def texture(name: str, size: tuple[int, int], *, tint: Colour, zoom: float = 1.0) -> Picture:
    """Draw a tiled texture of scikit-image's (brick, grass, gravel) of (width, height), tinted."""
    tile = photo(name)[..., 0]
    # Mirrored, so that no seam looks like an edge.
    tile = np.block([[tile, tile[:, ::-1]], [tile[::-1], tile[::-1, ::-1]]])
    tile = cv2.resize(tile, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    times = -(-size[1] // tile.shape[0]), -(-size[0] // tile.shape[1])
    grey = np.tile(tile, times)[: size[1], : size[0]].astype(np.float32) / 128
    return (grey[..., None] * np.asarray(tint, np.float32)).clip(0, 255).astype(np.uint8)


@dataclass(slots=True)
class Film:
    """A clip under construction: pictures one after the other, and what holds while each is seen.

    Attributes:
        size: (width, height).
        fps: frames per second.
        is_moving: the whole picture moves all the time.
        pieces: (frames, picture or painter of frame number); each piece is seen alone.
        states: what is to be seen, with its times.
        overlays: drawn over each frame, in place.
    """

    size: tuple[int, int]
    fps: int
    is_moving: bool = False
    pieces: list[tuple[int, Picture | Painter]] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    overlays: list[Overlay] = field(default_factory=list)
    frames: int = 0

    @property
    def seconds(self) -> float:
        """How long the clip is so far."""
        return self.frames / self.fps

    def state(
        self,
        *,
        cap: float | None = None,
        thing: float | None = None,
        box: tuple[float, float, float, float] = (0, 0, 1, 1),
    ) -> int:
        """Add a new state and return its number; `cap` and `thing` in pixels of the picture, `box` as shares of it."""
        letter, side = (None if length is None else as_letter(length, self.size) for length in (cap, thing))
        self.states.append(State((), letter, side, box))
        return len(self.states) - 1

    def contain(self, inner: int, outer: int) -> None:
        """Record that all of `inner` is seen in `outer` too."""
        self.states[inner] = self.states[inner].within(outer)

    def show(self, picture: Picture | Painter, seconds: float, state: int | None = None) -> None:
        """Add a picture for about that many seconds (one frame at least); `state` is fully seen throughout."""
        count = max(1, round(seconds * self.fps))
        self.pieces.append((count, picture))
        if state is not None:
            self.states[state] = self.states[state].seen(self.frames / self.fps, (self.frames + count) / self.fps)
        self.frames += count

    def fade(self, old: Picture, new: Picture, seconds: float) -> None:
        """Add mixtures of two pictures, in none of which a state is fully seen."""
        count = max(2, round(seconds * self.fps))
        start = self.frames

        def mixture(number: int) -> Picture:
            share = (number - start + 1) / count
            return np.asarray(cv2.addWeighted(new, share, old, 1 - share, 0), np.uint8)

        self.show(mixture, (count - 1) / self.fps)

    def truth(self, kind: str) -> Truth:
        """Return the truth about the film."""
        return Truth(kind, self.seconds, self.is_moving, tuple(self.states))

    def pictures(self) -> Iterator[Picture]:
        """Yield every frame; the same array again where nothing changes."""
        number = 0
        for count, content in self.pieces:
            for _ in range(count):
                picture = content(number) if callable(content) else content
                if self.overlays:
                    picture = picture.copy()
                    for overlay in self.overlays:
                        overlay(picture, number)
                yield picture
                number += 1


def skewed_lengths(rng: random.Random, count: int, *, low: float, high: float, total: float) -> list[float]:
    """Draw lengths in seconds, most short and a few long, that add up to about `total` where the limits allow."""
    weights = [rng.lognormvariate(0.0, 0.8) for _ in range(count)]
    return [min(high, max(low, total * weight / sum(weights))) for weight in weights]


def shuffled_returns(rng: random.Random, count: int, *, share: float) -> Sequence[int]:
    """Return 0, 1, 2 ... `count` - 1 in order, some of them a second time later."""
    order: list[int] = []
    for number in range(count):
        order.append(number)
        if number > 2 and rng.random() < share:
            order.append(rng.randrange(number - 1))
    return order
