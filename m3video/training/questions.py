"""Questions about a clip, with true answers.

A *family* is a kind of question. Each question is about one frame, named by number or by time, or about the whole clip
("when"). A family is asked only where its answer is certain: no place near a border, no time that two frames share
with different answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from m3video.training.facts import FactPattern
from m3video.training.scenes import Facts
from m3video.training.words import COLOURS, SHAPES
from m3video.utils.clock import whole_clock

UNNAMED_SHARE, UNNAMED_TRIES = 0.4, 8
"""How often it is tried to ask without saying which frame is meant, and how many questions are looked at for one that
leaves no doubt; in the end three in ten are so."""


class Question(NamedTuple):
    """`family`, the words of question and answer, the frame to look at ("when": the frame that is the answer), and for
    each word of the answer what to look at within that frame (empty: the frame as a whole)."""

    family: str
    question: str
    answer: str
    frame: int
    looks: tuple[FactPattern, ...] = ()


def spell(sign: str) -> str:
    """Return a sign's text as answer tokens: words are one token, numbers go digit by digit (`4 ##7`)."""
    return sign[0] + "".join(f" ##{digit}" for digit in sign[1:]) if sign.isdigit() else sign


def plain_answer(answer: str) -> str:
    """Return answer tokens as the tokenizer decodes them: `4 ##7` -> `47`."""
    return answer.replace(" ##", "")


class FrameQuestion(NamedTuple):
    """A question without its reference to a frame, its answer, and where each of the answer's words can be seen."""

    question: str
    answer: str
    looks: tuple[FactPattern, ...] = ()


def _colour(rng: random.Random) -> str:
    return rng.choice(("colour", "color"))


def _background(f: Facts, rng: random.Random) -> FrameQuestion | None:
    if f.board or f.page or f.table:
        return None
    c = _colour(rng)
    asked = rng.choice(
        (
            f"what {c} is the background",
            f"what is the {c} of the background",
            f"what is the background {c}",
            f"which {c} is the background",
        )
    )
    return FrameQuestion(asked, f.background)


def _light(f: Facts, rng: random.Random) -> FrameQuestion | None:
    asked = rng.choice(("is it day or night", "is it night or day", "day or night"))
    return FrameQuestion(asked, "night" if f.night else "day")


def _shape_colour(f: Facts, rng: random.Random) -> FrameQuestion | None:
    c = _colour(rng)
    if not f.shapes:
        if rng.random() < 0.85:
            return None
        return FrameQuestion(f"what {c} is the {rng.choice(('shape', 'object', *SHAPES))}", "there is none")
    shape = rng.choice(f.shapes)
    if sum(s.kind == shape.kind for s in f.shapes) > 1:
        return None
    noun = rng.choice(("shape", "object", shape.kind)) if len(f.shapes) == 1 and rng.random() < 0.7 else shape.kind
    asked = [f"what {c} is the {noun}", f"what is the {c} of the {noun}"]
    if len(f.shapes) == 1:
        asked.append(f"which {c} is the {noun}")
    return FrameQuestion(rng.choice(asked), shape.colour, (("here", None, shape.kind),))


def _shape_kind(f: Facts, rng: random.Random) -> FrameQuestion | None:
    if not f.shapes:
        return None
    shape = rng.choice(f.shapes)
    if len(f.shapes) == 1 and rng.random() < 0.6:
        asked = rng.choice(("what shape is there", "what shape is it", "which shape is shown", "what is the shape"))
    else:
        asked = rng.choice(
            (
                f"what shape is {shape.colour}",
                f"what is the {shape.colour} shape",
                f"which shape is the {shape.colour} object",
            )
        )
    return FrameQuestion(asked, shape.kind, (("here", shape.colour, None),))


def _count(f: Facts, rng: random.Random) -> FrameQuestion | None:
    if not f.shapes and rng.random() < 0.7:
        return None
    asked = rng.choice(("how many shapes are there", "how many shapes do you see", "how many objects are there"))
    return FrameQuestion(asked.replace("objects", "shapes"), ("none", "one", "two", "three")[len(f.shapes)])


def _place(f: Facts, rng: random.Random) -> FrameQuestion | None:
    clear = [s for s in f.shapes if s.clear]
    if not clear:
        return None
    shape = rng.choice(clear)
    noun = "shape" if len(f.shapes) == 1 and rng.random() < 0.5 else f"{shape.colour} {rng.choice(('shape', 'object'))}"
    return FrameQuestion(
        f"where is the {noun}", shape.place, (("here", shape.colour, None),) * len(shape.place.split())
    )


