"""`GET /v1/models` and `POST /v1/chat/completions`, as OpenAI's clients expect them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from m3video.errors import M3VideoError
from m3video.report.answer_text import answer_record
from m3video.serve.chat_request import ChatRequest, read_request
from m3video.serve.engine import Question, Reply
from m3video.serve.errors import RequestError, body_of, error_body
from m3video.serve.state import Served, ServedNow
from m3video.types import Answer
from m3video.utils.text import printable

T = TypeVar("T")

POLL_SECONDS = 0.1
"""How often a client that waits is looked for."""

router = APIRouter(prefix="/v1")


@router.get("/models")
async def models(served: ServedNow) -> dict[str, Any]:
    """List the one model."""
    return {"object": "list", "data": [_model(served)]}


@router.get("/models/{name:path}")
async def model(name: str, served: ServedNow) -> dict[str, Any]:
    """Describe the one model."""
    _check_model(name, served)
    return _model(served)


@router.post("/chat/completions")
async def complete(request: Request, served: ServedNow) -> Response:
    """Answer the last message of a conversation about one video."""
    asked = read_request(await _json(request))
    _check_model(asked.model, served)
    reply = _Completion(asked, served)
    if asked.stream:
        pieces = reply.events()
        # The first piece decides on the status; a stream that has begun can only end in an error.
        first = await unless_gone(request, anext(pieces))
        return StreamingResponse(
            _from(first, pieces), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
    return Response(_text(await unless_gone(request, reply.whole())), media_type="application/json")


class _Completion:
    """One request on its way to an answer."""

    def __init__(self, asked: ChatRequest, served: Served) -> None:
        self._asked, self._served = asked, served
        self._id, self._created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    async def whole(self) -> dict[str, Any]:
        """Return the answer in one piece."""
        async with AsyncExitStack() as stack:
            reply = await self._served.engine.ask(await self._question(stack))
        self._served.metrics.count_answer(reply.answer)
        message = {"role": "assistant", "content": reply.answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
        usage = usage_of(reply.answer)
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage, "m3video": self._record(reply)}

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the answer as server-sent events."""
        is_begun = False
        try:
            async with AsyncExitStack() as stack:
                pieces = self._served.engine.stream(await self._question(stack))
                async for piece in await stack.enter_async_context(aclosing(pieces)):
                    if not is_begun:
                        yield self._chunk({"role": "assistant", "content": ""})
                        is_begun = True
                    if isinstance(piece, str):
                        yield self._chunk({"content": piece})
                        continue
                    self._served.metrics.count_answer(piece.answer)
                    yield self._chunk({}, finish_reason=piece.finish_reason, m3video=self._record(piece))
                    if self._asked.include_usage:
                        yield _event(
                            {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_of(piece.answer)}
                        )
        except M3VideoError as error:
            if not is_begun:
                raise
            yield _event(body_of(error, told=self._served.folder.without_root))
        except Exception:
            if not is_begun:
                raise
            yield _event(error_body("the server has a bug: its log says more", 500))
            raise
        yield "data: [DONE]\n\n"

    async def _question(self, stack: AsyncExitStack) -> Question:
        """Return the question, with its video as a file until `stack` is closed."""
        asked, file = self._asked, self._served.media.video_of(self._asked)
        path = await run_in_threadpool(file.__enter__)
        stack.callback(file.__exit__, None, None, None)
        text = asked.question
        if asked.instructions and self._served.engine.reads_instructions:
            text = f"{asked.instructions}\n\n{text}"
        return Question(path, text, asked.changes, asked.max_new_tokens, asked.stop, asked.evidence, asked.schema)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._served.engine.model}

    def _chunk(self, delta: Mapping[str, Any], *, finish_reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        usage = {"usage": None} if self._asked.include_usage else {}
        return _event({**self._head("chat.completion.chunk"), "choices": [choice], **usage, **more})

    def _record(self, reply: Reply) -> dict[str, Any]:
        """Return the record of `m3video ask --json`, with notes on the request among its warnings."""
        record = answer_record(reply.answer)
        notes = list(self._asked.notes)
        if self._asked.instructions and not self._served.engine.reads_instructions:
            notes.append(f"the system message was left out: {reply.answer.model} was trained on questions alone")
        return {**record, "warnings": [*notes, *record["warnings"]]}


def usage_of(answer: Answer) -> dict[str, Any]:
    """Return the tokens of an answer; visual ones are prompt tokens, those of a coarse look before it too."""
    in_prompt = sum(frame.scale for frame in answer.plan.frames)
    prompt = answer.prompt_tokens + max(0, answer.visual_tokens - in_prompt)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.answer_tokens,
        "total_tokens": prompt + answer.answer_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.reused_tokens},
    }


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Return the result of `work`, or cancel it when the client has hung up."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=POLL_SECONDS)
            if not task.done() and await request.is_disconnected():
                raise RequestError("the client has hung up", status=499)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def _from(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    async with aclosing(rest):
        yield first
        async for event in rest:
            yield event


async def _json(request: Request) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(f"content-type ({printable(kind[:100])}) must be application/json")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {printable(str(error)[:200])}") from None


def _check_model(name: str, served: Served) -> None:
    if name != served.engine.model:
        raise RequestError(
            f"model ({printable(name[:200])}) is not here: this server has {served.engine.model}",
            status=404,
            param="model",
            code="model_not_found",
        )


def _model(served: Served) -> dict[str, Any]:
    return {"id": served.engine.model, "object": "model", "created": served.started, "owned_by": "m3video"}


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {_text(value)}\n\n"


def _text(value: Mapping[str, Any]) -> str:
    """Return JSON in ASCII: a file's name may be no UTF-8."""
    return json.dumps(value)
