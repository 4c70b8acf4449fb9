"""What `--memory` and `--measure` add to a verb: settings that fit, and lines that say why."""

from __future__ import annotations

from collections.abc import Sequence

from m3video.config import Settings
from m3video.errors import UsageError
from m3video.inference.memory.fit import FittedSettings, budget_text, fit_settings, memory_text, reductions
from m3video.inference.memory.measured import default_file, save_peak
from m3video.utils.progress import Progress
from m3video.utils.units import size_text


def fit_or_keep(settings: Settings, *, measure: bool = False) -> tuple[Settings, FittedSettings | None]:
    """The settings with what fits in their memory; as they are where they name none.

    Raises:
        DoesNotFitError: nothing fits.
        UsageError: there is nothing to measure.
    """
    fitted = fit_settings(settings)
    if fitted is None:
        if measure:
            raise UsageError("--measure runs what fits in a memory: give --memory as well, e.g. --memory auto")
        return settings, None
    return fitted.settings, fitted


def memory_rows(fitted: FittedSettings | None, *, measure: bool = False, progress: Progress) -> list[tuple[str, str]]:
    """Lines of the plan's table: what fits, where the memory goes, and the measured peak if it is wanted."""
    if fitted is None:
        return []
    rows = [("fits", budget_text(fitted)), ("memory", memory_text(fitted))]
    if not measure:
        return rows
    from m3video.inference.memory.trial import measure as run_once

    with progress("measure", None):
        found = run_once(fitted)
    file, kept = default_file(), "kept for the next plan"
    try:
        save_peak(file, fitted.size, fitted.device, found)
    except OSError as error:
        kept = f"not {kept}: {file}: {error.strerror}"
    off = found.peak / found.predicted - 1
    text = (
        f"peak {size_text(found.peak)}, predicted {size_text(found.predicted)} ({off:+.1%}), {size_text(found.before)} "
        f"of it without the model; {kept}"
    )
    return [*rows, ("measured", text)]


def memory_notes(fitted: FittedSettings | None) -> Sequence[str]:
    """What is smaller than was wished, and what was assumed."""
    return () if fitted is None else (*reductions(fitted), *fitted.size.notes)
