"""Verbs that captions use, and their forms: runs, run, running."""

from __future__ import annotations

from functools import cache

VERBS: tuple[str, ...] = tuple(
    """run do jump play stand sit walk hold ride look climb carry swim chase wear watch take catch pose swing leap smile
    get slide race make splash wrestle hang push try fight dance throw lay shake drink lean lie perform kick ski skate
    surf pull talk prepare attempt hit put chew go eat enjoy fly read bite hug roll kneel wave drive dribble laugh use
    give hike cross retrieve fall dig sniff paddle rest kiss wade dive stare touch raise flip compete practice fish
    lead reach relax bark blow smoke stick lick balance bound sprint sing pour work jog bounce return row emerge
    embrace juggle share grind shoot paint crouch face step descend hide follow point write trot sleep pass show
    skip toss pounce kayak wipe open fetch scream start lift clean tackle tussle float rub cut train bend spin crawl
    peek tread turn grab pick help hop march skateboard snowboard rollerblade bike wait gather stretch attack cook pet
    land knock approach wash brush lunge cuddle celebrate cheer clap tug nap exercise examine feed gallop glide grin
    huddle inspect kneel nuzzle plunge scratch scale shovel sled squat stroll stumble sweep tumble twirl wrap yawn
    yell drag dunk bathe block drum explore guide herd hurdle leave meet move navigate plow rappel roam serve shout
    speak splash squirt strike struggle tie type visit waterski wink overlook pop watch surround""".split()
)
DOUBLED = frozenset(
    """run sit swim get put hit cut dig hug jog hop step skip flip spin grab pet nap tug stop pat clap wrap rub drag
    plan chat trot sled squat knit rappel grin""".split()
)
"""Double their last letter before -ing. A rule would need the stress: opening, but beginning."""
POSTURES = frozenset("sit stand lie lay sleep rest lean kneel crouch relax nap wait".split())
STATES = frozenset(
    "wear look have be show enjoy try attempt prepare get go make use take start help give need want".split()
)
"""They say little of what somebody does, alone or in a short answer."""


@cache
def gerund(verb: str) -> str:
    """Return the -ing form: run -> running, ride -> riding, lie -> lying."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb in DOUBLED:
        return verb + verb[-1] + "ing"
    if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
        return verb[:-1] + "ing"
    return verb + "ing"


@cache
def third_person(verb: str) -> str:
    """Return the form after he, she or it: run -> runs, catch -> catches, fly -> flies."""
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


@cache
def forms() -> dict[str, tuple[str, str]]:
    """Return each form -> (verb, "base", "third" or "gerund")."""
    found: dict[str, tuple[str, str]] = {}
    for verb in VERBS:
        found |= {verb: (verb, "base"), third_person(verb): (verb, "third"), gerund(verb): (verb, "gerund")}
    return found


def form(word: str) -> tuple[str, str] | None:
    """Return a word's verb and form, None for a word that is no known verb."""
    return forms().get(word)
