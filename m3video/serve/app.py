"""The web application: routers one by one, errors in one shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from m3video import __version__
from m3video.config import Settings
from m3video.errors import M3VideoError
from m3video.serve import state
from m3video.serve.engine import Engine
from m3video.serve.errors import RequestError, body_of, status_of
from m3video.serve.files import VideoFolder
from m3video.serve.page_routes import page_routes


def create_app(folder: Path, settings: Settings, *, api_key: str | None = None) -> FastAPI:
    """Return the application for the videos of one folder.

    Args:
        folder: whose videos may be asked about.
        settings: of the server; a request may change those of the plan.
        api_key: what every request must carry as a bearer token; None for no key.

    Raises:
        UsageError: `folder` is no folder.
    """
    served = state.Served(VideoFolder(folder), Engine(settings), settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        served.engine.close()

    app = FastAPI(
        title="m3video", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.served = served
    app.add_exception_handler(M3VideoError, _refuse)
    # Routers, one line each.
    app.include_router(page_routes(served))
    return app


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, M3VideoError)
    headers = error.headers if isinstance(error, RequestError) else None
    return JSONResponse(body_of(error), status_code=status_of(error), headers=headers)
