"""`m3video serve`: answers over HTTP, with the API of OpenAI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3video.cli.options import ANSWERING, PLANNING, VIDEO, GivenSettings, Quiet, with_settings
from m3video.errors import UsageError


@with_settings(PLANNING, "saliency", ANSWERING, "scan_seconds", VIDEO, "cache")
def serve(
    folder: Annotated[Path, typer.Argument(help="the folder whose videos may be asked about", show_default=False)],
    *,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="M3VIDEO_API_KEY", help="what every request must carry as a bearer token"),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="let other machines ask without a key (with --host)")
    ] = False,
    allow_remote: Annotated[
        list[str] | None, typer.Option(help="host that https URLs of requests may be fetched from; repeat")
    ] = None,
    given: GivenSettings,
    quiet: Quiet = False,
) -> None:
    """Answer questions about the videos of a folder over HTTP, as OpenAI's servers do.

    Clients give the address as base URL. Settings are those of requests that do not give their own.

    Example: m3video serve films/
    """
    from m3video.cli.terminal import print_notes

    settings = given.resolve()
    try:
        from m3video.serve.app import create_app
        from m3video.serve.guards import Access
        from m3video.serve.remote import RemoteMedia
        from m3video.serve.run import is_loopback, listen, run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "m3video":
            raise
        raise UsageError(f"the server needs {error.name}: pip install 'm3video[serve]'") from None
    if api_key is not None and (not api_key.strip() or not api_key.isascii() or not api_key.isprintable()):
        raise UsageError("--api-key must be printable ASCII that is not blank")
    if insecure and api_key is not None:
        raise UsageError("--insecure and --api-key contradict each other: give one")
    if not is_loopback(host) and api_key is None and not insecure:
        raise UsageError(
            f"--host {host} lets other machines ask: give --api-key, or --insecure to let everybody read the folder"
        )
    remote = RemoteMedia(allow_remote) if allow_remote else None
    app = create_app(folder, settings, access=Access(host=host, api_key=api_key), remote=remote)
    notes = list(app.state.served.engine.notes)
    if not is_loopback(host) and insecure:
        notes.append(f"whoever reaches {host} may ask about every video of {folder}, and needs no key")
    print_notes([] if quiet else notes)
    run(app, listen(host, port))
