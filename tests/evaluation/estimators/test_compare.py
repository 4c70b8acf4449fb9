"""The comparison as its script runs it, on a few short clips; and with a truth that is known, what it must find."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m3video.evaluation.estimators import compare as rules
from m3video.evaluation.estimators.compare import Comparison, LabelledCase, calibrate, compare
from m3video.evaluation.estimators.labelled_clips import LabelledClip
from m3video.planning.novelty import novelty
from m3video.planning.utility import CALIBRATIONS, ESTIMATORS
from m3video.types import SCALES
from tests.evaluation.made import record, view
from tests.paths import ROOT

SCRIPT = ROOT / "scripts" / "eval_estimators.py"


def case(seed: int) -> LabelledCase:
    """A clip whose shots need the more, the more "told" says; "noise" says nothing."""
    from m3video.evaluation.estimators.oracle import AskedFrame

    rng = np.random.default_rng(seed)
    clip_view = view(seed, 60, max_frames=12)
    pts = clip_view.candidates.pts_N
    shot_of = np.arange(len(pts)) // 2
    shots = int(shot_of.max()) + 1
    seconds = np.array(clip_view.seconds(pts))
    edges = np.r_[seconds[::2], seconds[-1] + 1]
    need = rng.integers(0, 5, shots)
    worth = np.where(np.arange(5) >= need[:, None], 1.0, 0.2)
    told = np.where(np.arange(5) < need[shot_of][:, None], 1.0, 0.0).astype(np.float32)
    asked = tuple(AskedFrame((record(k, clip=f"{seed}"),), (("red",) * 5,)) for k in range(shots))
    noise = np.sort(rng.random((len(pts), 5)).astype(np.float32), axis=1)[:, ::-1]
    needy = LabelledClip(
        f"{seed}",
        clip_view,
        np.stack([edges[:-1], edges[1:]], axis=1),
        asked,
        np.arange(0, len(pts), 2)[:shots],
        {"told": told, "noise": noise},
    )
    return LabelledCase(needy, shot_of, worth, worth, novelty(clip_view.stats, clip_view.candidates))


@pytest.fixture(scope="module")
def found() -> Comparison:
    cases = [case(seed) for seed in range(12)]
    fitted = calibrate(cases[:6], made={})
    return compare(cases[:6], cases[6:], fitted, budgets=(40, 200))


def test_an_estimator_that_tells_the_truth_closes_more_than_one_that_knows_nothing(found: Comparison) -> None:
    rows = {row.name: row for row in found.rows}
    assert rows["told"].correlation.value > 0.95
    assert abs(rows["noise"].correlation.value) < 0.5
    assert rows["told"].closed.value > rows["noise"].closed.value
    assert math.isnan(rows[rules.CONSTANT].correlation.value)
    assert rows[rules.CONSTANT].lead[:3] == (0, 0, 0)
    for row in found.rows:
        assert row.lead.value == pytest.approx(row.closed.value - rows[rules.CONSTANT].closed.value)


def test_nothing_closes_more_than_the_whole_gap_and_the_oracle_is_above_even_plans(found: Comparison) -> None:
    assert all(best >= even for best, even in zip(found.oracle, found.even, strict=True))
    for row in found.rows:
        assert row.closed.value <= 1 + 1e-9
        assert len(row.by_budget) == len(found.budgets)
        assert row.closed.low <= row.closed.value <= row.closed.high
    assert {f"{name}, as shipped" for name in ESTIMATORS} <= {row.name for row in found.rows}


def test_the_needs_of_all_shots_are_counted(found: Comparison) -> None:
    assert sum(found.token_needs.values()) == found.leaks["shots"]
    assert set(found.token_needs) == set(SCALES)


def test_shots_are_named_by_time_and_cross_fades_are_none() -> None:
    needy = replace(case(3).clip, spans_K2=np.array([[0.0, 1.0], [1.4, 3.0]]))
    pts = np.array([0, 999, 1000, 1399, 1400, 2999, 3000])  # milliseconds
    assert needy.shots_of(pts).tolist() == [0, 0, -1, -1, 1, 1, -1]
    assert needy.shots_of(np.zeros(0, np.int64)).tolist() == []


def test_the_script_runs_from_clips_to_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("eval_estimators", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    shipped = CALIBRATIONS["rendered"].read_bytes()
    monkeypatch.setattr(script, "LENGTHS", ((4, 6, 5),))
    monkeypatch.setitem(script.CALIBRATIONS, "rendered", tmp_path / "calibration.json")
    script.main(
        [
            "--clips",
            "2",
            "--calibration-clips",
            "6",
            "--max-frames",
            "4",
            "--cache",
            str(tmp_path / "clips"),
            "--json",
            str(tmp_path / "table.json"),
            "--write",
        ]
    )
    printed = capsys.readouterr().out
    table = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    names = [row["name"] for row in table["rows"]]
    assert names.count("features") == names.count("bits") == names.count(rules.FITTED) == 1
    for name in names:
        assert f"| {name} |" in printed
    assert table["test_seed"] == 2001
    written = json.loads((tmp_path / "calibration.json").read_text(encoding="utf-8"))
    assert written["made"]["weights"] == table["weights"]
    monkeypatch.undo()
    assert CALIBRATIONS["rendered"].read_bytes() == shipped
