"""Whether texts can be drawn here."""

from __future__ import annotations

from m3video.errors import UsageError
from m3video.training.natural.overlaid_text import fonts
from m3video.training.natural.splits import Part


def fonts_installed(part: Part = "train") -> bool:
    """Return whether this machine has a font of the part."""
    try:
        return bool(fonts(part))
    except UsageError:
        return False
