"""`m3video eval`: methods at equal tokens on a benchmark."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from m3video.cli.options import GivenSettings, Quiet, with_settings
from m3video.cli.outputs import refuse_stdout
from m3video.errors import EXIT_SOME_FAILED, UsageError
from m3video.utils.cache import cache_root
from m3video.utils.text import printable

if TYPE_CHECKING:
    from m3video.evaluation.records import Record
    from m3video.evaluation.samples import RunFolder

app = typer.Typer(
    name="eval",
    no_args_is_help=True,
    help="Compare methods at equal tokens; measure confidence.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TABLE_WIDTH = 200
BUDGETS = "144,360,720,1440,2880"
RATES = "1,4,9,36"


@app.command()
@with_settings("model", "device", "dtype", "vision_batch", config=False)
def footage(
    *,
    seed: Annotated[int, typer.Option(help="of the rendered clips and their questions")] = 1,
    clips: Annotated[int, typer.Option(help="how many clips", min=1)] = 30,
    questions: Annotated[int, typer.Option(help="questions about each clip", min=1)] = 12,
    budgets: Annotated[
        str | None, typer.Option(help=f"visual tokens for a whole video (default {BUDGETS}; per second {RATES})")
    ] = None,
    per_second: Annotated[
        bool, typer.Option("--per-second", help="budgets are tokens for each second; clips are shorter (5 s to 75 s)")
    ] = False,
    methods: Annotated[str, typer.Option(help="'all' or names with commas between them")] = "all",
    max_frames: Annotated[int, typer.Option(help="most frames any method may show", min=1, max=64)] = 32,
    reference: Annotated[
        Literal["shot", "nearest", "asked"], typer.Option(help="how a moment is named to the model")
    ] = "shot",
    given: GivenSettings,
    out: Annotated[Path | None, typer.Option(help="folder of answers, to go on in (default runs/eval-...)")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of rendered clips")] = None,
    plots: Annotated[bool, typer.Option("--plots", help="also draw accuracy.png and pareto.png")] = False,
    json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on rendered clips with known answers.

    No training has seen the clips. Ctrl-C keeps what is answered: the same command goes on from there.

    Example: m3video eval footage --methods adaptive,uniform --budgets 144,720
    """
    from m3video.evaluation.methods import DEFAULT_METHODS, make_methods
    from m3video.model.m3.default_model import with_model
    from m3video.model.m3.model_paths import find_model

    refuse_stdout("--out", out)
    refuse_stdout("--cache", cache)
    names = list(DEFAULT_METHODS) if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    make_methods(names, max_frames=max_frames)  # a misspelt name must not cost a minute of rendering
    amounts = parse_budgets(budgets or (RATES if per_second else BUDGETS))
    settings, decided = with_model(given.resolve())
    find_model(settings.model)
    if plots:
        from m3video.evaluation.plots import pyplot

        pyplot()
    from m3video.cli.terminal import make_progress, print_notes
    from m3video.evaluation.footage_set import LENGTHS, RATE_LENGTHS, FootageSpec, describe_groups, make_footage_records
    from m3video.evaluation.records import save_records
    from m3video.evaluation.run import run_evaluation
    from m3video.evaluation.run_settings import RunSettings, method_budgets
    from m3video.model.m3 import checkpoint

    progress = make_progress(quiet=quiet)
    loaded = checkpoint.load(settings.model, device=settings.device, dtype=settings.dtype)
    lengths = RATE_LENGTHS if per_second else LENGTHS
    spec = FootageSpec(seed=seed, clips=clips, questions=questions, lengths=lengths)
    chosen = make_methods(names, max_frames=max_frames, context=loaded.context)
    records = make_footage_records(spec, folder=cache or default_cache(), progress=progress)
    what = "footage-rates" if per_second else "footage"
    folder = out or Path("runs") / f"eval-{what}-{seed}-{clips}x{questions}-{Path(settings.model).name}"
    print_notes([] if quiet else decided.notes)
    if not quiet:
        print(f"m3video: {describe_groups(records)}; answers go to {folder}", file=sys.stderr)
    wanted = RunSettings(
        tuple(chosen),
        tuple(amounts),
        max_frames,
        per_second,
        reference,
        vision_batch=settings.vision_batch,
    )
    answered = run_evaluation(records, loaded, wanted, folder, progress=progress)
    save_records(records, folder / "records.jsonl")
    only = [(method.name, budget) for method, budget in method_budgets(wanted)]
    show(answered, records, only, task="footage", plots=plots, json=json)


def show(
    folder: RunFolder,
    records: Sequence[Record],
    only: Sequence[tuple[str, int]],
    *,
    task: str,
    plots: bool,
    json: bool,
    notes: Sequence[str] = (),
    missing: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """Save the report and print it; exit code 3 where a question failed."""
    from rich.console import Console

    from m3video.cli.terminal import print_json
    from m3video.evaluation.report import make_report, report_json, save_report
    from m3video.evaluation.tables import print_report

    report = make_report(folder, records, task=task, only=only, notes=notes, missing=missing)
    save_report(report, folder.folder)
    if plots:
        from m3video.evaluation.plots import save_plots

        save_plots(report, folder.folder)
    if json:
        print_json(report_json(report))
    else:
        # Tables are data: their lines are not cut to the width of the terminal.
        print_report(report, Console(width=TABLE_WIDTH, markup=False, highlight=False))
    if report.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def compare(
    *,
    first: Annotated[Path, typer.Argument(help="folder of a run", show_default=False)],
    second: Annotated[Path, typer.Argument(help="folder of another, over the same questions", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
) -> None:
    """Compare two runs, question by question.

    Example: m3video eval compare runs/before runs/after
    """
    from rich.console import Console

    from m3video.cli.terminal import print_json
    from m3video.evaluation.compare_runs import compare_runs, comparison_json, print_comparison

    found = compare_runs(first, second)
    if json:
        print_json(comparison_json(found))
    else:
        names = (printable(first.name or first), printable(second.name or second))
        print_comparison(found, Console(width=TABLE_WIDTH, markup=False, highlight=False), names=names)


def parse_budgets(text: str) -> list[int]:
    """Return `"144,720"` as increasing numbers.

    Raises:
        UsageError: the text is no list of positive whole numbers.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise UsageError(f"--budgets ({text}) must be whole numbers from 1 on with commas between them, e.g. {BUDGETS}")
    return found


def default_cache() -> Path:
    """Return the folder of rendered clips."""
    return cache_root() / "footage"
