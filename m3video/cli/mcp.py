"""`m3video mcp`: a folder of videos as tools for assistants, over stdin and stdout."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from m3video.cli.options import ANSWERING, PLANNING, VIDEO, GivenSettings, Quiet, with_settings
from m3video.errors import EXIT_INTERRUPTED, UsageError


@with_settings(PLANNING, "saliency", ANSWERING, "scan_seconds", VIDEO, "cache")
def mcp(
    folder: Annotated[Path, typer.Argument(help="the folder whose videos may be asked about", show_default=False)],
    *,
    given: GivenSettings,
    quiet: Quiet = False,
) -> None:
    """Serve tools of the Model Context Protocol: probe_video, plan_video, ask_video, summarize_video, get_frame.

    An assistant starts this command and speaks with it over its stdin and stdout.

    Example: m3video mcp films/
    """
    from m3video.cli.terminal import print_notes
    from m3video.model.m3.default_model import with_model
    from m3video.model.m3.model_paths import find_model

    settings, decided = with_model(given.resolve())
    try:
        from m3video.serve.mcp_tools import create_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "m3video":
            raise
        raise UsageError(f"the tools need {error.name}: pip install 'm3video[serve]'") from None
    find_model(settings.model, vision_tower=settings.vision_tower)  # weights are loaded at the first question
    server = create_server(folder, settings)
    print_notes([] if quiet else decided.notes)
    # A thread waits for stdin, and nothing but the end of the process makes it stop.
    signal.signal(signal.SIGINT, _interrupt)
    server.run()


def _interrupt(*_: object) -> NoReturn:
    print("m3video: interrupted", file=sys.stderr, flush=True)
    os._exit(EXIT_INTERRUPTED)
