"""Questions about a clip, with true answers, and a frame's content as a list of facts.

A *family* is a kind of question. Each question is about one frame, named by number or by time, or about the whole clip
("when"). A family is asked only where its answer is certain: no place near a border, no time that two frames share
with different answers.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3video.training.scenes import Facts
from m3video.training.words import (
    BACKGROUND_COLOURS,
    BACKGROUNDS,
    BOARD_SIDES,
    COLOURS,
    PLACES,
    SHAPES,
    SIGN_WORDS,
    clock_words,
)  # fmt: skip


class Question(NamedTuple):
    """`family`, the words of question and answer, and the frame to look at ("when": the frame that is the answer)."""

    family: str
    question: str
    answer: str
    frame: int


def spell(sign: str) -> str:
    """A sign's text as answer tokens: words are one token, numbers go digit by digit (`4 ##7`)."""
    return sign[0] + "".join(f" ##{digit}" for digit in sign[1:]) if sign.isdigit() else sign


def plain(answer: str) -> str:
    """Answer tokens as the tokenizer decodes them: `4 ##7` -> `47`."""
    return answer.replace(" ##", "")


Asked = tuple[str, str] | None
"""A question without its reference to a frame, and its answer; None where it cannot be asked."""


def _colour(rng: random.Random) -> str:
    return rng.choice(("colour", "color"))


def _background(f: Facts, rng: random.Random) -> Asked:
    if f.board or f.page:
        return None
    c = _colour(rng)
    asked = rng.choice((f"what {c} is the background", f"what is the {c} of the background",
                        f"what is the background {c}",
                        f"which {c} is the background"))  # fmt: skip
    return asked, f.background


def _light(f: Facts, rng: random.Random) -> Asked:
    return rng.choice(("is it day or night", "is it night or day", "day or night")), "night" if f.night else "day"


def _shape_colour(f: Facts, rng: random.Random) -> Asked:
    c = _colour(rng)
    if len(f.shapes) == 1 and rng.random() < 0.7:
        noun = rng.choice(("shape", "object", f.shapes[0].kind))
        return rng.choice((f"what {c} is the {noun}", f"what is the {c} of the {noun}", f"which {c} is the {noun}")), (
            f.shapes[0].colour)  # fmt: skip
    if not f.shapes:
        if rng.random() < 0.85:
            return None
        return f"what {c} is the {rng.choice(('shape', 'object', *SHAPES))}", "there is none"
    shape = rng.choice(f.shapes)
    if sum(s.kind == shape.kind for s in f.shapes) > 1:
        return None
    return rng.choice((f"what {c} is the {shape.kind}", f"what is the {c} of the {shape.kind}")), shape.colour


def _shape_kind(f: Facts, rng: random.Random) -> Asked:
    if len(f.shapes) == 1 and rng.random() < 0.6:
        return rng.choice(("what shape is there", "what shape is it", "which shape is shown", "what is the shape")), (
            f.shapes[0].kind)  # fmt: skip
    if not f.shapes:
        return None
    shape = rng.choice(f.shapes)
    return rng.choice((f"what shape is {shape.colour}", f"what is the {shape.colour} shape",
                       f"which shape is the {shape.colour} object")), shape.kind  # fmt: skip


def _count(f: Facts, rng: random.Random) -> Asked:
    if not f.shapes and rng.random() < 0.7:
        return None
    asked = rng.choice(("how many shapes are there", "how many shapes do you see", "how many objects are there"))
    return asked.replace("objects", "shapes"), ("none", "one", "two", "three")[len(f.shapes)]


def _place(f: Facts, rng: random.Random) -> Asked:
    clear = [s for s in f.shapes if s.clear]
    if not clear:
        return None
    shape = rng.choice(clear)
    noun = "shape" if len(f.shapes) == 1 and rng.random() < 0.5 else f"{shape.colour} {rng.choice(('shape', 'object'))}"
    return f"where is the {noun}", shape.place


