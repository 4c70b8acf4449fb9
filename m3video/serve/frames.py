"""Pictures and files for the page: the video itself by HTTP ranges, its frames as JPEG by their exact pts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict

from m3video.config import Settings
from m3video.serve.decoding import Decoder, first_look, frame
from m3video.serve.errors import RequestError
from m3video.serve.files import VideoFolder
from m3video.serve.proxies import Proxies
from m3video.types import check_scale
from m3video.video.path_checks import check_file

KEPT_BYTES = 64 * 2**20
"""JPEGs that are kept in memory."""

THUMBNAIL_SIDE = 240
"""Longest side of a picture of the library and the timeline, pixels."""

MOST_SIDE = 1920
"""Longest side of a frame, pixels."""

CONTENT_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm"}
"""By the ending of a file; others are video/x-matroska or are told by their bytes, as browsers do."""

KEEP = {"Cache-Control": "private, max-age=604800, immutable"}
"""For what the page asks for with a version of the file in its address."""


class Pictures:
    """Pictures of the folder's videos, made in two processes: thumbnails do not delay the frame that is looked at."""

    def __init__(self, settings: Settings) -> None:
        """No process is started yet."""
        self._settings = settings
        self.near, self.far = Decoder(), Decoder()
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, tuple[Any, ...]] = OrderedDict()

    def frame(self, path: str, *, pts: int | None, seconds: float, side: int, scale: int | None) -> tuple[Any, ...]:
        """Return (pts, seconds, JPEG) as `decoding.frame` makes it."""
        decoder = self.far if side <= THUMBNAIL_SIDE else self.near
        return self._once(decoder, frame, path, self._settings, pts, seconds, side, scale)

    def first_look(self, path: str) -> tuple[Any, ...]:
        """Return (seconds or None, codec, width, height, JPEG) of a file that was not indexed."""
        return self._once(self.far, first_look, path, self._settings.max_pixels, THUMBNAIL_SIDE)

    def close(self) -> None:
        """End the processes."""
        self.near.close()
        self.far.close()

    def _once(self, decoder: Decoder, function: Any, path: str, *arguments: Any) -> tuple[Any, ...]:
        key = (function, check_file(path).identity, *(one for one in arguments if not isinstance(one, Settings)))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made: tuple[Any, ...] = decoder.call(function, path, *arguments)
        with self._lock:
            self._kept[key] = made
            while sum(len(one[-1]) for one in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return made


class Video(BaseModel):
    """A request about one video of the folder."""

    model_config = ConfigDict(extra="forbid")
    video: str


def media_routes(folder: VideoFolder, pictures: Pictures, proxies: Proxies) -> APIRouter:
    """Return the routes of the player and of pictures."""
    router = APIRouter()

    @router.get("/media")
    def media(video: str, copy: bool = False) -> FileResponse:
        path = folder.find_video(video)
        if copy:
            path = proxies.find(str(path))
        return FileResponse(path, media_type=CONTENT_TYPES.get(path.suffix.lower(), "video/x-matroska"))

    @router.post("/api/copy")
    def start_copy(request: Video) -> dict[str, Any]:
        return proxies.start(str(folder.find_video(request.video))).record()

    @router.delete("/api/copy")
    def cancel_copy(video: str) -> dict[str, Any]:
        proxies.cancel(str(folder.find_video(video)))
        return {"state": "cancelled"}

    @router.get("/api/thumbnail")
    def thumbnail(video: str) -> Response:
        picture = pictures.first_look(str(folder.find_video(video)))[-1]
        return Response(picture, media_type="image/jpeg", headers=KEEP)

    @router.get("/api/frame")
    def one_frame(
        video: str,
        pts: int | None = None,
        at: Annotated[float, Query(allow_inf_nan=False)] = 0.0,
        side: Annotated[int, Query(ge=16, le=MOST_SIDE)] = 640,
        scale: int | None = None,
    ) -> Response:
        path = str(folder.find_video(video))
        if scale is not None:
            try:
                check_scale(scale)
            except ValueError as error:
                raise RequestError(str(error), param="scale") from None
        shown, seconds, picture = pictures.frame(path, pts=pts, seconds=at, side=side, scale=scale)
        headers = {**KEEP, "X-Frame-Pts": str(shown), "X-Frame-Seconds": f"{seconds:.6f}"}
        return Response(picture, media_type="image/jpeg", headers=headers)

    return router
