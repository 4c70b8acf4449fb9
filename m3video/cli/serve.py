"""`m3video serve`: answers over HTTP, with the API of OpenAI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3video.cli.options import ANSWERING, PLANNING, VIDEO, GivenSettings, with_settings
from m3video.errors import UsageError


@with_settings(PLANNING, "saliency", ANSWERING, VIDEO, "cache")
def serve(
    folder: Annotated[Path, typer.Argument(help="the folder whose videos may be asked about", show_default=False)],
    *,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on")] = 8000,
    given: GivenSettings,
) -> None:
    """Answer questions about the videos of a folder over HTTP, as OpenAI's servers do.

    Example: m3video serve films/
    """
    settings = given.resolve()
    try:
        from m3video.serve.app import create_app
        from m3video.serve.run import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "m3video":
            raise
        raise UsageError(f"the server needs {error.name}: pip install 'm3video[serve]'") from None
    run(create_app(folder, settings), host=host, port=port)
