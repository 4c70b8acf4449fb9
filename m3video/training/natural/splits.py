"""Which natural pictures, clips, words and fonts the model `small` may learn from: train, dev or test.

The rules are data (`m3video/assets/small_splits.json`), so that training, measurements and tests read the same ones.
Neighbours go together: DAQUAR's pictures and ICDAR's words are numbered along the recording, and pictures with close
numbers show the same room or the same street.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from m3video.errors import UsageError

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
SCHEMA = "m3video.splits/1"
NAME = "assets/small_splits.json"
HASH_DIGITS = 12
"""Of a key's SHA-256, in hex: 48 bits, read as one number."""


@cache
def splits() -> Mapping[str, Any]:
    """Return the rule of each source, by the source's name."""
    held = json.loads(files("m3video").joinpath(NAME).read_text(encoding="utf-8"))
    assert held["schema"] == SCHEMA, f"{NAME} says {held['schema']}, this version reads {SCHEMA}"
    return dict(held["sources"])


def hashed(key: str, modulo: int) -> int:
    """Return a number from 0 to `modulo` - 1 that depends on the key's text only, the same on every machine."""
    return int(hashlib.sha256(key.encode("utf-8")).hexdigest()[:HASH_DIGITS], 16) % modulo


def part_of(source: str, key: str) -> Part | None:
    """Return the part that one thing belongs to; None where nobody may use it.

    Args:
        source: `flickr8k`, `daquar`, `icdar2015/words`, `icdar2015/photos`, `imagenet`, `clips`, `fall`, `videos`,
            `texts` (words and numbers that are drawn over pictures) or `fonts`.
        key: the file of lines (flickr8k), the picture's or clip's file name, ImageNet's class number, the text
            (upper and lower case alike), or the font's family.

    Raises:
        UsageError: for an unknown source, or a key without the number that its rule needs.
    """
    rule = splits().get(source)
    if rule is None:
        raise UsageError(f'no split is known for "{source}"; use one of {", ".join(splits())}')
    match rule["rule"]:
        case "all":
            return _part(rule["part"])
        case "file" | "named":
            return next((part for part in PARTS if key in rule.get(part, ())), None)
        case "parity":
            return next(part for part in PARTS if rule.get(part) == _number(source, key) % 2)
        case "range":
            number = _number(source, key)
            return next((part for part in PARTS[1:] if rule[part][0] <= number <= rule[part][1]), "train")
        case "number":
            return _by_hash(f"{source} {_number(source, key) // rule['block']}", rule)
        case "hash":
            return _by_hash(f"{source} {key.lower()}", rule)
        case other:
            raise AssertionError(f"{NAME}: unknown rule {other} of {source}")


def font_families(part: Part) -> tuple[str, ...]:
    """Return the font families of a part, as FreeType names them."""
    return tuple(splits()["fonts"].get(part, ()))


def check_part(part: str) -> Part:
    """Return `part` if it is one; raise UsageError otherwise."""
    if part not in PARTS:
        raise UsageError(f'no part is called "{part}"; use one of {", ".join(PARTS)}')
    return _part(part)


def _part(text: str) -> Part:
    return next(part for part in PARTS if part == text)


def _by_hash(key: str, rule: Mapping[str, Any]) -> Part:
    rest = hashed(key, rule["modulo"])
    return next((part for part in PARTS[1:] if rest in rule.get(part, ())), "train")


def _number(source: str, key: str) -> int:
    """Return the last number of a name without its ending: `img_378.jpg` -> 378."""
    found = re.findall(r"\d+", Path(key).stem)
    if not found:
        raise UsageError(f'the split of {source} goes by number, and "{key}" has none')
    return int(found[-1])
