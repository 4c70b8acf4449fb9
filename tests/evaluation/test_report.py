"""What a reader sees: JSON in lmms-eval's shape, tables, pictures; and what is said when there is no matplotlib."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from m3video.errors import UsageError
from m3video.evaluation import plots
from m3video.evaluation.intervals import Interval
from m3video.evaluation.report import EvalReport, make_report, report_json, save_report
from m3video.evaluation.samples import RunFolder, SampleRow
from m3video.evaluation.tables import percent, print_report
from m3video.types import SCALES
from tests.evaluation.made import record, row

RECORDS = [
    record(n, clip=f"c{n // 4}", answer=answer, group=group, family=f"f{n % 2}", localised=n % 4 > 0)
    for n, (answer, group) in enumerate(
        [("red", "coarse"), ("blue", "medium"), ("red", "fine"), ("green", "coarse")] * 3
    )
]


def answers() -> list[SampleRow]:
    rows = []
    for number, about in enumerate(RECORDS):
        rows += [row(about, "adaptive", b, right=number % 4 < 3, visual=b - 3) for b in (144, 720)]
        rows += [row(about, "uniform@8", b, right=number % 4 < 2, shown_as="uniform", visual=b) for b in (144, 720)]
        for scale in SCALES:
            rows.append(row(about, f"granularity-{scale}", 0, right=scale > 9, shown_as="granularity", visual=scale))
            rows.append(row(about, f"oracle-{scale}", 720, right=scale > 9, shown_as="oracle", visual=scale))
        rows.append(row(about, "full", 0, right=number % 4 < 1, visual=8 * 141))
        rows.append({**row(about, "resample", 144, right=False), "skipped": "the budget holds no frame"})
    return rows


@pytest.fixture
def report(tmp_path: Path) -> EvalReport:
    folder = RunFolder(tmp_path, {"model": "rendered", "per_second": False})
    folder.add_samples(answers())
    folder.add_clip(
        {
            "clip": "c0",
            "video_seconds": 30.0,
            "frames_encoded": 20,
            "peak_memory_bytes": 3 * 2**20,
            "stage_seconds": {"analyze": 1.0, "fetch": 2.0, "vision tower": 4.0, "answer": 8.0},
        }
    )
    return make_report(folder, RECORDS, task="footage", only=[(r["method"], r["budget"]) for r in answers()])


def test_json_has_lmms_evals_shape_and_ours_beside_it(report: EvalReport, tmp_path: Path) -> None:
    value = json.loads(save_report(report, tmp_path).read_text())
    assert value == json.loads(json.dumps(report_json(report)))
    names = {
        f"footage_{m}_{b}"
        for m, b in (
            ("adaptive", 144),
            ("adaptive", 720),
            ("uniform", 144),
            ("uniform", 720),
            ("oracle", 720),
            ("full", 0),
        )
    }
    for part in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        assert value[part].keys() == names, part
    assert value["results"]["footage_adaptive_720"]["acc,none"] == 0.75
    assert value["results"]["footage_adaptive_720"]["acc_stderr_clustered,none"] == 0, "three of four in every clip"
    assert value["config"]["model_args"]["model"] == "rendered"
    ours = value["m3video"]
    adaptive = next(c for c in ours["cells"] if c["method"] == "adaptive" and c["budget"] == 720)
    assert adaptive["visual_tokens"] == adaptive["most_visual_tokens"] == 717
    assert adaptive["splits"]["fine"]["value"] == 1.0
    assert adaptive["splits"]["coarse"]["value"] == 0.5
    assert adaptive["splits"]["global"]["answers"] == 3
    assert {name for name in adaptive["splits"] if name.startswith("family:")} == {"family:f0", "family:f1"}
    assert [c["budget"] for c in ours["comparisons"]] == [144, 720]
    assert ours["comparisons"][1]["minus_uniform"]["value"] == 0.25
    assert ours["comparisons"][1]["gap_closed"]["value"] == 0.5
    assert "gap_closed" not in ours["comparisons"][0], "no oracle ran at 144"
    # The first of every four questions is global: both have it right. Of the three others 2 and 1.
    assert ours["comparisons"][0]["minus_uniform_global"]["value"] == 0
    assert ours["comparisons"][0]["minus_uniform_localised"]["value"] == pytest.approx(1 / 3)
    assert ours["comparisons"][0]["minus_full"]["value"] == 0.5, "141 tokens are an eighth of 1128"
    assert "minus_full" not in ours["comparisons"][1], "717 tokens are more"
    assert ours["unit"] == "tokens"
    assert ours["granularity"][0]["enough_scale"] == 36
    assert ours["granularity"][0]["oracle_tokens"] == 36
    assert ours["costs"]["vision_tower_seconds_per_frame"] == 0.2
    assert ours["costs"]["analyze_seconds_per_video_minute"] == 2.0
    assert any("resample cannot show a frame within a budget of 144" in note for note in ours["notes"])
    assert any("in their favour" in note for note in ours["notes"])


def test_tables_say_what_json_says(report: EvalReport) -> None:
    text = io.StringIO()
    print_report(report, Console(file=text, width=200))
    said = text.getvalue()
    assert "budget 720 tokens: per cent right with 95 % intervals, 12 questions about 3 clips" in said
    line = next(line for line in said.splitlines() if line.startswith("adaptive") and " 717 " in line)
    assert "75 [" in line
    assert "uniform@8" in said
    assert "+25.0" in said
    assert "minus full 25 [1, 92]" in said
    assert "note: resample cannot show" in said
    assert "vision tower 200 ms per frame, peak memory 3 MiB" in said


def test_only_what_was_asked_for_is_reported(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {"per_second": True})
    folder.add_samples(answers())
    small = make_report(folder, RECORDS, task="footage", only=[("adaptive", 144)])
    assert [(c.method, c.budget) for c in small.cells] == [("adaptive", 144)]
    assert small.granularity == ()
    text = io.StringIO()
    empty = make_report(folder, RECORDS, task="footage", only=[])
    print_report(empty, Console(file=text))
    assert report_json(empty)["results"] == {}


def test_per_cents() -> None:
    assert percent(Interval(0.874, 0.8049, 0.9251)) == "87 [80, 93]"
    assert percent(Interval(0.5, 0.4, 0.6), interval=False) == "50"
    assert percent(Interval(float("nan"), 0, 1)) == "-"


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, report: EvalReport) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'm3video\[plots\]'"):
        plots.save_plots(report, Path())


def test_pictures_show_every_method(report: EvalReport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plots extra is not installed")
    paths = plots.save_plots(report, tmp_path)
    assert [p.name for p in paths] == ["accuracy.png", "pareto.png"]
    assert all(p.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and p.stat().st_size > 20_000 for p in paths)
    figure = plots.draw_accuracy(report)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"adaptive", "uniform", "oracle", "full"}
    plots.pyplot().close(figure)


def test_the_front_holds_what_nothing_beats(report: EvalReport) -> None:
    # The oracle, right on everything for 36 tokens, does not compete; uniform costs more and is right less often.
    assert [(c.method, c.budget) for c in plots.pareto(report.cells)] == [("adaptive", 144)]
