"""`m3video summarize`: videos as chapters and a summary with times, printed one after the other."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from m3video.cli.options import (
    ANSWERING,
    BUDGET_OF_SUMMARY,
    SPENDING,
    VIDEO,
    GivenSettings,
    Json,
    Quiet,
    with_settings,
)
from m3video.config import Settings
from m3video.errors import M3VideoError, UsageError
from m3video.utils.text import json_text

if TYPE_CHECKING:
    from m3video.model.m3.default_model import DecidedModel


@with_settings(SPENDING, ANSWERING, VIDEO, help={"budget": BUDGET_OF_SUMMARY})
def summarize(
    videos: Annotated[list[str], typer.Argument(help="local video files", show_default=False)],
    *,
    format: Annotated[
        Literal["json", "csv", "srt", "vtt", "md"] | None,
        typer.Option(help="of what is printed (default md); json is a line for each video"),
    ] = None,
    given: GivenSettings,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Summarize videos: captioned chapters, sentences with times.

    Budget, frames and answer length are for each chapter (at most two minutes); a summary may be four times longer.
    Times are those of a player, so subtitles fit the file.

    Example: m3video summarize film.mp4 --format srt > film.srt
    """
    from m3video.cli.memory import fit_or_keep
    from m3video.cli.terminal import print_notes
    from m3video.model.m3.default_model import with_model

    if json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} contradict each other: give one")
    format = "json" if json else format or "md"
    if format in ("srt", "vtt") and len(videos) > 1:
        raise UsageError(f"--format {format} holds one video: use m3video batch --task summarize --format {format}")
    settings, decided = with_model(given.resolve())
    settings, fitted = fit_or_keep(settings)
    print_notes([] if quiet else [*decided.notes, *(() if fitted is None else fitted.notes)])
    _summarize_each(videos, settings, format, decided, quiet=quiet)


def _summarize_each(videos: list[str], settings: Settings, format: str, decided: DecidedModel, *, quiet: bool) -> None:
    """Print one summary after the other; a video that fails costs one line, and exit code 3 at the end."""
    from m3video.cli.terminal import make_progress, print_notes
    from m3video.distributed.batch import InterruptedBatchError, SomeFailedError
    from m3video.distributed.tasks import load_model
    from m3video.inference.evidence import rendered_note
    from m3video.inference.summary.summarize import refuse_ranges
    from m3video.inference.summary.summarize import summarize as summarize_video
    from m3video.inference.summary.values import to_json
    from m3video.report.summary_files import FORMATS

    refuse_ranges(settings)
    loaded, failed = load_model(settings), 0
    try:
        for number, video in enumerate(videos):
            try:
                made = summarize_video(video, settings, loaded=loaded, progress=make_progress(quiet=quiet))
            except M3VideoError as error:
                if len(videos) == 1:
                    raise
                failed += 1
                print(f"m3video: error: {error}", file=sys.stderr)
                continue
            # Beside the note on a fallback, which was printed, the one on this model would say the same again.
            about = decided.notes if decided.is_fallback else rendered_note(loaded, video)
            made = replace(made, warnings=tuple(dict.fromkeys((*made.warnings, *about))))
            if format == "json":
                print(json_text(to_json(made)))
            else:
                text = FORMATS[format](made)
                # One table, not one for each video.
                print(text.partition("\n")[2] if format == "csv" and number > failed else text, end="")
            print_notes(
                [] if quiet or format == "md" else [note for note in made.warnings if note not in decided.notes]
            )
    except KeyboardInterrupt:
        raise InterruptedBatchError("interrupted") from None
    if failed:
        raise SomeFailedError(f"{failed} of {len(videos)} videos failed")
