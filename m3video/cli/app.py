"""The command line: one verb per station. stdout is data, stderr is progress and log."""

from __future__ import annotations

import errno
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from m3video.errors import EXIT_DOES_NOT_FIT, EXIT_DONE, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, M3VideoError

try:
    import typer

    from m3video import __version__
    from m3video.cli import batch, cache, chat, eval, tune
except KeyboardInterrupt:  # these take most of the first second
    print("m3video: interrupted", file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)
from m3video.cli.options import (
    At,
    Backend,
    Budget,
    Cache,
    Config,
    Detail,
    Device,
    Dtype,
    End,
    EveryShot,
    Fps,
    Json,
    MaxFrames,
    MaxGap,
    MaxNewTokens,
    MaxPixels,
    Memory,
    Model,
    NumFrames,
    Quantize,
    Quiet,
    Saliency,
    Sampling,
    Scan,
    Start,
    Timestamps,
    Tower,
    VisionBatch,
    check_outputs,
    check_stats_name,
    output_or_stdout,
    refuse_decided,
    refuse_stdout,
)
from m3video.cli.options import given as _flags
from m3video.cli.options import setting as _setting
from m3video.cli.streams import drop_stdout, flush_stdout, open_streams
from m3video.config import Settings, load_settings
from m3video.utils.text import check_text, shown

app = typer.Typer(
    name="m3video",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Two-pass rate control for video language models, with visual tokens as the bits.",
)

app.add_typer(eval.app)
app.add_typer(cache.app)

Video = Annotated[str, typer.Argument(help="a local video file", show_default=False)]
Workers = Annotated[int | None, typer.Option(min=1, help="read with this many processes; with --ray, tasks at a time")]
Ray = Annotated[
    str | None,
    typer.Option(metavar="[ADDRESS]", help="read on Ray: started here, or auto, HOST:PORT, ray://HOST:PORT"),
]

_ClickUsageError: Any = typer.BadParameter.__mro__[1]
"""Newer typers carry a click of their own and do not export this class."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why a stdout takes no more; the error of a file that was opened by name has its name."""

_RAY_ADDRESS = re.compile(r"local|auto|(ray://)?[\w.-]+:\d+|(ray://)?\[[0-9a-f:]+\]:\d+")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(f"m3video {__version__}")
        raise typer.Exit


@app.command()
def probe(
    video: Video,
    backend: Backend = None,
    max_pixels: MaxPixels = None,
    config: Config = None,
    json: Json = False,
    pts: Annotated[bool, typer.Option("--pts", help="also list the pts of every frame, in display order")] = False,
) -> None:
    """What the file says, and what reading its packets verified.

    Times are those of a player, as in all verbs: 0:00 is where sound or picture starts, whichever is first. A pts is
    the file's own number.

    Example: m3video probe film.mp4 --json
    """
    from m3video.cli.terminal import print_json, print_notes
    from m3video.inference.pipeline import open_for
    from m3video.report.records import info_record, info_text

    settings = _settings(locals())
    with open_for(video, settings) as reader:
        all_pts = reader.index.pts_N.tolist() if pts else []
        info = reader.info
    if json:
        print_json({**info_record(info), **({"pts": all_pts} if pts else {})})
    else:
        print("\n".join([info_text(info), *map(str, all_pts)]))
        print_notes(info.notes)


