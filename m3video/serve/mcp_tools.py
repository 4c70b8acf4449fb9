"""The abilities of a server as tools of the Model Context Protocol."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from PIL import Image
from pydantic import BaseModel, Field
from starlette.applications import Starlette

from m3video import __version__
from m3video.config import Settings
from m3video.errors import M3VideoError, UsageError
from m3video.report.answer_text import answer_record
from m3video.serve.engine import DEADLINE_SECONDS, Engine, Question
from m3video.serve.files import VideoFolder
from m3video.serve.guards import Access, Guards
from m3video.types import Frame, TokenPlan, VideoInfo
from m3video.utils.clock import clock

T = TypeVar("T")

LONGEST_SIDE = 1024
"""Pixels of a frame that is returned."""

_READ_ONLY = ToolAnnotations(read_only_hint=True)

Video = Annotated[str, Field(description="path of the video within the folder that is served")]
Budget = Annotated[int | None, Field(description="most visual tokens; more shows more detail", ge=1)]
Seconds = Annotated[float | None, Field(description="seconds, as a player shows them")]


class VideoFacts(BaseModel):
    """What a video file says."""

    path: str
    duration_seconds: float
    width: int
    height: int
    frames: int
    codec: str
    notes: list[str]


class ShownFrame(BaseModel):
    """A frame that the model is shown, and its visual tokens."""

    seconds: float
    tokens: int


class PlanFacts(BaseModel):
    """Which frames of a video the model is shown, and at how many tokens."""

    budget: int
    total_tokens: int
    frames: list[ShownFrame]
    warnings: list[str]


class Cited(BaseModel):
    """A time range that an answer rests on; nats: how much the odds of the answer fall when it is left out."""

    start_seconds: float
    end_seconds: float
    nats: float


class AnswerFacts(BaseModel):
    """An answer, and what it was measured to rest on: ranges, all of the video, or nothing that was shown.

    confidence: share of right ones among answers that the model found as likely; null where that was never measured.
    """

    answer: str
    confidence: float | None
    verdict: Literal["cited", "spread", "unsupported"] | None
    evidence: list[Cited]
    model: str
    visual_tokens: int
    warnings: list[str]


class SeenRange(BaseModel):
    """A time range in which something is seen; score: how sure the model is, 0.5 to 1, not calibrated."""

    start_seconds: float
    end_seconds: float
    score: float


class FoundFacts(BaseModel):
    """Where something is seen, best first, and the longest time between two frames that were looked at."""

    ranges: list[SeenRange]
    widest_gap_seconds: float
    model: str
    visual_tokens: int
    warnings: list[str]


class ChapterFacts(BaseModel):
    """A part of a video, and what it shows."""

    start_seconds: float
    end_seconds: float
    caption: str


class SummaryFacts(BaseModel):
    """The summary of a video, and its chapters."""

    summary: str
    chapters: list[ChapterFacts]
    model: str
    warnings: list[str]


class FrameFacts(BaseModel):
    """Which frame a picture shows."""

    seconds: float
    width: int
    height: int


def create_server(
    folder: Path, settings: Settings, *, loaded: Any = None, deadline: float = DEADLINE_SECONDS
) -> MCPServer:
    """Return the server for the videos of one folder.

    Args:
        folder: whose videos may be asked about.
        settings: of the server; a call may change some of the plan.
        loaded: a model that is already in memory; else the one that the settings name is loaded at first use.
        deadline: seconds without a sign of life after which a process that decodes is killed.

    Raises:
        UsageError: `folder` is no folder, or an image grid is asked for.
        CheckpointError: no model is named, and what the environment names as the base of `small` is none.
    """
    if settings.layout == "grid":
        raise UsageError("layout grid is for single questions: use m3video ask")
    videos, engine = VideoFolder(folder), Engine(settings, loaded=loaded, deadline=deadline)

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        yield
        await engine.close()

    server: MCPServer = MCPServer(
        "m3video",
        version=__version__,
        instructions="Answers questions about the videos of one folder, within a budget of visual tokens. "
        + "Videos: "
        + (", ".join(list(videos.videos())[:100]) or "none"),
        lifespan=lifespan,
        log_level="ERROR",
    )
    tools = _Tools(videos, engine)
    for tool in (
        tools.probe_video,
        tools.plan_video,
        tools.ask_video,
        tools.find_in_video,
        tools.summarize_video,
        tools.get_frame,
    ):
        server.add_tool(tool, annotations=_READ_ONLY)
    return server


def http_app(server: MCPServer, access: Access) -> Starlette:
    """Return the application that speaks to clients over HTTP, at the path /mcp.

    Args:
        server: as `create_server` returns it.
        access: who may ask; checked as for every other server of this package.
    """
    # The guards check Host and Origin, for every address that may be listened on.
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=unchecked)
    app.add_middleware(Guards, access=access)
    return app


class _Tools:
    """The tools of one server; their docstrings and annotations are what a client reads."""

    def __init__(self, videos: VideoFolder, engine: Engine) -> None:
        self._videos, self._engine = videos, engine

    async def probe_video(self, video: Video) -> VideoFacts:
        """Tell what a video file says: length, size, codec."""
        path = _found(self._videos, video)
        info: VideoInfo = await self._told(self._engine.call(path, lambda session, _: session.info, {}))
        return VideoFacts(
            path=video,
            duration_seconds=info.duration_seconds,
            width=info.width,
            height=info.height,
            frames=info.num_frames,
            codec=info.codec,
            notes=list(info.notes),
        )

    async def plan_video(
        self, video: Video, budget: Budget = None, start: Seconds = None, end: Seconds = None
    ) -> PlanFacts:
        """Choose the frames that the model would be shown, without asking it."""
        path, changes = _found(self._videos, video), _given(budget=budget, start=start, end=end)
        plan: TokenPlan = await self._told(self._engine.call(path, lambda session, left: session.plan(**left), changes))
        return PlanFacts(
            budget=plan.budget,
            total_tokens=plan.total_tokens,
            frames=[ShownFrame(seconds=plan.video.pts_seconds(frame.pts), tokens=frame.scale) for frame in plan.frames],
            warnings=list(plan.warnings),
        )

    async def ask_video(
        self, video: Video, question: str, budget: Budget = None, start: Seconds = None, end: Seconds = None
    ) -> AnswerFacts:
        """Answer a question about a video; a further question about it is cheap."""
        path, changes = _found(self._videos, video), _given(budget=budget, start=start, end=end)
        reply = await self._told(self._engine.ask(Question(path, question, changes, evidence=True)))
        found, record = reply.answer.evidence, answer_record(reply.answer)
        return AnswerFacts(
            answer=reply.answer.text,
            confidence=record["confidence"],
            verdict=None if found is None else found.verdict,
            evidence=[
                Cited(start_seconds=one.start_seconds, end_seconds=one.end_seconds, nats=one.nats)
                for one in (() if found is None else found.ranges)
            ],
            model=reply.answer.model,
            visual_tokens=reply.answer.visual_tokens,
            warnings=record["warnings"],
        )

    async def find_in_video(
        self,
        video: Video,
        query: Annotated[str, Field(description='what is seen: "a red car", or a yes/no question with its mark')],
        budget: Budget = None,
    ) -> FoundFacts:
        """Find where in a video something is seen; a further search in it is cheap."""
        found = await self._told(self._engine.find(_found(self._videos, video), query, _given(budget=budget)))
        return FoundFacts(
            ranges=[
                SeenRange(start_seconds=one.start_seconds, end_seconds=one.end_seconds, score=one.score)
                for one in found.ranges
            ],
            widest_gap_seconds=found.widest_gap_seconds,
            model=found.model,
            visual_tokens=found.visual_tokens,
            warnings=list(found.warnings),
        )

    async def summarize_video(self, video: Video, budget: Budget = None) -> SummaryFacts:
        """Divide a video into chapters with captions, and summarize them; the budget is for each chapter."""
        made = await self._told(self._engine.summarize(_found(self._videos, video), _given(budget=budget)))
        return SummaryFacts(
            summary=made.text,
            chapters=[
                ChapterFacts(**{name: asdict(part)[name] for name in ChapterFacts.model_fields})
                for part in made.chapters
            ],
            model=made.model,
            warnings=list(made.warnings),
        )

    async def get_frame(
        self, video: Video, seconds: Annotated[float, Field(description="as a player shows them", ge=0)]
    ) -> Annotated[CallToolResult, FrameFacts]:
        """Return the frame on screen at a time as a JPEG picture, and its exact time."""
        path = _found(self._videos, video)
        frame, shown = await self._told(
            self._engine.call(path, lambda session, _: _with_time(session.frame_at(seconds), session.info), {})
        )
        picture = Image.fromarray(frame.rgb_HW3)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=85)
        data = base64.b64encode(out.getvalue()).decode()
        facts = FrameFacts(seconds=shown, width=picture.width, height=picture.height)
        return CallToolResult(
            content=[
                ImageContent(type="image", data=data, mime_type="image/jpeg"),
                TextContent(type="text", text=f"{video} at {clock(shown)}"),
            ],
            structured_content=facts.model_dump(),
        )

    async def _told(self, work: Awaitable[T]) -> T:
        """Return the result of `work`; what a user can fix reaches the client as the command's one line."""
        try:
            return await work
        except M3VideoError as error:
            raise ToolError(self._videos.without_root(str(error))) from None


def _with_time(frame: Frame, info: VideoInfo) -> tuple[Frame, float]:
    return frame, info.pts_seconds(frame.pts)


def _given(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def _found(videos: VideoFolder, name: str) -> Path:
    try:
        return videos.find(name)
    except M3VideoError as error:
        raise ToolError(str(error)) from None
