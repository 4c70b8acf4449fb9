"""One model and many requests: videos are read by processes of their own, answers take turns, what is beyond waits.

A request goes through two stages. The first opens the video and makes the first pass; some of them run at a time. The
second answers; the model does one at a time, so that an answer is the same token by token as that of `m3video ask`.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from m3video.config import Settings, changed_settings
from m3video.distributed.remote_reader import decoded_chapters
from m3video.errors import M3VideoError, UsageError
from m3video.inference.find import Found, find
from m3video.inference.session import VideoSession
from m3video.inference.summary.summarize import VideoFacts, captions, conclude, refuse_ranges
from m3video.inference.summary.values import Summary
from m3video.model.m3.default_model import RENDERED, with_model
from m3video.model.m3.small import SMALL
from m3video.serve.errors import RequestError
from m3video.serve.sessions import CancelledError, Kept, Sessions
from m3video.serve.text_stream import ChangedTextError, TextStream
from m3video.types import Answer

if TYPE_CHECKING:
    from m3video.inference.summary.summarize import Captioned
    from m3video.model.m3.checkpoint import LoadedModel

T = TypeVar("T")

MOST_WAITING = 32
"""Requests that may wait besides the one that is answered."""

SCANS = 2
"""Videos that are opened and scanned at a time: each scan uses all cores."""

DEADLINE_SECONDS = 60.0
"""Longest time that the process that decodes a video may give no sign of life."""

LONGEST_RETRY = 60
"""Seconds: what a client is told to wait at most."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a video.

    Attributes:
        path: the video, as `VideoFolder.find` returns it.
        text: in plain words.
        changes: settings of the plan that differ from the server's.
        max_new_tokens: longest answer; None for the server's setting.
        stop: texts at which the answer ends, before them.
        evidence: test what the answer rests on.
        schema: a JSON schema that the answer obeys.
    """

    path: Path
    text: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    evidence: bool = False
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of an answer, with its text up to a stop text, and why it ended there ("stop" or "length")."""

    answer: Answer
    finish_reason: str


