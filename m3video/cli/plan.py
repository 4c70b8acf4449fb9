"""`m3video plan`: which frames to show at which token scale, as a table, a file, a picture or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m3video.cli.options import MODEL, PLANNING, VIDEO, GivenSettings, Json, Quiet, Video, with_settings
from m3video.cli.outputs import check_outputs, output_or_stdout

if TYPE_CHECKING:
    from m3video.inference.pipeline import PlanDetails
    from m3video.report.plan_text import Row
    from m3video.report.thumbnails import Thumbnails


@with_settings(PLANNING, "timestamps", MODEL, "scan_seconds", VIDEO, "cache")
def plan(
    video: Video,
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="write the plan (JSON, - is stdout)")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="draw the plan: a .png, .svg or .pdf file")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write the plan as one page for a browser")] = None,
    given: GivenSettings,
    measure: Annotated[bool, typer.Option("--measure", help="run what fits once and show its peak memory")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Choose frames and their token scales within a budget.

    The plan is provably the best within the budget. The model does not run; naming it tells how many text tokens it
    will read around the frames. With --memory the budget is the largest that fits (a --budget is then a ceiling); only
    the model's config and file headers are read.

    Example: m3video plan film.mp4 --budget 2880 -o plan.json --plot plan.png
    """
    from m3video.cli.memory import budget_flag, fit_or_keep, memory_notes, memory_rows
    from m3video.cli.terminal import make_progress
    from m3video.inference.decision import binding_limits
    from m3video.inference.first_pass import with_scan_frames
    from m3video.inference.latency import default_file, estimate
    from m3video.inference.pipeline import cache_of, open_for, plan_details
    from m3video.model.m3.default_model import with_model
    from m3video.planning.plan_file import save_plan
    from m3video.report.picture_file import check_drawable
    from m3video.report.plan_page import MOST_IN_PAGE
    from m3video.report.plan_plot import MOST_IN_PLOT
    from m3video.report.plan_text import plan_facts, time_fact
    from m3video.report.thumbnails import fetch_thumbnails
    from m3video.utils.progress import Meter

    settings, progress = given.resolve(), make_progress(quiet=quiet)
    output, is_printed = output_or_stdout(output, json=json)
    check_outputs(video, {"-o": output, "--plot": plot, "--html": html})
    check_drawable(plot, html)
    settings, decided = with_model(settings)
    settings, fitted = fit_or_keep(settings, measure=measure)
    fits = memory_rows(fitted, measure=measure, progress=progress)
    meter, cache = Meter(), cache_of(settings)
    with open_for(video, settings) as reader:
        settings = with_scan_frames(settings, reader)
        with meter.stage("plan"):
            details = plan_details(reader, settings, cache=cache, progress=progress)
        if output is not None:
            save_plan(details.plan, output)
        most = MOST_IN_PAGE if html is not None else MOST_IN_PLOT if plot is not None else 0
        thumbnails = fetch_thumbnails(reader, details.plan, most=most, progress=progress) if most else {}
    if cache is not None:
        cache.settle()
    warnings = [*decided.notes, *memory_notes(fitted), *details.plan.warnings, *([] if cache is None else cache.notes)]
    are_shown = not json or plot is not None or html is not None
    limits = binding_limits(details, budget_flag=budget_flag(fitted)) if are_shown else None
    facts = [*plan_facts(details.plan, limits), *fits]
    _draw(details, facts, thumbnails, plot=plot, html=html)
    if json:
        _print_record(details, [*(f"{name}: {text}" for name, text in fits), *warnings])
    else:
        took = time_fact(meter.stage_seconds["plan"], estimate(details.plan, settings, default_file()))
        _print_table(details, [*facts, took], warnings, is_table=not is_printed, quiet=quiet)


def _draw(
    details: PlanDetails, facts: Sequence[Row], thumbnails: Thumbnails, *, plot: Path | None, html: Path | None
) -> None:
    """Write the picture and the page that were asked for."""
    from m3video.report.picture_file import save_picture
    from m3video.report.plan_page import save_page
    from m3video.report.plan_plot import draw_plan

    if plot is not None:
        save_picture(draw_plan(details, facts, thumbnails), plot)
    if html is not None:
        save_page(details, facts, thumbnails, html)


def _print_record(details: PlanDetails, warnings: Sequence[str]) -> None:
    """Print the plan as JSON."""
    from m3video.cli.terminal import print_json
    from m3video.planning.plan_file import to_json

    print_json(to_json(replace(details.plan, warnings=tuple(warnings))))


def _print_table(
    details: PlanDetails, facts: Sequence[Row], warnings: Sequence[str], *, is_table: bool, quiet: bool
) -> None:
    """Print the plan as a table, unless the plan itself was printed, and the notes."""
    from m3video.cli.terminal import print_notes
    from m3video.report.plan_text import plan_text

    if is_table:
        print(plan_text(details.plan, facts=facts))
    print_notes([] if quiet else [*details.plan.video.notes, *warnings])
