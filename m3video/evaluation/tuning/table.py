"""A tuning report as text for a terminal."""

from __future__ import annotations

import math
import textwrap

from m3video.evaluation.intervals import Estimate
from m3video.evaluation.tuning.report import RULE, STAGES, TuneReport, TuneRow, points

_WORDS = 79


def tune_text(report: TuneReport, command: str) -> str:
    """Scores, then costs, then the recommended command; no row is wrapped, and none is wider than 79 columns."""
    videos = f"{report.videos} video{'' if report.videos == 1 else 's'}"
    lines = [f"{report.rows[0].score.answers} questions about {videos}: {report.judged}", report.intervals, ""]
    lines.append(f"{'':1}{'method':<12}{'budget':>7}{'spent':>7}{'frames':>8}{'score, %':>16}{'minus uniform':>21}")
    lines += [_score_line(row) for row in report.rows]
    lines += ["* nothing is better without spending more", ""]
    lines.append("seconds of a question about a new video, by stage; of a next one; peak memory")
    lines.append(
        f"{'':1}{'method':<12}{'budget':>7}{'analyze':>8}{'plan':>7}{'fetch':>7}{'vision':>8}{'answer':>8}"
        f"{'next':>7}{'MiB':>8}"
    )
    lines += [_cost_line(row) for row in report.rows]
    lines.append("")
    lines += textwrap.wrap(
        f"recommended: --budget {report.recommended.setting.budget}, {RULE}: {report.why}",
        _WORDS,
        break_on_hyphens=False,
    )
    return "\n".join([*lines, "", command])


def _score_line(row: TuneRow) -> str:
    front = "*" if row.is_on_front else ""
    gain = "" if row.minus_uniform is None else points(row.minus_uniform)
    return (
        f"{front:1}{row.setting.method:<12}{row.setting.budget:>7}{row.visual:>7.0f}{row.frames:>8.1f}"
        f"{_percent(row.score):>16}{gain:>21}"
    ).rstrip()


def _percent(value: Estimate) -> str:
    text = f"{100 * value.value:.0f}"
    return text if math.isnan(value.low) else f"{text} [{100 * value.low:.0f}, {100 * value.high:.0f}]"


def _cost_line(row: TuneRow) -> str:
    widths = dict(zip(STAGES, (8, 7, 7, 8, 8, 7), strict=True))
    cells = "".join(f"{_seconds(row.seconds[stage]):>{width}}" for stage, width in widths.items())
    peak = "-" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:.0f}"
    return f"{'':1}{row.setting.method:<12}{row.setting.budget:>7}{cells}{peak:>8}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"
