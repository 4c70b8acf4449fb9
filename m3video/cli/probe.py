"""`m3video probe`: what a video file says, and what reading its packets verified."""

from __future__ import annotations

from typing import Annotated

import typer

from m3video.cli.options import GivenSettings, Json, Video, with_settings


@with_settings("backend", "max_pixels")
def probe(
    video: Video,
    *,
    given: GivenSettings,
    json: Json = False,
    pts: Annotated[bool, typer.Option("--pts", help="also list the pts of every frame, in display order")] = False,
) -> None:
    """Show what a video file holds, verified packet by packet.

    Times are those of a player, as in all verbs: 0:00 is where sound or picture starts, whichever is first. A pts is
    the file's own number.

    Example: m3video probe film.mp4 --json
    """
    from m3video.cli.terminal import print_json, print_notes
    from m3video.inference.pipeline import open_for
    from m3video.report.video_text import info_record, info_text

    settings = given.resolve()
    with open_for(video, settings) as reader:
        all_pts = reader.index.pts_N.tolist() if pts else []
        info = reader.info
    if json:
        print_json({**info_record(info), **({"pts": all_pts} if pts else {})})
    else:
        print("\n".join([info_text(info), *map(str, all_pts)]))
        print_notes(info.notes)
