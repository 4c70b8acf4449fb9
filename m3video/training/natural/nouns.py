"""Nouns that captions of photographs use, what each is a kind of, and the words that leave their presence in doubt.

Written down by hand from the most frequent words of captions; plain words, singular. Names of two words are joined by
`_` when a caption is read (`ice_cream`).
"""

from __future__ import annotations

from functools import cache

KINDS: dict[str, str] = {
    "person": """man woman child adult player rider skateboarder snowboarder surfer skier biker cyclist bicyclist
        motorcyclist climber hiker runner racer driver swimmer diver dancer singer musician performer wrestler boxer
        goalie teammate referee teenager teen couple family crowd team band audience spectator onlooker pedestrian
        worker officer photographer rollerblader skater jogger fisherman artist clown cheerleader student friend owner
        soldier tourist shopper passenger guitarist pitcher batter catcher jockey trainer vendor someone others
        somebody athlete gymnast kayaker dude people group""",
    "man": "guy gentleman father groom policeman businessman cowboy male",
    "woman": "lady bride mother female",
    "child": "boy girl kid toddler baby infant youngster youth",
    "animal": """dog cat horse cow sheep goat bird fish monkey bear elephant camel rabbit squirrel tiger lion deer pig
        donkey bull turtle snake frog zebra giraffe ox mule llama fox wolf lizard seal dolphin whale butterfly insect
        bug""",
    "dog": """puppy retriever greyhound poodle terrier collie labrador dalmatian husky doberman rottweiler bulldog
        pitbull corgi dachshund beagle boxer_dog shepherd german_shepherd golden_retriever border_collie black_lab
        yellow_lab chocolate_lab lab sheepdog mutt pug spaniel chihuahua hound whippet canine sled_dog""",
    "cat": "kitten",
    "horse": "pony stallion mare",
    "sheep": "lamb",
    "cow": "calf cattle",
    "bird": """duck swan goose pigeon seagull gull chicken parrot eagle owl penguin flamingo peacock pelican hawk crane
        rooster falcon ostrich dove""",
    "vehicle": """car truck bus bicycle motorcycle train boat airplane scooter jeep van taxi tractor carriage wagon
        helicopter ambulance atv four-wheeler go-kart buggy trolley tram jet_ski snowmobile""",
    "car": "race_car racecar police_car sports_car",
    "truck": "pickup pickup_truck fire_truck",
    "bicycle": "bike tricycle bmx_bike mountain_bike",
    "motorcycle": "motorbike dirt_bike dirtbike moped",
    "boat": "canoe kayak raft sailboat rowboat ship speedboat motorboat ferry",
    "airplane": "plane jet",
    "food": """ice_cream cake pizza sandwich hot_dog apple banana fruit popcorn candy bread cookie lollipop corn
        watermelon popsicle pie meal pumpkin vegetable burger""",
    "drink": "beer coffee soda wine juice",
    "instrument": "guitar drum violin piano trumpet accordion saxophone flute cello tuba",
    "clothes": """shirt hat jacket dress pants shorts sweater skirt suit vest scarf glove boot shoe bikini sunglasses
        glasses goggles
        headband apron robe overalls bandanna tie mask
        life_jacket backpack kimono tutu leotard sandal sock headscarf life_vest""",
    "shirt": "t-shirt sweatshirt jersey tank_top blouse",
    "jacket": "coat hoodie",
    "hat": "cap helmet beanie",
    "suit": "swimsuit wetsuit bathing_suit uniform outfit costume",
    "pants": "jeans",
    "shorts": "trunks swim_trunks swimming_trunks",
    "ball": """soccer_ball tennis_ball basketball football baseball volleyball beach_ball softball soccerball
        rugby_ball""",
    "toy": "frisbee doll balloon kite teddy_bear stuffed_animal hula_hoop squeaky_toy disc",
    "board": "skateboard surfboard snowboard",
    "furniture": "chair bench table bed couch sofa desk stool",
    "plant": "tree flower bush branch log",
    "building": "house church barn tower castle skyscraper store shop",
    "thing": """stick rope leash collar ramp rail railing fence wall bag umbrella bottle cup book camera microphone
        cellphone phone cigarette flag sign fountain swing slide trampoline tent sled basket bucket box ladder bat
        racket hurdle net pole tunnel sprinkler hose rock stone statue newspaper wheelchair cart tire tube candle
        blanket towel bubble balcony bridge stairs wheel lamp window door curtain mirror sculpture pipe purse
        hammock stroller telescope computer laptop gun sword knife spoon bone parachute paddle ski skate rollerblades
        roller_coaster merry-go-round carousel swing_set hoop headphones necklace bar beam lightsaber fire wave
        waterfall hay_bale obstacle""",
    "body": "hair head face mouth hand arm leg foot eye ear tongue tail beard nose back shoulder mohawk paw teeth",
    "place": """snow beach grass field street water park road pool sand ocean lake river sidewalk forest mountain hill
        dirt path trail yard backyard lawn city sea pond stream desert wood playground ground meadow garden cliff
        trees track court gym kitchen bedroom room living_room office restaurant bathroom hallway floor rug carpet
        stage stadium parking_lot highway alley market subway creek puddle mud dock pier shore rapids rink skate_park
        swimming_pool mall plaza square driveway porch patio deck slope jungle ice pavement crosswalk library classroom
        courtyard zoo campsite bar_room farm pasture canyon shoreline town arena hillside field_of_grass""",
}
"""A kind -> its nouns. A noun that is a kind itself stands in two rows: a puppy is a dog, a dog is an animal."""

