"""Files of figures and pages: refused before any work when they cannot be written, and replaced as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m3video.errors import PlanError, UsageError
from m3video.utils.files import replacing

DPI = 100
PICTURE_SUFFIXES = (".png", ".svg", ".pdf")


def check_drawable(plot: Path | None, html: Path | None) -> None:
    """Raise before any work is done when a picture or page could not be drawn or written after it.

    Args:
        plot: file of the picture, if one is wanted.
        html: file of the page, if one is wanted.

    Raises:
        UsageError: matplotlib is not installed, a folder does not exist, or a name ends in no known format.
    """
    if plot is None and html is None:
        return
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise UsageError("pictures of plans need matplotlib: pip install 'm3video[plots]'") from None
    for flag, path in (("--plot", plot), ("--html", html)):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{flag} ({path}): there is no folder {path.parent}")
    if plot is not None and plot.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"--plot ({plot}) must end in {', '.join(PICTURE_SUFFIXES[:-1])} or {PICTURE_SUFFIXES[-1]}")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html ({html}) must end in .html or .htm")


def save_picture(figure: Any, path: Path) -> None:
    """Write a matplotlib figure in the format of the file name; an existing file is replaced only on success.

    Raises:
        PlanError: the file cannot be written.
    """
    try:
        with replacing(path) as part:
            figure.savefig(part, format=path.suffix.lower()[1:], dpi=DPI)
    except OSError as error:
        raise PlanError(f"picture {path} cannot be written: {error.strerror}") from None
