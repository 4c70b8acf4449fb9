"""What several captions of one picture say together, and what they leave in doubt.

A thing is *named* where two captions name it, *absent* only where none has a word that could mean it or usually
comes with it: people do not write down everything they see. Numbers and colours count where captions agree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from m3video.training.natural import nouns
from m3video.training.natural.caption_parse import AUXILIARIES, PREPOSITIONS, STOPS, Mention, Parsed, parse
from m3video.training.natural.verbs import POSTURES

ENOUGH = 2
"""Captions that must name a thing before it is asked about as present."""
MOSTLY = 3
"""Captions that must say something before the opposite counts as absent."""

BALL_GAMES = """soccer football basketball tennis baseball volleyball softball rugby cricket golf croquet player
    players game bat racket goal pitcher catch fetch play playing plays team hockey puck sphere bowling pool"""
DOUBTS: dict[str, frozenset[str]] = {
    thing: frozenset(words.split())
    for thing, words in {
        "ball": BALL_GAMES + " toy balloon object something ornament",
        "bicycle": "biker bikers cyclist cyclists bicyclist bicyclists bicycling biking bmx cycle cycling rider "
        "riders racer race wheelie unicycle motorcycle pedals wheel",
        "motorcycle": "biker bikers motorcyclist motocross rider riders racer race bike bikes helmet wheelie cycle",
        "skateboard": "skateboarder skateboarders skateboarding skater skaters skate skating board boarding trick "
        "ramp rail grinds grinding boarder",
        "surfboard": "surfer surfers surfing surf surfs board boarding wave waves windsurfing windsurfer",
        "snowboard": "snowboarder snowboarders snowboarding snowboards board boarding boarder snow skier slope",
        "snow": "ski skis skier skiers skiing snowboard snowboarder snowboarders snowboarding snowboards winter sled "
        "sledding ice icy frozen snowy mountain mountains slope white snowball cold slopes snow-covered snowmobile",
        "beach": "sand sandy shore ocean sea coast coastline water wave waves surf surfer lake dune shoreline island "
        "tide swimsuit bikini river dock pier desert",
        "pool": "water swim swimming swims swimmer underwater dive diving splash splashing float inflatable bathing "
        "slide goggles",
        "boat": "canoe kayak raft rafting lake river ocean sea water rowing paddle paddling waterskiing wakeboard "
        "dock pier harbor sail kayaking fishing",
        "car": "street road traffic race racing racetrack drive driving city truck vehicle parking highway parked "
        "wheel engine parade town sidewalk",
        "truck": "street road traffic car vehicle drive driving jeep van parking tractor parade city highway",
        "bus": "street road traffic vehicle city station",
        "train": "subway station tracks railroad railway platform rail",
        "vehicle": "street road traffic race racing drive driving city parking highway wheel ride riding rider parade "
        "track engine town sidewalk driver bmx biker cyclist motorcyclist wheelchair stroller skateboard",
        "airplane": "sky flying jump parachute glider aircraft airport",
        "horse": "rider riders rodeo jockey jockeys cowboy bull polo race carriage riding mule pony donkey hooves",
        "bird": "flying feather feathers wings flock sky beach nest",
        "fish": "fishing fisherman underwater aquarium snorkeling",
        "dog": "leash collar greyhounds retriever owner muzzle puppies fur paw",
        "guitar": "band music musician musicians instrument instruments stage concert performer performing play "
        "playing plays singer street",
        "umbrella": "rain raining shade beach parasol canopy",
        "tent": "camping camp campsite festival canopy market",
        "bench": "sitting sits sit seat seated park chair rest wooden",
        "couch": "sitting sits sit chair seat furniture living lying bed pillow cushion",
        "bed": "sleeping lying laying pillow blanket mattress couch sleeps asleep",
        "food": "eat eating eats meal dinner lunch table restaurant picnic kitchen cooking grill market snack bite "
        "chewing mouth plate bowl",
        "kite": "parachute kitesurfing parasailing flying string",
        "swing": "playground swinging rope hanging hammock",
        "frisbee": "disc toy catch object something",
        "trampoline": "jumping bouncing jump flip bounce inflatable",
    }.items()
}
"""Words beside which a thing may well be there, unmentioned."""

AGENT = re.compile(r"(er|ers|ist|ists|man|men|or|ors|ant|ee)$")
NO_AGENTS = frozenset(
    """water under over another after river other together her their flower flowers retriever terrier shepherd tiger
    near whether number corner paper covered underwater summer winter outer inner larger smaller bigger center clear
    cover doberman german or floor for color outdoor indoor door tree three toward bumper sprinkler sweater rather
    never ever order border shower trailer tractor boulder leather ladder either rottweiler deer pier timber sneaker
    quarter copper silver deeper closer higher lower upper feather pepper weather letter gutter shutter whisker
    container roller stroller dirtier mirror harbor elephant giant plant distant restaurant puffer
    labrador whiter air""".split()
)
"""Words that end as words for people do, and are none."""
PERSONAL = frozenset(
    """someone somebody person's he she him hers who hand hands held owner's naked boxing costume outfit uniform hair
    arm arms shirt they""".split()
)


@dataclass(frozen=True)
class Facts:
    """The captions of one picture, parsed."""

    captions: tuple[str, ...]
    parsed: tuple[Parsed, ...]

    @classmethod
    def of(cls, captions: Iterable[str]) -> Facts:
        """Return what captions of one picture say."""
        held = tuple(captions)
        return cls(held, tuple(parse(caption) for caption in held))

    @cached_property
    def words(self) -> frozenset[str]:
        """Return all words, also the parts of joined names."""
        found = {word.removesuffix("'s") for parsed in self.parsed for word in parsed.words}
        return frozenset(found | {part for word in found for part in word.split("_")})

    @cached_property
    def word_nouns(self) -> frozenset[str]:
        """Return the nouns of all words, also where they are only part of a name."""
        return frozenset(known[0] for word in self.words if (known := nouns.singular(word)))

    def mentions(self, kind: str) -> Iterator[tuple[Parsed, Mention]]:
        """Give the mentions of a kind of thing, real ones and others."""
        for parsed in self.parsed:
            for mention in parsed.mentions:
                if nouns.is_a(mention.noun, kind):
                    yield parsed, mention

    def votes(self, kind: str) -> int:
        """Return how many captions name a real thing of a kind."""
        return len({id(parsed) for parsed, mention in self.mentions(kind) if mention.real})

    def is_named(self, kind: str) -> bool:
        """Tell whether a thing is there beyond doubt."""
        if self.votes(kind) < ENOUGH or not all(mention.real for _, mention in self.mentions(kind)):
            return False
        if FALSE_FRIENDS.get(kind, frozenset()) & self.words:
            return False
        alone = self.is_single("person")  # then captions that say man and boy mean the same one
        return not any(
            self.votes(other) >= self.votes(kind) for other in OPPOSITE.get(kind, ()) if alone or other in SEX[kind]
        )

    def is_absent(self, kind: str) -> bool:
        """Tell whether a thing is not there beyond doubt."""
        if nouns.is_a(kind, "person"):
            return self._person_is_absent(kind)
        for noun in self.word_nouns:
            if nouns.is_a(noun, kind) or noun in nouns.all_kinds(kind)[1:]:
                return False
        if {"toy", "picture", "statue", "zoo"} & self.words and nouns.is_a(kind, "animal"):
            return False
        return not self.words & DOUBTS.get(kind, frozenset())

    def _person_is_absent(self, kind: str) -> bool:
        people = [mention for _, mention in self.mentions("person")]
        if not people:
            agents = any(AGENT.search(word) and word not in NO_AGENTS for word in self.words)
            animals = sum(any(nouns.is_a(m.noun, "animal") for m in parsed.mentions) for parsed in self.parsed)
            return animals >= MOSTLY and not agents and not self.words & PERSONAL and not self._in_part("person")
        allowed = INSTEAD.get(kind)
        alone = all(sum(nouns.is_a(m.noun, "person") for m in parsed.mentions) <= 1 for parsed in self.parsed)
        if allowed is None or not alone or any(m.plural or m.another for m in people):
            return False
        if kind in {"child", "baby"} and self.words & {"young", "little", "small", "baby", "kid"}:
            return False
        return len(people) >= MOSTLY and all(any(nouns.is_a(m.noun, other) for other in allowed) for m in people)

    def _in_part(self, kind: str) -> bool:
        return any(nouns.is_a(noun, kind) for noun in self.word_nouns)

    def is_single(self, kind: str) -> bool:
        """Tell whether there is exactly one thing of a kind: `the dog` leaves no doubt."""
        held = list(self.mentions(kind))
        once = Counter(id(parsed) for parsed, _ in held)
        general = set(nouns.all_kinds(kind)[1:]) - {"thing", "clothes", "place", "furniture", "toy", "ball", "body"}
        blurred = any(m.noun in general and m.plural and kind not in PEOPLE for _, m in self._all())
        return (
            bool(held)
            and not blurred
            and max(once.values()) == 1
            and not any(
                mention.plural or mention.another or (mention.count or 1) > 1 or not mention.real for _, mention in held
            )
        )

    def _all(self) -> Iterator[tuple[Parsed, Mention]]:
        for parsed in self.parsed:
            for mention in parsed.mentions:
                yield parsed, mention

    def count(self, kind: str) -> int | None:
        """Return how many things of a kind there are where at least two captions say so (one: three captions)."""
        said: list[int] = []
        for parsed in self.parsed:
            held = [m for m in parsed.mentions if nouns.is_a(m.noun, kind)]
            if not held:
                if kind == "person" or any(m.plural for m in parsed.mentions if m.noun in nouns.all_kinds(kind)):
                    return None
                continue
            if len(held) > 1 or held[0].another or not held[0].real or held[0].count is None:
                return None
            if held[0].noun in nouns.GROUPS - {"people"} or self.words & {"others", "crowd", "audience", "another"}:
                return None
            said.append(held[0].count)
        if not said or len(set(said)) > 1 or len(said) < (MOSTLY if said[0] == 1 else ENOUGH):
            return None
        return said[0]

    def colour(self, kind: str) -> str | None:
        """Return the colour of the only thing of a kind, where no caption contradicts."""
        held = [m for _, m in self.mentions(kind)]
        if not self.is_single(kind) or any(VARIED & {*m.text.split()} for m in held):
            return None
        said = [m.colours for m in held if m.colours]
        same = {frozenset(nouns.SAME_COLOUR.get(c.split()[-1], c.split()[-1]) for c in colours) for colours in said}
        if len(same) != 1 or len(said[0]) > 2:
            return None
        fullest = max(said, key=len)
        return " and ".join(fullest)

    def actions(self, kind: str) -> list[tuple[str, str, str]]:
        """Return (noun, verb, what it does) for captions whose subject is the only thing of a kind."""
        if not self.is_single(kind):
            return []
        return [
            (parsed.subject.noun, parsed.verb, parsed.done)
            for parsed in self.parsed
            if parsed.subject and parsed.verb and parsed.done and nouns.is_a(parsed.subject.noun, kind)
            if parsed.subject.noun not in nouns.NOBODY_NAMED
        ]

    def objects(self, verb: str) -> list[tuple[Mention, Mention]]:
        """Return (who, what) for captions whose only person or animal does something with a thing: rides a bike."""
        found = []
        for parsed in self.parsed:
            who = parsed.subject
            if parsed.verb == verb and who and not who.plural and self.is_single(who.noun):
                what = parsed.mention_at(parsed.done_from + 1)
                whole = what and parsed.words[what.end : what.end + 1] in ENDS_A_NAME
                named = who.noun not in nouns.NOBODY_NAMED
                if what and named and whole and what.real and not nouns.is_a(what.noun, "body"):
                    found.append((who, what))
        return found

    def scene(self) -> str | None:
        """Return `outdoors` or `indoors` where captions leave no doubt."""
        outside, inside = self._captions_with(nouns.OUTDOORS), self._captions_with(nouns.INDOORS)
        if bool(outside) == bool(inside):
            return None
        if outside:
            return "outdoors" if outside >= ENOUGH and not self.words & (nouns.UNDECIDED - {"train"}) else None
        return "indoors" if not self.words & {"outside", "outdoors", "outdoor"} else None

    def _captions_with(self, wanted: frozenset[str]) -> int:
        """Return how many captions have one of some words, as it is or as a noun that is named."""
        return sum(
            bool(wanted & ({*parsed.words} - {"subway"} | {m.noun for m in parsed.mentions})) for parsed in self.parsed
        )

    def light(self) -> str | None:
        """Return `night` or `day` where a caption says so."""
        joined = " ".join(" ".join(parsed.words) for parsed in self.parsed)
        night = re.search(r"\b(at night|nighttime|night time|night sky)\b", joined)
        day = re.search(r"\b(sunny|daytime|sunshine|in the sun|bright day|blue sky|midday|summer day)\b", joined)
        twilight = re.search(r"\b(dusk|dawn|sunset|sunrise|dark|silhouette)\b", joined)
        if night and not day:
            return "night"
        return "day" if day and not night and not twilight else None

    def places(self) -> list[tuple[str, str]]:
        """Return (preposition, place) of what captions are about: ("in", "the snow")."""
        found = []
        for parsed in self.parsed:
            for mention in parsed.mentions:
                before = parsed.words[mention.start - 1] if mention.start else ""
                between = parsed.words[max(parsed.done_from, 0) : mention.start]
                if before not in _WITHIN or mention.noun not in nouns.AT_PLACE or _ELSEWHERE & {*between}:
                    continue
                if mention.noun in WATERS and before not in {"in", "through"}:
                    continue  # around a pool, on a lake, down the river
                plain = mention.article != "another" and parsed.words[mention.end - 1] != "wood"
                if mention.real and plain and parsed.subject:
                    usual = nouns.AT_PLACE[mention.noun]
                    found.append((before if before in {"in", "on", "at"} else usual, mention.phrase))
        return found

    def seat(self, kind: str) -> list[tuple[str, str]]:
        """Return (noun, place) where the only thing of a kind sits, lies or stands: ("boy", "on a bench")."""
        found = []
        for noun, verb, done in self.actions(kind):
            rest = done.split()[1:]
            if verb in POSTURES and rest and rest[0] in {"on", "in", "at", "near", "under", "behind", "beside", "next"}:
                where = _until_second(rest)
                last = nouns.singular(where.split()[-1])
                if last and not nouns.is_a(last[0], "body"):
                    found.append((noun, where))
        return found


OPPOSITE: dict[str, tuple[str, ...]] = {
    "man": ("woman", "boy", "child"),
    "woman": ("man", "girl", "child"),
    "boy": ("girl", "man"),
    "girl": ("boy", "woman"),
    "child": ("man", "woman"),
}
INSTEAD = {
    "man": ("woman", "girl"),
    "woman": ("man", "boy"),
    "boy": ("girl", "woman"),
    "girl": ("boy", "man"),
    "child": ("man", "woman"),
    "baby": ("man", "woman", "boy", "girl"),
}
"""Who the only person in a picture must be, so that another is not there."""
SEX = {"man": "woman", "woman": "man", "boy": "girl", "girl": "boy", "child": ""}
ENDS_A_NAME = {()} | {(word,) for word in (PREPOSITIONS - {"of"}) | STOPS | AUXILIARIES | {"and"}}
"""What follows where a thing's name is complete: `a flower in`, not `a flower pot`."""
FALSE_FRIENDS: dict[str, frozenset[str]] = {
    "bicycle": frozenset("motorcycle motorcycles motorcyclist motorcyclists motocross".split()),
    "swing": frozenset("racket racquet bat club golf tennis baseball".split()),
}
"""Words beside which a thing's name may mean another: a bike, the swing of a racket."""
WATERS = frozenset("pool lake ocean river pond sea stream water swimming_pool creek".split())
VARIED = frozenset("multicolored multi-colored colorful colourful striped plaid patterned spotted rainbow".split())
PEOPLE = frozenset("man woman child boy girl".split())
_ELSEWHERE = STOPS | frozenset(
    "to from with of into onto off over near behind toward towards beside and another".split()
)
"""Words behind which a place may be somewhere else than what the caption is about."""
_WITHIN = frozenset("in on at through across along down around up".split())


def _until_second(words: Sequence[str]) -> str:
    """Return a place up to the next preposition or verb: on a bench | in the park."""
    kept = list(words[:1])
    for word in words[1:]:
        if (
            word in {"in", "on", "at", "with", "near", "by", "under", "and", "about", "to", "for"}
            and kept[-1] != "next"
        ) or (word.endswith("ing") and word not in nouns.ADJECTIVES):
            break
        kept.append(word)
    return " ".join(kept)