PLURALS: dict[str, str] = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "gentlemen": "gentleman",
    "policemen": "policeman",
    "fishermen": "fisherman",
    "businessmen": "businessman",
    "feet": "foot",
    "geese": "goose",
    "wolves": "wolf",
    "calves": "calf",
    "oxen": "ox",
    "woods": "wood",
    "knives": "knife",
}
"""Plurals that no rule makes; `oxen` and the like. `woods` is the place, counted as one."""
UNCOUNTED = frozenset(
    """people others cattle snow water grass sand dirt mud ice hair food clothes pants shorts jeans sunglasses glasses
    goggles trunks swim_trunks swimming_trunks overalls stairs rapids trees headphones rollerblades teeth popcorn candy
    corn bread beer coffee soda wine juice ice_cream fire someone somebody wood""".split()
)
SAME_IN_PLURAL = frozenset("sheep fish deer".split())
NOBODY_NAMED = frozenset("someone somebody others people group".split())
"""Not to be asked after with `the`."""
GROUPS = frozenset("couple family crowd team band audience people group others".split())
"""Several people in one word."""

JOINED: tuple[str, ...] = tuple(
    sorted({noun for row in KINDS.values() for noun in row.split() if "_" in noun}, key=lambda noun: -len(noun))
)

OTHER_HEADS = frozenset(
    """race races show game games match team teams competition party toy toys crossing station stop court house
    houses costume costumes event parade lot player players racer racers club jumper driver walker lover made way
    track field course scene center centre shop store counter rack ride rides trick tricks area setting line seat
    seats bowl food fight exhibit carrier trainer board rink arena stand cage pen tag covering print bank side edge
    top base bottom tags lounge class gear equipment trail path wheel wheels goal post hoop light lights structure
    figure coaster clothing attire fur-colored ornament sculpture painting mural picture photo poster tank
    formation shelter wear cone cones pot pots shorts colored coloured""".split()
)
"""Words that make what stands before them a part of their name: a dog SHOW, a street SIGN, a car RACE."""

UNREAL = frozenset(
    """toy stuffed fake statue plastic inflatable costume mask cartoon painted picture photo painting drawing mural
    poster sculpture imaginary shaped ceramic carved mechanical miniature model mascot logo balloon""".split()
)
"""Next to a noun they say that the thing itself is not there."""

COLOURS: tuple[str, ...] = tuple(
    """black white brown red blue yellow green orange pink purple gray grey tan golden gold silver beige blond
    blonde maroon turquoise teal""".split()
)
SAME_COLOUR: dict[str, str] = {
    "grey": "gray",
    "golden": "tan",
    "gold": "yellow",
    "beige": "tan",
    "blond": "tan",
    "blonde": "tan",
    "silver": "gray",
    "teal": "turquoise",
}
"""Only to judge whether captions agree; answers keep the caption's word."""
SHADES = frozenset("light dark bright pale neon".split())

