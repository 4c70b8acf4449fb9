"""The body of `POST /v1/chat/completions`: every field is obeyed, or refused by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m3video.model.json_answers import check_schema
from m3video.serve.errors import RequestError
from m3video.utils.text import json_object_text, nearest, printable

MOST_QUESTION = 8192
"""Characters of a question, and of the system messages together."""

MOST_PICTURES = 256
"""Pictures in one request."""

MOST_MESSAGES = 256
MOST_STOPS = 16

_ONLY: Mapping[str, tuple[Any, ...]] = {
    "temperature": (None, 0),
    "top_p": (None, 1),
    "n": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logprobs": (None, False),
    "store": (None, False),
    "tools": (None, []),
    "tool_choice": (None, "none"),
}
"""Fields of OpenAI's that have one meaning here. Answers are greedy: the likeliest token follows."""

_WITHOUT_EFFECT = frozenset({"seed", "user", "metadata", "safety_identifier"})
"""Fields that change no answer anywhere, or none that is greedy."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Url(_Strict):
    url: str
    detail: Literal["auto"] | None = None


class TextPart(_Strict):
    """A piece of the question."""

    type: Literal["text"]
    text: str


class PicturePart(_Strict):
    """One frame, as a picture."""

    type: Literal["image_url"]
    image_url: _Url


class VideoPart(_Strict):
    """A video."""

    type: Literal["video_url"]
    video_url: _Url


Part = Annotated[TextPart | PicturePart | VideoPart, Field(discriminator="type")]


class Message(_Strict):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    refusal: None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts."""
        if isinstance(self.content, str):
            return (TextPart(type="text", text=self.content),)
        return self.content or ()

    @property
    def text(self) -> str:
        """The text of all parts, a line each."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def is_instruction(self) -> bool:
        """Whether the message says how to answer."""
        return self.role in ("system", "developer")


class StreamOptions(_Strict):
    """What a stream carries."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class _NamedSchema(_Strict):
    name: str = ""
    description: str | None = None
    strict: bool | None = None
    given: Annotated[dict[str, Any], Field(alias="schema")]


class ResponseFormat(_Strict):
    """What the answer is: free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _NamedSchema | None = None


class Body(_Strict):
    """The fields that are read."""

    model: str
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | tuple[str, ...] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    media_io_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    m3video: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that was understood.

    Attributes:
        model: who is asked.
        question: the text of the last message.
        video: URL of the video; None where pictures are given.
        pictures: URLs of pictures, which are frames.
        changes: settings of the plan.
        instructions: the text of system messages.
        max_new_tokens: longest answer; None for the server's setting.
        stop: texts at which the answer ends.
        stream: whether it is sent in pieces.
        include_usage: whether a stream ends in a piece with the usage.
        schema: a JSON schema that the answer obeys.
        evidence: test what the answer rests on.
        notes: what the client should know of its request.
    """

    model: str
    question: str
    video: str | None
    pictures: tuple[str, ...]
    changes: dict[str, Any]
    instructions: str = ""
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    schema: str | None = None
    evidence: bool = False
    notes: tuple[str, ...] = ()


def read_request(given: Any) -> ChatRequest:
    """Return the request in a JSON body.

    Raises:
        RequestError: a field is unknown, has a wrong value, or asks for what cannot be had: 400; or more than may be
            asked at once: 413.
    """
    if not isinstance(given, dict):
        raise RequestError("the body must be a JSON object")
    body = _body(_without_known(given))
    if body.messages[-1].role != "user":
        raise RequestError("the last message must be the user's: it is the question", param="messages")
    question = body.messages[-1].text
    instructions = "\n".join(message.text.strip() for message in body.messages if message.is_instruction).strip()
    if not question.strip():
        raise RequestError("the question is empty: give a part of type text in the last message", param="messages")
    for what, asked in (("question has", question), ("system messages have", instructions)):
        if len(asked) > MOST_QUESTION:
            raise RequestError(f"the {what} {len(asked)} characters, more than {MOST_QUESTION}: shorten it", status=413)
    video, pictures = _media(body.messages)
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options belongs to a stream: leave it out, or set stream", param="stream_options")
    changes = _changes(body)
    evidence = changes.pop("evidence", False)
    if not isinstance(evidence, bool):
        raise RequestError("m3video.evidence must be true or false", param="m3video.evidence")
    return ChatRequest(
        model=body.model,
        question=question,
        instructions=instructions,
        video=video,
        pictures=pictures,
        changes=changes,
        max_new_tokens=_one("max_tokens", body.max_tokens, "max_completion_tokens", body.max_completion_tokens),
        stop=_stops(body.stop),
        stream=bool(body.stream),
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        schema=_schema(body.response_format),
        evidence=evidence,
        notes=_notes(body.messages),
    )