def _present(f: Facts, rng: random.Random) -> Asked:
    thing = rng.choice(("sign", "board", "shape", "page of text"))
    there = {"sign": bool(f.sign), "board": bool(f.board), "shape": bool(f.shapes), "page of text": f.page}[thing]
    if not there and rng.random() < 0.5:
        return None
    return f"is there a {thing}", "yes" if there else "no"


def _what(f: Facts, rng: random.Random) -> Asked:
    if f.page:
        answer = "a page of text"
    elif f.board:
        answer = f"a board with {len(f.board)} rows"
    elif f.sign:
        answer = "a sign with a number" if f.sign.isdigit() else "a sign with a word"
    elif f.shapes:
        if len(f.shapes) > 1:
            answer = f"{('two', 'three')[len(f.shapes) - 2]} shapes"
        else:
            answer = f"a {f.shapes[0].colour} {f.shapes[0].kind}"
    else:
        answer = "nothing"
    return rng.choice(("what is shown", "what is there", "what do you see", "what can you see")), answer


def _sign(f: Facts, rng: random.Random) -> Asked:
    if not f.sign:
        return None
    noun = rng.choice(("number", "text")) if f.sign.isdigit() else rng.choice(("word", "text"))
    asked = rng.choice(("what does the sign say", f"what {noun} is on the sign", f"read the {noun} on the sign",
                        "what is written on the sign"))  # fmt: skip
    return asked, spell(f.sign)


def _row(f: Facts, rng: random.Random) -> Asked:
    if not f.board:
        return None
    row = rng.randrange(len(f.board))
    return rng.choice((f"read row {row + 1} of the board", f"what colours are in row {row + 1}")), " ".join(
        f.board[row]
    )


def _tile(f: Facts, rng: random.Random) -> Asked:
    if not f.board:
        return None
    row, column = rng.randrange(len(f.board)), rng.randrange(len(f.board))
    c = _colour(rng)
    return f"what {c} is the tile in row {row + 1} column {column + 1}", f.board[row][column]


FAMILIES: dict[str, Callable[[Facts, random.Random], Asked]] = {
    "background": _background, "light": _light, "shape colour": _shape_colour, "shape kind": _shape_kind,
    "count": _count, "place": _place, "present": _present, "what": _what, "sign": _sign, "row": _row, "tile": _tile,
}  # fmt: skip
SHARES: dict[str, float] = {
    "background": 13, "light": 7, "shape colour": 24, "shape kind": 14, "count": 6, "place": 12, "present": 6,
    "what": 10,
    "sign": 26, "row": 16, "tile": 6,
}  # fmt: skip
"""How often each family is tried. Those that can seldom be asked (a sign, a board) are tried more often."""


def when_question(frames: Sequence[Facts], times: Sequence[str], rng: random.Random) -> Question | None:
    """When something first appears, or which frame shows it; None when this clip has nothing to ask about."""
    pick = rng.choice(frames)
    tests: list[tuple[str, Callable[[Facts], bool]]] = []
    if pick.sign:
        tests.append(("a sign", lambda f: bool(f.sign)))
    if pick.board:
        tests.append(("a board", lambda f: bool(f.board)))
    if pick.page:
        tests.append(("a page of text", lambda f: f.page))
    if pick.shapes:
        shape = rng.choice(pick.shapes)
        key = (shape.colour, shape.kind)
        tests.append((f"a {shape.colour} {shape.kind}", lambda f: any((s.colour, s.kind) == key for s in f.shapes)))
    if not tests:
        return None
    noun, test = rng.choice(tests)
    first = next(i for i, f in enumerate(frames) if test(f))
    if rng.random() < 0.5:
        return Question("when", f"when does {noun} first appear", times[first], first)
    return Question("when", f"in which frame does {noun} first appear", f"frame {first + 1}", first)


