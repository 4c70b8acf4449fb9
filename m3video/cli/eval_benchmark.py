"""`m3video eval BENCHMARK`: a public benchmark from its own files; one command for each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from m3video.cli.eval import app, parse_budgets, show
from m3video.cli.options import GivenSettings, Quiet, with_settings
from m3video.cli.outputs import refuse_stdout
from m3video.errors import UsageError
from m3video.evaluation.benchmarks.names import BENCHMARKS, WITH_SUBTITLES

BUDGETS = "180,720,2880"
METHODS = "adaptive,uniform"
MAX_FRAMES = 64


def _verb(name: str) -> Callable[..., None]:
    """Return the command of one benchmark."""

    @with_settings("model", "device", "dtype", "vision_batch", config=False)
    def verb(
        *,
        data: Annotated[Path, typer.Option(help="folder of the benchmark's files, as published", show_default=False)],
        videos: Annotated[Path | None, typer.Option(help="folder of its videos (default: that of --data)")] = None,
        budgets: Annotated[str, typer.Option(help="visual tokens for a whole video")] = BUDGETS,
        methods: Annotated[str, typer.Option(help="'all' or names with commas between them")] = METHODS,
        max_frames: Annotated[int, typer.Option(help="most frames any method may show", min=1)] = MAX_FRAMES,
        subset: Annotated[int | None, typer.Option(help="ask only that many questions, drawn by --seed", min=1)] = None,
        seed: Annotated[int, typer.Option(help="of --subset")] = 0,
        subtitles: Annotated[
            bool, typer.Option("--subtitles", help=f"give those of the shown frames ({', '.join(WITH_SUBTITLES)})")
        ] = False,
        deadline: Annotated[
            float | None, typer.Option(help="most seconds of a first pass, and of one method's answers about a video")
        ] = None,
        given: GivenSettings,
        out: Annotated[
            Path | None, typer.Option("--out", "-o", help="folder of answers, to go on in (default runs/eval-...)")
        ] = None,
        plots: Annotated[bool, typer.Option("--plots", help="also draw accuracy.png and pareto.png")] = False,
        json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
        quiet: Quiet = False,
    ) -> None:
        _evaluate(
            name,
            given,
            data=data,
            videos=videos,
            asked=(budgets, methods, max_frames, subset, seed),
            subtitles=subtitles,
            deadline=deadline,
            out=out,
            plots=plots,
            json=json,
            quiet=quiet,
        )

    verb.__doc__ = (
        f"Compare methods on {BENCHMARKS[name]}, from its own files.\n\n"
        "Ctrl-C keeps what is answered: the same command goes on from there.\n\n"
        f"Example: m3video eval {name} --data {name}/ --budgets 180,720"
    )
    return verb


def _evaluate(
    name: str,
    given: GivenSettings,
    *,
    data: Path,
    videos: Path | None,
    asked: tuple[str, str, int, int | None, int],
    subtitles: bool,
    deadline: float | None,
    out: Path | None,
    plots: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Read the benchmark, answer it and show the report."""
    budgets, methods, max_frames, subset, seed = asked
    from m3video.cli.terminal import make_progress, print_notes
    from m3video.evaluation.benchmarks.load import load_benchmark
    from m3video.evaluation.benchmarks.load import subset as drawn
    from m3video.evaluation.methods import DEFAULT_METHODS, make_methods
    from m3video.model.m3.default_model import with_model
    from m3video.model.m3.model_paths import find_model

    refuse_stdout("--out", out)
    if deadline is not None and not 0 < deadline < 1e6:
        raise UsageError(f"--deadline ({deadline:g}) must be seconds above 0")
    names = list(DEFAULT_METHODS) if methods == "all" else [n.strip() for n in methods.split(",") if n.strip()]
    make_methods(names, max_frames=max_frames)  # a misspelt name must not cost the loading of a model
    amounts = parse_budgets(budgets)
    benchmark = drawn(load_benchmark(name, data, videos=videos, subtitles=subtitles), subset, seed=seed)
    settings, decided = with_model(given.resolve())
    find_model(settings.model)
    if plots:
        from m3video.evaluation.plots import pyplot

        pyplot()
    from m3video.evaluation.records import save_records
    from m3video.evaluation.run import run_evaluation
    from m3video.evaluation.run_settings import RunSettings, method_budgets
    from m3video.model.m3 import checkpoint

    notes = [*benchmark.missing_notes(), *benchmark.notes]
    folder = out or Path("runs") / f"eval-{name}-{Path(settings.model).name}"
    if not quiet:
        print_notes([*decided.notes, *notes])
        print(f"m3video: {len(benchmark.records)} questions; answers go to {folder}", file=sys.stderr)
    loaded = checkpoint.load(settings.model, device=settings.device, dtype=settings.dtype)
    wanted = RunSettings(
        tuple(make_methods(names, max_frames=max_frames, context=loaded.context)),
        tuple(amounts),
        max_frames,
        reference="asked",
        vision_batch=settings.vision_batch,
        deadline=deadline,
    )
    answered = run_evaluation(
        benchmark.records,
        loaded,
        wanted,
        folder,
        subtitles=benchmark.subtitles,
        progress=make_progress(quiet=quiet),
    )
    save_records(benchmark.records, folder / "records.jsonl")
    show(
        answered,
        benchmark.records,
        [(method.name, budget) for method, budget in method_budgets(wanted)],
        task=name,
        plots=plots,
        json=json,
        notes=notes,
        missing=benchmark.missing,
    )


for _name in BENCHMARKS:
    app.command(name=_name)(_verb(_name))