def _without_known(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are read, and refuse values of others that cannot be obeyed."""
    for name, allowed in _ONLY.items():
        if name in given and given[name] not in allowed:
            only = " or ".join(repr(value) for value in allowed if value is not None)
            raise RequestError(
                f"{name} ({printable(str(given[name])[:100])}) is not supported: leave it out, or give {only}; "
                "answers are greedy text",
                param=name,
            )
    known = {*Body.model_fields, *_ONLY, *_WITHOUT_EFFECT}
    for name in given:
        if name not in known:
            near = nearest(name, known)
            end = f"; did you mean {near}?" if near else ": leave it out"
            raise RequestError(f"unknown field '{printable(name)}'{end}", param=printable(name))
    return {name: value for name, value in given.items() if name in Body.model_fields}


def _body(fields: Mapping[str, Any]) -> Body:
    try:
        # JSON knows lists only, and strict values of Python would not take one for a tuple.
        return Body.model_validate(fields, strict=False)
    except ValidationError as error:
        problem = error.errors()[0]
        kinds = ("text", "image_url", "video_url")
        place = [str(part) for part in problem["loc"] if part not in (*kinds, "str") and "tuple" not in str(part)]
        where = ".".join(place) or "body"
        if problem["type"] == "extra_forbidden":
            raise RequestError(f"unknown field '{printable(where)}': leave it out", param=where) from None
        if place[-1:] == ["role"]:
            raise RequestError(
                f"{where} ({printable(str(problem['input']))}) must be user, assistant, system or developer: this "
                "model calls no tools",
                param=where,
            ) from None
        raise RequestError(
            f"{printable(where)}: {problem['msg'][0].lower()}{problem['msg'][1:]}", param=where
        ) from None


def _media(messages: Sequence[Message]) -> tuple[str | None, tuple[str, ...]]:
    """Return the video or the pictures that a conversation is about; a client repeats them in each request."""
    found: list[tuple[str | None, tuple[str, ...]]] = []
    for message in messages:
        videos = tuple(part.video_url.url for part in message.parts if isinstance(part, VideoPart))
        pictures = tuple(part.image_url.url for part in message.parts if isinstance(part, PicturePart))
        if message.is_instruction and (videos or pictures):
            raise RequestError("a system message holds text only: put the video into the user's", param="messages")
        if len(videos) > 1 or (videos and pictures):
            raise RequestError("a message holds one video, or pictures: give one of them", param="messages")
        if videos or pictures:
            found.append((videos[0] if videos else None, pictures))
    if not found:
        raise RequestError(
            "no video: give a part of type video_url, or parts of type image_url, in a message", param="messages"
        )
    if len(set(found)) > 1:
        raise RequestError("a conversation is about one video: begin a new one for another", param="messages")
    if len(found[0][1]) > MOST_PICTURES:
        raise RequestError(f"{len(found[0][1])} pictures are more than {MOST_PICTURES}: give fewer", status=413)
    return found[0]


def _changes(body: Body) -> dict[str, Any]:
    """Return the settings of the plan, from wherever a client may put them."""
    changes = dict(body.m3video or {})
    given: list[tuple[str, str, Any]] = []
    for name, value in (body.media_io_kwargs or {}).items():
        if name != "video" or not isinstance(value, dict):
            raise RequestError(
                f"media_io_kwargs.{printable(name)} is not supported: give video with fps or num_frames",
                param="media_io_kwargs",
            )
        given += [(f"media_io_kwargs.video.{key}", key, number) for key, number in value.items()]
    given += [(f"mm_processor_kwargs.{key}", key, number) for key, number in (body.mm_processor_kwargs or {}).items()]
    for where, key, number in given:
        if key not in ("fps", "num_frames"):
            raise RequestError(
                f"{printable(where)} is not supported: give fps or num_frames, or a setting of m3video, e.g. budget",
                param=printable(where),
            )
        if key in changes and changes[key] != number:
            raise RequestError(f"{where} ({number}) contradicts {key} ({changes[key]}): give one", param=where)
        changes[key] = number
    return changes


def _schema(given: ResponseFormat | None) -> str | None:
    """Return the schema that a response format asks for; raise UsageError for one that cannot be obeyed."""
    if given is None or given.type == "text":
        return None
    if (given.json_schema is None) != (given.type == "json_object"):
        raise RequestError(
            "response_format has json_schema where its type is json_schema, and nowhere else", param="response_format"
        )
    schema = json_object_text({"type": "object"} if given.json_schema is None else given.json_schema.given)
    check_schema(schema)
    return schema


def _stops(given: str | tuple[str, ...] | None) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else given or ()
    if len(stops) > MOST_STOPS or not all(stops):
        raise RequestError(f"stop must be up to {MOST_STOPS} texts that are not empty", param="stop")
    return stops


def _one(first: str, value: int | None, second: str, other: int | None) -> int | None:
    if value is not None and other is not None and value != other:
        raise RequestError(f"{first} ({value}) contradicts {second} ({other}): give one", param=second)
    return other if value is None else value


def _notes(messages: Sequence[Message]) -> tuple[str, ...]:
    """Return a note where there are earlier turns: the model answers each question as if it were the only one."""
    turns = sum(bool(message.text) for message in messages[:-1] if not message.is_instruction)
    if not turns:
        return ()
    return (f"the last message was answered alone: the model does not read earlier ones ({turns})",)
