"""Run the application until the process is told to stop."""

from __future__ import annotations

import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette

from m3video.errors import UsageError
from m3video.serve.state import Served
from m3video.utils.text import printable

STOP_SECONDS = 30
"""How long answers may go on after SIGTERM or Ctrl-C."""

_MOST_LINE = 32 << 10
"""Bytes of a request line with its headers that are read before it is refused."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UsageError: the address is not this machine's, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found[4][:2], family=found[0], backlog=128)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot listen on {printable(host)} port {port} ({reason.lower()}): give another --host or --port"
        ) from None


def make_server(app: Starlette, *, stop_seconds: int = STOP_SECONDS) -> uvicorn.Server:
    """Return the server of an application.

    Args:
        app: as `create_app` returns it, or `mcp_tools.http_app`.
        stop_seconds: how long answers may go on once it is told to stop.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MOST_LINE,
        timeout_graceful_shutdown=stop_seconds,
    )
    return uvicorn.Server(config)


def run(app: FastAPI, listening: socket.socket) -> None:
    """Answer on a socket until SIGTERM or Ctrl-C; running answers have `STOP_SECONDS` to finish.

    Raises:
        CheckpointError: the model cannot be loaded.
        KeyboardInterrupt: it was Ctrl-C.
    """
    served = app.state.served
    assert isinstance(served, Served)
    served.engine.load()
    address = address_of(listening)
    print(f"m3video: the page is at {address}/", file=sys.stderr)
    print(f"m3video: {served.engine.model} answers at {address}/v1 (Ctrl-C ends it)", file=sys.stderr)
    run_on(app, listening)


def run_on(app: Starlette, listening: socket.socket) -> None:
    """Run an application on a socket as `run` does."""
    # uvicorn raises the signal again once all is closed: the end that was asked for is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with listening:
        make_server(app).run(sockets=[listening])


def address_of(listening: socket.socket) -> str:
    """Return the URL of a socket that listens, without a path."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
