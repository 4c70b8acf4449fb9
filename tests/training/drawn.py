"""Frames for tests: what is true of a random shot, and what its cells carry."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from m3video.training.facts import FactKey, local_facts, local_ids
from m3video.training.render import draw
from m3video.training.scenes import Shot, facts_at, sample_shot
from m3video.training.symbols import SymbolicFrame

CONTENTS = ("shapes", "sign", "board", "table", "page", "empty")
KEYS = list(local_ids())


def shot_of(content: str, seed: int, *, board: int = 0) -> Shot:
    """A random shot of some content; with `board`, one of a board of that many rows."""
    rng = random.Random(f"{content} {seed}")
    while True:
        shot = sample_shot(rng, content=content)
        if not board or len(shot.board or ()) == board:
            return shot


def frame_of(shot: Shot, moment: float = 0.5) -> SymbolicFrame:
    """What is true of `shot` at a moment, and the local facts of its cells."""
    return facts_at(shot, moment), local_facts(draw(shot, moment)[1])


def keys_of(cells: NDArray[np.int16]) -> dict[FactKey, NDArray[np.intp]]:
    """Which cells (0..575) carry each of the local facts that a frame shows."""
    return {KEYS[number]: np.nonzero(cells == number)[0] for number in np.unique(cells[cells >= 0])}
