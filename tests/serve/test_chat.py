"""The chat API as OpenAI's own client sees it: equal to the command token by token, follow-ups, streams, refusals."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from m3video.config import Settings
from m3video.inference.session import VideoSession, ask
from m3video.report.answer_text import answer_record
from m3video.serve.pictures import as_video
from m3video.video.reader import open_video
from tests.serve.running import COLOUR, NIGHT, body, post, served, text, video, video_data

QUESTIONS = (COLOUR, NIGHT, "what is there in frame 1")


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def create(client: openai.OpenAI, *content: Any, **more: Any) -> Any:
    messages = more.pop("messages", [{"role": "user", "content": list(content)}])
    return client.chat.completions.create(model="rendered", messages=messages, **more)


def same(record: Any) -> Any:
    """What an answer must have in common with that of the command."""
    frames = [(frame["pts"], frame["scale"]) for frame in record["plan"]["frames"]]
    tokens = {name: record["tokens"][name] for name in ("visual", "prompt", "answer")}
    return record["answer"], frames, tokens, record["plan"]["config"]


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"budget": 180},
        {"budget": 300, "max_frames": 5, "detail": "medium"},
        {"start": 2, "end": "0:07", "num_frames": 4},
        {"saliency": "times", "budget": 100},
        {"at": "0:03=144", "budget": 200},
        {"memory": "1GiB", "budget": 360},
        {"scan": "keyframes"},
    ],
    ids=lambda plan: "-".join(plan) or "defaults",
)
def test_it_answers_as_the_command_token_by_token(
    client: openai.OpenAI, folder: Path, loaded: Any, plan: dict[str, Any]
) -> None:
    path = folder / "sample.mp4"
    for question in QUESTIONS:
        known = answer_record(ask(path, question, Settings(model="rendered", **plan), loaded=loaded))
        found = create(client, video(path), text(question), extra_body={"m3video": plan})
        assert found.choices[0].message.content == known["answer"]
        assert same(found.m3video) == same(known)
        assert found.m3video["warnings"] == known["warnings"]
        assert found.usage.prompt_tokens >= known["tokens"]["visual"]
        assert found.usage.completion_tokens == known["tokens"]["answer"]


def test_a_follow_up_reads_only_its_own_words(client: openai.OpenAI, folder: Path, app: Any) -> None:
    path = folder / "more" / "natürlich 1.mp4"
    first = create(client, video(path), text("What is this?"))
    engine = served(app).engine
    misses = engine.sessions.misses
    turns = [
        {"role": "user", "content": [video(path), text("What is this?")]},
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": COLOUR},
    ]
    again = create(client, messages=turns)
    assert engine.sessions.misses == misses
    record = again.m3video
    assert record["tokens"]["reused"] > record["tokens"]["visual"] > 0
    assert again.usage.prompt_tokens_details.cached_tokens == record["tokens"]["reused"]
    assert set(record["stage_seconds"]) == {"answer"}, "nothing is opened, planned, decoded or encoded again"
    assert any("was answered alone" in warning for warning in record["warnings"])
    alone = create(client, video(path), text(COLOUR))
    assert alone.choices[0].message.content == again.choices[0].message.content
    assert not any("was answered alone" in warning for warning in alone.m3video["warnings"])


def test_a_system_message_is_left_out_where_the_model_knows_questions_only(client: openai.OpenAI, folder: Path) -> None:
    alone = create(client, video(folder / "sample.mp4"), text(COLOUR))
    turns: list[dict[str, Any]] = [{"role": "system", "content": "You are a pirate."}]
    turns.append({"role": "user", "content": [video(folder / "sample.mp4"), text(COLOUR)]})
    found = create(client, messages=turns)
    assert found.choices[0].message.content == alone.choices[0].message.content
    assert found.usage.prompt_tokens == alone.usage.prompt_tokens
    left_out = "the system message was left out: rendered was trained on questions alone"
    assert found.m3video["warnings"] == [left_out, *alone.m3video["warnings"]]
    turns[0]["content"] = [video(folder / "sample.mp4")]
    with pytest.raises(openai.BadRequestError, match="a system message holds text only"):
        create(client, messages=turns)


def test_a_stream_adds_up_to_the_answer_and_ends_in_done(client: openai.OpenAI, url: str, folder: Path) -> None:
    whole = create(client, video(folder / "sample.mp4"), text(COLOUR))
    chunks = list(
        create(client, video(folder / "sample.mp4"), text(COLOUR), stream=True, stream_options={"include_usage": True})
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content == "green"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert same(chunks[-2].m3video) == same(whole.m3video)
    assert len({chunk.id for chunk in chunks}) == 1
    raw = post(url, body(folder / "sample.mp4", stream=True))
    assert raw.headers["content-type"].startswith("text/event-stream")
    events = raw.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert '"usage"' not in raw.text.partition('"m3video"')[0]


def test_a_video_within_the_request(client: openai.OpenAI, folder: Path) -> None:
    data = (folder / "sample.mp4").read_bytes()
    first, second = (create(client, video_data(data), text(question)) for question in (COLOUR, NIGHT))
    assert [one.choices[0].message.content for one in (first, second)] == ["green", "day"]
    assert second.m3video["tokens"]["reused"] > 0, "the same bytes are the same video"


def test_evidence_is_that_of_the_command_where_it_is_asked_for(
    client: openai.OpenAI, folder: Path, loaded: Any
) -> None:
    path, asked = folder / "sample.mp4", (video(folder / "sample.mp4"), text(QUESTIONS[0]))
    known = json.loads(json.dumps(answer_record(ask(path, QUESTIONS[0], Settings(model="rendered"), loaded=loaded))))
    assert create(client, *asked).m3video["evidence"] is None
    found = create(client, *asked, extra_body={"m3video": {"evidence": True}}).m3video["evidence"]
    assert {**found, "seconds": 0} == {**known["evidence"], "seconds": 0}
    with pytest.raises(openai.BadRequestError, match=r"m3video\.evidence must be true or false"):
        create(client, *asked, extra_body={"m3video": {"evidence": "yes"}})


def test_pictures_are_frames(client: openai.OpenAI, folder: Path, loaded: Any, tmp_path: Path) -> None:
    with open_video(folder / "sample.mp4") as reader:
        frames = [frame.rgb_HW3 for frame in reader.fetch([int(pts) for pts in reader.index.pts_N[::40]])]
    files = []
    for frame in frames:
        out = io.BytesIO()
        Image.fromarray(frame).save(out, "PNG")
        files.append(out.getvalue())
    made = tmp_path / "frames.mkv"
    made.write_bytes(as_video(files))
    with open_video(made) as reader:
        pts = reader.index.pts_N
        assert [reader.info.pts_seconds(int(value)) for value in pts] == list(range(len(frames)))
        kept = reader.fetch([int(value) for value in pts])
    assert all(np.array_equal(one.rgb_HW3, frame) for one, frame in zip(kept, frames, strict=True))
    urls = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in files]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    found = create(client, *parts, text(COLOUR))
    known = answer_record(ask(made, COLOUR, Settings(model="rendered"), loaded=loaded))
    assert found.choices[0].message.content == known["answer"]
    assert same(found.m3video) == same(known)
    (folder / "picture.png").write_bytes(files[0])
    one = {"type": "image_url", "image_url": {"url": (folder / "picture.png").as_uri()}}
    alone = create(client, one, text("is it day or night in frame 1"))
    assert (alone.choices[0].message.content, len(alone.m3video["plan"]["frames"])) == ("day", 1)


@pytest.mark.parametrize("where", ["media_io_kwargs", "mm_processor_kwargs"])
def test_rates_of_vllm_are_constraints_of_the_plan(
    client: openai.OpenAI, folder: Path, loaded: Any, where: str
) -> None:
    for rate in ({"num_frames": 3}, {"fps": 0.5}):
        given = {where: {"video": rate} if where == "media_io_kwargs" else rate}
        found = create(client, video(folder / "sample.mp4"), text(COLOUR), extra_body=given)
        known = ask(folder / "sample.mp4", COLOUR, Settings(model="rendered", **rate), loaded=loaded)
        assert same(found.m3video) == same(answer_record(known))
        assert found.m3video["plan"]["config"][next(iter(rate))] == next(iter(rate.values()))


def test_a_short_answer_is_cut_at_its_length(client: openai.OpenAI, folder: Path, app: Any) -> None:
    found = create(client, video(folder / "sample.mp4"), text("what is there in frame 1"), max_tokens=1)
    assert found.usage.completion_tokens == 1
    assert found.choices[0].finish_reason == "length"
    longer = create(client, video(folder / "sample.mp4"), text("what is there in frame 1"))
    assert longer.choices[0].message.content.startswith(found.choices[0].message.content)
    assert longer.choices[0].finish_reason == "stop"
    assert longer.usage.completion_tokens > 1


def test_a_stop_text_ends_the_answer_before_it(client: openai.OpenAI, folder: Path) -> None:
    parts = video(folder / "sample.mp4"), text("what is there in frame 1")
    whole = create(client, *parts).choices[0].message.content
    word = whole.split()[-1]
    found = create(client, *parts, stop=word)
    assert found.choices[0].message.content == whole[: whole.index(word)]
    assert found.m3video["answer"] == found.choices[0].message.content
    chunks = create(client, *parts, stop=["nothing", word], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole[: whole.index(word)]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["rendered"]
    assert client.models.retrieve("rendered").owned_by == "m3video"
    with pytest.raises(openai.NotFoundError, match=r"model \(gpt-9\) is not here: this server has rendered"):
        client.models.retrieve("gpt-9")


def refused(url: str, content: Any) -> tuple[int, str]:
    answer = post(url, content)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    return answer.status_code, error["message"]


REFUSALS: list[tuple[dict[str, Any], int, str]] = [
    ({"temperature": 0.7}, 400, "temperature (0.7) is not supported: leave it out, or give 0"),
    ({"n": 2}, 400, "n (2) is not supported"),
    ({"top_p": 0.5}, 400, "top_p (0.5) is not supported"),
    ({"response_format": {"type": "json_object"}}, 400, "rendered cannot answer in JSON"),
    ({"tools": [{"type": "function"}]}, 400, "tools ("),
    ({"logprobs": True}, 400, "logprobs (True) is not supported"),
    ({"max_token": 3}, 400, "unknown field 'max_token'; did you mean max_tokens?"),
    ({"max_tokens": 0}, 400, "max_tokens: input should be greater than or equal to 1"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, 400, "max_tokens (3) contradicts max_completion_tokens (4)"),
    ({"stop": [""]}, 400, "stop must be up to 16 texts that are not empty"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options belongs to a stream"),
    ({"media_io_kwargs": {"video": {"video_backend": "x"}}}, 400, "media_io_kwargs.video.video_backend is not supp"),
    ({"media_io_kwargs": {"image": {}}}, 400, "media_io_kwargs.image is not supported"),
    ({"mm_processor_kwargs": {"max_pixels": 9}}, 400, "mm_processor_kwargs.max_pixels is not supported"),
    ({"mm_processor_kwargs": {"fps": 1, "num_frames": 3}}, 400, "--fps and --num-frames contradict each other"),
    ({"mm_processor_kwargs": {"fps": 1}, "m3video": {"fps": 2}}, 400, "mm_processor_kwargs.fps (1) contradicts fps"),
    ({"m3video": {"budgt": 3}}, 400, "unknown setting 'budgt'; did you mean budget?"),
    ({"m3video": {"model": "small"}}, 400, "model is set where the server is started: leave it out"),
    ({"m3video": {"budget": 0}}, 400, "budget (0): input should be greater than or equal to 1"),
    ({"m3video": {"layout": "grid"}}, 400, "layout grid is for the command"),
    ({"m3video": {"start": 500}}, 400, "500"),
    ({"m3video": {"budget": 100_000, "at": [f"{n / 2}=576" for n in range(20)]}}, 413, "context"),
    ({"model": "gpt-9"}, 404, "model (gpt-9) is not here: this server has rendered"),
    ({"messages": []}, 400, "messages: tuple should have at least 1 item"),
    ({"messages": [{"role": "user", "content": "What?"}]}, 400, "no video: give a part of type video_url"),
    ({"messages": [{"role": "tool", "content": "4"}]}, 400, "messages.0.role (tool) must be user, assistant, system"),
    ({"messages": [{"role": "system", "content": "Be brief."}]}, 400, "the last message must be the user's"),
    ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, 400, "messages.0.content"),
]


@pytest.mark.parametrize(("more", "status", "words"), REFUSALS, ids=lambda value: str(value)[:40])
def test_what_cannot_be_obeyed_is_refused_by_name(
    url: str, folder: Path, more: dict[str, Any], status: int, words: str
) -> None:
    found, message = refused(url, body(folder / "sample.mp4", **more))
    assert words in message
    assert found == status


def test_media_that_cannot_be_used_are_refused(url: str, folder: Path) -> None:
    def about(*parts: Any) -> tuple[int, str]:
        return refused(url, body(folder, messages=[{"role": "user", "content": [*parts, text("What?")]}]))

    def picture(data: bytes) -> dict[str, Any]:
        encoded = base64.b64encode(data).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}

    def png(size: tuple[int, int]) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", size).save(out, "PNG")
        return out.getvalue()

    (folder / "text.mp4").write_text("no video")
    sample = video(folder / "sample.mp4")
    assert about(video(folder / "none.mp4"))[0] == 404
    status, message = about(video(folder / "text.mp4"))
    assert (status, message.startswith("text.mp4: ")) == (422, True), "where the folder is, is nobody's business"
    assert about(sample, sample) == (400, "a message holds one video, or pictures: give one of them")
    assert about(picture(b"x"))[0] == 422
    assert about(picture(png((8, 8))), picture(png((8, 9))))[1].startswith("picture 2 is 8x9, the first is 8x8")
    assert about(*[picture(png((8, 8)))] * 257)[0] == 413
    for wrong, words in (
        ("data:video/mp4,abc", "data must begin with data:video/NAME;base64,"),
        ("data:video/mp4;base64,%%%", "the data is not base64"),
        ("data:image/png;base64,aaaa", "data must begin with data:video/"),
        ("ftp://host/a.mp4", "must be a file: or data: URL"),
        ("sample.mp4", "must be a file: or data: URL"),
        ("file://elsewhere/sample.mp4", "is no file URL of this server"),
        ("https://example.org/a.mp4", "this server fetches nothing from the network"),
    ):
        status, message = about({"type": "video_url", "video_url": {"url": wrong}})
        assert (status, words in message) == (400, True), message
    status, message = refused(
        url,
        body(
            folder,
            messages=[
                {"role": "user", "content": [sample, text("a")]},
                {"role": "user", "content": [video(folder / "more" / "natürlich 1.mp4"), text("b")]},
            ],
        ),
    )
    assert (status, message) == (400, "a conversation is about one video: begin a new one for another")


def test_bodies_that_are_no_requests(url: str) -> None:
    where = f"{url}/v1/chat/completions"
    json_type = {"content-type": "application/json"}
    assert (
        httpx.post(where, content=b"{", headers=json_type).json()["error"]["message"].startswith("the body is not JSON")
    )
    assert httpx.post(where, content=b"[]", headers=json_type).json()["error"]["message"] == (
        "the body must be a JSON object"
    )
    assert httpx.post(where, content=b"[" * 100_000, headers=json_type).status_code == 400
    assert "content-type (text/plain)" in httpx.post(where, content=b"{}", headers={"content-type": "text/plain"}).text
    assert httpx.get(where).status_code == 405
    none = httpx.get(f"{url}/v1/none")
    assert (none.status_code, none.json()["error"]["message"]) == (404, "GET /v1/none: not found")


def test_the_same_session_serves_the_library(folder: Path, loaded: Any) -> None:
    """Texts that follow an answer, and one that ends it, do not change what a session says next."""
    with VideoSession(folder / "sample.mp4", Settings(model="rendered"), loaded=loaded) as session:
        whole = session.ask("what is there in frame 1")
        seen: list[str] = []

        def follow(so_far: str) -> bool:
            seen.append(so_far)
            return len(seen) < 2

        cut = session.ask("what is there in frame 1", on_text=follow)
        assert cut.text == seen[-1] == " ".join(whole.text.split()[:2])
        assert all(whole.text.startswith(part) for part in seen)
        assert session.ask("what is there in frame 1").text == whole.text
        assert session.num_bytes > 0
