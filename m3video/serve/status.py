"""`GET /health` and `GET /metrics`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from m3video import __version__
from m3video.serve.state import ServedNow

router = APIRouter()


@router.get("/health")
async def health(served: ServedNow) -> dict[str, Any]:
    """Say that the server lives, and what it does."""
    return {"status": "ok", "version": __version__, "model": served.engine.model, "waiting": served.engine.waiting}


@router.get("/metrics")
async def metrics(served: ServedNow) -> Response:
    """Return the counts of this server for Prometheus."""
    return Response(served.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
