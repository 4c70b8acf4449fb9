"""Checks on where a verb writes, made before it does any work."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from m3video.errors import UsageError
from m3video.utils.text import printable

STDOUT = Path("/dev/stdout")
"""The file that `-o -` names."""


def output_or_stdout(output: Path | None, *, json: bool) -> tuple[Path | None, bool]:
    """Return the file that `-o` names, and whether that is stdout (`-`), where nothing else is printed then.

    Raises:
        UsageError: `--json` prints to stdout already.
    """
    if output != Path("-"):
        return output, False
    if json:
        raise UsageError("-o - and --json both print to stdout: give one")
    return STDOUT, True


def check_stats_name(output: Path | None, *, is_printed: bool) -> None:
    """Raise UsageError when the name of a stats file has another format's suffix, or Parquet would fill a terminal."""
    if output is not None and output.suffix.lower() not in ("", ".parquet", ".pq"):
        raise UsageError(f"-o ({printable(output)}) must end in .parquet: that is what is written (pandas reads it)")
    if is_printed and sys.stdout.isatty():
        raise UsageError("-o - is Parquet, which no terminal shows: name a file, or give a pipe")


def refuse_stdout(flag: str, folder: str | os.PathLike[str] | None) -> None:
    """Raise UsageError when `-` is given for a folder."""
    if folder is not None and os.fspath(folder) == "-":
        raise UsageError(f"{flag} (-) must be a folder, not stdout: name it, as ./- if that is its name")


def check_outputs(video: str, outputs: Mapping[str, Path | None]) -> None:
    """Refuse to write over the video, to write two outputs to one file, or to write into a missing folder.

    Args:
        video: the file that is read.
        outputs: flag -> the file it names, or None.

    Raises:
        UsageError: such an output; the message names the flag.
    """
    taken = {os.path.realpath(video): "the video itself"}
    for flag, path in outputs.items():
        if path in (None, STDOUT):
            continue
        place = os.path.realpath(path)
        if place in taken or (os.path.exists(path) and os.path.exists(video) and os.path.samefile(path, video)):
            raise UsageError(f"{flag} ({path}) is {taken.get(place, 'the video itself')}: name another file")
        if not path.parent.is_dir():
            raise UsageError(f"{flag} ({path}): there is no folder {path.parent}")
        taken[place] = f"what {flag} writes"
