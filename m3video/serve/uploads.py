"""Videos that the page sends: written beside the library, and put into it once they are known to be readable.

So there is never half a file in the library: not when the browser leaves, nor when the server is killed.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from m3video.distributed.sources import SUFFIXES
from m3video.errors import DiskFullError, M3VideoError, VideoError
from m3video.serve.errors import RequestError
from m3video.serve.files import VideoFolder, unfinished
from m3video.serve.frames import Pictures
from m3video.serve.guards import UPLOAD_PATH, Access
from m3video.utils.text import printable
from m3video.video.path_checks import RECENT_WRITE_NOTE

MOST_AT_ONCE = 4
"""Uploads at a time."""

_MOST_NAME = 255


class Uploads:
    """The uploads into one folder."""

    def __init__(self, folder: VideoFolder, pictures: Pictures) -> None:
        """Nothing is made yet."""
        self._folder, self._pictures, self._running = folder, pictures, 0

    async def take(self, name: str, stated: int, chunks: AsyncIterator[bytes]) -> None:
        """Write a file and put it into the library.

        Args:
            name: of the file in the folder.
            stated: bytes that the request announces.
            chunks: the file.

        Raises:
            RequestError: 400, the name is none for a video; 409, it is taken; 429, too many uploads run; 403, the
                folder cannot be written.
            VideoError: what came is no readable video.
            DiskFullError: the disk is full.
        """
        target = self._target(name)
        if self._running >= MOST_AT_ONCE:
            raise RequestError(
                f"{self._running} uploads run: try again when one is done", status=429, headers={"Retry-After": "5"}
            )
        self._running += 1
        file = None
        try:
            file = await run_in_threadpool(self._new_file, target, stated)
            async for chunk in chunks:
                await run_in_threadpool(file.write, chunk)
            await run_in_threadpool(self._enter, file, target)
        except OSError as error:
            raise _for_users(error, name) from None
        finally:
            self._running -= 1
            if file is not None:
                with suppress(OSError):  # a full disk may refuse what is still to be written
                    file.close()
                Path(file.name).unlink(missing_ok=True)

    def _target(self, name: str) -> Path:
        """Return the path in the library of a name that a browser gives."""
        shown = printable(name)
        if not name or Path(name).name != name or name.startswith(".") or not name.isprintable():
            raise RequestError(f"{shown} is no name for a file here: rename it without / and control characters")
        if Path(name).suffix.lower() not in SUFFIXES:
            raise RequestError(f"{shown} is no video by its ending: give it the one of its format, e.g. .mp4")
        if len(os.fsencode(name)) > _MOST_NAME:
            raise RequestError(f"the name {shown} has more than {_MOST_NAME} bytes: shorten it")
        target = self._folder.root / name
        if os.path.lexists(target):
            raise _taken(name)
        return target

    def _new_file(self, target: Path, stated: int) -> BinaryIO:
        """Return an empty file beside the library, with the ending of the target."""
        place = unfinished(self._folder.root, target.suffix)
        if shutil.disk_usage(place.parent).free < stated:
            raise DiskFullError(f"{printable(target.name)} has {stated} bytes, more than the disk has left")
        # Opened as any file that a person makes: a temporary one would stay unreadable to others in the library.
        return place.open("xb")

    def _enter(self, file: BinaryIO, target: Path) -> None:
        """Check a file that is written, and move it into the library."""
        file.flush()
        os.fsync(file.fileno())
        try:
            self._pictures.first_look(file.name)
        except VideoError as error:
            # All of it has come: a note that it was written to just now would mislead.
            message = str(error).partition(RECENT_WRITE_NOTE)[0]
            message = message.replace(str(printable(Path(file.name))), str(printable(target.name)))
            raise VideoError(message) from None
        try:
            os.link(file.name, target)  # unlike a move, it never replaces a file that came meanwhile
        except FileExistsError:
            raise _taken(target.name) from None
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                raise _taken(target.name) from None
            os.rename(file.name, target)


def upload_routes(folder: VideoFolder, pictures: Pictures, access: Access) -> APIRouter:
    """Return the route of uploads; it refuses all where other machines may ask without a key."""
    router, uploads = APIRouter(), Uploads(folder, pictures)

    @router.put(UPLOAD_PATH)
    async def upload(request: Request, name: str) -> dict[str, str]:
        """Take a file as the body of the request."""
        if not access.may_upload:
            raise RequestError("everybody may ask this server, so it takes no videos: give it an --api-key", status=403)
        try:
            await uploads.take(name, int(request.headers.get("content-length", "0")), request.stream())
        except ClientDisconnect:
            raise RequestError(f"{printable(name)}: the upload was cancelled") from None
        return {"name": name}

    return router


def _taken(name: str) -> RequestError:
    return RequestError(
        f"{printable(name)} is in the folder already: rename the file and send it again", status=409, code="name_taken"
    )


def _for_users(error: OSError, name: str) -> M3VideoError:
    """Return an error of the file system as one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{printable(name)}: the disk is full")
    return RequestError(f"{printable(name)} cannot be written to the folder: {error.strerror}", status=403)