@app.command()
def analyze(
    video: Video,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="write stats (Parquet, - is stdout)")] = None,
    workers: Workers = None,
    ray: Ray = None,
    scan: Scan = None,
    backend: Backend = None,
    max_pixels: MaxPixels = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure every frame once: how much it loses at each token scale, and how much it changes.

    A long video can be read by several processes, or on a Ray cluster; the result is the same to the last bit.

    Example: m3video analyze film.mp4 -o stats.parquet
    """
    from m3video.cli.terminal import make_progress, print_json, print_notes
    from m3video.distributed.analysis import analyze_long
    from m3video.distributed.mapping import in_process
    from m3video.distributed.processes import processes
    from m3video.distributed.ray_tasks import ray_tasks
    from m3video.inference.pipeline import scan_note
    from m3video.planning.shots import find_shots
    from m3video.planning.stats_file import save_stats
    from m3video.report.records import info_record, stats_record, stats_text

    output, is_printed = output_or_stdout(output, json=json)
    check_outputs(video, {"-o": output})
    check_stats_name(output, is_printed=is_printed)
    settings = _settings(locals())
    if ray is not None:
        mapper = ray_tasks(ray, num_workers=workers)
    else:
        mapper = in_process if workers is None else processes(workers)
    found = analyze_long(
        video, settings, mapper=mapper, count=1 if mapper is in_process else None, progress=make_progress(quiet=quiet)
    )
    info, stats = found.info, found.stats
    if output is not None:
        save_stats(stats, info_record(info), output)
    record = stats_record(info, stats, shots=len(find_shots(stats)))
    notes = [*info.notes, *scan_note(info, stats), *found.notes]
    if json:
        print_json({**record, "notes": notes})
    else:
        if not is_printed:
            print(stats_text(record))
        print_notes([] if quiet else notes)


@app.command()
def plan(
    video: Video,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="write the plan (JSON, - is stdout)")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="draw the plan: a .png, .svg or .pdf file")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write the plan as one page for a browser")] = None,
    budget: Budget = None,
    memory: Memory = None,
    max_frames: MaxFrames = None,
    sampling: Sampling = None,
    start: Start = None,
    end: End = None,
    fps: Fps = None,
    num_frames: NumFrames = None,
    detail: Detail = None,
    every_shot: EveryShot = None,
    max_gap: MaxGap = None,
    at: At = None,
    model: Model = None,
    vision_tower: Tower = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    vision_batch: VisionBatch = None,
    measure: Annotated[bool, typer.Option("--measure", help="run what fits once and tell its peak")] = False,
    timestamps: Timestamps = None,
    scan: Scan = None,
    backend: Backend = None,
    max_pixels: MaxPixels = None,
    cache: Cache = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Choose the frames to show and the token scale of each, provably best within the budget.

    The model does not run; naming it tells how many text tokens it will read around the frames. With --memory the
    budget is the largest that fits (a --budget is then a ceiling); only the model's config and file headers are read.

    Example: m3video plan film.mp4 --budget 2880 -o plan.json --plot plan.png
    """
    from m3video.cli.memory import fit_or_keep, memory_notes, memory_rows
    from m3video.cli.terminal import make_progress, print_json, print_notes
    from m3video.inference.decision import binding_limits
    from m3video.inference.latency import default_file, estimate
    from m3video.inference.pipeline import cache_of, open_for, plan_details
    from m3video.planning.plan_file import save_plan, to_json
    from m3video.report.plan_page import MOST_IN_PAGE, save_page
    from m3video.report.plan_plot import MOST_IN_PLOT, check_drawable, draw_plan, save_picture
    from m3video.report.plan_text import plan_facts, plan_text, time_fact
    from m3video.report.thumbnails import fetch_thumbnails
    from m3video.utils.progress import Meter

    settings, progress = _settings(locals()), make_progress(quiet=quiet)
    output, is_printed = output_or_stdout(output, json=json)
    check_outputs(video, {"-o": output, "--plot": plot, "--html": html})
    check_drawable(plot, html)
    settings, fitted = fit_or_keep(settings, measure=measure)
    fits = memory_rows(fitted, measure=measure, progress=progress)
    meter, kept = Meter(), cache_of(settings)
    with open_for(video, settings) as reader:
        with meter.stage("plan"):
            details = plan_details(reader, settings, cache=kept, progress=progress)
        if output is not None:
            save_plan(details.plan, output)
        most = MOST_IN_PAGE if html is not None else MOST_IN_PLOT if plot is not None else 0
        thumbnails = fetch_thumbnails(reader, details.plan, most=most, progress=progress) if most else {}
    if kept is not None:
        kept.settle()
    cache_notes = [] if kept is None else kept.notes
    are_shown = not json or plot is not None or html is not None
    facts = [*plan_facts(details.plan, binding_limits(details) if are_shown else None), *fits]
    if plot is not None:
        save_picture(draw_plan(details, facts, thumbnails), plot)
    if html is not None:
        save_page(details, facts, thumbnails, html)
    if json:
        told = (
            *(f"{name}: {text}" for name, text in fits),
            *memory_notes(fitted),
            *details.plan.warnings,
            *cache_notes,
        )
        print_json(to_json(replace(details.plan, warnings=told)))
    else:
        took = time_fact(meter.stage_seconds["plan"], estimate(details.plan, settings, default_file()))
        if not is_printed:
            print(plan_text(details.plan, facts=[*facts, took]))
        notes = [*details.plan.video.notes, *memory_notes(fitted), *details.plan.warnings, *cache_notes]
        print_notes([] if quiet else notes)


