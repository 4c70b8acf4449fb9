"""The routes of notes and their export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from m3video.config import Settings
from m3video.errors import VideoError
from m3video.serve.decoding import info
from m3video.serve.edit_lists import as_edl, as_otio
from m3video.serve.errors import RequestError
from m3video.serve.exports import (
    Exported,
    Info,
    Kept,
    Picture,
    as_csv,
    as_json,
    as_markdown,
    as_report,
    as_srt,
    as_vtt,
    file_name,
)
from m3video.serve.files import VideoFolder
from m3video.serve.frames import THUMBNAIL_SIDE, Pictures
from m3video.serve.notes import Notes
from m3video.types import PlannedFrame, VideoInfo

FORMATS: dict[str, Callable[[Kept, Info, Picture], Exported]] = {
    "json": as_json,
    "csv": as_csv,
    "srt": as_srt,
    "vtt": as_vtt,
    "md": as_markdown,
    "html": as_report,
    "edl": as_edl,
    "otio": as_otio,
}

Seconds = Annotated[float, Field(allow_inf_nan=False)]
Words = Annotated[str, Field(max_length=20_000)]


class NewAnswer(BaseModel):
    """An answer to keep; `record` is the `m3video` block that came with it."""

    model_config = ConfigDict(extra="forbid")
    video: str
    question: Words
    answer: Words
    record: dict[str, Any]


class NewMark(BaseModel):
    """A mark to keep: at `start`, or from there to `until`, seconds as players count."""

    model_config = ConfigDict(extra="forbid")
    video: str
    start: Seconds
    until: Seconds | None = None
    text: Words = ""


class NewWords(BaseModel):
    """New words for a mark."""

    model_config = ConfigDict(extra="forbid")
    text: Words


def note_routes(folder: VideoFolder, notes: Notes, pictures: Pictures, settings: Settings) -> APIRouter:
    """Return the routes of questions, answers, marks and exports."""
    router = APIRouter()

    def known(video: str) -> str:
        folder.find_video(video)
        return video

    @router.get("/api/notes")
    def of_video(video: str) -> dict[str, Any]:
        return notes.of(known(video))

    @router.post("/api/answers")
    def add_answer(new: NewAnswer) -> dict[str, int]:
        return {"id": notes.add_answer(known(new.video), new.question, new.answer, new.record)}

    @router.post("/api/marks")
    def add_mark(new: NewMark) -> dict[str, int]:
        if new.until is not None and new.until <= new.start:
            raise RequestError(f"until ({new.until:g} s) must be after start ({new.start:g} s)", param="until")
        return {"id": notes.add_mark(known(new.video), new.start, new.until, new.text)}

    @router.put("/api/marks/{number}")
    def change_mark(number: int, new: NewWords) -> dict[str, int]:
        notes.change_mark(number, new.text)
        return {"id": number}

    @router.delete("/api/{kind}/{number}")
    def remove(kind: Literal["answers", "marks"], number: int) -> dict[str, int]:
        notes.remove(kind.removesuffix("s"), number)
        return {"id": number}

    @router.get("/api/export")
    def export(video: str, format: str, only: str = "") -> Response:
        path = str(folder.find_video(video))
        if format not in FORMATS:
            raise RequestError(f"format ({format}) must be one of {', '.join(FORMATS)}", param="format")
        kept = chosen(Kept(video, **notes.of(video)), only)

        def read_info() -> VideoInfo:
            found = pictures.near.call(info, path, settings)
            assert isinstance(found, VideoInfo)
            return found

        made = FORMATS[format](kept, read_info, picture_of(pictures, path))
        return download(made, file_name(video, made.ending))

    return router


def chosen(kept: Kept, only: str) -> Kept:
    """Return the notes that `only` names, as "a3,m7": answer 3 and mark 7; all where it is empty.

    Raises:
        RequestError: 404, one of them is not there.
    """
    if not only:
        return kept
    names = set(only.split(","))
    answers = [one for one in kept.answers if f"a{one['id']}" in names]
    marks = [one for one in kept.marks if f"m{one['id']}" in names]
    if len(answers) + len(marks) < len(names):
        raise RequestError(f"only ({only}) names notes that this video does not have", status=404, param="only")
    return Kept(kept.video, answers, marks)


def picture_of(pictures: Pictures, path: str) -> Callable[[PlannedFrame], bytes | None]:
    """Return a function that makes the JPEG of a frame, as coarse as it was shown; None where it does not decode."""

    def make(one: PlannedFrame) -> bytes | None:
        try:
            made = pictures.frame(path, pts=one.pts, seconds=0.0, side=THUMBNAIL_SIDE, scale=one.scale)
        except VideoError:
            return None
        picture: bytes = made[-1]
        return picture

    return make


def download(made: Exported, name: str) -> Response:
    """Return a file for the browser to save."""
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    return Response(made.data, media_type=made.content_type, headers=headers)
