"""Answers that are JSON of a given schema: at each token only those that can go on to such a text may be chosen.

The grammar is llguidance's (extra `json`). It supports JSON Schema but for a few keywords, which are refused by name.
Texts have no spaces between their parts, so that an answer cannot go on with spaces for ever.

Shape legend: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from m3video.errors import UsageError
from m3video.utils.text import first_line, printable

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

    from m3video.model.tokenizer import TextCodec

COMPACT: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}

_BITS = 8
"""Of a byte of a mask."""


_tokenizers: WeakKeyDictionary[TextCodec, LLTokenizer] = WeakKeyDictionary()
"""They take a second to make."""


def check_schema(schema: str) -> str:
    """Return the grammar of a JSON schema.

    Args:
        schema: a JSON object, as text.

    Raises:
        UsageError: the package llguidance is missing, or the schema is none or uses what is not supported.
    """
    try:
        from llguidance import LLMatcher
    except ModuleNotFoundError:
        raise UsageError("an answer in a JSON schema needs llguidance: pip install 'm3video[json]'") from None
    grammar = LLMatcher.grammar_from_json_schema(schema, overrides=COMPACT)
    wrong = LLMatcher.validate_grammar(grammar)
    if wrong:
        raise UsageError(f"the JSON schema cannot be obeyed: {printable(' '.join(wrong.split())[:200])}")
    return grammar


def json_answer(schema: str, codec: TextCodec, *, vocabulary: int, model: str) -> JsonAnswer:
    """Return the constraint of one answer.

    Args:
        schema: a JSON object, as text.
        codec: tokenizer of the model.
        vocabulary: ids that the model chooses from.
        model: its name, for messages.

    Raises:
        UsageError: as for `check_schema`, or the tokenizer cannot spell JSON.
    """
    grammar = check_schema(schema)
    from llguidance import LLMatcher

    if codec not in _tokenizers:
        _tokenizers[codec] = _tokenizer(codec, vocabulary, model)
    return JsonAnswer(LLMatcher(_tokenizers[codec], grammar, log_level=0), model)


class JsonAnswer:
    """One answer that grows."""

    def __init__(self, matcher: LLMatcher, model: str) -> None:
        self._matcher, self._model = matcher, model

    def allowed(self, scores_V: Tensor) -> Tensor:
        """Return the scores [V], -inf for ids that no text of the schema goes on with.

        Raises:
            UsageError: none does: the tokenizer cannot spell what the schema asks for.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        count = scores_V.shape[-1]
        is_allowed_V = np.unpackbits(bits[: math.ceil(count / _BITS)], bitorder="little", count=count).astype(bool)
        masked_V = scores_V.masked_fill(~torch.from_numpy(is_allowed_V).to(scores_V.device), -torch.inf)
        if self._matcher.is_error() or not torch.isfinite(masked_V).any():
            raise UsageError(f"{self._model} cannot write this JSON with its tokens: ask another model")
        return masked_V

    def accept(self, token: int) -> None:
        """Go on with the token that was chosen."""
        self._matcher.consume_token(token)


class _Pieces:
    """A tokenizer as llguidance wants it, of the bytes of each id."""

    def __init__(self, codec: TextCodec, pieces: Sequence[bytes | None]) -> None:
        self.eos_token_id, self.bos_token_id = codec.eos_id, codec.bos_id
        self.special_token_ids = [i for i, piece in enumerate(pieces) if piece is None]
        self.tokens = [f"<special {i}>".encode() if piece is None else piece for i, piece in enumerate(pieces)]
        self._ids = {piece: i for i, piece in enumerate(pieces) if piece}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, text: bytes) -> list[int]:
        """Return ids of exactly these bytes, the longest piece first: sentencepiece itself would add a space."""
        ids, rest = [], text
        while rest:
            found = next((rest[:n] for n in range(self._longest, 0, -1) if rest[:n] in self._ids), None)
            if found is None:
                break  # the grammar will tell that this cannot be said
            ids.append(self._ids[found])
            rest = rest[len(found) :]
        return ids


def _tokenizer(codec: TextCodec, vocabulary: int, model: str) -> LLTokenizer:
    from llguidance import LLTokenizer, TokenizerWrapper

    spelling = codec.spelling()
    try:
        tokenizer = spelling if isinstance(spelling, str) else TokenizerWrapper(_Pieces(codec, spelling))
        return LLTokenizer(tokenizer, n_vocab=vocabulary, eos_token=codec.eos_id)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"{model} cannot answer in JSON, its tokenizer does not spell ({printable(first_line(error))}): ask "
            "another model"
        ) from None