def _present(f: Facts, rng: random.Random) -> FrameQuestion | None:
    there_is = {
        "sign": bool(f.sign),
        "board": bool(f.board),
        "shape": bool(f.shapes),
        "page of text": f.page,
        "table": bool(f.table),
    }
    thing, there = rng.choice(list(there_is.items()))
    if not there and rng.random() < 0.5:
        return None
    return FrameQuestion(f"is there a {thing}", "yes" if there else "no")


def _what(f: Facts, rng: random.Random) -> FrameQuestion | None:
    if f.page:
        answer = "a page of text"
    elif f.board:
        answer = f"a board with {len(f.board)} rows"
    elif f.table:
        answer = f"a table with {len(f.table)} rows"
    elif f.sign:
        answer = "a sign with a number" if f.sign.isdigit() else "a sign with a word"
    elif f.shapes:
        if len(f.shapes) > 1:
            answer = f"{('two', 'three')[len(f.shapes) - 2]} shapes"
        else:
            answer = f"a {f.shapes[0].colour} {f.shapes[0].kind}"
    else:
        answer = "nothing"
    return FrameQuestion(rng.choice(("what is shown", "what is there", "what do you see", "what can you see")), answer)


def _sign(f: Facts, rng: random.Random) -> FrameQuestion | None:
    if not f.sign:
        return None
    noun = rng.choice(("number", "text")) if f.sign.isdigit() else rng.choice(("word", "text"))
    asked = rng.choice(
        (
            "what does the sign say",
            f"what {noun} is on the sign",
            f"read the {noun} on the sign",
            "what is written on the sign",
        )
    )
    looks = [("letter", order) for order in range(1, len(f.sign) + 1)] if f.sign.isdigit() else [("letter",)]
    return FrameQuestion(asked, spell(f.sign), tuple(looks))


def _row(f: Facts, rng: random.Random) -> FrameQuestion | None:
    lines = f.board or f.table
    if not lines:
        return None
    row = rng.randrange(len(lines))
    number = row + 1
    if f.board:
        asked = rng.choice((f"read row {number} of the board", f"what colours are in row {number}"))
        return FrameQuestion(asked, " ".join(f.board[row]), tuple(("tile", row, c) for c in range(len(f.board))))
    asked = rng.choice((f"read row {number} of the table", f"what does row {number} of the table say"))
    return FrameQuestion(asked, spell("".join(lines[row])), tuple(("entry", row, c) for c in range(len(lines[row]))))


def _tile(f: Facts, rng: random.Random) -> FrameQuestion | None:
    if not f.board:
        return None
    row, column = rng.randrange(len(f.board)), rng.randrange(len(f.board))
    asked = f"what {_colour(rng)} is the tile in row {row + 1} column {column + 1}"
    return FrameQuestion(asked, f.board[row][column], (("tile", row, column),))


def _entry(f: Facts, rng: random.Random) -> FrameQuestion | None:
    if not f.table:
        return None
    row, column = rng.randrange(len(f.table)), rng.randrange(len(f.table[0]))
    asked = rng.choice(("what number is", "what is")) + f" in row {row + 1} column {column + 1} of the table"
    return FrameQuestion(asked, f.table[row][column], (("entry", row, column),))


FAMILIES: dict[str, Callable[[Facts, random.Random], FrameQuestion | None]] = {
    "background": _background,
    "light": _light,
    "shape colour": _shape_colour,
    "shape kind": _shape_kind,
    "count": _count,
    "place": _place,
    "present": _present,
    "what": _what,
    "sign": _sign,
    "row": _row,
    "tile": _tile,
    "entry": _entry,
}
SHARES: dict[str, float] = {
    "background": 13,
    "light": 7,
    "shape colour": 24,
    "shape kind": 14,
    "count": 6,
    "place": 12,
    "present": 6,
    "what": 10,
    "sign": 30,
    "row": 30,
    "tile": 12,
    "entry": 14,
}
"""How often each family is tried. Those that can seldom be asked (a sign, a board) are tried more often."""


def refined(family: str, f: Facts) -> str:
    """Return the family's name with what makes its questions hard: the number of shapes or tiles, word or number."""
    if family in ("shape colour", "shape kind", "place"):
        return f"{family} {('none', 'one', 'several')[min(2, len(f.shapes))]}"
    if family in ("tile", "row") and f.board:
        return f"{family} {len(f.board)}x{len(f.board)}"
    if family == "row":
        return "row table"
    if family == "sign" and f.sign:
        return "sign number" if f.sign.isdigit() else "sign word"
    return family


def subject(family: str, question: str) -> Callable[[Facts], bool] | None:
    """Return a test of whether a frame has what a question without a reference is about; None for families (named as by
    `refined`) that can be asked about any frame."""
    name, words = family.split()[0], set(question.split())
    if name == "sign":
        return lambda facts: bool(facts.sign)
    if name == "entry" or family == "row table":
        return lambda facts: bool(facts.table)
    if name in ("tile", "row"):
        return lambda facts: bool(facts.board)
    if name in ("shape", "place"):
        kinds, colours = words & set(SHAPES), words & set(COLOURS)
        return lambda facts: any(
            (not kinds or shape.kind in kinds) and (not colours or shape.colour in colours) for shape in facts.shapes
        )
    return None


