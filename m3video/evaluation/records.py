"""One question about one video, whatever benchmark it comes from, and whether an answer to it is right."""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from m3video.errors import UsageError
from m3video.utils.files import replacing
from m3video.utils.text import first_line, printable, read_text

Group = Literal["coarse", "medium", "fine"]
Metric = Literal["exact", "option", "time", "yes-no"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, slots=True)
class Record:
    """One question.

    Attributes:
        id: unique within its file.
        video: path; in a file, relative to the file's folder unless absolute.
        question: in a person's words; `reference` is a part of it.
        answer: the truth: words ("exact"), one of `options` ("option"), "yes" or "no", or words for people ("time").
        family: kind of question, e.g. "tile 6x6", or a benchmark's task type.
        group: how much detail it needs, or None where nobody has said.
        localised: about a moment, not the whole video; None where nobody has said.
        clip: what answers are not independent within (the video, or what several videos were cut from).
        metric: how an answer is judged; "time" is right when the clock time said lies in `evidence`, "yes-no" when the
            answer begins with the word.
        options: texts to choose from, without letters, or None.
        evidence: first and last second (as players count) that show the answer, or None where not known.
        moment: the second that the question is about, or None.
        reference: the words in `question` that name `moment`, e.g. "at 0:07", or "".
        prompt: the question with its options as a benchmark's own program words it, or "" for ours.
        duration: the benchmark's class of the video's length, e.g. "short", or "".
    """

    id: str
    video: str
    question: str
    answer: str
    family: str
    group: Group | None
    localised: bool | None
    clip: str
    metric: Metric = "exact"
    options: tuple[str, ...] | None = None
    evidence: tuple[float, float] | None = None
    moment: float | None = None
    reference: str = ""
    prompt: str = ""
    duration: str = ""

    def __post_init__(self) -> None:
        if self.group is not None and self.group not in GROUPS:
            raise ValueError(f"group ({self.group}) must be one of {', '.join(GROUPS)}")
        if self.metric not in get_args(Metric):
            raise ValueError(f"metric ({self.metric}) must be one of {', '.join(get_args(Metric))}")
        if not self.id or not self.question.strip() or not self.clip:
            raise ValueError("id, question and clip must not be empty")
        if self.metric == "option" and self.answer not in (self.options or ()):
            raise ValueError(f"answer ({self.answer}) must be one of the options")
        if self.metric == "yes-no" and self.answer not in ("yes", "no"):
            raise ValueError(f"answer ({self.answer}) must be yes or no")
        if self.prompt and self.reference:
            raise ValueError("a benchmark's own prompt cannot have its moment named in other words")
        if self.metric == "time" and self.evidence is None:
            raise ValueError("metric time needs evidence")
        if self.evidence is not None and not self.evidence[0] <= self.evidence[1]:
            raise ValueError(f"evidence ({self.evidence}) must not end before it begins")
        if self.reference and (self.moment is None or self.question.count(self.reference) != 1):
            raise ValueError(f"reference ({self.reference}) must stand once in the question and have a moment")

    @property
    def hash(self) -> str:
        """Of everything but the place of the video."""
        value = json.dumps(asdict(replace(self, video="")), sort_keys=True)
        return hashlib.blake2b(value.encode(), digest_size=16).hexdigest()


def prompt_text(record: Record, question: str | None = None) -> str:
    """Return the question as it stands in the prompt: in its benchmark's wording, or with lettered options where there
    are some (LLaVA's wording)."""
    if record.prompt:
        return record.prompt
    text = record.question if question is None else question
    if record.options is None:
        return text
    lettered = "".join(f"\n{letter}. {option}" for letter, option in _lettered(record.options))
    return f"{text}{lettered}\nAnswer with the option's letter from the given choices directly."


def _lettered(options: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(string.ascii_uppercase, options, strict=False))


def normal_text(text: str) -> str:
    """Return the text in lower case with single spaces, no punctuation at the ends of words, no article in front."""
    words = [word.strip(string.punctuation) for word in text.lower().split()]
    words = [word for word in words if word]
    return " ".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) and len(words) > 1 else words)


