"""The wordings of questions about photographs, several for each kind."""

from __future__ import annotations

DESCRIBE: tuple[str, ...] = (
    "Describe the picture.",
    "Describe this picture.",
    "Describe the image.",
    "Describe what you see.",
    "What is shown?",
    "What is shown in the picture?",
    "What is happening here?",
    "What is happening in the picture?",
    "What is going on?",
    "What can you see?",
    "What do you see in this picture?",
    "What is this a picture of?",
    "What does the picture show?",
    "Write a caption for this picture.",
    "Caption this image.",
    "Give a one-sentence description.",
    "Describe the scene in one sentence.",
    "Tell me what is in this photo.",
    "Summarize what is shown.",
    "Can you describe this photo?",
    "What's in the picture?",
    "What's going on in this photo?",
)
BRIEFLY: tuple[str, ...] = (
    "Describe the picture briefly.",
    "What is shown? Keep it short.",
    "Give a short caption.",
    "In a few words, what do you see?",
    "Describe this in a few words.",
    "Briefly, what is happening?",
)
DETAIL: tuple[str, ...] = (
    "Describe the picture in detail.",
    "Give a detailed caption.",
    "What is shown? Say as much as you can.",
    "Describe what you see as exactly as you can.",
    "Tell me in detail what is happening.",
)
LIST: tuple[str, ...] = (
    "List what is in the picture.",
    "Which things are in the picture?",
    "Name the things that you see.",
    "List the objects in this image.",
    "What things are shown? Give a list.",
)
ANIMAL: dict[str, tuple[str, ...]] = {
    "one": (
        "What animal is this?",
        "Which animal is shown?",
        "What animal is in the picture?",
        "What kind of animal is it?",
        "Name the animal.",
        "What animal do you see?",
        "Which animal can be seen here?",
    ),
    "many": (
        "What animals are these?",
        "Which animals are shown?",
        "What animals are in the picture?",
        "What kind of animals are they?",
        "Name the animals.",
    ),
}
SCENE: tuple[str, ...] = (
    "Is this indoors or outdoors?",
    "Is it outdoors or indoors?",
    "Was the picture taken indoors or outdoors?",
    "Indoors or outdoors?",
    "Is the scene inside or outside? Say indoors or outdoors.",
)
WHERE_ALL: tuple[str, ...] = (
    "Where is this?",
    "Where does this take place?",
    "Where was this picture taken?",
    "What is the place?",
    "In what place does this happen?",
    "Where is it happening?",
)
SPORT: tuple[str, ...] = (
    "What sport is this?",
    "Which sport is shown?",
    "What sport do you see?",
    "Name the sport.",
    "What kind of sport is it?",
)
SPORTS: dict[str, str] = {
    word: sport
    for sport, words in {
        "soccer": "soccer soccer_ball",
        "basketball": "basketball",
        "tennis": "tennis",
        "baseball": "baseball",
        "volleyball": "volleyball",
        "hockey": "hockey",
        "rugby": "rugby",
        "football": "football",
        "surfing": "surfer surfers surfing surfs surfboard",
        "skiing": "skier skiers skiing skis",
        "snowboarding": "snowboarder snowboarders snowboarding snowboard",
        "skateboarding": "skateboarder skateboarders skateboarding skateboard skateboards",
        "wrestling": "wrestlers wrestling",
        "boxing": "boxing",
        "kayaking": "kayak kayaker kayaking kayaks",
        "motocross": "motocross",
        "softball": "softball",
    }.items()
    for word in words.split()
}
"""Words of captions -> the sport that they leave no doubt of; a dog with a tennis ball is told apart by `_sport`."""
ABSENT: dict[str, tuple[str, ...]] = {
    "doer": (
        "What is the {} doing?",
        "What does the {} do?",
        "Where is the {}?",
        "What is the {} looking at?",
        "Is the {} sitting or standing?",
    ),
    "thing": (
        "What color is the {}?",
        "What colour is the {}?",
        "Where is the {}?",
        "Who is next to the {}?",
        "How big is the {}?",
    ),
}
UNKNOWABLE: dict[str, tuple[str, ...]] = {
    "any": (
        "What day of the week is it?",
        "In which year was the picture taken?",
        "Which country is this?",
        "What is the temperature?",
        "Who took this picture?",
        "What time is it exactly?",
        "What happened one hour later?",
    ),
    "who": (
        "What is the name of the {}?",
        "How old is the {} exactly?",
        "What did the {} do yesterday?",
        "How much does the {} weigh?",
        "When was the {} born?",
    ),
}
CANNOT_TELL: tuple[str, ...] = (
    "I cannot tell.",
    "I cannot tell from the picture.",
    "The picture does not show that.",
    "That cannot be told from the picture.",
)
_ASKING: dict[str, tuple[str, ...]] = {
    "presence": (
        "Is there {0}?",
        "Is there {0} in the picture?",
        "Is there {0} in this image?",
        "Is {0} shown?",
        "Does the picture show {0}?",
        "Can you see {0}?",
        "Do you see {0}?",
        "Is {0} in the picture?",
        "Does this image contain {0}?",
        "Can {0} be seen here?",
    ),
    "colour": (
        "What color is the {0}?",
        "What colour is the {0}?",
        "What is the color of the {0}?",
        "What is the colour of the {0}?",
        "Which color does the {0} have?",
        "What color does the {0} have?",
    ),
    "action": (
        "What is the {0} doing?",
        "What does the {0} do?",
        "What is the {0} doing here?",
        "What is the {0} doing in the picture?",
        "Tell me what the {0} is doing.",
        "Describe what the {0} does.",
    ),
    "where": ("Where is the {0}?", "Where can the {0} be seen?", "Where do you see the {0}?"),
    "object": ("What is the {0} {1}?", "The {0} is {1} something. What is it?", "What do you see the {0} {1}?"),
    "who": ("Who or what is {0} {1}?", "Who is {0} {1}?"),
    "count": (
        "How many {0} are there?",
        "How many {0} are in the picture?",
        "How many {0} do you see?",
        "How many {0} can be seen?",
        "What is the number of {0}?",
        "Count the {0}.",
    ),
    "light": (
        "Is it day or night?",
        "Is it night or day?",
        "Was the picture taken by day or at night?",
        "Day or night?",
    ),
}


def asking(kind: str, *words: str) -> tuple[str, ...]:
    """Return the wordings of a kind of question, with its words put in."""
    return tuple(wording.format(*words) for wording in _ASKING[kind])