@app.command()
def ask(
    video: Video,
    question: Annotated[str, typer.Argument(help="what to ask", show_default=False)],
    plan: Annotated[Path | None, typer.Option("--plan", help="show exactly the frames of this plan")] = None,
    option: Annotated[list[str] | None, typer.Option(help="an answer to choose from; repeat (grid layout)")] = None,
    budget: Budget = None,
    memory: Memory = None,
    max_frames: MaxFrames = None,
    sampling: Sampling = None,
    start: Start = None,
    end: End = None,
    fps: Fps = None,
    num_frames: NumFrames = None,
    detail: Detail = None,
    every_shot: EveryShot = None,
    max_gap: MaxGap = None,
    at: At = None,
    saliency: Saliency = None,
    layout: Annotated[str | None, _setting("layout")] = None,
    timestamps: Timestamps = None,
    model: Model = None,
    vision_tower: Tower = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    vision_batch: VisionBatch = None,
    max_new_tokens: MaxNewTokens = None,
    cache: Cache = None,
    scan: Scan = None,
    backend: Backend = None,
    max_pixels: MaxPixels = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask a question about a video.

    Example: m3video ask film.mp4 "What colour is the background at 0:03?" --budget 720
    """
    from m3video.cli.terminal import make_progress, print_json, print_notes
    from m3video.inference.latency import default_file, remember
    from m3video.inference.session import ask as ask_video
    from m3video.planning.plan_file import load_plan
    from m3video.report.records import answer_record, answer_text

    given = _flags(locals())
    refuse_decided(plan, given)
    settings = load_settings(given, config=config)
    answer = ask_video(
        video,
        question,
        settings,
        plan=None if plan is None else load_plan(plan),
        options=option or (),
        progress=make_progress(quiet=quiet),
    )
    if json:
        print_json(answer_record(answer))
    else:
        print(answer_text(answer))
        print_notes([] if quiet else [*answer.plan.video.notes, *answer.warnings])
    if answer.plan.grid_tokens is None:
        try:
            remember(answer, settings, default_file())
        except OSError as error:
            print_notes([] if quiet else [f"plan will not know what this took: {default_file()}: {error.strerror}"])


app.command()(chat.chat)
app.command()(batch.summarize)
app.command()(batch.batch)
app.command()(tune.tune)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="original M3/LLaVA folder or hub name", show_default=False)],
    target: Annotated[Path, typer.Argument(help="new folder", show_default=False)],
    base: Annotated[str | None, typer.Option(help="model to merge a LoRA, mm_projector.bin or delta into")] = None,
    vision_tower: Tower = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, typer.Option(help="cast the weights")] = None,
    quiet: Quiet = False,
) -> None:
    """Write a checkpoint of the original layout as a folder that from_pretrained reads.

    Example: m3video convert mucai/llava-v1.5-7b-m3 ./m3-7b --dtype bfloat16
    """
    check_text(source, "source")
    refuse_stdout("target", target)
    from m3video.model.m3.model_paths import find_source

    find_source(source, base, vision_tower=vision_tower)  # before torch is loaded, which takes seconds
    from m3video.cli.terminal import make_progress
    from m3video.model.m3.convert import convert as convert_checkpoint

    progress = make_progress(quiet=quiet)
    print(
        convert_checkpoint(
            source, target, dtype=dtype, vision_tower=vision_tower, base=base, stage=lambda name: progress(name, None)
        )
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, e.g. configs/bundled.yaml", show_default=False)],
    run_dir: Annotated[Path | None, typer.Option(help="checkpoints and logs (default runs/RECIPE)")] = None,
    out: Annotated[Path | None, typer.Option(help="where the finished model goes (default RUN_DIR/model)")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    smoke: Annotated[bool, typer.Option("--smoke", help="all stages in two minutes, to see that they run")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="do not go on from the checkpoints in RUN_DIR")] = False,
) -> None:
    """Train a small M3 from nothing on rendered clips, or fine-tune a checkpoint (a recipe with `base:`).

    Example: m3video train configs/bundled.yaml --run-dir runs/bundled
    """
    refuse_stdout("--run-dir", run_dir)
    refuse_stdout("--out", out)
    from m3video.training.finetune_recipe import check_recipe

    check_recipe(recipe, smoke=smoke)  # before torch is loaded, which takes seconds
    from m3video.training.train import train as train_model

    if run_dir is None:
        run_dir = Path("runs") / (recipe.stem + ("-smoke" if smoke else ""))
    print(train_model(recipe, run_dir=run_dir, device=device, smoke=smoke, resume=not fresh, out=out))


def _settings(arguments: dict[str, Any]) -> Settings:
    return load_settings(_flags(arguments), config=arguments["config"])


def _with_ray_address(arguments: list[str]) -> list[str]:
    """`arguments` where a `--ray` without an address says "local": typer knows no options with optional values."""
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        following = arguments[place + 1 : place + 2]
        if argument == "--ray" and not (following and _RAY_ADDRESS.fullmatch(following[0])):
            return [*arguments[: place + 1], "local", *arguments[place + 1 :]]
    return arguments


def main() -> None:
    """Entry point: user errors are one line and an exit code; anything else is a bug and shows its traceback."""
    open_streams()
    try:
        code = _run(_with_ray_address(sys.argv[1:]))
        flush_stdout()
    except KeyboardInterrupt:
        print("m3video: interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our stdout (head, less) went away: nothing is wrong, there is nobody to tell, and what is short
        # enough for a pipe ends with 0 as well.
        if not drop_stdout():
            raise
        code = EXIT_DONE
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        drop_stdout()
        print(f"m3video: error: output cannot be written: {error.strerror}", file=sys.stderr)
        code = EXIT_ERROR
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run a verb, tell what the user can mend, and return the exit code."""
    # Typer's own call would print usage errors in four lines, and make an exit code of Ctrl-C without a word.
    command = typer.main.get_command(app)
    try:
        with command.make_context("m3video", arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except _ClickUsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            print(f"m3video: error: {_usage_text(error)}", file=sys.stderr)
        return EXIT_USAGE
    except M3VideoError as error:
        print(f"m3video: error: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print("m3video: error: the machine has no memory left; free some, or read less of the video", file=sys.stderr)
        return EXIT_DOES_NOT_FIT
    return EXIT_DONE


def _usage_text(error: Any) -> str:
    """What click says of a wrong argument, as one line that begins and ends like ours."""
    text = shown(" ".join(error.format_message().split())).rstrip(".")
    verb = error.ctx.command_path if error.ctx is not None else "m3video"
    return f"{text[:1].lower()}{text[1:]} (see {verb} --help)"
