"""Questions about photographs whose main object is named (ImageNet's classes), and DAQUAR's own questions, made tidy.

A class is asked after by its name, and by the kind that its number tells: ImageNet's numbers follow its tree, so that
151 to 268 are breeds of dogs.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from m3video.training.natural.photos import Asked, Named, imagenet
from m3video.training.natural.question_style import NaturalQuestion, Told, as_typed, shaped, yes_or_no
from m3video.training.natural.splits import PARTS

KIND_RANGES: tuple[tuple[int, int, str], ...] = (
    (0, 6, "fish"),
    (7, 24, "bird"),
    (25, 29, "salamander"),
    (30, 32, "frog"),
    (33, 37, "turtle"),
    (38, 48, "lizard"),
    (49, 50, "crocodile"),
    (52, 68, "snake"),
    (72, 77, "spider"),
    (80, 100, "bird"),
    (118, 121, "crab"),
    (122, 123, "lobster"),
    (127, 146, "bird"),
    (147, 148, "whale"),
    (151, 268, "dog"),
    (269, 272, "wolf"),
    (277, 280, "fox"),
    (281, 285, "cat"),
    (294, 297, "bear"),
    (300, 307, "beetle"),
    (321, 326, "butterfly"),
    (330, 331, "rabbit"),
    (365, 384, "monkey"),
    (385, 386, "elephant"),
    (389, 397, "fish"),
)
"""First and last class number (both included) -> what one calls it. Sharks and rays are fish; coyotes are wolves."""
ANIMALS = (0, 397)
MADE_KINDS: dict[str, str] = {
    name: kind
    for kind, names in {
        "vehicle": """airliner; ambulance; beach wagon; bicycle-built-for-two; bullet train; cab; canoe; catamaran;
            container ship; convertible; electric locomotive; fire engine; fireboat; forklift; freight car; garbage
            truck; go-kart; golfcart; gondola; half track; horse cart; jeep; jinrikisha; lifeboat; limousine; liner;
            minibus; minivan; Model T; moped; motor scooter; mountain bike; moving van; oxcart; passenger car; pickup;
            police van; racer; recreational vehicle; school bus; schooner; snowmobile; snowplow; speedboat; sports car;
            steam locomotive; streetcar; submarine; tank; tow truck; tractor; trailer truck; tricycle; trimaran;
            trolleybus; unicycle; warplane; yawl; bobsled; dogsled; airship; amphibian; aircraft carrier""",
        "musical instrument": """accordion; acoustic guitar; banjo; bassoon; cello; cornet; drum; electric guitar;
            flute; French horn; gong; grand piano; harmonica; harp; maraca; marimba; oboe; ocarina; organ; panpipe;
            sax; steel drum; trombone; upright; violin""",
        "food": """guacamole; consomme; hot pot; trifle; ice cream; ice lolly; French loaf; bagel; pretzel;
            cheeseburger; hotdog; mashed potato; carbonara; chocolate sauce; dough; meat loaf; pizza; potpie;
            burrito; head cabbage; broccoli; cauliflower; zucchini; spaghetti squash; acorn squash; butternut squash;
            cucumber; artichoke; bell pepper; mushroom; Granny Smith; strawberry; orange; lemon; fig; pineapple;
            banana; jackfruit; custard apple; pomegranate; corn""",
        "piece of clothing": """abaya; academic gown; apron; bikini; brassiere; cardigan; cloak; fur coat; gown; jean;
            jersey; kimono; lab coat; miniskirt; mitten; pajama; poncho; sarong; sock; sweatshirt; swimming trunks;
            trench coat; bow tie; bolo tie; Windsor tie; cowboy boot; running shoe; sandal; Loafer; clog; cowboy hat;
            sombrero; bonnet; stole; suit; maillot; overskirt; hoopskirt; military uniform""",
        "piece of furniture": """barber chair; bassinet; bookcase; china cabinet; chiffonier; cradle; crib; desk; dining
            table; entertainment center; folding chair; four-poster; medicine chest; park bench; pool table;
            rocking chair; studio couch; table lamp; throne; wardrobe""",
        "building": """barn; boathouse; castle; church; cinema; greenhouse; library; monastery; mosque; palace;
            planetarium; prison; restaurant; bakery; barbershop; bookshop; butcher shop; grocery store; shoe shop;
            tobacco shop; toyshop; confectionery; stupa; yurt; mobile home; water tower""",
        "tool": """can opener; chain saw; cleaver; corkscrew; hammer; hatchet; letter opener; paintbrush; plunger;
            power drill; screwdriver; shovel; plow; ladle; spatula; wooden spoon; broom; lawn mower""",
        "piece of sports equipment": """barbell; balance beam; basketball; baseball; croquet ball; dumbbell; golf ball;
            horizontal bar; parallel bars; ping-pong ball; punching bag; puck; racket; rugby ball; ski; soccer ball;
            tennis ball; volleyball; snorkel; football helmet; knee pad""",
        "place outdoors": "alp; cliff; coral reef; geyser; lakeside; promontory; sandbar; seashore; valley; volcano",
    }.items()
    for name in (" ".join(part.split()) for part in names.split(";"))
}
PLAIN_NAMES: dict[int, str] = {
    25: "fire salamander",
    134: "crane (bird)",
    517: "crane",
    606: "iron",
    638: "swimsuit",
    639: "swimsuit",
    657: "missile",
    744: "missile",
    836: "sunglasses",
    608: "pair of jeans",
    881: "upright piano",
    751: "race car",
    999: "toilet paper",
}
"""Where two classes share a name, or the name is not what one says."""
WHAT: tuple[str, ...] = (
    "What is this?",
    "What is shown?",
    "What is in the picture?",
    "What do you see?",
    "Name the main object.",
    "What is the main object in this picture?",
    "Which object is this?",
    "What can be seen in the photo?",
)
WHICH_KIND: dict[str, tuple[str, ...]] = {
    "animal": ("What animal is this?", "Which animal is shown?", "What kind of animal is it?", "Name the animal."),
    "breed": (
        "What kind of {0} is this?",
        "Which kind of {0} is it?",
        "What type of {0} is shown?",
        "Name the kind of {0}.",
    ),
    "sort": ("What sort of thing is this?", "To which group of things does this belong?", "What type of object is it?"),
}
IS_IT: tuple[str, ...] = (
    "Is this {0}?",
    "Is there {0} in the picture?",
    "Do you see {0}?",
    "Does the picture show {0}?",
)
ASKED_ANIMALS: tuple[str, ...] = tuple(
    "fish bird frog turtle lizard snake spider crab whale dog fox cat bear butterfly rabbit monkey elephant".split()
)
NEAR: tuple[frozenset[str], ...] = tuple(
    frozenset(group.split())
    for group in ("dog wolf fox", "lizard salamander crocodile", "crab lobster", "frog salamander", "fish whale")
)
"""Kinds that are close enough to be no fair `no`."""
MISSPELT: dict[str, str] = {
    "refridgerator": "refrigerator",
    "excercise": "exercise",
    "hanged": "hung",
    "waht": "what",
    "cupborad": "cupboard",
    "infront": "in front",
    "colur": "colour",
}


def named(photo: Named, rng: random.Random) -> list[NaturalQuestion]:
    """Return questions for a class's photograph: its name, its kind, and one kind by yes or no."""
    name = plain_name(photo)
    thing = article(name)
    kind = kind_of(photo)
    told = Told("" if " " in name else name, thing, f"this is {thing}")
    made = [shaped("name", WHAT, told, rng)]
    if is_animal(photo):
        if kind:
            made.append(
                shaped("animal", WHICH_KIND["animal"], Told(kind, article(kind), f"it is {article(kind)}"), rng)
            )
            if kind not in name.lower().split():
                made.append(shaped("name", [text.format(kind) for text in WHICH_KIND["breed"]], told, rng))
        if kind in ASKED_ANIMALS:
            made.append(_is_it(kind, rng))
    elif kind:
        made.append(shaped("kind", WHICH_KIND["sort"], Told("", article(kind), f"it is {article(kind)}"), rng))
    return [as_typed(asked, rng) for asked in made]


