"""What the verbs share: flags that are settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from m3video.config import PLAN_SETTINGS, Settings
from m3video.errors import UsageError
from m3video.utils.text import shown

STDOUT = Path("/dev/stdout")
"""What `-o -` means."""


def setting(name: str) -> Any:
    """A flag for one field of `Settings`: its help and default are written there, once."""
    field = Settings.model_fields[name]
    choices = [str(value) for value in get_args(field.annotation) if isinstance(value, str)]
    text = field.description or ""
    if choices:
        text += f": {', '.join(choices)}"
    if field.default is not None:
        text += f" (default {field.default})"
    return typer.Option(help=text)


Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings (see configs/)")]
Json = Annotated[bool, typer.Option("--json", help="print data as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress, no notes")]

At = Annotated[list[str] | None, setting("at")]
Backend = Annotated[str | None, setting("backend")]
Budget = Annotated[int | None, setting("budget")]
Cache = Annotated[bool | None, setting("cache")]
Detail = Annotated[str | None, setting("detail")]
Device = Annotated[str | None, setting("device")]
Dtype = Annotated[str | None, setting("dtype")]
End = Annotated[str | None, setting("end")]
EveryShot = Annotated[bool | None, setting("every_shot")]
Fps = Annotated[float | None, setting("fps")]
MaxFrames = Annotated[int | None, setting("max_frames")]
MaxGap = Annotated[float | None, setting("max_gap")]
MaxNewTokens = Annotated[int | None, setting("max_new_tokens")]
MaxPixels = Annotated[int | None, setting("max_pixels")]
Memory = Annotated[str | None, setting("memory")]
Model = Annotated[str | None, setting("model")]
NumFrames = Annotated[int | None, setting("num_frames")]
Quantize = Annotated[str | None, setting("quantize")]
Saliency = Annotated[str | None, setting("saliency")]
Sampling = Annotated[str | None, setting("sampling")]
Scan = Annotated[str | None, setting("scan")]
Start = Annotated[str | None, setting("start")]
Timestamps = Annotated[bool | None, setting("timestamps")]
Tower = Annotated[str | None, setting("vision_tower")]
VisionBatch = Annotated[int | None, setting("vision_batch")]


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a verb that are settings and were given."""
    # An option that may be repeated is an empty list when it was not given.
    flags = {name: arguments[name] for name in Settings.model_fields if arguments.get(name) not in (None, [])}
    if "at" in flags:
        flags["at"] = ", ".join(flags["at"])
    return flags


def refuse_decided(plan: Path | None, flags: Mapping[str, Any]) -> None:
    """UsageError when a flag asks for something that a saved plan has already decided."""
    decided = [name for name in flags if name in PLAN_SETTINGS]
    if plan is not None and decided:
        raise UsageError(f"--plan {plan} already decides --{decided[0].replace('_', '-')}: give one of the two")


def output_or_stdout(output: Path | None, *, json: bool) -> tuple[Path | None, bool]:
    """Where `-o` writes, and whether that is stdout by the name `-`: then nothing else is printed there.

    Raises:
        UsageError: `--json` prints there already.
    """
    if output != Path("-"):
        return output, False
    if json:
        raise UsageError("-o - and --json both print to stdout: give one")
    return STDOUT, True


def check_stats_name(output: Path | None, *, is_printed: bool) -> None:
    """UsageError when the stats would be called what they are not, or be printed where only text can be."""
    if output is not None and output.suffix.lower() not in ("", ".parquet", ".pq"):
        raise UsageError(f"-o ({shown(output)}) must end in .parquet: that is what is written (pandas reads it)")
    if is_printed and sys.stdout.isatty():
        raise UsageError("-o - is Parquet, which no terminal shows: name a file, or give a pipe")


def refuse_stdout(flag: str, folder: str | os.PathLike[str] | None) -> None:
    """UsageError when `-` names what is a folder."""
    if folder is not None and os.fspath(folder) == "-":
        raise UsageError(f"{flag} (-) is a folder, and stdout holds none: name it, as ./- if that is its name")


def check_outputs(video: str, outputs: Mapping[str, Path | None]) -> None:
    """Refuse to write over the video, two things to one file, or into a folder that is not there.

    Args:
        video: the file that is read.
        outputs: flag -> where it writes, if it was given.

    Raises:
        UsageError: such an output; the flag is named.
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
