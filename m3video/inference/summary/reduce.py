"""Merge captions into one summary, in as many levels as the context needs; each sentence cites a time range.

The model is asked to cite its sources after each sentence. A sentence without citations is attributed to everything in
its prompt: less exact, but always true.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from m3video.errors import DoesNotFitError
from m3video.inference.summary.values import Sentence
from m3video.utils.clock import clock

MOST_SENTENCES = 6


@dataclass(frozen=True, slots=True)
class Caption:
    """A text that the model generated, and the tokens it cost."""

    text: str
    prompt_tokens: int = 0
    visual_tokens: int = 0
    answer_tokens: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A caption, or several merged: its time range, and the chapters (from 1) it comes from."""

    start_seconds: float
    end_seconds: float
    text: str
    chapters: tuple[int, ...]


@dataclass(slots=True)
class Reduced:
    """The sentences of a summary, how many levels of merging it took, and every text generated for it."""

    sentences: list[Sentence]
    depth: int = 0
    generated: list[Caption] = field(default_factory=list)


def reduce_lines(lines: Sequence[Line], *, generate: Callable[[str], Caption], fits: Callable[[str], bool]) -> Reduced:
    """Merge captions into one summary.

    Args:
        lines: at least one, in order of time.
        generate: runs the model on a text prompt.
        fits: whether a prompt and its answer fit in the context.

    Raises:
        DoesNotFitError: not even two captions fit in the context.
    """
    if len(lines) == 1:
        line = lines[0]
        return Reduced(
            [
                Sentence(text, line.start_seconds, line.end_seconds, line.chapters, True)
                for text, _ in split_sentences(line.text)
            ]
        )
    groups = _groups(lines, fits)
    generated, merged = [], []
    for group in groups:
        if len(group) == 1:  # goes unchanged to the next level
            merged.append(group[0])
            continue
        generated.append(generate(prompt_of(group)))
        merged.append(_merged(group, generated[-1].text))
    if len(groups) == 1:
        return Reduced(sentences_of(generated[0].text, groups[0]), 1, generated)
    upper = reduce_lines(merged, generate=generate, fits=fits)
    return Reduced(upper.sentences, upper.depth + 1, [*generated, *upper.generated])


def _groups(lines: Sequence[Line], fits: Callable[[str], bool]) -> list[list[Line]]:
    """Divide lines into as few equal groups as fit; fewer groups than lines, so that the merging ends."""
    for count in range(1, len(lines)):
        edges = [len(lines) * number // count for number in range(count + 1)]
        groups = [list(lines[a:b]) for a, b in itertools.pairwise(edges)]
        if all(len(group) == 1 or fits(prompt_of(group)) for group in groups):
            return groups
    raise DoesNotFitError(
        "two captions and a summary of them do not fit in the model's context: use a smaller --max-new-tokens"
    )


def prompt_of(lines: Sequence[Line]) -> str:
    """Return the prompt that asks to merge `lines`, numbered."""
    listed = "\n".join(
        f"[{number}] {clock(round(line.start_seconds))} to {clock(round(line.end_seconds))}: {line.text}"
        for number, line in enumerate(lines, 1)
    )
    return (
        f"These notes describe the parts of one video in order.\n{listed}\n"
        f"Summarize the whole video in at most {MOST_SENTENCES} sentences. After each sentence give the numbers of the "
        "notes it rests on, for example [1] or [2-3]."
    )


def _merged(lines: Sequence[Line], text: str) -> Line:
    words = " ".join(sentence for sentence, _ in split_sentences(text))
    chapters = tuple(number for line in lines for number in line.chapters)
    return Line(lines[0].start_seconds, lines[-1].end_seconds, words, chapters)


def sentences_of(text: str, lines: Sequence[Line]) -> list[Sentence]:
    """Return the sentences of an answer to `prompt_of(lines)`, each with its time range."""
    found = []
    for words, numbers in split_sentences(text):
        cited = [lines[number - 1] for number in numbers if 1 <= number <= len(lines)]
        sources = sorted(cited or lines, key=lambda line: line.start_seconds)
        chapters = tuple(sorted({number for line in sources for number in line.chapters}))
        found.append(
            Sentence(words, sources[0].start_seconds, max(line.end_seconds for line in sources), chapters, bool(cited))
        )
    return found


_CITATION = re.compile(r"\[\s*((?:\d+\s*(?:-\s*\d+\s*)?)(?:[,;]\s*\d+\s*(?:-\s*\d+\s*)?)*)\]")
_END = re.compile(r"(?<=[.!?])\s+|\n+")


def split_sentences(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Split a text into sentences without their citations, and the numbers cited.

    A citation after the full stop belongs to the sentence before it. Example:
    `"A dog runs. [1] It sleeps [2-3]."` -> `[("A dog runs.", (1,)), ("It sleeps.", (2, 3))]`.
    """
    sentences: list[tuple[str, tuple[int, ...]]] = []
    for piece in _END.split(text.strip()):
        while sentences and not sentences[-1][1] and (citation := _CITATION.match(piece.lstrip())):
            sentences[-1] = (sentences[-1][0], _numbers(citation[1]))
            piece = piece.lstrip()[citation.end() :]
        numbers = tuple(
            dict.fromkeys(number for citation in _CITATION.finditer(piece) for number in _numbers(citation[1]))
        )
        words = re.sub(r"\s+([.!?,;])", r"\1", " ".join(_CITATION.sub(" ", piece).split()))
        if re.search(r"\w", words):
            sentences.append((words, numbers))
        elif numbers and sentences:
            sentences[-1] = (sentences[-1][0], tuple(dict.fromkeys(sentences[-1][1] + numbers)))
    return sentences


def _numbers(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in re.split(r"[,;]", text):
        first, _, last = (piece.strip() for piece in part.partition("-"))
        # A range is cut short: a model may write [1-99999999999].
        found.extend(range(int(first), min(int(last or first), int(first) + 9999) + 1))
    return tuple(found)
