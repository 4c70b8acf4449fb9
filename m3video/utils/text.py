"""Reading and writing of text: always UTF-8, whatever encodings a shell, a file or a terminal uses.

File names may be any bytes: they are represented as Python does (`surrogateescape`), and escaped when printed.
"""

from __future__ import annotations

import codecs
import difflib
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from m3video.errors import UsageError

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32LE",
    codecs.BOM_UTF32_BE: "UTF-32BE",  # before UTF-16, whose mark begins one of them
    codecs.BOM_UTF16_LE: "UTF-16LE",
    codecs.BOM_UTF16_BE: "UTF-16BE",
}
_THREE_CHARACTERS = {
    # A list of names separated by zeros has no four zeros together, and hardly three names of one letter in a row.
    "UTF-32LE": rb"(?s)(?:....)*?(?:[\t\n\r -~]\0\0\0){3}",
    "UTF-32BE": rb"(?s)(?:....)*?(?:\0\0\0[\t\n\r -~]){3}",
    "UTF-16LE": rb"(?s)(?:..)*?(?:[\t\n\r -~]\0){3}",
    "UTF-16BE": rb"(?s)(?:..)*?(?:\0[\t\n\r -~]){3}",
}
SNIFF_BYTES = 1 << 16
"""Bytes at the start of a file from which its encoding is detected."""


def printable(text: str | os.PathLike[str]) -> str:
    """Return `text` as one printable line: control characters and undecodable bytes are escaped."""
    text = os.fspath(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def first_line(error: BaseException, *, limit: int | None = None) -> str:
    """Return the first line of an error's text, up to `limit` characters; its class where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:limit] if lines else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that `name` most likely meant, or ""."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def check_text(text: str, what: str) -> str:
    """Return `text`, when it can be written as UTF-8.

    Args:
        text: from a command line, the environment or a file.
        what: its name, for the error.

    Raises:
        UsageError: it contains a byte that is not UTF-8, or half of a surrogate pair; the message names it.
    """
    wrong = fault_of(text)
    if wrong:
        raise UsageError(f"{what} ({printable(text)}) {wrong}")
    return text


def json_object_text(given: Any) -> str:
    """Return a JSON object as compact text.

    Args:
        given: the object, or its text.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON ({first_line(error)})") from None
    if not isinstance(given, dict):
        raise ValueError("it must be a JSON object")
    return json.dumps(given, separators=(",", ":"))


def fault_of(text: str) -> str:
    """Return why `text` cannot be written as UTF-8 and what to do, to follow its name in a message; or ""."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if not 0xDC80 <= code <= 0xDCFF:
            return f"holds \\u{code:04x}, which is half a character: leave it out, or write both halves"
        holds = f"holds the byte 0x{code - 0xDC00:02x}, which is not"
        if sys.getfilesystemencoding() == "utf-8":
            return f"{holds} UTF-8: write it in UTF-8"
        return f"{holds} {sys.getfilesystemencoding()}: choose a locale with UTF-8, e.g. LC_ALL=C.UTF-8"
    return ""


def encoding_of(head: bytes) -> str | None:
    """Return the name of a UTF-16 or UTF-32 encoding, where the beginning of a file shows one."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    return next(
        (name for name, begins in _THREE_CHARACTERS.items() if re.match(begins, head) and _reads(head, name)), None
    )


def _reads(head: bytes, encoding: str) -> bool:
    """Return whether `head` decodes to text: numbers in a binary file look like single characters too."""
    whole = len(head) // 4 * 4
    try:
        text = head[:whole].decode(encoding)
    except UnicodeDecodeError as error:
        if error.end < whole or encoding.startswith("UTF-32"):  # else a character of two pairs is cut at the end
            return False
        text = head[: error.start].decode(encoding)
    return not any(ord(c) < ord(" ") and c not in "\t\n\r" for c in text)


def way_to_utf8(encoding: str) -> str:
    """Return advice for a user whose file has another encoding."""
    return f"it is {encoding}: save it as UTF-8 (iconv -f {encoding} -t UTF-8)"


def read_text(path: Path) -> str:
    """Read a UTF-8 file, without its byte-order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8; the message, to follow the file's name, says what it is and what to do.
    """
    data = path.read_bytes()
    encoding = encoding_of(data[:SNIFF_BYTES])
    if encoding is not None:
        raise ValueError(way_to_utf8(encoding))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} holds the byte 0x{data[error.start]:02x}, which is not UTF-8: save the file as UTF-8"
        ) from None


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON for stdout, valid whatever stdout's encoding is.

    Characters are not escaped where the output is UTF-8; else all but ASCII is. A name that is not UTF-8 keeps its
    bytes as `\\udc80` to `\\udcff`.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        is_plain = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8" and bool(text.encode())
    except UnicodeEncodeError:
        is_plain = False
    return text if is_plain else json.dumps(value, indent=indent)


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, for `object_pairs_hook`; plain JSON would let the last of equal keys win.

    Raises:
        ValueError: a key occurs twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in found if names.count(name) > 1)} stands there twice")
    return found


def counted(number: int, word: str) -> str:
    """Return a number and its noun: `1 frame`, `2 frames`."""
    return f"{number} {word}" + ("" if number == 1 else "s")
