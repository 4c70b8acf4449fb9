"""What a clip shows that lasts, and what a plan shows of it.

The reading rule. The model pads a picture to a square and resizes it to 336x336; a token of a scale covers 336 / its
grid's side of those pixels. Letters can be read where their capitals are at least half as high as a token: 7 px at 576,
14 at 144, 28 at 36, 56 at 9. Things without letters can be told where a token is no larger than their shorter side: 14
px at 576, 28 at 144, 56 at 36, 112 at 9 (the coarsest that is ever enough).

Two figures. Shown: of the distinct states (those not contained in another), how many a planned frame shows at the scale
they need, at any time at which they are fully seen; a state of a build is contained in the next and counts with it.
Wasted: of the tokens, those on frames beyond the best one of each distinct state (that of the fullest state first, then
of the highest scale, then the first), and on frames in which no state is fully seen, as fades. Where the whole picture
moves all the time, the best frame of every ten seconds of a state is no waste.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from m3video.types import FULL_SCALE, GRID_SIDES, SCALES

SIDE = 336
"""Side of the vision tower's input, pixels."""

MOVING_SECONDS = 10.0
"""Where all moves, one frame of a state for so long is no repeat."""

_EPSILON = 1e-4

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class State:
    """Something that is seen, unchanged but for noise and what moves all the time.

    Attributes:
        spans: (start, end) seconds in which it is fully seen, half-open; the later ones are repeats.
        letter: height of its least relevant capitals in pixels of the tower's input, None where it is no text.
        thing: shorter side of what there is to see, in the same pixels, where it is no text.
        box: left, top, width, height of where it differs from other states, as shares of the picture.
        contained_in: number of a state in which all of it is seen too.
    """

    spans: tuple[tuple[float, float], ...]
    letter: float | None
    thing: float | None = None
    box: Box = (0.0, 0.0, 1.0, 1.0)
    contained_in: int | None = None

    def within(self, outer: int) -> State:
        """Return the same state, contained in another."""
        return replace(self, contained_in=outer)

    def seen(self, start: float, end: float) -> State:
        """Return the same state, seen at this time too; a span that goes on is one span."""
        if self.spans and abs(self.spans[-1][1] - start) < _EPSILON:
            return replace(self, spans=(*self.spans[:-1], (self.spans[-1][0], end)))
        return replace(self, spans=(*self.spans, (start, end)))

    def at(self, seconds: float) -> bool:
        """Return whether the state is fully seen at this time."""
        return any(start - _EPSILON <= seconds < end - _EPSILON for start, end in self.spans)

    @property
    def needed(self) -> int:
        """The least scale at which it can be read or told."""
        if self.letter is not None:
            fitting = [s for s in SCALES if SIDE / GRID_SIDES[s] <= 2 * self.letter + 1e-6]
        else:
            fitting = [s for s in SCALES[1:] if SIDE / GRID_SIDES[s] <= (self.thing or 0.0) + 1e-6]
        return fitting[0] if fitting else FULL_SCALE


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a clip.

    Attributes:
        kind: of clip.
        seconds: its length.
        is_moving: the whole picture moves all the time.
        states: at most one of them at a time, but for what contains it.
    """

    kind: str
    seconds: float
    is_moving: bool
    states: tuple[State, ...]

    def root(self, number: int) -> int:
        """Return the outermost state that contains this one: itself, or what it is contained in."""
        while (outer := self.states[number].contained_in) is not None:
            number = outer
        return number

    @property
    def distinct(self) -> list[int]:
        """Numbers of the states that are contained in none."""
        return [number for number, state in enumerate(self.states) if state.contained_in is None]

    @property
    def price(self) -> int:
        """Tokens that show each distinct state once, at the scale it needs."""
        return sum(self.states[number].needed for number in self.distinct)

    def state_at(self, seconds: float) -> int | None:
        """Return the number of the state that is fully seen at this time."""
        return next((number for number, state in enumerate(self.states) if state.at(seconds)), None)


def truth_from(values: dict[str, Any]) -> Truth:
    """Return a truth from its `dataclasses.asdict` after JSON."""
    states = tuple(
        State(
            tuple((float(start), float(end)) for start, end in state["spans"]),
            state["letter"],
            state["thing"],
            tuple(state["box"]),
            state["contained_in"],
        )
        for state in values["states"]
    )
    return Truth(values["kind"], values["seconds"], values["is_moving"], states)


@dataclass(frozen=True, slots=True)
class Score:
    """What a plan shows: distinct states, those of them that it shows well enough, its tokens, and those wasted."""

    states: int
    shown: int
    tokens: int
    wasted: int


def score(truth: Truth, plan: Sequence[tuple[float, int]]) -> Score:
    """Score a plan against the truth.

    Args:
        truth: of the clip.
        plan: (seconds from the clip's first frame, scale) of each frame that is shown.
    """
    shown: set[int] = set()
    frames: dict[tuple[int, int], list[tuple[bool, int]]] = defaultdict(list)
    for seconds, scale in sorted(plan):
        number = truth.state_at(seconds)
        if number is None:
            continue
        root = truth.root(number)
        if number == root and scale >= truth.states[root].needed:
            shown.add(root)
        slot = int(seconds // MOVING_SECONDS) if truth.is_moving else 0
        frames[root, slot].append((number == root, scale))
    tokens = sum(scale for _, scale in plan)
    used = sum(max(group)[1] for group in frames.values())
    return Score(len(truth.distinct), len(shown), tokens, tokens - used)
