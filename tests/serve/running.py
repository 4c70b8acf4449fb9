"""A server in a thread of the test process, on a free port of this machine."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.applications import Starlette

from m3video.serve.run import listen, make_server
from m3video.serve.state import Served

COLOUR = "What colour is the background at 0:03?"
NIGHT = "is it day or night in frame 2"


@contextmanager
def running(app: Starlette, *, stop_seconds: int = 5) -> Iterator[str]:
    """Serve `app` and provide its address."""
    server = make_server(app, stop_seconds=stop_seconds)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server does not end"


def video(path: Path) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": path.as_uri()}}


def video_data(data: bytes) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{base64.b64encode(data).decode()}"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def body(path: Path, question: str = COLOUR, **more: Any) -> dict[str, Any]:
    """A request about one file."""
    return {"model": "rendered", "messages": [{"role": "user", "content": [video(path), text(question)]}], **more}


def post(url: str, content: Any, **how: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=content, timeout=60, **how)


def served(app: FastAPI) -> Served:
    found = app.state.served
    assert isinstance(found, Served)
    return found


def until(condition: Any, *, seconds: float = 20.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.01)
