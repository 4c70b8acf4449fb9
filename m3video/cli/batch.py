"""`m3video batch` and `m3video summarize`: whole archives, and single videos in chapters."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from m3video.cli.options import (
    Backend,
    Config,
    Detail,
    Device,
    Dtype,
    Json,
    MaxFrames,
    MaxNewTokens,
    MaxPixels,
    Memory,
    Model,
    Quantize,
    Quiet,
    Scan,
    Timestamps,
    Tower,
    VisionBatch,
    given,
    refuse_stdout,
)
from m3video.config import Settings, load_settings
from m3video.errors import M3VideoError, UsageError
from m3video.utils.text import check_text, json_text

if TYPE_CHECKING:
    from m3video.distributed.counts import BatchCounts
    from m3video.distributed.ledger import Ledger
    from m3video.distributed.messages import Task, WorkerPool

_BUDGET = f"most visual tokens for each video, for each chapter of a summary (default {Settings().budget})"
Budget = Annotated[int | None, typer.Option(help=_BUDGET)]


QUESTIONS_HELP = 'JSONL: {"question", "id", "video"}, paths relative to the file (task ask)'


class FileFormat(StrEnum):
    """What else a summary may be written as."""

    CSV = "csv"
    SRT = "srt"
    VTT = "vtt"
    MD = "md"


def batch(
    videos: Annotated[
        str,
        typer.Argument(
            help="a folder, a file with a path on each line, or - for stdin",
            metavar="FOLDER|LIST|-",
            show_default=False,
        ),
    ],
    task: Annotated[Literal["summarize", "ask", "analyze", "plan"], typer.Option(help="what to do with each")],
    output: Annotated[str, typer.Option("-o", "--output", help="folder or URL of results, to go on in")],
    question: Annotated[str | None, typer.Option(help="asked of every video (task ask)")] = None,
    questions: Annotated[Path | None, typer.Option(help=QUESTIONS_HELP)] = None,
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
    budget: Budget = None,
    memory: Memory = None,
    max_frames: MaxFrames = None,
    detail: Detail = None,
    timestamps: Timestamps = None,
    model: Model = None,
    vision_tower: Tower = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    vision_batch: VisionBatch = None,
    max_new_tokens: MaxNewTokens = None,
    scan: Scan = None,
    backend: Backend = None,
    max_pixels: MaxPixels = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Work through many videos; the same command goes on where it stopped.

    OUTPUT, a folder or a URL (s3://, sftp://, ...), gets results.jsonl, errors.jsonl, and files of each item under
    items/. A bad file costs one line of errors.jsonl; exit code 3 says that there are some. A changed video or setting
    is a new item.

    Example: m3video batch films/ --task summarize -o out --format md
    """
    from m3video.cli.memory import fit_or_keep
    from m3video.cli.terminal import print_notes
    from m3video.distributed.batch import InterruptedBatchError, check_all_done, run_batch
    from m3video.distributed.counts import BatchCounts
    from m3video.distributed.items import BatchQuestion, BatchQuestions, left_out, read_batch_questions
    from m3video.distributed.ledger_url import open_ledger
    from m3video.distributed.sources import left_of_folder, open_source
    from m3video.distributed.tasks import make_task

    if (task == "ask") != ((question is None) != (questions is None)):
        raise UsageError(f"--task {task} takes {'one of' if task == 'ask' else 'neither'} --question and --questions")
    if format and task != "summarize":
        raise UsageError(f"--format {format[0]} is for summaries: leave it out with --task {task}")
    if question is not None and not question.strip():
        raise UsageError("the question is empty: give one in quotes")
    refuse_stdout("-o", output)
    asked = BatchQuestions() if question is None else BatchQuestions((BatchQuestion(check_text(question, "question")),))
    asked = asked if questions is None else read_batch_questions(questions)
    source, settings = open_source(videos), load_settings(given(locals()), config=config)
    if settings.memory == "auto":
        raise UsageError("--memory auto differs from run to run, and so would the items: name a size, e.g. 8GiB")
    settings, fitted = fit_or_keep(settings)
    print_notes([] if quiet or fitted is None else fitted.notes)
    made = make_task(task, settings, formats=format or (), fetch=not dry_run)
    notes = [] if quiet else [*left_of_folder(source), *left_out(source, asked)]
    if dry_run:
        print_notes(notes)
        from m3video.distributed.forecast import forecast, forecast_text

        count = workers or num_cores()
        said = forecast(source, asked, made, output, workers=count, retry_failed=retry_failed, limit=limit)
        _print(said, forecast_text(said), json=json)
        return
    try:
        with open_ledger(output, note=lambda line: print_notes([] if quiet else [line])) as ledger:
            print_notes(notes)
            report, pool = BatchCounts(is_shown=not quiet), _make_pool(made, workers, ray)
            run_batch(source, asked, made, ledger, pool, retry_failed=retry_failed, limit=limit, counts=report)
            ledger.close()
            try:
                _print(_counts(report, ledger), _counts_text(report, ledger), json=json)
                if format and report.done_before and not quiet:
                    print_notes([f"{report.done_before} summaries were made before and are not written as {format[0]}"])
            finally:  # the exit code tells it where nobody reads what is printed
                check_all_done(report, ledger)
    except KeyboardInterrupt:  # Ray takes seconds to start
        raise InterruptedBatchError("interrupted before the first item") from None


