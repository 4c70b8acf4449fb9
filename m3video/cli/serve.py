"""`m3video serve`: answers over HTTP, with the API of OpenAI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3video.cli.listening import ApiKey, Host, Insecure, Port, access_of
from m3video.cli.options import ANSWERING, PLANNING, VIDEO, GivenSettings, Quiet, with_settings
from m3video.errors import UsageError


@with_settings(PLANNING, "saliency", ANSWERING, "scan_seconds", VIDEO, "cache")
def serve(
    folder: Annotated[Path, typer.Argument(help="the folder whose videos may be asked about", show_default=False)],
    *,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key: ApiKey = None,
    insecure: Insecure = False,
    allow_remote: Annotated[
        list[str] | None, typer.Option(help="host that https URLs of requests may be fetched from; repeat")
    ] = None,
    given: GivenSettings,
    quiet: Quiet = False,
) -> None:
    """Serve a page and the API of OpenAI for a folder of videos.

    Clients give the address as base URL. Settings are those of requests that do not give their own.

    Example: m3video serve films/
    """
    from m3video.cli.terminal import print_notes

    settings = given.resolve()
    try:
        from m3video.serve.app import create_app
        from m3video.serve.remote import RemoteMedia
        from m3video.serve.run import listen, run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "m3video":
            raise
        raise UsageError(f"the server needs {error.name}: pip install 'm3video[serve]'") from None
    access, cautions = access_of(host, api_key=api_key, insecure=insecure, folder=folder)
    remote = RemoteMedia(allow_remote) if allow_remote else None
    app = create_app(folder, settings, access=access, remote=remote)
    print_notes([] if quiet else [*app.state.served.engine.notes, *cautions])
    run(app, listen(host, port))
