"""A tokenizer's files that cannot be read are refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from m3video.errors import CheckpointError
from m3video.model.m3.model_paths import RENDERED_FOLDER
from m3video.model.tokenizer import load_text

TOKENIZERS = [
    ({"legacy": "no"}, 'legacy ("no") must be null or true or false'),
    ({"bos_token": 5}, "bos_token (5) must be null or text"),
    ({"eos_token": {"text": "</s>"}}, 'eos_token ({"text": "</s>"}) must be null or text'),
    ({"tokenizer_class": ["Fast"]}, 'tokenizer_class (["Fast"]) must be null or text'),
    ("[]", "must hold a JSON object"),
    ("{", "is not JSON"),
    (b"\xff\xfe", "is not JSON"),
]


@pytest.mark.parametrize(("content", "line"), TOKENIZERS)
@pytest.mark.parametrize("has_pieces", [False, True])
def test_a_wrong_tokenizer_config_is_reported(content: Any, line: str, has_pieces: bool, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(RENDERED_FOLDER / name, tmp_path)
    if has_pieces:
        (tmp_path / "tokenizer.model").write_bytes(b"never read")
    raw = json.dumps(content) if isinstance(content, dict) else content
    (tmp_path / "tokenizer_config.json").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    with pytest.raises(CheckpointError) as error:
        load_text(tmp_path)
    assert f"{tmp_path / 'tokenizer_config.json'}" in str(error.value)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", b'{"model": 5}', b'{"model": {"type": "Bogus"}}']
)
def test_a_wrong_tokenizer_is_reported(content: bytes, tmp_path: Path) -> None:
    shutil.copy(RENDERED_FOLDER / "tokenizer_config.json", tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer") as error:
        load_text(tmp_path)
    assert "\n" not in str(error.value)
