"""The web application: routers one by one, guards around them, errors in one shape."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from m3video import __version__
from m3video.config import Settings
from m3video.errors import M3VideoError, UsageError
from m3video.serve import chat, status
from m3video.serve.engine import DEADLINE_SECONDS, MOST_WAITING, Engine
from m3video.serve.errors import RequestError, body_of, error_body, status_of
from m3video.serve.files import VideoFolder
from m3video.serve.guards import Access, Guards
from m3video.serve.media import MediaStore
from m3video.serve.metrics import CountRequests, Metrics
from m3video.serve.page_routes import page_routes
from m3video.serve.remote import RemoteMedia
from m3video.serve.state import Served, served_of

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel


def create_app(
    folder: Path,
    settings: Settings,
    *,
    access: Access | None = None,
    remote: RemoteMedia | None = None,
    loaded: LoadedModel | None = None,
    most_waiting: int = MOST_WAITING,
    deadline: float = DEADLINE_SECONDS,
) -> FastAPI:
    """Return the application for the videos of one folder; `app.state.served` holds what its routes share.

    Args:
        folder: whose videos may be asked about.
        settings: of the server; a request may change those of the plan.
        access: who may ask; by default everybody on this machine.
        remote: fetches https URLs; None where none are allowed.
        loaded: a model that is already in memory; else the one that the settings name is loaded at first use.
        most_waiting: requests that may wait; one more is refused with 429.
        deadline: seconds without a sign of life after which a process that decodes is killed.

    Raises:
        UsageError: `folder` is no folder, or an image grid is asked for.
        CheckpointError: no model is named, and what the environment names as the base of `small` is none.
    """
    if settings.layout == "grid":
        raise UsageError("layout grid is for single questions: use m3video ask")
    access = access or Access()
    videos = VideoFolder(folder)
    engine = Engine(settings, loaded=loaded, most_waiting=most_waiting, deadline=deadline)
    served = Served(videos, engine, MediaStore(videos, remote), Metrics(engine), int(time.time()))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.close()
        served.media.close()

    app = FastAPI(
        title="m3video", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.served = served
    app.include_router(status.router)
    app.include_router(chat.router)
    app.include_router(page_routes(served, access))
    app.add_exception_handler(M3VideoError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_route)
    app.add_exception_handler(RequestValidationError, _refuse_values)
    app.add_exception_handler(Exception, _hide)
    # The last one is the outermost.
    app.add_middleware(CountRequests, metrics=served.metrics)
    app.add_middleware(Guards, access=access)
    return app


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, M3VideoError)
    headers = error.headers if isinstance(error, RequestError) else None
    told = served_of(request).folder.without_root
    return JSONResponse(body_of(error, told=told), status_code=status_of(error), headers=headers)


async def _refuse_route(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail.lower()}"
    return JSONResponse(error_body(message, error.status_code), status_code=error.status_code, headers=error.headers)


async def _refuse_values(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    name = ".".join(map(str, problem["loc"][1:]))
    return JSONResponse(error_body(f"{name}: {problem['msg'].lower()}", 400, param=name), status_code=400)


async def _hide(request: Request, error: Exception) -> JSONResponse:
    """Answer without a word of what went wrong inside; the log has it."""
    return JSONResponse(error_body("the server has a bug: its log says more", 500), status_code=500)
