"""From a memory size to settings, their description, and corrections by measured peaks."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.errors import DoesNotFitError, M3VideoError
from m3video.inference.memory import fit as fitting
from m3video.inference.memory import measured
from m3video.inference.memory.fit import budget_text, fit_settings, memory_text, reductions
from m3video.inference.memory.measured import Measured, save_peak, stored_correction
from m3video.inference.memory.model import LIBRARIES_BYTES
from m3video.inference.memory.trial import measure
from m3video.inference.session import VideoSession
from m3video.model.m3.checkpoint import LoadedModel
from m3video.utils.units import MIB
from scripts.random_model import write_config
from tests.paths import SAMPLE


def fit(**values: object) -> fitting.Fitted:
    found = fit_settings(Settings(**{"model": "rendered", "device": "cpu", **values}))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_without_a_memory_nothing_changes() -> None:
    assert fit_settings(Settings()) is None


def test_the_largest_budget_that_fits_is_taken_and_explained() -> None:
    found = fit(memory="1GiB")
    assert found.settings.budget == found.fit.shape.visual > 720
    assert found.fit.binds == "memory"
    assert "in 1.0 GiB: what the memory allows" in budget_text(found)
    assert "weights 16 MiB (float32)" in memory_text(found)
    assert fit_settings(found.settings).settings == found.settings, "settings that fit, fit"  # type: ignore[union-attr]


def test_a_budget_is_a_ceiling() -> None:
    assert fit(memory="2GiB", budget=300).settings.budget == 300
    assert ": --budget; the memory would allow" in budget_text(fit(memory="2GiB", budget=300))
    assert fit(memory="1GiB", budget=9000).settings.budget == fit(memory="1GiB").settings.budget


def test_a_small_budget_leaves_as_many_candidates() -> None:
    found = fit(memory="2GiB", budget=6)
    assert (found.settings.budget, found.settings.max_frames) == (6, Settings().surely_frames)
    assert fit(memory="2GiB", detail="low", max_frames=1, at="0:01=576").settings.budget == 576


def test_the_context_binds() -> None:
    found = fit(memory="4GiB", max_frames=64)
    assert found.fit.binds == "context"
    assert "the model's context of 8192 leaves" in budget_text(found)
    assert found.fit.shape.positions == 8192


def test_detail_bounds_the_useful_budget() -> None:
    found = fit(memory="4GiB", detail="low")
    assert found.settings.budget == 16 * 36
    assert "all that so many frames can use" in budget_text(found)


def test_reductions_are_noted() -> None:
    found = fit(memory="985MiB")
    assert found.settings.vision_batch < 8
    assert any(
        line.startswith(f"vision batch {found.settings.vision_batch} instead of 8") for line in reductions(found)
    )


def test_the_refusal_has_numbers_and_a_remedy() -> None:
    with pytest.raises(DoesNotFitError) as error:
        fit(memory="600MiB")
    assert error.value.exit_code == 4
    assert all(word in str(error.value) for word in ("weights 16 MiB", "600 MiB there are", "it takes 9", "smaller"))
    with pytest.raises(DoesNotFitError, match="use a smaller --max-new-tokens"):
        fit(memory="4GiB", max_new_tokens=9000)


def test_a_large_model_should_be_quantized(tmp_path: Path) -> None:
    model = str(write_config("llava-1.5-7b", tmp_path))
    with pytest.raises(DoesNotFitError, match="use --quantize int4"):
        fit_settings(Settings(memory="8GiB", device="cuda", model=model))
    found = fit_settings(Settings(memory="8GiB", device="cuda", model=model, quantize="int4"))
    assert found is not None
    assert 2500 < found.settings.budget < 4500
    with pytest.raises(DoesNotFitError, match="use --dtype bfloat16"):
        fit(memory="20GiB", model=model)


def test_a_measured_peak_corrects_the_next_plan(tmp_path: Path) -> None:
    file, found = measured.default_file(), fit(memory="1GiB")
    peak = Measured(16, 720, 300, 8, predicted=500 * MIB, peak=510 * MIB, before=400 * MIB)
    try:
        save_peak(file, found.size, found.device, peak)
        again = fit(memory="1GiB")
        assert again.device.correction == 10 * MIB
        assert again.settings.budget < found.settings.budget
        assert "corrected by a measured peak" in memory_text(again)
        assert fit(memory="1GiB", dtype="bfloat16").device.correction == 0, "another format is another model"
        save_peak(file, found.size, found.device, replace(peak, peak=100 * MIB))
        assert stored_correction(found.size, found.device) == -found.device.margin // 2, (
            "never more than half the margin"
        )
        file.write_text("{")
        assert fit(memory="1GiB").settings == found.settings, "a damaged file holds nothing"
    finally:
        file.unlink(missing_ok=True)


def test_predicted_and_measured_differ_by_less_than_a_tenth(tmp_path: Path) -> None:
    """What the model adds to a process, not the process; `scripts/bench_memory.py` has more shapes."""
    found = fit(memory="2GiB", budget=2880)
    took = measure(found)
    assert took.peak - took.before == pytest.approx(took.predicted - LIBRARIES_BYTES, rel=0.1)
    save_peak(tmp_path / "memory.json", found.size, found.device, took)
    assert stored_correction(found.size, found.device, file=tmp_path / "memory.json") == took.peak - took.predicted


@pytest.mark.parametrize(
    ("code", "stderr", "error", "message"),
    [
        (4, "note\na prompt needs more", DoesNotFitError, "^a prompt needs more$"),
        (1, "no such model", M3VideoError, "^no such model$"),
        (-9, "", DoesNotFitError, "stopped by signal 9"),
    ],
)
def test_a_trial_that_does_not_end_well_says_why(
    code: int, stderr: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], code, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(error, match=message):
        measure(fit(memory="2GiB"))


def test_evidence_is_dropped_where_only_the_answer_fits(loaded: LoadedModel) -> None:
    """The budget is what it would be without evidence; a smaller one leaves room for the test."""
    question = "What colour is the background at 0:03?"
    with VideoSession(SAMPLE, Settings(cache=False, memory="1GiB", device="cpu"), loaded=loaded) as session:
        assert session.settings.budget == fit(memory="1GiB").settings.budget
        full, less = session.ask(question), session.ask(question, budget=90)
    assert full.text == less.text
    assert full.evidence is None
    assert [note for note in full.warnings if note.startswith("no evidence: a second KV cache would take 5")]
    assert less.evidence is not None
    assert not [note for note in less.warnings if "no evidence" in note]