_SAID = re.compile(
    r"\b(?:(?:(?:correct|best|right|final|my)\s+)?(?:answer|option|choice)(?:\s+is)?|i\s+(?:choose|select|pick))\s*:?\s*"
    r"(?:option\s+)?[\"'*(\[]*((?-i:[B-Z]|A(?!\s+[a-z])))(?![\w'])",
    re.IGNORECASE,
)
_IN_FRONT = re.compile(r"\s*[*\"'(\[]*([A-Za-z])(?:[*\"')\].:,]|\s*$|\s*\n)")
_BRACKETED = re.compile(r"\(([A-Z])\)")


def parse_option(text: str, options: Sequence[str]) -> int | None:
    """Return the option that an answer names, or None.

    In this order: the option's whole text; what stands before a colon in it ("Option 1"); a letter in front ("B", "B.",
    "(b) ..."); the last letter that words like "the answer is" lead to; the only letter in brackets; the only option
    whose text occurs. "A" before a word is an article, never a letter. What names nothing is wrong: no option is drawn
    by chance, as the programs of MMMU and LongVideoBench do.

    Source: the forms are those of lmms-eval 0.7.3, `tasks/_task_utils/mcq_extract.py` (used for Video-MME, MLVU and
        LVBench), without its last resort of any capital letter; the labels are TempCompass's, `eval_rule`.
    """
    said = normal_text(text)
    for number, option in enumerate(options):
        label = re.match(r"(\w+ \w):", option)
        if said == normal_text(option) or (label is not None and re.match(rf"{label[1]}\b", text.strip(), re.I)):
            return number
    letters = _IN_FRONT.match(re.sub(r"^\s*Answer:", "", text))
    found = [letters[1]] if letters else _SAID.findall(text)[-1:] or sorted(set(_BRACKETED.findall(text)))
    if len(found) == 1:
        number = string.ascii_uppercase.index(found[0].upper())
        return number if number < len(options) else None
    inside = [number for number, option in enumerate(options) if f" {normal_text(option)} " in f" {said} "]
    return inside[0] if len(inside) == 1 and not found else None


def parse_time(text: str) -> float | None:
    """Return the first `m:ss` or `h:mm:ss` in a text, in seconds."""
    found = re.search(r"(?:(\d+):)?(\d+):(\d\d)", text)
    return None if found is None else int(found[1] or 0) * 3600 + int(found[2]) * 60 + float(found[3])


def is_right(record: Record, text: str) -> bool:
    """Return whether `text` is a right answer to `record`."""
    if record.metric == "option":
        assert record.options is not None
        chosen = parse_option(text, record.options)
        return chosen is not None and record.options[chosen] == record.answer
    if record.metric == "time":
        assert record.evidence is not None
        said = parse_time(text)
        # Clock words are whole seconds, rounded down.
        return said is not None and int(record.evidence[0]) <= said <= record.evidence[1]
    if record.metric == "yes-no":
        return normal_text(text).partition(" ")[0].strip(string.punctuation) == record.answer
    return normal_text(text) == normal_text(record.answer)


def record_to_json(record: Record) -> dict[str, Any]:
    """Return the record as JSON values, without fields that have their default; `load_records` reads them."""
    plain = {field.name: field.default for field in fields(Record)}
    return {name: value for name, value in asdict(record).items() if value != plain[name]}


def save_records(records: Sequence[Record], path: Path) -> None:
    """Write one JSON object a line; whole or not at all."""
    with replacing(path) as part:
        text = "".join(json.dumps(record_to_json(r), ensure_ascii=False) + "\n" for r in records)
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # a folder's name need not be UTF-8


def load_records(path: Path) -> list[Record]:
    """Read what `save_records` wrote.

    Raises:
        UsageError: the file is not there, or is none of these.
    """
    try:
        rows: list[dict[str, Any]] = [json.loads(line) for line in read_text(path).split("\n") if line]
        for row in rows:
            row |= {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
        return [Record(**row) for row in rows]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) else first_line(error)
        raise UsageError(f"{printable(path)} holds no questions of m3video eval ({why}): give a run's folder") from None
