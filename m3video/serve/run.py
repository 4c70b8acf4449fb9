"""Run the application until the process is told to stop."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI


def run(app: FastAPI, *, host: str, port: int) -> None:
    """Listen on `host` and `port` until SIGTERM or Ctrl-C."""
    uvicorn.run(app, host=host, port=port)