ADJECTIVES = frozenset(
    """young old little small large big tall long short older elderly furry fluffy shaggy wet dry muddy dirty snowy
    grassy sandy rocky wooden metal plastic colorful colourful striped plaid bright dark light heavy tiny huge giant
    steep shallow deep calm busy crowded empty green-eyed asian african american oriental caucasian bald bearded
    shirtless barefoot smiling happy beautiful pretty cute blurry open closed brick concrete stone paved dusty icy
    frozen wooded forested rough clear cold hot warm winter summer outdoor indoor public sunny cloudy leather denim
    thin thick skinny fat fast wild hairy spotted collared muzzled fuzzy curly straight lone single pregnant
    middle-aged teenage male female professional multicolored multi-colored white-haired dark-haired blond-haired
    blonde-haired red-haired brown-haired long-haired short-haired light-colored dark-colored snow-covered
    tan-colored medium-sized medium mid-sized sized colored coloured haired bare formal full floral flowered knit
    fancy nice high low rusty broken abandoned fallen sleeveless hooded matching camouflage decorated rubber rolling
    choppy murky parked nearby stony gravel cement asphalt tiled leafy flowery blooming residential urban rural
    outstretched inflatable stuffed toy fake adult baby mountain ski football soccer baseball basketball tennis
    hockey swimming bicycle motorcycle snow beach city street park safety race racing dirt bmx karate police army
    cowboy santa knitted checkered tattooed""".split()
)
"""Words that may stand between an article and its noun."""

NUMBERS: dict[str, int] = {
    word: number for number, word in enumerate("one two three four five six seven eight nine ten".split(), 1)
}

OUTDOORS = frozenset(
    """snow beach grass street road ocean lake river sidewalk forest mountain hill trail lawn backyard yard desert
    playground meadow garden cliff parking_lot highway alley creek shore rapids skate_park driveway slope jungle
    pavement crosswalk farm pasture canyon shoreline hillside pond sea sand outdoors waterfall surfer skier wave
    snowboarder outside""".split()
)
INDOORS = frozenset(
    """indoors kitchen bedroom living_room office bathroom hallway couch sofa carpet rug gym classroom library mall
    bed bathtub sink bar_room subway""".split()
)
UNDECIDED = frozenset("stage window inside indoor room restaurant store arena train".split())
"""Words after which neither is certain, unless the other kind is said as well."""
SURFACES = frozenset("bench chair couch sofa bed table rock log swing trampoline bicycle horse".split())

AT_PLACE: dict[str, str] = {
    place: preposition
    for preposition, places in {
        "in": """snow grass field water park pool ocean lake river forest dirt yard backyard city sea pond stream
            desert wood meadow garden gym kitchen bedroom room living_room office restaurant bathroom hallway stadium
            parking_lot alley market creek puddle mud jungle swimming_pool mall plaza square driveway rapids library
            classroom courtyard farm pasture canyon arena town""",
        "on": """beach sand street road sidewalk mountain hill path trail lawn track court floor rug carpet stage
            highway dock pier shore porch patio deck slope ice pavement ground crosswalk cliff shoreline hillside""",
        "at": "playground skate_park rink zoo",
    }.items()
    for place in places.split()
}
"""How one says that somebody is there, whatever preposition a movement took: through the snow -> in the snow."""


@cache
def parents() -> dict[str, str]:
    """Return noun -> the kind it is directly one of."""
    return {noun: kind for kind, row in KINDS.items() for noun in row.split()}


@cache
def all_kinds(noun: str) -> tuple[str, ...]:
    """Return the noun and all that it is a kind of, nearest first: puppy -> puppy, dog, animal."""
    found = [noun]
    while found[-1] in parents():
        found.append(parents()[found[-1]])
    return tuple(found)


def is_a(noun: str, kind: str) -> bool:
    """Tell whether a noun is a kind or one of its kinds."""
    return kind in all_kinds(noun)


@cache
def singular(word: str) -> tuple[str, bool] | None:
    """Return a word's noun and whether it stands in the plural; None for a word that is no known noun."""
    known = parents().keys() | KINDS.keys()
    if word in PLURALS:
        return PLURALS[word], word != "woods"
    if word in known:
        return word, word in GROUPS or word in {"people", "others"}
    ends = (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("ses", "s"), ("xes", "x"), ("ves", "f"), ("s", ""))
    for end, instead in ends:
        if word.endswith(end) and word.removesuffix(end) + instead in known:
            return word.removesuffix(end) + instead, True
    return None


def plural(noun: str) -> str:
    """Return a noun's plural: puppy -> puppies, man -> men."""
    irregular = {one: many for many, one in PLURALS.items()}
    if noun == "person":
        return "people"
    if noun in irregular:
        return irregular[noun]
    if noun in UNCOUNTED | SAME_IN_PLURAL | GROUPS - {"couple", "family", "crowd", "team", "band"}:
        return noun
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def with_article(noun: str) -> str:
    """Return a noun as one of many, in words: dog -> a dog, apple -> an apple, snow -> snow."""
    spoken = noun.replace("_", " ")
    if noun in UNCOUNTED:
        return spoken
    return ("an " if spoken[0] in "aeiou" and not spoken.startswith(("uni", "one")) else "a ") + spoken
