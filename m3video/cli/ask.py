"""`m3video ask`: one question about one video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from m3video.cli.options import (
    ANSWERING,
    PLANNING,
    VIDEO,
    Evidence,
    GivenSettings,
    Json,
    Quiet,
    SavedPlan,
    Schema,
    Video,
    refuse_decided,
    with_settings,
)

if TYPE_CHECKING:
    from m3video.config import Settings
    from m3video.types import Answer


@with_settings(PLANNING, "saliency", "layout", ANSWERING, "abstain", "scan_seconds", VIDEO, "cache")
def ask(
    video: Video,
    question: Annotated[str, typer.Argument(help="what to ask", show_default=False)],
    *,
    plan: SavedPlan = None,
    option: Annotated[list[str] | None, typer.Option(help="an answer to choose from; repeat (grid layout)")] = None,
    schema: Schema = None,
    evidence: Evidence = True,
    given: GivenSettings,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask a question about a video.

    Example: m3video ask film.mp4 "What is the man doing at 0:03?" --budget 720
    """
    from m3video.cli.terminal import make_progress, print_json, print_notes
    from m3video.inference.session import VideoSession
    from m3video.planning.plan_file import load_plan
    from m3video.report.answer_text import answer_details, answer_record

    refuse_decided(plan, given)
    settings = given.resolve(schema=schema)
    saved = None if plan is None else load_plan(plan)
    with VideoSession(video, settings, keeps_looking=False, progress=make_progress(quiet=quiet)) as session:
        answer = session.ask(question, plan=saved, options=option or (), evidence=False)
        if not json:
            print(answer.text + "\n", flush=True)  # before it is tested what the answer rests on
        answer = session.with_evidence(answer) if evidence else answer
    if json:
        print_json(answer_record(answer))
    else:
        print(answer_details(answer))
        print_notes([] if quiet else [*answer.plan.video.notes, *answer.warnings])
    if answer.plan.grid_tokens is None:
        _remember_time(answer, settings, quiet=quiet)


def _remember_time(answer: Answer, settings: Settings, *, quiet: bool) -> None:
    """Save what the answer took, so that `plan` can predict the next one."""
    from m3video.cli.terminal import print_notes
    from m3video.inference.latency import default_file, remember

    try:
        remember(answer, settings, default_file())
    except OSError as error:
        print_notes([] if quiet else [f"plan will not know what this took: {default_file()}: {error.strerror}"])
