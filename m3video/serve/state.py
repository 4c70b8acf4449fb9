"""What the routes of one application share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from m3video.serve.engine import Engine
from m3video.serve.files import VideoFolder
from m3video.serve.media import MediaStore
from m3video.serve.metrics import Metrics


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """What one application serves.

    Attributes:
        folder: whose files may be read.
        engine: the model and the sessions.
        media: files of what requests bring.
        metrics: counts.
        started: seconds since 1970.
    """

    folder: VideoFolder
    engine: Engine
    media: MediaStore
    metrics: Metrics
    started: int


def served_of(request: Request) -> Served:
    """Return what the application of a request serves."""
    served = request.app.state.served
    assert isinstance(served, Served)
    return served


ServedNow = Annotated[Served, Depends(served_of)]
"""The type of a route's parameter that receives it."""
