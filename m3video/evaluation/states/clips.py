"""The clips of the set of lasting states: their kinds, and how they are rendered from a seed.

The same seed gives the same pictures and truth. A clip and its truth are cached in a folder, under a name made of
everything that decides them, the code that draws and encodes them included.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path

import av
import cv2
import numpy as np
import PIL

from m3video.evaluation.states import decks, draw, moving, scenes, truth
from m3video.evaluation.states.decks import MAKERS, deck
from m3video.evaluation.states.draw import Film, Picture
from m3video.evaluation.states.moving import captioned_film, drive, sport
from m3video.evaluation.states.scenes import guard, screen
from m3video.evaluation.states.truth import Truth, truth_from
from m3video.utils.files import replacing

TEXTS = tuple(MAKERS[name] for name in ("words", "bullets", "table", "equation", "photo"))

CLIP_KINDS: dict[str, Callable[[random.Random], Film]] = {
    "deck line": partial(deck, makers=(MAKERS["line"],), returns=0.0, high=34.0),
    "deck words": partial(deck, makers=(MAKERS["words"],), high=34.0),
    "deck bullets": partial(deck, makers=(MAKERS["bullets"],)),
    "deck equations": partial(deck, makers=(MAKERS["equation"],), high=12.0),
    "deck tables": partial(deck, makers=(MAKERS["table"],), high=14.0),
    "deck photos": partial(deck, makers=(MAKERS["photo"],)),
    "deck dark": partial(deck, makers=TEXTS, dark=True),
    "deck builds": partial(deck, makers=(MAKERS["build"], MAKERS["build"], MAKERS["photo"]), most=11, high=14.0),
    "deck fades": partial(deck, makers=TEXTS, fades=True),
    "deck speaker": partial(deck, makers=TEXTS, head=True),
    "screen": screen,
    "guard 2": partial(guard, sigma=2.0),
    "guard 6": partial(guard, sigma=6.0),
    "guard 12": partial(guard, sigma=12.0),
    "ticker": partial(captioned_film, ticker=True),
    "subtitles": partial(captioned_film, ticker=False),
    "sport": sport,
    "drive": drive,
}
"""Name -> what draws a random clip of this kind; numbers are the noise in grey levels."""


def draw_clip(kind: str, *, seed: int, index: int) -> Film:
    """Draw clip `index` of a kind; it does not depend on how many clips or kinds the set has."""
    return CLIP_KINDS[kind](random.Random(f"lasting states {seed} {kind} {index}"))


@dataclass(frozen=True, slots=True)
class StatesClip:
    """A rendered clip: its name within the set, file and truth."""

    name: str
    path: Path
    truth: Truth


def states_key(kind: str, *, seed: int, index: int) -> str:
    """Return a name for a clip's content: from its kind and seed, the code that draws it, and the libraries that draw
    and encode."""
    parts = [kind, str(seed), str(index), av.__version__, cv2.__version__, PIL.__version__, version("scikit-image")]
    files = [__file__, *(module.__file__ or "" for module in (draw, truth, decks, scenes, moving))]
    parts += [np.__version__, *(_code_of(Path(file)) for file in files)]
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _code_of(module: Path) -> str:
    """Return a module's code, without comments and layout."""
    return ast.dump(ast.parse(module.read_text(encoding="utf-8")))


def render_states_clip(kind: str, *, seed: int, index: int, folder: Path) -> StatesClip:
    """Return the clip's file in `folder` with its truth beside it, rendered if they are missing; whole or not at
    all."""
    key = states_key(kind, seed=seed, index=index)
    path, beside = folder / f"{key}.mp4", folder / f"{key}.json"
    name = f"{kind} {seed}-{index}"
    if not (path.exists() and beside.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        film, rng = draw_clip(kind, seed=seed, index=index), random.Random(f"codec {seed} {kind} {index}")
        with replacing(path) as part:
            # Keyframes every two seconds pump: the picture changes a little at each.
            gop = rng.choice((250, 2 * film.fps))
            encode_film(film.pictures(), part, fps=film.fps, crf=rng.randint(20, 30), gop=gop)
        with replacing(beside) as part:
            part.write_text(json.dumps({"name": name, **dataclasses.asdict(film.truth(kind))}), encoding="utf-8")
    return StatesClip(name, path, truth_from(json.loads(beside.read_text(encoding="utf-8"))))


def encode_film(pictures: Iterator[Picture], target: Path, *, fps: int, crf: int, gop: int) -> None:
    """Write pictures of one even size as H.264 yuv420p in mp4; an array that repeats is converted once."""
    with av.open(str(target), "w", format="mp4") as container:
        # Nobody streams noise at the rate that it would take: codecs flicker where there is more than they may send.
        options = {"crf": str(crf), "preset": "superfast", "g": str(gop), "maxrate": "2M", "bufsize": "2M"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        last: Picture | None = None
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            if picture is not last:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                last = picture
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
