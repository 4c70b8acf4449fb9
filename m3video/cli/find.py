"""`m3video find`: where in a video something is seen."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from m3video.cli.options import MODEL, PLANNING, VIDEO, GivenSettings, Json, Quiet, Video, with_settings
from m3video.errors import UsageError


@with_settings(PLANNING, MODEL, "scan_seconds", VIDEO, "cache")
def find(
    video: Video,
    query: Annotated[str, typer.Argument(help='what is seen: "a red car", or a yes/no question', show_default=False)],
    *,
    top: Annotated[int, typer.Option(min=1, help="most ranges that are listed")] = 10,
    format: Annotated[
        Literal["json", "csv", "srt"] | None, typer.Option(help="of what is printed, instead of text")
    ] = None,
    given: GivenSettings,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find where in a video something is seen.

    The model is asked about single frames, within the budget. The score says how sure it is; it is not calibrated.

    Example: m3video find film.mp4 "a red car" --budget 400
    """
    from m3video.cli.terminal import make_progress, print_json, print_notes
    from m3video.inference.find import find as find_in
    from m3video.inference.find import question_of
    from m3video.inference.session import VideoSession
    from m3video.report.find_files import found_csv, found_record, found_srt, found_text

    if json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} contradict each other: give one")
    question_of(query)  # an empty one is refused before the video is opened
    with VideoSession(video, given.resolve(), keeps_looking=False, progress=make_progress(quiet=quiet)) as session:
        found, notes = find_in(session, query), session.info.notes
    ranges = found.ranges[:top]
    if json or format == "json":
        print_json(found_record(found, ranges))
    elif format == "csv":
        print(found_csv(found, ranges), end="")
    elif format == "srt":
        print(found_srt(found, ranges), end="")
    else:
        print(found_text(found, ranges))
        print_notes([] if quiet else [*notes, *found.warnings])
