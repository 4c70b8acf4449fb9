"""Scales and times of the frames in a reel: mixed as the planner mixes them."""

from __future__ import annotations

import random

from m3video.types import FULL_SIDE, SCALES

GAPS_SECONDS = (1, 2, 2, 3, 4, 5, 7, 10, 15, 30)
LATE_START = 0.2
"""Of reels: they begin anywhere in the first quarter of an hour; the others within twenty seconds."""
READABLE = 0.75
"""Visual tokens from one letter to the next that are enough to read."""


def draw_scales(rng: random.Random, count: int, most: int) -> tuple[int, ...]:
    """Return a scale for each frame: one token for many, more for some, at most about `most` together.

    The sum is drawn log-uniform between one token a frame and `most`; frames drawn at random go up the scales until
    it is reached, as the planner's do.
    """
    levels = [0] * count
    wanted = count * (max(most, count) / count) ** rng.random()
    total, tries = count, 0
    while total < wanted and tries < 4 * count:
        frame = rng.randrange(count)
        tries += 1
        if levels[frame] + 1 < len(SCALES):
            more = SCALES[levels[frame] + 1] - SCALES[levels[frame]]
            if total + more <= most:
                levels[frame] += 1
                total += more
    return tuple(SCALES[level] for level in levels)


def text_scale(rng: random.Random, cap: float) -> int:
    """Return a scale at which letters of a height can be read, mostly; now and then a coarser one.

    Args:
        rng: decides.
        cap: height of capitals, as a share of the picture's height. Letters stand about two thirds of it apart.
    """
    cells_of_letter = 0.67 * cap * FULL_SIDE
    finest = 576 if cells_of_letter < 2 * READABLE else 144 if cells_of_letter < 4 * READABLE else 36
    scales = [scale for scale in SCALES if finest / 4 <= scale <= 576]
    weights = [{finest: 0.6, finest // 4: 0.15}.get(scale, 0.25) for scale in scales]
    return rng.choices(scales, weights)[0]


def draw_times(rng: random.Random, count: int) -> tuple[float, ...]:
    """Return increasing whole seconds, one for each frame."""
    time = rng.randint(0, 900) if rng.random() < LATE_START else rng.randint(0, 20)
    times = []
    for _ in range(count):
        times.append(float(time))
        time += rng.choice(GAPS_SECONDS)
    return tuple(times)
