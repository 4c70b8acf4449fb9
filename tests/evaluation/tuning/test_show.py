"""The picture of a tuning report holds every row, the front, the ring and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from m3video.evaluation.tuning.report import make_tune_report
from m3video.evaluation.tuning.search import FULL
from m3video.evaluation.tuning.show import draw_tune, tune_text
from m3video.report.picture_file import save_picture
from tests.evaluation.tuning.test_report import COMMAND, both, tuned


def test_what_is_drawn(tmp_path: Path) -> None:
    answers = {(FULL, 3456): [1, 1, 1, 1], **both({180: [1, 0, 1, 0], 720: [1, 1, 1, 0]}, [1, 0, 0, 0])}
    report = make_tune_report(tuned(answers, known=False, reference="full tokens: up to 6 candidates"))
    figure = draw_tune(report, COMMAND)
    left, right = figure.axes
    labels = left.get_legend_handles_labels()[1]
    assert set(labels) == {"adaptive", "uniform", FULL, "Pareto front", "recommended: --budget 180"}
    ring = left.collections[-1].get_offsets()[0]
    assert tuple(ring) == (176.0, 50.0)
    assert right.collections[-1].get_offsets()[0][1] == 50.0
    words = " ".join(text.get_text() for text in figure.texts)
    assert COMMAND in words
    assert "4 questions" in figure.get_suptitle()
    save_picture(figure, tmp_path / "tune.png")
    assert (tmp_path / "tune.png").read_bytes().startswith(b"\x89PNG")


def test_peak_memory_is_printed_in_mebibytes() -> None:
    report = make_tune_report(tuned(both({180: [1, 0], 720: [1, 1]}, [1, 0])))
    peaks = {180: 300 * 2**20, 720: None}
    report = replace(report, rows=[replace(row, peak_memory_bytes=peaks[row.setting.budget]) for row in report.rows])
    costs = tune_text(report, COMMAND).partition("peak memory")[2].partition("recommended")[0].splitlines()[2:]
    printed = {(int(line.split()[1]), line.split()[-1]) for line in costs if line.split()}
    assert printed == {(180, "300"), (720, "-")}
