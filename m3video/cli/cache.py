"""`m3video cache`: list or trim the cache folder."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from m3video.cli.options import Json
from m3video.config import load_settings
from m3video.errors import M3VideoError
from m3video.utils.cache import KINDS, Cache, cache_root
from m3video.utils.units import size_text

app = typer.Typer(
    name="cache",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List or trim the cache of scans and visual features.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_LEAST_PATH_WIDTH = 20
"""Columns that a path gets at least; with fewer beside the other facts it takes a line of its own."""


@app.command()
def ls(json: Json = False) -> None:
    """List what the cache keeps, latest used first.

    That is visual features of frames ("grids"), first passes over videos ("scans"), and models put together from
    their parts ("models").

    The folder is M3VIDEO_CACHE_DIR, else m3video in the user's cache folder; M3VIDEO_CACHE_GIB is its limit, which
    does not count models.

    Example: m3video cache ls
    """
    from m3video.cli.terminal import print_json

    cache = _cache()
    rows = list(cache.rows())
    total = sum(row["bytes"] for row in rows if row["kind"] in KINDS)
    if json:
        print_json({"folder": str(cache.root), "bytes": total, "most_bytes": cache.most_bytes, "entries": rows})
        return
    print(f"{cache.root}: {size_text(total, three_digits=True)} of {size_text(cache.most_bytes, three_digits=True)}")
    if rows:
        print(table(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))


@app.command()
def prune(
    keep_gib: Annotated[
        float | None,
        typer.Option(
            min=0, help="keep this much of what was used last (default: the limit of the cache); 0 empties it"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Remove what was used least recently.

    The cache does so by itself at its limit. Models are removed only with --keep-gib 0, and made again when used.

    Example: m3video cache prune --keep-gib 0
    """
    from m3video.cli.terminal import print_json

    cache = _cache()
    count, freed = cache.trim(None if keep_gib is None else round(keep_gib * 2**30))
    if keep_gib == 0:
        models, their_bytes = cache.remove_models()
        count, freed = count + models, freed + their_bytes
    if json:
        print_json({"folder": str(cache.root), "removed_files": count, "removed_bytes": freed})
    else:
        print(f"{cache.root}: removed {count} files, {size_text(freed, three_digits=True)}")
    if cache.notes:
        raise M3VideoError(cache.notes[0])


def table(rows: Sequence[Mapping[str, Any]], width: int | None) -> str:
    """Return entries of the cache as a table.

    Args:
        rows: at least one, from `Cache.rows`.
        width: of the terminal in columns, to which paths are cut; None cuts nothing.
    """
    room = None if width is None else width - 42
    gap, title = " ", "last used        of"
    if width is not None and width - 42 < _LEAST_PATH_WIDTH:
        gap, title, room = "\n  ", "last used\n  of", width - 2
    lines = [f"{'kind':<6}{'files':>6}{'size':>10}  {title}"]
    for row in rows:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["used"]))
        facts = f"{row['kind']:<6}{row['files']:>6}{size_text(row['bytes'], three_digits=True):>10}  {used:<16}"
        lines.append(f"{facts}{gap}{_path_text(row, room)}")
    return "\n".join(lines)


def _cache() -> Cache:
    return Cache(cache_root(), round(load_settings({}).cache_gib * 2**30))


def _path_text(row: Mapping[str, Any], room: int | None) -> str:
    """Return the video or model and what it was read with or made from, a long path cut to its end."""
    from m3video.utils.text import printable

    what = row.get("video") or row.get("name")
    source = row.get("model") or row.get("scan") or row.get("base")
    text = printable(f"{what} ({source})" if what and source else "damaged")
    return text if room is None or len(text) <= room else "..." + text[3 - max(room, _LEAST_PATH_WIDTH) :]
