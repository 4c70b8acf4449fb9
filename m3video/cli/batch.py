"""`m3video batch`: many videos through one task, resumed where it stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from m3video.cli.options import (
    ANSWERING,
    BUDGET_OF_SUMMARY,
    SPENDING,
    VIDEO,
    GivenSettings,
    Json,
    Quiet,
    Schema,
    with_settings,
)
from m3video.cli.outputs import refuse_stdout
from m3video.config import ANY_MODEL, Settings
from m3video.errors import UsageError
from m3video.utils.text import check_text

if TYPE_CHECKING:
    from m3video.distributed.counts import BatchCounts
    from m3video.distributed.items import BatchQuestions
    from m3video.distributed.ledger import Ledger
    from m3video.distributed.messages import Task, WorkerPool

QUESTIONS_HELP = 'JSONL: {"question", "id", "video"}, paths relative to the file (task ask)'


class FileFormat(StrEnum):
    """Format of the files that are written beside a summary's JSON."""

    CSV = "csv"
    SRT = "srt"
    VTT = "vtt"
    MD = "md"


@with_settings(SPENDING, ANSWERING, "abstain", VIDEO, help={"budget": BUDGET_OF_SUMMARY})
def batch(
    videos: Annotated[
        str,
        typer.Argument(
            help="a folder, a file with a path on each line, or - for stdin",
            metavar="FOLDER|LIST|-",
            show_default=False,
        ),
    ],
    *,
    task: Annotated[Literal["summarize", "ask", "analyze", "plan"], typer.Option(help="what to do with each")],
    output: Annotated[str, typer.Option("-o", "--output", help="folder or URL of results, to go on in")],
    question: Annotated[str | None, typer.Option(help="asked of every video (task ask)")] = None,
    questions: Annotated[Path | None, typer.Option(help=QUESTIONS_HELP)] = None,
    schema: Schema = None,
    format: Annotated[list[FileFormat] | None, typer.Option(help="also write summaries as this; repeat")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="also try again what failed")] = False,
    limit: Annotated[int | None, typer.Option(help="begin no more items than this", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done")] = False,
    workers: Annotated[
        int | None, typer.Option(help="processes that decode (default: one for each core)", min=1)
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="[ADDRESS]", help="on Ray: started here, or auto, HOST:PORT, ray://HOST:PORT")
    ] = None,
    given: GivenSettings,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Process many videos; the same command resumes where it stopped.

    OUTPUT, a folder or a URL (s3://, sftp://, ...), gets results.jsonl, errors.jsonl, and files of each item under
    items/. A bad file costs one line of errors.jsonl; exit code 3 says that there are some. A changed video or setting
    is a new item.

    Example: m3video batch films/ --task summarize -o out --format md
    """
    from m3video.cli.memory import fit_or_keep
    from m3video.cli.terminal import print_notes
    from m3video.distributed.batch import run_batch
    from m3video.distributed.batch_model import decide_for_batch
    from m3video.distributed.forecast import forecast, forecast_text
    from m3video.distributed.items import left_out
    from m3video.distributed.sources import left_of_folder, open_source
    from m3video.distributed.tasks import make_task

    _check_flags(task, question, questions, format)
    refuse_stdout("-o", output)
    asked = _questions(question, questions)
    source, settings = open_source(videos), given.resolve(schema=schema)
    if settings.memory == "auto":
        raise UsageError("--memory auto differs from run to run, and so would the items: name a size, e.g. 8GiB")
    if settings.scan_seconds is not None:
        raise UsageError("scan_seconds differs from machine to machine, and so would the items: name --scan-frames")
    decided: tuple[str, ...] = ()
    is_open = settings.model == ANY_MODEL and task != "analyze"  # which needs no model
    if task != "analyze":
        settings, decided = decide_for_batch(settings, output)
    _check_abstain(task, settings)
    settings, fitted = fit_or_keep(settings)
    print_notes([] if quiet else [*decided, *(() if fitted is None else fitted.notes)])
    video_task = make_task(task, settings, formats=format or (), fetch=not dry_run)
    notes = [] if quiet else [*left_of_folder(source), *left_out(source, asked)]
    if dry_run:
        print_notes(notes)
        counts = forecast(
            source,
            asked,
            video_task,
            output,
            workers=workers or _num_cores(),
            retry_failed=retry_failed,
            limit=limit,
        )
        _print(counts, forecast_text(counts), json=json)
        return
    work = partial(run_batch, source, asked, video_task, retry_failed=retry_failed, limit=limit)
    make_pool = partial(_make_pool, video_task, workers, ray)
    keep = settings.model if is_open else None
    _work(work, make_pool, output, notes, keep=keep, formats=format or (), json=json, quiet=quiet)


def _check_flags(task: str, question: str | None, questions: Path | None, formats: Sequence[FileFormat] | None) -> None:
    """Raise UsageError for flags that do not belong to the task."""
    if (task == "ask") != ((question is None) != (questions is None)):
        raise UsageError(f"--task {task} takes {'one of' if task == 'ask' else 'neither'} --question and --questions")
    if formats and task != "summarize":
        raise UsageError(f"--format {formats[0]} is for summaries: leave it out with --task {task}")
    if question is not None and not question.strip():
        raise UsageError("the question is empty: give one in quotes")


def _check_abstain(task: str, settings: Settings) -> None:
    """Raise UsageError where answers shall be withheld, and there are none, or none with a confidence."""
    from m3video.inference.confidence import refuse_abstain

    if settings.abstain is not None and task != "ask":
        raise UsageError(f"--abstain is for answers: leave it out with --task {task}")
    refuse_abstain(settings)


def _questions(question: str | None, questions: Path | None) -> BatchQuestions:
    """Return what is asked of each video."""
    from m3video.distributed.items import BatchQuestion, BatchQuestions, read_batch_questions

    asked = BatchQuestions() if question is None else BatchQuestions((BatchQuestion(check_text(question, "question")),))
    return asked if questions is None else read_batch_questions(questions)


def _work(
    work: Callable[..., BatchCounts],
    make_pool: Callable[[], WorkerPool],
    output: str,
    notes: Sequence[str],
    *,
    keep: str | None,
    formats: Sequence[FileFormat],
    json: bool,
    quiet: bool,
) -> None:
    """Work on the open items, then print the counts; `keep` is the model that was decided for the whole batch.

    Raises:
        SomeFailedError: some items failed, now or in an earlier run.
        InterruptedBatchError: Ctrl-C.
    """
    from m3video.cli.terminal import print_notes
    from m3video.distributed.batch import InterruptedBatchError, check_all_done
    from m3video.distributed.batch_model import keep_model
    from m3video.distributed.counts import BatchCounts
    from m3video.distributed.ledger_url import open_ledger

    try:
        with open_ledger(output, note=lambda line: print_notes([] if quiet else [line])) as ledger:
            if keep is not None:
                keep_model(output, keep)
            print_notes(notes)
            counts, pool = BatchCounts(is_shown=not quiet), make_pool()
            work(ledger, pool, counts=counts)
            ledger.close()
            try:
                _print(_counts(counts, ledger), _counts_text(counts, ledger), json=json)
                if formats and counts.done_before and not quiet:
                    print_notes(
                        [f"{counts.done_before} summaries were made before and are not written as {formats[0]}"]
                    )
            finally:  # the exit code says so even when nobody reads what is printed
                check_all_done(counts, ledger)
    except KeyboardInterrupt:  # Ray takes seconds to start
        raise InterruptedBatchError("interrupted before the first item") from None


def _make_pool(task: Task, workers: int | None, ray: str | None) -> WorkerPool:
    """Return workers on this machine, or on a Ray cluster."""
    if ray is not None:
        from m3video.distributed.ray_pool import RayPool

        return RayPool(task, address=ray, workers=workers)
    from m3video.distributed.worker_pool import LocalPool

    return LocalPool(task, workers=workers or _num_cores())


def _num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _counts(counts: BatchCounts, ledger: Ledger) -> dict[str, Any]:
    return {
        "output": ledger.printable,
        "done": counts.done,
        "done_before": counts.done_before,
        "copies": counts.copies,
        "failed": counts.failed,
        "failed_before": counts.failed_before,
        "video_seconds": counts.video_seconds,
        "tokens": counts.tokens,
    }


def _counts_text(counts: BatchCounts, ledger: Ledger) -> str:
    parts = [f"{counts.done} items done"]
    parts += [
        f"{count} {words}"
        for count, words in (
            (counts.done_before, "were done before"),
            (counts.copies, "are copies of others"),
            (counts.failed, "failed"),
            (counts.failed_before, "failed before"),
        )
        if count
    ]
    return f"{', '.join(parts)}: {ledger.printable}/results.jsonl"


def _print(value: dict[str, Any], text: str, *, json: bool) -> None:
    from m3video.cli.terminal import print_json

    if json:
        print_json(value)
    else:
        print(text)