def _make_pool(task: Task, workers: int | None, ray: str | None) -> WorkerPool:
    if ray is not None:
        from m3video.distributed.ray_pool import RayPool

        return RayPool(task, address=ray, workers=workers)
    from m3video.distributed.worker_pool import LocalPool

    return LocalPool(task, workers=workers or num_cores())


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _counts(report: BatchCounts, ledger: Ledger) -> dict[str, Any]:
    return {
        "output": ledger.shown,
        "done": report.done,
        "done_before": report.done_before,
        "copies": report.copies,
        "failed": report.failed,
        "failed_before": report.failed_before,
        "video_seconds": report.video_seconds,
        "tokens": report.tokens,
    }


def _counts_text(report: BatchCounts, ledger: Ledger) -> str:
    parts = [f"{report.done} items done"]
    parts += [
        f"{count} {words}"
        for count, words in (
            (report.done_before, "were done before"),
            (report.copies, "are copies of others"),
            (report.failed, "failed"),
            (report.failed_before, "failed before"),
        )
        if count
    ]
    return f"{', '.join(parts)}: {ledger.shown}/results.jsonl"


def _print(value: dict[str, Any], text: str, *, json: bool) -> None:
    from m3video.cli.terminal import print_json

    if json:
        print_json(value)
    else:
        print(text)


def summarize(
    videos: Annotated[list[str], typer.Argument(help="local video files", show_default=False)],
    format: Annotated[
        Literal["json", "csv", "srt", "vtt", "md"] | None,
        typer.Option(help="of what is printed (default md); json is a line for each video"),
    ] = None,
    budget: Budget = None,
    memory: Memory = None,
    max_frames: MaxFrames = None,
    detail: Detail = None,
    timestamps: Timestamps = None,
    model: Model = None,
    vision_tower: Tower = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    vision_batch: VisionBatch = None,
    max_new_tokens: MaxNewTokens = None,
    scan: Scan = None,
    backend: Backend = None,
    max_pixels: MaxPixels = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell what a video shows: chapters with captions, then a summary that says which time each sentence rests on.

    Budget, frames and answer length are for each chapter (at most two minutes); a summary may be four times longer.
    Times are those of a player, so subtitles fit the file.

    Example: m3video summarize film.mp4 --model mucai/llava-v1.5-7b-m3
    """
    from m3video.cli.memory import fit_or_keep
    from m3video.cli.terminal import print_notes

    if json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} contradict each other: give one")
    format = "json" if json else format or "md"
    if format in ("srt", "vtt") and len(videos) > 1:
        raise UsageError(f"--format {format} holds one video: use m3video batch --task summarize --format {format}")
    settings, fitted = fit_or_keep(load_settings(given(locals()), config=config))
    print_notes([] if quiet or fitted is None else fitted.notes)
    _summaries(videos, settings, format, quiet=quiet)


def _summaries(videos: list[str], settings: Settings, format: str, *, quiet: bool) -> None:
    """Print one summary after the other; a bad file costs one line, and exit code 3 when others went well."""
    from m3video.cli.terminal import make_progress, print_notes
    from m3video.distributed.batch import InterruptedBatchError, SomeFailedError
    from m3video.distributed.tasks import load_model
    from m3video.inference.evidence import bundled_note
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
            about = (*made.warnings, *bundled_note(loaded, video))
            made = replace(made, warnings=tuple(dict.fromkeys(about)))
            if format == "json":
                print(json_text(to_json(made)))
            else:
                text = FORMATS[format](made)
                # One table, not one for each video.
                print(text.partition("\n")[2] if format == "csv" and number > failed else text, end="")
            print_notes([] if quiet or format == "md" else made.warnings)
    except KeyboardInterrupt:
        raise InterruptedBatchError("interrupted") from None
    if failed:
        raise SomeFailedError(f"{failed} of {len(videos)} videos failed")
