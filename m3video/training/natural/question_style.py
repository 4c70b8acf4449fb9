"""How questions are worded and answers shaped: styles of answers, and questions as people type them.

The answer follows what is asked for: a word ("Answer with one word."), a few words, or a sentence; without a wish,
a few words. Questions come with typing mistakes, in lower case and without a question mark at fixed rates.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

TYPO_SHARE, LOWER_SHARE, NO_MARK_SHARE = 0.05, 0.15, 0.1
"""Of questions: with one typing mistake, in lower case, without their last mark."""
ONE_WORD = (
    "Answer with one word.",
    "Answer in one word.",
    "One word only.",
    "Reply with a single word.",
    "Use a single word.",
)
FEW_WORDS = ("Answer briefly.", "Answer in a few words.", "Keep it short.", "Give a short answer.", "Be brief.")
SENTENCE = (
    "Answer in a full sentence.",
    "Answer with a sentence.",
    "Reply in a complete sentence.",
    "Please answer in one sentence.",
)
YES_OR_NO = ("Answer yes or no.", "Yes or no?", "Reply with yes or no.", "Say yes or no.")
SHARES = (0.5, 0.17, 0.13, 0.2)
"""Of answers: no wish, one word, a few words, a sentence."""


class NaturalQuestion(NamedTuple):
    """A question about a picture, its answer, what kind of question it is, and other answers that are as good."""

    question: str
    answer: str
    kind: str
    others: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The question with each of its answers."""
        return [(self.question, answer) for answer in (self.answer, *self.others)]


class Told(NamedTuple):
    """One answer in three lengths; `word` is empty where one word would not do."""

    word: str
    phrase: str
    sentence: str


def shaped(kind: str, wordings: Sequence[str], told: Told, rng: random.Random) -> NaturalQuestion:
    """Return a question in one of its wordings, with a wish for the answer's length or none, and the answer so."""
    question = rng.choice(wordings)
    style = rng.choices(("plain", "word", "few", "sentence"), SHARES)[0]
    if style == "word" and told.word:
        return NaturalQuestion(f"{question} {rng.choice(ONE_WORD)}", told.word, kind)
    if style == "few":
        return NaturalQuestion(f"{question} {rng.choice(FEW_WORDS)}", told.phrase, kind)
    if style == "sentence":
        return NaturalQuestion(f"{question} {rng.choice(SENTENCE)}", as_sentence(told.sentence), kind)
    return NaturalQuestion(question, told.phrase, kind)


def yes_or_no(kind: str, wordings: Sequence[str], yes: bool, sentence: str, rng: random.Random) -> NaturalQuestion:
    """Return a yes/no question; the answer is one word, or `sentence` behind it where a sentence is asked for."""
    question, word = rng.choice(wordings), "Yes" if yes else "No"
    style = rng.choices(("plain", "word", "sentence"), (0.55, 0.25, 0.2))[0]
    if style == "word":
        return NaturalQuestion(f"{question} {rng.choice(YES_OR_NO)}", word, kind)
    if style == "sentence":
        return NaturalQuestion(f"{question} {rng.choice(SENTENCE)}", f"{word}, {sentence}.", kind)
    return NaturalQuestion(question, word, kind)


def as_sentence(text: str) -> str:
    """Return a text with a capital first and one full stop last: "a dog runs ." -> "A dog runs."."""
    text = " ".join(text.split()).strip(" .,;")
    for mark in (" ,", " .", " ;", " 's"):
        text = text.replace(mark, mark.strip())
    return text[:1].upper() + text[1:] + "."


def as_typed(asked: NaturalQuestion, rng: random.Random) -> NaturalQuestion:
    """Return a question as people type it: some in lower case, some with a mistake, some without the last mark."""
    text = asked.question
    if rng.random() < NO_MARK_SHARE and text.endswith(("?", ".")) and text.count("?") + text.count(".") == 1:
        text = text[:-1]
    if rng.random() < LOWER_SHARE:
        text = text.lower()
    if rng.random() < TYPO_SHARE:
        text = with_typo(text, rng)
    return asked._replace(question=text)


def with_typo(text: str, rng: random.Random) -> str:
    """Return a text with one mistake in a word of four letters or more: two letters swapped, one lost or doubled.

    Words in quotes stay as they are: they are what is asked for.
    """
    words = text.split(" ")
    quoted = [text[: len(" ".join(words[:at]))].count('"') % 2 == 1 or '"' in word for at, word in enumerate(words)]
    able = [at for at, word in enumerate(words) if len(word) >= 4 and word.isalpha() and not quoted[at]]
    if not able:
        return text
    at = rng.choice(able)
    word, place = words[at], rng.randrange(1, len(words[at]) - 1)
    kind = rng.choice(("swap", "lose", "double"))
    if kind == "swap":
        word = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    elif kind == "lose":
        word = word[:place] + word[place + 1 :]
    else:
        word = word[:place] + word[place] + word[place:]
    return " ".join((*words[:at], word, *words[at + 1 :]))
