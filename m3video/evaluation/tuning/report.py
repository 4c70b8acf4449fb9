"""What tuning found: a row for each way to spend a budget, the front that nothing beats, and one setting to use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from m3video.evaluation.intervals import Interval, accuracy, bootstrap, clip_sums
from m3video.evaluation.tuning.search import FULL, BudgetMethod, TuneAnswer, TuneResult

FEWEST_CLUSTERS = 5
"""Of fewer videos than this, an interval over videos says nothing."""

RULE = "the smallest budget whose paired 95 % interval to the best budget does not exclude 0"

STAGES = ("analyze", "plan", "fetch", "vision tower", "answer", "follow-up")


@dataclass(frozen=True, slots=True)
class TuneRow:
    """One way to spend a budget, over all questions.

    Attributes:
        setting: the way.
        score: share of questions answered right (or as the reference does).
        visual, prompt, frames: means over the answers.
        minus_uniform: adaptive minus uniform at the same budget, or None.
        minus_best: this minus the best adaptive budget, or None.
        seconds: of one `m3video ask` by stage, without loading the model: means over the videos. "answer" is the first
            question about a video, "follow-up" each further one (None where no video has two).
        peak_memory_bytes: while one video is asked, decoding and encoding included; None where it is not known.
        is_on_front: no other row is better without spending more.
    """

    setting: BudgetMethod
    score: Interval
    visual: float
    prompt: float
    frames: float
    minus_uniform: Interval | None
    minus_best: Interval | None
    seconds: dict[str, float | None]
    peak_memory_bytes: int | None
    is_on_front: bool

    @property
    def ask_seconds(self) -> float:
        """Of one question about a new video."""
        return sum(value for stage, value in self.seconds.items() if value is not None and stage != "follow-up")


@dataclass(frozen=True, slots=True)
class TuneReport:
    """Rows by budget, and what they rest on."""

    rows: tuple[TuneRow, ...]
    recommended: TuneRow
    why: str
    videos: int
    judged: str
    intervals: str
    reference: str
    notes: tuple[str, ...]


def make_tune_report(tuned: TuneResult, notes: Sequence[str] = ()) -> TuneReport:
    """Summarize all answers; `notes` are what a reader must know besides."""
    by_way: dict[BudgetMethod, list[TuneAnswer]] = {}
    for outcome in tuned.outcomes:
        by_way.setdefault(outcome.setting, []).append(outcome)
    some = next(iter(by_way.values()))
    videos = {outcome.record.clip for outcome in some}
    over_videos = len(videos) >= FEWEST_CLUSTERS
    score = {way: _score(answers, over_videos) for way, answers in by_way.items()}
    adaptive = [way for way in by_way if way.method == "adaptive"]
    best = min(adaptive, key=lambda way: (-score[way].value, way.budget))
    spends = {
        way: (_mean(answers, "visual"), score[way].value) for way, answers in by_way.items() if way.method != FULL
    }
    rows = [
        TuneRow(
            way,
            score[way],
            _mean(answers, "visual"),
            _mean(answers, "prompt"),
            _mean(answers, "frames"),
            _minus_uniform(way, by_way, over_videos),
            _paired(answers, by_way[best], over_videos) if way.method == "adaptive" else None,
            _seconds(way, answers, tuned),
            _peak(way, tuned),
            way in spends and not any(_beats(other, spends[way]) for other in spends.values()),
        )
        for way, answers in sorted(by_way.items(), key=lambda pair: (pair[0].budget, pair[0].method))
    ]
    chosen = next(row for row in rows if row.minus_best is not None and not row.minus_best.high < 0)
    known = sum(bool(outcome.record.answer) for outcome in some)
    return TuneReport(
        tuple(rows),
        chosen,
        _why(chosen, best),
        len(videos),
        _judged(known, len(some)),
        _intervals(len(some), len(videos)),
        tuned.reference,
        (*notes, *_notes(tuned, rows, chosen)),
    )


def _clusters(answers: Sequence[TuneAnswer], over_videos: bool) -> list[str]:
    return [outcome.record.clip if over_videos else outcome.record.id for outcome in answers]


def _score(answers: Sequence[TuneAnswer], over_videos: bool) -> Interval:
    return accuracy([outcome.right for outcome in answers], _clusters(answers, over_videos))


def _paired(ours: Sequence[TuneAnswer], others: Sequence[TuneAnswer], over_videos: bool) -> Interval:
    """Return ours minus others over the same questions."""
    assert [one.record.id for one in ours] == [one.record.id for one in others]
    gain = [one.right - other.right for one, other in zip(ours, others, strict=True)]
    sums, counts = clip_sums(gain, _clusters(ours, over_videos))
    return bootstrap({"gain": sums, "count": counts}, lambda total: total["gain"] / total["count"])


def _minus_uniform(
    way: BudgetMethod, by_way: dict[BudgetMethod, list[TuneAnswer]], over_videos: bool
) -> Interval | None:
    if way.method != "adaptive":
        return None
    return _paired(by_way[way], by_way[BudgetMethod("uniform", way.budget)], over_videos)


def _mean(answers: Sequence[TuneAnswer], name: str) -> float:
    return float(np.mean([getattr(outcome, name) for outcome in answers]))


def _beats(other: tuple[float, float], own: tuple[float, float]) -> bool:
    """Return whether (tokens, score) `other` is better in one and no worse in the other."""
    return other[0] <= own[0] and other[1] >= own[1] and other != own


def _seconds(way: BudgetMethod, answers: Sequence[TuneAnswer], tuned: TuneResult) -> dict[str, float | None]:
    """Return mean seconds by stage; fetch and vision tower are measured for all frames, a plan pays its share."""
    frames = {outcome.record.clip: outcome.frames for outcome in answers}
    later = [outcome.seconds for outcome in answers if not outcome.is_first]
    costs = tuned.costs
    return {
        "analyze": float(np.mean([cost.analyze for cost in costs])),
        "plan": float(np.mean([cost.plan[way] for cost in costs])),
        "fetch": float(np.mean([cost.fetch / cost.num_frames * frames[cost.video] for cost in costs])),
        "vision tower": float(np.mean([cost.vision / cost.num_frames * frames[cost.video] for cost in costs])),
        "answer": float(np.mean([outcome.seconds for outcome in answers if outcome.is_first])),
        "follow-up": float(np.mean(later)) if later else None,
    }


def _peak(way: BudgetMethod, tuned: TuneResult) -> int | None:
    if any(cost.peak_memory_bytes is None for cost in tuned.costs):
        return None
    return max(max(cost.vision_peak_bytes, (cost.peak_memory_bytes or {})[way]) for cost in tuned.costs)


def _why(chosen: TuneRow, best: BudgetMethod) -> str:
    if chosen.setting == best:
        return "it is the best of those tried, and no smaller one is as good within its interval"
    assert chosen.minus_best is not None
    return f"{points(chosen.minus_best)} points to the best, --budget {best.budget}, and the interval holds 0"


def _judged(known: int, total: int) -> str:
    if known == total:
        return "right by the answers given"
    if known == 0:
        return "the same answer as with full tokens"
    return f"{known} of {total} right by the answers given, {total - known} the same answer as with full tokens"


def _intervals(questions: int, videos: int) -> str:
    if videos >= FEWEST_CLUSTERS:
        return f"95 % intervals over {videos} videos"
    which = "this video" if videos == 1 else f"these {videos} videos"
    return f"95 % intervals over {questions} questions: they hold for {which}, not for others"


def _notes(tuned: TuneResult, rows: Sequence[TuneRow], chosen: TuneRow) -> tuple[str, ...]:
    notes = [f"left out: {line}" for line in tuned.failed]
    if tuned.reference:
        notes.append(
            f"{tuned.reference}; an answer agrees when it is the same words, so ask for short answers or give options"
        )
    smallest = min(row.setting.budget for row in rows if row.setting.method == "adaptive")
    if chosen.setting.budget == smallest:
        notes.append(f"{smallest} is the smallest budget tried: a smaller one may do as well")
    behind = [row for row in rows if row.minus_uniform is not None and row.minus_uniform.high < 0]
    if behind:
        budgets = ", ".join(str(row.setting.budget) for row in behind)
        notes.append(f"at a budget of {budgets} even frames answer more than the plan, beyond the interval")
    return tuple(notes)


def points(value: Interval) -> str:
    """Return `+2.1 [-1.0, +5.2]`, in percentage points."""
    if math.isnan(value.low):
        return f"{100 * value.value:+.1f}"
    return f"{100 * value.value:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def tune_json(report: TuneReport, *, command: str) -> dict[str, Any]:
    """Return everything as JSON values; numbers that do not exist are null."""
    return {
        "schema": "m3video.tune/1",
        "videos": report.videos,
        "judged": report.judged,
        "intervals": report.intervals,
        "reference": report.reference or None,
        "rule": RULE,
        "recommended": {"budget": report.recommended.setting.budget, "why": report.why, "command": command},
        "rows": [_row_json(row) for row in report.rows],
        "notes": list(report.notes),
    }


def _row_json(row: TuneRow) -> dict[str, Any]:
    return {
        **asdict(row.setting),
        "score": _estimate_json(row.score),
        "visual_tokens": row.visual,
        "prompt_tokens": row.prompt,
        "frames": row.frames,
        "minus_uniform": _estimate_json(row.minus_uniform),
        "minus_best": _estimate_json(row.minus_best),
        "stage_seconds": row.seconds,
        "ask_seconds": row.ask_seconds,
        "peak_memory_bytes": row.peak_memory_bytes,
        "is_on_front": row.is_on_front,
        "answers": row.score.answers,
    }


def _estimate_json(value: Interval | None) -> dict[str, float | None] | None:
    if value is None:
        return None
    return {name: None if math.isnan(part := getattr(value, name)) else part for name in ("value", "low", "high")}