def plain_name(photo: Named) -> str:
    """Return what one says for a class."""
    return PLAIN_NAMES.get(photo.index, photo.name)


def all_classes(folder: Path) -> list[Named]:
    """Return ImageNet's classes in order. Names are no secret: the pictures of those kept back are not looked at."""
    return sorted((photo for part in PARTS for photo in imagenet(folder, part)), key=lambda photo: photo.index)


def kind_of(photo: Named) -> str | None:
    """Return what a class is one of, in a plain word; None where no plain word is listed."""
    by_number = next((kind for first, last, kind in KIND_RANGES if first <= photo.index <= last), None)
    return by_number if is_animal(photo) else MADE_KINDS.get(photo.name)


def is_animal(photo: Named) -> bool:
    """Return whether a class is one of animals."""
    return ANIMALS[0] <= photo.index <= ANIMALS[1]


def _is_it(kind: str, rng: random.Random) -> NaturalQuestion:
    """Return `Is this a dog?`, with yes as often as no."""
    yes = rng.random() < 0.5
    far = [other for other in ASKED_ANIMALS if other != kind and not any({kind, other} <= near for near in NEAR)]
    wordings = [text.format(article(kind if yes else rng.choice(far))) for text in IS_IT]
    return yes_or_no("animal yes/no", wordings, yes, f"it is {article(kind)}", rng)


def article(name: str) -> str:
    """Return a name as one of its kind: `an abacus`; without article for what is not counted or is many."""
    plain = name.removesuffix(" (bird)")
    last = plain.split()[-1]
    if last in UNCOUNTED or plain in {"food", "parallel bars"}:
        return plain
    vowel = plain[0].lower() in "aeiou" and not re.match(r"(?i)(uni|euro|one|ox$)", plain)
    return f"{'an' if vowel or plain == 'ox' else 'a'} {plain}"


UNCOUNTED = frozenset(
    """guacamole consomme hay dough carbonara espresso eggnog broccoli corn rapeseed wool velvet mail potato sauce wine
    paper powder sunscreen lotion brass thatch perfume sunglasses binoculars trunks spray""".split()
)
"""Last words of names that take no article."""


def daquar_questions(photo: Asked, rng: random.Random) -> list[NaturalQuestion]:
    """Return a photograph's own questions with a question mark, spelling mended, and answers in words.

    Half of them stay in lower case as they were typed.
    """
    made = []
    for question, answer in photo.questions:
        text = _mended(question).rstrip("?. ") + "?"
        if rng.random() < 0.5:
            text = text[0].upper() + text[1:]
        made.append(NaturalQuestion(text, daquar_answer(answer), "daquar"))
    return made


def daquar_answer(answer: str) -> str:
    """Return an answer in plain words: `garbage_bin` -> garbage bin, `pillow, blanket` stays two."""
    return _mended(answer.replace("_", " "))


def _mended(text: str) -> str:
    return re.sub(r"[a-z]+", lambda word: MISSPELT.get(word[0], word[0]), " ".join(text.lower().split()))
