"""`m3video tune`: the budget that a user's own videos and questions need."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m3video.cli.eval import parse_budgets
from m3video.cli.options import ANSWERING, VIDEO, GivenSettings, Json, Quiet, with_settings
from m3video.cli.outputs import check_outputs
from m3video.errors import EXIT_INTERRUPTED, M3VideoError, UsageError

if TYPE_CHECKING:
    from m3video.evaluation.records import Record

BUDGETS = "180,720,2880"


class InterruptedTuneError(M3VideoError):
    """Ctrl-C during `tune`; nothing is written."""

    exit_code = EXIT_INTERRUPTED


MEMORY_HELP = "leave out budgets that do not fit in this memory, e.g. 8GiB, or in what is free now (auto)"


@with_settings("max_frames", "sampling", "detail", "memory", ANSWERING, VIDEO, help={"memory": MEMORY_HELP})
def tune(
    videos: Annotated[
        str,
        typer.Argument(
            help="a video, a folder, a file that lists videos, or - for stdin", metavar="VIDEO|JOBS", show_default=False
        ),
    ],
    *,
    questions: Annotated[
        Path, typer.Option(help='JSONL: {"question", "answer", "options", "id", "video"}; video: relative to the file')
    ],
    budgets: Annotated[str, typer.Option(help="visual tokens for a whole video, to try")] = BUDGETS,
    plot: Annotated[Path | None, typer.Option("--plot", help="draw it: a .png, .svg or .pdf file")] = None,
    given: GivenSettings,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the budget that your own videos and questions need.

    Each budget is tried: how many answers are right, what they cost and how long they take. The plan is compared with
    even frames at the same budget. A question without an answer is compared with what the model says when it gets
    every frame at 576 tokens, as far as its context allows.

    Example: m3video tune film.mp4 --questions q.jsonl --budgets 180,720,2880 --plot tune.png
    """
    try:
        _tune(videos, questions, parse_budgets(budgets), plot, given, json=json, quiet=quiet)
    except KeyboardInterrupt:
        raise InterruptedTuneError("interrupted: nothing is written") from None


def _tune(
    source: str,
    questions: Path,
    budgets: Sequence[int],
    plot: Path | None,
    given: GivenSettings,
    *,
    json: bool,
    quiet: bool,
) -> None:
    from m3video.cli.terminal import make_progress, print_json, print_notes
    from m3video.evaluation.tuning.questions import read_user_questions, records_of
    from m3video.model.m3.default_model import with_model
    from m3video.model.m3.model_paths import find_model
    from m3video.report.picture_file import check_drawable, save_picture

    settings, decided = with_model(given.resolve())
    check_drawable(plot, None)
    find_model(settings.model, vision_tower=settings.vision_tower)
    videos, missed = _videos(source)
    for video in videos:
        check_outputs(video, {"--plot": plot})
    asked, left_out = records_of(videos, read_user_questions(questions))
    from m3video.distributed.tasks import load_model
    from m3video.evaluation.tuning.fitting import fit_in_memory, fitting_budgets
    from m3video.evaluation.tuning.report import make_tune_report, tune_json
    from m3video.evaluation.tuning.search import tune
    from m3video.evaluation.tuning.show import draw_tune, tune_text

    progress = make_progress(quiet=quiet)
    held = fit_in_memory(budgets, settings)
    loaded = load_model(held.settings)
    kept, dropped = fitting_budgets(held.budgets, asked, loaded, held.settings)
    tuned = tune(asked, kept, loaded, held.settings, most_visual=held.most_visual, progress=progress)
    report = make_tune_report(tuned, (*decided.notes, *missed, *left_out, *held.notes, *dropped))
    command = _command(source, asked, questions, report.recommended.setting.budget, given.flags, given.config)
    if plot is not None:
        save_picture(draw_tune(report, command), plot)
    try:
        if json:
            print_json({**tune_json(report, command=command), "config": settings.model_dump()})
        else:
            print(tune_text(report, command))
            print_notes([] if quiet else report.notes)
    finally:  # the exit code says so even when nobody reads what is printed
        if tuned.failed:
            from m3video.distributed.batch import SomeFailedError

            raise SomeFailedError(f"{len(tuned.failed)} of {len(asked)} videos failed")


def _videos(source: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the videos of a file, folder or list, and notes on other files of the folder."""
    from m3video.distributed.sources import SUFFIXES, left_of_folder, open_source
    from m3video.video.path_checks import check_file

    path = Path(source)
    if source != "-" and not path.is_dir() and (path.suffix.lower() in SUFFIXES or not path.is_file()):
        check_file(source)  # before a model is loaded
        return [source], ()
    opened = open_source(source)
    found = list(dict.fromkeys(opened))
    if not found:
        raise UsageError(f"{source} holds no video")
    return found, left_of_folder(opened)


def _command(
    source: str,
    asked: Mapping[str, Sequence[Record]],
    questions: Path,
    budget: int,
    flags: Mapping[str, object],
    config: Path | None,
) -> str:
    """Return the command line that uses a budget, with every other setting as it was tried."""
    kept = [part for name, value in flags.items() for part in _flag(name, value)]
    if config is not None:
        kept += ["--config", os.fspath(config)]
    first = next(iter(asked.values()))[0]
    if list(asked) == [source]:
        verb, arguments, options = "ask", [source, first.question], []
    else:
        verb, arguments = "batch", [source]
        options = ["--task", "ask", "--questions", os.fspath(questions), "-o", "out"]
    options += ["--budget", str(budget), *kept]
    if any(argument.startswith("-") for argument in arguments):
        parts = [*options, "--", *arguments]
    else:
        parts = [*arguments, *options]
    return shlex.join(["m3video", verb, *parts])


def _flag(name: str, value: object) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]
