"""The closed world of the rendered model: what can be drawn, and the words it can be asked about with.

Everything a question or an answer may contain is listed here; the tokenizer is built from these lists and nothing
else. Numbers on signs are spelled digit by digit: `4 ##7 ##2 ##1` decodes to `4721`.
"""

from __future__ import annotations

from pathlib import Path

from m3video.utils.clock import whole_clock

BACKGROUND_COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
COLOURS: tuple[str, ...] = (*BACKGROUND_COLOURS, "white", "black")
RGB: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "orange": (240, 135, 25),
    "yellow": (240, 220, 45),
    "green": (45, 165, 65),
    "cyan": (60, 205, 215),
    "blue": (45, 75, 210),
    "purple": (125, 50, 180),
    "pink": (240, 130, 180),
    "white": (240, 240, 240),
    "black": (18, 18, 18),
}
"""No brown and no grey: a night's orange and a night's white would be called that."""

MANY = "many colours"
BACKGROUNDS: tuple[str, ...] = (*BACKGROUND_COLOURS, MANY)
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring")
LIGHTS: tuple[str, ...] = ("day", "night")
PLACES: tuple[str, ...] = (
    "top left",
    "top",
    "top right",
    "left",
    "middle",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
BOARD_SIDES: tuple[int, ...] = (3, 6, 12)
TABLE_SIDES: tuple[int, ...] = (2, 3, 4, 5, 6)
MOST_LETTERS = 6
"""Of a word or a number on a sign."""
SIGN_WORDS: tuple[str, ...] = (
    "stop",
    "open",
    "exit",
    "shop",
    "cafe",
    "bank",
    "hotel",
    "taxi",
    "park",
    "school",
    "police",
    "fire",
    "pizza",
    "museum",
    "cinema",
    "sale",
    "closed",
    "push",
    "north",
    "south",
    "east",
    "west",
    "market",
    "bridge",
    "river",
    "farm",
    "zoo",
    "gym",
    "danger",
    "slow",
    "food",
    "gold",
    "king",
    "love",
    "milk",
    "jump",
)
GLYPHS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
MAX_FRAMES = 64
MAX_MINUTES = 10

PAD, BOS, EOS, UNK, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
FUNCTION_WORDS: tuple[str, ...] = tuple(
    """
    frame question answer what which where when how many is are the a an in on at of it there does do say
    says show shows shown colour color colours background day night shape shapes object sign board word
    number code read row column tile tiles page text picture see you can tell me yes no none nothing and
    with first appear appears seen by kind type place time written line describe or dark light outside
    please has have one two three zero any rows columns colors table cell came comes before after
    """.split()
)


def vocabulary() -> list[str]:
    """Return every token in id order: specials, numbers, times, then words."""
    words: dict[str, None] = dict.fromkeys((PAD, BOS, EOS, UNK, IMAGE))
    words |= dict.fromkeys(str(number) for number in range(MAX_FRAMES + 1))
    words |= dict.fromkeys(f"##{digit}" for digit in range(10))
    words |= dict.fromkeys(whole_clock(second) for second in range(MAX_MINUTES * 60))
    for phrase in (*COLOURS, *BACKGROUNDS, *SHAPES, *(f"{s}s" for s in SHAPES), *LIGHTS, *PLACES, *SIGN_WORDS):
        words |= dict.fromkeys(phrase.split())
    words |= dict.fromkeys(FUNCTION_WORDS)
    words |= dict.fromkeys("abcdefghijklmnopqrstuvwxyz")
    return list(words)


def save_tokenizer(folder: Path) -> None:
    """Write the word-level tokenizer to `folder` in the form `AutoTokenizer` reads."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(vocabulary())}
    raw = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"[?.,!;]"), " "), normalizers.Strip()]
    )
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=PAD,
        additional_special_tokens=[IMAGE],
        clean_up_tokenization_spaces=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
