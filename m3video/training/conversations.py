"""LLaVA-style conversations: reading and checking the JSON, writing the prompt, and which of its tokens are trained on.

The form is that of `llava_v1_5_mix665k.json` (key `image`, or none for text alone) and of LLaVA-Video (key `video`).
Source: `preprocess_multimodal` and `preprocess_v1` of the reference's `llava/train/train.py`; where it would truncate
or silently ignore a conversation, the row is skipped here with a reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3video.errors import UsageError
from m3video.model.m3.prompt import IMAGE, TEMPLATES, TURN_MARKS, build_prompt
from m3video.model.tokenizer import TextCodec, prompt_ids
from m3video.utils.text import fault_of, nearest, read_text

END = "</s>"
VIDEO = "<video>"
UNLEARNED = -100
STYLES = ("vicuna_v1", "llava_v1", "chatml", "rendered")
"""Prompt styles that a conversation of several turns can be written in."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A well-formed conversation.

    `turns` are (human, assistant) texts; `<image>` stands where the pictures named by `images` go. A video's frames
    always stand before the first question, which then holds no mark.
    """

    name: str
    turns: tuple[tuple[str, str], ...]
    images: tuple[Path, ...] = ()
    video: Path | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is left out: `kind` groups it in the summary, `reason` says what is wrong with it."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """Prompt ids with `IMAGE_ID` at each picture, and for each id the label that is trained on (-100: none)."""

    ids: list[int]
    labels: list[int]


class _Malformed(Exception):
    """A row that is no conversation, and why."""


def read_conversations(path: Path, folder: Path) -> tuple[list[Conversation], list[Skipped], int]:
    """Read one file of conversations.

    Args:
        path: `.json` (a list of rows) or `.jsonl` (a row in each line).
        folder: what the paths in `image` and `video` are relative to.

    Returns:
        The rows that can be used, those that cannot, and how many began with an answer: that turn is left out,
        as the reference does, and the rest is used.

    Raises:
        UsageError: the file cannot be read or holds no list of rows.
    """
    rows, skipped, begun = [], [], 0
    for number, raw in enumerate(_raw_rows(path)):
        name = f"{path} row {number}"
        try:
            if not isinstance(raw, dict):
                raise _Malformed("a row must be an object")
            if raw.get("id") not in (None, ""):
                name += f" (id {raw['id']})"
            row, left_out = _row(raw, name, folder)
        except _Malformed as problem:
            skipped.append(Skipped(name, "malformed", str(problem)))
            continue
        absent = next((file for file in (*row.images, *([row.video] if row.video else [])) if not file.is_file()), None)
        if absent is not None:
            skipped.append(Skipped(name, "missing file", f"{absent} is not there"))
            continue
        rows.append(row)
        begun += left_out
    return rows, skipped, begun


def _raw_rows(path: Path) -> list[Any]:
    try:
        text = read_text(path)
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        rows = json.loads(text)
    except OSError as error:
        raise UsageError(f"conversations {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"conversations {path} is not JSON: {error}") from None
    if not isinstance(rows, list):
        raise UsageError(f"conversations {path} must hold a list of rows, as llava_v1_5_mix665k.json does")
    return rows


def _row(raw: dict[str, Any], name: str, folder: Path) -> tuple[Conversation, bool]:
    images, videos = _files(raw, "image", folder), _files(raw, "video", folder)
    if images and videos:
        raise _Malformed("image and video in one row")
    if len(videos) > 1:
        raise _Malformed(f"{len(videos)} videos in one row; one is possible")
    if not images and not videos:
        _refuse_near_miss(raw)
    turns, left_out = _turns(raw.get("conversations"))
    if videos:
        return Conversation(name, _without_video_mark(turns), video=videos[0]), left_out
    return Conversation(name, _with_image_marks(turns, len(images)), images), left_out


def _refuse_near_miss(raw: dict[str, Any]) -> None:
    """Refuse a near miss of `image` or `video`: the row would be trained on as text alone. Other keys are ignored."""
    for key in raw.keys() - {"id", "conversations"}:
        near = nearest(key.lower(), ("image", "video"))
        if near:
            raise _Malformed(f"unknown key {key!r}, and no {near}: did you mean {near}?")


def _files(raw: dict[str, Any], key: str, folder: Path) -> tuple[Path, ...]:
    value = raw.get(key)
    if value is None:
        return ()
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise _Malformed(f"{key} must be a file name or a list of them")
    return tuple(folder / name for name in names)


def _turns(raw: object) -> tuple[list[tuple[str, str]], bool]:
    """Return pairs of human and assistant texts, and whether an answer before them was left out."""
    if not isinstance(raw, list) or not raw:
        raise _Malformed("conversations must be a list of turns")
    for turn in raw:
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise _Malformed("a turn must have from and value, both texts")
        if turn.get("from") not in ("human", "gpt"):
            raise _Malformed(f"a turn is from {turn.get('from')!r}; human and gpt are known")
        if wrong := fault_of(turn["value"]):
            raise _Malformed(f"a turn {wrong}")
        if mark := next((mark for mark in (END, *TURN_MARKS) if mark in turn["value"]), None):
            raise _Malformed(f"a turn contains {mark}, which begins or ends a turn")
    left_out = raw[0]["from"] == "gpt"
    turns = raw[left_out:]
    if len(turns) % 2 or not turns:
        raise _Malformed("the conversation does not end with an answer")
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    if any(human["from"] != "human" or gpt["from"] != "gpt" for human, gpt in pairs):
        raise _Malformed("human and gpt do not take turns")
    if any(not gpt["value"].strip() for _, gpt in pairs):
        raise _Malformed("an answer is empty")
    if any(IMAGE in gpt["value"] for _, gpt in pairs):
        raise _Malformed(f"an answer contains {IMAGE}")
    return [(human["value"], gpt["value"]) for human, gpt in pairs], bool(left_out)


def _with_image_marks(turns: list[tuple[str, str]], images: int) -> tuple[tuple[str, str], ...]:
    """Move the mark of one picture to a line before its turn, as the reference does; leave those of several."""
    marked = [human.count(IMAGE) for human, _ in turns]
    if images == 1:
        if sum(map(bool, marked)) != 1:
            raise _Malformed(f"1 picture, and {IMAGE} in {sum(map(bool, marked))} human turns")
        return tuple((_marked_first(human) if IMAGE in human else human, gpt) for human, gpt in turns)
    if sum(marked) != images:
        raise _Malformed(f"{images} pictures, {sum(marked)} times {IMAGE}")
    return tuple(turns)


def _marked_first(text: str) -> str:
    return f"{IMAGE}\n{text.replace(IMAGE, '').strip()}".strip()


def _without_video_mark(turns: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Remove a video's mark: LLaVA-Video writes `<image>` in the first turn, other sets `<video>` or nothing."""
    if any(mark in human for human, _ in turns[1:] for mark in (IMAGE, VIDEO)):
        raise _Malformed("a video's mark after the first turn")
    first, answer = turns[0]
    if first.count(IMAGE) + first.count(VIDEO) > 1:
        raise _Malformed("1 video, and several marks for it")
    return ((first.replace(IMAGE, "").replace(VIDEO, "").strip(), answer), *turns[1:])


