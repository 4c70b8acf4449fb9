"""Read natural pictures with what is known about them: tar files of JPEGs, and a `.jsonl` with a line for each.

The layout of the folder (each set may be absent as long as nobody asks for it):

    flickr8k/{train,dev}.jsonl, *.tar          "image", "captions"
    daquar/questions.jsonl, images.tar         "image", "question", "answer"
    icdar2015/words.jsonl, words.tar           "image", "text"
    icdar2015/photos.jsonl, photos.tar         "image", "words": [{"quad", "text"}]
    imagenet/one-of-each.jsonl, .tar           "image", "index", "wnid", "name"

Which of them are train, dev and test is in m3video/training/natural/splits.py; readers give one part only.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError

from m3video.errors import UsageError
from m3video.training.natural.splits import Part, check_part, part_of

ILLEGIBLE = "###"
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Captioned:
    """A photograph and what five people wrote about it."""

    image: str
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A photograph and its (question, answer) pairs, as people typed them."""

    image: str
    questions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class WordCrop:
    """A picture of one word, cut out of a photograph."""

    image: str
    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """A word in a photograph: four corners (x, y) clockwise from the text's top left, as shares of width and height;
    a word that leaves the picture has corners outside 0 to 1. `text` is None where it cannot be read."""

    quad: tuple[tuple[float, float], ...]
    text: str | None


@dataclass(frozen=True, slots=True)
class Lettered:
    """A photograph and the words in it."""

    image: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A photograph of one ImageNet class; `index` is the class number of ImageNet-trained heads, 0 to 999."""

    image: str
    index: int
    wnid: str
    name: str


class Pictures:
    """The JPEGs in tar files, read one at a time by name.

    The index is made once; nothing stays open, so that the object can be sent to worker processes.
    """

    def __init__(self, tars: Sequence[Path]) -> None:
        self._at: dict[str, tuple[Path, int, int]] = {}
        for tar in tars:
            try:
                with tarfile.open(tar, "r:") as held:  # not compressed: members are read in place
                    for member in held:
                        if member.isfile():
                            self._at[Path(member.name).name] = (tar, member.offset_data, member.size)
            except (OSError, tarfile.TarError) as error:
                raise UsageError(f"cannot read the pictures in {tar}: {error}") from None

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, name: str) -> bool:
        return name in self._at

    def __call__(self, name: str) -> Image.Image:
        """Return a picture as RGB; raise UsageError where it is absent or broken."""
        if name not in self._at:
            raise UsageError(f'no picture "{name}" in the {len(self)} that were found: is a .tar file missing?')
        tar, offset, size = self._at[name]
        try:
            with tar.open("rb") as held:
                held.seek(offset)
                return Image.open(io.BytesIO(held.read(size))).convert("RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise UsageError(f'"{name}" in {tar} is no readable picture: {error}') from None


def pictures(folder: Path, source: str) -> Pictures:
    """Return the pictures of a source: `flickr8k`, `daquar`, `icdar2015/words`, `icdar2015/photos` or `imagenet`."""
    where = folder / source
    tars = [where.with_suffix(".tar")] if source.startswith("icdar2015/") else sorted(where.glob("*.tar"))
    if not tars:
        raise UsageError(f"no .tar file in {where}: name the folder that holds {source}")
    return Pictures(tars)


def flickr8k(folder: Path, part: Part) -> Iterator[Captioned]:
    """Give the captioned photographs of a part. There is no `test` here: it is empty."""
    check_part(part)
    for path in sorted((folder / "flickr8k").glob("*.jsonl")) or [folder / "flickr8k" / f"{part}.jsonl"]:
        if part_of("flickr8k", path.name) == part:
            yield from _read(path, lambda row: Captioned(_text(row, "image"), _texts(row, "captions")))


def daquar(folder: Path, part: Part) -> Iterator[Asked]:
    """Give the indoor photographs of a part, each with all its questions, in the order of their first one."""
    asked: dict[str, list[tuple[str, str]]] = {}
    rows = _read(
        folder / "daquar" / "questions.jsonl",
        lambda row: (_text(row, "image"), _text(row, "question"), _text(row, "answer")),
    )
    check_part(part)
    for image, question, answer in rows:
        if part_of("daquar", image) == part:
            asked.setdefault(image, []).append((question, answer))
    for image, questions in asked.items():
        yield Asked(image, tuple(questions))


def icdar_words(folder: Path, part: Part) -> Iterator[WordCrop]:
    """Give the pictures of single words of a part."""
    path = folder / "icdar2015" / "words.jsonl"
    words = _read(path, lambda row: WordCrop(_text(row, "image"), _text(row, "text")))
    yield from _of_part("icdar2015/words", words, part, lambda word: word.image)


def icdar_photos(folder: Path, part: Part) -> Iterator[Lettered]:
    """Give the street photographs of a part."""
    path = folder / "icdar2015" / "photos.jsonl"
    photos = _read(path, lambda row: Lettered(_text(row, "image"), tuple(_word(word) for word in row["words"])))
    yield from _of_part("icdar2015/photos", photos, part, lambda photo: photo.image)


def imagenet(folder: Path, part: Part) -> Iterator[Named]:
    """Give the photographs of a part's ImageNet classes, one of each."""
    rows = _read(
        folder / "imagenet" / "one-of-each.jsonl",
        lambda row: Named(_text(row, "image"), int(row["index"]), _text(row, "wnid"), _text(row, "name")),
    )
    yield from _of_part("imagenet", rows, part, lambda named: str(named.index))


def _of_part(source: str, rows: Iterator[Value], part: Part, key: Callable[[Value], str]) -> Iterator[Value]:
    check_part(part)
    for row in rows:
        if part_of(source, key(row)) == part:
            yield row


def _read(path: Path, made: Callable[[Any], Value]) -> Iterator[Value]:
    """Give what `made` makes of each line; raise UsageError with the file and the line that is wrong."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield made(json.loads(line))
                    except (ValueError, KeyError, TypeError) as error:
                        why = f"no {error}" if isinstance(error, KeyError) else error
                        raise UsageError(f"{path}, line {number}: {why}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None


def _text(row: Any, name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{name}" must be text, not {value!r}')
    return value.strip()


def _texts(row: Any, name: str) -> tuple[str, ...]:
    if not isinstance(row[name], list) or not row[name]:
        raise ValueError(f'"{name}" must be a list of texts')
    return tuple(_text({name: value}, name) for value in row[name])


def _word(row: Any) -> Word:
    quad, text = row["quad"], _text(row, "text")
    if len(quad) != 8:
        raise ValueError(f'"quad" must have 8 numbers, not {len(quad)}')
    corners = tuple((float(x), float(y)) for x, y in zip(quad[::2], quad[1::2], strict=True))
    return Word(corners, None if text == ILLEGIBLE else text)
