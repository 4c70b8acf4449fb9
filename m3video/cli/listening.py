"""Options of the verbs that listen for requests, and who may send some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m3video.errors import UsageError

if TYPE_CHECKING:
    from m3video.serve.guards import Access

Host = Annotated[str, typer.Option(help="address to listen on")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="M3VIDEO_API_KEY", help="what every request must carry as a bearer token")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="let other machines ask without a key (with --host)")]


def access_of(host: str, *, api_key: str | None, insecure: bool, folder: Path) -> tuple[Access, tuple[str, ...]]:
    """Return who may ask, and notes for whoever starts the server.

    Raises:
        UsageError: the key is none, options contradict each other, or other machines could ask without a key.
    """
    from m3video.serve.guards import Access, is_loopback

    if api_key is not None and (not api_key.strip() or not api_key.isascii() or not api_key.isprintable()):
        raise UsageError("--api-key must be printable ASCII that is not blank")
    if insecure and api_key is not None:
        raise UsageError("--insecure and --api-key contradict each other: give one")
    if not is_loopback(host) and api_key is None and not insecure:
        raise UsageError(
            f"--host {host} lets other machines ask: give --api-key, or --insecure to let everybody read the folder"
        )
    notes: tuple[str, ...] = ()
    if not is_loopback(host) and insecure:
        notes = (f"whoever reaches {host} may ask about every video of {folder}, and needs no key",)
    return Access(host=host, api_key=api_key), notes
