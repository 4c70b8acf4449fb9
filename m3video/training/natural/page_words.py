"""Words, numbers and random strings for pages that teach letters, and the classes of characters that are told apart."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from m3video.model.tokenizer import TextCodec
from m3video.training.natural.splits import Part, part_of

MARKS = ".,:!?'-&/%$()"
CHARACTERS = string.ascii_lowercase + string.digits + MARKS
NONE, OTHER = 0, len(CHARACTERS) + 1
NUM_CLASSES = len(CHARACTERS) + 2
"""None, the characters (upper and lower case are one class), and other."""
LONGEST = 12

_CLASS_OF = {character: number for number, character in enumerate(CHARACTERS, 1)}
_FORMS = ("#", "##", "###", "####", "####", "#####", "#:##", "##:##", "#.#", "$#.##", "##%", "#,###", "(#)", "#/#")
_AFTER = (".", ",", "!", "?", ":", ".", ",", "-")
_AROUND = (("(", ")"), ("'", "'"))


def classes_of(text: str) -> NDArray[np.int64]:
    """Return the class of each character, [K], upper and lower case alike."""
    return np.array([_CLASS_OF.get(character, OTHER) for character in text.lower()], dtype=np.int64)


def character_of(number: int, *, upper: bool) -> str:
    """Return the character of a class; none is "", other is a replacement mark."""
    if number in (NONE, OTHER):
        return "" if number == NONE else "\N{REPLACEMENT CHARACTER}"
    character = CHARACTERS[number - 1]
    return character.upper() if upper else character


def token_words(codec: TextCodec, count: int) -> list[str]:
    """Return the text of each of a tokenizer's first `count` tokens: many are words."""
    return [codec.decode([number]).strip() for number in range(count)]


def known_words(words: Iterable[str], part: Part) -> list[str]:
    """Return the words of a part that are made of letters alone, each once, in order."""
    kept = {word.lower() for word in words if word.isascii() and word.isalpha() and 1 < len(word) <= LONGEST}
    return sorted(word for word in kept if part_of("texts", word) == part)


class WordMaker:
    """Draws words of a part: known ones, random strings, and numbers in usual forms."""

    def __init__(self, words: Iterable[str], part: Part) -> None:
        self.words, self.part = known_words(words, part), part

    def word(self, rng: random.Random, case: str) -> str:
        """Return one word, some with a mark after or around it.

        Args:
            rng: decides.
            case: `lower`, `upper`, `title` or `mixed`, where every letter has its own.
        """
        chance = rng.random()
        if chance < 0.22:
            return self._drawn(rng, _number)
        drawn = self._drawn(rng, _string) if chance < 0.5 or not self.words else rng.choice(self.words)
        text = {"upper": str.upper, "title": str.capitalize, "mixed": lambda one: _mixed(one, rng)}.get(case, str)(
            drawn
        )
        chance = rng.random()
        if chance < 0.10:
            return text + rng.choice(_AFTER)
        if chance < 0.13:
            before, after = rng.choice(_AROUND)
            return before + text + after
        return rng.choice(("&", "/", "-")) if chance < 0.14 else text

    def _drawn(self, rng: random.Random, draw: Callable[[random.Random], str]) -> str:
        while True:
            text = draw(rng)
            if part_of("texts", text) == self.part:
                return text


def _number(rng: random.Random) -> str:
    return "".join(rng.choice(string.digits) if mark == "#" else mark for mark in rng.choice(_FORMS))


def _string(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.choice((1, 2, 3, 4, 5, 6, 7, 8))))


def _mixed(word: str, rng: random.Random) -> str:
    return "".join(rng.choice((letter, letter.upper())) for letter in word)
