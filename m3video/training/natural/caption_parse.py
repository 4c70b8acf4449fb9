"""Find out what a caption says: the things it names, with number and colours, and what its subject does.

Plain rules over word lists (nouns.py, verbs.py), made to leave out what is unsure: a caption that is not understood
gives fewer facts, not wrong ones.

    "A brown dog runs through the deep snow ."
    -> mentions: dog (brown, subject), snow;  subject does: "running through the deep snow"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from m3video.training.natural import nouns
from m3video.training.natural.verbs import form, gerund

WORD = re.compile(r"[a-z]+(?:[-'][a-z]+)*|[0-9]+|[,.;]")
SPELLING: dict[str, str] = {
    "tee-shirt": "t-shirt",
    "tshirt": "t-shirt",
    "sun glasses": "sunglasses",
    "blow up": "inflatable",
    "in front of": "in_front_of",
    "on top of": "on_top_of",
    "next to": "next_to",
    "german shepard": "german shepherd",
    "grey hound": "greyhound",
    "grey hounds": "greyhounds",
    "a couple of": "several",
    "a group of": "several",
    "a bunch of": "several",
    "a pair of": "pair_of",
    "a piece of": "piece_of",
    "black and white photo": "photo",
    "black and white picture": "photo",
    "dirt bike": "dirt_bike",
}
_WATER = re.compile(r"\b(an?|the) (?:[a-z]+ )?body of water\b")
_SPELLING = re.compile(r"\b(" + "|".join(map(re.escape, sorted(SPELLING, key=len, reverse=True))) + r")\b")
_JOINED = re.compile(r"\b(" + "|".join(noun.replace("_", " ") for noun in nouns.JOINED) + r")(?=(s|es)?\b)")
ARTICLES = frozenset("a an the another this that some several his her its their many both other each".split())
POSSESSIVES = frozenset("his her its their".split())
AUXILIARIES = frozenset("is are".split())
ADVERBS = frozenset("also playfully happily quickly all both just being now together up outside".split())
PREPOSITIONS = frozenset(
    """in on at through across along down over into onto up around from off out of under near by beside behind between
    with against above toward towards past next_to in_front_of on_top_of by to for after before inside outside during
    amongst among without underneath below beneath atop alongside like about as while that who which""".split()
)
STOPS = frozenset(
    "while as who which that where , . ; but during because so when whilst has have was were does".split()
)
MODIFIER_STARTS = frozenset("in with wearing dressed who on at from of near that and".split())
MOST_WORDS_DONE = 9
LOOK_BACK = 6
"""How many words may stand between an article and its noun."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A thing that a caption names, at words `start` (its article, if any) to `end` (not included).

    `count` is a number that the caption says, 1 for `a`; None where it is open. `real` is False for a toy dog, the
    statue of a dog and the like. `text` is without article: "black and white dog".
    """

    noun: str
    plural: bool
    count: int | None
    colours: tuple[str, ...]
    real: bool
    another: bool
    text: str
    article: str
    start: int
    end: int

    @property
    def phrase(self) -> str:
        """Return the thing as an answer names it: a black dog, two dogs, her bicycle, snow."""
        if self.noun in nouns.UNCOUNTED and self.article in {"a", "an"}:
            return f"the {self.text}"
        if not self.article and not self.plural and self.noun not in nouns.UNCOUNTED:
            return f"{_article(self.text)} {self.text}"
        if self.article in {"another", "each", "this", "that", "other"}:
            return f"{_article(self.text)} {self.text}" if not self.plural else self.text
        return f"{self.article} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Parsed:
    """A caption in words, what it names in order, and what the first of it does ("running through the snow")."""

    words: tuple[str, ...]
    mentions: tuple[Mention, ...]
    subject: Mention | None
    verb: str | None
    done: str | None
    done_from: int
    """Where the subject's verb is among the words; -1 without one."""

    def mention_at(self, start: int) -> Mention | None:
        """Return the thing whose name begins at a word."""
        return next((mention for mention in self.mentions if mention.start == start), None)


def words_of(caption: str) -> tuple[str, ...]:
    """Return a caption's words in lower case; names of several words are joined by `_`."""
    text = " ".join(WORD.findall(caption.lower().replace("’", "'").replace(" 's", "'s")))
    text = _WATER.sub("the water", text)
    text = _SPELLING.sub(lambda found: SPELLING[found[0]], text)
    text = _JOINED.sub(lambda found: found[0].replace(" ", "_"), text)
    return tuple(text.split())


