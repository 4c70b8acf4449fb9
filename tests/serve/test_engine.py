"""The queue, cancelling, sessions that give way, and videos that break the process that reads them."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from m3video.config import Settings
from m3video.distributed import remote_reader
from m3video.inference.session import ask
from m3video.model import generation
from m3video.serve.app import create_app
from m3video.serve.engine import Engine, Question
from m3video.serve.errors import RequestError
from m3video.serve.sessions import MOST_SESSIONS
from tests.distributed.reader_faults import crash, hang
from tests.model.tiny import load_tiny
from tests.serve.running import COLOUR, body, post, running, served, text, until, video

TINY = Settings(num_frames=2, budget=20, max_new_tokens=40, cache=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random model, which says much."""
    return load_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make every token take a while; returns the moments at which the decoder ran."""
    moments: list[float] = []
    run = generation.run_decoder

    def slowly(*given: Any, **named: Any) -> Any:
        moments.append(time.monotonic())
        time.sleep(0.05)
        return run(*given, **named)

    monkeypatch.setattr(generation, "run_decoder", slowly)
    return moments


@pytest.fixture
def tiny_app(folder: Path, tiny: Any) -> Any:
    return create_app(folder, TINY, loaded=tiny, most_waiting=1)


@pytest.fixture
def tiny_url(tiny_app: Any) -> Iterator[str]:
    with running(tiny_app) as address:
        yield address


def tiny_body(tiny: Any, path: Path, **more: Any) -> dict[str, Any]:
    return {**body(path, "what is it", **more), "model": tiny.name}


def test_a_system_message_stands_before_the_question(tiny_url: str, tiny: Any, folder: Path) -> None:
    path = folder / "sample.mp4"
    asked = tiny_body(tiny, path, max_tokens=4)
    asked["messages"] = [
        {"role": "developer", "content": "one word"},
        {"role": "system", "content": [text("in German")]},
        *asked["messages"],
    ]
    found = post(tiny_url, asked).json()
    known = ask(path, "one word\nin German\n\nwhat is it", TINY, loaded=tiny, max_new_tokens=4)
    assert found["choices"][0]["message"]["content"] == known.text
    assert found["usage"]["prompt_tokens"] == known.prompt_tokens
    assert not any("system" in warning for warning in found["m3video"]["warnings"])


def test_a_long_answer_comes_in_pieces_and_is_that_of_the_command(tiny_url: str, tiny: Any, folder: Path) -> None:
    path = folder / "sample.mp4"
    known = ask(path, "what is it", TINY, loaded=tiny)
    assert known.answer_tokens == 40
    events = post(tiny_url, tiny_body(tiny, path, stream=True)).text.split("\n\n")
    pieces = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    words = [piece["choices"][0]["delta"].get("content", "") for piece in pieces]
    assert "".join(words) == known.text
    assert sum(map(bool, words)) > 20
    assert pieces[-1]["choices"][0]["finish_reason"] == "length"
    word = known.text.split()[20]
    cut = post(tiny_url, tiny_body(tiny, path, stop=[f" {word}"])).json()
    said = cut["choices"][0]
    assert (said["message"]["content"], said["finish_reason"]) == (known.text[: known.text.index(f" {word}")], "stop")
    assert cut["usage"]["completion_tokens"] < 40


def test_beyond_the_queue_a_client_is_told_when_to_come_again(
    tiny_url: str, tiny_app: Any, tiny: Any, folder: Path, slow: list[float]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        running_ones = [pool.submit(post, tiny_url, tiny_body(tiny, folder / "sample.mp4")) for _ in range(2)]
        until(lambda: served(tiny_app).engine.waiting == 2)
        refused = post(tiny_url, tiny_body(tiny, folder / "sample.mp4"))
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert "2 requests wait already: ask again in" in refused.json()["error"]["message"]
        assert httpx.get(f"{tiny_url}/health").json()["waiting"] == 2, "the server answers what needs no model"
        answers = [one.result() for one in running_ones]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert post(tiny_url, tiny_body(tiny, folder / "sample.mp4")).status_code == 200
    assert served(tiny_app).engine.waiting == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_its_answer(
    tiny_url: str, tiny_app: Any, tiny: Any, folder: Path, slow: list[float], stream: bool
) -> None:
    content = json.dumps(tiny_body(tiny, folder / "sample.mp4", stream=stream)).encode()
    port = int(tiny_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        until(lambda: len(slow) > 5)
        if stream:
            assert b"chat.completion.chunk" in client.recv(65536)
    engine = served(tiny_app).engine
    until(lambda: engine.waiting == 0, seconds=2)
    assert len(slow) < 36, "the answer went on to its end"
    again = post(tiny_url, tiny_body(tiny, folder / "sample.mp4"))
    assert (
        again.json()["choices"][0]["message"]["content"]
        == ask(folder / "sample.mp4", "what is it", TINY, loaded=tiny).text
    ), "the session is as before"


def test_an_answer_that_takes_longer_than_the_deadline_ends_with_the_server(
    tiny_app: Any, tiny: Any, folder: Path, slow: list[float]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with running(tiny_app, stop_seconds=1) as url:
            begun = pool.submit(post, url, tiny_body(tiny, folder / "sample.mp4"))
            until(lambda: len(slow) > 2)
        assert len(slow) < 36, "the answer was not waited for"
        assert served(tiny_app).engine.waiting == 0
        assert begun.exception() is not None or begun.result().status_code >= 500


def test_one_that_waits_leaves_the_queue_when_it_is_cancelled(folder: Path, tiny: Any, slow: list[float]) -> None:
    async def check() -> None:
        engine = Engine(TINY, loaded=tiny)
        question = Question(folder / "sample.mp4", "what is it")
        first = asyncio.create_task(engine.ask(question))
        while len(slow) < 3:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(engine.ask(question))
        await asyncio.sleep(0.05)
        assert engine.waiting == 2
        second.cancel()
        await asyncio.wait([second])
        await asyncio.sleep(0.05)
        assert engine.waiting == 1, "it leaves at once, not at its turn"
        assert (await first).answer.answer_tokens == 40
        await engine.close()
        with pytest.raises(RequestError, match="the server is stopping"):
            await engine.ask(question)

    asyncio.run(check())


def test_sessions_give_way_to_others(folder: Path, tiny: Any, tmp_path: Path) -> None:
    copies = [Path(shutil.copy(folder / "sample.mp4", tmp_path / f"{number}.mp4")) for number in range(3)]

    async def check() -> None:
        engine = Engine(TINY, loaded=tiny)

        async def reused(path: Path) -> int:
            question = Question(path, "what is it", max_new_tokens=1)
            return (await engine.ask(question)).answer.reused_tokens

        assert [await reused(path) for path in copies] == [0, 0, 0]
        sessions = engine.sessions
        assert len(sessions) == 3
        assert sessions.num_bytes > 3 * 20_000_000, "the processes count"
        assert await reused(copies[0]) > 0
        sessions._most_bytes = sessions.num_bytes - 1
        assert await reused(copies[0]) > 0
        assert len(sessions) == 2
        assert await reused(copies[1]) == 0, "the one that was used least recently went"
        sessions._most, sessions._most_bytes = 1, 1 << 40
        await reused(copies[0])
        assert len(sessions) == 1
        shutil.copyfile(folder / "more" / "natürlich 1.mp4", copies[0])
        assert await reused(copies[0]) == 0, "another file under the same name is another video"
        await engine.close()
        assert len(sessions) == 0

    asyncio.run(check())
    assert MOST_SESSIONS > 3


def test_plans_without_the_model(folder: Path, tiny: Any) -> None:
    async def check() -> None:
        engine = Engine(TINY, loaded=tiny)
        plan = await engine.call(folder / "sample.mp4", lambda session, left: session.plan(**left), {"budget": 9})
        assert plan.total_tokens <= 9
        with pytest.raises(ZeroDivisionError):
            await engine.call(folder / "sample.mp4", lambda session, left: 1 / 0, {})
        assert len(engine.sessions) == 0, "a session in which something unexpected happened is not used again"
        await engine.close()

    asyncio.run(check())


def test_a_video_that_breaks_its_decoder_breaks_nothing_else(
    folder: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(folder, TINY, loaded=tiny, deadline=1.0)
    with running(app) as url:
        for function, words in ((crash, "was killed by SIGSEGV"), (hang, "gave no sign of life for 1 s")):
            with monkeypatch.context() as patch:
                patch.setattr(remote_reader, "_scan", function)
                patch.setattr(remote_reader, "_look", function)
                broken = post(url, tiny_body(tiny, folder / "sample.mp4"))
            assert broken.status_code == 422
            assert words in broken.json()["error"]["message"]
            assert "Traceback" not in broken.text
        assert post(url, tiny_body(tiny, folder / "sample.mp4", max_tokens=2)).status_code == 200


def test_a_bug_is_told_without_a_trace(
    folder: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from m3video.inference.session import VideoSession

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret path /srv")

    with running(create_app(folder, TINY, loaded=tiny)) as url:
        monkeypatch.setattr(VideoSession, "ask", broken)
        answer = post(url, tiny_body(tiny, folder / "sample.mp4"))
        assert answer.status_code == 500
        assert answer.json()["error"]["message"] == "the server has a bug: its log says more"
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        monkeypatch.undo()
        assert post(url, tiny_body(tiny, folder / "sample.mp4", max_tokens=2)).status_code == 200
    # The server has ended, so that all it logs is written.
    assert "secret path /srv" in capfd.readouterr().err


def test_many_clients_about_several_videos_get_their_own_answers(url: str, app: Any, folder: Path, loaded: Any) -> None:
    paths = [folder / "sample.mp4", folder / "more" / "natürlich 1.mp4"]
    settings = Settings(model="rendered")
    known = {path: ask(path, COLOUR, settings, loaded=loaded).text for path in paths}
    found: list[tuple[Path, str]] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        path = paths[number % 2]
        answer = post(
            url, {"model": "rendered", "messages": [{"role": "user", "content": [video(path), text(COLOUR)]}]}
        )
        with lock:
            found.append((path, answer.json()["choices"][0]["message"]["content"]))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(32)))
    assert len(found) == 32
    assert all(said == known[path] for path, said in found)
    assert served(app).engine.waiting == 0
