"""What the routes of one application share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from m3video.config import Settings
from m3video.serve.engine import Engine
from m3video.serve.files import VideoFolder


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """The folder, the engine and the settings of one application."""

    folder: VideoFolder
    engine: Engine
    settings: Settings


def served_of(request: Request) -> Served:
    """Return what the application of a request serves."""
    served = request.app.state.served
    assert isinstance(served, Served)
    return served


ServedNow = Annotated[Served, Depends(served_of)]
"""The type of a route's parameter that receives it."""
