"""`m3video mcp`: a folder of videos as tools for assistants, over stdin and stdout or over HTTP."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from m3video.cli.listening import ApiKey, Host, Insecure, Port, access_of
from m3video.cli.options import ANSWERING, PLANNING, VIDEO, GivenSettings, Quiet, with_settings
from m3video.errors import EXIT_INTERRUPTED, UsageError


@with_settings(PLANNING, "saliency", ANSWERING, "scan_seconds", VIDEO, "cache")
def mcp(
    folder: Annotated[Path, typer.Argument(help="the folder whose videos may be asked about", show_default=False)],
    *,
    http: Annotated[bool, typer.Option("--http", help="over HTTP, at the path /mcp")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8001,
    api_key: ApiKey = None,
    insecure: Insecure = False,
    given: GivenSettings,
    quiet: Quiet = False,
) -> None:
    """Offer a folder of videos to assistants, as MCP tools.

    The tools of the Model Context Protocol are probe_video, plan_video, ask_video, find_in_video, and more.
    An assistant starts this command and speaks with it over its stdin and stdout; with --http, any number of them over
    the network (--host, --port, --api-key, --insecure are for that).

    Example: m3video mcp films/
    """
    from m3video.cli.terminal import print_notes
    from m3video.model.m3.default_model import with_model
    from m3video.model.m3.model_paths import find_model

    if not http and (host != "127.0.0.1" or port != 8001 or insecure):
        raise UsageError("--host, --port and --insecure are for --http: give that as well")
    settings, decided = with_model(given.resolve())
    try:
        from m3video.serve.mcp_tools import create_server, http_app
        from m3video.serve.run import address_of, listen, run_on
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "m3video":
            raise
        raise UsageError(f"the tools need {error.name}: pip install 'm3video[serve]'") from None
    find_model(settings.model, vision_tower=settings.vision_tower)  # weights are loaded at the first question
    server = create_server(folder, settings)
    if http:
        access, cautions = access_of(host, api_key=api_key, insecure=insecure, folder=folder)
        print_notes([] if quiet else [*decided.notes, *cautions])
        listening = listen(host, port)
        print(f"m3video: the tools are at {address_of(listening)}/mcp (Ctrl-C ends it)", file=sys.stderr)
        run_on(http_app(server, access), listening)
        return
    print_notes([] if quiet else decided.notes)
    # A thread waits for stdin, and nothing but the end of the process makes it stop.
    signal.signal(signal.SIGINT, _interrupt)
    server.run()


def _interrupt(*_: object) -> NoReturn:
    print("m3video: interrupted", file=sys.stderr, flush=True)
    os._exit(EXIT_INTERRUPTED)
