"""The analyst's page: its files, and all routes that it calls beside those of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from m3video.errors import M3VideoError
from m3video.serve.errors import RequestError
from m3video.serve.frames import Pictures, media_routes
from m3video.serve.guards import COOKIE, Access
from m3video.serve.looks import Looks
from m3video.serve.note_routes import note_routes
from m3video.serve.notes import Notes
from m3video.serve.plans import plan_routes
from m3video.serve.proxies import Proxies
from m3video.serve.state import Served
from m3video.serve.uploads import upload_routes
from m3video.serve.videos import library_routes

FILES = Path(__file__).parent / "page"


class Key(BaseModel):
    """The key that a person gives to the page."""

    model_config = ConfigDict(extra="forbid")
    key: Annotated[str, Field(max_length=1000)]


def page_routes(served: Served, access: Access) -> APIRouter:
    """Return the routes of the page; the processes that it starts end with the application."""
    settings = served.engine.settings
    folder, notes, pictures = served.folder, Notes(served.folder.root), Pictures(settings)

    def looked(path: str) -> None:
        with suppress(M3VideoError):  # the page says so when it keeps something; a plan needs no notes
            notes.mark_looked(str(Path(path).relative_to(folder.root)))

    looks = Looks(settings, on_ready=looked)
    proxies = Proxies(folder, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        looks.close()
        proxies.close()
        pictures.close()

    router = APIRouter(lifespan=lifespan)
    router.include_router(library_routes(folder, notes, pictures))
    router.include_router(upload_routes(folder, pictures, access))
    router.include_router(media_routes(folder, pictures, proxies))
    router.include_router(plan_routes(folder, settings, looks))
    router.include_router(note_routes(folder, notes, pictures, settings))

    @router.get("/")
    def index() -> FileResponse:
        return FileResponse(FILES / "index.html")

    @router.post("/api/login")
    def login(given: Key, response: Response) -> dict[str, bool]:
        """Let a browser in that was given the key."""
        if not access.is_key(given.key):
            raise RequestError("this is not the API key of this server", status=401, code="invalid_api_key")
        response.set_cookie(COOKIE, access.page_token, httponly=True, samesite="strict")
        return {"ok": True}

    router.mount("/page", StaticFiles(directory=FILES), name="page")
    return router
