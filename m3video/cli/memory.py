"""Settings that fit in `--memory`, and the rows and notes that verbs print about them."""

from __future__ import annotations

from collections.abc import Sequence

from m3video.config import Settings
from m3video.errors import UsageError
from m3video.inference.memory.fit import FittedSettings, budget_text, fit_settings, memory_text, reductions
from m3video.inference.memory.measured import default_file, save_peak
from m3video.utils.progress import Progress
from m3video.utils.units import size_text


def fit_or_keep(settings: Settings, *, measure: bool = False) -> tuple[Settings, FittedSettings | None]:
    """Return the settings that fit in their `memory`, or the settings themselves when they name none.

    Raises:
        DoesNotFitError: nothing fits.
        UsageError: `measure` is asked for without a memory.
    """
    fitted = fit_settings(settings)
    if fitted is None:
        if measure:
            raise UsageError("--measure runs what fits in a memory: give --memory as well, e.g. --memory auto")
        return settings, None
    return fitted.settings, fitted


def budget_flag(fitted: FittedSettings | None) -> str | None:
    """Return what raises a budget that was found for a memory, e.g. "--memory (16.0 GiB)"; None for `--budget`."""
    if fitted is None or fitted.fit.binds == "request":
        return None
    return "the model's context" if fitted.fit.binds == "context" else f"--memory ({size_text(fitted.device.memory)})"


def memory_rows(fitted: FittedSettings | None, *, measure: bool = False, progress: Progress) -> list[tuple[str, str]]:
    """Return rows for the table of a plan: what fits, what uses the memory, and the measured peak if asked for."""
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
    """Return notes on settings that were reduced to fit, and on what was assumed."""
    return () if fitted is None else (*reductions(fitted), *fitted.size.notes)