def ask(frames: Sequence[Facts], seconds: Sequence[float], rng: random.Random, *, number: int,
        families: Sequence[str] | None = None, when_share: float = 0.1) -> list[Question]:  # fmt: skip
    """`number` questions about a clip.

    Args:
        frames: what is true of each shown frame.
        seconds: the frames' times, increasing.
        rng: source of all randomness.
        number: how many questions (fewer when the clip has nothing more to ask about).
        families: only these; None for all with the training shares.
        when_share: probability of a question about the whole clip.

    Returns:
        Questions whose `question` names the frame "in frame 5" or "at 0:07" (a one-frame clip may name none).
    """
    times = [clock_words(s) for s in seconds]
    names = list(families or FAMILIES)
    weights = [SHARES[name] for name in names]
    out: list[Question] = []
    for _ in range(number * 6):
        if len(out) == number:
            break
        if len(frames) > 1 and rng.random() < when_share:
            asked_when = when_question(frames, times, rng)
            if asked_when:
                out.append(asked_when)
            continue
        index = rng.randrange(len(frames))
        family = rng.choices(names, weights)[0]
        asked = FAMILIES[family](frames[index], rng)
        if asked is None:
            continue
        question, answer = asked
        reference = _reference(index, times, rng)
        if reference and rng.random() < 0.15:
            question = f"{reference} {question}"
        elif reference:
            question = f"{question} {reference}"
        out.append(Question(family, question, answer, index))
    return out


def _reference(index: int, times: Sequence[str], rng: random.Random) -> str:
    if len(times) == 1 and rng.random() < 0.5:
        return ""
    if rng.random() < 0.5 and times.count(times[index]) == 1:
        return f"at {times[index]}"
    return f"in frame {index + 1}"


@functools.cache
def fact_ids() -> dict[tuple[object, ...], int]:
    """Every global fact a frame can have, numbered. Boards appear by their size only: their tiles are local facts."""
    keys: list[tuple[object, ...]] = [("background", c) for c in BACKGROUNDS]
    keys += [("night", flag) for flag in (False, True)]
    keys += [("count", number) for number in range(4)]
    keys += [("kind", c, s) for c in COLOURS for s in SHAPES]
    keys += [("place", c, p) for c in COLOURS for p in PLACES]
    keys += [("sign", word) for word in SIGN_WORDS]
    keys += [("digit", place, digit) for place in range(4) for digit in "0123456789"]
    keys += [("board", side) for side in BOARD_SIDES]
    keys += [("page",)]
    return {key: number for number, key in enumerate(keys)}


def fact_list(f: Facts) -> list[int]:
    """The numbers of the facts that hold in a frame."""
    ids = fact_ids()
    keys: list[tuple[object, ...]] = [("night", f.night), ("count", len(f.shapes))]
    if f.page:
        keys.append(("page",))
    elif f.board:
        keys.append(("board", len(f.board)))
    else:
        keys.append(("background", f.background))
    for shape in f.shapes:
        keys += [("kind", shape.colour, shape.kind), ("place", shape.colour, shape.place)]
    if f.sign and f.sign.isdigit():
        keys += [("digit", place, digit) for place, digit in enumerate(f.sign)]
    elif f.sign:
        keys.append(("sign", f.sign))
    return [ids[key] for key in keys]


NUM_TILE_FACTS = 144 * len(BACKGROUND_COLOURS)


def board_cells(board: tuple[tuple[str, ...], ...]) -> NDArray[np.int64]:
    """A board that fills the 24x24 grid, as the tile fact of every cell: int64 [576]."""
    side = len(board)
    index = np.arange(24) * side // 24
    tile = np.array([[BACKGROUND_COLOURS.index(c) for c in row] for row in board])
    rows, columns = np.meshgrid(index, index, indexing="ij")
    return ((rows * 12 + columns) * len(BACKGROUND_COLOURS) + tile[rows, columns]).reshape(-1)
