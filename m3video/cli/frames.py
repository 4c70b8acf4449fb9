"""`m3video frames`: the frames of a plan as files or as a message, for those who call their model themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3video.cli.options import GivenSettings, Quiet, Video, with_settings


@with_settings("backend", "max_pixels")
def frames(
    video: Video,
    *,
    plan: Annotated[Path, typer.Option("--plan", help="the plan whose frames are written", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="a new folder, or a .json file for messages", show_default=False)
    ],
    given: GivenSettings,
    quiet: Quiet = False,
) -> None:
    """Write the frames of a plan for another model.

    A folder receives JPEG files and frames.json with their times. A .json file receives the messages of an OpenAI chat
    request, without the question. A frame of N tokens has at most N squares of 28 pixels, the tokens of Qwen2.5-VL.

    Example: m3video frames film.mp4 --plan plan.json -o messages.json
    """
    from m3video.cli.outputs import check_outputs, refuse_stdout
    from m3video.cli.terminal import make_progress, print_notes
    from m3video.errors import UsageError
    from m3video.inference.pipeline import open_for
    from m3video.planning.plan_file import for_video, load_plan
    from m3video.report.frame_files import LEAST_TOKENS, WRITERS
    from m3video.utils.text import counted, printable

    refuse_stdout("-o", output)
    check_outputs(video, {"-o": output, "--plan": plan})
    write = WRITERS.get(output.suffix.lower())
    if write is None:
        raise UsageError(f"-o ({printable(output)}) must be a folder, whose name has no dot, or end in .json")
    saved = load_plan(plan)
    if not saved.frames or saved.grid_tokens is not None:
        raise UsageError(f"--plan ({printable(plan)}) must show frames one by one: it shows none, or one image grid")
    with open_for(video, given.resolve()) as reader:
        saved = for_video(saved, reader.info)
        try:
            write(reader, saved, output, progress=make_progress(quiet=quiet))
        except OSError as error:
            raise UsageError(f"-o ({printable(output)}) cannot be written: {error.strerror}") from None
    small = sum(frame.scale < LEAST_TOKENS for frame in saved.frames)
    notes = list(saved.warnings)
    if small:
        notes.append(f"{counted(small, 'frame')} below {LEAST_TOKENS} tokens: Qwen2.5-VL enlarges them to more tokens")
    print_notes([] if quiet else notes)
