"""`response_format`: JSON of a schema over HTTP, by OpenAI's client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from m3video.config import Settings
from m3video.inference.session import ask
from m3video.serve.app import create_app
from tests.model.test_json_answers import load_speller
from tests.serve.running import body, post, running, text, video

SETTINGS = Settings(num_frames=2, budget=20, max_new_tokens=200, cache=False)


class Seen(BaseModel):
    """What a client asks for."""

    animal: Literal["dog", "cat"]
    is_outside: bool


def test_a_client_gets_what_its_schema_says(folder: Path, tmp_path: Path) -> None:
    loaded, path = load_speller(tmp_path), folder / "sample.mp4"
    messages: Any = [{"role": "user", "content": [video(path), text("what is it")]}]
    with running(create_app(folder, SETTINGS, loaded=loaded)) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        found = client.chat.completions.parse(model=loaded.name, messages=messages, response_format=Seen)
        assert isinstance(found.choices[0].message.parsed, Seen)
        assert found.choices[0].finish_reason == "stop"
        known = ask(path, "what is it", SETTINGS, loaded=loaded, answer_schema=json.dumps(Seen.model_json_schema()))
        assert found.choices[0].message.content == known.text, "that of the command"
        free = client.chat.completions.create(model=loaded.name, messages=messages, max_tokens=9)
        with pytest.raises(ValueError):
            json.loads(free.choices[0].message.content or "")
        for wanted, words in (
            ({"type": "json_schema"}, "response_format has json_schema where its type is json_schema"),
            ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "odd"}}}, "Invalid type: odd"),
            ({"type": "grammar"}, "response_format.type"),
        ):
            refused = post(url, {"model": loaded.name, "messages": messages, "response_format": wanted})
            assert refused.status_code == 400
            assert words in refused.json()["error"]["message"]


def test_a_model_that_cannot_spell_says_so(folder: Path, loaded: Any) -> None:
    with running(create_app(folder, Settings(model="rendered"), loaded=loaded)) as url:
        refused = post(url, body(folder / "sample.mp4", response_format={"type": "json_object"}))
        assert refused.status_code == 400
        assert "rendered cannot answer in JSON" in refused.json()["error"]["message"]
        assert post(url, body(folder / "sample.mp4", response_format={"type": "text"})).status_code == 200