def parse(caption: str) -> Parsed:
    """Return what a caption says."""
    words = words_of(caption)
    mentions = _mentions(words)
    subject, after = _subject(words, mentions)
    at = _verb_at(words, mentions, subject, after) if subject else -1
    if at < 0:
        return Parsed(words, mentions, subject, None, None, -1)
    known = form(words[at])
    assert known is not None
    return Parsed(words, mentions, subject, known[0], _done(words, at), at)


def _mentions(words: Sequence[str]) -> tuple[Mention, ...]:
    found: list[Mention] = []
    free_from = 0
    for at, word in enumerate(words):
        known = nouns.singular(word)
        if known is None or _is_part_of_a_name(words, at, known[1]) or _is_verb(words, at, found):
            continue
        mention = _mention(words, at, *known, free_from)
        found.append(mention)
        free_from = mention.end
    return tuple(found)


def _is_part_of_a_name(words: Sequence[str], at: int, many: bool) -> bool:
    """Tell whether the next word is what is named: the dog of `dog show`, the street of `street sign`."""
    if at + 1 == len(words) or many:
        return False
    word, after = words[at], words[at + 1]
    if after == "racing" and at + 2 < len(words) and words[at + 2] not in _KNOWN:
        return True  # a car racing hat
    if after in nouns.COLOURS or (after in nouns.ADJECTIVES - nouns.OTHER_HEADS and not nouns.singular(after)):
        return False
    active = any(nouns.is_a(word, kind) for kind in ("person", "animal", "vehicle"))
    verb = form(after)
    if active and verb and (verb[1] != "base" or "and" in words[max(0, at - 4) : at]):
        return False  # a dog runs, a dog jumping, a man and a dog stand
    if nouns.singular(after) is None and after not in nouns.OTHER_HEADS:
        return False
    return not (verb and verb[1] == "gerund")


def _is_verb(words: Sequence[str], at: int, before: Sequence[Mention]) -> bool:
    """Tell whether a word that is also a noun is a verb here: dogs WATCH, a man SWINGS."""
    verb = form(words[at])
    if verb is None:
        return False
    last = before[-1] if before else None
    if last is None or last.end != at or not any(nouns.is_a(last.noun, k) for k in ("person", "animal", "vehicle")):
        return words[at - 1] == "to" if at else False
    return (verb[1] == "base") == last.plural


def _mention(words: Sequence[str], at: int, noun: str, many: bool, free_from: int) -> Mention:
    start = at
    while start > free_from and at - start < LOOK_BACK and _modifies(words, start - 1, free_from):
        start -= 1
    before = start - 1
    if before > free_from and words[before] not in _KNOWN and words[before - 1] in ARTICLES:
        start, before = before, before - 1  # one word between article and noun is unknown: still its adjective
    inside = tuple(words[start:at])
    article, count = "", None
    if before >= free_from and _determines(words[before]):
        article = words[before]
        count = 1 if article in {"a", "an"} else nouns.NUMBERS.get(article)
        start = before
    if noun in nouns.GROUPS or noun in nouns.UNCOUNTED or (many and count == 1):
        count = None
    colours = tuple(
        f"{inside[i - 1]} {word}" if i and inside[i - 1] in {"light", "dark", "bright"} else word
        for i, word in enumerate(inside)
        if word in nouns.COLOURS
    )
    text = " ".join((*inside, words[at])).replace("_", " ")
    around = {*inside, *words[max(0, start - 3) : start]} - {"of"}
    unreal = bool({*inside} & nouns.UNREAL) or (start > 1 and words[start - 1] == "of" and bool(around & nouns.UNREAL))
    further = article in {"another", "other"}
    return Mention(noun, many, count, colours, not unreal, further, text, article, start, at + 1)


def _determines(word: str) -> bool:
    return word in ARTICLES or word in nouns.NUMBERS or word.endswith("'s")


_KNOWN = nouns.COLOURS + tuple(
    nouns.ADJECTIVES | ARTICLES | AUXILIARIES | PREPOSITIONS | STOPS | nouns.NUMBERS.keys() | {"and", "or"}
)


def _modifies(words: Sequence[str], at: int, free_from: int) -> bool:
    """Tell whether a word belongs to the noun on its right as an adjective, a colour or a part of its name."""
    word = words[at]
    if word in {"and", ","}:
        both = (words[at - 1] if at > free_from else "", words[at + 1])
        return all(part in nouns.COLOURS or part in nouns.ADJECTIVES or part in nouns.SHADES for part in both)
    if word in nouns.COLOURS or word in nouns.ADJECTIVES or word in nouns.SHADES:
        return True
    known = nouns.singular(word)
    return (known is not None and not known[1] and word not in nouns.GROUPS) or word in {"pair_of", "piece_of"}