def check_style(style: str) -> str:
    """Return `style` when conversations can be written in it; raise UsageError otherwise."""
    if style not in STYLES:
        raise UsageError(f"prompt_style ({style}) must be one of {', '.join(STYLES)} for fine-tuning")
    return style


def conversation_text(
    style: str, row: Conversation, *, num_frames: int, times_seconds: Sequence[float] | None
) -> tuple[str, list[tuple[int, int]]]:
    """Return the whole conversation as text, and where each answer begins and ends, with its space and end mark.

    Args:
        style: one of `STYLES`.
        row: the conversation.
        num_frames: frames of a video, or pictures.
        times_seconds: the frames' times to write before them, or None.
    """
    text, spans = "", []
    for number, (human, answer) in enumerate(row.turns):
        text += _first_turn(style, row, human, num_frames, times_seconds) if number == 0 else _later_turn(style, human)
        start = len(text)
        text += f"{answer}{TURN_MARKS[1]}" if style == "chatml" else f" {answer}{END}"
        spans.append((start, len(text)))
    return text, spans


def _first_turn(
    style: str, row: Conversation, human: str, num_frames: int, times_seconds: Sequence[float] | None
) -> str:
    if row.video is not None:
        return build_prompt(style, human, num_frames=num_frames, times_seconds=times_seconds)
    if style == "rendered":
        # The rendered model knows frames only where a video has them.
        return build_prompt(style, human.replace(IMAGE, "").strip(), num_frames=num_frames, times_seconds=None)
    before, after = TEMPLATES[style]
    return before + human + after


def _later_turn(style: str, human: str) -> str:
    if style == "rendered":
        return f" question {human.replace(IMAGE, '').strip()} answer"
    if style == "chatml":
        return f"\n{TURN_MARKS[0]}user\n{human}{TEMPLATES[style][1]}"
    return f"USER: {human}{TEMPLATES[style][1]}"


def label(
    codec: TextCodec, style: str, row: Conversation, *, num_frames: int, times_seconds: Sequence[float] | None = None
) -> Labelled | Skipped:
    """Tokenize a conversation; only the answers, each with its end mark, are trained on.

    Arguments as for `conversation_text`. A row whose answers cannot be separated token by token is skipped.
    """
    text, spans = conversation_text(style, row, num_frames=num_frames, times_seconds=times_seconds)
    ids = prompt_ids(codec, text)
    labels = [UNLEARNED] * len(ids)
    for start, end in spans:
        before, whole = prompt_ids(codec, text[:start]), prompt_ids(codec, text[:end])
        if ids[: len(before)] != before or ids[: len(whole)] != whole or whole[-1] != codec.eos_id:
            return Skipped(row.name, "not separable", "the tokenizer merges an answer with its surroundings")
        labels[len(before) : len(whole)] = whole[len(before) :]
    if style == "rendered":
        unknown = [word for _, answer in row.turns for word in codec.unknown_words(answer)]
        if unknown:
            return Skipped(row.name, "unknown words", f"the tokenizer does not know {', '.join(unknown[:5])}")
    return Labelled(ids, labels)


def tally(skipped: Sequence[Skipped]) -> str:
    """Return a summary by kind, e.g. `3 malformed, 1 missing file`."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(s.kind for s in skipped).items()))
