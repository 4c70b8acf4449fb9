"""Questions about photographs, made from captions that people wrote, with answers that the captions prove.

`QuestionMaker` learns from the captions of a set how often each thing is there, so that "Is there a ...?" is answered
yes as often as no, for each thing as far as that goes. Given one picture's captions and a random generator it makes
the picture's questions.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

from m3video.training.natural import nouns
from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.question_style import NaturalQuestion, Told, as_sentence, as_typed, shaped, yes_or_no
from m3video.training.natural.verbs import STATES, gerund
from m3video.training.natural.wordings import (
    ABSENT,
    ANIMAL,
    BRIEFLY,
    CANNOT_TELL,
    DESCRIBE,
    DETAIL,
    LIST,
    SCENE,
    SPORT,
    SPORTS,
    UNKNOWABLE,
    WHERE_ALL,
    asking,
)

ASKED: tuple[str, ...] = tuple(
    """person man woman child boy girl baby animal dog cat horse cow sheep goat bird duck fish monkey elephant camel
    vehicle car truck bus bicycle motorcycle boat train airplane guitar ball skateboard surfboard snowboard frisbee
    umbrella tent bench couch bed food kite swing trampoline snow beach pool""".split()
)
"""What is asked after by yes or no: things that captions would not leave out, so that their silence says something."""
SPOKEN = {"bicycle": ("bike", "bicycle"), "airplane": ("airplane", "plane"), "couch": ("couch", "sofa")}
COLOURED = ("animal", "vehicle", "clothes", "ball", "toy", "board")
COUNTED = ("dog", "person", "child", "man", "woman", "boy", "girl", "horse", "bird", "cow", "sheep", "cat", "car")
PLAIN_PEOPLE = frozenset("man woman child boy girl".split())
DOERS = ("man", "woman", "boy", "girl", "dog", "child", "person", "horse", "bird", "cat")
NUMBER_WORDS = {number: word for word, number in nouns.NUMBERS.items()}
COLOUR_YES_NO = 0.35
"""Of questions for colours: is it this one?"""
CLEAR = ("black", "white", "brown", "red", "blue", "yellow", "green", "orange", "pink", "purple")
CLOSE: tuple[frozenset[str], ...] = tuple(
    frozenset(group.split())
    for group in (
        "black dark gray grey",
        "white gray grey light silver beige blond blonde tan",
        "brown tan beige gold golden orange red maroon blond blonde",
        "yellow gold golden blond blonde tan orange",
        "red pink maroon orange purple",
        "blue turquoise teal purple green",
        "green turquoise teal blue",
        "pink purple red",
    )
)
"""Colours that people take for each other."""
PRESENCES = 2
"""Pairs of yes and no on a picture: whether a thing is there is slow to learn, and quick to ask."""
ROUNDS = 60
"""Of fitting how often each thing is asked after."""


class QuestionMaker:
    """Makes questions from captions; `seen` are the captions of the pictures it balances yes and no over."""

    def __init__(self, seen: Iterable[Sequence[str]]) -> None:
        present: list[list[str]] = []
        absent: list[list[str]] = []
        for captions in seen:
            facts = Facts.of(captions)
            present.append([kind for kind in ASKED if facts.is_named(kind)])
            absent.append([kind for kind in ASKED if facts.is_absent(kind)])
        self.yes_weight, self.no_weight = _balanced(present, absent)
        named, denied = _expected(present, self.yes_weight), _expected(absent, self.no_weight)
        self._kept = {kind: (min(1.0, denied[kind] / n), min(1.0, n / denied[kind])) for kind, n in named.items() if n}

    def all_of(self, captions: Sequence[str], rng: random.Random) -> list[NaturalQuestion]:
        """Return the questions that one picture's captions answer, as people type them, in random order.

        Args:
            captions: of one picture, usually five.
            rng: decides wordings, styles, what is asked after, and typing mistakes.
        """
        facts = Facts.of(captions)
        made = [
            *described(facts, rng),
            *(asked for _ in range(PRESENCES) for asked in self.presence(facts, rng)),
            *animals(facts, rng),
            *colours(facts, rng),
            *actions(facts, rng),
            *objects(facts, rng),
            *counts(facts, rng),
            *scenes(facts, rng),
            *self.absences(facts, rng),
        ]
        rng.shuffle(made)
        return [as_typed(asked, rng) for asked in made]

    def presence(self, facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
        """Return at most one question whose answer is yes and one whose answer is no.

        What balance still lacks after weighting is left out: a thing's yes, or its no.
        """
        made = []
        for named, weight in ((True, self.yes_weight), (False, self.no_weight)):
            able = [kind for kind in ASKED if (facts.is_named(kind) if named else facts.is_absent(kind))]
            weights = [weight.get(kind, 0.0) for kind in able]
            if sum(weights) > 0:
                kind = rng.choices(able, weights)[0]
                if rng.random() < self._kept[kind][0 if named else 1]:
                    made.append(_present(kind, named, rng))
        return made

    def absences(self, facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
        """Return at most one question about something that is not there, and seldom one that no picture answers."""
        made = []
        able = [kind for kind in ASKED if facts.is_absent(kind) and self.no_weight.get(kind)]
        if able and rng.random() < 0.4:
            kind = rng.choices(able, [self.no_weight[kind] for kind in able])[0]
            spoken = rng.choice(SPOKEN.get(kind, (kind,)))
            forms = ABSENT["doer"] if any(nouns.is_a(kind, k) for k in ("person", "animal")) else ABSENT["thing"]
            forms += ABSENT["thing"] if nouns.is_a(kind, "animal") else ()
            answer = f"There is no {spoken}{rng.choice(('', ' in the picture'))}."
            made.append(NaturalQuestion(rng.choice(forms).format(spoken), answer, "absent"))
        if rng.random() < 0.12:
            who = next((kind for kind in DOERS if facts.is_named(kind) and facts.is_single(kind)), None)
            question = rng.choice(UNKNOWABLE["any"] + (UNKNOWABLE["who"] if who else ()))
            made.append(NaturalQuestion(question.format(who), rng.choice(CANNOT_TELL), "cannot tell"))
        return made


def _present(kind: str, named: bool, rng: random.Random) -> NaturalQuestion:
    spoken = rng.choice(SPOKEN.get(kind, (kind,)))
    a_thing = spoken if kind in nouns.UNCOUNTED else nouns.with_article(spoken)
    sentence = f"there is {a_thing}" if named else f"there is no {spoken}"
    return yes_or_no("presence", asking("presence", a_thing), named, sentence + " in the picture", rng)


def described(facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
    """Return a request for a description, answered by the captions that fit it, and perhaps one for a list."""
    wanted = rng.random()
    by_length = sorted(facts.captions, key=len)
    if wanted < 0.1:
        made = [captioned(rng.choice(BRIEFLY), by_length[: len(by_length) // 2 or 1])]
    elif wanted < 0.2:
        made = [captioned(rng.choice(DETAIL), by_length[len(by_length) // 2 :])]
    else:
        made = [captioned(rng.choice(DESCRIBE), facts.captions)]
    things = [kind for kind, votes in _tally(facts).most_common(6) if votes >= 2]
    things = [kind for kind in things if not any(_says_less(kind, other) for other in things)]
    if len(things) >= 2 and rng.random() < 0.25:
        made.append(NaturalQuestion(rng.choice(LIST), ", ".join(kind.replace("_", " ") for kind in things), "list"))
    return made


def captioned(question: str, captions: Sequence[str]) -> NaturalQuestion:
    """Return a request that each of some captions answers: those after the first cost little more than their words."""
    first, *others = (as_sentence(caption) for caption in captions)
    return NaturalQuestion(question, first, "description", tuple(others))


def _says_less(thing: str, other: str) -> bool:
    """Tell whether a thing is surely meant by another one of a list too: animal by dog, mountain by mountains."""
    one, two = (nouns.singular(held) or (held, False) for held in (thing, other))
    if one[0] == two[0]:
        return two[1] and not one[1]
    roles = nouns.is_a(one[0], "person") and one[0] not in PLAIN_PEOPLE and two[0] in PLAIN_PEOPLE
    return roles or one[0] in nouns.all_kinds(two[0])[1:]


def _tally(facts: Facts) -> Counter[str]:
    """Return how many captions name each real thing in the singular; parts of bodies and dirt are no things."""
    votes: Counter[str] = Counter()
    for parsed in facts.parsed:
        votes.update(
            {
                nouns.plural(m.noun) if m.plural and m.noun not in nouns.GROUPS else m.noun
                for m in parsed.mentions
                if m.real and not nouns.is_a(m.noun, "body") and m.noun not in {"thing", "others", "group", "people"}
            }
        )
    return votes


def animals(facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
    """Return "What animal is this?" where there is one kind of animal."""
    named = {m.noun for _, m in facts.mentions("animal") if m.real}
    kinds = {next(k for k in (*nouns.all_kinds(noun)[::-1],) if k != "animal") for noun in named - {"animal"}}
    if len(kinds) != 1 or not facts.is_named(kind := kinds.pop()):
        return []
    seen = list(facts.mentions(kind))
    once = Counter(id(parsed) for parsed, _ in seen)
    several = {id(p) for p, m in seen if m.plural or m.another or (m.count or 1) > 1 or once[id(p)] > 1}
    if 0 < len(several) <= len(once) / 2:
        return []  # captions disagree
    if several:
        many = nouns.plural(kind)
        return [shaped("animal", ANIMAL["many"], Told(many, many, f"the animals are {many}"), rng)]
    told = Told(kind, nouns.with_article(kind), f"it is {nouns.with_article(kind)}")
    return [shaped("animal", ANIMAL["one"], told, rng)]


def colours(facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
    """Return at most two questions for the colour of the only thing of its kind."""
    found: dict[str, str] = {}
    for parsed in facts.parsed:
        for mention in parsed.mentions:
            sure = not nouns.is_a(mention.noun, "animal") or facts.is_named(_basic(mention.noun))
            able = (
                sure and mention.colours and mention.real and any(nouns.is_a(mention.noun, kind) for kind in COLOURED)
            )
            worn = nouns.is_a(mention.noun, "clothes") and not facts.is_single("person")  # whose?
            if able and not worn and mention.noun not in nouns.UNCOUNTED:
                colour = facts.colour(_basic(mention.noun))
                if colour:
                    found[mention.noun] = colour
    made = []
    for noun in rng.sample(sorted(found), min(2, len(found))):
        spoken, colour = noun.replace("_", " "), found[noun]
        if rng.random() < COLOUR_YES_NO:
            made.append(_is_it(spoken, colour, rng))
            continue
        told = Told("" if " " in colour else colour, colour, f"the {spoken} is {colour}")
        made.append(shaped("colour", asking("colour", spoken), told, rng))
    return made


def _is_it(thing: str, colour: str, rng: random.Random) -> NaturalQuestion:
    """Return whether a thing has a colour, its own or one far from it."""
    own = rng.random() < 0.5
    asked = colour if own else rng.choice([other for other in CLEAR if not _alike(other, colour)])
    wordings = (f"Is the {thing} {asked}?", f"Is the {thing} {asked} or not?", f"Does the {thing} look {asked}?")
    return yes_or_no("colour yes/no", wordings, own, f"the {thing} is {colour}", rng)


def _alike(one: str, other: str) -> bool:
    return any(one in group and part in group for part in other.split() for group in CLOSE)


def _basic(noun: str) -> str:
    """Return the kind below the most general one: puppy -> dog, dog -> dog, jersey -> shirt."""
    kinds = nouns.all_kinds(noun)
    return kinds[-2] if len(kinds) > 2 and kinds[-1] in {"animal", "vehicle", "clothes"} else noun


def actions(facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
    """Return what the only man, dog, ... does and where it is."""
    made = []
    for kind in DOERS:
        if not facts.is_named(kind) or not (done := facts.actions(kind)):
            continue
        telling = [told for told in done if told[1] not in STATES and len(told[2].split()) <= 9]
        if telling:
            noun, verb, what = rng.choice(telling)
            one = gerund(verb) if verb not in {"do", "perform", "hold", "carry"} else ""
            told = Told(one, what, f"the {noun.replace('_', ' ')} is {what}")
            made.append(shaped("action", asking("action", noun.replace("_", " ")), told, rng))
        if seats := facts.seat(kind):
            noun, where = rng.choice(seats)
            noun = noun.replace("_", " ")
            made.append(shaped("where", asking("where", noun), Told("", where, f"the {noun} is {where}"), rng))
        break
    return made


def objects(facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
    """Return what somebody rides, holds, wears, ... and who does so."""
    made = []
    for verb in ("ride", "hold", "carry", "wear", "chase", "throw", "catch", "climb", "push", "pull", "kick", "eat"):
        for who, what in facts.objects(verb):
            noun, thing, doing = who.noun.replace("_", " "), what.phrase, gerund(verb)
            last = what.noun.replace("_", " ")
            if what.plural and not what.article:
                last = thing
            told = Told("" if " " in last else last, thing, f"the {noun} is {doing} {thing}")
            made.append(shaped("object", asking("object", noun, doing), told, rng))
            if verb in {"ride", "chase", "push", "pull"} and what.article not in {"his", "her", "its", "their"}:
                person = nouns.with_article(who.noun)
                reply = Told("" if " " in noun else noun, person, f"{person} is {doing} {thing}")
                made.append(shaped("who", asking("who", doing, _definite(what.text)), reply, rng))
    return rng.sample(made, min(2, len(made)))


def _definite(text: str) -> str:
    return f"the {text}"


def counts(facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
    """Return how many there are of something, where captions agree on the number."""
    able = [(kind, number) for kind in COUNTED if (number := facts.count(kind)) is not None and number <= 6]
    severals = [(kind, number) for kind, number in able if number > 1]
    if not able or (not severals and rng.random() < 0.5):  # one is far more common: ask after it half as often
        return []
    kind, number = rng.choice(severals or able)
    word, many = NUMBER_WORDS[number], nouns.plural(kind)
    spoken = "is one" if number == 1 else f"are {word}"
    told = Told(word, word, f"there {spoken} {kind if number == 1 else many} in the picture")
    return [shaped("count", asking("count", many), told, rng)]


def scenes(facts: Facts, rng: random.Random) -> list[NaturalQuestion]:
    """Return indoors or outdoors, day or night, the place, and the sport, where captions say so."""
    made = []
    if (scene := facts.scene()) and (scene == "indoors" or rng.random() < 0.35):
        made.append(shaped("scene", SCENE, Told(scene, scene, f"the picture was taken {scene}"), rng))
    if light := facts.light():
        told = Told(light, light, "it is night" if light == "night" else "it is day")
        made.append(shaped("light", asking("light"), told, rng))
    if places := facts.places():
        preposition, place = rng.choice(places)
        told = Told("", f"{preposition} {place}", f"this is {preposition} {place}")
        made.append(shaped("where", WHERE_ALL, told, rng))
    if sport := _sport(facts):
        made.append(shaped("sport", SPORT, Told(sport, sport, f"the sport is {sport}"), rng))
    return made


def _sport(facts: Facts) -> str | None:
    if any(facts.mentions("animal")):
        return None  # a dog with a soccer ball
    votes = Counter(
        sport for parsed in facts.parsed for sport in {SPORTS[word] for word in parsed.words if word in SPORTS}
    )
    clear = len(votes) == 1 and next(iter(votes.values())) >= 2
    return next(iter(votes)) if clear else None


def _balanced(present: list[list[str]], absent: list[list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return weights of things to ask after, so that each is asked with yes about as often as with no.

    Otherwise the word alone would tell the answer: a person is nearly always there, a train hardly ever. A thing that
    is never there, or never certainly absent, is not asked after.
    """
    both = {kind for kinds in present for kind in kinds} & {kind for kinds in absent for kind in kinds}
    yes, no = dict.fromkeys(both, 1.0), dict.fromkeys(both, 1.0)
    for _ in range(ROUNDS):
        named, denied = _expected(present, yes), _expected(absent, no)
        for kind in both:
            step = (denied[kind] / named[kind]) ** 0.5
            yes[kind] *= step
            no[kind] /= step
    return yes, no


def _expected(pictures: list[list[str]], weight: dict[str, float]) -> Counter[str]:
    """Return how often each thing is drawn, one in each picture."""
    drawn: Counter[str] = Counter()
    for kinds in pictures:
        total = sum(weight.get(kind, 0.0) for kind in kinds)
        for kind in kinds:
            if total > 0:
                drawn[kind] += weight.get(kind, 0.0) / total  # type: ignore[assignment]
    return drawn
