"""The kinds of clips that make up the set of lasting states."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from m3video.evaluation.states.decks import MAKERS, deck
from m3video.evaluation.states.draw import Film
from m3video.evaluation.states.moving import captions, drive, sport
from m3video.evaluation.states.scenes import guard, screen

TEXTS = tuple(MAKERS[name] for name in ("words", "bullets", "table", "equation", "photo"))

KINDS: dict[str, Callable[[random.Random], Film]] = {
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
    "ticker": partial(captions, ticker=True),
    "subtitles": partial(captions, ticker=False),
    "sport": sport,
    "drive": drive,
}
"""Name -> what draws a random clip of this kind; numbers are the noise in grey levels."""


def draw_clip(kind: str, *, seed: int, index: int) -> Film:
    """Clip `index` of a kind; it does not depend on how many clips or kinds the set has."""
    return KINDS[kind](random.Random(f"lasting states {seed} {kind} {index}"))