def _subject(words: Sequence[str], mentions: Sequence[Mention]) -> tuple[Mention | None, int]:
    """Return the caption's first thing if the caption starts with it alone, and where the words after it begin."""
    if not mentions or mentions[0].start > 0:
        return None, 0
    first = mentions[0]
    if first.end < len(words) and words[first.end] in {"and", "'s", ","} and len(mentions) > 1:
        second = mentions[1]
        if second.start == first.end + 1:
            return None, 0  # a man and a woman: two subjects
    return first, first.end


def _verb_at(words: Sequence[str], mentions: Sequence[Mention], subject: Mention | None, after: int) -> int:
    """Return where the subject's verb is: right behind it, or behind `in a red shirt`, `with a ball`; -1 if unsure."""
    assert subject is not None
    ends = {mention.end for mention in mentions}
    at = after
    wanted = "base" if subject.plural else "third"
    second = -1
    for _ in range(14):
        while at < len(words) and words[at] in ADVERBS:
            at += 1
        if at >= len(words) or words[at] in STOPS - {"who", "that", ","}:
            break
        known = form(words[at])
        if words[at] in AUXILIARIES:
            ahead = at + 1
            while ahead < len(words) and words[ahead] in ADVERBS:
                ahead += 1
            following = form(words[ahead]) if ahead < len(words) else None
            return ahead if following and following[1] == "gerund" else second
        if known and (at in ends or at == after or (known[1] == wanted == "third" and not nouns.singular(words[at]))):
            if known[1] == wanted:
                return at
            if known[1] == "gerund" and words[at] != "wearing":
                return second if second >= 0 else at
            if known[1] == "gerund" and second < 0:
                second = at
        elif at == after and words[at] not in MODIFIER_STARTS:
            return -1
        at += 1
    return second


def _done(words: Sequence[str], at: int) -> str | None:
    """Return what is done, with the verb as -ing form, up to where another clause begins: nine words at most."""
    known = form(words[at])
    assert known is not None
    verb, kind = known
    rest: list[str] = []
    for index in range(at + 1, len(words)):
        word = words[index]
        if word in STOPS or word in AUXILIARIES or (verb == "wear" and (form(word) or ("", ""))[1] == "gerund"):
            break
        if word == "and":
            after = words[index + 1] if index + 1 < len(words) else ""
            described = any(after in held for held in (nouns.COLOURS, nouns.ADJECTIVES))
            again = form(after)
            if not (described and index > at + 1) and not (again and again[1] == "gerund" == kind):
                break
        elif rest and (form(word) or ("", ""))[1] == "gerund" and not _may_describe_what_follows(words[index - 1]):
            break  # what the last thing does, or a second deed
        elif rest and (form(word) or ("", ""))[1] == "third" and not nouns.singular(word):
            return None  # a second verb: what the first one belongs to is unsure
        rest.append(word)
    while len(rest) > MOST_WORDS_DONE - 1:
        cuts = [i for i, word in enumerate(rest) if i and word in PREPOSITIONS]
        if not cuts:
            return None
        rest = rest[: cuts[-1]]
    if "with" in rest[1:] and nouns.is_a((nouns.singular(rest[-1]) or ("",))[0], "body") and len(rest) > 5:
        rest = rest[: len(rest) - 1 - rest[::-1].index("with")]  # with his arm | around her
    if len(rest) > 1 and rest[-1].endswith("ing") and nouns.singular(rest[-2]):
        rest.pop()  # what the noun before it does
    if rest[-3:] in (["in", "the", "middle"], ["in", "the", "background"], ["on", "the", "side"]):
        del rest[-3:]  # of what, is gone
    while rest and rest[-1] in PREPOSITIONS | ARTICLES | ADVERBS | {"and"} - {"outside", "inside", "up", "down"}:
        if rest[-1] in {"outside", "inside", "up", "down", "together", "around", "over"} and len(rest) <= 2:
            break
        rest.pop()
    return " ".join((gerund(verb), *rest)).replace("_", " ")


def _may_describe_what_follows(word: str) -> bool:
    """Tell whether an -ing form behind a word may belong to a noun after it, or goes on with the same deed."""
    held = (ARTICLES, PREPOSITIONS, ADVERBS, nouns.ADJECTIVES, nouns.COLOURS, nouns.NUMBERS)
    return any(word in words for words in held) or word in {"and", "to"} or word.endswith(("'s", "ly"))


def _article(text: str) -> str:
    return "an" if text[0] in "aeiou" else "a"
