"""The analyst's page: its files, and all routes that it calls beside those of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from m3video.errors import M3VideoError
from m3video.serve.frames import Pictures, media_routes
from m3video.serve.library import library_routes
from m3video.serve.looks import Looks
from m3video.serve.note_routes import note_routes
from m3video.serve.notes import Notes
from m3video.serve.plans import plan_routes
from m3video.serve.state import Served

FILES = Path(__file__).parent / "page"


def page_routes(served: Served) -> APIRouter:
    """Return the routes of the page; the processes that it starts end with the application."""
    settings = served.engine.settings
    folder, notes, pictures = served.folder, Notes(served.folder.root), Pictures(settings)

    def looked(path: str) -> None:
        with suppress(M3VideoError):  # the page says so when it keeps something; a plan needs no notes
            notes.mark_looked(str(Path(path).relative_to(folder.root)))

    looks = Looks(settings, on_ready=looked)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        looks.close()
        pictures.close()

    router = APIRouter(lifespan=lifespan)
    router.include_router(library_routes(folder, notes, pictures))
    router.include_router(media_routes(folder, pictures))
    router.include_router(plan_routes(folder, settings, looks))
    router.include_router(note_routes(folder, notes, pictures, settings))

    @router.get("/")
    def index() -> FileResponse:
        return FileResponse(FILES / "index.html")

    router.mount("/page", StaticFiles(directory=FILES), name="page")
    return router