def is_certain(family: str, question: str, frames: Sequence[Facts], index: int) -> bool:
    """Return whether a question about frame `index` has one answer even without a reference: no other frame has what it
    is about, except frames that show the same."""
    has_it = subject(refined(family, frames[index]), question)
    if has_it is None or not has_it(frames[index]):
        return False
    return len({_shown(family, facts) for facts in frames if has_it(facts)}) == 1


def _shown(family: str, f: Facts) -> Hashable:
    """Return what of a frame decides the answer: shapes may move while their colours stay."""
    shapes = f.shapes if family == "place" else frozenset((shape.kind, shape.colour) for shape in f.shapes)
    return shapes, f.sign, f.board, f.table


def _things(f: Facts, rng: random.Random) -> list[tuple[str, Callable[[Facts], bool]]]:
    """Return what in a frame can be asked about over a whole clip: a name, and a test for it."""
    things: list[tuple[str, Callable[[Facts], bool]]] = []
    if f.sign:
        things.append(("a sign", lambda f: bool(f.sign)))
    if f.board:
        things.append(("a board", lambda f: bool(f.board)))
    if f.table:
        things.append(("a table", lambda f: bool(f.table)))
    if f.page:
        things.append(("a page of text", lambda f: f.page))
    if f.shapes:
        shape = rng.choice(f.shapes)
        key = (shape.colour, shape.kind)
        things.append((f"a {shape.colour} {shape.kind}", lambda f: any((s.colour, s.kind) == key for s in f.shapes)))
    return things


def when_question(frames: Sequence[Facts], times: Sequence[str], rng: random.Random) -> Question | None:
    """Ask when something first appears, which frame shows it first, or which of two things comes first; None when this
    clip has nothing to ask about."""
    things = _things(rng.choice(frames), rng)
    if not things:
        return None
    noun, test = rng.choice(things)
    first = next(i for i, f in enumerate(frames) if test(f))
    how = rng.random()
    if how < 0.35:
        return Question("when", f"when does {noun} first appear", times[first], first)
    if how < 0.7:
        return Question("when", f"in which frame does {noun} first appear", f"frame {first + 1}", first)
    others = _things(rng.choice(frames), rng)
    if not others:
        return None
    other, other_test = rng.choice(others)
    other_first = next(i for i, f in enumerate(frames) if other_test(f))
    if other_first == first:
        return None
    both = rng.sample((noun, other), 2)
    asked = rng.choice(("which comes first", "what comes first", "which came first")) + f" {both[0]} or {both[1]}"
    return Question("first", asked, noun if first < other_first else other, min(first, other_first))


def draw_questions(
    frames: Sequence[Facts],
    seconds: Sequence[float],
    rng: random.Random,
    *,
    number: int,
    families: Sequence[str] | None = None,
    when_share: float = 0.1,
    unnamed_share: float = UNNAMED_SHARE,
) -> list[Question]:
    """Draw `number` questions about a clip.

    Args:
        frames: what is true of each shown frame.
        seconds: the frames' times, increasing.
        rng: source of all randomness.
        number: how many questions (fewer when the clip has nothing more to ask about).
        families: only these; None for all with the training shares.
        when_share: probability of a question about the whole clip (families "when" and "first").
        unnamed_share: how often one about a frame is wanted that does not say which.

    Returns:
        Questions whose `question` names the frame "in frame 5" or "at 0:07", or none where only one can be meant.
    """
    times = [whole_clock(s) for s in seconds]
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
        is_unnamed = len(frames) > 1 and rng.random() < unnamed_share
        for _ in range(UNNAMED_TRIES if is_unnamed else 1):
            index = rng.randrange(len(frames))
            family = rng.choices(names, weights)[0]
            asked = FAMILIES[family](frames[index], rng)
            if asked is None or (is_unnamed and not is_certain(family, asked.question, frames, index)):
                continue
            reference = "" if is_unnamed else _reference(index, times, rng)
            parts = [reference, asked.question] if rng.random() < 0.15 else [asked.question, reference]
            out.append(Question(family, " ".join(filter(None, parts)), asked.answer, index, asked.looks))
            break
    return out


def _reference(index: int, times: Sequence[str], rng: random.Random) -> str:
    if len(times) == 1 and rng.random() < 0.5:
        return ""
    if rng.random() < 0.5 and times.count(times[index]) == 1:
        return f"at {times[index]}"
    return f"in frame {index + 1}"
