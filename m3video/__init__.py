"""Two-pass rate control for video language models, with visual tokens as the bits.

`import m3video` loads nothing heavy; each name below is imported from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3video.config import Settings
    from m3video.inference.pipeline import plan_video
    from m3video.inference.session import VideoSession, ask
    from m3video.model.m3.checkpoint import load as load_model

__version__ = "0.1.0"

__all__ = ["Settings", "VideoSession", "__version__", "ask", "load_model", "plan_video"]

_SOURCES = {
    "Settings": ("m3video.config", "Settings"),
    "VideoSession": ("m3video.inference.session", "VideoSession"),
    "ask": ("m3video.inference.session", "ask"),
    "load_model": ("m3video.model.m3.checkpoint", "load"),
    "plan_video": ("m3video.inference.pipeline", "plan_video"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _SOURCES:
        raise AttributeError(f"module 'm3video' has no attribute '{name}'")
    module, attribute = _SOURCES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
