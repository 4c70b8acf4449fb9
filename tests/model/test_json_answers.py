"""Answers that obey a JSON schema: random weights write nothing else, alone, in a batch, and through every way in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from m3video import ask
from m3video.config import Settings
from m3video.errors import UsageError
from m3video.model.json_answers import check_schema, json_answer
from m3video.model.m3 import checkpoint
from m3video.model.m3.answer import FramesQuestion, GeneratedAnswer, answer_batch
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.m3.pooling import pack
from m3video.model.m3.prefix import Prefix
from m3video.model.tokenizer import load_text
from tests.cli.test_app import one_line_error, run
from tests.model import tiny_base
from tests.model.test_generation import ids_of, save_pieces
from tests.model.tiny import load_tiny, tiny_config
from tests.paths import SAMPLE

AT = {"type": "object", "properties": {"t": {"type": "null"}}, "required": ["t"], "additionalProperties": False}
SCHEMAS: dict[str, dict[str, Any]] = {
    "object": {
        "type": "object",
        "properties": {
            "animal": {"enum": ["dog", "cat", "größer"]},
            "seen": {"type": "boolean"},
            "count": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["animal", "seen", "count"],
        "additionalProperties": False,
    },
    "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    "text": {"type": "string", "maxLength": 12},
    "nested": {
        "type": "object",
        "properties": {"at": AT},
        "required": ["at"],
        "additionalProperties": False,
    },
    "choice": {"anyOf": [{"const": "yes"}, {"const": 12}, {"type": "null"}]},
}
MOST = 200
TIMES = [1.0, 2.0]


def save_bytes(folder: Path) -> None:
    tiny_base.tokenizer().save_pretrained(folder)


def load_speller(folder: Path, save: Callable[[Path], None] = save_bytes) -> LoadedModel:
    """Random weights whose tokenizer can spell anything, with a few rows that stand for no piece."""
    save(folder)
    config = tiny_config(prompt_style="rendered", max_context=1024)
    config.text_config.vocab_size = max(ids_of(load_text(folder))) + 4
    config.text_config.max_position_embeddings = 1024
    torch.manual_seed(11)
    model = M3VideoForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(std=4.0)
    model.save_pretrained(folder)
    return checkpoint.load(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=[save_pieces, save_bytes])
def speller(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_speller(tmp_path_factory.mktemp("speller"), request.param)


def visual(loaded: LoadedModel, seed: int) -> Any:
    made = torch.Generator().manual_seed(seed)
    return pack(torch.randn(2, 576, loaded.config.text_config.hidden_size, generator=made) * 3, [9, 1])


def obeys(value: Any, name: str) -> bool:
    """Whether a value is of the schema, without a library that shares its faults."""
    if name == "object":
        return (
            list(value) == ["animal", "seen", "count"]
            and value["animal"] in ("dog", "cat", "größer")
            and isinstance(value["seen"], bool)
            and 0 <= value["count"] <= 99
        )
    if name == "list":
        return 1 <= len(value) <= 3 and all(isinstance(one, bool) for one in value)
    if name == "text":
        return isinstance(value, str) and len(value) <= 12
    if name == "nested":
        return bool(value == {"at": {"t": None}})
    return value in ("yes", 12, None)


@pytest.mark.parametrize("name", SCHEMAS)
def test_twenty_answers_of_random_weights_obey_the_schema(speller: LoadedModel, name: str) -> None:
    """For ten pairs of schema and tokenizer: two hundred answers."""
    schema, found = json.dumps(SCHEMAS[name]), set()
    for seed in range(20):
        torch.manual_seed(seed)
        with torch.no_grad():
            speller.model.lm_head.weight.normal_(std=4.0)
        prefix = Prefix(speller, visual(speller, seed), times_seconds=TIMES)
        answer = prefix.answer(f"what is it {seed}", max_new_tokens=MOST, schema=schema)
        assert answer.answer_tokens < MOST
        assert obeys(json.loads(answer.text), name), answer.text
        assert not answer.warnings
        found.add(answer.text)
    assert len(found) > 1 or name == "nested", "it is the model that chooses"


def test_without_a_schema_random_weights_write_no_json(speller: LoadedModel) -> None:
    text = Prefix(speller, visual(speller, 1), times_seconds=TIMES).answer("what is it", max_new_tokens=20).text
    with pytest.raises(ValueError):
        json.loads(text)


def test_a_batch_gives_the_answers_of_one_by_one(speller: LoadedModel) -> None:
    schema = json.dumps(SCHEMAS["object"])
    asked = [FramesQuestion(visual(speller, seed), f"what is it {'red ' * seed}", TIMES) for seed in range(3)]
    together = answer_batch(speller, asked, max_new_tokens=MOST, schema=schema)
    for one, answer in zip(asked, together, strict=True):
        assert isinstance(answer, GeneratedAnswer)
        prefix = Prefix(speller, one.visual, times_seconds=TIMES)
        assert answer.text == prefix.answer(one.question, max_new_tokens=MOST, schema=schema).text
    cut = answer_batch(speller, asked[:1], max_new_tokens=4, schema=schema)[0]
    assert isinstance(cut, GeneratedAnswer)
    assert cut.warnings == ("the answer was cut off after 4 tokens and may be no JSON: use a larger --max-new-tokens",)


def test_ask_tells_that_evidence_is_not_tested(speller: LoadedModel) -> None:
    settings = Settings(budget=20, num_frames=2, max_new_tokens=MOST, answer_schema=json.dumps(SCHEMAS["list"]))
    answer = ask(SAMPLE, "what is it", settings, loaded=speller)
    assert obeys(json.loads(answer.text), "list")
    assert answer.evidence is None
    assert any("no evidence" in warning and "JSON schema" in warning for warning in answer.warnings)
    assert answer.config["answer_schema"] == json.dumps(SCHEMAS["list"], separators=(",", ":"))


def test_a_tokenizer_that_cannot_spell_is_refused(tmp_path: Path) -> None:
    words = load_tiny(tmp_path)
    with pytest.raises(UsageError, match="cannot answer in JSON, its tokenizer does not spell"):
        json_answer('{"type": "null"}', words.codec, vocabulary=80, model="words")


def test_schemas_that_cannot_be_obeyed_are_refused_by_name() -> None:
    for schema, words in (({"type": "nonsense"}, "nonsense"), ({"not": {"type": "string"}}, '"not"')):
        with pytest.raises(UsageError, match=words):
            check_schema(json.dumps(schema))
    with pytest.raises(UsageError, match="--schema is for a sequence of frames"):
        ask(SAMPLE, "?", layout="grid", answer_schema="{}")


def test_the_command_reads_the_schema_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    for content, words in (
        ("{", "it is no JSON"),
        ("[1]", "it must be a JSON object"),
        ('{"type": "nonsense"}', "the JSON schema cannot be obeyed: Invalid type: nonsense"),
        ('{"type": "null"}', "rendered cannot answer in JSON, its tokenizer does not spell"),
    ):
        file.write_text(content)
        done = run("ask", SAMPLE, "day or night?", "--model", "rendered", "--schema", file)
        assert words in one_line_error(done, 2)
    done = run(
        "batch", tmp_path, "--task", "ask", "--question", "?", "-o", tmp_path / "out", "--schema", tmp_path / "x"
    )
    assert "x cannot be read: No such file" in one_line_error(done, 2)