class Engine:
    """The model of this process and the sessions of the videos that were asked about.

    Attributes:
        settings: of the server, with the model that was decided.
        notes: lines for whoever starts the server.
        sessions: the videos that are kept open.
        waiting: requests that were accepted and are not answered yet.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        loaded: LoadedModel | None = None,
        most_waiting: int = MOST_WAITING,
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        """Args:
        settings: of the server; a request may change those of the plan.
        loaded: a model that is already in memory; else the one that the settings name is loaded.
        most_waiting: requests that may wait; one more is refused with 429.
        deadline: seconds without a sign of life after which a process that decodes is killed.

        Raises:
            CheckpointError: no model is named, and what the environment names as the base of `small` is none.
        """
        if settings.abstain is not None:
            raise UsageError("abstain is for ask, chat and batch: over HTTP an answer comes with its confidence")
        self.settings, decided = with_model(settings, loaded=None if loaded is None else loaded.name)
        self.notes = decided.notes
        self.sessions = Sessions(self.settings)
        self.waiting = 0
        self._most_waiting, self._deadline = most_waiting, deadline
        self._loaded, self._load_turn = loaded, threading.Lock()
        self._model_turn, self._scans = asyncio.Lock(), asyncio.Semaphore(SCANS)
        # Its threads stay until the server ends: a process dies with the thread that has started it.
        self._threads = ThreadPoolExecutor(SCANS + 4, thread_name_prefix="m3video")
        self._seconds: deque[float] = deque(maxlen=16)
        self._jobs: set[asyncio.Task[None]] = set()
        self._closings: set[asyncio.Future[None]] = set()
        self._is_closing = False

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self.settings.model

    @property
    def reads_instructions(self) -> bool:
        """Whether text that is no question may stand before one; the models of this package know questions only."""
        return self.model not in (SMALL, RENDERED)

    def load(self) -> LoadedModel:
        """Return the model, loaded at first use.

        Raises:
            CheckpointError: it does not exist, or cannot be loaded.
        """
        with self._load_turn:
            if self._loaded is None:
                from m3video.model.m3 import checkpoint

                self._loaded = checkpoint.load_for(self.settings)
            return self._loaded

    async def stream(self, question: Question) -> AsyncGenerator[str | Reply, None]:
        """Yield the answer in pieces as they are generated, then the reply; closing the iterator cancels the work.

        Raises:
            RequestError: 429 where too many wait, 503 where the server is stopping.
            M3VideoError: as `VideoSession.ask` raises it.
        """
        found: asyncio.Queue[str | Reply | Exception] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def send(piece: str) -> None:
            loop.call_soon_threadsafe(found.put_nowait, piece)

        async def work(kept: Kept, changes: dict[str, Any]) -> None:
            async with self._scans:
                await self._in_thread(self._prepare, kept, changes)
            async with self._model_turn:
                start = time.monotonic()
                reply = await self._in_thread(self._answer, kept, question, changes, send)
                self._seconds.append(time.monotonic() - start)
            found.put_nowait(reply)

        async with self._job(question.path, question.changes, work, found.put_nowait):
            while True:
                value = await found.get()
                if isinstance(value, Exception):
                    raise value
                yield value
                if isinstance(value, Reply):
                    return

    async def ask(self, question: Question) -> Reply:
        """Return the whole reply; errors as for `stream`."""
        async with aclosing(self.stream(question)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Reply):
                    return piece
        raise AssertionError("an answer without an end")

    async def call(
        self, path: Path, function: Callable[[VideoSession, dict[str, Any]], T], changes: Mapping[str, Any]
    ) -> T:
        """Run `function(session, changes)` in a thread with the session of a video: for plans and stats.

        Args:
            path: the video, as `VideoFolder.find` returns it.
            function: must not ask the model.
            changes: settings of the plan that differ from the server's; the function gets those that the session
                does not have already.

        Raises:
            M3VideoError: as for `stream`, and what the function raises.
        """
        found: asyncio.Queue[tuple[T] | Exception] = asyncio.Queue()

        async def work(kept: Kept, left: dict[str, Any]) -> None:
            async with self._scans:
                found.put_nowait((await self._in_thread(self._run, kept, function, left),))

        async with self._job(path, changes, work, found.put_nowait):
            value = await found.get()
        if isinstance(value, Exception):
            raise value
        return value[0]

    async def find(self, path: Path, query: str, changes: Mapping[str, Any]) -> Found:
        """Return where in a video something is seen; errors as for `stream`, and for an empty query."""
        found: asyncio.Queue[Found | Exception] = asyncio.Queue()

        async def work(kept: Kept, left: dict[str, Any]) -> None:
            async with self._scans:
                await self._in_thread(self._prepare, kept, left)
            async with self._model_turn:
                search = partial(self._run, kept, lambda session, changes: find(session, query, **changes))
                found.put_nowait(await self._in_thread(search, left))

        async with self._job(path, changes, work, found.put_nowait):
            value = await found.get()
        if isinstance(value, Exception):
            raise value
        return value

    async def summarize(self, path: Path, changes: Mapping[str, Any]) -> Summary:
        """Return chapters and a summary of a video; errors as for `stream`, and for settings that choose frames."""
        found: asyncio.Queue[Summary | Exception] = asyncio.Queue()

        async def work(kept: Kept, left: dict[str, Any]) -> None:
            async with self._model_turn:
                found.put_nowait(await self._in_thread(self._summarize, kept, left))

        async with self._job(path, changes, work, found.put_nowait):
            value = await found.get()
        if isinstance(value, Exception):
            raise value
        return value

    async def close(self, *, seconds: float = 5.0) -> None:
        """Refuse what comes, cancel what runs, wait some seconds for that, and release all sessions."""
        self._is_closing = True
        for unfinished in (self._jobs, self._closings):  # a job that ends may begin to close a session
            if unfinished:
                await asyncio.wait(unfinished, timeout=seconds)
        self.sessions.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _job(
        self,
        path: Path,
        changes: Mapping[str, Any],
        work: Callable[[Kept, dict[str, Any]], Awaitable[None]],
        fail: Callable[[Exception], object],
    ) -> AsyncIterator[None]:
        """Run `work` with a session in a task of its own; leaving the block cancels it.

        The task holds the session until its thread is back, whatever happens to the request.
        """
        if self._is_closing:
            raise RequestError("the server is stopping: ask another one, or later", status=503)
        if self.waiting > self._most_waiting:
            raise self._overload()
        kept, left = self.sessions.take(path, changes)
        self.waiting += 1
        cancelled = threading.Event()

        async def run() -> None:
            try:
                async with kept.turn:
                    kept.cancelled = cancelled
                    await work(kept, left)
            except CancelledError:
                pass
            except Exception as error:
                if not isinstance(error, M3VideoError):
                    self.sessions.drop(kept)
                fail(error)
            finally:
                self.waiting -= 1
                for unwanted in self.sessions.give_back(kept):
                    closing = asyncio.get_running_loop().run_in_executor(self._threads, unwanted.close)
                    self._closings.add(closing)
                    closing.add_done_callback(self._closings.discard)

        job = asyncio.create_task(run())
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        try:
            yield
        finally:
            cancelled.set()
            job.cancel()

    def _overload(self) -> RequestError:
        usual = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
        seconds = min(LONGEST_RETRY, max(1, math.ceil(usual * self.waiting / 2)))
        return RequestError(
            f"{self.waiting} requests wait already: ask again in {seconds} s",
            status=429,
            code="queue_full",
            headers={"Retry-After": str(seconds)},
        )

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run `function` in a thread; one who cancels waits for its end, because it uses what its caller holds."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.cancel()  # only where no thread has taken it yet
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # nobody is left to be told
            raise

    def _run(self, kept: Kept, function: Callable[[VideoSession, dict[str, Any]], T], changes: dict[str, Any]) -> T:
        kept.check_wanted()
        return function(kept.open(self.load(), deadline=self._deadline), changes)

    def _summarize(self, kept: Kept, changes: dict[str, Any]) -> Summary:
        """Caption the chapters that another process reads."""
        settings, loaded = changed_settings(kept.settings, changes), self.load()
        refuse_ranges(settings)
        captioned: list[Captioned] = []
        for part in decoded_chapters(kept.path, settings, deadline=self._deadline):
            kept.check_wanted()
            if isinstance(part, VideoFacts):
                return conclude(loaded, part, captioned, settings)
            captioned += captions(loaded, [part], settings)
        raise AssertionError("chapters yields the facts last")

    def _prepare(self, kept: Kept, changes: dict[str, Any]) -> None:
        """Open the video and make the first pass, which needs no model."""
        self._run(kept, lambda session, left: session.plan(**left), changes)

    def _answer(self, kept: Kept, question: Question, changes: dict[str, Any], send: Callable[[str], object]) -> Reply:
        stream = TextStream(question.stop, send)

        def follow(text: str) -> bool:
            kept.check_wanted()
            return stream.follow(text)

        kept.check_wanted()
        session = kept.open(self.load(), deadline=self._deadline)
        most = question.max_new_tokens or self.settings.max_new_tokens
        try:
            answer = session.ask(
                question.text, evidence=False, max_new_tokens=most, on_text=follow, schema=question.schema, **changes
            )
            text = stream.finish(answer.text)
        except ChangedTextError:
            raise RequestError(
                "memory ran out, and the answer differs from what was sent already: ask again", status=503
            ) from None
        if question.evidence:
            kept.check_wanted()
            answer = session.with_evidence(answer)
        is_cut = answer.answer_tokens >= most and not stream.is_stopped
        return Reply(replace(answer, text=text), "length" if is_cut else "stop")
