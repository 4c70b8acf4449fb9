"""Convert text to ids and back as the original tokenizers do: raw sentencepiece, or a fast tokenizer file.

A prompt is split at `<image>` and each piece is tokenized alone: as one string with a special token in it, the pieces
would lose the leading space mark that the models were trained with.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from m3video.errors import CheckpointError
from m3video.model.m3.config_json import read_text_json
from m3video.model.m3.prompt import IMAGE
from m3video.utils.text import first_line

IMAGE_ID = -200
"""Stands for a picture's tokens in the ids of a prompt (the reference's own number)."""

TEXT_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class TextCodec(Protocol):
    """The tokenizer interface that models use."""

    bos_id: int | None
    eos_id: int
    pad_id: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of one piece of text, without BOS."""

    def decode(self, ids: list[int]) -> str:
        """Return the plain text of ids, without special tokens."""

    def unknown_words(self, text: str) -> list[str]:
        """Return the words that the tokenizer can only encode as unknown."""

    def without_piece(self, vocabulary: int) -> Collection[int]:
        """Return the ids below `vocabulary` that stand for no text; `decode` skips them."""

    def spelling(self) -> str | list[bytes | None]:
        """Return a `tokenizer.json` as text, or the bytes of each id; None for those that mark something."""


class SentencePieceText:
    """A `tokenizer.model` file, read by sentencepiece itself."""

    def __init__(self, folder: Path, *, legacy: bool) -> None:
        import sentencepiece

        self._legacy = legacy
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{folder / 'tokenizer.model'} is no sentencepiece model: {error}") from None
        self.bos_id: int | None = self._model.bos_id()
        self.eos_id = self._model.eos_id()
        self.pad_id = max(0, self._model.pad_id())
        specials = {self._model.id_to_piece(i): i for i in (self._model.unk_id(), self.bos_id, self.eos_id)}
        self._specials = specials
        self._split = re.compile("(" + "|".join(re.escape(piece) for piece in specials) + ")")
        self._mark = self._model.piece_to_id("\u2581")

    def encode(self, text: str) -> list[int]:
        """Return ids; only the first piece between special tokens gets the leading space mark, unless legacy."""
        ids: list[int] = []
        for number, piece in enumerate(self._split.split(text.replace("\u2581", " "))):
            if piece in self._specials:
                ids.append(self._specials[piece])
            elif piece:
                ids += self._model.encode(piece) if number == 0 or self._legacy else self._without_mark(piece)
        return ids

    def _without_mark(self, piece: str) -> list[int]:
        """Encode without sentencepiece's leading mark: after a line feed, which never merges, there is none."""
        ids = self._model.encode("\n" + piece)
        line_feed = self._model.encode("\n")
        assert ids[: len(line_feed)] == line_feed
        return list(ids[len(line_feed) :])

    def decode(self, ids: list[int]) -> str:
        known = range(self._model.get_piece_size())
        return str(self._model.decode([i for i in ids if i in known and i not in self._specials.values()]))

    def without_piece(self, vocabulary: int) -> Collection[int]:
        return range(self._model.get_piece_size(), vocabulary)

    def spelling(self) -> str | list[bytes | None]:
        model, found = self._model, list[bytes | None]()
        for i in range(model.get_piece_size()):
            piece = model.id_to_piece(i)
            if model.is_byte(i):
                found.append(bytes([int(piece[1:-1], 16)]))  # "<0x0A>"
            elif model.is_control(i) or model.is_unknown(i) or model.is_unused(i):
                found.append(None)
            else:
                found.append(piece.replace("\u2581", " ").encode())
        return found

    def unknown_words(self, text: str) -> list[str]:
        unknown = self._model.unk_id()
        return [word for word in text.split() if unknown in self._model.encode(word)]


class FastText:
    """A `tokenizer.json` file, read by transformers."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        plain = read_text_json(folder)
        kind = PreTrainedTokenizerFast if plain.get("tokenizer_class") in FAST_CLASSES else AutoTokenizer
        try:
            Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the Rust side raises nothing more special
            raise CheckpointError(f"{folder / 'tokenizer.json'} is no tokenizer: {first_line(error)}") from None
        try:
            self._tokenizer: Any = kind.from_pretrained(folder)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{folder} has no tokenizer that can be read: {first_line(error)}") from None
        if self._tokenizer.eos_token_id is None:
            raise CheckpointError(f"{folder}: the tokenizer names no end-of-sequence token")
        self.bos_id = self._tokenizer.bos_token_id
        self.eos_id = int(self._tokenizer.eos_token_id)
        self.pad_id = int(self._tokenizer.pad_token_id or 0)

    @functools.cached_property
    def _pieces(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_vocab().values())

    @functools.cached_property
    def _gaps(self) -> list[int]:
        """Ids below the last piece that stand for no piece."""
        return sorted({*range(max(self._pieces) + 1)} - self._pieces)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []

    def decode(self, ids: list[int]) -> str:
        known = [i for i in ids if i in self._pieces]
        return str(self._tokenizer.decode(known, skip_special_tokens=True)).strip()

    def without_piece(self, vocabulary: int) -> Collection[int]:
        return [*(i for i in self._gaps if i < vocabulary), *range(max(self._pieces) + 1, vocabulary)]

    def spelling(self) -> str | list[bytes | None]:
        # With the tokens that only tokenizer_config.json adds.
        return str(self._tokenizer.backend_tokenizer.to_str())

    def unknown_words(self, text: str) -> list[str]:
        unknown = self._tokenizer.unk_token_id
        return [] if unknown is None else [word for word in text.split() if unknown in self.encode(word)]


FAST_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")


def has_text(folder: Path) -> bool:
    """Return whether a folder has a tokenizer."""
    return any((folder / name).is_file() for name in ("tokenizer.model", "tokenizer.json"))


def load_text(folder: Path) -> TextCodec:
    """Load a checkpoint folder's tokenizer: `tokenizer.model` first, because the reference uses that."""
    if (folder / "tokenizer.model").is_file():
        return SentencePieceText(folder, legacy=bool(read_text_json(folder).get("legacy")))
    if (folder / "tokenizer.json").is_file():
        return FastText(folder)
    raise CheckpointError(f"{folder} has no tokenizer: tokenizer.model or tokenizer.json is needed")


def prompt_ids(codec: TextCodec, prompt: str) -> list[int]:
    """Return the ids of a whole prompt, BOS first, with `IMAGE_ID` at each `<image>`.

    Source: reference `tokenizer_image_token`.
    """
    ids = [] if codec.bos_id is None else [codec.bos_id]
    for number, piece in enumerate(prompt.split(IMAGE)):
        if number:
            ids.append(IMAGE_ID)
        ids += codec.encode(piece)
    return ids
