"""The videos of the folder, as the library of the page lists them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from m3video.serve.errors import RequestError
from m3video.serve.files import VideoFolder
from m3video.serve.frames import Pictures
from m3video.serve.guards import MOST_UPLOAD
from m3video.serve.notes import Notes

MOST_LISTED = 2000
"""Videos in a list; of more the page says how many are left out."""


def library_routes(folder: VideoFolder, notes: Notes, pictures: Pictures) -> APIRouter:
    """Return the routes of the library."""
    router = APIRouter()

    @router.get("/api/videos")
    def videos() -> dict[str, Any]:
        """List the videos; their headers are read one by one afterwards, by /api/video."""
        states, rows, unreadable = notes.states(), [], 0
        found = list(folder.videos())
        for name in found[:MOST_LISTED]:
            if not _is_text(name):
                unreadable += 1
                continue
            try:
                status = folder.find_video(name).stat()
            except (OSError, RequestError):
                continue  # removed meanwhile
            looked, answers, marks = states.get(name, (False, 0, 0))
            rows.append(
                {
                    "name": name,
                    "bytes": status.st_size,
                    "version": f"{status.st_mtime_ns:x}-{status.st_size:x}",
                    "state": "answered" if answers else "planned" if looked else "not looked at",
                    "answers": answers,
                    "marks": marks,
                }
            )
        left_out = max(0, len(found) - MOST_LISTED)
        return {
            "folder": folder.root.name,
            "videos": rows,
            "left_out": left_out,
            "unreadable_names": unreadable,
            "most_upload": MOST_UPLOAD,
        }

    @router.get("/api/video")
    def video(video: str) -> dict[str, Any]:
        """What the header of one video says; its packets are not read."""
        path = folder.find_video(video)
        seconds, codec, width, height, _ = pictures.first_look(str(path))
        return {
            "name": video,
            "url": path.as_uri(),
            "seconds": seconds,
            "codec": codec,
            "width": width,
            "height": height,
        }

    return router


def _is_text(name: str) -> bool:
    """Whether a name can be sent: one that is not UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
