"""`m3video eval confidence`: how much the confidence of answers says, and the curve that it comes from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3video.cli.options import GivenSettings, Quiet, with_settings
from m3video.cli.outputs import refuse_stdout
from m3video.errors import UsageError

if TYPE_CHECKING:
    from m3video.evaluation.confidence.asking import Judged
    from m3video.evaluation.records import Record
    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.utils.progress import Progress

BUDGETS = "144,720"
QUESTIONS = 20
"""About each rendered clip."""


@with_settings("model", "device", "dtype", "vision_batch", "max_frames", config=False)
def confidence(
    *,
    questions: Annotated[
        Path | None, typer.Option(help="your own, as for tune, instead of rendered clips; each with video and answer")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the rendered clips and their questions")] = 1,
    clips: Annotated[int, typer.Option(help="how many rendered clips", min=1)] = 16,
    budgets: Annotated[str, typer.Option(help="visual tokens for a whole video")] = BUDGETS,
    fit: Annotated[
        bool, typer.Option("--fit", help="fit the model's curve to these answers and save it, to measure on others")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="also draw the reliability diagram, as PNG")] = None,
    given: GivenSettings,
    cache: Annotated[Path | None, typer.Option(help="folder of rendered clips")] = None,
    json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure how much the confidence of a model's answers says.

    The answers are to questions with known answers. --fit makes the curve that confidence comes from, and saves it
    beside the model; measure it with other questions than it was fitted to.

    Example: m3video eval confidence --model rendered --seed 2 --plot reliability.png
    """
    from m3video.cli.eval import parse_budgets
    from m3video.cli.terminal import make_progress, print_json, print_notes
    from m3video.evaluation.confidence.asking import ask_all
    from m3video.evaluation.confidence.measures import report
    from m3video.evaluation.confidence.show import report_json, report_text, save_plot
    from m3video.inference.confidence import file_to_write, find_curve
    from m3video.model.m3 import checkpoint
    from m3video.model.m3.default_model import with_model
    from m3video.model.m3.model_paths import find_model

    refuse_stdout("--plot", plot)
    amounts = parse_budgets(budgets)
    settings, decided = with_model(given.resolve())
    find_model(settings.model)
    if fit and plot is not None:
        raise UsageError("--plot shows a curve on other questions than it was fitted to: leave it out with --fit")
    if fit:
        file_to_write(settings.model)
    curve = find_curve(settings.model)
    if curve is None and not fit:
        raise UsageError(f"{settings.model} has no confidence yet: fit it first, with --fit and other questions")
    if plot is not None:
        from m3video.evaluation.plots import pyplot

        pyplot()
    progress = make_progress(quiet=quiet)
    print_notes([] if quiet else decided.notes)
    records = _records(questions, seed, clips, cache, progress)
    loaded = checkpoint.load_for(settings)
    rows = ask_all(records, loaded, settings, amounts, progress=progress)
    if fit:
        _fit(rows, loaded, {"seed": None if questions else seed, "budgets": amounts}, json=json, quiet=quiet)
        return
    assert curve is not None
    found = report(rows, curve)
    if plot is not None:
        save_plot(found, loaded.name, plot)
    if json:
        print_json(report_json(found, curve))
    else:
        print(report_text(found))


def _records(questions: Path | None, seed: int, clips: int, cache: Path | None, progress: Progress) -> list[Record]:
    """Return questions with known answers: the user's, or those about rendered clips."""
    from m3video.cli.eval import default_cache
    from m3video.evaluation.footage_set import FootageSpec, make_footage_records
    from m3video.evaluation.tuning.questions import read_user_questions

    if questions is None:
        spec = FootageSpec(seed=seed, clips=clips, questions=QUESTIONS)
        return make_footage_records(spec, folder=cache or default_cache(), progress=progress)
    found = []
    for one in read_user_questions(questions):
        record = None if one.video is None else one.about(one.video)
        if record is None or not record.answer:
            raise UsageError(f"{questions}: question ({one.record.question}) needs a video and the true answer")
        found.append(record)
    return found


def _fit(rows: list[Judged], loaded: LoadedModel, source: dict[str, Any], *, json: bool, quiet: bool) -> None:
    """Fit the model's curve by the measure that tells right answers from wrong ones best, and save it."""
    from dataclasses import asdict

    from m3video.cli.terminal import print_json
    from m3video.evaluation.confidence.measures import compare, fit
    from m3video.evaluation.confidence.show import compare_text
    from m3video.evaluation.run import weights_hash
    from m3video.inference.confidence import file_to_write

    compared = compare(rows)
    made = {
        "model": loaded.name,
        "weights": weights_hash(loaded),
        **source,
        "answers": len(rows),
        "clips": len({row.clip for row in rows}),
    }
    curve, path = fit(rows, next(iter(compared)), made), file_to_write(loaded.name)
    curve.save(path)
    if json:
        print_json({"auc": {name: value.value for name, value in compared.items()}, "curve": asdict(curve)})
    else:
        print(compare_text(compared))
    if not quiet:
        print(f"m3video: fitted to {len(rows)} answers by the {curve.measure}: {path}", file=sys.stderr)
